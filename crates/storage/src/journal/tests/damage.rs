//! A journal that was changed at rest, and one that a crash has torn.

use super::open::check;
use super::opening::Opening;
use super::*;

/// Holds a journal against itself and a commit record, as a start does, and changes nothing.
fn look(dir: &Path, committed: &Committed) -> Result<()> {
    check(&Posix::default(), &settings(dir), committed)
}

/// Returns the position of each opening and frame of a segment, with the offset of the next record there.
fn items_of(path: &Path) -> Vec<(usize, u64)> {
    let mut frames = Frames::open(&Posix::default(), path.parent().unwrap(), DATASET, number(path).unwrap(), u64::MAX).unwrap();
    let (bytes, mark, mut offset) = (fs::read(path).unwrap(), frames.header.mark(), frames.header.first_offset);
    let mut items = Vec::new();
    let mut at = usize::try_from(frames.at()).unwrap();
    frames.extend(u64::MAX);
    while at < bytes.len() {
        items.push((at, offset));
        let header = frame::first(&bytes[at..]);
        at += match Opening::decode(&header, mark) {
            Ok(_) => frame::HEADER,
            Err(_) => {
                let head = frame::Head::decode(&header, mark).unwrap();
                offset += if head.holds_records() { head.records } else { 0 };
                usize::try_from(head.frame_bytes()).unwrap()
            }
        };
    }
    items
}

