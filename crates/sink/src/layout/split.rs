//! Splitting: the rows of a transformed batch → rows by hive partition and hour.
//!
//! Owns: one worker's memory of the partitions that it has met.
//! Does not own: what a partition is called (see [`pintail_core::hive`]), which values come back from files (see `values`), when its files open and close (see `files`).

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use pintail_core::batch::PartitionedRows;
use pintail_core::error::Error;
use pintail_core::grouping::{GroupIds, Order};
use pintail_core::hive::{HivePartition, value_text};

use super::OutputLayout;
use super::event_time::EventTime;

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
    /// What the last batch was put into; `None` if it was left as it was.
    order: Option<Order>,
}

impl Splitter {
    /// Makes a splitter that remembers nothing yet.
    pub fn new(layout: Arc<OutputLayout>) -> Self {
        Self { event_time: EventTime::of(&layout), layout, root: Arc::default(), known: HashSet::new(), order: None }
    }

    /// Groups rows by the partition columns, which are left out, and orders those of a partition by the hour of their event time; the order
    /// within an hour is kept.
    ///
    /// Nothing is copied if all rows are of one partition and hour. No rows make no partition.
    pub fn split(&mut self, rows: &RecordBatch) -> Result<Vec<PartitionedRows>, SplitError> {
        self.order = None;
        let file_rows = self.layout.file_rows(rows)?;
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        if let Some((row, reason)) = self.layout.value_fault(&file_rows) {
            return Err(SplitError::Unplaceable(Unplaceable { row, reason }));
        }
        let hours = self.event_time.hours(&file_rows).map_err(SplitError::Failed)?;
        let columns = self.layout.partition_indices().iter().map(|&index| GroupIds::of_column(rows.column(index)));
        let partitions = columns.reduce(|before, next| before.combine(&next));
        let order = match (&partitions, hours.numbers()) {
            (None, None) => {
                let hours = vec![(hours.of(0), rows.num_rows())];
                return Ok(vec![PartitionedRows { partition: self.root.clone(), rows: file_rows, hours }]);
            }
            (Some(partitions), None) => partitions.order(),
            (None, Some(hours)) => hours.order(),
            (Some(partitions), Some(hours)) => partitions.combine(&hours).order(),
        };
        let sorted = order.sorted_rows(&file_rows)?;
        let partition_of = |row: usize| partitions.as_ref().map(|partitions| partitions.ids[row]);
        let mut groups = order.groups().map(|(_, range)| (order.old_row(range.start), range)).peekable();
        let mut split = Vec::new();
        while let Some((first, Range { start, mut end })) = groups.next() {
            let mut hours_of = vec![(hours.of(first), end - start)];
            // Numbered by partition first: the hours of one follow each other.
            while let Some((row, range)) = groups.next_if(|(row, _)| partition_of(*row) == partition_of(first)) {
                hours_of.push((hours.of(row), range.len()));
                end = range.end;
            }
            let partition = self.partition(rows, first)?;
            split.push(PartitionedRows { partition, rows: sorted.slice(start, end - start), hours: hours_of });
        }
        drop(groups);
        self.order = Some(order);
        Ok(split)
    }

    /// Returns where a row of the last batch stood before it was split, counted over all its partitions.
    pub fn old_row(&self, row: usize) -> usize {
        self.order.as_ref().map_or(row, |order| order.old_row(row))
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
