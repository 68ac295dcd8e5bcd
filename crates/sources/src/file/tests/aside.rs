use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::*;

/// Damages: what each makes of the bytes of an archive.
fn damages(whole: &[u8]) -> Vec<Vec<u8>> {
    let mut flipped = whole.to_vec();
    // In the check sum: all of the content decompresses.
    let at = whole.len() - 6 + usize::from(whole[0] == 0x28) * 4;
    flipped[at] ^= 1;
    let mut tailed = whole.to_vec();
    tailed.extend_from_slice(b"\r\ngarbage");
    vec![whole[..whole.len() / 2].to_vec(), whole[..whole.len() - 3].to_vec(), flipped, tailed]
}

fn checked_zstandard(content: &str) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_damaged_archive_waits_alone_and_is_read_once_when_it_is_whole() {
    let gzipped = gzip(&numbered(0..3000));
    for damaged in damages(&gzipped) {
        let mut world = World::following(&["*"]);
        world.write("a.gz", &damaged);
        world.write("b.ndjson", numbered(5000..5003));
        let mut running = world.start();
        running.read(3).await;
        assert_eq!(running.lines, lines(5000..5003));
        // An archive is looked at when it stands still, which on a busy machine may be seen late.
        running.until_waiting(1).await;
        running.is_silent().await;
        assert!(running.source.waiting.get().named[0].path.ends_with("a.gz"));
        world.write("a.gz", &gzipped);
        running.read(3003).await;
        running.is_silent().await;
        assert_eq!(running.lines[3..], lines(0..3000));
        running.until_waiting(0).await;
        world.commit(&running);
        drop(running);
        assert_eq!(world.start().source.waiting.get().count, 0);
    }
}

#[tokio::test]
async fn what_is_read_once_ends_with_an_error_after_all_others_and_goes_on_when_that_is_mended() {
    for whole in [gzip(&numbered(0..3000)), checked_zstandard(&numbered(0..3000))] {
        for damaged in damages(&whole) {
            let mut world = World::new(&["*"]);
            world.write("a.gz", &damaged);
            world.write("b.ndjson", numbered(5000..5003));
            world.write("z.ndjson", numbered(6000..6003));
            let mut running = world.start();
            while running.step().await.unwrap() {}
            assert_eq!(running.lines, [lines(5000..5003), lines(6000..6003)].concat());
            let left = running.source.left().unwrap();
            assert_eq!(left.kind(), ErrorKind::Io);
            assert!(left.to_string().contains("a.gz"), "{left}");
            world.commit(&running);
            world.write("a.gz", &whole);
            let mut running = world.start();
            while running.step().await.unwrap() {}
            assert!(running.source.left().is_none());
            assert_eq!(running.lines, lines(0..3000));
        }
    }
}

#[tokio::test]
async fn gzip_and_zstd_are_told_by_their_bytes_and_zeros_behind_them_are_the_end() {
    let padded = |mut bytes: Vec<u8>, zeros: usize| {
        bytes.extend(std::iter::repeat_n(0, zeros));
        bytes
    };
    for follow in [false, true] {
        let mut world = World::new(&["*"]);
        world.config.follow = follow;
        world.write("a.gz", numbered(0..10));
        world.write("b.ndjson", gzip(&numbered(10..20)));
        world.write("c.log.1", zstandard(&numbered(20..30)));
        world.write("d.gz", zstandard(&numbered(30..40)));
        world.write("e.GZ", padded(gzip(&numbered(40..50)), 300_000));
        world.write("f.zst", padded([zstandard(&numbered(50..55)), zstandard(&numbered(55..60))].concat(), 7));
        world.write("g.zst", "");
        let mut running = world.start();
        running.read(60).await;
        let mut read = running.lines.clone();
        read.sort();
        let mut expected = lines(0..60);
        expected.sort();
        assert_eq!(read, expected);
        running.settle().await;
        assert_eq!((running.lines.len(), running.source.waiting.get().count), (60, 0));
        world.commit(&running);
        drop(running);
        let mut again = world.start();
        again.settle().await;
        assert_eq!(again.lines, [""; 0]);
    }
}

#[tokio::test]
async fn a_file_that_grows_into_an_archive_is_read_as_one_whatever_it_is_called() {
    let world = World::following(&["*"]);
    world.write("a.ndjson", "");
    world.write("b.gz", "");
    let mut running = world.start();
    running.is_silent().await;
    let bytes = gzip(&numbered(0..3000));
    for part in [1, 2, 3, 500] {
        world.write("a.ndjson", &bytes[..part]);
        running.is_silent().await;
    }
    world.write("a.ndjson", &bytes);
    running.read(3000).await;
    world.append("b.gz", &numbered(5000..5002));
    running.read(3002).await;
    running.is_silent().await;
    assert_eq!(running.lines, [lines(0..3000), lines(5000..5002)].concat());
}

