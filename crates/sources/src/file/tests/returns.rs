//! Files that are gone, and files that come back.

use super::*;

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
async fn a_finished_archive_is_known_by_its_compressed_bytes_in_its_place_and_by_its_content_elsewhere() {
    for name in ["a.gz", "b.gz"] {
        let mut world = World::new(&["*.gz"]);
        world.write("a.gz", gzip(&numbered(0..3000)));
        assert_eq!(world.run().await.len(), 3000);
        let evidence = world.committed.spans().next().unwrap().1.evidence.clone().unwrap();
        let archive = evidence.archive.as_ref().unwrap();
        assert_eq!(archive.bytes, fs::metadata(world.path("a.gz")).unwrap().len());
        world.rename("a.gz", name);
        // In the middle, where nothing looks: it is not decompressed.
        let mut content = fs::read(world.path(name)).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 0xff;
        world.write(name, content);
        let mut running = world.start();
        while running.step().await.unwrap() {}
        assert_eq!((running.lines.len(), running.notes()), (0, vec![]));
        drop(running);
        if name == "b.gz" {
            continue;
        }
        // One with the same ends that was put there is looked at.
        copy(&world, name, "kept");
        world.rename("kept", "a.gz");
        assert_eq!(world.open().unwrap_err().kind(), ErrorKind::State);
        world.write("kept", gzip(&numbered(0..3000)));
        world.rename("kept", "a.gz");
        let mut running = world.start();
        while running.step().await.unwrap() {}
        assert_eq!((running.lines.len(), running.notes()), (0, vec![NoteKind::Moved]));
    }
}

#[tokio::test]
async fn a_file_that_is_gone_with_half_a_line_that_was_seen_alone_is_a_gap() {
    let mut world = World::following(&["*.log"]);
    world.write("a.log", "1\n");
    let mut running = world.start();
    running.read(1).await;
    running.is_silent().await;
    world.append("a.log", "half");
    running.is_silent().await;
    world.commit(&running);
    drop(running);
    remove(&world, "a.log");
    let error = world.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State, "{error}");
    assert!(error.to_string().contains("6 bytes"), "{error}");
}

/// A world that has forgotten a file of 300 lines.
async fn forgetful() -> World {
    let mut world = World::following(&["*.log*"]);
    world.write("app.log", numbered(0..300));
    world.write("z.log", "z\n");
    world.follow(301).await;
    remove(&world, "app.log");
    let mut running = world.start();
    running.settle().await;
    world.commit(&running);
    assert_eq!(world.committed.spans().len(), 1);
    world
}

#[tokio::test]
async fn a_file_that_vanished_and_comes_back_in_portions_is_waited_for() {
    let mut world = forgetful().await;
    let mut running = world.start();
    let content = numbered(0..302);
    world.write("app.log.1", &content[..2000]);
    running.is_silent().await;
    world.write("app.log.1", &content[..5000]);
    running.is_silent().await;
    world.write("app.log.1", &content);
    running.read(2).await;
    running.is_silent().await;
    assert_eq!((running.lines.clone(), running.notes()), (lines(300..302), vec![NoteKind::Returned]));
    world.commit(&running);
}

#[tokio::test]
async fn a_first_part_of_a_file_that_vanished_cannot_be_told_and_is_read() {
    let mut world = forgetful().await;
    world.config.follow = false;
    world.write("app.log.1", numbered(0..100));
    world.write("app.log.2.gz", gzip(&(numbered(0..100) + "own\n")));
    assert_eq!(world.run().await, [lines(0..100), vec!["own".to_owned()]].concat());
    assert_eq!(world.run().await, [""; 0]);
}

#[tokio::test]
async fn a_file_that_is_cut_and_then_written_again_from_its_beginning_is_not_waited_for() {
    let mut world = World::following(&["app.log"]);
    world.config.on_gap = OnGap::Record;
    world.write("app.log", numbered(0..300));
    let mut running = world.start();
    running.read(300).await;
    world.write("app.log", "");
    running.settle().await;
    assert_eq!(running.notes(), [NoteKind::Gap, NoteKind::Vanished]);
    world.write("app.log", numbered(0..100));
    running.read(400).await;
}
