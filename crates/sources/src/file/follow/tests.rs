use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

use pintail_core::evidence::Key;
use pintail_core::offsets::{NoteKind, Offsets, Span};
use pintail_storage::durable::disk_state::DiskState;

use super::*;
use crate::file::Unread;
use crate::file::aside::Aside;
use crate::file::bodies::Bodies;
use crate::file::config::Copies;
use crate::file::discover::Patterns;
use crate::file::gone::Gone;
use crate::file::positions::Positions;
use crate::file::tests::gzip;
use crate::waiting::WaitingInputs;
use crate::{OnGap, Resume};

mod aside;

fn follow(directory: &Path, pattern: &str) -> Follow {
    follow_with(directory, pattern, usize::MAX)
}

fn follow_with(directory: &Path, pattern: &str, open_max: usize) -> Follow {
    let patterns =
        Patterns::parse(&[directory.join(pattern).display().to_string()], 10, &directory.join("out"), DiskState::default()).unwrap();
    let found = patterns.find(|_| false).unwrap();
    let resume = Resume { offsets: &Offsets::default(), key: &Key::new([7; 32]) };
    let files = Files {
        patterns,
        positions: Positions::new(&resume, 10).unwrap(),
        bodies: RefCell::new(Bodies::new(resume.key)),
        unsettled: None,
        gone: Gone::default(),
        touched: HashSet::new(),
        aside: Aside::new(WaitingInputs::default(), true),
        unread: Unread::default(),
        record_bytes_max: 100,
        on_gap: OnGap::Refuse,
        copies: Copies::Skip,
        pending: Vec::new(),
    };
    let config = FileConfig {
        paths: Vec::new(),
        follow: true,
        on_gap: OnGap::Refuse,
        poll_interval: Duration::ZERO,
        files_max: 10,
        open_max,
        copies: Copies::Skip,
        remember: Duration::ZERO,
        remember_max: 10,
    };
    Follow::start(files, &config, Behind::default(), found).unwrap()
}

/// Runs `body` where chunks are taken by nobody, but in order. Returns how many records were in them.
fn with_sender(body: impl FnOnce(&ChunkSender) + Send + 'static) -> usize {
    let (done, ended) = std::sync::mpsc::channel();
    let mut thread = crate::thread::ReadThread::spawn("test", move |sender| {
        body(sender);
        done.send(()).unwrap();
        Ok(())
    })
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut records = 0;
    while let Some(chunk) = runtime.block_on(thread.recv()).unwrap() {
        records += chunk.records();
    }
    ended.recv().expect("the body panicked");
    records
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
fn many_files_that_begin_alike_are_read_at_the_first_look_and_compared_with_those_that_may_be_the_same() {
    let header = format!("{}\n", "=".repeat(1500));
    for own in [|n: usize| format!("{n} is the number of this file\n"), |_| "\n".to_owned()] {
        let dir = tempfile::tempdir().unwrap();
        let header = header.clone();
        with_sender(move |sender| {
            let name = |n: usize| dir.path().join(format!("{n}.log"));
            (0..10).for_each(|n| fs::write(name(n), format!("{header}{}", own(n))).unwrap());
            let is_same = own(0) == own(1);
            let mut follow = follow(dir.path(), "*.log");
            // Of the same content one is read first, and what the others hold is passed over.
            assert_eq!(follow.tails.len(), if is_same { 1 } else { 10 });
            follow.read_round(sender).unwrap();
            follow.look_again().unwrap();
            assert_eq!((follow.tails.len(), follow.files.positions.iter().count()), (10, 10));
            let facts = follow.files.examine(&name(5), Name::Matches).unwrap().unwrap();
            assert!(facts.compared_with() <= if is_same { 9 } else { 1 }, "{}", facts.compared_with());
        });
    }
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
        let found = follow.files.find().unwrap();
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
    fs::write(&name, b"\x1f\x8b\x08half").unwrap();
    let mut follow = follow(dir.path(), "*.gz");
    fs::write(&name, b"\x1f\x8b\x08half and half").unwrap();
    follow.look_again().unwrap();
    assert_eq!(follow.ready.len(), 0);
    for _ in 0..3 {
        follow.look_again().unwrap();
        assert_eq!(follow.ready.len(), 1);
    }
    fs::write(&name, b"\x1f\x8b\x08another one, longer").unwrap();
    follow.look_again().unwrap();
    follow.look_again().unwrap();
    assert_eq!(follow.ready.len(), 2);
}

/// Follows a directory in which a file has vanished after it was read, and returns what it held.
fn vanished(directory: &Path, sender: &ChunkSender) -> (Follow, String) {
    let name = directory.join("a.log");
    let content = "0123456789abcde\n".repeat(200);
    fs::write(&name, &content).unwrap();
    let mut follow = follow(directory, "*.log");
    follow.read_round(sender).unwrap();
    fs::remove_file(&name).unwrap();
    follow.look_again().unwrap();
    follow.let_go(Instant::now() + QUIET, sender).unwrap();
    (follow, content)
}

/// Looks at a first part of a file that has vanished, which `written` may change before.
fn with_part_of_vanished(sender: &ChunkSender, directory: &Path, written: impl FnOnce(&Path)) -> Follow {
    let (mut follow, content) = vanished(directory, sender);
    let part = directory.join("b.log");
    fs::write(&part, &content[..1600]).unwrap();
    written(&part);
    follow.look_again().unwrap();
    follow
}

#[test]
fn what_begins_as_a_file_that_vanished_and_stays_shorter_is_read_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let mut follow = with_part_of_vanished(sender, dir.path(), |_| {});
        assert_eq!((follow.tails.len(), follow.parts.len()), (0, 1), "it may become the file that vanished");
        follow.parts.values_mut().for_each(|part| part.since -= QUIET);
        follow.look_again().unwrap();
        assert_eq!((follow.tails.len(), follow.parts.len()), (1, 0));
    });
}

