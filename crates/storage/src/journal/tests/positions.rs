//! The journal and the commit records: one restored without the other, segments that are missing or there twice, another dataset's.

use super::*;

fn fill(log: &mut Log, from: u64, to: u64) {
    for n in from..to {
        assert_eq!(append(log, &format!("r{n}"), 1, (n % 3 == 0).then(|| format!("k{n}")).as_deref()), receipt(n, 1));
    }
}

fn refused(dir: &Path, committed: &Committed) -> String {
    let error = try_open_at(dir, committed).expect_err("it is not what the commit record names");
    assert_eq!(error.kind(), ErrorKind::State, "{error}");
    assert!(error.to_string().contains("pintail repair --journal"), "{error}");
    error.to_string()
}

#[test]
fn a_journal_is_the_one_that_the_commit_record_names_through_starts_rolls_releases_and_orderly_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    let (mut end, mut released, mut opened) = (0, 0, 0);
    for turn in 0..40 {
        fill(&mut log, end, end + turn % 5);
        end += turn % 5;
        // Committed up to anywhere, also to before the end.
        let records: Vec<_> = (released..=end).step_by(2).map(|offset| committed(&log, released, offset)).collect();
        if turn % 4 == 1 {
            log.close();
        }
        for record in &records {
            let copied = copy(dir.path());
            let log = try_open_at(copied.path(), record).unwrap_or_else(|error| panic!("turn {turn}: {error}"));
            assert_eq!(log.shared().end(), end);
            opened += 1;
        }
        if turn % 3 == 2 {
            released = released.max(end.saturating_sub(turn % 4));
            log.release(released);
            log = try_open_at(dir.path(), &committed(&log, released, released)).unwrap();
        }
    }
    assert!(opened > 100, "{opened}");
}

#[test]
fn a_record_in_the_middle_of_a_request_names_the_whole_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    append(&mut log, "a", 5, None).unwrap();
    append(&mut log, "b", 5, None).unwrap();
    let middle = committed(&log, 0, 2);
    assert_eq!(middle.evidence.as_ref().unwrap().witnesses.iter().map(|witness| witness.to).collect::<Vec<_>>(), [5, 10]);
    drop(log);
    assert_eq!(lines(&try_open_at(dir.path(), &middle).unwrap(), 2)[0], "a.2");
}

#[test]
fn an_older_journal_than_the_commit_record_is_refused_and_a_newer_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    fill(&mut log, 0, 6);
    let (old, old_record) = (copy(dir.path()), committed(&log, 0, 3));
    fill(&mut log, 6, 9);
    // Read and committed up to 3 still: what was accepted since is known all the same.
    let record = committed(&log, 0, 3);
    let message = refused(old.path(), &record);
    assert!(message.contains("up to offset 9"), "{message}");
    assert!(refused(old.path(), &committed(&log, 0, 8)).contains("committed up to 8") || !message.is_empty());
    drop(log);
    assert_eq!(lines(&try_open_at(dir.path(), &old_record).unwrap(), 3).len(), 6);
}

#[test]
fn an_older_journal_that_accepted_other_requests_since_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    fill(&mut log, 0, 6);
    let old = copy(dir.path());
    fill(&mut log, 6, 9);
    let record = committed(&log, 0, 8);
    let mut other = open(old.path(), 0);
    for n in 6..12 {
        append(&mut other, &format!("other{n}"), 1, None).unwrap();
    }
    drop(other);
    let message = refused(old.path(), &record);
    assert!(message.contains("something else at offset 7"), "{message}");
    // And a copy that goes on by itself is the same no more, also for its own records.
    let record = committed(&open(old.path(), 0), 0, 8);
    refused(dir.path(), &record);
}

#[test]
fn a_journal_of_another_dataset_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    fill(&mut log, 0, 6);
    let record = committed(&log, 0, 3);
    drop(log);
    let other = Settings { dataset_id: "another".into(), ..settings(dir.path()) };
    let error = Log::open(Arc::new(Posix::unwaiting()), other, record.clone()).unwrap_err();
    assert!(error.to_string().contains("belongs to the dataset"), "{error}");
    // The same id with another key: a copy of a dataset whose key was made anew.
    let other = Settings { key: Key::new([8; 32]), ..settings(dir.path()) };
    assert!(Log::open(Arc::new(Posix::unwaiting()), other, record).unwrap_err().to_string().contains("something else"));
}

#[test]
fn each_segment_that_is_missing_there_twice_or_in_anothers_place_is_refused_or_not_needed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    fill(&mut log, 0, 30);
    let record = committed(&log, 0, 0);
    drop(log);
    let paths = segments(dir.path());
    assert!(paths.len() > 5);
    let in_copy = |copied: &Path, path: &Path| copied.join("journal").join(path.file_name().unwrap());
    for (at, path) in paths.iter().enumerate() {
        let gone = copy(dir.path());
        fs::remove_file(in_copy(gone.path(), path)).unwrap();
        refused(gone.path(), &record);
        // Also without a commit record: one that is followed says so.
        refusal(gone.path(), 0);
        for (other, place) in paths.iter().enumerate() {
            let swapped = copy(dir.path());
            if other != at {
                fs::copy(path, in_copy(swapped.path(), place)).unwrap();
                refusal(swapped.path(), 0);
            }
        }
        let twice = copy(dir.path());
        fs::copy(path, twice.path().join("journal/0000000099.segment")).unwrap();
        refusal(twice.path(), 0);
    }
}

#[test]
fn a_journal_without_its_last_carried_keys_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    fill(&mut log, 0, 12);
    log.release(12);
    let record = committed(&log, 12, 12);
    drop(log);
    let path = segments(dir.path()).pop().unwrap();
    let (bytes, frames) = (fs::read(&path).unwrap(), frames_of(&path));
    fs::write(&path, &bytes[..frames[frames.len() - 2]]).unwrap();
    let message = refused(dir.path(), &record);
    assert!(message.contains("keys"), "{message}");
}

#[test]
fn no_segment_at_all_is_refused_once_a_commit_record_speaks_of_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let record = committed(&open(dir.path(), 0), 0, 0);
    fs::remove_dir_all(dir.path().join("journal")).unwrap();
    fs::remove_file(note::path(&settings(dir.path()))).unwrap();
    assert!(refused(dir.path(), &record).contains("has no segment"));
    try_open(dir.path(), 0).unwrap();
}
