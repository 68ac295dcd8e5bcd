//! Dead letters as a source: what was rejected is read again.
//!
//! Owns: the files that were there at the start, and reading the original record out of each line.
//! Does not own: the lines' writing (see `pintail_sink`), and the decision to replay (see `commands::dead_letters`).
//!
//! Each file is a partition of its own, counted in records (a line may stand for many that are alike), beside those of the original source: so its offsets are committed like any
//! others, and each dead letter is replayed once. A row of the output is no record that could be read again: it is counted with the
//! records beside it, a file of nothing else is left as it is, and it stays a dead letter.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use memchr::memchr;
use pintail_core::batch::{Chunk, OffsetUnit, Records};
use pintail_core::breaker::WhenRejected;
use pintail_core::clock::Clock;
use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;
use pintail_core::offsets::{OffsetRange, Offsets, Partition, PartitionId};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tracing::warn;

use super::Source;
use super::thread::{ChunkSender, Exit, ReadThread};

#[cfg(test)]
mod tests;

/// The name of the thread.
const NAME: &str = "dead_letters";

/// Bytes of records after which a chunk is handed on.
const CHUNK_BYTES: usize = 256 << 10;

/// The rejected records of a dataset that were not replayed yet.
#[derive(Debug)]
pub struct DeadLetterSource {
    thread: ReadThread,
}

/// A line of a file of dead letters, as far as a replay needs it.
#[derive(Deserialize)]
struct Line {
    /// Where the same record stood again: how much further on each time, and how often.
    #[serde(default)]
    then: Vec<(u64, u64)>,
    length: u64,
    record: Option<String>,
    record_base64: Option<String>,
    output_row: Option<IgnoredAny>,
}

/// One file, from a record on.
#[derive(Debug)]
struct Letters {
    path: PathBuf,
    partition: Arc<Partition>,
    from: u64,
}

impl DeadLetterSource {
    /// Lists the files in `directory` that are there now, in the order of their checkpoints, and begins to read where the last replay
    /// stopped.
    ///
    /// # Errors
    /// `Io` if the directory cannot be read. None at all is no error.
    pub fn open(directory: &Path, offsets: &Offsets) -> Result<Self> {
        let files = list(directory, offsets)?;
        let thread = ReadThread::spawn(NAME, move |sender| {
            let rows = files.into_iter().try_fold(0, |rows, letters| Ok::<_, Exit>(rows + letters.read(sender)?))?;
            if rows > 0 {
                warn!(rows, "cannot be replayed, and stay dead letters: rows of the SQL's output, past sink.partitions_max");
            }
            Ok(())
        })?;
        Ok(Self { thread })
    }
}

#[async_trait]
impl Source for DeadLetterSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        self.thread.recv().await
    }

    fn when_rejected(&self) -> WhenRejected {
        WhenRejected::GoOn
    }

    fn work(&self) -> Option<Arc<Clock>> {
        Some(self.thread.work())
    }
}

fn list(directory: &Path, offsets: &Offsets) -> Result<VecDeque<Letters>> {
    let failed = |e| Error::io(format_args!("list `{}`", directory.display()), e);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(VecDeque::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let Some(stem) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".ndjson")) else { continue };
        let id = PartitionId::of_letter_file(stem);
        let from = offsets.next_offset(&id).unwrap_or(0);
        let label = id.as_str().into();
        files.push(Letters { path, partition: Arc::new(Partition { id, label }), from });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files.into())
}

/// A chunk of records that grows: `[from, next)` of the file.
struct Open {
    from: u64,
    next: u64,
    lines: Vec<u8>,
    /// Whether it holds anything but rows of the output.
    has_record: bool,
    /// Rows of the output in the file so far.
    output_rows: u64,
}

