//! Copies: what stands in several files is read once.

use super::*;

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
    let half = content.len() / 2;
    for portion in [&content[..4096], &content[4096..half], &content[half..]] {
        world.append("b.log", portion);
        running.is_silent().await;
    }
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

#[tokio::test]
async fn an_archive_of_a_file_of_a_few_lines_that_has_grown_under_another_name_is_passed_over() {
    for (name, archive) in [("app.log.3.gz", gzip("1\n")), ("app.log.3.zst", zstandard("1\n"))] {
        let world = World::following(&["app.log*"]);
        world.write("app.log", "1\n");
        fs::hard_link(world.path("app.log"), world.path("app.log.2")).unwrap();
        let mut running = world.start();
        running.read(1).await;
        world.append("app.log.2", "2\n");
        running.read(2).await;
        world.write(name, archive);
        remove(&world, "app.log");
        running.is_silent().await;
        running.is_silent().await;
        assert!(running.notes().contains(&NoteKind::Copy), "{:?}", running.notes());
    }
}

#[tokio::test]
async fn what_was_rewritten_and_is_in_an_archive_that_was_read_further_is_not_read_there_again() {
    let mut world = World::following(&["app.log*"]);
    world.config.on_gap = OnGap::Record;
    world.write("app.log", numbered(0..300));
    world.write("app.log.1.gz", gzip(&numbered(0..310)));
    let mut running = world.start();
    running.read(310).await;
    running.is_silent().await;
    world.write("app.log", numbered(1000..1400));
    running.read(710).await;
    running.is_silent().await;
    assert_eq!(running.lines[310..], lines(1000..1400));
}

#[tokio::test]
async fn what_a_file_got_before_it_was_copied_is_read_once_where_an_archive_holds_what_both_began_with() {
    for _ in 0..5 {
        let world = World::following(&["app.log*"]);
        world.write("app.log.2.gz", gzip(&numbered(0..300)));
        world.write("app.log", numbered(0..300));
        let mut running = world.start();
        running.read(300).await;
        running.is_silent().await;
        // Nobody looks in between: the archive is what is known of both, and the other one what will be.
        world.append("app.log", &numbered(300..360));
        copy(&world, "app.log", ".copy");
        world.rename(".copy", "app.log.3");
        running.read(360).await;
        running.is_silent().await;
        running.lines.sort_by_key(|line| line.split([':', ',']).nth(1).unwrap().parse::<usize>().unwrap());
        assert_eq!(running.lines, lines(0..360));
        // Each of them goes on for itself.
        world.append("app.log", "own\n");
        running.read(361).await;
        world.append("app.log.3", "the copy's\n");
        running.read(362).await;
        running.is_silent().await;
    }
}

#[tokio::test]
async fn an_archive_of_a_part_of_what_was_read_is_passed_over_also_where_the_whole_was_put_in_its_place_again() {
    for follow in [true, false] {
        let mut world = World::new(&["app.log*"]);
        world.write("app.log.2", numbered(0..300));
        assert_eq!(world.run().await.len(), 300);
        world.write(".saved", numbered(0..310));
        world.rename(".saved", "app.log.2");
        world.write("app.log.1.gz", gzip(&numbered(0..290)));
        world.config.follow = follow;
        let mut running = world.start();
        running.settle().await;
        assert_eq!(running.lines, lines(300..310), "{follow}");
    }
}

/// Lets a copy get 30 lines, and its original the first 20 of them.
async fn with_a_copy_read_further(world: &mut World) -> Running {
    world.write("app.log", numbered(0..100));
    copy(world, "app.log", "app.log.3");
    let mut running = world.start();
    running.settle().await;
    world.commit(&running);
    drop(running);
    let mut running = world.start();
    running.is_silent().await;
    world.append("app.log.3", &numbered(100..130));
    running.read(30).await;
    world.append("app.log", &numbered(100..120));
    running.is_silent().await;
    running
}