#[tokio::test]
async fn names_of_any_bytes_are_read_and_known_again() {
    let names: [&[u8]; 4] = [b"a\xff.ndjson", b"a\xfe.ndjson", b"\xc3.ndjson", b"dir\xff/b.ndjson"];
    for follow in [false, true] {
        let mut world = World::new(&["**/*.ndjson"]);
        world.config.follow = follow;
        for (n, name) in names.iter().enumerate() {
            let path = world.dir.path().join(OsStr::from_bytes(name));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, numbered(n * 300..(n + 1) * 300)).unwrap();
        }
        let mut running = world.start();
        running.read(1200).await;
        let mut read = running.lines.clone();
        read.sort();
        let mut expected = lines(0..1200);
        expected.sort();
        assert_eq!(read, expected);
        running.settle().await;
        world.commit(&running);
        drop(running);
        for name in &names {
            let mut file = OpenOptions::new().append(true).open(world.dir.path().join(OsStr::from_bytes(name))).unwrap();
            file.write_all(b"more\n").unwrap();
        }
        let mut running = world.start();
        running.read(4).await;
        running.settle().await;
        assert_eq!(running.lines, ["more"; 4]);
    }
}

#[tokio::test]
async fn loops_of_links_and_a_link_to_itself_end_nothing() {
    for follow in [false, true] {
        let mut world = World::new(&["**/*"]);
        world.config.follow = follow;
        fs::create_dir_all(world.path("x/y")).unwrap();
        world.write("x/a", numbered(0..3));
        symlink(".", world.path("x/here")).unwrap();
        symlink("..", world.path("x/y/up")).unwrap();
        symlink("../../x", world.path("x/y/round")).unwrap();
        symlink("self", world.path("self")).unwrap();
        let mut running = world.start();
        running.read(3).await;
        running.settle().await;
        assert_eq!((running.lines.clone(), running.labels[0].as_str()), (lines(0..3), "a"));
        let waiting = running.source.waiting.get();
        assert!(waiting.count == 1 && waiting.named[0].path.ends_with("self"), "{waiting:?}");
        if follow {
            fs::remove_file(world.path("self")).unwrap();
            world.write("self", numbered(3..5));
            running.read(5).await;
            running.settle().await;
            assert_eq!(running.source.waiting.get().count, 0);
        }
    }
}

#[tokio::test]
async fn a_name_that_becomes_a_directory_or_a_pipe_is_waited_for() {
    let world = World::following(&["a", "b"]);
    world.write("a", numbered(0..3));
    world.write("b", numbered(10..12));
    let mut running = world.start();
    running.read(5).await;
    world.rename("a", "old");
    fs::create_dir(world.path("a")).unwrap();
    world.append("b", &numbered(12..13));
    running.read(6).await;
    running.settle().await;
    assert_eq!(running.source.waiting.get().count, 1);
    fs::remove_dir(world.path("a")).unwrap();
    world.write("a", numbered(3..5));
    running.read(8).await;
    running.settle().await;
    assert_eq!(running.source.waiting.get().count, 0);
}

#[tokio::test]
async fn the_directory_of_the_dataset_is_never_input_whatever_leads_to_it() {
    let world = World::following(&["**/*"]);
    fs::create_dir_all(world.path("out/_pintail")).unwrap();
    fs::create_dir(world.path("in")).unwrap();
    world.write("out/_pintail/letters.ndjson", numbered(100..110));
    world.write("out/x.parquet", "PAR1\n");
    symlink("../out/_pintail", world.path("in/inside")).unwrap();
    symlink("out", world.path("link")).unwrap();
    symlink("../out/x.parquet", world.path("in/file")).unwrap();
    world.write("in/a", numbered(0..3));
    let mut running = world.start();
    running.read(3).await;
    running.is_silent().await;
    assert_eq!(running.lines, lines(0..3));
    for inside in ["out/*", "out/_pintail/letters.ndjson", "in/inside/*"] {
        let config = FileConfig { paths: vec![world.path(inside).display().to_string()], ..world.config.clone() };
        let out = world.path("out");
        let around = Surroundings { record_bytes_max: 1000, ..Surroundings::of(&out, &DISK) };
        let refused = FileSource::open(&config, &around, &Resume { offsets: &Offsets::default(), key: &Key::new([7; 32]) }).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config, "{inside}: {refused}");
    }
}

