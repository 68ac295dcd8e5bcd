//! What is not taken: a status, a sentence, and nothing kept.

use std::io::Write;
use std::net::TcpStream;

use rustix::process::Signal;

use super::{JSON, NDJSON, assert_taken, post};
use crate::common::Dataset;
use crate::common::http::{Answer, answer, request};
use crate::common::lines::{gzip, ids, line, lines};

const TOKEN: &str = "a-token-of-this-test";

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, words: &[&str]) {
    assert_eq!(answer.status, status, "{answer:?}");
    let json = answer.json();
    let why = json["error"].as_str().unwrap_or_else(|| panic!("no sentence: {answer:?}"));
    words.iter().for_each(|word| assert!(why.contains(word), "{why:?} does not name {word:?}"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[test]
fn each_fault_has_its_status_and_its_sentence_and_nothing_of_the_request_is_kept() {
    let dataset = Dataset::new();
    let limits = dataset.push().set("source.body_bytes_max", "20KiB").set("source.decompressed_bytes_max", "40KiB");
    let mut process = limits.set("source.body_timeout", "300ms").set("admin.listen", "127.0.0.1:0").spawn();
    let (admin, address) = (process.admin(), process.http());
    let encoded = ("Content-Encoding", "gzip");
    let arrow = ("Content-Type", "application/vnd.apache.arrow.stream");

    let broken = post(address, &[JSON], format!("[{},\n{{\"id\":}}]", line(1)));
    assert_refused(&broken, 400, &["not valid JSON", "line 3 column 7"]);
    assert_eq!((broken.json()["line"].as_u64(), broken.json()["column"].as_u64()), (Some(3), Some(7)));
    assert_refused(&post(address, &[JSON], format!("{}{}", line(1), line(2))), 400, &["trailing characters", "application/x-ndjson"]);
    assert_refused(&post(address, &[JSON], "5"), 400, &["array of events"]);
    assert_refused(&post(address, &[JSON], b"[\"\xff\"]"), 400, &["UTF-8", "column 3"]);
    for empty in ["", " \n"] {
        assert_refused(&post(address, &[JSON], empty), 400, &["the body is empty", "array of events"]);
    }
    let unsaid = [("gzip", gzip(lines(0..5))), ("zstd", zstd::encode_all(lines(0..5).as_bytes(), 3).unwrap())];
    for (name, body) in unsaid {
        for media_type in [NDJSON, JSON, arrow] {
            assert_refused(&post(address, &[media_type], &body), 400, &["compressed with", &format!("Content-Encoding: {name}")]);
        }
    }
    let utf_16: Vec<u8> = lines(0..5).encode_utf16().fold(vec![0xff, 0xfe], |all, unit| [all, unit.to_le_bytes().to_vec()].concat());
    assert_refused(&post(address, &[NDJSON], utf_16), 400, &["UTF-16", "UTF-8"]);
    assert_refused(&post(address, &[NDJSON, encoded], lines(0..5)), 400, &["not gzip"]);
    assert_refused(&post(address, &[NDJSON, ("Content-Encoding", "zstd")], lines(0..5)), 400, &["not zstd"]);
    assert_refused(&post(address, &[arrow], lines(0..5)), 400, &["Arrow"]);
    assert_refused(&post(address, &[NDJSON, ("Idempotency-Key", &"k".repeat(300))], line(1)), 400, &["Idempotency-Key", "256"]);

    assert_refused(&request(address, "POST", "/events", &[NDJSON], line(1)), 404, &["/v1/events"]);
    let wrong_method = request(address, "GET", "/v1/events", &[], "");
    assert_refused(&wrong_method, 405, &["POST"]);
    assert_eq!(wrong_method.header("allow"), Some("POST"));

    assert_refused(&post(address, &[NDJSON], "\n".repeat(20 * 1024 + 1)), 413, &["source.body_bytes_max"]);
    let bomb = zstd::encode_all(&vec![b'\n'; 41 * 1024][..], 3).unwrap();
    assert_refused(&post(address, &[NDJSON, ("Content-Encoding", "zstd")], bomb), 413, &["source.decompressed_bytes_max"]);

    assert_refused(&post(address, &[], line(1)), 415, &["Content-Type is missing"]);
    assert_refused(&post(address, &[("Content-Type", "application/x-www-form-urlencoded")], line(1)), 415, &["application/x-ndjson"]);
    assert_refused(&post(address, &[("Content-Type", "application/json; charset=utf-16")], line(1)), 415, &["UTF-8"]);
    assert_refused(&post(address, &[NDJSON, ("Content-Encoding", "br")], line(1)), 415, &["gzip or zstd"]);

    assert_refused(&post(address, &[NDJSON, ("Host", "evil.example")], line(1)), 403, &["localhost"]);
    let mut slow = TcpStream::connect(address).unwrap();
    slow.write_all(
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100\r\n\r\n{\"id\"",
    )
    .unwrap();
    let late = answer(slow).unwrap();
    assert_refused(&late, 408, &["source.body_timeout"]);
    assert_eq!(late.header("connection"), Some("close"));

    // A body without a length, cut off.
    let mut cut = TcpStream::connect(address).unwrap();
    cut.write_all(
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n2d\r\n",
    )
    .unwrap();
    cut.write_all(&line(1).as_bytes()[..20]).unwrap();
    drop(cut);

    assert_taken(&post(address, &[NDJSON], lines(0..3)), 3, 0);
    let metrics = request(admin, "GET", "/metrics", &[], "");
    assert_eq!(metrics.metric("pintail_http_requests_total{status=\"415\"}"), 4.0);
    assert_eq!(metrics.metric("pintail_http_requests_total{status=\"413\"}"), 2.0);
    assert_eq!(metrics.metric("pintail_http_requests_total{status=\"200\"}"), 1.0);
    assert_eq!(metrics.metric("pintail_http_records_total"), 3.0);
    assert!(metrics.metric("pintail_journal_bytes") > 100.0);
    process.wait_for_committed(3);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..3));
    assert_eq!(dataset.counts().records_in, 3);
    dataset.assert_clean();
}

#[test]
fn who_is_refused_while_it_is_still_sending_sees_the_answer_and_no_broken_connection() {
    let dataset = Dataset::new();
    let mut process = dataset.push().set("source.body_bytes_max", "1MiB").set("source.decompressed_bytes_max", "1MiB").spawn();
    let address = process.http();
    // More than the system keeps for both sides.
    let body = vec![b' '; 20 << 20];
    assert_refused(&post(address, &[], &body), 415, &["Content-Type"]);
    assert_refused(&post(address, &[NDJSON], &body), 413, &["source.body_bytes_max"]);
    assert_refused(&request(address, "POST", "/v1/events", &[NDJSON, ("Host", "evil.example")], &body), 403, &["localhost"]);
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn without_one_of_the_tokens_nothing_is_taken() {
    let dataset = Dataset::new();
    let file = dataset.write("tokens", format!("{TOKEN}\nanother-token-while-rotating\n"));
    let mut process = dataset.push().set("source.token_file", file.to_str().unwrap()).spawn();
    let address = process.http();
    assert_refused(&post(address, &[NDJSON], line(0)), 401, &["Authorization: Bearer"]);
    let wrong = post(address, &[NDJSON, ("Authorization", "Bearer a-token-of-another-one")], line(0));
    assert_refused(&wrong, 401, &["not the right one"]);
    assert_eq!(wrong.header("www-authenticate"), Some("Bearer"));
    // By a name that is not ours, as behind a proxy: who has the token is no page of another site.
    let good = [("Authorization", format!("Bearer {TOKEN}")), ("Authorization", "bearer another-token-while-rotating".to_owned())];
    for (offset, (name, value)) in good.iter().enumerate() {
        let taken = post(address, &[NDJSON, (name, value), ("Host", "events.example")], line(offset as i64));
        assert_taken(&taken, 1, offset as u64);
    }
    process.wait_for_committed(2);
    assert!(!process.log().contains(TOKEN));
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn an_address_for_everybody_without_a_token_is_refused_at_start() {
    let dataset = Dataset::new();
    let open = dataset.push().set("source.listen", "0.0.0.0:0");
    open.clone().run().assert_refused(78, &["source.listen", "source.token_file", "source.allow_without_token"]);
    open.clone().set("source.token", "short").run().assert_refused(78, &["source.token", "16"]);
    let mut process = open.set("source.allow_without_token", true).spawn();
    let port = process.http().port();
    assert_taken(&post(([127, 0, 0, 1], port).into(), &[NDJSON], line(0)), 1, 0);
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn check_names_an_address_that_is_taken_and_a_certificate_that_is_none() {
    let dataset = Dataset::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let check = |pintail: crate::common::process::Pintail<'_>| pintail.args(["check"]).run();
    check(dataset.push().set("source.listen", address.clone())).assert_refused(75, &["source.listen", &address, "taken"]);
    dataset.push().set("source.listen", address).run().assert_refused(75, &["source.listen", "taken"]);
    let text = dataset.write("no.pem", "nothing\n");
    let tls = dataset.push().set("source.tls_cert_file", text.to_str().unwrap());
    check(tls.clone()).assert_refused(78, &["source.tls_cert_file", "source.tls_key_file"]);
    check(tls.set("source.tls_key_file", text.to_str().unwrap())).assert_refused(78, &["no.pem", "certificate"]);
    // A service that runs has the address itself: that is no fault of the configuration.
    let mut process = dataset.push().spawn();
    let own = process.http().to_string();
    check(dataset.push().set("source.listen", own)).assert_code(0);
    process.stop(Signal::TERM).assert_code(0);
}
