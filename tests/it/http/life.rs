//! Starting and stopping.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{NDJSON, assert_taken, post};
use crate::common::Dataset;
use crate::common::http::{answer, get, try_request};
use crate::common::lines::{ids, line, lines};

/// Sends the head and the first half of a body.
fn half(address: SocketAddr, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body.as_bytes()[..body.len() / 2]).unwrap();
    stream
}

#[test]
fn sigterm_accepts_nothing_more_answers_what_is_under_way_and_commits_what_was_answered() {
    let dataset = Dataset::new();
    let mut process = dataset.push().set("pipeline.checkpoint_interval", "1h").spawn();
    let address = process.http();
    let (stop, taken) = (AtomicBool::new(false), AtomicI64::new(0));
    thread::scope(|scope| {
        // One client after another, until nobody is there any more.
        let client = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let id = taken.load(Ordering::Relaxed);
                match try_request(address, "POST", "/v1/events", &[NDJSON], line(id)) {
                    Ok(answer) if answer.status == 200 => taken.fetch_add(1, Ordering::Relaxed),
                    _ => return,
                };
            }
        });
        while taken.load(Ordering::Relaxed) < 100 {
            assert!(!client.is_finished());
            thread::sleep(Duration::from_millis(1));
        }
        // One idle, one half sent that goes on, one half sent that never does.
        let _idle = TcpStream::connect(address).unwrap();
        let body = lines(1_000_000..1_000_010);
        let mut late = half(address, &body);
        let _never = half(address, &body);
        thread::sleep(Duration::from_millis(200));
        process.signal(Signal::TERM);
        let begin = Instant::now();
        thread::sleep(Duration::from_millis(300));
        assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
        late.write_all(&body.as_bytes()[body.len() / 2..]).unwrap();
        let late = answer(late).unwrap();
        assert_eq!((late.status, late.header("connection")), (200, Some("close")), "{late:?}");
        let outcome = process.wait();
        outcome.assert_code(0);
        println!("stopped within {:?}", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_secs(8));
        stop.store(true, Ordering::Relaxed);
    });
    let taken = taken.load(Ordering::Relaxed);
    let expected = [ids(0..taken), ids(1_000_000..1_000_010)].concat();
    assert_eq!(dataset.ids(), expected, "what was answered is committed by the same stop");
    assert_eq!(dataset.last_commit().trigger(), "shutdown");
    dataset.assert_clean();
}

#[test]
fn several_requests_go_over_one_connection_and_an_idle_one_is_closed() {
    let dataset = Dataset::new();
    let mut process = dataset.push().set("source.idle_timeout", "1s").spawn();
    let address = process.http();
    let mut stream = TcpStream::connect(address).unwrap();
    for id in 0..3 {
        let body = line(id);
        let length = body.len();
        write!(
            stream,
            "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = [0; 4096];
        let read = stream.read(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with(&format!("{{\"accepted\":1,\"offset\":{id}}}\n")), "{answer}");
    }
    let begin = Instant::now();
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0, "closed");
    assert!(begin.elapsed() < Duration::from_secs(5));
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn what_was_accepted_and_not_committed_is_read_at_the_next_start() {
    let dataset = Dataset::new();
    let mut process = dataset.push().set("pipeline.checkpoint_interval", "1h").spawn();
    assert_taken(&post(process.http(), &[NDJSON], lines(0..1000)), 1000, 0);
    assert_eq!(process.kill().code(), 137);
    assert_eq!(dataset.commits_len(), 0);
    let mut process = dataset.push().set("admin.listen", "127.0.0.1:0").spawn();
    let admin = process.admin();
    process.wait_for_committed(1000);
    let status = get(admin, "/api/status").json();
    assert_eq!((&status["source"], &status["lag_records"]), (&"http".into(), &0.into()));
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..1000));
    dataset.assert_clean();
}

#[test]
fn a_journal_that_is_gone_before_the_first_checkpoint_refuses_the_start_and_a_repair_goes_on_behind_a_gap() {
    let dataset = Dataset::new();
    let rare = || dataset.push().set("pipeline.checkpoint_interval", "1h");
    let mut process = rare().spawn();
    assert_taken(&post(process.http(), &[NDJSON], lines(0..20)), 20, 0);
    process.stop(Signal::KILL);
    let journal = dataset.internal("journal");
    for file in crate::common::walk(&journal) {
        std::fs::remove_file(file).unwrap();
    }
    rare().run().assert_refused(65, &["journal", "pintail repair --journal"]);
    std::fs::remove_dir_all(&journal).unwrap();
    rare().run().assert_refused(65, &["journal", "pintail repair --journal"]);
    let told = dataset.push().args(["repair", "--journal"]).run_ok().stdout;
    assert!(told.contains("LOST: offsets 0 to 1, at least 1"), "{told}");
    let mut process = rare().spawn();
    assert_taken(&post(process.http(), &[NDJSON], lines(20..30)), 10, 1);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(20..30));
    dataset.assert_clean();
}

#[test]
fn a_journal_that_is_gone_or_damaged_refuses_the_start() {
    let dataset = Dataset::new();
    let mut process = dataset.push().spawn();
    assert_taken(&post(process.http(), &[NDJSON], lines(0..10)), 10, 0);
    process.wait_for_committed(10);
    process.stop(Signal::TERM).assert_code(0);
    let (journal, aside) = (dataset.internal("journal"), dataset.root().join("aside"));
    std::fs::rename(&journal, &aside).unwrap();
    dataset.push().run().assert_refused(65, &["journal", "committed up to offset 10"]);
    assert!(!journal.exists(), "a start that is refused makes nothing");
    std::fs::rename(&aside, &journal).unwrap();
    let mut process = dataset.push().spawn();
    assert_taken(&post(process.http(), &[NDJSON], lines(10..11)), 1, 10);
    process.stop(Signal::TERM).assert_code(0);
    dataset.file("x.ndjson").run().assert_refused(78, &["http", "file"]);
}
