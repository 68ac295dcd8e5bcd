//! Repairs: what is kept, what is said to be lost, and that the journal goes on.

use super::faults::Disk;
use super::repair::{Outcome, Repair, repair};
use super::*;

fn try_repair(dir: &Path, committed: &Committed) -> Result<Outcome> {
    repair(&Posix::default(), &settings(dir), committed)
}

fn repaired(dir: &Path, committed: &Committed) -> Repair {
    match try_repair(dir, committed).unwrap() {
        Outcome::Repaired(repair) => repair,
        Outcome::Sound => panic!("nothing was found"),
    }
}

fn at(offset: u64) -> Committed {
    Committed { offset: Some(offset), evidence: None }
}

/// Returns what is read from an offset on: each line, and each gap as its offsets.
fn lines_and_gaps(log: &Log, from: u64) -> Vec<String> {
    let mut all = Vec::new();
    let mut next = from;
    for recorded in read(log, from) {
        assert_eq!(recorded.offset + recorded.skip, next, "nothing is left out");
        next = recorded.end();
        let text = String::from_utf8(recorded.body.to_vec()).unwrap();
        all.extend(text.lines().skip(usize::try_from(recorded.skip).unwrap()).map(str::to_owned));
        all.extend(recorded.lost.map(|lost| format!("{}..{} {}", recorded.offset + recorded.skip, lost.to, lost.counted)));
    }
    assert_eq!(next, log.shared().end());
    all
}

/// Returns the lines of requests of one record, by their offsets.
fn requests(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!("r{n}.0")).collect()
}

/// Returns everything in the journal's directory.
fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    segments(dir).into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

#[test]
fn a_sound_journal_a_torn_one_and_none_are_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(try_repair(dir.path(), &Committed::default()), Ok(Outcome::Sound)));
    let mut log = open(dir.path(), 0);
    append_many(&mut log, 12);
    let record = committed(&log, 0, 7);
    drop(log);
    let newest = segments(dir.path()).pop().unwrap();
    let torn = fs::read(&newest).unwrap();
    for add in [0, 5] {
        fs::write(&newest, [&torn[..], &vec![0; add]].concat()).unwrap();
        let before = content(dir.path());
        assert!(matches!(try_repair(dir.path(), &record), Ok(Outcome::Sound)), "{add} more");
        assert_eq!(content(dir.path()), before);
    }
}

#[test]
fn a_journal_that_is_gone_before_the_first_commit_is_missed_and_goes_on_with_a_gap() {
    for directory in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), 0);
        append_many(&mut log, 12);
        drop(log);
        if directory {
            fs::remove_dir_all(dir.path().join("journal")).unwrap();
        } else {
            segments(dir.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
        }
        for _ in 0..2 {
            assert!(refusal(dir.path(), 0).contains("pintail repair --journal"));
        }
        let gap = repaired(dir.path(), &Committed::default()).gap().expect("something is lost");
        assert_eq!((gap.from, gap.counted), (0, false));
        let mut log = open(dir.path(), 0);
        assert_eq!(append(&mut log, "more", 1, None), receipt(gap.to, 1));
        assert_eq!(lines_and_gaps(&log, 0), [format!("0..{} false", gap.to), "more.0".into()]);
    }
}

#[test]
fn a_journal_of_an_older_version_is_noted_at_its_next_start() {
    let dir = tempfile::tempdir().unwrap();
    append_many(&mut open(dir.path(), 0), 3);
    fs::remove_file(note::path(&settings(dir.path()))).unwrap();
    assert_eq!(lines(&open(dir.path(), 0), 0).len(), 3);
    fs::remove_dir_all(dir.path().join("journal")).unwrap();
    refusal(dir.path(), 0);
}

#[test]
fn journals_that_lie_side_by_side_have_a_note_each() {
    let dir = tempfile::tempdir().unwrap();
    let named = |name: &str| Settings { dir: dir.path().join(name), ..settings(dir.path()) };
    for name in ["one", "two"] {
        append_many(&mut Log::open(Arc::new(Posix::unwaiting()), named(name), None).unwrap(), 3);
    }
    fs::remove_dir_all(dir.path().join("one")).unwrap();
    let refused = Log::open(Arc::new(Posix::unwaiting()), named("one"), None).unwrap_err();
    assert!(refused.to_string().contains("one.JOURNALED"), "{refused}");
    assert_eq!(lines(&Log::open(Arc::new(Posix::unwaiting()), named("two"), None).unwrap(), 0).len(), 3);
}

