//! Where the server listens, and what becomes of a line when it cannot.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::http::get;
use crate::common::process::messages;

#[test]
fn an_empty_address_switches_the_server_off() {
    let dataset = Dataset::new();
    let outcome = dataset.simulator(1_000).set("admin.listen", "").run_ok();
    assert_eq!(messages(&outcome.stderr, "admin server listens").len(), 0);
}

#[test]
fn an_address_that_the_user_wrote_and_that_is_taken_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dataset = Dataset::new();
    let outcome = dataset.simulator(1_000).set("admin.listen", address.to_string()).run();
    outcome.assert_refused(75, &["admin.listen", &address.to_string(), "taken"]);
    assert!(!dataset.out().exists(), "nothing was begun");
}

#[test]
fn a_second_instance_on_the_same_dataset_is_told_of_the_holder_and_not_of_the_address() {
    let dataset = Dataset::new();
    let mut first = dataset.watched().set("source.rate", 1000).spawn();
    let address = first.admin().to_string();
    first.wait_until_started();
    let second = dataset.watched().set("admin.listen", address.as_str()).run();
    second.assert_refused(75, &["LOCK", "is held by process", &first.pid().to_string()]);
    assert!(!second.stderr.contains("admin.listen"), "{}", second.stderr);
    first.stop(Signal::TERM).assert_code(0);
}

#[test]
fn a_default_address_that_is_taken_is_a_warning_and_the_line_runs() {
    // Taken by this test, or by another service on this machine: either will do.
    let _taken = TcpListener::bind("127.0.0.1:9464");
    let dataset = Dataset::new();
    let outcome = dataset.simulator(1_000).unset("admin.listen").run_ok();
    let warned = outcome.stderr.lines().find(|line| line.contains("no admin server")).expect("a warning");
    assert!(warned.contains("WARN") && warned.contains("127.0.0.1:9464"), "{warned}");
    assert_eq!(dataset.counts().records_in, 1_000);
}

#[test]
fn faults_of_the_section_come_all_at_once_and_show_no_token() {
    let dataset = Dataset::new();
    let secret = "hush hush hush hush";
    let pintail = dataset.pintail().set("admin.listen", "everywhere").set("admin.query", "yes").set("admin.query_token", secret);
    let outcome = pintail.set("admin.query_rows_max", 0).set("admin.query_tokn", "x").run();
    outcome.assert_refused(
        78,
        &["`admin.listen` = \"everywhere\"", "`admin.query` =", "`admin.query_token`", "query_rows_max", "did you mean"],
    );
    assert!(!outcome.stderr.contains("hush"), "{}", outcome.stderr);

    let open = dataset.pintail().set("admin.listen", "0.0.0.0:0").set("admin.query", true);
    open.clone().run().assert_refused(78, &["`admin.query`", "without a token"]);
    let short = open.set("admin.query_token", "short").run();
    short.assert_refused(78, &["`admin.query_token`", "16"]);
}

#[test]
fn clients_that_say_nothing_or_take_nothing_hold_nobody_up() {
    let dataset = Dataset::new();
    let mut process = dataset.watched().spawn();
    let address = process.admin();
    process.wait_for_commits(1);
    // More than there is room for.
    let silent: Vec<_> = (0..80).filter_map(|_| TcpStream::connect(address).ok()).collect();
    let mut half = TcpStream::connect(address).unwrap();
    let _ = half.write_all(b"GET /metrics HTTP/1.1\r\nHost: ");
    let commits = dataset.commits_len();
    process.wait_for_commits(commits + 5);
    drop(silent);
    crate::common::wait_until("room", || asked(address).is_some_and(|text| text.starts_with("HTTP/1.0 200")));
    let begin = Instant::now();
    process.stop(Signal::TERM).assert_code(0);
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    dataset.assert_clean();
}

/// Asks for `/healthz`; nothing if the connection was closed.
fn asked(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn a_port_that_is_left_to_the_system_is_logged() {
    let dataset = Dataset::new();
    let mut process = dataset.watched().set("source.rate", 1000).spawn();
    let address = process.admin();
    assert!(address.port() != 0 && address.ip().is_loopback());
    assert_eq!(get(address, "/healthz").status, 200);
    process.stop(Signal::TERM).assert_code(0);
}
