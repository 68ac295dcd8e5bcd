//! The journal on a real disk: what is answered, what is read back, what is refused at start.
//!
//! Owns: situations of one process after another. Crashes at every operation are tried on the model disk (`tests/it/journal.rs`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use pintail_core::error::ErrorKind;

use super::log::Log;
use super::reader::Recorded;
use super::segment::{Frames, number};
use super::time::{Clocks, Reading};
use super::*;
use crate::durable::posix::Posix;

mod ages;
mod damage;
mod faults;
mod handle;
mod positions;
mod repairs;
mod version_1;

pub(super) const DATASET: &str = "dataset of the test";

/// Settings of a journal below `dir`: segments of a thousand bytes, and an hour for keys.
pub(super) fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.join("journal"),
        dataset_id: DATASET.into(),
        segment_bytes: 1000,
        bytes_max: 1 << 20,
        key_ttl: Duration::from_secs(3600),
        keys_max: 100,
        queue: 64,
        key: Key::new([7; 32]),
        clocks: Arc::new(Hand::default()),
    }
}

/// Clocks that are set by hand.
#[derive(Debug, Default)]
struct Hand {
    boot: AtomicU64,
    up_ms: AtomicU64,
    wall_ms: AtomicU64,
}

impl Hand {
    /// Lets time pass, on both clocks.
    fn pass(&self, ms: u64) {
        self.up_ms.fetch_add(ms, Ordering::SeqCst);
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clocks for Hand {
    fn read(&self) -> Reading {
        let of = |clock: &AtomicU64| clock.load(Ordering::SeqCst);
        Reading { boot: of(&self.boot), up_ms: of(&self.up_ms), wall_ms: of(&self.wall_ms) }
    }
}

fn try_open(dir: &Path, committed: u64) -> Result<Log> {
    Log::open(Arc::new(Posix::unwaiting()), settings(dir), Some(committed))
}

fn open(dir: &Path, committed: u64) -> Log {
    try_open(dir, committed).unwrap()
}

/// A request of `records` lines, each naming the request.
fn request(name: &str, records: u64, key: Option<&str>) -> Request {
    let body: String = (0..records).map(|line| format!("{name}.{line}\n")).collect();
    Request::new(Form::Lines, records, body.into(), key.map(str::as_bytes))
}

fn append(log: &mut Log, name: &str, records: u64, key: Option<&str>) -> Result<Receipt, AppendError> {
    log.append(&[request(name, records, key)]).pop().unwrap()
}

fn append_as(log: &mut Log, form: Form, records: u64, body: &[u8], key: &str) -> Result<Receipt, AppendError> {
    log.append(&[Request::new(form, records, Bytes::copy_from_slice(body), Some(key.as_bytes()))]).pop().unwrap()
}

fn receipt(offset: u64, records: u64) -> Result<Receipt, AppendError> {
    Ok(Receipt { offset, records })
}

/// Appends requests of one record, `r0`, `r1`, ….
fn append_many(log: &mut Log, requests: u64) {
    for n in 0..requests {
        assert_eq!(append(log, &format!("r{n}"), 1, None), receipt(n, 1));
    }
}

/// Reads everything from `offset` on.
fn read(log: &Log, offset: u64) -> Vec<Recorded> {
    let mut reader = log.reader(offset);
    std::iter::from_fn(|| reader.read(Duration::ZERO).unwrap()).collect()
}

/// Returns the lines from `offset` on.
fn lines(log: &Log, offset: u64) -> Vec<String> {
    let of = |recorded: Recorded| {
        let text = String::from_utf8(recorded.body.to_vec()).unwrap();
        text.lines().skip(usize::try_from(recorded.skip).unwrap()).map(str::to_owned).collect::<Vec<_>>()
    };
    read(log, offset).into_iter().flat_map(of).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    segments_in(&dir.join("journal"))
}

fn segments_in(journal: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Returns the position of each frame of a segment, and where it ends.
fn frames_of(path: &Path) -> Vec<usize> {
    let dir = path.parent().unwrap();
    let end = fs::metadata(path).unwrap().len();
    let mut frames = Frames::open(&Posix::default(), dir, DATASET, number(path).unwrap(), end).unwrap();
    let mut positions = vec![frames.at()];
    while frames.read().unwrap().unwrap().is_some() {
        positions.push(frames.at());
    }
    positions.into_iter().map(|at| usize::try_from(at).unwrap()).collect()
}

/// Opens the journal as a start does that has a commit record with evidence.
fn try_open_at(dir: &Path, committed: &Committed) -> Result<Log> {
    Log::open(Arc::new(Posix::unwaiting()), settings(dir), committed.clone())
}

/// Returns what a commit record says when everything before `offset` was read, from `from` on.
fn committed(log: &Log, from: u64, offset: u64) -> Committed {
    let mut reader = log.reader(from);
    let mut last = None;
    while last.as_ref().is_none_or(|recorded: &Recorded| recorded.end() < offset) {
        match reader.read(Duration::ZERO).unwrap() {
            Some(recorded) => last = Some(recorded),
            None => break,
        }
    }
    let key = Key::new([7; 32]);
    let evidence = last.map_or_else(|| reader.evidence_at_start(&key), |recorded| reader.evidence(&recorded, &key));
    Committed { offset: Some(offset), evidence: Some(Arc::new(evidence)) }
}

/// Copies the journal of a directory into another one.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join("journal")).unwrap();
    for path in segments(from) {
        fs::copy(&path, to.path().join("journal").join(path.file_name().unwrap())).unwrap();
    }
    to
}

fn refusal(dir: &Path, committed: u64) -> String {
    let error = try_open(dir, committed).unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::State, 65), "{error}");
    error.to_string()
}

