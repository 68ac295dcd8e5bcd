//! Splitting: the rows of a transformed batch → rows by hive partition and hour.
//!
//! Owns: one worker's memory of the partitions that it has met.
//! Does not own: what a partition is called (see `hive`), which values come back from files (see `values`), when its files open and close (see `files`).

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use pintail_core::batch::PartitionedRows;
use pintail_core::error::Error;
use pintail_core::grouping::{Group, GroupIds};
use pintail_core::hive::{HivePartition, value_text};

use super::OutputLayout;
use crate::event_time::{EventTime, Hours};

/// Partitions that a splitter remembers. Past it all are forgotten: remembering only saves allocations.
const REMEMBERED_MAX: usize = 4096;

/// A row that cannot be in any directory or file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaceable {
    /// One such row: the first with its value, counted in the batch that was to be split. There may be others with other values.
    pub row: usize,
    /// Why, naming the column.
    pub reason: String,
}

/// Why a batch was not split.
#[derive(Debug)]
pub enum SplitError {
    /// The data: the record belongs to the dead letters.
    Unplaceable(Unplaceable),
    /// The batch is not what the layout was made for, or memory ran out.
    Failed(Error),
}

impl From<ArrowError> for SplitError {
    fn from(error: ArrowError) -> Self {
        Self::Failed(Error::internal("cannot split a batch by hive partition").with_source(error))
    }
}

/// Splits batches for one worker.
#[derive(Debug)]
pub struct Splitter {
    layout: Arc<OutputLayout>,
    event_time: EventTime,
    root: Arc<HivePartition>,
    known: HashSet<Arc<HivePartition>>,
}

impl Splitter {
    /// Makes a splitter that remembers nothing yet.
    pub fn new(layout: Arc<OutputLayout>) -> Self {
        Self { event_time: EventTime::of(&layout), layout, root: Arc::default(), known: HashSet::new() }
    }

    /// Groups rows by the partition columns, which are left out, and by the hour of their event time; the order within a group is kept.
    ///
    /// Nothing is copied if all rows are of one. No rows make no group.
    pub fn split(&mut self, rows: &RecordBatch) -> Result<Vec<PartitionedRows>, SplitError> {
        let file_rows = self.layout.file_rows(rows)?;
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        if let Some((row, reason)) = self.layout.value_fault(&file_rows) {
            return Err(SplitError::Unplaceable(Unplaceable { row, reason }));
        }
        let hours = self.event_time.hours(&file_rows).map_err(SplitError::Failed)?;
        let columns = self.layout.partition_indices().iter().map(|&index| GroupIds::of_column(rows.column(index)));
        let by_hour = match &hours {
            Hours::Same(_) => None,
            Hours::Each(hours) => Some(GroupIds::of_values(hours.iter().copied())),
        };
        let hour = |row: usize| match &hours {
            Hours::Same(hour) => *hour,
            Hours::Each(hours) => hours[row],
        };
        let Some(ids) = columns.chain(by_hour).reduce(|before, next| before.combine(&next)) else {
            return Ok(vec![PartitionedRows { partition: self.root.clone(), hour: hour(0), rows: file_rows }]);
        };
        let groups = ids.group(&file_rows)?.into_iter();
        groups
            .map(|Group { first_row, rows: group, .. }| {
                Ok(PartitionedRows { partition: self.partition(rows, first_row)?, hour: hour(first_row), rows: group })
            })
            .collect()
    }

    /// Returns the partition of a row.
    fn partition(&mut self, rows: &RecordBatch, row: usize) -> Result<Arc<HivePartition>, SplitError> {
        let mut partition = HivePartition::root();
        for &index in self.layout.partition_indices() {
            let name = rows.schema_ref().field(index).name();
            let pushed = match value_text(rows.column(index), row) {
                Ok(value) => partition.push(name, value.as_deref()),
                Err(why) => Err(format!("partition column `{name}`: {why}")),
            };
            pushed.map_err(|reason| SplitError::Unplaceable(Unplaceable { row, reason }))?;
        }
        if let Some(known) = self.known.get(&partition) {
            return Ok(known.clone());
        }
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        let partition = Arc::new(partition);
        self.known.insert(partition.clone());
        Ok(partition)
    }
}
