//! Rejected records on the disk, as NDJSON, committed with their checkpoint.
//!
//! Owns: the form of a line, writing it staged, reading it back.
//! Does not own: why a record is rejected (decode, engine, sink), when too many are (the writer).

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::record::FileKind;
use super::staging::{StagedFile, Staging};
use super::store::NewFile;
use crate::batch::{DeadLetter, LetterForm, Phase};
use crate::error::{Error, Result};
use crate::offsets::PartitionId;

/// One line. A record that is no UTF-8 stands in `record_base64`, a row of the SQL's output in `output_row`.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    phase: Phase,
    reason: Cow<'a, str>,
    partition: Cow<'a, str>,
    offset: u64,
    length: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output_row: Option<Cow<'a, str>>,
}

/// The rejected records of a checkpoint, being written.
#[derive(Debug)]
pub struct DeadLetterFile {
    file: BufWriter<StagedFile>,
    path: String,
    rows: u64,
}

impl DeadLetterFile {
    /// Opens the file in the staging of its checkpoint; `path` is its place in the dataset (see [`super::paths::Paths::dead_letters_of`]).
    pub fn create(staging: &mut Staging, path: String) -> Result<Self> {
        Ok(Self { file: BufWriter::new(staging.create()?), path, rows: 0 })
    }

    /// Appends a record.
    pub fn write(&mut self, letter: &DeadLetter) -> Result<()> {
        let text = std::str::from_utf8(&letter.bytes).ok();
        let (record, output_row) = match letter.form {
            LetterForm::Record => (text, None),
            LetterForm::OutputRow => (None, text),
        };
        let line = Line {
            phase: letter.phase,
            reason: letter.reason.as_str().into(),
            partition: letter.partition.as_str().into(),
            offset: letter.offset,
            length: letter.length,
            record: record.map(Into::into),
            record_base64: text.is_none().then(|| BASE64_STANDARD.encode(&letter.bytes)),
            output_row: output_row.map(Into::into),
        };
        let written = serde_json::to_writer(&mut self.file, &line).map_err(Into::into).and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|e| Error::io(format_args!("write `{}`", self.path), e))?;
        self.rows += 1;
        Ok(())
    }

    /// Returns the records written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Makes the file durable.
    pub fn finish(self) -> Result<NewFile> {
        let flushed = self.file.into_inner().map_err(|e| Error::io(format_args!("write `{}`", self.path), e.into_error()))?;
        let (path, kind, rows) = (self.path, FileKind::DeadLetters, self.rows);
        Ok(NewFile { staged: flushed.finish()?, path, kind, rows, event_time: None, columns: Vec::new() })
    }
}

/// Reads the rejected records of a checkpoint, in the order they were written.
///
/// # Errors
/// Each item: [`crate::error::ErrorKind::State`] for a line that is no rejected record, naming the file and the line.
pub fn read(path: &Path) -> Result<impl Iterator<Item = Result<DeadLetter>>> {
    let file = File::open(path).map_err(|e| Error::io(format_args!("open `{}`", path.display()), e))?;
    let path = path.to_path_buf();
    let letters = BufReader::new(file).split(b'\n').enumerate().map(move |(index, line)| {
        let line = line.map_err(|e| Error::io(format_args!("read `{}`", path.display()), e))?;
        parse(&line).map_err(|why| Error::state(format!("line {} of `{}` is no rejected record: {why}", index + 1, path.display())))
    });
    Ok(letters)
}

fn parse(line: &[u8]) -> Result<DeadLetter, String> {
    let line: Line = serde_json::from_slice(line).map_err(|e| e.to_string())?;
    let (form, bytes) = match (line.record, line.record_base64, line.output_row) {
        (Some(text), None, None) => (LetterForm::Record, Bytes::from(text.into_owned())),
        (None, Some(text), None) => (LetterForm::Record, Bytes::from(BASE64_STANDARD.decode(text).map_err(|e| e.to_string())?)),
        (None, None, Some(text)) => (LetterForm::OutputRow, Bytes::from(text.into_owned())),
        _ => return Err("it must have one of `record`, `record_base64` and `output_row`".into()),
    };
    Ok(DeadLetter {
        phase: line.phase,
        reason: line.reason.into_owned(),
        partition: PartitionId::new(line.partition.as_ref()),
        offset: line.offset,
        form,
        bytes,
        length: line.length,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::paths::Paths;
    use super::*;
    use crate::durable::posix::Posix;

    fn letter(bytes: &[u8]) -> DeadLetter {
        DeadLetter {
            phase: Phase::Sql,
            reason: "column `a`: \"x\" is no number\n".into(),
            partition: PartitionId::new("p"),
            offset: 7,
            form: LetterForm::Record,
            bytes: Bytes::copy_from_slice(bytes),
            length: 99,
        }
    }

    #[test]
    fn any_bytes_read_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let mut staging = Staging::new(Arc::new(Posix::default()), dir.path().join("0000000042"));
        let mut file = DeadLetterFile::create(&mut staging, Paths::new("").dead_letters_of(42)).unwrap();
        let mut letters: Vec<_> = [&b"{\"a\":\"x\"}"[..], b"", b"\xff\xfe\n\0", "ü\n\r\u{2028}".as_bytes()].map(letter).into();
        letters.push(DeadLetter { form: LetterForm::OutputRow, ..letter(b"{\"a\":1}") });
        letters.iter().for_each(|letter| file.write(letter).unwrap());
        let new = file.finish().unwrap();
        assert_eq!((new.path.as_str(), new.rows), ("_pintail/dead_letters/0000000042.ndjson", 5));
        let path = staging.dir().join("0.inprogress");
        assert_eq!(read(&path).unwrap().map(Result::unwrap).collect::<Vec<_>>(), letters);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(r#"{"phase":"sql","reason":"#) && text.contains(r#""record":"{\"a\":\"x\"}""#), "{text}");
        assert!(text.contains(r#""record_base64":"//4KAA==""#), "{text}");
    }

    #[test]
    fn a_line_that_is_no_rejected_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ndjson");
        std::fs::write(&path, "{\"phase\":\"sql\",\"reason\":\"\",\"partition\":\"p\",\"offset\":0,\"length\":0}\n").unwrap();
        let error = read(&path).unwrap().next().unwrap().unwrap_err();
        assert!(error.to_string().contains("line 1 of"), "{error}");
    }
}
