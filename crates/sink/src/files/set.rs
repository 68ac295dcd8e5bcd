//! The files of one checkpoint.
//!
//! Owns: choosing a row's file, the limits that all files share, and the names at the end.
//! Does not own: the inside of a file (see `open_file`), the hour of a row (see `layout`).
//!
//! What is decided for one file with an eye on the others (opening, closing, which rows it gets) is done here, one file after the other; what
//! takes time (encoding, compressing, writing, fsync) is done to several files at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use chrono::{DateTime, Utc};
use itertools::Itertools;
use pintail_core::batch::{Hour, PartitionedRows};
use pintail_core::error::Result;
use pintail_core::hive::HivePartition;
use pintail_storage::checkpoint::record::FileKind;
use pintail_storage::checkpoint::staging::Staging;
use pintail_storage::checkpoint::store::NewFile;

use super::Rules;
use super::open_file::{OpenFile, Pause, WrittenFile};
use crate::layout::event_time::{hour_of, hour_text};

/// Frames without a row for a file after which its row group ends: where events come in the order of their time, an hour that is over must
/// not hold encoders (half a megabyte a column) until the end of the checkpoint, which then has less to do.
const IDLE_FRAMES: u64 = 16;
/// Bytes below which an idle row group goes on: late events must not make a row group each.
const IDLE_BYTES_MIN: usize = 256 << 10;

/// The part of the open files' memory that complete ones may take. The commit needs some times as much, to write it down.
const WRITTEN_PART: usize = 4;

/// Which file: its hive partition and the hour of its first row.
type Key = (Arc<HivePartition>, Hour);

/// The files of a checkpoint.
///
/// A file is opened twice: here with its first row, and on disk when it has collected so much that a writer pays (see `open_file`). Only the
/// second takes a descriptor and is limited strictly; so a thousand partitions with few rows each do not close one another's files.
#[derive(Debug)]
pub(super) struct FileSet {
    rules: Arc<Rules>,
    staging: Staging,
    /// How the names of files tell the checkpoint.
    name: String,
    opened: DateTime<Utc>,
    /// Files that take rows.
    files: BTreeMap<Key, OpenFile>,
    /// Files that were begun: tells their order.
    begun: u64,
    /// Frames that came: tells which file is unused for longest.
    frames: u64,
    written: Vec<WrittenFile>,
    /// Bytes of `written`.
    written_bytes: usize,
}

/// A file, and rows for it.
struct Task {
    key: Key,
    file: OpenFile,
    rows: VecDeque<RecordBatch>,
    pause: Pause,
}

impl FileSet {
    pub(super) fn new(rules: Arc<Rules>, staging: Staging, name: String, opened: DateTime<Utc>) -> Self {
        rules.crowd.clear();
        Self { rules, staging, name, opened, files: BTreeMap::new(), begun: 0, frames: 0, written: Vec::new(), written_bytes: 0 }
    }

    pub(super) fn staging_mut(&mut self) -> &mut Staging {
        &mut self.staging
    }

    /// Returns the bytes of the open files in memory.
    pub(super) fn held(&self) -> usize {
        self.files.values().map(OpenFile::held).sum()
    }

    /// Returns the bytes of what the commit record is to say of complete files.
    pub(super) fn written_bytes(&self) -> usize {
        self.written_bytes
    }

    /// Returns whether what is kept of complete files takes so much memory that the checkpoint should end: nothing else frees it.
    pub(super) fn is_due(&self) -> bool {
        self.written_bytes > self.rules.buffer_bytes_max / WRITTEN_PART
    }

    /// Returns whether the checkpoint has room for a hive partition, and keeps that room.
    pub(super) fn admits(&mut self, partition: &Arc<HivePartition>) -> bool {
        self.rules.crowd.admits(partition)
    }

    /// Writes the rows of a frame to the files of their hours.
    pub(super) fn append(&mut self, frame: Vec<PartitionedRows>) -> Result<()> {
        self.frames += 1;
        let mut work = self.route(frame);
        while !work.is_empty() {
            work = self.write(work)?;
            // Also between the rounds: a frame may have rows for more files than the memory has room for.
            self.shed()?;
        }
        self.end_idle_row_groups()?;
        self.shed()
    }

