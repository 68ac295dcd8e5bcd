//! The files of one checkpoint.
//!
//! Owns: choosing a row's file, the limits that all files share, and the names at the end.
//! Does not own: the inside of a file (see `open_file`), the time of a row (see `event_time`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use chrono::{DateTime, Utc};

use super::event_time::{Hour, Hours, hour_of, hour_text};
use super::open_file::{OpenFile, WrittenFile};
use super::{FinishedFile, Rules};
use crate::checkpoint::staging::Staging;
use crate::error::{Error, Result};
use crate::sink::grouping::GroupIds;
use crate::sink::layout::HivePartition;

/// The files of a checkpoint.
///
/// A file is opened twice: here with its first row, and on disk when it has collected so much that a writer pays (see `open_file`). Only the
/// second takes a descriptor and is limited strictly; so a thousand partitions with few rows each do not close one another's files.
#[derive(Debug)]
pub(super) struct FileSet {
    rules: Arc<Rules>,
    staging: Staging,
    sequence: u64,
    opened: DateTime<Utc>,
    /// Every hive partition that has rows, also if its files are closed.
    partitions: HashSet<Arc<HivePartition>>,
    /// Files that take rows, by the hour of their first row.
    files: HashMap<Arc<HivePartition>, BTreeMap<Hour, OpenFile>>,
    count: usize,
    writers: usize,
    held: usize,
    /// Counts appends: tells which file is unused for longest, and the order in which files began.
    clock: u64,
    written: Vec<WrittenFile>,
}

impl FileSet {
    pub fn new(rules: Arc<Rules>, staging: Staging, sequence: u64, opened: DateTime<Utc>) -> Self {
        Self {
            rules,
            staging,
            sequence,
            opened,
            partitions: HashSet::new(),
            files: HashMap::new(),
            count: 0,
            writers: 0,
            held: 0,
            clock: 0,
            written: Vec::new(),
        }
    }

    /// Returns the bytes in memory.
    pub fn staging_mut(&mut self) -> &mut Staging {
        &mut self.staging
    }

    pub fn held(&self) -> usize {
        self.held
    }

    /// Returns whether the checkpoint has room for a hive partition, and keeps that room.
    pub fn admits(&mut self, partition: &Arc<HivePartition>) -> bool {
        if self.partitions.contains(partition) {
            return true;
        }
        let room = self.partitions.len() < self.rules.partitions_max;
        if room {
            self.partitions.insert(partition.clone());
        }
        room
    }

    /// Writes rows to the files of their hours.
    pub fn append(&mut self, partition: &Arc<HivePartition>, rows: &RecordBatch) -> Result<()> {
        match self.rules.event_time.hours(rows, hour_of(self.opened))? {
            Hours::Same(hour) => {
                let hour = self.destination(partition, hour);
                self.write(partition, hour, rows)
            }
            Hours::Each(ids, hours) => {
                let (ids, destinations) = self.destinations(partition, ids, &hours);
                let groups = ids.group(rows).map_err(|e| Error::internal("cannot split rows by hour").with_source(e))?;
                groups.iter().try_for_each(|group| self.write(partition, destinations[group.id as usize], &group.rows))
            }
        }
    }

    /// Completes all files and names them.
    pub fn finish(mut self) -> Result<(Staging, Vec<FinishedFile>)> {
        let mut keys: Vec<_> = self.keys().map(|(partition, hour, file)| (!file.has_writer(), partition.clone(), hour)).collect();
        // Those with a writer first: so no file has to be closed to make room for another that follows it.
        keys.sort();
        for (_, partition, hour) in keys {
            self.close(&partition, hour)?;
        }
        let files = name_files(self.written, self.sequence, self.opened);
        Ok((self.staging, files))
    }

    fn keys(&self) -> impl Iterator<Item = (&Arc<HivePartition>, Hour, &OpenFile)> {
        self.files.iter().flat_map(|(partition, hours)| hours.iter().map(move |(hour, file)| (partition, *hour, file)))
    }

    /// Chooses the file for the rows of an hour, and returns the hour that it is filed under.
    fn destination(&mut self, partition: &Arc<HivePartition>, hour: Hour) -> Hour {
        let hours = self.files.entry(partition.clone()).or_default();
        if hours.contains_key(&hour) {
            return hour;
        }
        if self.count >= self.rules.open_files_max
            && let Some(nearest) = hours.keys().copied().min_by_key(|known| known.abs_diff(hour))
        {
            return nearest;
        }
        hours.insert(hour, OpenFile::new(self.clock));
        self.count += 1;
        hour
    }

    /// Chooses files for many hours at once, so that hours which share a file are written together.
    fn destinations(&mut self, partition: &Arc<HivePartition>, mut ids: GroupIds, hours: &[Hour]) -> (GroupIds, Vec<Hour>) {
        let mut ascending = hours.to_vec();
        ascending.sort_unstable();
        let chosen: HashMap<Hour, Hour> = ascending.into_iter().map(|hour| (hour, self.destination(partition, hour))).collect();
        let (merged, destinations) = GroupIds::of_values(hours.iter().map(|hour| chosen[hour]));
        for id in &mut ids.ids {
            *id = merged.ids[*id as usize];
        }
        ids.count = merged.count;
        (ids, destinations)
    }