impl Letters {
    /// Reads the file, and returns how many rows of the output it holds, which cannot be replayed.
    fn read(self, sender: &ChunkSender) -> Result<u64, Exit> {
        let failed = |e| Error::io(format_args!("read `{}`", self.path.display()), e);
        let mut input = BufReader::with_capacity(CHUNK_BYTES, File::open(&self.path).map_err(failed)?);
        let mut open = Open { from: self.from, next: 0, lines: Vec::new(), has_record: false, output_rows: 0 };
        let mut line = Vec::new();
        let mut number = 0;
        while input.read_until(b'\n', &mut line).map_err(failed)? > 0 {
            number += 1;
            self.take(&line, number, &mut open, sender)?;
            line.clear();
        }
        if open.next < self.from {
            let (path, records, from) = (self.path.display(), open.next, self.from);
            let verify = command("verify");
            return Err(Error::state(format!("`{path}` has {records} records and {from} were replayed: run {verify}")).into());
        }
        // Rows of the output alone make no checkpoint: nothing of them is replayed.
        if open.has_record {
            self.hand_on(&mut open, sender)?;
        }
        Ok(open.output_rows)
    }

    /// Takes up the records of a line that were not replayed.
    fn take(&self, line: &[u8], number: u64, open: &mut Open, sender: &ChunkSender) -> Result<(), Exit> {
        let (original, records) = Original::parse(line).map_err(|why| {
            Error::state(format!("`{}` line {number} is no dead letter: {why}; run {}", self.path.display(), command("verify")))
        })?;
        let replayed = self.from.saturating_sub(open.next).min(records);
        open.next += replayed;
        if matches!(original, Original::OutputRow) {
            open.output_rows += records;
        }
        (replayed..records).try_for_each(|_| self.take_one(&original, open, sender))
    }

    /// Adds a record to the chunk, or hands it on alone if it is not whole.
    fn take_one(&self, original: &Original, open: &mut Open, sender: &ChunkSender) -> Result<(), Exit> {
        match original {
            // A blank line is no record, and keeps the count.
            Original::OutputRow => {
                open.lines.push(b'\n');
                open.next += 1;
            }
            Original::Whole(record) => {
                open.lines.extend_from_slice(record);
                open.lines.push(b'\n');
                open.next += 1;
                open.has_record = true;
                if open.lines.len() >= CHUNK_BYTES {
                    self.hand_on(open, sender)?;
                }
            }
            Original::Cut { head, length } => {
                self.hand_on(open, sender)?;
                self.send(Records::TooLong { head: head.clone(), length: *length }, open.next, open.next + 1, sender)?;
                open.next += 1;
                open.from = open.next;
            }
        }
        Ok(())
    }

    fn hand_on(&self, open: &mut Open, sender: &ChunkSender) -> Result<(), Exit> {
        if open.from == open.next {
            return Ok(());
        }
        let lines = Bytes::from(std::mem::take(&mut open.lines));
        let from = std::mem::replace(&mut open.from, open.next);
        open.has_record = false;
        self.send(Records::Lines(lines), from, open.next, sender)
    }

    fn send(&self, records: Records, from: u64, to: u64, sender: &ChunkSender) -> Result<(), Exit> {
        let range = OffsetRange::new(self.partition.clone(), from, to);
        sender.send(Chunk::new(records, range, OffsetUnit::Records))
    }
}

/// The record that was rejected.
#[derive(Debug)]
enum Original {
    Whole(Vec<u8>),
    /// It is not there: the SQL has made a row of it.
    OutputRow,
    /// Too long to be kept: it cannot be replayed, and is rejected again.
    Cut {
        head: Bytes,
        length: u64,
    },
}

impl Original {
    /// Returns the record of a line, and how often it was rejected.
    fn parse(line: &[u8]) -> Result<(Self, u64), String> {
        let line: Line = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        let records = line.then.iter().try_fold(1_u64, |sum, (_, times)| sum.checked_add(*times)).ok_or("it counts too many records")?;
        if line.output_row.is_some() {
            return Ok((Self::OutputRow, records));
        }
        let bytes = match (line.record, line.record_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => STANDARD.decode(text).map_err(|e| format!("`record_base64`: {e}"))?,
            _ => return Err("it has not exactly one of `record` and `record_base64`".to_owned()),
        };
        if line.length > bytes.len() as u64 {
            return Ok((Self::Cut { head: Bytes::from(bytes), length: line.length }, records));
        }
        Ok((Self::Whole(on_one_line(bytes)), records))
    }
}

/// Takes line ends out of a record, which would make two of it. Of JSON they are space between tokens.
fn on_one_line(mut record: Vec<u8>) -> Vec<u8> {
    if memchr(b'\n', &record).is_some() {
        record.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
    }
    record
}
