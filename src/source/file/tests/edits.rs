//! What others do to the files: each record is read once, or a gap is said.

use super::*;
use crate::evidence::Mark;
use crate::offsets::{OffsetRange, Partition};

/// Contents below and above what a file is recognized by.
const SIZES: [usize; 2] = [3, 300];

/// Reads in both modes what is there at the first start, lets `edit` have its way, and returns what the second start reads and notes.
async fn after(pattern: &str, size: usize, edit: impl Fn(&World)) -> Vec<(Vec<String>, Vec<NoteKind>)> {
    let mut both = Vec::new();
    for follow in [true, false] {
        let mut world = World::new(&[pattern]);
        world.config.follow = follow;
        world.write("app.log", numbered(0..size));
        let mut running = world.start();
        running.read(size).await;
        running.settle().await;
        world.commit(&running);
        drop(running);
        edit(&world);
        let mut running = world.start();
        running.settle().await;
        // A copy is noted again where its original was read on.
        let mut notes = running.notes();
        notes.dedup();
        both.push((running.lines.clone(), notes));
        world.commit(&running);
        drop(running);
        // Whatever it was, it is said once.
        let mut running = world.start();
        running.settle().await;
        assert_eq!((&running.lines[..], &running.notes()[..]), (&[][..], &[][..]), "at the third start");
    }
    both
}

fn lines(range: std::ops::Range<usize>) -> Vec<String> {
    numbered(range).lines().map(str::to_owned).collect()
}

fn copy(world: &World, from: &str, to: &str) {
    fs::copy(world.path(from), world.path(to)).unwrap();
}

fn remove(world: &World, name: &str) {
    fs::remove_file(world.path(name)).unwrap();
}

#[tokio::test]
async fn an_edit_that_loses_nothing_is_no_gap_and_each_line_is_read_once() {
    use NoteKind::{Copy, Moved};
    type Edit = (&'static str, fn(&World, &str), &'static [NoteKind]);
    let edits: [Edit; 12] = [
        ("append", |world, more| world.append("app.log", more), &[]),
        ("rename", |world, more| (world.append("app.log", more), world.rename("app.log", "app.log.1")).1, &[]),
        (
            "restore",
            |world, more| {
                world.append("app.log", more);
                copy(world, "app.log", "kept");
                remove(world, "app.log");
                world.rename("kept", "app.log");
            },
            &[Moved],
        ),
        (
            "restore under a rotated name",
            |world, more| {
                world.append("app.log", more);
                copy(world, "app.log", "app.log.2");
                remove(world, "app.log");
            },
            &[Moved],
        ),
        (
            "gzip",
            |world, more| {
                let content = fs::read_to_string(world.path("app.log")).unwrap() + more;
                world.write("app.log.1.gz", gzip(&content));
                remove(world, "app.log");
            },
            &[Moved],
        ),
        (
            "zstd, and the name taken again",
            |world, more| {
                let content = fs::read_to_string(world.path("app.log")).unwrap();
                world.write("app.log.1.zst", zstandard(&content));
                remove(world, "app.log");
                world.write("app.log", more);
            },
            &[Moved],
        ),
        (
            "rotation without compression",
            |world, more| {
                world.rename("app.log", "app.log.1");
                world.write("app.log", more);
            },
            &[],
        ),
        (
            "copy",
            |world, more| {
                world.append("app.log", more);
                copy(world, "app.log", "app.log.1");
            },
            &[Copy],
        ),
        (
            "copytruncate",
            |world, more| {
                copy(world, "app.log", "app.log.1");
                world.write("app.log", more);
            },
            &[Moved],
        ),
        (
            "a copy that is longer",
            |world, more| {
                copy(world, "app.log", "app.log.1");
                world.append("app.log.1", more);
            },
            &[Copy],
        ),
        (
            "saved by an editor",
            |world, more| {
                let content = fs::read_to_string(world.path("app.log")).unwrap();
                world.write("app.log~new", content + more);
                world.rename("app.log~new", "app.log");
            },
            &[Moved],
        ),
        (
            "hard link",
            |world, more| {
                fs::hard_link(world.path("app.log"), world.path("app.log.1")).unwrap();
                world.append("app.log", more);
            },
            &[],
        ),
    ];
    for size in SIZES {
        for (what, edit, notes) in &edits {
            let more = numbered(size..size + 2);
            for (read, noted) in after("app.log*", size, |world| edit(world, &more)).await {
                assert_eq!(read, lines(size..size + 2), "{what}, {size} lines");
                assert_eq!(noted, *notes, "{what}, {size} lines");
            }
        }
    }
}