    /// Writes rows to a file that [`Self::destination`] chose.
    fn write(&mut self, partition: &Arc<HivePartition>, hour: Hour, rows: &RecordBatch) -> Result<()> {
        let rules = self.rules.clone();
        let mut start = 0;
        while start < rows.num_rows() {
            self.clock += 1;
            let clock = self.clock;
            let count = &mut self.count;
            // A roll took the file away: the rest of the rows begins the next one.
            let file = self.files.entry(partition.clone()).or_default().entry(hour).or_insert_with(|| {
                *count += 1;
                OpenFile::new(clock)
            });
            let taken = file.room(&rules.format).min(rows.num_rows() - start);
            let piece = rows.slice(start, taken);
            start += taken;
            let held = file.held();
            file.add(&rules.format, &piece, rules.event_time.span(&piece)?, clock)?;
            let (due, added) = (file.is_due(&rules.format), file.held());
            self.held = self.held - held + added;
            if due {
                self.drain(partition, hour)?;
            }
            if self.file(partition, hour).is_full(&rules.format) {
                self.close(partition, hour)?;
            }
        }
        self.shed()
    }

    /// Flushes row groups, the fullest file's first, until all files together are within their memory.
    fn shed(&mut self) -> Result<()> {
        while self.held > self.rules.buffer_bytes_max {
            let fullest = self.keys().max_by_key(|(partition, hour, file)| (file.held(), *partition, *hour));
            let Some((partition, hour, _)) = fullest else { return Ok(()) };
            let partition = partition.clone();
            self.drain(&partition, hour)?;
            self.change(&partition, hour, OpenFile::flush)?;
        }
        Ok(())
    }

    /// Hands what a file has collected to its writer, which is made if it has none.
    fn drain(&mut self, partition: &Arc<HivePartition>, hour: Hour) -> Result<()> {
        if !self.file(partition, hour).has_writer() {
            self.make_room()?;
            let staged = self.staging.create()?;
            let rules = self.rules.clone();
            self.change(partition, hour, |file| file.open(&rules.format, staged))?;
            self.writers += 1;
        }
        let rules = self.rules.clone();
        self.change(partition, hour, |file| file.drain(&rules.format))
    }

    /// Closes the longest unused file if no further writer may be open.
    fn make_room(&mut self) -> Result<()> {
        if self.writers < self.rules.open_files_max {
            return Ok(());
        }
        let unused = self.keys().filter(|(_, _, file)| file.has_writer()).min_by_key(|(_, _, file)| file.used());
        let (partition, hour, _) = unused.expect("at the limit, which is at least one, a file has a writer");
        let partition = partition.clone();
        self.close(&partition, hour)
    }

    /// Completes a file and takes it out of the set.
    fn close(&mut self, partition: &Arc<HivePartition>, hour: Hour) -> Result<()> {
        self.drain(partition, hour)?;
        let hours = self.files.get_mut(partition).expect("a file that is closed is in the set");
        let file = hours.remove(&hour).expect("a file that is closed is in the set");
        if hours.is_empty() {
            self.files.remove(partition);
        }
        self.count -= 1;
        self.writers -= 1;
        self.held -= file.held();
        self.written.push(file.finish(partition.clone())?);
        Ok(())
    }

    fn file(&self, partition: &Arc<HivePartition>, hour: Hour) -> &OpenFile {
        &self.files[partition][&hour]
    }

    /// Changes a file and keeps the account of the memory.
    fn change(&mut self, partition: &Arc<HivePartition>, hour: Hour, change: impl FnOnce(&mut OpenFile) -> Result<()>) -> Result<()> {
        let file = self.files.get_mut(partition).and_then(|hours| hours.get_mut(&hour)).expect("a file that is changed is in the set");
        let held = file.held();
        change(file)?;
        self.held = self.held - held + file.held();
        Ok(())
    }
}

/// Names files `region=us/events-2026-01-01-00-42.parquet`, and further ones of the same directory and hour `…-42-1.parquet`, `…-42-2.parquet` in
/// the order in which they began.
fn name_files(mut written: Vec<WrittenFile>, sequence: u64, opened: DateTime<Utc>) -> Vec<FinishedFile> {
    let hour = |file: &WrittenFile| hour_of(file.span.map_or(opened, |(earliest, _)| earliest));
    written.sort_by(|a, b| (&a.partition, hour(a), a.began).cmp(&(&b.partition, hour(b), b.began)));
    let mut files = Vec::with_capacity(written.len());
    let mut before: Option<(Arc<HivePartition>, Hour)> = None;
    let mut index = 0_u32;
    for file in written {
        let place = (file.partition.clone(), hour(&file));
        index = if before.as_ref() == Some(&place) { index + 1 } else { 0 };
        let suffix = if index == 0 { String::new() } else { format!("-{index}") };
        let name = format!("events-{}-{sequence}{suffix}.parquet", hour_text(place.1));
        files.push(FinishedFile { staged: file.staged, path: place.0.file_path(&name), rows: file.rows, event_time: file.span });
        before = Some(place);
    }
    files
}