#[test]
fn a_tail_cut_anywhere_or_without_its_last_sectors_keeps_the_whole_groups_before_it_and_the_journal_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    log.append(&[request("a", 1, Some("a")), request("b", 1, None)]);
    log.append(&[request("c", 2, Some("c")), request("d", 100, None)]);
    drop(log);
    let path = segments(dir.path()).pop().unwrap();
    let (bytes, frames) = (fs::read(&path).unwrap(), frames_of(&path));
    for cut in frames[0]..bytes.len() {
        // A crash comes before the next group is begun.
        let end = if cut < frames[2] { frames[2] } else { bytes.len() };
        let sector = cut == frames[0] || cut == frames[2] || cut % 512 == 0;
        for zeros in if sector { vec![0, 1, end - cut] } else { vec![0] } {
            let torn = tempfile::tempdir().unwrap();
            fs::create_dir(torn.path().join("journal")).unwrap();
            let left = [&bytes[..cut], &vec![0; zeros]].concat();
            fs::write(torn.path().join("journal").join(path.file_name().unwrap()), left).unwrap();
            let mut log = open(torn.path(), 0);
            let kept: &[&str] = if cut < frames[2] { &[] } else { &["a.0", "b.0"] };
            assert_eq!(lines(&log, 0), kept, "cut at {cut}");
            let offset = kept.len() as u64;
            // Not remembered either: it was never answered.
            assert_eq!(append(&mut log, "c", 2, Some("c")), receipt(offset, 2));
            assert_eq!(lines(&open(torn.path(), 0), offset), ["c.0", "c.1"]);
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_refuses_the_start_naming_segment_and_offset_also_in_the_last_group() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    append_many(&mut log, 8);
    drop(log);
    let paths = segments(dir.path());
    assert_eq!(paths.len(), 2);
    for (path, newest) in [(&paths[0], false), (&paths[1], true)] {
        let (bytes, items) = (fs::read(path).unwrap(), items_of(path));
        // What is behind the older segment's records says that another one follows.
        let end = if newest { bytes.len() } else { bytes.len() - frame::HEADER };
        for at in 0..end {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            fs::write(path, flipped).unwrap();
            let message = refusal(dir.path(), 0);
            assert!(message.contains(&*path.display().to_string()), "{message}");
            if let Some((begin, offset)) = items.iter().rfind(|(begin, _)| *begin <= at) {
                let place = format!("at byte {begin} (offset {offset})");
                assert!(message.contains(&place), "{place} is not in: {message}");
            }
        }
        fs::write(path, &bytes).unwrap();
    }
    assert_eq!(lines(&open(dir.path(), 0), 0).len(), 8);
}

/// What is in the journals that are damaged: requests, each with its records and whether it has a key.
fn requests() -> Vec<Request> {
    let mut holes = vec![b'x'; 1_500];
    holes[100..1_400].fill(0);
    let arrow = |name: &str, body: Vec<u8>| Request::new(Form::Arrow, 2, body.into(), Some(name.as_bytes()));
    vec![request("a", 1, Some("a")), arrow("holes", holes), request("b", 3, None), arrow("zeros", vec![0; 700]), request("c", 1, Some("c"))]
}

/// Appends them, in groups of two.
fn fill(log: &mut Log) {
    for group in requests().chunks(2) {
        assert!(log.append(group).iter().all(Result::is_ok));
    }
}

/// Returns whether everything that was answered is there: the bodies, and for each key its answer.
fn holds_all(log: &mut Log) -> bool {
    let bodies: Vec<_> = read(log, 0).into_iter().map(|recorded| recorded.body).collect();
    let expected = requests();
    let end = log.shared().end();
    let mut offset = 0;
    let same = bodies.len() == expected.len() && bodies.iter().zip(&expected).all(|(body, request)| *body == request.body);
    same && expected.iter().filter(|request| request.key.is_some()).all(|request| log.append(std::slice::from_ref(request))[0].is_ok())
        && expected.iter().all(|request| {
            let answered = request.key.is_none() || log.append(std::slice::from_ref(request))[0] == receipt(offset, request.records);
            offset += request.records;
            answered
        })
        && log.shared().end() == end
}

/// Returns directories with journals as they may be left: killed in one segment, after a roll, in an orderly way, after a second start.
fn journals() -> Vec<(&'static str, tempfile::TempDir)> {
    ["one segment", "several", "closed", "copied", "copied and closed"]
        .map(|left| {
            let dir = tempfile::tempdir().unwrap();
            let large = Settings { segment_bytes: if left == "several" { 1000 } else { 100_000 }, ..settings(dir.path()) };
            let mut log = Log::open(Arc::new(Posix::unwaiting()), large, None).unwrap();
            fill(&mut log);
            if left.contains("copied") {
                drop(log);
                log = open(dir.path(), 0);
            }
            if left.contains("closed") {
                log.close();
            }
            (left, dir)
        })
        .into()
}

#[test]
fn a_changed_byte_anywhere_is_refused_or_was_never_answered() {
    let (mut refused, mut harmless) = (0, 0);
    for (left, dir) in journals() {
        for path in segments(dir.path()) {
            let bytes = fs::read(&path).unwrap();
            for at in 0..bytes.len() {
                for change in [|byte| byte ^ 1, |byte: u8| !byte] {
                    let mut damaged = bytes.clone();
                    damaged[at] = change(damaged[at]);
                    fs::write(&path, damaged).unwrap();
                    if let Err(error) = look(dir.path(), &Committed::default()) {
                        assert_eq!(error.kind(), ErrorKind::State, "{left}, byte {at}: {error}");
                        refused += 1;
                        continue;
                    }
                    let copied = copy(dir.path());
                    let mut log = open(copied.path(), 0);
                    assert!(holds_all(&mut log), "{left}: byte {at} of `{}` was dropped silently", path.display());
                    harmless += 1;
                }
            }
            fs::write(&path, bytes).unwrap();
        }
    }
    eprintln!("changed bytes: {refused} refused, {harmless} harmless");
    // Harmless is what stands behind the end of a segment: that another one follows.
    assert!(refused > 20_000 && harmless < refused / 20, "{refused}, {harmless}");
}

#[test]
fn an_end_that_is_missing_or_zeros_is_refused_where_a_commit_record_or_an_orderly_end_names_it() {
    let mut refused = 0;
    for (left, dir) in journals() {
        let newest = segments(dir.path()).pop().unwrap();
        let bytes = fs::read(&newest).unwrap();
        // As the last commit record says that everything up to the end was accepted, though not read.
        let at_end = {
            let copied = copy(dir.path());
            committed(&open(copied.path(), 0), 0, 0)
        };
        let place = format!("{}:{}", number(&newest).unwrap(), bytes.len());
        let evidence = Evidence { place: Some(place.into()), ..at_end.evidence.as_deref().cloned().unwrap() };
        let at_end = Committed { offset: Some(0), evidence: Some(Arc::new(evidence)) };
        for cut in (0..bytes.len()).step_by(2) {
            for zeros in [0, bytes.len() - cut] {
                let torn = [&bytes[..cut], &vec![0; zeros]].concat();
                if torn == bytes {
                    continue;
                }
                fs::write(&newest, torn).unwrap();
                let error = look(dir.path(), &at_end).expect_err("records up to the end were accepted");
                assert_eq!(error.kind(), ErrorKind::State, "{left}, {cut}: {error}");
                if left.starts_with("c") {
                    let known = look(dir.path(), &Committed::default());
                    assert!(known.is_err(), "{left}, cut at {cut}, {zeros} zeros");
                }
                refused += 1;
            }
        }
    }
    eprintln!("missing ends: {refused} refused");
    assert!(refused > 5_000, "{refused}");
}

#[test]
fn a_last_group_of_full_length_is_damaged_and_not_torn_and_says_that_a_repair_is_possible() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0);
    append(&mut log, "a", 7, None).unwrap();
    drop(log);
    let path = segments(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let message = refusal(dir.path(), 0);
    assert!(message.contains("written whole") && message.contains("pintail repair --journal"), "{message}");
}