#[test]
fn a_first_part_of_a_file_that_vanished_which_has_stood_still_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let long_ago = std::time::SystemTime::now() - QUIET;
        let stood_still = |part: &Path| File::options().write(true).open(part).unwrap().set_modified(long_ago).unwrap();
        let follow = with_part_of_vanished(sender, dir.path(), stood_still);
        assert_eq!((follow.tails.len(), follow.parts.len()), (1, 0));
    });
}

#[test]
fn on_a_full_disk_deleted_files_are_closed_that_are_committed_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let name = |name: &str| dir.path().join(name);
        let names = ["committed.log", "half.log", "read.log", "there.log"];
        names.iter().for_each(|of| fs::write(name(of), "1\n22\n").unwrap());
        let mut follow = follow(dir.path(), "*.log");
        follow.read_round(sender).unwrap();
        let at = |follow: &Follow, of: &str| {
            let known = follow.files.positions.iter().find(|known| known.partition.label.ends_with(of)).unwrap();
            (known.id().clone(), known.partition.label.clone())
        };
        let spans = [("committed.log", 5), ("half.log", 2), ("there.log", 5)].map(|(of, next)| {
            let (id, label) = at(&follow, of);
            (id, Span::standing(label, next, None))
        });
        follow.behind.commit(&Offsets::from_spans(spans));
        ["committed.log", "half.log", "read.log"].iter().for_each(|of| fs::remove_file(name(of)).unwrap());
        follow.look_again().unwrap();
        follow.close_committed();
        let open: Vec<_> = follow.tails.iter().map(|tail| tail.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(open, ["half.log", "read.log", "there.log"]);
        assert_eq!(follow.files.pending.len(), 1, "it is noted that the committed one vanished");
    });
}

/// Reads and looks for a while, and checks that no more than `open_max` files are open at any time.
fn settle(follow: &mut Follow, open_max: usize, sender: &ChunkSender) {
    for _ in 0..20 {
        follow.read_round(sender).unwrap();
        assert!(follow.tails.len() <= open_max, "{}", follow.tails.len());
        follow.look_again().unwrap();
    }
}

/// Returns how much is read of each file, by its name.
fn read_of(follow: &Follow) -> Vec<(String, u64)> {
    let name = |known: &Known| Path::new(&*known.partition.label).file_name().unwrap().to_str().unwrap().to_owned();
    let mut read: Vec<_> = follow.files.positions.iter().map(|known| (name(known), known.next)).collect();
    read.sort();
    read
}

