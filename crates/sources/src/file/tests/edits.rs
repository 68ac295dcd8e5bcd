//! What others do to the files: each record is read once, or a gap is said.

use super::*;

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

/// Returns what `app.log` holds, with another line or none in the place of one.
fn edited(world: &World, at: usize, line: Option<&str>) -> String {
    let content = fs::read_to_string(world.path("app.log")).unwrap();
    let lines = content.split_inclusive('\n').enumerate();
    lines.map(|(n, old)| if n == at { line.unwrap_or_default() } else { old }).collect()
}

/// Puts another file in the place of `app.log`, as editors and exports do.
fn put(world: &World, content: &str) {
    world.write("tmp", content);
    world.rename("tmp", "app.log");
}

#[tokio::test]
async fn content_that_was_changed_is_a_gap_however_it_begins() {
    type Edit = (&'static str, fn(&World));
    let edits: [Edit; 10] = [
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
        ("edited, and put in its place", |world| put(world, &(edited(world, 200, None) + "more\n"))),
        ("the first line taken out, and put in its place", |world| put(world, &(edited(world, 0, None) + "more\n"))),
        ("the first line changed, and put in its place", |world| put(world, &edited(world, 0, Some("[another one]\n")))),
        ("a line put before all others, and put in its place", |world| {
            put(world, &("first\n".to_owned() + &edited(world, 0, Some("zero\n"))));
        }),
        ("the end cut off, and put in its place", |world| put(world, &numbered(0..200))),
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

/// Follows a file of 300 lines until it is read.
async fn followed(content: &str) -> (World, Running) {
    let mut world = World::following(&["app.log"]);
    world.config.on_gap = OnGap::Record;
    world.write("app.log", content);
    let mut running = world.start();
    running.read(300).await;
    running.is_silent().await;
    (world, running)
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
        let (world, mut running) = followed(&old).await;
        world.write("app.log", &new);
        running.settle().await;
        assert_eq!(running.lines[300..].join("\n") + "\n", new, "{what}");
        assert_eq!(running.notes(), [NoteKind::Gap, NoteKind::Vanished], "{what}");
    }
}

#[tokio::test]
async fn a_running_file_that_is_edited_between_its_ends_is_a_gap_and_one_that_is_written_as_it_was_is_none() {
    let old = numbered(0..300);
    for (new, is_edited) in [(old.replace(":150,", ":XXX,"), true), (old.clone(), false)] {
        let (world, mut running) = followed(&old).await;
        OpenOptions::new().write(true).open(world.path("app.log")).unwrap().write_all(new.as_bytes()).unwrap();
        if is_edited {
            running.read(600).await;
        } else {
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        running.settle().await;
        let expected = if is_edited { &new } else { "" };
        assert_eq!(running.lines[300..].iter().map(|line| format!("{line}\n")).collect::<String>(), expected);
        assert_eq!(running.notes().contains(&NoteKind::Gap), is_edited, "{:?}", running.notes());
        world.append("app.log", "more\n");
        let lines = running.lines.len() + 1;
        running.read(lines).await;
        running.is_silent().await;
        assert_eq!(running.lines.last().unwrap(), "more");
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
async fn a_running_file_that_an_editor_saves_is_a_gap_and_is_said_at_once() {
    for on_gap in [OnGap::Refuse, OnGap::Record] {
        let mut world = World::following(&["app.log"]);
        world.config.on_gap = on_gap;
        world.write("app.log", numbered(0..300));
        let mut running = world.start();
        running.read(300).await;
        let new = edited(&world, 0, Some("[another one]\n")) + "more\n";
        put(&world, &new);
        if on_gap == OnGap::Refuse {
            assert_eq!(running.failure().await.kind(), ErrorKind::State);
            continue;
        }
        running.settle().await;
        assert_eq!(running.lines[300..].join("\n") + "\n", new, "it is read anew");
        assert_eq!((running.notes(), running.source.remaining()), (vec![NoteKind::Gap, NoteKind::Vanished], Some(0)));
        world.commit(&running);
        drop(running);
        world.append("app.log", "4\n");
        assert_eq!(world.follow(1).await, ["4"]);
    }
}

#[tokio::test]
async fn another_file_under_the_name_of_one_that_was_read_and_is_gone_is_read_and_the_loss_is_said() {
    for (size, follow) in [(3, true), (3, false), (300, true), (300, false)] {
        let mut world = World::new(&["app.log"]);
        world.config.follow = follow;
        world.write("app.log", numbered(0..size));
        world.follow(size).await;
        put(&world, &numbered(1000..1000 + size));
        let mut running = world.start();
        running.settle().await;
        assert_eq!((running.lines.clone(), running.notes()), (lines(1000..1000 + size), vec![NoteKind::Vanished]), "{size}");
        let text = running.offsets.notes()[0].1.text.clone();
        assert!(text.contains("app.log") && text.contains(&format!("{} bytes", numbered(1000..1000 + size).len())), "{text}");
        world.commit(&running);
        assert_eq!(world.committed.spans().len(), 1);
    }
}

#[tokio::test]
async fn a_file_deleted_by_its_rotation_is_read_on_while_its_writer_has_it_open() {
    let world = World::following(&["app.log"]);
    let mut writer = File::create(world.path("app.log")).unwrap();
    writer.write_all(numbered(0..300).as_bytes()).unwrap();
    let mut running = world.start();
    running.read(300).await;
    put(&world, "new\n");
    running.read(301).await;
    writer.write_all(b"late\n").unwrap();
    running.read(302).await;
    world.append("app.log", "newer\n");
    running.read(303).await;
    running.is_silent().await;
    assert_eq!((&running.lines[300..], &running.notes()[..]), (&["new", "late", "newer"].map(str::to_owned)[..], &[][..]));
}

#[tokio::test]
async fn a_compressed_file_that_is_written_again_while_it_runs_is_a_gap() {
    for (name, compress) in [("app.log.gz", gzip as fn(&str) -> Vec<u8>), ("app.log.zst", zstandard as fn(&str) -> Vec<u8>)] {
        let mut world = World::following(&["*.log*"]);
        world.config.on_gap = OnGap::Record;
        world.write(name, compress(&numbered(0..300)));
        let mut running = world.start();
        running.read(300).await;
        running.settle().await;
        world.write(name, compress(&numbered(1000..1400)));
        running.read(700).await;
        running.settle().await;
        assert_eq!(
            (running.lines[300..].to_vec(), running.notes()),
            (lines(1000..1400), vec![NoteKind::Gap, NoteKind::Vanished]),
            "{name}"
        );
        world.commit(&running);
        drop(running);
        world.config.on_gap = OnGap::Refuse;
        world.start().is_silent().await;
    }
}

#[tokio::test]
async fn a_compressed_file_that_is_new_while_another_one_is_searched_for_is_read() {
    for _ in 0..5 {
        let world = World::following(&["app.log*"]);
        world.write("app.log", "1\n");
        let mut running = world.start();
        running.read(1).await;
        world.rename("app.log", "app.log.1");
        world.write("app.log.1.gz", gzip("1\n"));
        world.write("app.log.2.gz", gzip("2\n"));
        remove(&world, "app.log.1");
        world.write("app.log", "3\n");
        running.read(3).await;
        running.is_silent().await;
        running.lines.sort();
        assert_eq!(running.lines, ["1", "2", "3"]);
    }
}

#[tokio::test]
async fn an_edited_file_is_a_gap_also_where_a_copy_holds_what_was_read_of_it() {
    for follow in [true, false] {
        let mut world = World::new(&["*.log*"]);
        world.config.follow = follow;
        world.config.on_gap = OnGap::Record;
        world.write("app.log", numbered(0..300));
        copy(&world, "app.log", "app.log.1");
        world.follow(300).await;
        let edited = numbered(0..300).replace("{\"n\":150,", "{\"n\":7150,");
        world.write("app.log", &edited);
        let mut running = world.start();
        running.settle().await;
        assert!(running.notes().contains(&NoteKind::Gap), "{follow} {:?}", running.notes());
    }
}
