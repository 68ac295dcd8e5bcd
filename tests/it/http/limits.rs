//! Too many, too slow, too much.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{NDJSON, assert_taken, post};
use crate::common::Dataset;
use crate::common::http::{answer, get};
use crate::common::lines::{ids, line, lines};

const HEAD: &[u8] = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n";

#[test]
fn five_hundred_clients_that_send_a_byte_now_and_then_leave_others_served() {
    let dataset = Dataset::new();
    let mut process = dataset.push().set("source.idle_timeout", "3s").set("source.body_timeout", "3s").spawn();
    let address = process.http();
    let mut slow: Vec<_> = (0..500)
        .map(|number| {
            let mut stream = TcpStream::connect(address).unwrap();
            // Some in the head, some in the body of a request that announces the most there may be.
            let begin = if number % 2 == 0 { HEAD.to_vec() } else { [HEAD, b"Content-Length: 16777216\r\n\r\n"].concat() };
            stream.write_all(&begin).unwrap();
            stream
        })
        .collect();
    let mut slowest = Duration::ZERO;
    let begin = Instant::now();
    let mut next = 0;
    let mut dropped = 0;
    while begin.elapsed() < Duration::from_secs(5) {
        let sent = Instant::now();
        let from = i64::try_from(next).unwrap();
        assert_taken(&post(address, &[NDJSON], lines(from..from + 10)), 10, next);
        slowest = slowest.max(sent.elapsed());
        next += 10;
        let before = slow.len();
        slow.retain_mut(|stream| stream.write_all(b"x").is_ok());
        dropped += before - slow.len();
        thread::sleep(Duration::from_millis(50));
    }
    println!("slowest answer {slowest:?}, {next} events, {dropped} slow connections dropped");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert_eq!(slow.len(), 0, "the slow ones are dropped after their time");
    process.wait_for_committed(next);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..i64::try_from(next).unwrap()));
}

/// Sends what a client without a token can, and holds on to the connection.
fn hold(address: SocketAddr, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let begin = match number % 3 {
        0 => Vec::new(),
        1 => HEAD.to_vec(),
        _ => [HEAD, b"Content-Length: 16777216\r\n\r\n{"].concat(),
    };
    // It may have to go at once.
    let _ = stream.write_all(&begin);
    stream
}

#[test]
fn connections_without_a_token_keep_nobody_away_who_has_one_and_nothing_from_a_commit() {
    let dataset = Dataset::new();
    let token = ("Authorization", "Bearer a-token-of-some-length");
    let pushed = dataset.push().set("source.token", "a-token-of-some-length").set("source.connections_max", 100);
    let mut process = pushed.set("admin.listen", "127.0.0.1:0").spawn();
    let (address, admin) = (process.http(), process.admin());
    let held: Vec<_> = (0..500).map(|number| hold(address, number)).collect();
    let mut slowest = Duration::ZERO;
    for next in 0..20 {
        let sent = Instant::now();
        assert_taken(&post(address, &[NDJSON, token], line(next)), 1, next as u64);
        slowest = slowest.max(sent.elapsed());
        assert_eq!(get(admin, "/readyz").status, 200);
    }
    println!("slowest answer {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    process.wait_for_committed(20);
    drop(held);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..20));
}

#[test]
fn a_client_that_is_sending_what_it_may_is_not_sent_away_for_one_that_comes_later() {
    let dataset = Dataset::new();
    let mut process = dataset.push().set("source.connections_max", 2).set("source.body_timeout", "20s").spawn();
    let address = process.http();
    let body = line(0);
    let mut sending: Vec<_> = (0..2)
        .map(|number| {
            let mut stream = TcpStream::connect(address).unwrap();
            let body = line(number);
            stream.write_all(&[HEAD, format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()).as_bytes()].concat()).unwrap();
            stream.write_all(&body.as_bytes()[..5]).unwrap();
            stream
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    let later = thread::spawn(move || post(address, &[NDJSON], line(2)));
    thread::sleep(Duration::from_millis(500));
    assert!(!later.is_finished(), "it waits for its turn");
    let mut first = sending.remove(0);
    first.write_all(&body.as_bytes()[5..]).unwrap();
    assert_eq!(answer(first).unwrap().status, 200);
    assert_eq!(later.join().unwrap().status, 200);
    let mut second = sending.remove(0);
    second.write_all(&line(1).as_bytes()[5..]).unwrap();
    assert_eq!(answer(second).unwrap().status, 200);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..3));
}

#[test]
fn a_full_journal_is_said_so_and_takes_again_after_the_next_checkpoint() {
    let dataset = Dataset::new();
    let small = dataset.push().set("source.body_bytes_max", "64KiB").set("source.decompressed_bytes_max", "64KiB");
    let small = small.set("source.journal_bytes_max", "1MiB").set("source.idempotency_keys_max", 100);
    let mut process = small.set("pipeline.checkpoint_interval", "3s").spawn();
    let address = process.http();
    let (mut taken, mut full) = (0, 0);
    let begin = Instant::now();
    // Twice full: what was released once is released again.
    while full < 2 {
        assert!(begin.elapsed() < Duration::from_secs(25), "full {full} times, {taken} events taken");
        let answer = post(address, &[NDJSON], lines(taken..taken + 500));
        match answer.status {
            200 => taken += 500,
            503 => {
                full += 1;
                assert!(answer.body.contains("source.journal_bytes_max") && answer.header("retry-after") == Some("3"), "{answer:?}");
                let waiting = Instant::now();
                while post(address, &[NDJSON], lines(taken..taken + 500)).status == 503 {
                    assert!(waiting.elapsed() < Duration::from_secs(10), "it stays full");
                    thread::sleep(Duration::from_millis(100));
                }
                taken += 500;
            }
            _ => panic!("{answer:?}"),
        }
        let bytes: u64 =
            crate::common::walk(&dataset.internal("journal")).iter().filter_map(|file| file.metadata().ok()).map(|m| m.len()).sum();
        assert!(bytes <= 1 << 20, "{bytes} bytes");
    }
    process.wait_for_committed(taken.unsigned_abs());
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..taken));
    dataset.assert_clean();
}

#[test]
fn many_large_bodies_at_once_are_taken_or_told_to_come_back_and_memory_stays_bounded() {
    let dataset = Dataset::new();
    let small = dataset.push().set("source.body_bytes_max", "2MiB").set("source.decompressed_bytes_max", "2MiB");
    let mut process = small.set("source.bodies_bytes_max", "8MiB").set("source.body_timeout", "8s").spawn();
    let address = process.http();
    let body = lines(0..20_000);
    assert!(body.len() < 2 << 20);
    // Each stands with at most all but its last byte: together more than may be held.
    let mut held: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            let _ = stream.write_all(&[HEAD, format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes()].concat());
            let _ = stream.write_all(&body.as_bytes()[..body.len() - 1]);
            stream
        })
        .collect();
    let memory = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let resident: u64 = memory.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
    assert!(resident < 250 << 10, "{resident} KiB");
    let crowded = post(address, &[NDJSON], &body);
    assert!(crowded.status == 503 && crowded.body.contains("source.bodies_bytes_max"), "{crowded:?}");
    held.truncate(20);
    let begin = Instant::now();
    let answer = loop {
        let answer = post(address, &[NDJSON], &body);
        if answer.status == 200 {
            break answer;
        }
        assert!(answer.status == 503 && answer.body.contains("source.bodies_bytes_max"), "{answer:?}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(begin.elapsed() < Duration::from_secs(20));
    };
    assert_taken(&answer, 20_000, 0);
    process.wait_for_committed(20_000);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..20_000));
}
