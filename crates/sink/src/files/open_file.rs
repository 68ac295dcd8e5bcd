//! One Parquet file being written.
//!
//! Owns: its writer, the sorting of row groups, what is known of its rows, and the memory that it takes.
//! Does not own: which rows come here, when a row group begins and when the file is closed (see `set`), the rows that it has collected (see
//! `collected`).

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write as _};
use std::mem;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{concat_batches, lexsort_to_indices, take_record_batch};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use pintail_core::error::{Error, Result};
use pintail_core::hive::HivePartition;
use pintail_storage::checkpoint::record::ColumnStatistics;
use pintail_storage::checkpoint::staging::{Staged, StagedFile};

use super::collected::Collected;
use super::format::FileFormat;
use super::{Rules, footer, statistics};
use crate::layout::event_time::Span;

/// A file that takes rows.
///
/// Rows are collected first: until the encoders of a row group pay, or for as long as a row group that is to be sorted is not full.
pub(super) struct OpenFile {
    began: u64,
    used: u64,
    collected: Collected,
    writer: Option<ArrowWriter<Slot>>,
    memory: Memory,
    rows: u64,
    span: Option<Span>,
}

/// The bytes of a file in memory.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    /// Collected rows, and the row group in the encoders: a flush frees them.
    rows: usize,
    /// What the footer will say of the row groups that are written: only the end of the file frees it.
    footer: usize,
}

/// Why a file takes no more rows for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// It has taken all.
    Done,
    /// It has collected so much that a row group pays: [`OpenFile::open`] it if it has no writer, then [`OpenFile::drain`] it.
    Due,
    /// It has reached its size: [`OpenFile::finish`] it.
    Full,
}

/// A file that is complete and durable, not yet named.
#[derive(Debug)]
pub(super) struct WrittenFile {
    pub staged: Staged,
    pub partition: Arc<HivePartition>,
    /// Orders the files of a checkpoint.
    pub began: u64,
    pub rows: u64,
    pub span: Option<Span>,
    pub columns: Vec<(String, ColumnStatistics)>,
}

impl WrittenFile {
    /// Returns the bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        let bound = |bound: &Option<String>| bound.as_ref().map_or(0, String::len);
        let column =
            |(name, of): &(String, ColumnStatistics)| size_of_val(of) + size_of_val(name) + name.len() + bound(&of.min) + bound(&of.max);
        size_of::<Self>() + self.columns.iter().map(column).sum::<usize>()
    }
}

impl OpenFile {
    /// Begins a file without touching the disk.
    pub(super) fn new(began: u64) -> Self {
        Self { began, used: began, collected: Collected::default(), writer: None, memory: Memory::default(), rows: 0, span: None }
    }

    /// Returns the frame that brought its last rows.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Orders files by their last use, and those of one frame by their beginning.
    pub(super) fn last_use(&self) -> (u64, u64) {
        (self.used, self.began)
    }

    /// Returns the bytes in memory.
    pub(super) fn held(&self) -> usize {
        self.memory.rows + self.memory.footer
    }

    /// Returns the bytes in memory that a flush frees.
    pub(super) fn flushable(&self) -> usize {
        self.memory.rows
    }

    /// Returns the bytes in memory that only its end frees.
    pub(super) fn footer_bytes(&self) -> usize {
        self.memory.footer
    }

    /// Returns whether the file is open on disk.
    pub(super) fn has_writer(&self) -> bool {
        self.writer.is_some()
    }

    /// Returns the encoded bytes of the row group that is not yet written.
    pub(super) fn row_group_bytes(&self) -> usize {
        self.writer.as_ref().map_or(0, ArrowWriter::in_progress_size)
    }

    /// Returns how many rows may be added at once.
    fn room(&self, format: &FileFormat) -> usize {
        if self.collects(format) { format.row_group_rows.saturating_sub(self.collected.rows()).max(1) } else { usize::MAX }
    }

    /// Returns whether the collected rows should go to the writer.
    fn is_due(&self, format: &FileFormat) -> bool {
        self.collected.rows() >= format.row_group_rows || self.collected.bytes() >= format.collect_bytes
    }

    /// Returns whether the file has reached its size.
    fn is_full(&self, format: &FileFormat) -> bool {
        let written = |writer: &ArrowWriter<Slot>| (writer.bytes_written() + writer.in_progress_size()) as u64;
        self.writer.as_ref().map_or(0, written) >= format.target_file_bytes
    }

    fn collects(&self, format: &FileFormat) -> bool {
        format.sorts() || !self.has_row_group()
    }

