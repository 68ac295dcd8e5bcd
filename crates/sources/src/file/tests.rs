use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use flate2::write::GzEncoder;
use pintail_core::batch::Records;
use pintail_core::error::ErrorKind;
use pintail_core::evidence::Key;
use pintail_core::offsets::{Fingerprint, NoteKind, Offsets};
use tempfile::TempDir;
use tokio::time::timeout;

use super::config::Copies;
use super::identity::{IdentityV1, Inode};
use super::*;
use crate::OnGap;
use crate::Resume;
use crate::kind::tests::DISK;

mod ages;
mod alike;
mod aside;
mod away;
mod copied;
mod copies;
mod edits;
mod followed;
mod foreign;
mod links;
mod many;
mod random;
mod read_once;
mod returns;
mod version_1;
mod zeros;

const PATIENCE: Duration = Duration::from_secs(20);

/// Contents below and above what a file is recognized by.
const SIZES: [usize; 2] = [3, 300];

/// A directory, a configuration over it, and what is committed: enough to be killed and started again.
struct World {
    dir: TempDir,
    config: FileConfig,
    record_bytes_max: usize,
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
    /// Why the source failed.
    failed: Option<String>,
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
            open_max: 100,
            copies: Copies::Skip,
            remember: Duration::from_secs(3600),
            remember_max: 100,
        };
        Self { dir, config, record_bytes_max: 1000, committed: Offsets::default() }
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
        let out_path = self.dir.path().join("out");
        let around = Surroundings { record_bytes_max: self.record_bytes_max, ..Surroundings::of(&out_path, &DISK) };
        FileSource::open(&self.config, &around, &Resume { offsets: &self.committed, key: &Key::new([7; 32]) })
    }

    fn start(&self) -> Running {
        Running { source: self.open().unwrap(), offsets: self.committed.clone(), lines: Vec::new(), labels: Vec::new(), failed: None }
    }

    /// Commits as the store does: what vanished is forgotten, but for its fingerprint.
    fn commit(&mut self, running: &Running) {
        let mut remembered = (**running.offsets.remembered()).clone();
        for (_, span) in running.offsets.spans().filter(|(_, span)| span.vanished) {
            remembered.extend(span.evidence.as_ref().and_then(|evidence| Fingerprint::of(evidence, span.to, 0)));
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
            Records::Arrow(_) | Records::Payloads(_) => unreachable!("lines only"),
        }
    }

    /// Reads until there are so many lines.
    async fn read(&mut self, lines: usize) {
        while self.lines.len() < lines {
            assert!(self.step().await.unwrap(), "the input ended after {:?}", self.lines);
        }
    }

    /// Takes what comes until nothing does for a while.
    async fn settle(&mut self) {
        loop {
            match timeout(Duration::from_millis(60), self.source.read()).await.unwrap_or(Ok(None)) {
                Ok(Some(chunk)) => self.take(chunk),
                Ok(None) => return,
                Err(error) => return self.failed = Some(error.to_string()),
            }
        }
    }

    /// Takes what comes for a while, or until a gap is noted and nothing comes. Returns the number of gaps.
    async fn gaps_in(&mut self, while_: Duration) -> usize {
        let end = std::time::Instant::now() + while_;
        let gaps = |running: &Self| running.notes().iter().filter(|kind| **kind == NoteKind::Gap).count();
        while gaps(self) == 0 && std::time::Instant::now() < end {
            self.settle().await;
        }
        self.settle().await;
        gaps(self)
    }

    /// Takes up what comes until so many files wait.
    async fn until_waiting(&mut self, count: usize) {
        let end = std::time::Instant::now() + PATIENCE;
        while self.source.waiting.get().count != count {
            assert!(std::time::Instant::now() < end, "{:?}", self.source.waiting.get());
            self.settle().await;
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

pub(super) fn gzip(content: &str) -> Vec<u8> {
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

fn lines(range: std::ops::Range<usize>) -> Vec<String> {
    numbered(range).lines().map(str::to_owned).collect()
}

fn copy(world: &World, from: &str, to: &str) {
    fs::copy(world.path(from), world.path(to)).unwrap();
}

fn remove(world: &World, name: &str) {
    fs::remove_file(world.path(name)).unwrap();
}