#[test]
fn of_more_files_than_may_be_open_each_is_read_and_read_on() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let name = |n: usize| dir.path().join(format!("{n}.log"));
        (0..9).for_each(|n| fs::write(name(n), format!("{n}\n")).unwrap());
        fs::write(name(9), "").unwrap();
        let mut follow = follow_with(dir.path(), "*.log", 3);
        settle(&mut follow, 3, sender);
        assert_eq!(read_of(&follow), (0..9).map(|n| (format!("{n}.log"), 2)).collect::<Vec<_>>());
        (0..10).for_each(|n| fs::write(name(n), format!("{n}\nmore {n}\n")).unwrap());
        settle(&mut follow, 3, sender);
        assert_eq!(read_of(&follow), (0..10).map(|n| (format!("{n}.log"), 9)).collect::<Vec<_>>());
        assert!(follow.files.pending.is_empty() && !follow.has_room_for_waiting());
    });
}

/// When a copy gets another name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// At a look, after the names were looked at.
    Within,
    /// Between two looks.
    Between,
}

/// Cuts or rewrites a file of which a copy gets another name then. Returns how many records were read.
fn read_beside_a_copy((copy, lines): (&'static str, usize), open_max: usize, edit: fn(&Path), (rename, when): (fn(&Path), When)) -> usize {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let (name, copy) = (dir.path().join("app.log"), dir.path().join(copy));
        fs::write(&name, (0..lines).map(|n| format!("{n:015}\n")).collect::<String>()).unwrap();
        let mut follow = follow_with(dir.path(), "*.log*", open_max);
        settle(&mut follow, open_max, sender);
        fs::copy(&name, &copy).unwrap();
        settle(&mut follow, open_max, sender);
        edit(&name);
        follow.read_round(sender).unwrap();
        if when == When::Between {
            follow.look_again().unwrap();
        }
        let found = follow.files.find().unwrap();
        rename(&copy);
        if when == When::Within {
            follow.take_found(found, Vec::new()).unwrap();
        }
        settle(&mut follow, open_max, sender);
    })
}

#[test]
fn a_file_whose_copy_gets_another_name_before_it_is_compared_with_that_loses_and_doubles_nothing() {
    let cut = |path: &Path| File::options().write(true).open(path).unwrap().set_len(fs::metadata(path).unwrap().len() / 2).unwrap();
    let rewritten = |path: &Path| fs::write(path, "another line\nand another one\n").unwrap();
    let renamed = |path: &Path| fs::rename(path, path.with_extension("2")).unwrap();
    let compressed = |path: &Path| {
        fs::write(path.with_extension("1.gz"), gzip(&fs::read_to_string(path).unwrap())).unwrap();
        fs::remove_file(path).unwrap();
    };
    for how in [(renamed as fn(&Path), When::Within), (renamed, When::Between), (compressed, When::Within), (compressed, When::Between)] {
        for original @ (_, lines) in [("app.log.1", 6), ("app.log.1", 200), ("another.log.1", 200)] {
            // One that is not held open is missed under its name, one that is by its descriptor.
            assert_eq!(read_beside_a_copy(original, 1, cut, how), lines);
            assert_eq!(read_beside_a_copy(original, usize::MAX, cut, how), lines);
            assert_eq!(read_beside_a_copy(original, usize::MAX, rewritten, how), lines + 2);
        }
    }
}

#[test]
fn a_part_of_a_compressed_file_that_was_renamed_meanwhile_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let read = with_sender(move |sender| {
        let content = |lines: usize| (0..lines).map(|n| format!("{n:015}\n")).collect::<String>();
        fs::write(dir.path().join("a.gz"), gzip(&content(200))).unwrap();
        let mut follow = follow(dir.path(), "[a-z]*");
        settle(&mut follow, usize::MAX, sender);
        fs::rename(dir.path().join("a.gz"), dir.path().join("z.gz")).unwrap();
        fs::write(dir.path().join("b"), content(100)).unwrap();
        settle(&mut follow, usize::MAX, sender);
    });
    assert_eq!(read, 200);
}

