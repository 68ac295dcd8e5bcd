use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use flate2::write::GzEncoder;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::batch::Records;
use crate::config::{Copies, OnGap};
use crate::error::ErrorKind;
use crate::evidence::Key;
use crate::offsets::{Fingerprint, NoteKind, Offsets};
use crate::source::Resume;

mod edits;
mod random;

use super::identity::{IdentityV1, Inode};

const PATIENCE: Duration = Duration::from_secs(20);

/// A directory, a configuration over it, and what is committed: enough to be killed and started again.
struct World {
    dir: TempDir,
    config: FileConfig,
    committed: Offsets,
}

/// A running source. Dropping it is the kill.
struct Running {
    source: FileSource,
    /// What a checkpoint would commit now.
    offsets: Offsets,
    /// Lines read, in order, without their ends.
    lines: Vec<String>,
    labels: Vec<String>,
}

impl World {
    fn new(patterns: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = patterns.iter().map(|pattern| dir.path().join(pattern).display().to_string()).collect();
        let poll_interval = Duration::from_millis(5);
        let config = FileConfig {
            paths,
            follow: false,
            on_gap: OnGap::Refuse,
            poll_interval,
            files_max: 100,
            copies: Copies::Skip,
            remember: Duration::from_secs(3600),
            remember_max: 100,
        };
        Self { dir, config, committed: Offsets::default() }
    }

    fn following(patterns: &[&str]) -> Self {
        let mut world = Self::new(patterns);
        world.config.follow = true;
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    fn append(&self, name: &str, content: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(content.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn open(&self) -> Result<FileSource> {
        FileSource::open(&self.config, 1000, &Resume { offsets: &self.committed, key: &Key::new([7; 32]) })
    }

    fn start(&self) -> Running {
        Running { source: self.open().unwrap(), offsets: self.committed.clone(), lines: Vec::new(), labels: Vec::new() }
    }

    /// Commits as the store does: what vanished is forgotten, but for its fingerprint.
    fn commit(&mut self, running: &Running) {
        let mut remembered = (**running.offsets.remembered()).clone();
        for (_, span) in running.offsets.spans().filter(|(_, span)| span.vanished) {
            if let Some([head, tail]) = span.evidence.as_ref().map(|evidence| &evidence.witnesses[..]) {
                let head_bytes = u16::try_from(head.to).unwrap();
                remembered.insert(head.mark, Fingerprint { head_bytes, tail: tail.mark, to: span.to, at: 0 });
            }
        }
        self.committed = running.offsets.committed().with_remembered(Arc::new(remembered));
    }

    /// Reads to the end and commits.
    async fn run(&mut self) -> Vec<String> {
        let mut running = self.start();
        while running.step().await.unwrap() {}
        self.commit(&running);
        running.lines
    }

    /// Follows until `lines` are read, and commits.
    async fn follow(&mut self, lines: usize) -> Vec<String> {
        let mut running = self.start();
        running.read(lines).await;
        self.commit(&running);
        running.lines
    }
}

impl Running {
    /// Takes a chunk up; the offsets refuse what does not join.
    async fn step(&mut self) -> Result<bool> {
        let Some(chunk) = timeout(PATIENCE, self.source.read()).await.expect("nothing came")? else { return Ok(false) };
        self.take(chunk);
        Ok(true)
    }

    fn take(&mut self, chunk: Chunk) {
        self.offsets.extend(&chunk.range).unwrap();
        let name = Path::new(&*chunk.range.partition.label).file_name().unwrap();
        self.labels.push(name.to_str().unwrap().to_owned());
        match chunk.records {
            Records::Lines(lines) => {
                // What is passed over in a copy stands for bytes, and holds no lines.
                assert!(lines.is_empty() || chunk.range.to - chunk.range.from == lines.len() as u64);
                self.lines.extend(std::str::from_utf8(&lines).unwrap().lines().map(str::to_owned));
            }
            Records::TooLong { length, .. } => self.lines.push(format!("too long: {length}")),
            Records::Arrow(_) | Records::Messages { .. } => unreachable!("lines only"),
        }
    }

    /// Reads until there are so many lines.
    async fn read(&mut self, lines: usize) {
        while self.lines.len() < lines {
            assert!(self.step().await.unwrap(), "the input ended after {:?}", self.lines);
        }
    }

    /// Takes up what comes until nothing does for a while.
    async fn settle(&mut self) {
        while let Ok(Some(chunk)) = timeout(Duration::from_millis(60), self.source.read()).await.unwrap_or(Ok(None)) {
            self.take(chunk);
        }
    }

    /// Asserts that no record comes for a while.
    async fn is_silent(&mut self) {
        let before = self.lines.len();
        self.settle().await;
        assert_eq!(self.lines[before..], [""; 0]);
    }

    /// Returns what was noted since the last commit.
    fn notes(&self) -> Vec<NoteKind> {
        self.offsets.notes().iter().map(|(_, note)| note.kind).collect()
    }

    /// Reads until the source fails.
    async fn failure(&mut self) -> Error {
        loop {
            match self.step().await {
                Ok(more) => assert!(more, "the input ended"),
                Err(error) => return error,
            }
        }
    }
}

fn gzip(content: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(content: &str) -> Vec<u8> {
    zstd::encode_all(content.as_bytes(), 1).unwrap()
}

fn numbered(lines: std::ops::Range<usize>) -> String {
    lines.map(|n| format!("{{\"n\":{n},\"text\":\"{}\"}}\n", n * 7919 % 104_729)).collect()
}

#[tokio::test]
async fn files_are_read_once_in_the_order_of_their_names_and_then_the_input_ends() {
    let mut world = World::new(&["*.ndjson", "first"]);
    world.write("b.ndjson", "3\n4\n");
    world.write("a.ndjson", "1\n2");
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
        let error = world.start().failure().await;
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains(name) && error.to_string().contains("after byte "), "{error}");
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
async fn a_file_with_two_names_is_read_once() {
    let mut world = World::new(&["*.log"]);
    world.write("a.log", "1\n");
    fs::hard_link(world.path("a.log"), world.path("b.log")).unwrap();
    std::os::unix::fs::symlink(world.path("a.log"), world.path("c.log")).unwrap();
    assert_eq!(world.run().await, ["1"]);
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