#[test]
fn what_was_accepted_is_read_back_from_any_offset_also_within_a_request_and_over_segments_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    let mut expected = Vec::new();
    for n in 0..20 {
        let (name, records) = (format!("r{n}"), n % 4);
        assert_eq!(append(&mut log, &name, records, None), receipt(expected.len() as u64, records));
        expected.extend((0..records).map(|line| format!("{name}.{line}")));
        if n % 7 == 6 {
            drop(log);
            log = open(dir.path(), 0);
        }
    }
    assert!(segments(dir.path()).len() > 3);
    for offset in 0..=expected.len() {
        assert_eq!(lines(&log, offset as u64), expected[offset..], "from {offset}");
    }
}

#[test]
fn arrow_bodies_are_kept_as_they_came_and_counted_by_what_they_were_said_to_hold() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    let body = Bytes::from_static(b"no line end in here");
    log.append(&[Request::new(Form::Arrow, 7, body.clone(), None)]).pop().unwrap().unwrap();
    append(&mut log, "lines", 1, None).unwrap();
    let first = &read(&log, 3)[0];
    let recorded = Recorded { offset: 0, records: 7, skip: 3, form: Form::Arrow, body, running: first.running, lost: None };
    assert_eq!(*first, recorded);
    assert_eq!(read(&log, 3)[1].offset, 7);
}

#[test]
fn payloads_are_kept_as_they_came_and_one_that_an_older_pintail_kept_as_lines_is_known_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    let (lines, records) = (b"{ \"a\": 1}\n", [&b"{\n\"a\": 1}"[..], b"", b"\0\r\n"]);
    append_as(&mut log, Form::Lines, 1, &lines[..], "older").unwrap();
    let mut body = Vec::new();
    records.iter().for_each(|record| payloads::push(&mut body, record));
    assert_eq!(append_as(&mut log, Form::Payloads, 3, &body[..], "newer"), receipt(1, 3));
    drop(log);
    let mut log = open(dir.path(), 0);
    let recorded = &read(&log, 2)[0];
    assert_eq!((recorded.form, recorded.offset, recorded.skip), (Form::Payloads, 1, 1));
    assert_eq!(payloads::each(&recorded.body).collect::<Vec<_>>(), records);
    assert_eq!(append_as(&mut log, Form::Payloads, 3, &body[..], "newer"), receipt(1, 3));

    let mut one = Vec::new();
    payloads::push(&mut one, records[0]);
    let again = Request::new(Form::Payloads, 1, one.into(), Some(b"older"));
    let former = Some(Fingerprint::of(lines));
    let answers = log.append(&[again.clone().with_former(former), again.clone(), again.with_former(Some(Fingerprint::of(b"other")))]);
    assert_eq!(answers, [receipt(0, 1), Err(AppendError::Conflict), Err(AppendError::Conflict)]);
    assert_eq!(log.shared().end(), 4);
}

#[test]
fn a_reader_that_waits_sees_what_is_appended_and_one_at_the_end_of_a_removed_segment_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    let mut reader = log.reader(0);
    for n in 0..30 {
        assert_eq!(reader.read(Duration::ZERO).unwrap(), None);
        append(&mut log, &format!("r{n}"), 1, None).unwrap();
        assert_eq!(reader.read(Duration::ZERO).unwrap().unwrap().body, format!("r{n}.0\n"));
        log.release(n);
    }
    assert!(segments(dir.path()).len() <= 2);
}