#[test]
fn a_file_that_took_the_name_of_another_is_a_gap_though_a_third_could_not_be_compared_with_that_one_yet() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let name = |name: &str| dir.path().join(name);
        let content = |line: &str, lines: usize| format!("{}\n{}", "=".repeat(1500), format!("{line}\n").repeat(lines));
        fs::write(name("a.log"), content("a", 100)).unwrap();
        fs::write(name("b.log"), content("b", 50)).unwrap();
        let mut follow = follow_with(dir.path(), "*.log", 1);
        settle(&mut follow, 1, sender);
        fs::write(name("new"), content("new", 100)).unwrap();
        fs::rename(name("new"), name("a.log")).unwrap();
        fs::write(name("c.log"), content("b", 10)).unwrap();
        let found = follow.files.find().unwrap();
        fs::rename(name("b.log"), name("d.log")).unwrap();
        let mut looked = follow.take_found(found, Vec::new());
        for _ in 0..3 {
            looked = looked.and_then(|()| follow.look_again());
        }
        let refused = looked.unwrap_err().to_string();
        assert!(refused.contains("a.log` was replaced by other content"), "{refused}");
    });
}

#[test]
fn a_plain_file_in_the_place_of_a_compressed_one_that_was_read_is_compared_with_that() {
    let content = |lines: usize| (0..lines).map(|n| format!("{n:015}\n")).collect::<String>();
    for inode_stays in [false, true] {
        for moved in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let read = with_sender(move |sender| {
                let name = |name: &str| dir.path().join(name);
                fs::write(name("a.gz"), gzip(&content(200))).unwrap();
                let mut follow = follow(dir.path(), "*.gz");
                settle(&mut follow, usize::MAX, sender);
                match moved {
                    true => fs::rename(name("a.gz"), name("z.gz")).unwrap(),
                    false if inode_stays => {}
                    false => fs::remove_file(name("a.gz")).unwrap(),
                }
                fs::write(name("a.gz"), content(100)).unwrap();
                let looked = (0..5).try_for_each(|_| follow.look_again());
                if moved {
                    looked.unwrap();
                    settle(&mut follow, usize::MAX, sender);
                } else {
                    let refused = looked.unwrap_err().to_string();
                    assert!(refused.contains("a.gz` was truncated to 1600 bytes"), "{refused}");
                }
            });
            assert_eq!(read, 200);
        }
    }
}

#[test]
fn an_idle_file_that_is_rotated_is_read_on_and_one_that_is_deleted_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let name = |name: &str| dir.path().join(name);
        (0..6).for_each(|n| fs::write(name(&format!("{n}.log")), format!("{n}\n")).unwrap());
        let mut follow = follow_with(dir.path(), "*.log", 2);
        settle(&mut follow, 2, sender);
        let idle = |at: usize| (0..6).filter(|n| !follow.tails.iter().any(|tail| tail.path == name(&format!("{n}.log")))).nth(at).unwrap();
        let (rotated, deleted) = (format!("{}.log", idle(0)), format!("{}.log", idle(1)));
        fs::rename(name(&rotated), name(&format!("{rotated}.1"))).unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(name(&format!("{rotated}.1"))).unwrap();
        std::io::Write::write_all(&mut file, b"the last line before the rotation\n").unwrap();
        fs::remove_file(name(&deleted)).unwrap();
        follow.look_again().unwrap();
        assert!(!follow.files.pending.is_empty(), "the deleted one is noted");
        follow.read_round(sender).unwrap();
        let read = read_of(&follow);
        assert!(read.iter().any(|(name, next)| name.starts_with(&rotated) && *next == 36), "{read:?}");
        assert!(!read.iter().any(|(name, _)| *name == deleted), "{read:?}");
    });
}

