use std::fs;

use super::*;
use crate::config::{Copies, OnGap};
use crate::evidence::Key;
use crate::offsets::Offsets;
use crate::source::Resume;
use crate::source::file::Unread;
use crate::source::file::discover::Patterns;
use crate::source::file::positions::Positions;

fn follow(directory: &Path, pattern: &str) -> Follow {
    let patterns = Patterns::parse(&[directory.join(pattern).display().to_string()], 10).unwrap();
    let found = patterns.find().unwrap();
    let resume = Resume { offsets: &Offsets::default(), key: &Key::new([7; 32]) };
    let files = Files {
        patterns,
        positions: Positions::new(&resume, 10).unwrap(),
        unread: Unread::default(),
        record_bytes_max: 100,
        on_gap: OnGap::Refuse,
        copies: Copies::Skip,
        pending: Vec::new(),
    };
    Follow::start(files, Duration::ZERO, found).unwrap()
}

/// Runs `body` where chunks are taken by nobody, but in order.
fn with_sender(body: impl FnOnce(&ChunkSender) + Send + 'static) {
    let (done, ended) = std::sync::mpsc::channel();
    let mut thread = crate::source::thread::ReadThread::spawn("test", move |sender| {
        body(sender);
        done.send(()).unwrap();
        Ok(())
    })
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    while runtime.block_on(thread.recv()).unwrap().is_some() {}
    ended.recv().expect("the body panicked");
}

#[test]
fn a_rotated_file_is_held_open_until_it_has_stood_still_and_one_with_a_name_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let (name, rotated) = (dir.path().join("app.log"), dir.path().join("app.log.1"));
        fs::write(&name, "1\n").unwrap();
        let mut follow = follow(dir.path(), "app.log");
        follow.read_round(sender).unwrap();
        follow.look_again().unwrap();
        follow.let_go(Instant::now() + 10 * QUIET, sender).unwrap();
        assert_eq!(follow.tails.len(), 1);
        fs::rename(&name, &rotated).unwrap();
        follow.look_again().unwrap();
        follow.let_go(Instant::now(), sender).unwrap();
        assert_eq!(follow.tails.len(), 1);
        follow.let_go(Instant::now() + QUIET, sender).unwrap();
        assert_eq!(follow.tails.len(), 0);
        assert_eq!(follow.files.unread.get(), 2, "what was handed on is taken off by who takes it");
        // It is still known: back under its name it goes on, and is not begun again.
        fs::rename(&rotated, &name).unwrap();
        follow.look_again().unwrap();
        assert!(matches!(&follow.tails[0].stage, Stage::Open(reader) if reader.next() == 2));
    });
}

#[test]
fn a_deleted_file_is_forgotten_with_its_last_line_and_does_not_count_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let name = |n: usize| dir.path().join(format!("{n}.log"));
        (0..10).for_each(|n| fs::write(name(n), format!("{n}\nunfinished {n}")).unwrap());
        let mut follow = follow(dir.path(), "*.log");
        follow.read_round(sender).unwrap();
        for n in 0..10 {
            fs::remove_file(name(n)).unwrap();
            fs::write(name(n + 10), format!("{}\n", n + 10)).unwrap();
        }
        follow.look_again().unwrap();
        follow.read_round(sender).unwrap();
        assert_eq!(follow.tails.len(), 20);
        follow.let_go(Instant::now() + QUIET, sender).unwrap();
        assert_eq!((follow.tails.len(), follow.files.positions.iter().count(), follow.files.unread.get()), (10, 10, 170));
        assert_eq!(follow.files.pending.len(), 10, "each is noted");
    });
}

#[test]
fn a_closed_file_that_is_deleted_later_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let (name, rotated) = (dir.path().join("app.log"), dir.path().join("app.log.1"));
        fs::write(&name, "1\n").unwrap();
        let mut follow = follow(dir.path(), "app.log");
        follow.read_round(sender).unwrap();
        fs::rename(&name, &rotated).unwrap();
        follow.look_again().unwrap();
        follow.let_go(Instant::now() + QUIET, sender).unwrap();
        let found = follow.files.patterns.find().unwrap();
        follow.miss_closed(&found).unwrap();
        assert!(follow.lost.is_empty());
        fs::remove_file(&rotated).unwrap();
        follow.miss_closed(&found).unwrap();
        follow.look_again().unwrap();
        assert_eq!((follow.files.positions.iter().count(), follow.files.pending.len()), (0, 1));
    });
}

#[test]
fn a_compressed_file_is_read_once_and_only_when_its_length_stands_still() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("a.gz");
    fs::write(&name, "half").unwrap();
    let mut follow = follow(dir.path(), "*.gz");
    fs::write(&name, "half and half").unwrap();
    follow.look_again().unwrap();
    assert_eq!(follow.ready.len(), 0);
    for _ in 0..3 {
        follow.look_again().unwrap();
        assert_eq!(follow.ready.len(), 1);
    }
    fs::write(&name, "another one, longer").unwrap();
    follow.look_again().unwrap();
    follow.look_again().unwrap();
    assert_eq!(follow.ready.len(), 2);
}

#[test]
fn what_begins_as_a_file_that_vanished_and_stays_shorter_is_read_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let (name, part) = (dir.path().join("a.log"), dir.path().join("b.log"));
        let content = "0123456789abcde\n".repeat(200);
        fs::write(&name, &content).unwrap();
        let mut follow = follow(dir.path(), "*.log");
        follow.read_round(sender).unwrap();
        fs::remove_file(&name).unwrap();
        follow.look_again().unwrap();
        follow.let_go(Instant::now() + QUIET, sender).unwrap();
        fs::write(&part, &content[..1600]).unwrap();
        follow.look_again().unwrap();
        assert_eq!((follow.tails.len(), follow.parts.len()), (0, 1), "it may become the file that vanished");
        follow.parts.values_mut().for_each(|(_, since)| *since -= QUIET);
        follow.look_again().unwrap();
        assert_eq!((follow.tails.len(), follow.parts.len()), (1, 0));
    });
}
