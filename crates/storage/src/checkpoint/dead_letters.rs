//! Rejected records on the disk, as NDJSON, committed with their checkpoint.
//!
//! Owns: the form of a line, one line for records that differ only in where they stood, writing it staged, reading it back.
//! Does not own: why a record is rejected (decode, engine, sink), when too many are (the writer).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use pintail_core::batch::{DeadLetter, LetterForm, Phase};
use pintail_core::error::{Error, Result};
use pintail_core::messages::Envelope;
use pintail_core::offsets::PartitionId;
use pintail_core::reasons::Reason;
use serde::{Deserialize, Serialize};

use message::Message;

use super::record::FileKind;
use super::staging::{StagedFile, Staging};
use super::store::NewFile;

mod message;
#[cfg(test)]
mod tests;

/// One line. A record that is no UTF-8 stands in `record_base64`, a row of the SQL's output in `output_row`; of a message without a payload there
/// is only `tombstone`.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    phase: Phase,
    reason: Cow<'a, str>,
    partition: Cow<'a, str>,
    offset: u64,
    /// Where the same record was rejected again for the same reason: how much further on each time, and how often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    then: Vec<(u64, u64)>,
    length: u64,
    /// What the broker said beside it, if it was a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<Message<'a>>,
    /// The SHA-256 of the SQL with which a replay has rejected it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tried_sql_sha256: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output_row: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tombstone: bool,
}

/// Bytes of records that wait for more of their like before they are written.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// What a line takes beside its record.
const LINE_BYTES: usize = 150;

/// The rejected records of a checkpoint, being written.
#[derive(Debug)]
pub struct DeadLetterFile {
    file: BufWriter<StagedFile>,
    path: String,
    rows: u64,
    bytes: u64,
    /// In the order of the first of each, with what tells them apart.
    waiting: Vec<Alike>,
    known: HashMap<Kind, usize>,
    waiting_bytes: usize,
}

/// What records have in common that are written as one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    phase: Phase,
    reason: Reason,
    partition: PartitionId,
    form: LetterForm,
    bytes: Bytes,
    length: u64,
    message: Option<Arc<Envelope>>,
    tried: Option<Arc<str>>,
}

impl Kind {
    fn bytes_of_line(&self) -> usize {
        LINE_BYTES + self.bytes.len() + self.message.as_ref().map_or(0, |message| message.bytes())
    }
}

/// Records that differ in nothing but where they stood.
#[derive(Debug)]
struct Alike {
    kind: Kind,
    first: u64,
    last: u64,
    then: Vec<(u64, u64)>,
}

impl Alike {
    /// Takes one more and returns the bytes that it takes; nothing if it does not stand behind the last.
    fn take_up(&mut self, offset: u64) -> Option<usize> {
        let step = offset.checked_sub(self.last)?;
        self.last = offset;
        match self.then.last_mut() {
            Some((usual, times)) if *usual == step => {
                *times += 1;
                Some(0)
            }
            _ => {
                self.then.push((step, 1));
                Some(size_of::<(u64, u64)>())
            }
        }
    }
}

impl DeadLetterFile {
    /// Opens the file in the staging of its checkpoint; `path` is its place in the dataset (see [`super::paths::Paths::dead_letters_of`]).
    pub fn create(staging: &mut Staging, path: String) -> Result<Self> {
        let file = BufWriter::new(staging.create()?);
        Ok(Self { file, path, rows: 0, bytes: 0, waiting: Vec::new(), known: HashMap::new(), waiting_bytes: 0 })
    }

    /// Appends a record. `tried` is the SHA-256 of the SQL that has rejected it again in a replay. Those that are alike are written as one
    /// line: a request of a few bytes may hold a million of them.
    pub fn write(&mut self, letter: &DeadLetter, tried: Option<&Arc<str>>) -> Result<()> {
        let DeadLetter { phase, reason, partition, offset, form, bytes, length, message } = letter.clone();
        let kind = Kind { phase, reason, partition, form, bytes, length, message, tried: tried.cloned() };
        self.rows += 1;
        let taken_up = self.known.get(&kind).and_then(|index| self.waiting[*index].take_up(offset));
        self.waiting_bytes += taken_up.unwrap_or_else(|| kind.bytes_of_line());
        if taken_up.is_none() {
            self.known.insert(kind.clone(), self.waiting.len());
            self.waiting.push(Alike { kind, first: offset, last: offset, then: Vec::new() });
        }
        if self.waiting_bytes > WAITING_BYTES_MAX { self.write_waiting() } else { Ok(()) }
    }

    /// Returns about how many bytes the records take that were appended.
    pub fn bytes(&self) -> u64 {
        self.bytes + self.waiting_bytes as u64
    }

    fn write_waiting(&mut self) -> Result<()> {
        self.known.clear();
        for alike in std::mem::take(&mut self.waiting) {
            let line = alike.line();
            let written = serde_json::to_writer(&mut self.file, &line).map_err(Into::into).and_then(|()| self.file.write_all(b"\n"));
            written.map_err(|e| Error::io(format_args!("write `{}`", self.path), e))?;
        }
        self.bytes += std::mem::take(&mut self.waiting_bytes) as u64;
        Ok(())
    }

