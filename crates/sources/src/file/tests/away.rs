//! An input directory that is not there for a while: moved away, or not mounted.

use super::*;

fn world(follow: bool, files: usize, size: usize) -> World {
    let mut world = World::new(&["in/*.log"]);
    world.config.follow = follow;
    fs::create_dir(world.path("in")).unwrap();
    (0..files).for_each(|n| world.write(&format!("in/{n}.log"), numbered(n * 1000..n * 1000 + size)));
    world
}

#[tokio::test]
async fn files_of_a_directory_that_is_not_there_at_a_start_wait_and_are_known_when_it_is_back() {
    for size in SIZES {
        for follow in [true, false] {
            let mut world = world(follow, 1, size);
            world.follow(size).await;
            world.rename("in", "away");
            let mut running = world.start();
            if follow {
                running.is_silent().await;
                assert_eq!(running.source.waiting.get().count, 1);
            } else {
                while running.step().await.unwrap() {}
                let error = running.source.left().unwrap();
                assert!(error.kind() == ErrorKind::Io && error.to_string().contains("/in`"), "{error}");
            }
            assert_eq!(running.notes(), [], "{size} {follow}");
            world.commit(&running);
            drop(running);
            world.rename("away", "in");
            world.append("in/0.log", "more\n");
            assert_eq!(world.follow(1).await, ["more"], "{size} {follow}");
        }
    }
}

#[tokio::test]
async fn files_without_a_descriptor_are_known_again_when_their_directory_was_away_for_a_moment() {
    for size in SIZES {
        let mut world = world(true, 3, size);
        world.config.open_max = 1;
        let mut running = world.start();
        running.read(3 * size).await;
        running.is_silent().await;
        world.rename("in", "away");
        running.is_silent().await;
        assert_eq!(running.source.waiting.get().count, 1);
        world.rename("away", "in");
        (0..3).for_each(|n| world.append(&format!("in/{n}.log"), "more\n"));
        running.read(3 * size + 3).await;
        running.is_silent().await;
        assert_eq!((&running.lines[3 * size..], running.notes()), (&["more", "more", "more"].map(str::to_owned)[..], vec![]), "{size}");
        assert_eq!(running.source.waiting.get().count, 0);
    }
}

#[tokio::test]
async fn a_directory_of_which_nothing_was_read_is_waited_for_in_silence() {
    let world = World::following(&["in/*.log"]);
    let mut running = world.start();
    running.is_silent().await;
    assert_eq!(running.source.waiting.get().count, 0);
}
