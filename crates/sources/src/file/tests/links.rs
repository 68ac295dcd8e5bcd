use std::os::unix::fs::symlink;

use super::*;

#[tokio::test]
async fn a_link_that_leads_to_nothing_waits_and_is_read_when_something_is_there() {
    for pattern in ["*", "**/*", "link"] {
        let world = World::following(&[pattern, "b"]);
        symlink("target/a", world.path("link")).unwrap();
        world.write("b", numbered(5..8));
        let mut running = world.start();
        running.read(3).await;
        running.settle().await;
        let waiting = running.source.waiting.get();
        assert!(waiting.count == 1 && waiting.named[0].path.ends_with("link"), "{pattern}: {waiting:?}");
        fs::create_dir(world.path("target")).unwrap();
        world.write("target/a", numbered(0..3));
        running.read(6).await;
        running.settle().await;
        assert_eq!((running.lines[3..].to_vec(), running.source.waiting.get().count), (lines(0..3), 0), "{pattern}");
    }
}

#[tokio::test]
async fn what_is_read_once_ends_with_an_error_for_a_link_of_a_glob_that_leads_to_nothing() {
    let world = World::new(&["*"]);
    symlink("target", world.path("link")).unwrap();
    world.write("a", numbered(0..3));
    let mut running = world.start();
    while running.step().await.unwrap() {}
    assert_eq!(running.lines, lines(0..3));
    let left = running.source.left().unwrap();
    assert!(left.kind() == ErrorKind::Io && left.to_string().contains("link"), "{left}");
}

/// Nothing is behind such a link: a known file is not hidden by it.
#[tokio::test]
async fn a_file_that_is_gone_with_bytes_that_were_not_read_is_a_gap_also_where_a_link_still_names_it() {
    let mut world = World::following(&["link"]);
    fs::create_dir(world.path("target")).unwrap();
    symlink("target/a", world.path("link")).unwrap();
    world.write("target/a", numbered(0..3) + "unfinished");
    let mut running = world.start();
    running.read(3).await;
    running.settle().await;
    world.commit(&running);
    drop(running);
    remove(&world, "target/a");
    assert_eq!(world.open().unwrap_err().kind(), ErrorKind::State);
}

#[tokio::test]
async fn a_file_is_not_read_as_new_while_what_it_may_be_a_part_of_cannot_be_read() {
    let mut world = World::new(&["app.log*"]);
    world.write("app.log", numbered(0..300));
    assert_eq!(world.run().await.len(), 300);
    // Too many links: what that file holds cannot be known now.
    world.rename("app.log", "kept");
    symlink("app.log", world.path("app.log")).unwrap();
    world.write("app.log.1", numbered(0..200));
    let mut running = world.start();
    while running.step().await.unwrap() {}
    assert_eq!((running.lines.clone(), running.source.waiting.get().count), (vec![], 2));
    world.commit(&running);
    remove(&world, "app.log");
    world.rename("kept", "app.log");
    assert_eq!(world.run().await, [""; 0]);
}

#[tokio::test]
async fn a_small_file_that_got_another_name_beside_its_own_is_known_by_its_own_when_it_is_saved_anew() {
    let mut world = World::new(&["*.log"]);
    world.write("m.log", numbered(0..2));
    assert_eq!(world.run().await.len(), 2);
    fs::hard_link(world.path("m.log"), world.path("a.log")).unwrap();
    assert_eq!(world.run().await, Vec::<String>::new());
    world.write("new", numbered(0..3));
    world.rename("new", "m.log");
    assert_eq!(world.run().await, lines(2..3));
}