    /// Completes all files and names them.
    pub(super) fn finish(mut self) -> Result<(Staging, Vec<NewFile>)> {
        // Those with a writer first: so no file has to be closed to make room for another that follows it. The others need theirs only while
        // they are encoded.
        let (open, mut rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.files).into_iter().partition(|(_, file)| file.has_writer());
        self.complete(open)?;
        let together = self.rules.encoders.threads().min(self.rules.open_files_max);
        while !rest.is_empty() {
            let mut next: Vec<_> = rest.drain(..together.min(rest.len())).collect();
            for (_, file) in &mut next {
                file.open(&self.rules.format, self.staging.create()?)?;
            }
            self.complete(next)?;
        }
        let files = name_files(self.written, &self.name, self.opened);
        Ok((self.staging, files))
    }

    /// Chooses the file of each row. What is done then depends on the choice alone, not on how far the others are.
    fn route(&mut self, frame: Vec<PartitionedRows>) -> BTreeMap<Key, VecDeque<RecordBatch>> {
        let opened = hour_of(self.opened);
        let mut work = BTreeMap::<Key, VecDeque<RecordBatch>>::new();
        for PartitionedRows { partition, rows, hours } in frame {
            let mut at = 0;
            let files = hours.into_iter().map(|(hour, rows)| (self.destination(&partition, hour.unwrap_or(opened)), rows));
            // Hours that share a file are written together.
            for (key, rows_of) in files.coalesce(|(a, m), (b, n)| if a == b { Ok((a, m + n)) } else { Err(((a, m), (b, n))) }) {
                work.entry(key).or_default().push_back(rows.slice(at, rows_of));
                at += rows_of;
            }
        }
        work
    }

    /// Chooses the file for the rows of an hour.
    fn destination(&mut self, partition: &Arc<HivePartition>, hour: Hour) -> Key {
        let key = (partition.clone(), hour);
        if self.files.contains_key(&key) {
            return key;
        }
        if self.files.len() >= self.rules.open_files_max {
            let known = self.files.range((partition.clone(), Hour::MIN)..=(partition.clone(), Hour::MAX));
            if let Some(nearest) = known.map(|((_, known), _)| *known).min_by_key(|known| known.abs_diff(hour)) {
                return (partition.clone(), nearest);
            }
        }
        let file = self.begin();
        self.files.insert(key.clone(), file);
        key
    }

    fn begin(&mut self) -> OpenFile {
        self.begun += 1;
        OpenFile::new(self.begun)
    }

    /// Hands files their rows; returns what is left for the next round, in which a file that needed something has it.
    fn write(&mut self, work: BTreeMap<Key, VecDeque<RecordBatch>>) -> Result<BTreeMap<Key, VecDeque<RecordBatch>>> {
        let mut tasks = Vec::with_capacity(work.len());
        for (key, rows) in work {
            let file = match self.files.remove(&key) {
                Some(file) => file,
                // Closed to make room for another, and all its rows are in it.
                None if rows.is_empty() => continue,
                // A file that is full took rows away: the rest of them begins the next one.
                None => self.begin(),
            };
            tasks.push(Task { key, file, rows, pause: Pause::Done });
        }
        let (rules, frame) = (self.rules.clone(), self.frames);
        rules.encoders.each(&mut tasks, |task| {
            task.pause = task.file.take(&rules, &mut task.rows, frame)?;
            Ok(())
        })?;
        let (mut left, mut due, mut full) = (BTreeMap::new(), Vec::new(), Vec::new());
        for Task { key, file, rows, pause } in tasks {
            self.files.insert(key.clone(), file);
            match pause {
                Pause::Done => continue,
                Pause::Due => due.push(key.clone()),
                Pause::Full => full.push(key.clone()),
            }
            left.insert(key, rows);
        }
        self.begin_row_groups(&due)?;
        full.iter().try_for_each(|key| self.close(key))?;
        Ok(left)
    }

    /// Hands writers what their files have collected, to as many at once as the memory has room for.
    fn begin_row_groups(&mut self, mut due: &[Key]) -> Result<()> {
        while !due.is_empty() {
            let room = self.rules.buffer_bytes_max.saturating_sub(self.held()) / self.rules.format.encoder_bytes.max(1);
            let (now, later) = due.split_at(room.clamp(1, due.len()));
            due = later;
            // Opening one file may close another.
            now.iter().try_for_each(|key| self.open(key))?;
            let rules = self.rules.clone();
            let mut files: Vec<&mut OpenFile> = self.files.iter_mut().filter(|(key, _)| now.contains(key)).map(|(_, file)| file).collect();
            rules.encoders.each(&mut files, |file| file.drain(&rules.format))?;
            self.shed()?;
        }
        Ok(())
    }

