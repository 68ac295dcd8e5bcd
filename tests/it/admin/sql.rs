//! The SQL box: what it answers, and what it refuses without a trace.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::http::{Answer, get, request};
use crate::common::process::{Pintail, Process};
use crate::common::{Dataset, walk};

const TOKEN: &str = "a-token-of-some-length";
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A dataset at rest: its service has read all there is and goes on waiting.
pub(super) fn resting(dataset: &Dataset) -> Pintail<'_> {
    dataset.append("events.ndjson", crate::common::lines::lines(0..10_000));
    dataset.follow("events.ndjson").set("admin.listen", "127.0.0.1:0").set("admin.query", true)
}

pub(super) fn start<'a>(pintail: Pintail<'a>) -> (Process<'a>, SocketAddr) {
    let mut process = pintail.spawn();
    let address = process.admin();
    process.wait_for_rows(10_000);
    (process, address)
}

pub(super) fn ask(address: SocketAddr, sql: &str) -> Answer {
    request(address, "POST", "/api/query", &[JSON], json!({ "sql": sql }).to_string())
}

/// Asks until the place is free that the other questions of the test take too.
pub(super) fn ask_until_taken(address: SocketAddr, sql: &str) -> Answer {
    std::iter::repeat_with(|| ask(address, sql)).find(|answer| answer.status != 429).expect("repeats for ever")
}