#[test]
fn a_file_with_bytes_that_are_not_read_keeps_its_descriptor_and_others_wait_for_one() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let name = |name: &str| dir.path().join(name);
        fs::write(name("a.log"), "1\nunfinished").unwrap();
        fs::write(name("b.log"), "2\nunfinished").unwrap();
        fs::write(name("c.log"), "3\n").unwrap();
        let mut follow = follow_with(dir.path(), "*.log", 2);
        settle(&mut follow, 2, sender);
        assert_eq!(read_of(&follow), [("a.log".into(), 2), ("b.log".into(), 2)]);
        assert!(!follow.has_room_for_waiting());
        fs::remove_file(name("a.log")).unwrap();
        fs::write(name("b.log"), "2\nunfinished no more\n").unwrap();
        settle(&mut follow, 2, sender);
        assert_eq!(read_of(&follow), [("a.log".into(), 2), ("b.log".into(), 21), ("c.log".into(), 2)]);
        follow.let_go(Instant::now() + QUIET, sender).unwrap();
        assert_eq!(read_of(&follow), [("b.log".into(), 21), ("c.log".into(), 2)], "the deleted one is read to its last byte and noted");
    });
}

#[test]
fn an_empty_file_that_is_rotated_is_held_open_from_then_on_however_many_others_want_its_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let name = |name: &str| dir.path().join(name);
        fs::write(name("a.log"), "").unwrap();
        let mut follow = follow_with(dir.path(), "*.log", 2);
        settle(&mut follow, 2, sender);
        // It was opened long ago.
        follow.tails[0].last_read -= QUIET;
        fs::rename(name("a.log"), name("a.old")).unwrap();
        follow.look_again().unwrap();
        follow.let_go(Instant::now(), sender).unwrap();
        assert_eq!(follow.tails.len(), 1, "its writer has had no time to leave it");
        follow.tails[0].last_read -= QUIET / 2;
        (0..4).for_each(|n| fs::write(name(&format!("{n}.log")), format!("{n}\n")).unwrap());
        settle(&mut follow, 2, sender);
        fs::write(name("a.old"), "the last line of who had it open\n").unwrap();
        settle(&mut follow, 2, sender);
        let read = read_of(&follow);
        assert!(read.contains(&("a.old".into(), 33)) || read.contains(&("a.log".into(), 33)), "{read:?}");
        assert_eq!(read.len(), 5);
    });
}

#[test]
fn unread_bytes_of_a_file_are_counted_no_more_once() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        fs::write(dir.path().join("a.log"), "1\nunfinished").unwrap();
        let mut follow = follow(dir.path(), "*.log");
        follow.read_round(sender).unwrap();
        assert_eq!(follow.files.unread.get(), 12);
        // A copy is passed over, and then cannot be opened again: both end its count.
        for _ in 0..2 {
            follow.tails[0].forget_unread(&follow.files);
            assert_eq!(follow.files.unread.get(), 2, "what was handed on is taken off by who takes it");
        }
    });
}

/// Returns what follows a file that vanished after it was read, and the facts of that file come back.
fn returned(dir: &Path, sender: &ChunkSender) -> (Follow, Facts) {
    let (follow, content) = vanished(dir, sender);
    let back = dir.join("back.log");
    fs::write(&back, &content).unwrap();
    let facts = follow.files.examine(&back, Name::Matches).unwrap().unwrap();
    (follow, facts)
}

#[test]
fn a_file_that_is_back_and_cannot_be_read_for_a_moment_is_not_read_as_new() {
    let dir = tempfile::tempdir().unwrap();
    with_sender(move |sender| {
        let (mut follow, facts) = returned(dir.path(), sender);
        let (back, kept) = (dir.path().join("back.log"), dir.path().join("kept"));
        fs::rename(&back, &kept).unwrap();
        std::os::unix::fs::symlink("back.log", &back).unwrap();
        let starts = follow.files.decide(&mut [facts.closed()], &HashMap::new(), Holder::Wanted).unwrap();
        assert_eq!(starts, [Start::Aside]);
        fs::rename(&kept, &back).unwrap();
        let facts = follow.files.examine(&back, Name::Matches).unwrap().unwrap();
        let starts = follow.files.decide(&mut [facts], &HashMap::new(), Holder::Wanted).unwrap();
        let next = follow.files.positions.iter().map(|known| known.next).collect::<Vec<_>>();
        assert!(matches!(starts[..], [Start::At { .. }]) && next == [3200], "{starts:?} {next:?}");
    });
}
