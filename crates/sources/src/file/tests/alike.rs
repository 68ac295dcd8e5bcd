//! Files that begin and end alike and are not the same: each is read.

use super::*;

/// A KiB and more that all files begin with, lines of their own, and a KiB and more that all end with.
fn alike(own: std::ops::Range<usize>) -> String {
    let frame = |name: &str| format!("{name}{}\n", "=".repeat(700)).repeat(3);
    frame("banner") + &numbered(own) + &frame("trailer")
}

/// The lines of `own` among all that was read.
fn own(lines: &[String]) -> Vec<String> {
    lines.iter().filter(|line| line.starts_with('{')).cloned().collect()
}

/// Returns what is read in both modes after `edit`, `a.log` having been read, and whether a gap was noted.
async fn after(edit: impl Fn(&World)) -> Vec<(Vec<String>, bool)> {
    let mut both = Vec::new();
    for follow in [true, false] {
        let mut world = World::new(&["*"]);
        world.config.follow = follow;
        world.config.on_gap = OnGap::Record;
        world.write("a.log", alike(0..50));
        world.write("z", "z\n");
        let mut running = world.start();
        running.read(57).await;
        world.commit(&running);
        drop(running);
        edit(&world);
        let mut running = world.start();
        running.settle().await;
        let gap = running.notes().contains(&NoteKind::Gap);
        both.push((own(&running.lines), gap));
        world.commit(&running);
        drop(running);
        let mut running = world.start();
        running.settle().await;
        assert_eq!((own(&running.lines), running.notes()), (vec![], vec![]), "at the third start, {follow}");
    }
    both
}

#[tokio::test]
async fn files_with_equal_ends_are_read_each_however_they_are_compressed() {
    for follow in [true, false] {
        let mut world = World::new(&["*"]);
        world.config.follow = follow;
        for n in 0..10 {
            let content = alike(n * 20..n * 20 + 20);
            match n % 3 {
                0 => world.write(&format!("{n}.log"), content),
                1 => world.write(&format!("{n}.gz"), gzip(&content)),
                _ => world.write(&format!("{n}.zst"), zstandard(&content)),
            }
        }
        let mut running = world.start();
        running.settle().await;
        running.settle().await;
        let mut read = own(&running.lines);
        read.sort_by_key(|line| line.split([':', ',']).nth(1).unwrap().parse::<usize>().unwrap());
        assert_eq!(read, lines(0..200), "{follow}");
    }
}

