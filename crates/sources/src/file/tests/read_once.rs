//! Files that are read once.

use super::*;

/// Makes a file that was written an hour ago.
fn write_old(world: &World, name: &str, content: &str) {
    world.write(name, content);
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(world.path(name)).unwrap().set_modified(hour_ago).unwrap();
}

#[tokio::test]
async fn files_are_read_once_in_the_order_of_their_names_and_then_the_input_ends() {
    let mut world = World::new(&["*.ndjson", "first"]);
    world.write("b.ndjson", "3\n4\n");
    write_old(&world, "a.ndjson", "1\n2");
    world.write("c.ndjson", "");
    world.write("first", "5\n");
    let mut running = world.start();
    assert_eq!(running.source.remaining(), Some(9));
    while running.step().await.unwrap() {}
    assert_eq!(running.lines, ["1", "2", "3", "4", "5"]);
    running.labels.dedup();
    assert_eq!(running.labels, ["a.ndjson", "b.ndjson", "first"]);
    assert_eq!(running.source.remaining(), Some(0));
    world.commit(&running);
    assert_eq!(world.run().await, [""; 0]);
}

#[tokio::test]
async fn a_kill_between_two_checkpoints_reads_the_rest_of_the_same_lines() {
    let mut world = World::new(&["*.ndjson"]);
    world.write("a.ndjson", numbered(0..60_000));
    world.write("b.ndjson", numbered(60_000..120_000));
    let mut all = Vec::new();
    let mut starts = 0;
    loop {
        let mut running = world.start();
        starts += 1;
        let more = running.step().await.unwrap();
        world.commit(&running);
        all.append(&mut running.lines);
        // Read, and not committed: read again after the kill.
        let _ = timeout(PATIENCE, running.source.read()).await.unwrap().unwrap();
        if !more {
            break;
        }
    }
    assert!(starts > 6, "{starts} starts");
    assert_eq!(all.join("\n") + "\n", numbered(0..120_000));
}

#[tokio::test]
async fn compressed_files_go_on_at_a_decompressed_offset() {
    let mut world = World::new(&["*.ndjson*"]);
    let members = [gzip(&numbered(0..20_000)), gzip(&numbered(20_000..40_000))].concat();
    world.write("a.ndjson.gz", members);
    world.write("b.ndjson.zst", [zstandard(&numbered(40_000..60_000)), zstandard(numbered(60_000..80_000).trim_end())].concat());
    let mut all = Vec::new();
    loop {
        let mut running = world.start();
        let mut more = true;
        for _ in 0..5 {
            more = more && running.step().await.unwrap();
        }
        world.commit(&running);
        all.append(&mut running.lines);
        if !more {
            break;
        }
    }
    assert_eq!(all.join("\n") + "\n", numbered(0..80_000));
    assert_eq!(world.run().await, [""; 0]);
}

#[tokio::test]
async fn a_corrupt_compressed_file_is_an_io_error_that_names_the_file_and_the_offset() {
    for (name, content) in [("a.gz", gzip(&numbered(0..20_000))), ("a.zst", zstandard(&numbered(0..20_000)))] {
        let mut torn = content.clone();
        torn.truncate(content.len() * 2 / 3);
        let world = World::new(&[name]);
        world.write(name, torn);
        let mut running = world.start();
        while running.step().await.unwrap() {}
        let error = running.source.left().unwrap();
        assert_eq!((error.kind(), running.lines.len()), (ErrorKind::Io, 0), "{error}");
        assert!(error.to_string().contains(name) && error.to_string().contains("behind byte "), "{error}");
    }
}