#[tokio::test]
async fn unread_lines_are_found_under_a_name_that_does_not_match() {
    type Edit = (&'static str, fn(&World));
    let edits: [Edit; 3] = [
        ("renamed", |world| world.rename("app.log", "app.log.1")),
        ("copied away", |world| (copy(world, "app.log", "app.log-20260101"), remove(world, "app.log")).1),
        ("compressed", |world| {
            world.write("app.log.1.gz", gzip(&fs::read_to_string(world.path("app.log")).unwrap()));
            remove(world, "app.log");
        }),
    ];
    for size in SIZES {
        for (what, edit) in &edits {
            let read = after("app.log", size, |world| {
                world.append("app.log", &numbered(size..size + 2));
                edit(world);
                world.write("app.log", "new\n");
            });
            for (mut read, _) in read.await {
                read.sort_by_key(|line| line == "new");
                assert_eq!(read, [lines(size..size + 2), vec!["new".to_owned()]].concat(), "{what}, {size} lines");
            }
        }
    }
}

#[tokio::test]
async fn a_link_whose_target_was_rotated_beside_the_target_goes_on_there() {
    for follow in [true, false] {
        let mut world = World::new(&["app.log"]);
        world.config.follow = follow;
        fs::create_dir(world.path("store")).unwrap();
        world.write("store/real.log", "1\n");
        std::os::unix::fs::symlink("store/real.log", world.path("app.log")).unwrap();
        assert_eq!(world.follow(1).await, ["1"]);
        world.append("store/real.log", "2\n");
        world.rename("store/real.log", "store/real.log.1");
        world.write("store/real.log", "3\n");
        assert_eq!(world.follow(2).await, ["2", "3"]);
    }
}

#[tokio::test]
async fn content_that_was_changed_is_a_gap_however_it_begins() {
    type Edit = (&'static str, fn(&World));
    let edits: [Edit; 6] = [
        ("cut", |world| world.write("app.log", numbered(0..2))),
        ("rewritten with the same beginning", |world| {
            world.write("app.log", numbered(0..150) + &numbered(1000..1400));
        }),
        ("rewritten with another beginning", |world| world.write("app.log", numbered(1000..1400))),
        ("one byte changed before the offset", |world| {
            let mut content = fs::read(world.path("app.log")).unwrap();
            let last = content.len() - 2;
            content[last] = b'X';
            world.write("app.log", content);
        }),
        ("the first byte changed", |world| {
            let content = fs::read_to_string(world.path("app.log")).unwrap();
            world.write("app.log", content.replacen('{', "[", 1));
        }),
        ("edited, and put in its place", |world| {
            let content = fs::read_to_string(world.path("app.log")).unwrap();
            world.write(
                "tmp",
                content.lines().filter(|line| !line.contains(":200,")).map(|line| format!("{line}\n")).collect::<String>() + "more\n",
            );
            world.rename("tmp", "app.log");
        }),
    ];
    for (what, edit) in edits {
        for follow in [true, false] {
            let mut world = World::new(&["app.log"]);
            world.config.follow = follow;
            world.write("app.log", numbered(0..300));
            world.follow(300).await;
            edit(&world);
            let error = world.open().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::State, "{what}: {error}");
            for part in ["app.log", "on_gap", "--accept"] {
                assert!(error.to_string().contains(part), "{what}: {part} is missing: {error}");
            }
            world.config.on_gap = OnGap::Record;
            let mut running = world.start();
            running.settle().await;
            let content = fs::read_to_string(world.path("app.log")).unwrap();
            assert_eq!(running.lines.join("\n") + "\n", content, "{what}: it is read anew");
            assert_eq!(running.notes(), [NoteKind::Gap, NoteKind::Vanished], "{what}");
            world.commit(&running);
            assert_eq!(world.committed.spans().len(), 1, "{what}");
            world.config.on_gap = OnGap::Refuse;
            drop(running);
            world.start().is_silent().await;
        }
    }
}

#[tokio::test]
async fn a_file_first_seen_with_a_constant_line_is_no_other_that_begins_with_it() {
    for follow in [true, false] {
        let mut world = World::new(&["a.ndjson"]);
        world.config.follow = follow;
        world.write("a.ndjson", "{\"type\":\"open\"}\n");
        world.follow(1).await;
        world.append("a.ndjson", "{\"id\":1}\n{\"id\":2}\n");
        world.follow(2).await;
        world.write("a.ndjson", "{\"type\":\"open\"}\n{\"id\":11}\n{\"id\":12}\n{\"id\":13}\n");
        assert_eq!(world.open().unwrap_err().kind(), ErrorKind::State);
        // Deleted and made anew it is another file, and nothing is lost.
        let content = fs::read(world.path("a.ndjson")).unwrap();
        remove(&world, "a.ndjson");
        world.write("a.ndjson", content);
        assert_eq!(world.follow(4).await.len(), 4);
    }
}

#[tokio::test]
async fn a_running_file_that_is_rewritten_is_a_gap_also_with_its_old_length_and_beginning() {
    let old = numbered(0..300);
    for (what, new) in [
        ("same length", old.replace(":299,", ":XXX,")),
        ("same beginning, longer", numbered(0..100) + &numbered(1000..1400)),
        ("cut and regrown", numbered(2000..2400)),
        ("shorter", numbered(0..10)),
        ("another beginning alone, longer", old.replacen('{', "[", 1) + "more\n"),
    ] {
        let mut world = World::following(&["app.log"]);
        world.config.on_gap = OnGap::Record;
        world.write("app.log", &old);
        let mut running = world.start();
        running.read(300).await;
        running.is_silent().await;
        world.write("app.log", &new);
        running.settle().await;
        assert_eq!(running.lines[300..].join("\n") + "\n", new, "{what}");
        assert_eq!(running.notes(), [NoteKind::Gap, NoteKind::Vanished], "{what}");
    }
}

#[tokio::test]
async fn an_unfinished_line_that_is_written_anew_is_no_gap() {
    let world = World::following(&["app.log"]);
    world.write("app.log", "1\nunfini");
    let mut running = world.start();
    running.read(1).await;
    running.is_silent().await;
    world.write("app.log", "1\nanother\n");
    running.read(2).await;
    assert_eq!((running.lines[1].as_str(), &running.notes()[..]), ("another", &[][..]));
}

#[tokio::test]
async fn a_file_that_is_gone_with_bytes_that_were_seen_and_not_read_is_a_gap() {
    for follow in [true, false] {
        let mut world = World::following(&["*.log"]);
        world.write("a.log", "1\nunfinished");
        world.write("z.log", "9\n");
        world.follow(2).await;
        world.config.follow = follow;
        let inode = Inode::of(&fs::metadata(world.path("a.log")).unwrap());
        remove(&world, "a.log");
        // It often gets the inode of the one that was deleted, which must not hide that.
        for n in 0..20 {
            world.write(&format!("b{n}.log"), format!("new {n}\n"));
            if Inode::of(&fs::metadata(world.path(&format!("b{n}.log"))).unwrap()) == inode {
                break;
            }
        }
        let error = world.open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        assert!(
            error.to_string().contains("a.log") && error.to_string().contains("12 bytes") && error.to_string().contains("2 bytes"),
            "{error}"
        );
        world.config.on_gap = OnGap::Record;
        let mut running = world.start();
        running.settle().await;
        let lost: Vec<_> = running.offsets.notes().iter().map(|(_, note)| (note.kind, note.lost)).collect();
        assert_eq!(lost, [(NoteKind::Gap, Some(10)), (NoteKind::Vanished, None)]);
    }
}

#[tokio::test]
async fn a_file_that_comes_back_after_it_vanished_goes_on_where_it_was_if_it_is_long_enough_to_tell() {
    for size in SIZES {
        let (read, notes) = if size < 100 { (0, vec![]) } else { (size, vec![NoteKind::Returned]) };
        for (name, compress) in [("app.log", false), ("app.log.1", false), ("app.log.2.gz", true)] {
            let mut world = World::following(&["*.log*"]);
            world.write("app.log", numbered(0..size));
            world.write("z.log", "z\n");
            world.follow(size + 1).await;
            remove(&world, "app.log");
            let mut running = world.start();
            running.settle().await;
            assert_eq!(running.notes(), [NoteKind::Vanished]);
            world.commit(&running);
            drop(running);
            assert_eq!(world.committed.spans().len(), 1);
            let content = numbered(0..size + 2);
            world.write(name, if compress { gzip(&content) } else { content.into_bytes() });
            let mut running = world.start();
            running.settle().await;
            assert_eq!((running.lines.clone(), running.notes()), (lines(read..size + 2), notes.clone()), "{name}");
            world.commit(&running);
            drop(running);
            world.start().is_silent().await;
        }
    }
}

#[tokio::test]
async fn files_of_the_same_few_lines_under_unlike_names_are_both_read() {
    for follow in [true, false] {
        let mut world = World::new(&["*.json"]);
        world.config.follow = follow;
        world.write("batch-1.json", "{\"ok\":true}\n");
        world.write("batch-2.json", "{\"ok\":true}\n");
        assert_eq!(world.follow(2).await.len(), 2);
        world.write("batch-3.json", "{\"ok\":true}\n");
        assert_eq!(world.follow(1).await.len(), 1);
    }
}

#[tokio::test]
async fn a_copy_is_passed_over_also_at_the_first_start_unless_it_is_to_be_read() {
    for (follow, copies, expected) in
        [(true, Copies::Skip, 300), (false, Copies::Skip, 300), (true, Copies::Read, 600), (false, Copies::Read, 600)]
    {
        let mut world = World::new(&["*.log*"]);
        world.config.follow = follow;
        world.config.copies = copies;
        world.write("a.log", numbered(0..300));
        world.write("a.log.gz", gzip(&numbered(0..300)));
        let mut running = world.start();
        running.read(expected).await;
        running.settle().await;
        assert_eq!(running.lines.len(), expected, "{follow} {copies:?}");
    }
}

#[tokio::test]
async fn a_copy_that_is_made_while_both_are_followed_is_passed_over_and_its_own_lines_are_read() {
    let world = World::following(&["*.log"]);
    world.write("a.log", numbered(0..3000));
    let mut running = world.start();
    running.read(3000).await;
    // In portions, as `cp` writes it.
    let content = numbered(0..3000);
    world.write("b.log", &content[..4096]);
    running.is_silent().await;
    world.write("b.log", &content[..content.len() / 2]);
    running.is_silent().await;
    world.write("b.log", &content);
    running.is_silent().await;
    world.append("a.log", &numbered(3000..3010));
    running.read(3010).await;
    world.append("b.log", &numbered(3000..3010));
    running.is_silent().await;
    world.append("b.log", "own\n");
    running.read(3011).await;
    assert_eq!(running.lines[3010], "own");
    assert_eq!(running.source.remaining(), Some(0));
}

#[tokio::test]
async fn copytruncate_with_a_copy_that_matches_reads_each_line_once_while_it_runs() {
    for size in SIZES {
        let world = World::following(&["app.log*"]);
        world.write("app.log", numbered(0..size));
        let mut running = world.start();
        running.read(size).await;
        for round in 0..4 {
            let next = size + round * 7;
            copy(&world, "app.log", &format!("app.log.{round}"));
            if round % 2 == 1 {
                running.is_silent().await;
            }
            world.write("app.log", numbered(next..next + 7));
            running.read(next + 7).await;
            running.is_silent().await;
        }
        running.lines.sort_by_key(|line| line.split([':', ',']).nth(1).unwrap().parse::<usize>().unwrap());
        assert_eq!(running.lines, lines(0..size + 28), "{size}");
        assert!(!running.notes().contains(&NoteKind::Gap));
    }
}

#[tokio::test]
async fn a_followed_file_that_is_compressed_is_read_once_while_it_runs() {
    for size in SIZES {
        let world = World::following(&["app.log*"]);
        world.write("app.log", numbered(0..size));
        let mut running = world.start();
        running.read(size).await;
        world.rename("app.log", "app.log.1");
        world.write("app.log", numbered(size..size + 1));
        running.read(size + 1).await;
        world.write("app.log.1.gz", gzip(&numbered(0..size)));
        remove(&world, "app.log.1");
        running.is_silent().await;
        running.is_silent().await;
        assert!(running.notes().contains(&NoteKind::Moved) && running.source.remaining() == Some(0), "{:?}", running.notes());
    }
}

#[tokio::test]
async fn a_finished_archive_is_known_again_by_its_compressed_bytes_wherever_it_lies() {
    for name in ["a.gz", "b.gz"] {
        let mut world = World::new(&["*.gz"]);
        world.write("a.gz", gzip(&numbered(0..3000)));
        assert_eq!(world.run().await.len(), 3000);
        let evidence = world.committed.spans().next().unwrap().1.evidence.clone().unwrap();
        let archive = evidence.archive.as_ref().unwrap();
        assert_eq!(archive.bytes, fs::metadata(world.path("a.gz")).unwrap().len());
        copy(&world, "a.gz", "kept");
        remove(&world, "a.gz");
        world.rename("kept", name);
        // In the middle, where nothing looks: it is not decompressed.
        let mut content = fs::read(world.path(name)).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 0xff;
        world.write(name, content);
        let mut running = world.start();
        while running.step().await.unwrap() {}
        assert_eq!((running.lines.len(), running.notes()), (0, vec![NoteKind::Moved]));
    }
}

#[tokio::test]
async fn a_position_of_version_1_is_accepted_once_and_has_evidence_then() {
    for (follow, name, content) in [
        (true, "app.log", numbered(0..400).into_bytes()),
        (false, "app.log", numbered(0..400).into_bytes()),
        (false, "app.log.gz", gzip(&numbered(0..400))),
    ] {
        let mut world = World::new(&["app.log*"]);
        world.config.follow = follow;
        world.write(name, &content);
        let inode = Inode::of(&fs::metadata(world.path(name)).unwrap());
        let id = IdentityV1::id_of(inode, 0, &content[..500]);
        let partition = Arc::new(Partition { id: id.clone(), label: world.path(name).display().to_string().into() });
        let read = numbered(0..390).len() as u64;
        let mut offsets = Offsets::default();
        offsets.extend(&OffsetRange::new(partition, 0, read)).unwrap();
        world.committed = offsets.committed();
        let mut running = world.start();
        running.read(10).await;
        assert_eq!((running.lines.clone(), running.notes()), (lines(390..400), vec![NoteKind::Accepted]));
        running.settle().await;
        world.commit(&running);
        let evidence = world.committed.evidence(&id).unwrap();
        let key = Key::new([7; 32]);
        let whole = numbered(0..400).into_bytes();
        let expected: Vec<Mark> = [&whole[..1024], &whole[whole.len() - 1024..]].iter().map(|bytes| key.mark(&[bytes])).collect();
        assert_eq!(evidence.witnesses.iter().map(|witness| witness.mark).collect::<Vec<_>>(), expected);
        drop(running);
        world.start().is_silent().await;
    }
}

#[tokio::test]
async fn a_position_of_version_1_that_its_file_contradicts_is_a_gap() {
    for content in ["9\n8\n7\n", "1\n"] {
        let mut world = World::following(&["app.log"]);
        world.write("app.log", "1\n2\n");
        let inode = Inode::of(&fs::metadata(world.path("app.log")).unwrap());
        let id = IdentityV1::id_of(inode, 0, b"1\n2\n");
        let partition = Arc::new(Partition { id, label: world.path("app.log").display().to_string().into() });
        let mut offsets = Offsets::default();
        offsets.extend(&OffsetRange::new(partition, 0, 4)).unwrap();
        world.committed = offsets.committed();
        world.write("app.log", content);
        assert_eq!(world.open().unwrap_err().kind(), ErrorKind::State, "{content}");
    }
}

#[tokio::test]
async fn of_two_copies_of_a_rewritten_file_the_longer_one_is_read_on() {
    for follow in [true, false] {
        let mut world = World::new(&["app.log*"]);
        world.config.follow = follow;
        world.config.on_gap = OnGap::Record;
        world.write("app.log", numbered(0..30));
        world.write(".grown", numbered(0..50));
        world.rename(".grown", "app.log.3");
        let mut running = world.start();
        running.settle().await;
        assert_eq!(running.lines, lines(0..50));
        world.commit(&running);
        drop(running);
        world.write("app.log", "new\n");
        world.write("app.log.3.4", numbered(0..80));
        let mut running = world.start();
        running.settle().await;
        running.lines.sort_by_key(|line| line != "new");
        assert_eq!(running.lines, [vec!["new".to_owned()], lines(50..80)].concat(), "{follow}");
    }
}

#[tokio::test]
async fn what_two_copies_got_alike_before_they_parted_is_read_once() {
    for follow in [true, false] {
        let mut world = World::new(&["app.log*"]);
        world.config.follow = follow;
        world.write("app.log", numbered(0..100));
        world.write("app.log.2", numbered(0..100));
        let mut running = world.start();
        running.settle().await;
        assert_eq!(running.lines, lines(0..100));
        world.commit(&running);
        drop(running);
        world.append("app.log", &numbered(100..120));
        world.append("app.log.2", &numbered(100..120));
        world.append("app.log", &numbered(120..130));
        world.append("app.log.2", &numbered(130..140));
        let mut running = world.start();
        running.settle().await;
        running.lines.sort_by_key(|line| line.split([':', ',']).nth(1).unwrap().parse::<usize>().unwrap());
        assert_eq!(running.lines, lines(100..140), "{follow}");
    }
}