#[tokio::test]
async fn another_file_that_begins_and_ends_as_one_that_was_read_is_read_wherever_that_one_is() {
    type Edit = (&'static str, fn(&World));
    let edits: [Edit; 7] = [
        ("as the successor of an archive", |world| {
            world.write("a.log.1.gz", gzip(&alike(0..50)));
            remove(world, "a.log");
            world.write("a.log", alike(50..100));
        }),
        ("beside it", |world| world.write("b.log", alike(50..100))),
        ("compressed beside it", |world| world.write("b.gz", gzip(&alike(50..100)))),
        ("in its stead", |world| (remove(world, "a.log"), world.write("b.log", alike(50..100))).1),
        ("compressed in its stead", |world| (remove(world, "a.log"), world.write("b.zst", zstandard(&alike(50..100)))).1),
        ("as its successor", |world| (world.rename("a.log", "a.log.1"), world.write("a.log", alike(50..100))).1),
        ("shorter, beside it", |world| world.write("b.log", &alike(50..100).into_bytes()[..2500 + 50 * 10])),
    ];
    for (what, edit) in edits {
        for (read, gap) in after(edit).await {
            let expected = lines(50..100);
            let whole = what != "shorter, beside it";
            assert!(!gap && !read.is_empty() && read[..] == expected[..read.len()], "{what}: {read:?}");
            assert!(!whole || read.len() == 50, "{what}: {} lines", read.len());
        }
    }
}

#[tokio::test]
async fn a_file_that_was_put_in_the_place_of_one_with_equal_ends_is_a_gap_and_is_read() {
    let replaced = after(|world| (world.write("new", alike(50..100)), world.rename("new", "a.log")).1).await;
    assert_eq!(replaced, [(lines(50..100), true), (lines(50..100), true)]);
}

#[tokio::test]
async fn a_copy_a_restored_file_and_an_archive_of_the_same_content_are_still_known() {
    type Edit = (&'static str, fn(&World));
    let edits: [Edit; 4] = [
        ("copied", |world| copy(world, "a.log", "b.log")),
        ("restored", |world| (copy(world, "a.log", "b"), world.rename("b", "a.log")).1),
        ("compressed", |world| (world.write("a.log.gz", gzip(&alike(0..50))), remove(world, "a.log")).1),
        ("compressed beside it", |world| world.write("a.log.gz", gzip(&alike(0..50)))),
    ];
    for (what, edit) in edits {
        assert_eq!(after(edit).await, [(vec![], false), (vec![], false)], "{what}");
    }
}

#[tokio::test]
async fn files_that_begin_alike_and_vanished_are_told_apart_when_they_come_back() {
    for follow in [true, false] {
        let mut world = World::new(&["*"]);
        world.config.follow = follow;
        world.write("z", "z\n");
        for n in 0..4 {
            world.write(&format!("{n}.log"), alike(n * 20..n * 20 + 20));
        }
        let mut running = world.start();
        running.settle().await;
        assert_eq!(own(&running.lines).len(), 80);
        world.commit(&running);
        drop(running);
        (0..4).for_each(|n| remove(&world, &format!("{n}.log")));
        let mut running = world.start();
        running.settle().await;
        world.commit(&running);
        drop(running);
        assert_eq!(world.committed.remembered().len(), 4);
        (0..4).for_each(|n| world.write(&format!("{n}.log"), alike(n * 20..n * 20 + 20)));
        world.write("new.log", alike(100..120));
        let mut running = world.start();
        running.settle().await;
        assert_eq!(own(&running.lines), lines(100..120), "{follow}");
    }
}

#[tokio::test]
async fn what_an_earlier_version_read_gets_a_body_once_more_is_read() {
    let mut world = World::following(&["*"]);
    world.write("a.log", alike(0..50));
    world.follow(56).await;
    let body = |world: &World| world.committed.spans().next().unwrap().1.evidence.as_ref().unwrap().body;
    let read = body(&world);
    let spans = world.committed.spans().map(|(id, span)| {
        let evidence =
            span.evidence.as_deref().map(|evidence| Arc::new(pintail_core::evidence::Evidence { body: None, ..evidence.clone() }));
        (id.clone(), pintail_core::offsets::Span { evidence, ..span.clone() })
    });
    world.committed = Offsets::from_spans(spans.collect::<Vec<_>>());
    world.append("a.log", "more\n");
    world.follow(1).await;
    assert!(read.is_some());
    let mut whole = pintail_core::evidence::Body::new(&Key::new([7; 32]));
    whole.push(&fs::read(world.path("a.log")).unwrap());
    assert_eq!(body(&world), whole.mark());
}

#[tokio::test]
async fn a_successor_whose_first_line_only_ends_as_that_of_the_archived_file_is_new() {
    let line = |n: usize| format!("{{\"n\":{n},\"text\":\"{}\"}}\n", "=".repeat(1500));
    for follow in [true, false] {
        let mut world = World::new(&["*"]);
        world.config.follow = follow;
        world.write("a.log", line(10));
        world.follow(1).await;
        world.write("a.log.1.gz", gzip(&(line(10) + "last\n")));
        remove(&world, "a.log");
        world.write("a.log", line(11) + "first\n");
        let mut running = world.start();
        running.settle().await;
        running.lines.sort();
        assert_eq!(running.lines, ["first", "last", "too long: 1518"], "{follow}");
        // A copy, and most of its lines left in its place: nobody can tell that from an edit.
        world.commit(&running);
        drop(running);
        world.append("a.log", "second\n");
        assert_eq!(world.follow(1).await, ["second"]);
        world.write("b.log", line(11) + "first\nsecond\n");
        remove(&world, "a.log");
        world.write("a.log", line(11) + "first\nthird\n");
        assert_eq!(world.open().unwrap_err().kind(), ErrorKind::State, "{follow}");
    }
}

#[tokio::test]
async fn a_file_that_grew_beyond_its_copy_and_comes_back_is_not_read_again_from_where_the_copy_ends() {
    for name in ["a.log", "a.log.gz"] {
        let mut world = World::following(&["*"]);
        world.write("a.log", numbered(0..300));
        let mut running = world.start();
        running.read(300).await;
        copy(&world, "a.log", "b.log");
        running.is_silent().await;
        world.append("a.log", &numbered(300..400));
        running.read(400).await;
        world.commit(&running);
        drop(running);
        remove(&world, "a.log");
        let mut running = world.start();
        running.settle().await;
        world.commit(&running);
        drop(running);
        let content = numbered(0..410);
        world.write(name, if name == "a.log" { content.into_bytes() } else { gzip(&content) });
        let mut running = world.start();
        running.settle().await;
        assert_eq!(running.lines, lines(400..410), "{name}");
    }
}

#[tokio::test]
async fn a_file_that_is_cut_beside_a_copy_of_itself_is_not_read_again() {
    for (size, left) in [(300, 200), (300, 2), (10, 4)] {
        for (name, compress) in [("b.log", false), ("a.log.gz", true)] {
            for follow in [true, false] {
                let mut world = World::new(&["*"]);
                world.config.follow = follow;
                world.config.on_gap = OnGap::Record;
                world.write("a.log", numbered(0..size));
                world.follow(size).await;
                let content = numbered(0..size);
                world.write(name, if compress { gzip(&content) } else { content.into_bytes() });
                File::options().write(true).open(world.path("a.log")).unwrap().set_len(numbered(0..left).len() as u64).unwrap();
                let mut running = world.start();
                running.settle().await;
                // A few lines under unlike names are no copy: it was cut.
                let is_cut = size == 10 && name == "b.log";
                let expected = (if is_cut { size + left } else { 0 }, is_cut);
                assert_eq!((running.lines.len(), running.notes().contains(&NoteKind::Gap)), expected, "{size} {left} {name} {follow}");
            }
        }
    }
}

#[tokio::test]
async fn files_that_begin_alike_and_change_places_by_copies_go_on_each() {
    for follow in [true, false] {
        let mut world = World::new(&["*"]);
        world.config.follow = follow;
        let content = [alike(0..20), alike(20..40)];
        ["a.log", "b.log"].iter().zip(&content).for_each(|(name, content)| world.write(name, content));
        let mut running = world.start();
        running.settle().await;
        assert_eq!(own(&running.lines).len(), 40);
        world.commit(&running);
        drop(running);
        for (name, content) in ["b.log", "a.log"].iter().zip(&content) {
            world.write("new", format!("{content}more\n"));
            world.rename("new", name);
        }
        let mut running = world.start();
        running.settle().await;
        assert_eq!(running.lines, ["more", "more"], "{follow}");
    }
}

#[tokio::test]
async fn a_cut_file_that_has_another_name_and_place_is_a_part_of_the_one_that_holds_all() {
    for follow in [true, false] {
        let mut world = World::new(&["*"]);
        world.config.follow = follow;
        world.write("a.log", numbered(0..300));
        world.follow(300).await;
        world.write("b.gz", gzip(&numbered(0..301)));
        world.write("c.log", numbered(0..200));
        remove(&world, "a.log");
        let mut running = world.start();
        running.settle().await;
        assert_eq!(running.lines, lines(300..301), "{follow}");
    }
}

#[tokio::test]
async fn a_file_that_is_copied_and_begun_anew_with_equal_ends_and_of_equal_length_is_read() {
    let record = |n: usize| format!("{{\"a\":\"{0}\",\"n\":{n},\"b\":\"{0}\"}}\n", "=".repeat(1500));
    for follow in [true, false] {
        for compress in [true, false] {
            let mut world = World::new(&["*"]);
            world.record_bytes_max = 10_000;
            world.config.follow = follow;
            world.write("a.log", record(11));
            world.follow(1).await;
            match compress {
                true => world.write("b.gz", gzip(&record(11))),
                false => copy(&world, "a.log", "b.log"),
            }
            world.write("a.log", record(22));
            let mut running = world.start();
            running.settle().await;
            assert_eq!(running.lines.concat() + "\n", record(22), "{follow} {compress}");
        }
    }
}