#[tokio::test]
async fn a_compressed_file_that_holds_less_than_was_read_is_refused_or_read_anew() {
    let mut world = World::new(&["a.gz"]);
    // Stored, not compressed, and the same first kilobyte: recognized as the same file.
    let stored = |content: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::none());
        encoder.write_all(content.as_bytes()).unwrap();
        encoder.flush().unwrap();
        encoder
    };
    let head = "x".repeat(1200) + "\n";
    let mut long = stored(&head);
    long.write_all(b"more\n").unwrap();
    world.write("a.gz", long.finish().unwrap());
    assert_eq!(world.run().await.len(), 2);
    world.write("a.gz", stored(&head).finish().unwrap());
    let error = world.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State, "{error}");
    assert!(error.to_string().contains("truncated to 1201 bytes") && error.to_string().contains("1206 bytes"), "{error}");
    world.config.on_gap = OnGap::Record;
    assert_eq!(world.run().await, ["too long: 1200"]);
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_a_configuration_error_unless_it_was_read_before() {
    for pattern in ["missing.ndjson", "missing-*.ndjson"] {
        let mut world = World::new(&[pattern, "there"]);
        world.write("there", "1\n");
        let error = world.open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(pattern), "{error}");
        world.write("missing-1.ndjson", "0\n");
        world.write("missing.ndjson", "0\n");
        assert_eq!(world.run().await, ["0", "1"]);
        fs::remove_file(world.path("missing-1.ndjson")).unwrap();
        fs::remove_file(world.path("missing.ndjson")).unwrap();
        assert_eq!(world.run().await, [""; 0]);
        // Forgotten, but remembered: the third start is as good as the second.
        assert_eq!(world.run().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_record_past_the_limit_is_counted_and_its_neighbours_are_read() {
    let mut world = World::new(&["a"]);
    world.write("a", format!("1\n{}\n2\n", "x".repeat(100_000)));
    assert_eq!(world.run().await, ["1", "too long: 100000", "2"]);
    assert_eq!(world.committed.spans().map(|(_, span)| span.to).collect::<Vec<_>>(), [100_005]);
}

#[tokio::test]
async fn a_file_with_two_names_is_read_once() {
    let mut world = World::new(&["*.log"]);
    world.write("a.log", "1\n");
    fs::hard_link(world.path("a.log"), world.path("b.log")).unwrap();
    std::os::unix::fs::symlink(world.path("a.log"), world.path("c.log")).unwrap();
    assert_eq!(world.run().await, ["1"]);
}

#[tokio::test]
async fn a_last_line_without_an_end_is_read_once_its_file_stands_still() {
    let mut world = World::new(&["*.log"]);
    write_old(&world, "a.log", "1\n2");
    let begin = std::time::Instant::now();
    assert_eq!(world.run().await, ["1", "2"]);
    assert!(begin.elapsed() < Duration::from_secs(4), "nobody waits for a file that was written an hour ago");
    world.write("b.log", "3\n4");
    assert_eq!(world.run().await, ["3", "4"]);
    assert_eq!(world.run().await, [""; 0]);
}

#[tokio::test]
async fn a_last_line_that_is_still_written_waits_for_the_next_run() {
    let mut world = World::new(&["*.log"]);
    world.write("a.log", "1\n2");
    let path = world.path("a.log");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        while stopped.recv_timeout(Duration::from_millis(10)).is_err() {
            file.write_all(b"2").unwrap();
        }
        file.write_all(b"2\n3\n").unwrap();
    });
    assert_eq!(world.run().await, ["1"]);
    assert!(world.committed.spans().all(|(_, span)| span.evidence.as_ref().unwrap().end.is_some()), "that there is more is kept");
    stop.send(()).unwrap();
    writer.join().unwrap();
    let rest = world.run().await;
    assert!(rest[0].len() > 2 && rest[0].bytes().all(|byte| byte == b'2') && rest[1..] == ["3"], "{rest:?}");
}

#[tokio::test]
async fn a_line_that_gets_its_end_while_it_is_waited_for_is_read_whole() {
    let mut world = World::new(&["*.log"]);
    world.write("a.log", "1\n2");
    let path = world.path("a.log");
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"2\n").unwrap();
    });
    assert_eq!(world.run().await, ["1", "22"]);
    writer.join().unwrap();
}

#[tokio::test]
async fn files_without_a_last_line_end_that_bear_times_in_the_future_do_not_wait_each() {
    let mut world = World::new(&["*"]);
    let tomorrow = std::time::SystemTime::now() + Duration::from_secs(86_400);
    for n in 0..4 {
        world.write(&format!("{n}"), format!("{n}"));
        File::options().write(true).open(world.path(&format!("{n}"))).unwrap().set_modified(tomorrow).unwrap();
    }
    let begin = std::time::Instant::now();
    assert_eq!(world.run().await, ["0", "1", "2", "3"]);
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
}
