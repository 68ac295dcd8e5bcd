//! Many files that begin alike: each is told from all others, and none is taken for one that it is not.

use super::*;

const FILES: usize = 40;

/// A header that all files begin with, longer than what a file is known by at once, and lines of a file's own.
fn content(n: usize, more: usize) -> String {
    format!("{}\n", "header ".repeat(300)) + &numbered(n * 100..n * 100 + 3 + n % 7 + more)
}

/// The own lines of a file from one on.
fn own(n: usize, from: usize, to: usize) -> Vec<String> {
    lines(n * 100 + from..n * 100 + to)
}

fn put(world: &World, name: &str, content: &str, compress: bool) {
    match compress {
        true => world.write(&format!("{name}.gz"), gzip(content)),
        false => world.write(name, content),
    }
}

/// Runs over what is there now: these lines are read, beside headers, and no gap is noted.
async fn reads(world: &mut World, expected: Vec<String>, what: &str) {
    let mut running = world.start();
    let own = |running: &Running| running.lines.iter().filter(|line| line.starts_with('{')).cloned().collect::<Vec<_>>();
    let end = std::time::Instant::now() + PATIENCE;
    while own(&running).len() < expected.len() && std::time::Instant::now() < end {
        running.settle().await;
    }
    running.settle().await;
    running.settle().await;
    assert_eq!((running.failed.as_ref(), running.notes().contains(&NoteKind::Gap)), (None, false), "{what}: {:?}", running.offsets.notes());
    assert_eq!(sorted(own(&running)), sorted(expected), "{what}");
    world.commit(&running);
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// A world in which all files were read.
async fn all_read(follow: bool, compress: bool) -> World {
    let mut world = World::new(&["*.*"]);
    world.config.follow = follow;
    world.record_bytes_max = 10_000;
    (0..FILES).for_each(|n| put(&world, &format!("{n}.log"), &content(n, 0), compress));
    reads(&mut world, (0..FILES).flat_map(|n| own(n, 0, 3 + n % 7)).collect(), &format!("at first, {follow} {compress}")).await;
    world
}

const MODES: [(bool, bool); 4] = [(true, false), (false, false), (true, true), (false, true)];

#[tokio::test]
async fn a_restart_reads_what_is_new_alone() {
    for (follow, compress) in MODES {
        let mut world = all_read(follow, compress).await;
        reads(&mut world, vec![], "again").await;
        put(&world, "new.log", &content(FILES, 0), compress);
        reads(&mut world, own(FILES, 0, 3 + FILES % 7), &format!("{follow} {compress}")).await;
        if !compress {
            world.append("5.log", &numbered(900..903));
            reads(&mut world, lines(900..903), &format!("{follow}")).await;
        }
    }
}

#[tokio::test]
async fn files_that_lie_elsewhere_under_other_names_with_more_in_them_go_on_there() {
    for (follow, compress) in MODES {
        let mut world = all_read(follow, compress).await;
        let ending = if compress { ".gz" } else { "" };
        for n in 0..FILES {
            remove(&world, &format!("{n}.log{ending}"));
            put(&world, &format!("moved-{n}.log"), &content(n, n % 2), compress);
        }
        let expected: Vec<String> = (0..FILES).filter(|n| n % 2 == 1).flat_map(|n| own(n, 3 + n % 7, 4 + n % 7)).collect();
        reads(&mut world, expected, &format!("{follow} {compress}")).await;
        reads(&mut world, vec![], &format!("{follow} {compress}")).await;
    }
}

#[tokio::test]
async fn copies_of_all_with_more_in_them_are_passed_over_up_to_that() {
    for (follow, compress) in MODES {
        let mut world = all_read(follow, compress).await;
        (0..FILES).for_each(|n| put(&world, &format!("copy-{n}.log"), &content(n, 1), !compress));
        let expected: Vec<String> = (0..FILES).flat_map(|n| own(n, 3 + n % 7, 4 + n % 7)).collect();
        reads(&mut world, expected, &format!("{follow} {compress}")).await;
        reads(&mut world, vec![], &format!("{follow} {compress}")).await;
    }
}

#[tokio::test]
async fn first_parts_of_files_that_lie_elsewhere_by_now_are_not_read_again() {
    for (follow, compress) in MODES {
        let mut world = all_read(follow, false).await;
        for n in 0..FILES {
            remove(&world, &format!("{n}.log"));
            put(&world, &format!("moved-{n}.log"), &content(n, 1), compress);
            let whole = content(n, 0);
            let part = whole[..whole.trim_end().rfind('\n').unwrap()].to_owned() + "\n";
            world.write(&format!("part-{n}.log"), part);
        }
        let expected: Vec<String> = (0..FILES).flat_map(|n| own(n, 3 + n % 7, 4 + n % 7)).collect();
        reads(&mut world, expected, &format!("{follow} {compress}")).await;
        reads(&mut world, vec![], &format!("{follow} {compress}")).await;
    }
}

#[tokio::test]
async fn files_of_another_day_take_the_place_of_all_and_those_of_the_first_day_are_known_when_they_are_back() {
    for (follow, compress) in MODES {
        let mut world = all_read(follow, compress).await;
        let ending = if compress { ".gz" } else { "" };
        (0..FILES).for_each(|n| remove(&world, &format!("{n}.log{ending}")));
        // Longer than those that are gone: a shorter one could be one of them on its way back.
        (FILES..2 * FILES).for_each(|n| put(&world, &format!("{n}.log"), &content(n, 10), compress));
        let expected: Vec<String> = (FILES..2 * FILES).flat_map(|n| own(n, 0, 13 + n % 7)).collect();
        reads(&mut world, expected, &format!("{follow} {compress}")).await;
        (0..FILES).for_each(|n| put(&world, &format!("{n}.log"), &content(n, n % 2), compress));
        let expected: Vec<String> = (0..FILES).filter(|n| n % 2 == 1).flat_map(|n| own(n, 3 + n % 7, 4 + n % 7)).collect();
        reads(&mut world, expected, &format!("{follow} {compress}")).await;
    }
}

#[tokio::test]
async fn of_many_rotated_files_of_a_few_lines_those_that_lie_elsewhere_are_known_by_name_and_content() {
    for follow in [true, false] {
        let mut world = World::new(&["app.log*"]);
        world.config.follow = follow;
        let few = |n: usize| numbered(n * 10..n * 10 + 1 + n % 3);
        (0..FILES).for_each(|n| world.write(&format!("app.log.{n}"), few(n)));
        let all: Vec<String> = (0..FILES).flat_map(|n| lines(n * 10..n * 10 + 1 + n % 3)).collect();
        reads(&mut world, all, &format!("{follow}")).await;
        reads(&mut world, vec![], &format!("{follow}")).await;
        // Each has the name of the next, with more in it, and another inode.
        for n in (0..FILES).rev() {
            remove(&world, &format!("app.log.{n}"));
            world.write(&format!("app.log.{}", n + 1), few(n) + &numbered(5000 + n..5001 + n));
        }
        reads(&mut world, lines(5000..5000 + FILES), &format!("{follow}")).await;
    }
}

#[tokio::test]
async fn files_with_64_kib_in_common_are_read_without_a_pause_before_each() {
    let mut world = World::new(&["*.*"]);
    (world.config.follow, world.config.poll_interval, world.record_bytes_max) = (true, Duration::from_secs(2), 10_000);
    let header = format!("{}\n", "header ".repeat(240)).repeat(40);
    (0..FILES).for_each(|n| world.write(&format!("{n}.log"), header.clone() + &numbered(n * 100..n * 100 + 3)));
    let begin = std::time::Instant::now();
    let mut running = world.start();
    let read = |running: &Running| running.lines.iter().filter(|line| line.starts_with('{')).count();
    while read(&running) < FILES * 3 && begin.elapsed() < PATIENCE {
        running.settle().await;
    }
    assert_eq!(
        sorted(running.lines.iter().filter(|line| line.starts_with('{')).cloned().collect()),
        sorted((0..FILES).flat_map(|n| own(n, 0, 3)).collect())
    );
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}