#[test]
fn a_check_says_what_is_not_there_what_is_passed_over_and_what_cannot_be_read() {
    let world = World::following(&["*", "no.ndjson"]);
    fs::create_dir(world.path("out")).unwrap();
    symlink("self", world.path("self")).unwrap();
    world.write("a", numbered(0..1));
    let (out, key) = (world.path("out"), Key::new([7; 32]));
    let around = Surroundings { record_bytes_max: 1000, ..Surroundings::of(&out, &DISK) };
    let said = FileSource::check(&world.config, &around, &Resume { offsets: &Offsets::default(), key: &key }).unwrap().join("\n");
    for what in ["no.ndjson", "self", "1 file"] {
        assert!(said.contains(what), "{said}");
    }
    let world = World::following(&["**/*"]);
    fs::create_dir(world.path("out")).unwrap();
    let out = world.path("out");
    let around = Surroundings { out_path: &out, ..around };
    let said = FileSource::check(&world.config, &around, &Resume { offsets: &Offsets::default(), key: &key }).unwrap().join("\n");
    assert!(said.contains("pipeline.out_path"), "{said}");
}

/// What waits is not taken for gone: nothing is lost while its directory or its file cannot be looked at.
#[tokio::test]
async fn a_known_file_that_cannot_be_looked_at_is_not_lost_and_read_on_later() {
    for follow in [false, true] {
        let mut world = World::new(&["*"]);
        world.config.follow = follow;
        world.write("a", numbered(0..300));
        world.write("b", numbered(1000..1003));
        let mut running = world.start();
        running.read(303).await;
        running.settle().await;
        world.commit(&running);
        drop(running);
        world.append("a", &numbered(300..302));
        fs::create_dir(world.path("kept")).unwrap();
        world.rename("a", "kept/a");
        symlink("a", world.path("a")).unwrap();
        let mut running = world.start();
        running.settle().await;
        assert_eq!((running.lines.len(), running.notes()), (0, vec![]));
        assert_eq!(running.source.waiting.get().count, 1);
        world.commit(&running);
        drop(running);
        world.rename("kept/a", "a");
        let mut running = world.start();
        running.read(2).await;
        running.settle().await;
        assert_eq!(running.lines, lines(300..302));
    }
}

#[tokio::test]
async fn a_file_that_waits_does_not_hide_that_a_relative_of_it_was_cut() {
    let world = World::following(&["app.log*"]);
    let whole = gzip(&numbered(5000..8000));
    world.write("app.log.3.gz", &whole[..whole.len() / 2]);
    world.write("app.log", numbered(0..300) + "unfinished");
    let mut running = world.start();
    running.read(300).await;
    running.settle().await;
    assert_eq!(running.source.waiting.get().count, 1);
    world.write("app.log", numbered(9000..9003));
    let error = running.failure().await;
    assert!(error.kind() == ErrorKind::State && error.to_string().contains("app.log"), "{error}");
}

#[tokio::test]
async fn a_pattern_behind_what_cannot_be_looked_at_is_no_mistake_of_the_configuration() {
    for pattern in ["loop/*.ndjson", "loop"] {
        let world = World::new(&["a", pattern]);
        symlink("loop", world.path("loop")).unwrap();
        world.write("a", numbered(0..3));
        let mut running = world.start();
        while running.step().await.unwrap() {}
        assert_eq!(running.lines, lines(0..3));
        let left = running.source.left().unwrap();
        assert!(left.kind() == ErrorKind::Io && left.to_string().contains("loop"), "{left}");
    }
    let world = World::new(&["a", "loop", "no/*.ndjson"]);
    symlink("loop", world.path("loop")).unwrap();
    world.write("a", numbered(0..3));
    assert_eq!(world.open().unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_file_that_waits_and_loses_its_name_is_read_when_it_can_be() {
    let world = World::following(&["*.gz"]);
    let whole = gzip(&numbered(0..3000));
    world.write("a.gz", &whole[..whole.len() / 2]);
    let mut running = world.start();
    running.settle().await;
    running.settle().await;
    assert_eq!(running.source.waiting.get().count, 1);
    world.rename("a.gz", "kept");
    world.write("a.gz", gzip(&numbered(5000..5003)));
    running.read(3).await;
    running.settle().await;
    assert_eq!((running.lines.clone(), running.source.waiting.get().count), (lines(5000..5003), 1));
    world.write("kept", &whole);
    running.read(3003).await;
    running.is_silent().await;
    assert_eq!((running.lines[3..].to_vec(), running.source.waiting.get().count), (lines(0..3000), 0));
}

#[tokio::test]
async fn a_damaged_file_that_is_taken_away_or_replaced_is_noted_and_no_gap() {
    let world = World::following(&["*.gz"]);
    let whole = gzip(&numbered(0..3000));
    world.write("a.gz", &whole[..whole.len() / 2]);
    world.write("b.gz", &whole[..whole.len() / 2]);
    let mut running = world.start();
    running.settle().await;
    running.settle().await;
    assert_eq!(running.source.waiting.get().count, 2);
    remove(&world, "a.gz");
    world.write("new", &whole);
    world.rename("new", "b.gz");
    running.read(3000).await;
    running.settle().await;
    assert_eq!((running.lines.clone(), running.source.waiting.get().count), (lines(0..3000), 0));
    assert_eq!(running.notes(), [NoteKind::Vanished; 2]);
}