    /// Returns the records written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Makes the file durable.
    pub fn finish(mut self) -> Result<NewFile> {
        self.write_waiting()?;
        let flushed = self.file.into_inner().map_err(|e| Error::io(format_args!("write `{}`", self.path), e.into_error()))?;
        let (path, kind, rows) = (self.path, FileKind::DeadLetters, self.rows);
        Ok(NewFile { staged: flushed.finish()?, path, kind, rows, event_time: None, columns: Vec::new() })
    }
}

impl Alike {
    fn line(&self) -> Line<'_> {
        let Self { kind, first, then, .. } = self;
        let text = std::str::from_utf8(&kind.bytes).ok();
        let (record, output_row) = match kind.form {
            LetterForm::Record => (text, None),
            LetterForm::Tombstone => (None, None),
            LetterForm::OutputRow => (None, text),
        };
        Line {
            phase: kind.phase,
            reason: (*kind.reason).into(),
            partition: kind.partition.as_str().into(),
            offset: *first,
            then: then.clone(),
            length: kind.length,
            message: kind.message.as_deref().map(Message::new),
            tried_sql_sha256: kind.tried.as_deref().map(Into::into),
            record: record.map(Into::into),
            record_base64: text.is_none().then(|| BASE64_STANDARD.encode(&kind.bytes)),
            output_row: output_row.map(Into::into),
            tombstone: kind.form == LetterForm::Tombstone,
        }
    }
}

/// A rejected record, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The record.
    pub letter: DeadLetter,
    /// The SHA-256 of the SQL with which a replay has rejected it again.
    pub tried: Option<Arc<str>>,
}

/// Reads the rejected records of a checkpoint, in the order they were written; those that are alike one by one, together.
///
/// # Errors
/// Each item: [`pintail_core::error::ErrorKind::State`] for a line that is no rejected record, naming the file and the line.
pub fn read(path: &Path) -> Result<impl Iterator<Item = Result<Kept>>> {
    let file = File::open(path).map_err(|e| Error::io(format_args!("open `{}`", path.display()), e))?;
    let path = path.to_path_buf();
    let lines = BufReader::new(file).split(b'\n').enumerate().map(move |(index, line)| {
        let line = line.map_err(|e| Error::io(format_args!("read `{}`", path.display()), e))?;
        parse(&line).map_err(|why| Error::state(format!("line {} of `{}` is no rejected record: {why}", index + 1, path.display())))
    });
    Ok(lines.flat_map(|line| match line {
        Ok((kept, offsets)) => Letters::Kept(offsets.map(move |offset| {
            let letter = DeadLetter { offset, ..kept.letter.clone() };
            Ok(Kept { letter, tried: kept.tried.clone() })
        })),
        Err(error) => Letters::Failed(std::iter::once(Err(error))),
    }))
}

/// The records of a line.
enum Letters<K, F> {
    Kept(K),
    Failed(F),
}

impl<T, K: Iterator<Item = T>, F: Iterator<Item = T>> Iterator for Letters<K, F> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            Self::Kept(kept) => kept.next(),
            Self::Failed(failed) => failed.next(),
        }
    }
}

/// Returns where the records of a line stood.
fn offsets(first: u64, then: Vec<(u64, u64)>) -> impl Iterator<Item = u64> {
    let mut last = first;
    let more = then.into_iter().flat_map(|(step, times)| (0..times).map(move |_| step)).map(move |step| {
        last = last.wrapping_add(step);
        last
    });
    std::iter::once(first).chain(more)
}

fn parse(line: &[u8]) -> Result<(Kept, impl Iterator<Item = u64> + use<>), String> {
    let line: Line = serde_json::from_slice(line).map_err(|e| e.to_string())?;
    let (form, bytes) = match (line.record, line.record_base64, line.output_row, line.tombstone) {
        (Some(text), None, None, false) => (LetterForm::Record, Bytes::from(text.into_owned())),
        (None, Some(text), None, false) => (LetterForm::Record, message::decode(&text)?),
        (None, None, Some(text), false) => (LetterForm::OutputRow, Bytes::from(text.into_owned())),
        (None, None, None, true) => (LetterForm::Tombstone, Bytes::new()),
        _ => return Err("it must have one of `record`, `record_base64`, `output_row` and `tombstone`".into()),
    };
    let letter = DeadLetter {
        phase: line.phase,
        reason: line.reason.as_ref().into(),
        partition: PartitionId::new(line.partition.as_ref()),
        offset: line.offset,
        form,
        bytes,
        length: line.length,
        message: line.message.map(Message::envelope).transpose()?.map(Arc::new),
    };
    Ok((Kept { letter, tried: line.tried_sql_sha256.map(|sql| sql.as_ref().into()) }, offsets(line.offset, line.then)))
}
