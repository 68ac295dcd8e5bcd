//! The event times of rows: which hour names their file.
//!
//! Owns: reading the event-time column, hours, and the span of a file.
//! Does not own: which file an hour goes to (see `files::set`).

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use chrono::{DateTime, Utc};
use pintail_core::batch::Hour;
use pintail_core::error::{Error, Result};
use pintail_core::grouping::GroupIds;

use super::OutputLayout;

/// The earliest and the latest event time.
pub(crate) type Span = (DateTime<Utc>, DateTime<Utc>);

/// The hours of rows; `None` where there is no event time.
#[derive(Debug)]
pub(crate) enum Hours {
    /// All rows are of one.
    Same(Option<Hour>),
    /// That of each row.
    Each(Vec<Option<Hour>>),
}

impl Hours {
    /// Returns the hour of a row.
    pub(crate) fn of(&self, row: usize) -> Option<Hour> {
        match self {
            Self::Same(hour) => *hour,
            Self::Each(hours) => hours[row],
        }
    }

    /// Numbers the hours in ascending order; `None` if there is only one.
    pub(crate) fn numbers(&self) -> Option<GroupIds> {
        match self {
            Self::Same(_) => None,
            Self::Each(hours) => Some(GroupIds::ascending(hours.iter().copied())),
        }
    }
}

/// How event times are read from rows.
///
/// A time outside the years 0 to 9999 (`infinity` is one) counts as missing: it names no hour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventTime {
    column: Option<Scale>,
}

#[derive(Debug, Clone, Copy)]
struct Scale {
    index: usize,
    /// What the column counts.
    unit: Unit,
}

#[derive(Debug, Clone, Copy)]
enum Unit {
    Time(TimeUnit),
    Day,
}

/// The first and the last second of the years 0 to 9999.
const YEARS: (i64, i64) = (-62_167_219_200, 253_402_300_799);

impl EventTime {
    /// Finds the event time of a layout.
    pub(crate) fn of(layout: &OutputLayout) -> Self {
        let scale = |index: usize| Scale {
            index,
            unit: match layout.file_schema().field(index).data_type() {
                DataType::Timestamp(unit, _) => Unit::Time(*unit),
                _ => Unit::Day,
            },
        };
        Self { column: layout.event_time().map(scale) }
    }

    /// Returns the hours of rows.
    pub(crate) fn hours(&self, rows: &RecordBatch) -> Result<Hours> {
        let Some(scale) = self.column else { return Ok(Hours::Same(None)) };
        let times = scale.times(rows)?;
        if times.null_count() == times.len() {
            return Ok(Hours::Same(None));
        }
        let hour = |time: Option<i64>| time.and_then(|time| scale.hour(time));
        let (earliest, latest) = (hour(min(&times)), hour(max(&times)));
        if earliest.is_some() && earliest == latest && times.null_count() == 0 {
            return Ok(Hours::Same(earliest));
        }
        Ok(Hours::Each(times.iter().map(hour).collect()))
    }

    /// Returns the earliest and the latest event time of rows.
    pub(crate) fn span(&self, rows: &RecordBatch) -> Result<Option<Span>> {
        let Some(scale) = self.column else { return Ok(None) };
        let times = scale.times(rows)?;
        let instant = |time: Option<i64>| time.and_then(|time| scale.instant(time));
        let ends = (instant(min(&times)), instant(max(&times)));
        if let (Some(earliest), Some(latest)) = ends {
            return Ok(Some((earliest, latest)));
        }
        let usable = || times.iter().flatten().filter_map(|time| scale.instant(time));
        Ok(usable().min().zip(usable().max()))
    }
}

impl Scale {
    fn times(&self, rows: &RecordBatch) -> Result<Int64Array> {
        let times = cast(rows.column(self.index), &DataType::Int64);
        let times = times.map_err(|e| Error::internal("cannot read the event time").with_source(e))?;
        Ok(times.as_primitive::<Int64Type>().clone())
    }

    fn per_second(self) -> i64 {
        match self.unit {
            Unit::Day | Unit::Time(TimeUnit::Second) => 1,
            Unit::Time(TimeUnit::Millisecond) => 1_000,
            Unit::Time(TimeUnit::Microsecond) => 1_000_000,
            Unit::Time(TimeUnit::Nanosecond) => 1_000_000_000,
        }
    }

    fn seconds(self, time: i64) -> Option<i64> {
        let seconds = match self.unit {
            Unit::Day => time.checked_mul(86_400)?,
            Unit::Time(_) => time.div_euclid(self.per_second()),
        };
        (YEARS.0..=YEARS.1).contains(&seconds).then_some(seconds)
    }

    fn hour(self, time: i64) -> Option<Hour> {
        Some(self.seconds(time)?.div_euclid(3600))
    }

    fn instant(self, time: i64) -> Option<DateTime<Utc>> {
        let seconds = self.seconds(time)?;
        let rest = match self.unit {
            Unit::Day => 0,
            Unit::Time(_) => time.rem_euclid(self.per_second()),
        };
        DateTime::from_timestamp(seconds, (rest * (1_000_000_000 / self.per_second())) as u32)
    }
}

/// Returns the hour of an instant.
pub(crate) fn hour_of(instant: DateTime<Utc>) -> Hour {
    instant.timestamp().div_euclid(3600)
}

/// Returns an hour as it stands in a file's name.
pub(crate) fn hour_text(hour: Hour) -> String {
    let begin = DateTime::from_timestamp(hour * 3600, 0).expect("hours come from instants within the calendar");
    begin.format("%Y-%m-%d-%H").to_string()
}
