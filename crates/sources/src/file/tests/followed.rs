//! Files that are followed: what grows, appears, is rotated, truncated or deleted.

use super::*;

#[tokio::test]
async fn appended_lines_are_followed_and_an_unfinished_one_waits() {
    let mut world = World::following(&["app.log"]);
    let mut running = world.start();
    running.is_silent().await;
    world.write("app.log", "");
    running.is_silent().await;
    world.append("app.log", "1\n2");
    running.read(1).await;
    running.is_silent().await;
    assert_eq!(running.source.remaining(), Some(1));
    world.append("app.log", "2\n3\n");
    running.read(3).await;
    assert_eq!(running.lines, ["1", "22", "3"]);
    assert_eq!(running.source.remaining(), Some(0));
    world.commit(&running);
    drop(running);
    world.append("app.log", "4\n");
    assert_eq!(world.follow(1).await, ["4"]);
}

#[tokio::test]
async fn a_file_that_grows_past_a_kilobyte_between_starts_is_the_same_file() {
    let mut world = World::following(&["*.log"]);
    for n in 0..60 {
        world.append("app.log", &format!("{n:0100}\n"));
        assert_eq!(world.follow(1).await, [format!("{n:0100}")]);
    }
    assert_eq!(world.committed.spans().len(), 1);
}

#[tokio::test]
async fn a_new_file_that_matches_is_read_and_a_hidden_or_other_one_is_not() {
    let world = World::following(&["*.log"]);
    world.write("a.log", "1\n");
    let mut running = world.start();
    running.read(1).await;
    world.write("other.txt", "no\n");
    world.write(".b.log.tmp.log", "no\n");
    world.write("b.log", "2\n");
    running.read(2).await;
    running.is_silent().await;
    assert_eq!(running.lines, ["1", "2"]);
}

#[tokio::test]
async fn a_rotated_file_is_read_on_while_its_writer_still_has_it_open() {
    for pattern in ["app.log", "app.log*"] {
        let world = World::following(&[pattern]);
        let mut writer = File::create(world.path("app.log")).unwrap();
        writer.write_all(b"1\n").unwrap();
        let mut running = world.start();
        running.read(1).await;
        writer.write_all(b"2\n").unwrap();
        world.rename("app.log", "app.log.1");
        world.write("app.log", "4\n");
        running.read(3).await;
        writer.write_all(b"3\n").unwrap();
        running.read(4).await;
        world.append("app.log", "5\n");
        running.read(5).await;
        running.is_silent().await;
        running.lines.sort();
        assert_eq!(running.lines, ["1", "2", "3", "4", "5"], "{pattern}");
    }
}

#[tokio::test]
async fn a_file_deleted_while_it_is_open_is_read_to_its_end() {
    let world = World::following(&["app.log"]);
    world.write("app.log", "1\n");
    let mut running = world.start();
    running.read(1).await;
    world.append("app.log", "2\n");
    fs::remove_file(world.path("app.log")).unwrap();
    running.read(2).await;
    world.write("app.log", "3\n");
    running.read(3).await;
    assert_eq!(running.lines, ["1", "2", "3"]);
}

#[tokio::test]
async fn a_file_rotated_while_nobody_looked_is_found_under_a_name_that_does_not_match() {
    for follow in [true, false] {
        let mut world = World::following(&["app.log"]);
        world.append("app.log", "1\n");
        assert_eq!(world.follow(1).await, ["1"]);
        world.append("app.log", "2\n");
        world.rename("app.log", "old-app");
        world.write("app.log", "3\n");
        world.write("old-stranger", "no\n");
        world.config.follow = follow;
        assert_eq!(world.follow(2).await, ["2", "3"]);
        world.append("old-app", "4\n");
        assert_eq!(world.follow(1).await, ["4"]);
    }
}

#[tokio::test]
async fn old_rotated_files_that_are_read_do_not_count_as_open_and_unread_ones_are_read() {
    let mut world = World::following(&["app.log"]);
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    for n in 0..3 {
        world.write("app.log", format!("{n}\n"));
        world.follow(1).await;
        world.rename("app.log", &format!("old-{n}"));
    }
    world.append("old-1", "more\n");
    for n in 0..3 {
        File::options().write(true).open(world.path(&format!("old-{n}"))).unwrap().set_modified(hour_ago).unwrap();
    }
    world.write("app.log", "3\n");
    world.config.files_max = 2;
    assert_eq!(world.follow(2).await, ["more", "3"]);
}

