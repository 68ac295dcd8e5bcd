//! A crowd of connections that ask nothing, or ask and do not listen.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::http::get;

/// Opens a connection and leaves it: silent, in the middle of a head, in the middle of a body, or with an answer that nobody reads.
fn hold(address: SocketAddr, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let sent: &[u8] = match number % 4 {
        0 => b"",
        1 => b"GET /healthz HTTP/1.1\r\nHost: loc",
        2 => b"POST /api/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
        _ => b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    // It may have to go at once.
    let _ = stream.write_all(sent);
    stream
}

#[test]
fn five_hundred_connections_that_ask_nothing_keep_no_probe_and_no_scrape_away() {
    let dataset = Dataset::new();
    let mut process = dataset.watched().set("admin.query", true).spawn();
    let address = process.admin();
    process.wait_for_commits(1);
    let held: Vec<_> = (0..500).map(|number| hold(address, number)).collect();
    for round in 0..10 {
        for path in ["/healthz", "/readyz", "/metrics"] {
            let begun = Instant::now();
            assert_eq!(get(address, path).status, 200, "{path} in round {round}");
            assert!(begun.elapsed() < Duration::from_secs(1), "{path} took {:?}", begun.elapsed());
        }
    }
    dataset.pintail().args(["health"]).run_ok();
    let commits = dataset.commits_len();
    process.wait_for_commits(commits + 3);
    drop(held);
    process.stop(Signal::TERM).assert_code(0);
}