#[test]
fn a_journal_that_is_a_volume_in_a_directory_that_nobody_may_write_has_no_note() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("journal")).unwrap();
    let mut disk = Disk::new();
    Arc::get_mut(&mut disk).unwrap().read_only = Some(dir.path().to_owned());
    append_many(&mut Log::open(disk.clone(), settings(dir.path()), None).unwrap(), 3);
    assert!(!note::path(&settings(dir.path())).exists());
    assert_eq!(lines(&Log::open(disk, settings(dir.path()), None).unwrap(), 0).len(), 3);
}

#[test]
fn a_segment_of_which_nothing_is_left_may_have_held_requests() {
    for bytes in [0, 1, 50] {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), 0);
        append_many(&mut log, 12);
        drop(log);
        let newest = segments(dir.path()).pop().unwrap();
        fs::File::options().write(true).open(&newest).unwrap().set_len(bytes).unwrap();
        let refused = try_open_at(dir.path(), &at(0)).unwrap_err().to_string();
        assert!(refused.contains("pintail repair --journal"), "{bytes}: {refused}");
        let repair = repaired(dir.path(), &at(0));
        let gap = repair.gap().unwrap_or_else(|| panic!("{bytes}: nothing is said to be lost: {repair:?}"));
        assert_eq!((gap.from, gap.counted), (repair.kept_to, false), "{bytes}");
        assert_eq!(lines_and_gaps(&open(dir.path(), 0), 0).last(), Some(&format!("{}..{} false", gap.from, gap.to)));
    }
}

#[test]
fn a_damaged_byte_anywhere_costs_what_is_behind_it_and_the_rest_is_read_with_the_gap_named() {
    const REQUESTS: u64 = 12;
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    append_many(&mut log, REQUESTS);
    let records: Vec<_> = [0, 5, REQUESTS].map(|offset| committed(&log, 0, offset)).into();
    drop(log);
    let paths = segments(dir.path());
    assert!(paths.len() > 2);
    let mut repairs = 0;
    for (record, evidence) in records.iter().flat_map(|record| [(record, true), (record, false)]) {
        let next = record.offset.unwrap();
        let record = if evidence { record.clone() } else { at(next) };
        for path in &paths {
            for byte in (0..fs::metadata(path).unwrap().len()).step_by(41) {
                let copied = copy(dir.path());
                let path = copied.path().join("journal").join(path.file_name().unwrap());
                let mut bytes = fs::read(&path).unwrap();
                bytes[usize::try_from(byte).unwrap()] ^= 0x10;
                fs::write(&path, bytes).unwrap();
                if try_repair(copied.path(), &record).is_ok_and(|outcome| matches!(outcome, Outcome::Sound)) {
                    continue;
                }
                repairs += 1;
                let mut log = try_open_at(copied.path(), &record).unwrap();
                let end = log.shared().end();
                let read = lines_and_gaps(&log, next);
                let kept = read.iter().filter(|line| !line.contains("..")).count() as u64;
                let mut expected = requests(next..next + kept);
                // Offsets of what was accepted are not used again.
                assert!((REQUESTS..=REQUESTS + 1).contains(&end), "{end}");
                if next + kept < end {
                    expected.push(format!("{}..{end} {}", next + kept, read.last().unwrap().ends_with("true")));
                }
                assert_eq!(read, expected, "byte {byte} of `{}`", path.display());
                // It goes on, and a second start accepts it.
                assert_eq!(append(&mut log, "more", 2, Some("more")), receipt(end, 2));
                let later = committed(&log, next, end + 1);
                drop(log);
                assert!(matches!(try_repair(copied.path(), &later), Ok(Outcome::Sound)));
                let mut log = try_open_at(copied.path(), &later).unwrap();
                assert_eq!(lines(&log, end + 1), ["more.1"]);
                assert_eq!(append(&mut log, "more", 2, Some("more")), receipt(end, 2));
            }
        }
    }
    eprintln!("repairs: {repairs}");
    assert!(repairs > 300, "{repairs}");
}

#[test]
fn a_repair_names_the_offsets_the_requests_and_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    append_many(&mut log, 12);
    drop(log);
    let paths = segments(dir.path());
    // The last byte of the first record's body.
    let frames = frames_of(&paths[0]);
    let mut bytes = fs::read(&paths[0]).unwrap();
    bytes[frames[1] - 1] ^= 1;
    fs::write(&paths[0], bytes).unwrap();
    let repair = repaired(dir.path(), &at(0));
    assert!(repair.why.contains("offset 0"), "{}", repair.why);
    let expected = segment::Lost { from: 0, to: 12, counted: true };
    assert_eq!((repair.kept_to, repair.lost, repair.requests, repair.gap()), (0, expected, 12, Some(expected)));
    let header = u64::try_from(frames[0]).unwrap();
    let dropped: Vec<_> = paths.iter().enumerate().map(|(at, path)| (path.clone(), if at == 0 { header } else { 0 })).collect();
    assert_eq!(repair.dropped, dropped);
}