    /// Returns whether a row group is in the encoders.
    fn has_row_group(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.in_progress_rows() > 0)
    }

    /// Takes rows of a frame, as far as it can without help.
    pub(super) fn take(&mut self, rules: &Rules, rows: &mut VecDeque<RecordBatch>, frame: u64) -> Result<Pause> {
        let format = &rules.format;
        self.used = frame;
        loop {
            if self.is_due(format) {
                return Ok(Pause::Due);
            }
            if self.is_full(format) {
                return Ok(Pause::Full);
            }
            let Some(piece) = rows.pop_front() else { return Ok(Pause::Done) };
            let taken = self.room(format).min(piece.num_rows());
            if taken < piece.num_rows() {
                rows.push_front(piece.slice(taken, piece.num_rows() - taken));
            }
            let piece = piece.slice(0, taken);
            self.add(format, &piece, rules.event_time.span(&piece)?)?;
        }
    }

    /// Adds at most [`Self::room`] rows.
    fn add(&mut self, format: &FileFormat, rows: &RecordBatch, span: Option<Span>) -> Result<()> {
        self.rows += rows.num_rows() as u64;
        self.span = match (self.span, span) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (known, other) => known.or(other),
        };
        let collects = self.collects(format);
        match &mut self.writer {
            Some(writer) if !collects => writer.write(rows).map_err(write_error)?,
            _ => self.collected.push(rows).map_err(|e| Error::internal("cannot keep rows for a row group").with_source(e))?,
        }
        self.measure(format);
        Ok(())
    }

    /// Opens the file on disk.
    pub(super) fn open(&mut self, format: &FileFormat, staged: StagedFile) -> Result<()> {
        // Without the Arrow schema in the footer: it says that text is in views, which much of pyarrow cannot work with yet. The
        // Parquet types say all that a reader needs.
        let options = ArrowWriterOptions::new().with_properties(format.properties.clone()).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Slot::new(staged), format.written_schema.clone(), options);
        self.writer = Some(writer.map_err(write_error)?);
        Ok(())
    }

    /// Hands the collected rows to the writer; sorted rows are a row group then.
    ///
    /// # Panics
    /// If the file is not [`Self::open`] on disk.
    pub(super) fn drain(&mut self, format: &FileFormat) -> Result<()> {
        let collected = mem::take(&mut self.collected).into_pieces();
        let writer = self.writer.as_mut().expect("a file is opened before it is drained");
        if !format.sorts() {
            collected.iter().try_for_each(|rows| writer.write(rows)).map_err(write_error)?;
        } else if !collected.is_empty() {
            let rows = sorted(format, &collected).map_err(|e| Error::internal("cannot sort a row group").with_source(e))?;
            drop(collected);
            writer.write(&rows).and_then(|()| writer.flush()).map_err(write_error)?;
        }
        self.measure(format);
        Ok(())
    }

    /// Ends the row group that the writer holds.
    pub(super) fn flush(&mut self, format: &FileFormat) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), ArrowWriter::flush).map_err(write_error)?;
        self.measure(format);
        Ok(())
    }

    /// Writes what is left and the footer, and makes the file durable.
    ///
    /// # Panics
    /// If the file is not [`Self::open`] on disk.
    pub(super) fn finish(mut self, format: &FileFormat, partition: Arc<HivePartition>) -> Result<WrittenFile> {
        self.drain(format)?;
        let mut writer = self.writer.take().expect("a file is opened before it is finished");
        writer.flush().map_err(write_error)?;
        writer.inner_mut().hold();
        // Not `into_inner`: it turns a failure of the last write into a text, and the disk's failures must be known as such.
        let metadata = writer.finish().map_err(write_error)?;
        let columns = statistics::of(&metadata);
        let slot = writer.inner_mut();
        slot.let_go(&metadata).map_err(|e| Error::io("write a Parquet file", e))?;
        let staged = slot.file.take().expect("only the end of a file empties its slot").finish()?;
        Ok(WrittenFile { staged, partition, began: self.began, rows: self.rows, span: self.span, columns })
    }

    fn measure(&mut self, format: &FileFormat) {
        // The writer counts its buffers and dictionaries, not its compressors.
        let row_group = self.writer.as_ref().filter(|writer| writer.in_progress_rows() > 0);
        let encoders = row_group.map_or(0, |writer| writer.memory_size() + format.codec_bytes);
        let row_groups = self.writer.as_ref().map_or(0, |writer| writer.flushed_row_groups().len());
        self.memory = Memory { rows: self.collected.bytes() + encoders, footer: row_groups * format.footer_bytes };
    }
}

impl Drop for OpenFile {
    /// Closes the file before the writer's buffer goes: that would write what it still holds, which may wait for a full disk.
    fn drop(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.inner_mut().file = None;
        }
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFile")
            .field("began", &self.began)
            .field("rows", &self.rows)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

/// A staged file until it ends or is abandoned.
struct Slot {
    file: Option<StagedFile>,
    /// Bytes that the file has got.
    written: u64,
    /// What is behind the rows, until it is complete.
    end: Option<Vec<u8>>,
}

impl Slot {
    fn new(file: StagedFile) -> Self {
        Self { file: Some(file), written: 0, end: None }
    }

    fn file(&mut self) -> io::Result<&mut StagedFile> {
        self.file.as_mut().ok_or_else(|| io::Error::other("the staged file is closed"))
    }

    /// Keeps what is written from now on.
    fn hold(&mut self) {
        self.end = Some(Vec::new());
    }

    /// Writes what was kept.
    fn let_go(&mut self, metadata: &ParquetMetaData) -> io::Result<()> {
        let end = footer::settle(self.end.take().unwrap_or_default(), self.written, metadata);
        self.file()?.write_all(&end)
    }
}

impl io::Write for Slot {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Some(end) = &mut self.end {
            end.extend_from_slice(buf);
            return Ok(buf.len());
        }
        let written = self.file()?.write(buf)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file()?.flush()
    }
}

fn sorted(format: &FileFormat, collected: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let rows = concat_batches(&format.schema, collected)?;
    let order = lexsort_to_indices(&format.sort_columns(&rows), None)?;
    take_record_batch(&rows, &order)
}

/// Tells the disk's failures from ours: only the former may be fixed by an operator.
fn write_error(error: ParquetError) -> Error {
    let ours = |error| Error::internal("cannot write a Parquet file").with_source(error);
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(cause) => Error::io("write a Parquet file", *cause),
            Err(cause) => ours(ParquetError::External(cause)),
        },
        error => ours(error),
    }
}