    /// Ends the row groups of files that got no rows for a while.
    fn end_idle_row_groups(&mut self) -> Result<()> {
        let idle_since = self.frames.saturating_sub(IDLE_FRAMES);
        let is_idle = |file: &OpenFile| file.used() < idle_since && file.row_group_bytes() >= IDLE_BYTES_MIN;
        let mut idle: Vec<&mut OpenFile> = self.files.values_mut().filter(|file| is_idle(file)).collect();
        let format = &self.rules.format;
        self.rules.encoders.each(&mut idle, |file| file.flush(format))
    }

    /// Flushes row groups, the fullest file's first, until all files together are within their memory.
    fn shed(&mut self) -> Result<()> {
        let bytes_max = self.rules.buffer_bytes_max;
        // Counted anew each time: opening one file may close another.
        while self.held() > bytes_max {
            let footers: usize = self.files.values().map(OpenFile::footer_bytes).sum();
            if footers > bytes_max / 2 {
                // No flush frees these, and in what they leave every row group would be small.
                let largest = self.files.iter().max_by_key(|(key, file)| (file.footer_bytes(), *key));
                let key = largest.map(|(key, _)| key.clone()).expect("no file has no footer");
                self.close(&key)?;
                continue;
            }
            let fullest = self.files.iter().max_by_key(|(key, file)| (file.flushable(), *key));
            let Some(key) = fullest.map(|(key, _)| key.clone()) else { return Ok(()) };
            self.open(&key)?;
            let file = self.files.get_mut(&key).expect("the file was found in the set");
            file.drain(&self.rules.format)?;
            file.flush(&self.rules.format)?;
        }
        Ok(())
    }

    /// Gives a file a writer if it has none.
    fn open(&mut self, key: &Key) -> Result<()> {
        // Closed to make room for another that was to be opened.
        let Some(file) = self.files.get(key) else { return Ok(()) };
        if file.has_writer() {
            return Ok(());
        }
        self.make_room()?;
        let staged = self.staging.create()?;
        self.files.get_mut(key).expect("it has no writer, so it was not closed to make room").open(&self.rules.format, staged)
    }

    /// Closes the longest unused file if no further writer may be open.
    fn make_room(&mut self) -> Result<()> {
        let writers = || self.files.iter().filter(|(_, file)| file.has_writer());
        if writers().count() < self.rules.open_files_max {
            return Ok(());
        }
        let unused = writers().min_by_key(|(_, file)| file.last_use()).map(|(key, _)| key.clone());
        self.close(&unused.expect("at the limit, which is at least one, a file has a writer"))
    }

    /// Completes a file and takes it out of the set.
    fn close(&mut self, key: &Key) -> Result<()> {
        self.open(key)?;
        match self.files.remove_entry(key) {
            Some(file) => self.complete(vec![file]),
            None => Ok(()),
        }
    }

    /// Writes the footers of files that have a writer, and makes them durable.
    fn complete(&mut self, files: Vec<(Key, OpenFile)>) -> Result<()> {
        let mut files: Vec<_> = files.into_iter().map(|((partition, _), file)| (partition, Some(file), None)).collect();
        let rules = self.rules.clone();
        rules.encoders.each(&mut files, |(partition, file, written)| {
            let file = file.take().expect("each file is completed once");
            *written = Some(file.finish(&rules.format, partition.clone())?);
            Ok(())
        })?;
        let written = files.into_iter().filter_map(|(_, _, written)| written);
        self.written.extend(written.inspect(|file| self.written_bytes += file.bytes()));
        Ok(())
    }
}

/// Names files `region=us/events-2026-01-01-00-42.parquet`, and further ones of the same directory and hour `…-42-1.parquet`, `…-42-2.parquet` in
/// the order in which they began.
fn name_files(mut written: Vec<WrittenFile>, checkpoint: &str, opened: DateTime<Utc>) -> Vec<NewFile> {
    let hour = |file: &WrittenFile| hour_of(file.span.map_or(opened, |(earliest, _)| earliest));
    written.sort_by(|a, b| (&a.partition, hour(a), a.began).cmp(&(&b.partition, hour(b), b.began)));
    let mut files = Vec::with_capacity(written.len());
    let mut before: Option<(Arc<HivePartition>, Hour)> = None;
    let mut index = 0_u32;
    for file in written {
        let place = (file.partition.clone(), hour(&file));
        index = if before.as_ref() == Some(&place) { index + 1 } else { 0 };
        let suffix = if index == 0 { String::new() } else { format!("-{index}") };
        let name = format!("events-{}-{checkpoint}{suffix}.parquet", hour_text(place.1));
        let path = place.0.file_path(&name);
        files.push(NewFile {
            staged: file.staged,
            path,
            kind: FileKind::Parquet,
            rows: file.rows,
            event_time: file.span,
            columns: file.columns,
        });
        before = Some(place);
    }
    files
}