#[tokio::test]
async fn what_was_read_in_a_copy_that_goes_on_elsewhere_is_read_nowhere_else() {
    type Edit = (&'static str, fn(&World));
    let edits: [Edit; 4] = [
        ("copied and truncated", |world| {
            copy(world, "app.log.3", ".copy");
            world.rename(".copy", "app.log.3.4");
            world.write("app.log.3", "new\n");
        }),
        ("rotated", |world| {
            world.rename("app.log.3", "app.log.3.4");
            world.write("app.log.3", "new\n");
        }),
        ("compressed", |world| {
            world.write("app.log.3.gz", gzip(&numbered(0..130)));
            world.write(".new", "new\n");
            world.rename(".new", "app.log.3");
        }),
        ("deleted", |world| {
            world.write(".new", "new\n");
            world.rename(".new", "app.log.3");
        }),
    ];
    for (what, edit) in edits {
        for restarted in [false, true] {
            let mut world = World::following(&["app.log*"]);
            let mut running = with_a_copy_read_further(&mut world).await;
            world.commit(&running);
            if restarted {
                drop(running);
                edit(&world);
                running = world.start();
            } else {
                edit(&world);
                running.lines.clear();
            }
            running.read(1).await;
            running.is_silent().await;
            assert_eq!(running.lines, ["new"], "{what}, {restarted}");
        }
    }
}

#[tokio::test]
async fn what_a_file_got_that_was_read_in_a_copy_is_passed_over_also_where_that_goes_on_elsewhere_since() {
    for follow in [true, false] {
        let mut world = World::following(&["app.log*"]);
        world.write("app.log", numbered(0..100));
        world.write("app.log.3", numbered(0..130));
        assert_eq!(world.follow(130).await, lines(0..130));
        world.append("app.log", &numbered(100..120));
        copy(&world, "app.log.3", "app.log.3.4");
        world.write("app.log.3", "new\n");
        world.config.follow = follow;
        let mut running = world.start();
        running.settle().await;
        assert_eq!(running.lines, ["new"], "{follow}");
    }
}

#[tokio::test]
async fn what_a_file_got_before_it_was_saved_elsewhere_and_compressed_is_read_once() {
    for follow in [true, false] {
        let mut world = World::new(&["app.log*"]);
        world.config.follow = follow;
        world.write("app.log.1", numbered(0..300));
        fs::hard_link(world.path("app.log.1"), world.path("app.log.2")).unwrap();
        let mut running = world.start();
        running.settle().await;
        world.commit(&running);
        drop(running);
        world.write(".saved", numbered(0..310));
        world.rename(".saved", "app.log.1");
        world.write("app.log.2.gz", gzip(&numbered(0..305)));
        remove(&world, "app.log.2");
        let mut running = world.start();
        running.settle().await;
        running.settle().await;
        assert_eq!(running.lines, lines(300..310), "{follow}");
    }
}

#[tokio::test]
async fn a_part_of_another_file_that_stands_still_and_gets_lines_of_its_own_is_read_from_there() {
    let world = World::following(&["app.log*"]);
    world.write("app.log", numbered(0..300));
    let mut running = world.start();
    running.read(300).await;
    world.write(".part", numbered(0..200));
    world.rename(".part", "app.log.1");
    running.is_silent().await;
    world.append("app.log.1", "own\n");
    running.read(301).await;
    running.is_silent().await;
    assert_eq!(running.lines[300..], ["own"]);
}

#[tokio::test]
async fn a_copy_of_a_copy_of_a_few_lines_is_known_though_both_begin_as_a_longer_file() {
    let mut world = World::following(&["app.log*"]);
    world.write("app.log", numbered(0..3));
    copy(&world, "app.log", "app.log.1");
    let mut running = world.start();
    running.settle().await;
    world.commit(&running);
    drop(running);
    world.append("app.log", &numbered(3..300));
    let mut running = world.start();
    running.read(297).await;
    copy(&world, "app.log.1", "app.log.1.2");
    running.is_silent().await;
    world.append("app.log.1", "own\n");
    running.read(298).await;
    world.write(".saved", [numbered(0..3), "saved\n".into()].concat());
    world.rename(".saved", "app.log.1.2");
    running.read(299).await;
    running.is_silent().await;
    assert_eq!(running.lines[297..], ["own", "saved"]);
}

#[tokio::test]
async fn a_copy_with_an_open_line_that_begins_as_one_of_its_longer_copy_holds_that_up_no_more() {
    for _ in 0..4 {
        let mut world = World::following(&["app.log*"]);
        world.write("app.log", numbered(0..100));
        world.write("app.log.1", numbered(0..110));
        assert_eq!(world.follow(110).await, lines(0..110));
        world.append("app.log", "{\"n\":");
        world.append("app.log.1", "own\n");
        let mut running = world.start();
        running.read(1).await;
        running.is_silent().await;
        assert_eq!(running.lines, ["own"]);
    }
}

#[tokio::test]
async fn a_copy_of_a_file_that_waits_with_an_open_line_is_read_on() {
    let mut world = World::following(&["app.log*"]);
    world.write("app.log", numbered(0..100));
    world.write("app.log.1", numbered(0..110));
    assert_eq!(world.follow(110).await, lines(0..110));
    // All of it stands in the file that was read further, but its last line may become another.
    world.append("app.log", "{\"n\":");
    world.write("app.log.2", format!("{}own\n", numbered(0..100)));
    let mut running = world.start();
    running.read(1).await;
    running.is_silent().await;
    assert_eq!(running.lines, ["own"]);
    world.append("app.log", "1000}\n");
    running.read(2).await;
    assert_eq!(running.lines[1..], ["{\"n\":1000}"]);
}

#[tokio::test]
async fn a_file_that_is_rewritten_is_a_gap_where_only_a_deleted_copy_held_what_was_read_of_it() {
    let mut world = World::following(&["app.log*"]);
    world.config.on_gap = OnGap::Record;
    world.write("app.log", numbered(0..100));
    world.write("app.log.1", numbered(0..110));
    assert_eq!(world.follow(110).await, lines(0..110));
    let mut running = world.start();
    running.is_silent().await;
    remove(&world, "app.log.1");
    running.is_silent().await;
    world.write("app.log", "new\n");
    running.read(1).await;
    running.is_silent().await;
    assert!(running.notes().contains(&NoteKind::Gap), "{:?}", running.notes());
}