pub(super) fn error(answer: &Answer) -> String {
    answer.json()["error"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

fn snapshot(dataset: &Dataset) -> BTreeMap<PathBuf, Vec<u8>> {
    // The lock is touched, not changed.
    walk(dataset.root()).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_select_over_the_committed_files_is_answered_within_its_limits() {
    let dataset = Dataset::new();
    let (process, address) = start(resting(&dataset).set("admin.query_rows_max", 10));
    let answer = ask(address, "SELECT region, count(*) AS n, sum(id) AS s FROM events GROUP BY region ORDER BY region;");
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    assert_eq!(answer["rows"], json!([["eu", 5000, 24_995_000], ["us", 5000, 25_000_000]]));
    assert_eq!((&answer["columns"][0]["name"], &answer["truncated"]), (&"region".into(), &false.into()));
    assert!(answer["took_ms"].is_u64());
    let answer = ask(address, "SELECT id FROM events ORDER BY id").json();
    assert_eq!((answer["rows"].as_array().unwrap().len(), &answer["truncated"]), (10, &Value::from(true)));
    assert_eq!(ask(address, "SELECT id FROM events ORDER BY id LIMIT 10").json()["truncated"], false);
    assert_eq!(ask(address, "SELECT 9007199254740993, NULL, 'x'").json()["rows"], json!([["9007199254740993", null, "x"]]));
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn a_file_of_another_length_than_was_committed_is_named_instead_of_read() {
    let dataset = Dataset::new();
    let (process, address) = start(resting(&dataset));
    let file = dataset.data_files().pop().unwrap();
    fs::OpenOptions::new().append(true).open(dataset.out().join(&file)).unwrap().set_len(10).unwrap();
    let answer = ask(address, "SELECT count(*) FROM events");
    assert!(answer.status == 500 && error(&answer).contains(file.to_str().unwrap()), "{answer:?}");
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn an_answer_of_too_many_bytes_is_refused_however_few_rows_it_has() {
    let dataset = Dataset::new();
    let (process, address) = start(resting(&dataset));
    let much = ask(address, "SELECT repeat('x', 100000) FROM events LIMIT 500");
    assert!(much.status == 400 && error(&much).contains("more than 16777216 bytes"), "{} bytes, status {}", much.body.len(), much.status);
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn whatever_writes_or_looks_elsewhere_is_refused_and_leaves_every_byte_as_it_was() {
    let dataset = Dataset::new();
    let (mut process, address) = start(resting(&dataset));
    let before = snapshot(&dataset);
    let out = dataset.out();
    let out = out.display();
    let file = dataset.out().join(&dataset.data_files()[0]);
    let file = file.display();
    for sql in [
        format!("COPY (SELECT 1) TO '{out}/new.parquet'"),
        format!("COPY events TO '{file}' (FORMAT parquet)"),
        format!("SELECT 1; COPY (SELECT 1) TO '{file}'"),
        format!("COPY (SELECT 1) TO '{file}'; SELECT 1"),
        format!("EXPORT DATABASE '{out}/export'"),
        format!("ATTACH '{out}/new.db'"),
        "INSTALL httpfs".into(),
        "LOAD httpfs".into(),
        "SET enable_external_access = true".into(),
        "SELECT 1; SELECT 2".into(),
        "PRAGMA database_list".into(),
        "CREATE TABLE t AS SELECT 1".into(),
        format!("SELECT * FROM read_text('{out}/_pintail/FORMAT')"),
        format!("SELECT * FROM read_text('{out}/_pintail/commits/000000/0000000001.json')"),
        "SELECT * FROM read_text('/etc/passwd')".into(),
        "SELECT * FROM '/etc/passwd'".into(),
        "SELECT * FROM read_csv('/proc/self/environ')".into(),
        format!("SELECT * FROM glob('{out}/**')"),
        format!("FROM query('COPY (SELECT 1) TO ''{out}/new.csv''')"),
        "SELECT getenv('HOME')".into(),
        "SELECT * FROM nothing".into(),
        String::new(),
    ] {
        let answer = ask(address, &sql);
        assert_eq!(answer.status, 400, "{sql}: {answer:?}");
        assert!(!error(&answer).contains('\n'), "one sentence: {answer:?}");
    }
    assert_eq!(snapshot(&dataset), before);
    assert!(process.is_running());
    process.stop(Signal::TERM).assert_code(0);
    dataset.assert_clean();
}

#[test]
fn a_box_that_is_not_switched_on_and_one_without_its_token_answer_nobody() {
    let dataset = Dataset::new();
    let (process, address) = start(resting(&dataset).set("admin.query", false));
    let refused = ask(address, "SELECT 1");
    assert!(refused.status == 403 && error(&refused).contains("admin.query"), "{refused:?}");
    assert_eq!(get(address, "/api/status").json()["query"]["enabled"], false);
    process.stop(Signal::TERM).assert_code(0);

    let token_file = dataset.write("token", format!("{TOKEN}\n"));
    let pintail = dataset.follow("events.ndjson").set("admin.listen", "0.0.0.0:0").set("admin.query", true);
    let (process, address) = start(pintail.set("admin.query_token_file", token_file.to_str().unwrap()));
    let address = SocketAddr::from(([127, 0, 0, 1], address.port()));
    let body = json!({ "sql": "SELECT 1" }).to_string();
    let with = |authorization: &str| request(address, "POST", "/api/query", &[JSON, ("Authorization", authorization)], &body);
    assert_eq!(ask(address, "SELECT 1").status, 401);
    for wrong in ["Bearer", "Bearer ", "Bearer a-token-of-some-lengtH", "Basic YTpi", TOKEN, &format!("Bearer {TOKEN}x")] {
        let refused = with(wrong);
        assert!(refused.status == 401 && !refused.body.contains(TOKEN), "{wrong}: {refused:?}");
    }
    assert_eq!(with(&format!("Bearer {TOKEN}")).json()["rows"], json!([[1]]));
    assert_eq!(get(address, "/api/status").json()["query"]["token"], true);
    assert!(!get(address, "/api/status").body.contains(TOKEN));
    let outcome = process.stop(Signal::TERM);
    outcome.assert_code(0);
    assert!(!outcome.stderr.contains(TOKEN));
}

#[test]
fn what_a_page_of_another_site_can_send_is_refused() {
    let dataset = Dataset::new();
    let (process, address) = start(resting(&dataset));
    let body = json!({ "sql": "SELECT 1" }).to_string();
    let send = |headers: &[(&str, &str)], body: &str| request(address, "POST", "/api/query", headers, body).status;
    assert_eq!(send(&[JSON], &body), 200);
    assert_eq!(send(&[], &body), 400);
    assert_eq!(send(&[("Content-Type", "text/plain")], &body), 400);
    assert_eq!(send(&[JSON, ("Origin", "http://evil.example")], &body), 403);
    assert_eq!(send(&[JSON, ("Host", "evil.example")], &body), 403);
    assert_eq!(send(&[JSON], "{\"sql\":1}"), 400);
    assert_eq!(send(&[JSON], "{\"sql\":\"SELECT 1\",\"more\":1}"), 400);
    assert_eq!(send(&[JSON], &json!({ "sql": format!("SELECT '{}'", "x".repeat(70_000)) }).to_string()), 400);
    process.stop(Signal::TERM).assert_code(0);
}

/// Runs for minutes if it is let.
pub(super) const SLOW: &str = "SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE hash(a.range * b.range) % 7 = 0";

#[test]
fn a_query_that_takes_too_long_is_ended_and_only_one_runs_at_a_time() {
    let dataset = Dataset::new();
    let (process, address) = start(resting(&dataset).set("admin.query_timeout", "1s"));
    let begin = Instant::now();
    let slow = thread::spawn(move || ask_until_taken(address, SLOW));
    let mut second = ask(address, "SELECT 1");
    while second.status == 200 {
        second = ask(address, "SELECT 1");
    }
    assert_eq!(second.status, 429, "{second:?}");
    let slow = slow.join().unwrap();
    assert!(slow.status == 422 && error(&slow).contains("longer than 1s"), "{slow:?}");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(ask(address, "SELECT 1").status, 200);
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn a_query_that_nobody_waits_for_any_more_is_ended_and_a_stop_does_not_wait_for_one() {
    let dataset = Dataset::new();
    let (process, address) = start(resting(&dataset).set("admin.query_timeout", "10m"));
    let body = json!({ "sql": SLOW }).to_string();
    {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let head =
            format!("POST /api/query HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        let head = head.replace("Host: x", &format!("Host: {address}"));
        std::io::Write::write_all(&mut stream, (head + &body).as_bytes()).unwrap();
        // Not at once: a question of ours that is there first would have it refused.
        thread::sleep(Duration::from_millis(300));
        crate::common::wait_until("the query to run", || ask(address, "SELECT 1").status == 429);
    }
    crate::common::wait_until("the query to end", || ask(address, "SELECT 1").status == 200);

    let _slow = thread::spawn(move || std::panic::catch_unwind(|| ask_until_taken(address, SLOW)));
    crate::common::wait_until("the second query to run", || ask(address, "SELECT 1").status == 429);
    let begin = Instant::now();
    process.stop(Signal::TERM).assert_code(0);
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

#[test]
fn a_statement_that_goes_down_as_deep_as_it_can_does_not_take_the_line_with_it() {
    let dataset = Dataset::new();
    let (mut process, address) = start(resting(&dataset));
    let deep = |open: &str, core: &str, close: &str, times: usize| format!("SELECT {}{core}{}", open.repeat(times), close.repeat(times));
    let nests = [
        deep("(", "1", ")", 30_000),
        deep("(", "1", ")", 990),
        deep("(SELECT ", "1", ")", 990),
        deep("[", "1", "]", 30_000),
        deep("{a:", "1", "}", 12_000),
        deep("- ", "1", "", 30_000),
        deep("NOT ", "true", "", 15_000),
        deep("CASE WHEN true THEN ", "1", " END", 2_500),
        deep("", "1", " + 1", 15_000),
        deep("", "1", " UNION ALL SELECT 1", 3_000),
        deep("", "true", " AND true", 7_000),
        deep("1 FROM (SELECT ", "1", ")", 990),
        deep("", "1", "::INT", 12_000),
        deep("", "'a'", " || 'a'", 8_000),
        deep("x -> ", "1", "", 10_000),
    ];
    for sql in &nests {
        assert!(sql.len() < 65_000, "{} bytes", sql.len());
        let answer = ask(address, sql);
        let start: String = sql.chars().take(40).collect();
        println!("{start}…: {} {}", answer.status, answer.body.chars().take(120).collect::<String>());
        assert!(process.is_running(), "{start}…");
        assert!([200, 400, 422].contains(&answer.status), "{start}…: {answer:?}");
    }
    process.stop(Signal::TERM).assert_code(0);
}
