//! Dead letters as a source: what was rejected is read again.
//!
//! Owns: the files that were there at the start, and that each record is again what its source had read: a line, or a message with all that the
//! broker said of it.
//! Does not own: the form of the files (see [`pintail_storage::checkpoint::dead_letters`]), the decision to replay (see `commands::dead_letters`).
//!
//! Each file is a partition of its own, counted in records (a line may stand for many that are alike), beside those of the original source: so its offsets are committed like any
//! others, and each dead letter is replayed once. A row of the output is no record that could be read again: it is counted with the
//! records beside it, a file of nothing else is left as it is, and it stays a dead letter.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pintail_core::batch::{Chunk, DeadLetter, LetterForm, OffsetUnit, Records};
use pintail_core::breaker::WhenRejected;
use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;
use pintail_core::messages::{Envelope, PayloadsBuilder};
use pintail_core::offsets::{OffsetRange, Offsets, Partition, PartitionId};
use pintail_storage::checkpoint::dead_letters;
use tracing::warn;

use super::Source;
use super::thread::{ChunkSender, Exit, ReadThread};
use crate::meters::SourceMeters;

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

/// One file, from a record on.
#[derive(Debug)]
struct Letters {
    path: PathBuf,
    partition: Arc<Partition>,
    from: u64,
}

impl DeadLetterSource {
    /// Lists the files in `directory` that are there now, in the order of their checkpoints, and begins to read where the last replay
    /// stopped. `kept` is held until all is read: copies of files go with it.
    ///
    /// # Errors
    /// `Io` if the directory cannot be read. None at all is no error.
    pub fn open(directory: &Path, offsets: &Offsets, kept: impl Send + 'static) -> Result<Self> {
        let files = list(directory, offsets)?;
        let thread = ReadThread::spawn(NAME, move |sender| {
            let _kept = kept;
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

    fn meters(&self) -> SourceMeters {
        SourceMeters { reading: Some(self.thread.work()), ..SourceMeters::default() }
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
    records: Growing,
    /// Rows of the output in the file so far.
    output_rows: u64,
}

/// Records as their source read them.
enum Growing {
    /// Lines, and whether they hold anything but rows of the output, which are blank.
    Lines { lines: Vec<u8>, has_record: bool },
    /// Messages.
    Payloads(Box<PayloadsBuilder>),
}

impl Growing {
    fn nothing() -> Self {
        Self::Lines { lines: Vec::new(), has_record: false }
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Lines { lines, has_record } => *has_record && lines.len() >= CHUNK_BYTES,
            Self::Payloads(payloads) => payloads.bytes() >= CHUNK_BYTES,
        }
    }
}

impl Letters {
    /// Reads the file, and returns how many rows of the output it holds, which cannot be replayed.
    fn read(self, sender: &ChunkSender) -> Result<u64, Exit> {
        let mut open = Open { from: self.from, next: 0, records: Growing::nothing(), output_rows: 0 };
        for kept in dead_letters::read(&self.path)? {
            let letter = kept.map_err(|error| Error::state(format!("{error}; run {}", command("verify"))))?.letter;
            open.output_rows += u64::from(letter.form == LetterForm::OutputRow);
            if open.next >= self.from {
                self.take(letter, &mut open, sender)?;
            }
            open.next += 1;
            if open.records.is_full() {
                self.hand_on(&mut open, sender)?;
            }
        }
        if open.next < self.from {
            let (path, records, from) = (self.path.display(), open.next, self.from);
            let verify = command("verify");
            return Err(Error::state(format!("`{path}` has {records} records and {from} were replayed: run {verify}")).into());
        }
        // Rows of the output alone make no checkpoint: nothing of them is replayed.
        if !matches!(open.records, Growing::Lines { has_record: false, .. }) {
            self.hand_on(&mut open, sender)?;
        }
        Ok(open.output_rows)
    }

    /// Takes a record that was not replayed, which stands at `open.next`.
    fn take(&self, letter: DeadLetter, open: &mut Open, sender: &ChunkSender) -> Result<(), Exit> {
        let DeadLetter { form, offset, bytes, length, message, .. } = letter;
        match (form, message) {
            // A row that the SQL has made is no record, and keeps the count.
            (LetterForm::OutputRow, _) => {
                if let Growing::Lines { lines, .. } = &mut open.records {
                    lines.push(b'\n');
                }
            }
            // Too long to be kept: it cannot be replayed, and is rejected again.
            (_, message) if length > bytes.len() as u64 => {
                self.hand_on(open, sender)?;
                open.from += 1;
                let message = message.map(|message| Arc::new(Envelope::new(&message.message(offset, None), open.next)));
                self.send(Records::TooLong { head: bytes, length, message }, open.next, open.next + 1, sender)?;
            }
            (_, Some(message)) => {
                let payload = (form == LetterForm::Record).then_some(&*bytes);
                if let Growing::Lines { .. } = open.records {
                    self.hand_on(open, sender)?;
                    open.records = Growing::Payloads(Box::default());
                }
                if let Growing::Payloads(payloads) = &mut open.records {
                    payloads.push(open.next, &message.message(offset, payload));
                }
            }
            (_, None) => {
                if let Growing::Payloads(_) = open.records {
                    self.hand_on(open, sender)?;
                }
                if let Growing::Lines { lines, has_record } = &mut open.records {
                    // A line end would make two records of it. Of JSON it is space between tokens.
                    lines.extend(bytes.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
                    lines.push(b'\n');
                    *has_record = true;
                }
            }
        }
        Ok(())
    }

    fn hand_on(&self, open: &mut Open, sender: &ChunkSender) -> Result<(), Exit> {
        let records = match std::mem::replace(&mut open.records, Growing::nothing()) {
            Growing::Lines { lines, .. } => Records::Lines(Bytes::from(lines)),
            Growing::Payloads(mut payloads) => Records::Payloads(payloads.finish()),
        };
        let from = std::mem::replace(&mut open.from, open.next);
        if from < open.next { self.send(records, from, open.next, sender) } else { Ok(()) }
    }

    fn send(&self, records: Records, from: u64, to: u64, sender: &ChunkSender) -> Result<(), Exit> {
        let range = OffsetRange::new(self.partition.clone(), from, to);
        sender.send(Chunk::new(records, range, OffsetUnit::Records))
    }
}