#[test]
fn the_same_key_has_the_same_answer_and_with_another_body_it_is_a_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    append(&mut log, "a", 3, Some("key")).unwrap();
    append(&mut log, "b", 2, None).unwrap();
    for _ in 0..2 {
        assert_eq!(append(&mut log, "a", 3, Some("key")), receipt(0, 3));
        assert_eq!(append(&mut log, "c", 3, Some("key")), Err(AppendError::Conflict));
        assert_eq!(lines(&log, 0).len(), 5);
        log = open(dir.path(), 0);
    }
}

#[test]
fn a_key_that_is_in_flight_in_the_same_group_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    let group = [request("a", 2, Some("key")), request("b", 1, None), request("a", 2, Some("key")), request("x", 2, Some("key"))];
    let answers = log.append(&group);
    assert_eq!(answers, [receipt(0, 2), receipt(2, 1), receipt(0, 2), Err(AppendError::Conflict)]);
    assert_eq!(lines(&log, 0), ["a.0", "a.1", "b.0"]);
}

#[test]
fn keys_outlive_their_segments_and_restarts_and_end_with_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let clocks = Arc::new(Hand::default());
    let open = |committed| {
        Log::open(Arc::new(Posix::unwaiting()), Settings { clocks: clocks.clone(), ..settings(dir.path()) }, committed).unwrap()
    };
    let mut log = open(None);
    append(&mut log, "first", 1, Some("first")).unwrap();
    for n in 1..100_u64 {
        append(&mut log, &format!("r{n}"), 1, (n % 10 == 0).then(|| format!("k{n}")).as_deref()).unwrap();
        log.release(n);
        if n % 30 == 0 {
            log = open(Some(n));
        }
    }
    assert!(segments(dir.path()).len() < 5, "{:?}", segments(dir.path()));
    for n in (10..100_u64).step_by(10) {
        assert_eq!(append(&mut log, &format!("r{n}"), 1, Some(&format!("k{n}"))), receipt(n, 1));
    }
    clocks.pass(3_600_000 - 1);
    assert_eq!(append(&mut log, "first", 1, Some("first")), receipt(0, 1));
    clocks.pass(1);
    assert_eq!(append(&mut log, "first", 1, Some("first")), receipt(100, 1));
}

#[test]
fn a_segment_stays_as_long_as_one_of_its_records_is_not_committed() {
    for committed in 0..=20 {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), 0);
        append_many(&mut log, 20);
        let before = segments(dir.path()).len();
        log.release(committed);
        let kept = segments(dir.path()).len();
        assert!(committed < 10 || kept < before, "{committed}: {kept} of {before}");
        let expected: Vec<_> = (committed..20).map(|n| format!("r{n}.0")).collect();
        assert_eq!(lines(&log, committed), expected);
        drop(log);
        assert_eq!(lines(&open(dir.path(), committed), committed), expected);
    }
}

#[test]
fn keys_that_fill_more_than_a_segment_are_not_carried_in_circles() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    for n in 0..90_u64 {
        append(&mut log, &format!("r{n}"), 1, Some(&format!("k{n}"))).unwrap();
        log.release(n);
    }
    log.release(90);
    let bytes = log.shared().bytes();
    assert!(bytes < 4 * (90 * 96 + 600), "{bytes} bytes for 90 keys");
    assert_eq!(append(&mut log, "r0", 1, Some("k0")), receipt(0, 1));
}

#[test]
fn above_its_limit_the_journal_accepts_nothing_until_a_checkpoint_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let limited = Settings { bytes_max: 4_000, keys_max: 4, ..settings(dir.path()) };
    let mut log = Log::open(Arc::new(Posix::unwaiting()), limited, None).unwrap();
    let accepted = (0..).take_while(|n| append(&mut log, &format!("r{n}"), 1, None).is_ok()).count() as u64;
    assert!((8..20).contains(&accepted), "{accepted}");
    assert_eq!(append(&mut log, "more", 1, None), Err(AppendError::Full));
    let on_disk: u64 = segments(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(on_disk <= 4_000 && log.shared().bytes() == on_disk, "{on_disk}");
    log.release(accepted / 2);
    assert_eq!(append(&mut log, "more", 1, None), receipt(accepted, 1));
    assert_eq!(lines(&log, accepted), ["more.0"]);
}