#[test]
fn what_is_damaged_below_the_committed_offset_costs_nothing_but_keys() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    append_many(&mut log, 12);
    let record = committed(&log, 0, 9);
    drop(log);
    let path = &segments(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[5] ^= 1;
    fs::write(path, bytes).unwrap();
    let repair = repaired(dir.path(), &record);
    assert_eq!((repair.gap(), repair.lost.from, repair.lost.to), (None, 12, 12));
    assert_eq!(lines_and_gaps(&try_open_at(dir.path(), &record).unwrap(), 9), requests(9..12));
}

#[test]
fn an_older_journal_is_taken_with_the_accepted_records_that_it_lacks_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    append_many(&mut log, 6);
    let old = copy(dir.path());
    for n in 6..12 {
        append(&mut log, &format!("r{n}"), 1, None).unwrap();
    }
    let (before, after) = (committed(&log, 0, 4), committed(&log, 0, 8));
    let copied = copy(old.path());
    let repair = repaired(copied.path(), &after);
    // How many were accepted after the commit record, it cannot say.
    let lost = |from| segment::Lost { from, to: 12, counted: false };
    // Those below the committed offset are in the output.
    assert_eq!((repair.lost, repair.gap()), (lost(6), Some(lost(8))));
    assert_eq!(repaired(old.path(), &before).gap(), Some(lost(6)));
    let log = try_open_at(old.path(), &before).unwrap();
    assert_eq!(lines_and_gaps(&log, 4), ["r4.0", "r5.0", "6..12 false"]);
}

#[test]
fn a_journal_with_another_history_is_given_up_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    append_many(&mut log, 6);
    let record = committed(&log, 0, 4);
    let other = tempfile::tempdir().unwrap();
    let mut log = open(other.path(), 0);
    for n in 0..9 {
        append(&mut log, &format!("other{n}"), 1, None).unwrap();
    }
    drop(log);
    let lost = segment::Lost { from: 4, to: 9, counted: true };
    assert_eq!(repaired(other.path(), &record).gap(), Some(lost));
    assert_eq!(lines_and_gaps(&try_open_at(other.path(), &record).unwrap(), 4), ["4..9 true"]);
}

#[test]
fn segments_that_are_missing_leave_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    append_many(&mut log, 20);
    let record = committed(&log, 0, 2);
    drop(log);
    let paths = segments(dir.path());
    for missing in 0..paths.len() {
        for record in [record.clone(), at(2)] {
            let copied = copy(dir.path());
            fs::remove_file(copied.path().join("journal").join(paths[missing].file_name().unwrap())).unwrap();
            repaired(copied.path(), &record);
            let log = try_open_at(copied.path(), &record).unwrap();
            let read = lines_and_gaps(&log, 2);
            let end = log.shared().end();
            let kept = read.len() as u64 - 1;
            let counted = read.last().unwrap().ends_with("true");
            assert_eq!(read, [requests(2..2 + kept), vec![format!("{}..{end} {counted}", 2 + kept)]].concat(), "without {missing}");
            assert!(counted || missing + 1 == paths.len(), "{read:?}");
            assert!(end == 20 || !counted, "{end}");
        }
    }
}

#[test]
fn a_journal_that_is_gone_begins_anew_behind_what_was_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    append_many(&mut log, 6);
    let record = committed(&log, 0, 4);
    drop(log);
    fs::remove_dir_all(dir.path().join("journal")).unwrap();
    repaired(dir.path(), &record);
    let mut log = try_open_at(dir.path(), &record).unwrap();
    assert_eq!(lines_and_gaps(&log, 4), ["4..6 false"]);
    assert_eq!(append(&mut log, "more", 1, None), receipt(6, 1));
}

#[test]
fn another_datasets_journal_and_a_newer_pintails_are_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    append_many(&mut open(dir.path(), 0), 6);
    let before = content(dir.path());
    let other = Settings { dataset_id: "another".into(), ..settings(dir.path()) };
    let error = repair(&Posix::default(), &other, &at(0)).unwrap_err();
    assert!(error.to_string().contains("belongs to the dataset"), "{error}");
    assert_eq!(content(dir.path()), before);
    let path = &segments(dir.path())[0];
    let text = fs::read(path).unwrap();
    let line = text.split(|byte| *byte == b'\n').next().unwrap();
    let mut header: serde_json::Value = serde_json::from_slice(line).unwrap();
    header["version"] = 3.into();
    fs::write(path, crate::checkpoint::sealed::seal(&header).0).unwrap();
    let before = content(dir.path());
    let error = try_repair(dir.path(), &at(0)).unwrap_err();
    assert!(error.to_string().contains("version 3"), "{error}");
    assert_eq!(content(dir.path()), before);
}
