//! Positions that version 1 left, which have no evidence.

use pintail_core::evidence::Mark;
use pintail_core::offsets::{OffsetRange, Partition};

use super::*;

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

/// A world whose commit records are of version 1, and hold one position of `app.log` on an inode that is gone.
fn restored(follow: bool, prefix: &[u8], read: u64) -> World {
    let mut world = World::new(&["*.log*"]);
    world.config.follow = follow;
    let id = IdentityV1::id_of(Inode { device: 1, number: 1 }, 0, prefix);
    let partition = Arc::new(Partition { id, label: world.path("app.log").display().to_string().into() });
    let mut offsets = Offsets::default();
    offsets.extend(&OffsetRange::new(partition, 0, read)).unwrap();
    world.committed = offsets.committed();
    world
}

#[tokio::test]
async fn a_position_of_version_1_is_found_by_its_beginning_under_the_name_that_a_rotation_gave_it() {
    let content = numbered(0..400);
    let read = numbered(0..390).len() as u64;
    for (name, bytes, prefix) in [
        ("app.log.1", content.clone().into_bytes(), 500),
        ("app.log.1", content.clone().into_bytes(), 1024),
        ("unlike.log", content.clone().into_bytes(), 1024),
        ("app.log.1.gz", gzip(&content), 1024),
    ] {
        for follow in [true, false] {
            let mut world = restored(follow, &content.as_bytes()[..prefix], read);
            world.write("app.log", "new\n");
            world.write(name, &bytes);
            let mut running = world.start();
            running.read(11).await;
            running.settle().await;
            running.lines.sort_by_key(|line| line == "new");
            assert_eq!(running.lines, [lines(390..400), vec!["new".to_owned()]].concat(), "{name} {prefix} {follow}");
            assert!(running.notes().contains(&NoteKind::Accepted) && !running.notes().contains(&NoteKind::Gap), "{:?}", running.notes());
            world.commit(&running);
            drop(running);
            world.start().is_silent().await;
        }
    }
}

#[tokio::test]
async fn a_file_that_begins_as_one_of_version_1_and_has_no_line_end_at_its_position_is_another() {
    let content = numbered(0..400);
    for follow in [true, false] {
        let world = restored(follow, &content.as_bytes()[..1024], numbered(0..390).len() as u64 - 5);
        world.write("app.log", "new\n");
        world.write("app.log.1", &content);
        let mut running = world.start();
        running.read(401).await;
        running.settle().await;
        assert_eq!((running.lines.len(), running.notes()), (401, vec![NoteKind::Vanished]));
    }
}