#[test]
fn limits_that_would_stop_the_journal_for_ever_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let limited = Settings { bytes_max: 1_900, keys_max: 4, segment_bytes: 600, ..settings(dir.path()) };
    let error = Log::open(Arc::new(Posix::unwaiting()), limited, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("at least 1968"), "{error}");
}

#[test]
fn a_cut_segment_that_is_not_the_newest_refuses_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    append_many(&mut log, 8);
    drop(log);
    let path = segments(dir.path()).swap_remove(0);
    let bytes = fs::read(&path).unwrap();
    // Behind what was accepted stands the word that another segment follows.
    fs::write(&path, &bytes[..bytes.len() - frame::HEADER - 1]).unwrap();
    assert!(refusal(dir.path(), 0).contains("were accepted"));
}

#[test]
fn a_body_that_looks_like_frames_does_not_keep_a_torn_tail_from_being_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    append(&mut log, "a", 1, None).unwrap();
    drop(log);
    let path = segments(dir.path()).pop().unwrap();
    let (bytes, frames) = (fs::read(&path).unwrap(), frames_of(&path));
    // All that a client can know of a frame: not the mark. It claims to be a group far behind.
    let header = &bytes[frames[0] + frame::HEADER..];
    let head = frame::Head::decode(&frame::first(header), frame::first(header)).unwrap();
    let imitation = frame::Head { group: 1 << 40, ..head }.encode(*b"guessed!");
    let mut log = open(dir.path(), 0);
    log.append(&[Request::new(Form::Arrow, 1, imitation.to_vec().into(), None)]).pop().unwrap().unwrap();
    drop(log);
    let path = segments(dir.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(lines(&open(dir.path(), 0), 0), ["a.0"]);
}

#[test]
fn a_journal_that_does_not_fit_the_commit_records_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(refusal(dir.path(), 1).contains("has no segment"));
    let mut log = open(dir.path(), 0);
    append_many(&mut log, 20);
    log.release(10);
    drop(log);
    assert!(refusal(dir.path(), 21).contains("ends at offset 20"));
    assert!(refusal(dir.path(), 0).contains("begins at offset"));
    let other = Settings { dataset_id: "another".into(), ..settings(dir.path()) };
    let error = Log::open(Arc::new(Posix::unwaiting()), other, Some(20)).unwrap_err();
    assert!(error.kind() == ErrorKind::State && error.to_string().contains("belongs to the dataset"), "{error}");
    let segments = segments(dir.path());
    assert!(segments.len() > 2);
    fs::remove_file(&segments[1]).unwrap();
    assert!(refusal(dir.path(), 20).contains("missing"));
}

#[test]
fn a_segment_s_first_line_is_json_that_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), 0);
    let bytes = fs::read(&segments(dir.path())[0]).unwrap();
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap();
    let header: serde_json::Value = serde_json::from_slice(line).unwrap();
    let begun = serde_json::json!({"at_ms": 0, "wall_ms": 0, "boot": 0, "up_ms": 0});
    let expected = serde_json::json!({
        "version": 2, "dataset_id": DATASET, "segment": 1, "first_offset": 0, "previous": null,
        "running": header["running"], "copied": 0, "begun": begun
    });
    assert_eq!(header, expected);
}

#[test]
fn a_process_whose_journal_another_one_has_opened_or_somebody_replaced_accepts_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = open(dir.path(), 0);
    append_many(&mut first, 2);
    let mut second = open(dir.path(), 0);
    assert_eq!(append(&mut first, "late", 1, None), Err(AppendError::Stopped));
    assert_eq!(first.shared().stopped().unwrap().kind(), ErrorKind::TryAgain);
    assert_eq!(append(&mut second, "own", 1, None), receipt(2, 1));
    assert_eq!(lines(&second, 0), ["r0.0", "r1.0", "own.0"]);

    let (journal, taken) = (dir.path().join("journal"), dir.path().join("taken"));
    fs::rename(&journal, &taken).unwrap();
    fs::create_dir(&journal).unwrap();
    for path in segments_in(&taken) {
        fs::copy(&path, journal.join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(append(&mut second, "lost", 1, None), Err(AppendError::Stopped));
    assert_eq!(second.shared().stopped().unwrap().kind(), ErrorKind::State);
    assert_eq!(lines(&open(dir.path(), 0), 0), ["r0.0", "r1.0", "own.0"]);
}
