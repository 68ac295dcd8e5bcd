//! Copies of different ages: of files of which one is the beginning of another, the longest counts.

use super::*;

/// Orders of names for a file and three longer copies of it.
const ORDERS: [[&str; 4]; 5] =
    [["a", "b", "c", "d"], ["d", "c", "b", "a"], ["b", "a", "d", "c"], ["a", "d", "c", "b"], ["c", "a", "b", "d"]];

#[tokio::test]
async fn copies_of_different_ages_are_read_as_far_as_the_longest_whatever_they_are_called() {
    for names in ORDERS {
        for (follow, is_known) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut world = World::new(&["*.log"]);
            world.config.follow = follow;
            let write = |world: &World, age: usize| world.write(&format!("{}.log", names[age]), numbered(0..100 + 10 * age));
            write(&world, 0);
            let mut read = if is_known { world.follow(100).await } else { Vec::new() };
            (1..4).for_each(|age| write(&world, age));
            let mut running = world.start();
            running.settle().await;
            running.settle().await;
            read.append(&mut running.lines);
            assert_eq!(numbers(&read), (0..130).collect::<Vec<_>>(), "{names:?} {follow} {is_known}");
        }
    }
}

#[tokio::test]
async fn archives_of_different_ages_are_read_as_far_as_the_longest() {
    for names in ORDERS {
        for follow in [false, true] {
            let mut world = World::new(&["*.log*"]);
            world.config.follow = follow;
            (0..4).for_each(|age| world.write(&format!("{}.log.gz", names[age]), gzip(&numbered(0..100 + 10 * age))));
            let mut running = world.start();
            running.settle().await;
            running.settle().await;
            assert_eq!(numbers(&running.lines), (0..130).collect::<Vec<_>>(), "{names:?} {follow}");
        }
    }
}

#[tokio::test]
async fn what_copies_get_alike_while_they_are_followed_is_read_once_in_whatever_order_they_get_it() {
    for order in [["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"], ["c", "a", "b"]] {
        for restarted in [false, true] {
            let mut world = World::following(&["*.log"]);
            ["a", "b", "c"].iter().for_each(|name| world.write(&format!("{name}.log"), numbered(0..100)));
            let mut running = world.start();
            running.read(100).await;
            running.is_silent().await;
            if restarted {
                world.commit(&running);
                drop(running);
                running = world.start();
                running.is_silent().await;
            }
            let read = running.lines.len();
            for round in 0..3 {
                for name in order {
                    world.append(&format!("{name}.log"), &numbered(100 + round * 5..105 + round * 5));
                    running.settle().await;
                }
            }
            assert_eq!(numbers(&running.lines[read..]), (100..115).collect::<Vec<_>>(), "{order:?} {restarted}");
            // Each of them goes on for itself.
            for name in order {
                world.append(&format!("{name}.log"), &format!("{name}'s\n"));
                running.settle().await;
            }
            assert_eq!(running.lines[read + 15..], order.map(|name| format!("{name}'s")), "{order:?} {restarted}");
        }
    }
}

#[tokio::test]
async fn a_copy_that_gets_lines_in_turn_with_its_original_gets_none_twice() {
    let world = World::following(&["*.log"]);
    ["a.log", "b.log"].iter().for_each(|name| world.write(name, numbered(0..100)));
    let mut running = world.start();
    running.read(100).await;
    running.is_silent().await;
    for (name, from) in [("b.log", 100), ("a.log", 100), ("a.log", 105), ("b.log", 105), ("b.log", 110), ("a.log", 110)] {
        world.append(name, &numbered(from..from + 5));
        running.settle().await;
    }
    assert_eq!(numbers(&running.lines), (0..115).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_copy_gets_is_known_also_where_the_longer_one_is_renamed_at_that_moment() {
    for name in ["b.log.1", "b.old"] {
        for _ in 0..10 {
            let world = World::following(&["*.log*"]);
            world.write("a.log", numbered(0..100));
            let mut running = world.start();
            running.read(100).await;
            copy(&world, "a.log", "b.log");
            running.is_silent().await;
            world.append("b.log", &numbered(100..110));
            running.read(110).await;
            world.rename("b.log", name);
            world.append("a.log", &numbered(100..105));
            running.is_silent().await;
            world.append("a.log", &numbered(105..110));
            running.is_silent().await;
        }
    }
}

/// Returns the numbers of lines, in ascending order.
fn numbers(lines: &[String]) -> Vec<usize> {
    let mut numbers: Vec<usize> = lines.iter().map(|line| line.split([':', ',']).nth(1).unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}