#[tokio::test]
async fn a_file_that_vanished_after_it_was_read_is_noted_and_forgotten() {
    let mut world = World::following(&["*.log"]);
    world.write("a.log", "1\n");
    world.follow(1).await;
    world.write("b.log", "2\n");
    fs::remove_file(world.path("a.log")).unwrap();
    let mut running = world.start();
    running.read(1).await;
    assert_eq!((&running.lines[..], running.notes()), (&["2".to_owned()][..], vec![NoteKind::Vanished]));
    world.commit(&running);
    assert_eq!(world.committed.spans().map(|(_, span)| span.to).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_file_truncated_or_replaced_between_starts_is_refused_or_recorded() {
    for (follow, content, told) in [
        (true, "9\n", "truncated to 2 bytes"),
        (false, "1\n", "truncated to 2 bytes"),
        (true, "", "truncated to 0 bytes"),
        (false, "other\n", "replaced by other content of 6 bytes"),
    ] {
        let mut world = World::following(&["app.log"]);
        world.write("app.log", "1\n2\n");
        assert_eq!(world.follow(2).await, ["1", "2"]);
        // `fs::write` truncates in place: the inode stays.
        world.write("app.log", content);
        world.config.follow = follow;
        let error = world.open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        let text = error.to_string();
        for part in ["app.log", told, "4 bytes", "source.on_gap"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        world.config.on_gap = OnGap::Record;
        world.append("app.log", "3\n");
        let lines: Vec<&str> = content.lines().chain(["3"]).collect();
        assert_eq!(world.follow(lines.len()).await, lines);
        assert_eq!(world.committed.spans().len(), 1, "the old one is over");
        world.append("app.log", "4\n");
        assert_eq!(world.follow(1).await, ["4"], "after {content:?}");
    }
}

#[tokio::test]
async fn copytruncate_under_a_running_source_is_refused_or_recorded() {
    for on_gap in [OnGap::Refuse, OnGap::Record] {
        let mut world = World::following(&["app.log"]);
        world.config.on_gap = on_gap;
        world.write("app.log", "1\n2\n3");
        let mut running = world.start();
        running.read(2).await;
        // The same first bytes again: only the length tells.
        world.write("app.log", "1\n");
        match on_gap {
            OnGap::Refuse => {
                let error = running.failure().await;
                assert_eq!(error.kind(), ErrorKind::State);
                assert!(error.to_string().contains("truncated to "), "{error}");
            }
            OnGap::Record => {
                running.read(3).await;
                world.append("app.log", "2\n");
                running.read(4).await;
                assert_eq!(running.lines, ["1", "2", "1", "2"]);
                assert_eq!(running.offsets.spans().len(), 2);
                assert_eq!(running.source.remaining(), Some(0));
                world.commit(&running);
                drop(running);
                world.append("app.log", "3\n");
                assert_eq!(world.follow(1).await, ["3"]);
            }
        }
    }
}

#[tokio::test]
async fn a_running_file_rewritten_to_more_than_its_old_length_is_noticed() {
    let world = World::following(&["app.log"]);
    world.write("app.log", "1\n");
    let mut running = world.start();
    running.read(1).await;
    // Between its last read and its next look, a source that is reading cannot tell.
    running.is_silent().await;
    let mut file = OpenOptions::new().write(true).open(world.path("app.log")).unwrap();
    file.write_all(b"7\n8\n9\n").unwrap();
    let error = running.failure().await;
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("replaced by other content"), "{error}");
}

#[tokio::test]
async fn a_compressed_file_among_followed_ones_is_read_once_also_over_starts() {
    let mut world = World::following(&["*"]);
    world.write("a.log.gz", gzip(&numbered(0..100)));
    let mut running = world.start();
    running.read(100).await;
    world.write("b.log.zst", zstandard("100"));
    running.read(101).await;
    running.is_silent().await;
    assert_eq!(running.lines.pop().unwrap(), "100");
    assert_eq!(running.lines.join("\n") + "\n", numbered(0..100));
    world.commit(&running);
    drop(running);
    world.start().is_silent().await;
    world.rename("a.log.gz", ".elsewhere");
    world.start().is_silent().await;
}

#[tokio::test]
async fn too_many_files_stop_a_running_source_and_name_the_key() {
    let mut world = World::following(&["*.log"]);
    world.config.files_max = 2;
    world.write("a.log", "1\n");
    world.write("b.log", "2\n");
    let mut running = world.start();
    running.read(2).await;
    world.write("c.log", "3\n");
    let error = running.failure().await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("source.files_max"), "{error}");
}

#[tokio::test]
async fn a_file_is_committed_under_the_name_that_it_has_now_and_edited_there_it_is_a_gap() {
    for follows_the_rename in [true, false] {
        let mut world = World::following(&["*.log*"]);
        world.config.on_gap = OnGap::Record;
        world.write("app.log", numbered(0..300));
        let mut running = world.start();
        running.read(300).await;
        running.settle().await;
        if !follows_the_rename {
            world.commit(&running);
            running = world.start();
        }
        world.rename("app.log", "kept.log");
        running.settle().await;
        assert_eq!(running.notes(), []);
        world.commit(&running);
        drop(running);
        let labels: Vec<String> = world.committed.spans().map(|(_, span)| span.label.to_string()).collect();
        assert_eq!(labels, [world.path("kept.log").display().to_string()]);
        let edited = numbered(0..290);
        world.write("new", &edited);
        world.rename("new", "kept.log");
        let mut running = world.start();
        running.settle().await;
        assert_eq!(running.notes(), [NoteKind::Gap, NoteKind::Vanished]);
    }
}

#[tokio::test]
async fn files_whose_last_lines_have_no_ends_keep_no_other_from_being_read() {
    let mut world = World::following(&["*"]);
    world.config.open_max = 2;
    for name in ["a", "b", "c"] {
        world.write(name, format!("{name}1\n{name}2"));
    }
    world.write("d", "d1\n");
    let mut running = world.start();
    running.read(4).await;
    let mut read = running.lines.clone();
    read.sort();
    assert_eq!(read, ["a1", "b1", "c1", "d1"]);
    for name in ["a", "b", "c"] {
        world.append(name, "\n");
    }
    running.read(7).await;
    running.settle().await;
    assert_eq!((running.lines.len(), running.source.remaining()), (7, Some(0)));
}
