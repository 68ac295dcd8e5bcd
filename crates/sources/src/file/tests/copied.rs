//! Files that are cut or edited beside copies of them.

use super::*;

const SIZE: usize = 100;

type Edit = (&'static str, fn(&World, &str));

/// What is lost where a file is edited that has a copy: nobody can say which of its lines are new.
fn edits() -> [Edit; 7] {
    fn with(world: &World, name: &str, edit: impl FnOnce(&mut Vec<String>)) -> String {
        let mut lines: Vec<String> = fs::read_to_string(world.path(name)).unwrap().lines().map(|line| format!("{line}\n")).collect();
        edit(&mut lines);
        lines.concat()
    }
    [
        ("its last line, in place", |world, name| {
            world.write(name, with(world, name, |lines| lines[SIZE - 1] = "another\n".to_owned()));
        }),
        ("a line in the middle, in place", |world, name| {
            world.write(name, with(world, name, |lines| lines[SIZE / 2] = "another\n".to_owned()));
        }),
        ("its first lines, in place", |world, name| {
            world.write(name, with(world, name, |lines| drop(lines.drain(..10))));
        }),
        ("a first line, in place", |world, name| {
            world.write(name, with(world, name, |lines| lines.insert(0, "another\n".to_owned())));
        }),
        ("at both ends, in place", |world, name| {
            world.write(name, with(world, name, |lines| (lines.insert(0, "another\n".to_owned()), lines.truncate(90)).1));
        }),
        ("its last line, as an editor does", |world, name| {
            world.write(".edited", with(world, name, |lines| lines[SIZE - 1] = "another\n".to_owned()));
            world.rename(".edited", name);
        }),
        ("its first lines, as sed does", |world, name| {
            world.write(".edited", with(world, name, |lines| drop(lines.drain(..10))));
            world.rename(".edited", name);
        }),
    ]
}

/// Two copies, both known; returns what reads them on.
async fn two_copies(follow: bool, other: &str) -> World {
    let mut world = World::new(&["*"]);
    world.config.on_gap = OnGap::Record;
    world.config.follow = follow;
    world.write("a.log", numbered(0..SIZE));
    match other.ends_with(".gz") {
        true => world.write(other, gzip(&numbered(0..SIZE))),
        false => copy(&world, "a.log", other),
    }
    let mut running = world.start();
    running.settle().await;
    running.settle().await;
    assert_eq!(running.lines, lines(0..SIZE));
    world.commit(&running);
    world
}

#[tokio::test]
async fn an_edit_of_a_file_that_has_a_copy_is_a_gap_also_where_it_is_followed() {
    let mut failed = Vec::new();
    for (what, edit) in edits() {
        for edited in ["a.log", "b.log"] {
            for running_at in [None, Some(true), Some(false)] {
                let mut world = two_copies(running_at.unwrap_or(true), "b.log").await;
                let mut running = if running_at.is_none() {
                    let mut running = world.start();
                    running.settle().await;
                    edit(&world, edited);
                    running
                } else {
                    edit(&world, edited);
                    world.start()
                };
                running.settle().await;
                let gaps = running.gaps_in(Duration::from_secs(2)).await;
                if gaps != 1 {
                    failed.push(format!("{what} {edited} {running_at:?}: {gaps} gaps, {} lines", running.lines.len()));
                }
                world.commit(&running);
                drop(running);
                let mut running = world.start();
                running.settle().await;
                if !running.lines.is_empty() {
                    failed.push(format!("{what} {edited} {running_at:?}: {} lines again", running.lines.len()));
                }
            }
        }
    }
    assert_eq!(failed, [""; 0]);
}

#[tokio::test]
async fn an_edit_in_several_steps_of_a_file_that_has_a_copy_is_a_gap() {
    for edited in ["a.log", "b.log"] {
        for steps in [vec![0], vec![1000], vec![0, 500], vec![500, 900]] {
            let world = two_copies(true, "b.log").await;
            let content = numbered(0..SIZE).replace("{\"n\":90,", "{\"n\":-1,");
            let mut running = world.start();
            running.settle().await;
            let mut at = 0;
            world.write(edited, "");
            for step in steps.iter().copied().chain([content.len()]) {
                world.append(edited, &content[at..step]);
                at = step;
                running.settle().await;
            }
            let gaps = running.gaps_in(Duration::from_secs(2)).await;
            assert_eq!(gaps, 1, "{edited} {steps:?} {} lines, {:?}", running.lines.len(), running.offsets.notes());
        }
    }
}

#[tokio::test]
async fn a_file_that_is_cut_while_all_of_it_lies_in_other_files_is_no_gap() {
    for (file, others) in
        [("a.log", vec!["b.log", "c.log"]), ("m.log", vec!["c.log", "z.log"]), ("m.log", vec!["y.gz"]), ("z.log", vec!["a.gz"])]
    {
        for content in [String::new(), numbered(SIZE..SIZE + 10), numbered(0..SIZE / 2)] {
            for running_at in [None, Some(true), Some(false)] {
                let mut world = World::new(&["*"]);
                world.config.follow = running_at.unwrap_or(true);
                world.write(file, numbered(0..SIZE));
                for other in &others {
                    match other.ends_with(".gz") {
                        true => world.write(other, gzip(&numbered(0..SIZE))),
                        false => copy(&world, file, other),
                    }
                }
                let mut running = world.start();
                running.settle().await;
                running.settle().await;
                if running_at.is_none() {
                    world.write(file, &content);
                } else {
                    world.commit(&running);
                    drop(running);
                    world.write(file, &content);
                    running = world.start();
                    running.lines = lines(0..SIZE);
                }
                running.settle().await;
                running.settle().await;
                let expected = if content.starts_with("{\"n\":100,") { SIZE + 10 } else { SIZE };
                let case = format!("{file} {others:?} {} bytes {running_at:?}", content.len());
                assert_eq!(running.failed, None, "{case}");
                assert!(running.lines == lines(0..expected), "{case}: {} lines", running.lines.len());
            }
        }
    }
}

#[tokio::test]
async fn files_with_equal_headers_and_long_lines_that_begin_alike_are_rotated_with_a_copy() {
    let long = |n: usize| format!("{{\"h\":\"{}\",\"n\":{n}}}\n", "h".repeat(70_000));
    let header = format!("{{\"h\":\"{}\"}}\n", "h".repeat(1500));
    for (what, old, new) in [
        ("a long line", long(1), long(2)),
        ("long lines", long(1) + &long(2), long(3)),
        ("a header and a line", header.clone() + "1\n", header.clone() + "2\n"),
        ("a header and lines", header.clone() + &numbered(0..100), header.clone() + &numbered(100..150)),
        ("a header and a few lines", header.clone() + "1\n2\n", header.clone() + "3\n"),
    ] {
        type Rotate = (&'static str, fn(&World, &str));
        let rotations: [Rotate; 3] = [
            ("copied and truncated", |world, new| (copy(world, "a.log", "b.log"), world.write("a.log", new)).1),
            ("copied and replaced", |world, new| {
                (copy(world, "a.log", "b.log"), world.write(".new", new), world.rename(".new", "a.log")).2
            }),
            ("compressed and truncated", |world, new| {
                world.write("b.gz", gzip(&fs::read_to_string(world.path("a.log")).unwrap()));
                world.write("a.log", new);
            }),
        ];
        for (how, rotate) in rotations {
            for follow in [true, false] {
                let mut world = World::new(&["*"]);
                world.record_bytes_max = 100_000;
                world.config.follow = follow;
                world.write("a.log", &old);
                world.follow(old.lines().count()).await;
                rotate(&world, &new);
                let mut running = world.start();
                running.settle().await;
                running.settle().await;
                assert_eq!(running.lines, new.lines().collect::<Vec<_>>(), "{what} {how} {follow}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_is_compressed_under_another_name_and_replaced_by_one_with_its_header_between_two_looks_is_no_gap() {
    let header = format!("{{\"h\":\"{}\"}}\n", "h".repeat(1500));
    for _ in 0..10 {
        let mut world = World::following(&["*"]);
        world.config.poll_interval = Duration::from_millis(50);
        world.record_bytes_max = 10_000;
        world.write("a.log", header.clone() + &numbered(0..100));
        let mut running = world.start();
        running.read(101).await;
        world.write(".gz", gzip(&(header.clone() + &numbered(0..100))));
        world.write(".new", header.clone() + &numbered(100..150));
        world.rename(".gz", "z.gz");
        world.rename(".new", "a.log");
        running.read(152).await;
        running.is_silent().await;
        assert_eq!(running.lines[102..], lines(100..150));
        assert!(!running.notes().contains(&NoteKind::Gap), "{:?}", running.offsets.notes());
    }
}

#[tokio::test]
async fn an_edit_of_a_copy_in_which_a_shorter_one_goes_on_is_a_gap() {
    for follow in [true, false] {
        let mut world = World::new(&["*"]);
        world.config.follow = follow;
        world.config.on_gap = OnGap::Record;
        world.write("a.log", numbered(0..SIZE));
        world.write("b.log", numbered(0..SIZE));
        world.write("c.log", numbered(0..SIZE / 2));
        let mut running = world.start();
        running.settle().await;
        running.settle().await;
        assert_eq!(running.lines, lines(0..SIZE));
        world.commit(&running);
        drop(running);
        remove(&world, "c.log");
        world.write("a.log", numbered(0..SIZE - 10) + "another\n");
        let mut running = world.start();
        assert_eq!(running.gaps_in(Duration::from_secs(1)).await, 1, "{follow} {:?}", running.offsets.notes());
    }
}
