//! The monitor's figures: count and sum by group, by Polars.
//!
//! Owns: which two columns of the output are imported, and their aggregation over one batch's rows.
//! Does not own: adding batches up (see [`pintail_core::totals`]), the looks (the terminal).

use std::iter;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{DataType, Schema};
use pintail_config::MonitorConfig;
use pintail_core::error::{Error, Result};
use pintail_core::grouping::GroupIds;
use pintail_core::totals::{Total, Totals};
use pintail_core::{sql_type, suggest};
use pintail_duckdb::shown;
use polars::prelude::{DataFrame, IntoLazy, NamedFrom as _, PolarsError, Series, col};
use polars::series::IsSorted;

use arrow_ffi::polars_series;

pub(crate) mod arrow_ffi;

/// The one group of an output that lacks the group's column.
const ALL: &str = "all";

/// Aggregates the rows of batches.
#[derive(Debug, Clone)]
pub struct Aggregator {
    group: Option<usize>,
    value: Option<usize>,
    groups_max: usize,
    warnings: Vec<String>,
}

impl Aggregator {
    /// Looks the columns up in the output. The defaults of `[monitor]` must not stand in the way of the user's own SQL, so a column
    /// that is missing or of no use narrows the figures (one group `all`; counts only). [`Self::warnings`] tells it of one that the user named.
    pub fn new(output: &Schema, monitor: &MonitorConfig) -> Self {
        let mut warnings = Vec::new();
        let mut look_up = |key: &'static str, name: &str, as_type: DataType| match column(output, name, &as_type) {
            Ok(index) => Some(index),
            Err(why) => {
                warnings.extend((!monitor.defaulted.contains(&key)).then(|| format!("monitor.{key} = `{name}` {why}")));
                None
            }
        };
        let group = look_up("group_by", &monitor.group_by, DataType::Utf8View);
        let value = look_up("value", &monitor.value, DataType::Float64);
        if value.is_some() {
            // Polars makes a runtime with descriptors at its first use, and panics where there are none: at a start nothing is lost by that.
            let one: ArrayRef = Arc::new(Float64Array::from(vec![0.0]));
            let _ = sums(std::slice::from_ref(&(0..1)), &one);
        }
        Self { group, value, groups_max: monitor.groups_max, warnings }
    }

    /// Returns how many groups have a name of their own.
    pub fn groups_max(&self) -> usize {
        self.groups_max
    }

    /// Returns whether there is a column of groups, and one whose mean is taken.
    pub fn columns(&self) -> (bool, bool) {
        (self.group.is_some(), self.value.is_some())
    }

    /// Returns what the figures lack, and why.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Counts the rows and sums the values by group. `batch` has the output's schema.
    pub fn totals(&self, batch: &RecordBatch) -> Result<Totals> {
        let rows = batch.num_rows();
        let mut totals = Totals::default();
        if rows == 0 {
            return Ok(totals);
        }
        let column = |index: Option<usize>, data_type| index.map(|index| as_type(batch.column(index), data_type)).transpose();
        let texts = column(self.group, &DataType::Utf8View).map_err(failed)?;
        let value = column(self.value, &DataType::Float64).map_err(failed)?;
        let order = texts.as_ref().map(|texts| GroupIds::of_column(texts).order());
        let groups: Vec<_> =
            order.as_ref().map_or_else(|| iter::once(0..rows).collect(), |order| order.groups().map(|(_, rows)| rows).collect());
        let value = match (&order, value) {
            (Some(order), Some(value)) => Some(order.sorted(&value).map_err(failed)?),
            (_, value) => value,
        };
        let sums = value.map(|value| sums(&groups, &value)).transpose().map_err(failed)?;
        let name = |group: &Range<usize>| {
            let Some((texts, order)) = texts.as_ref().zip(order.as_ref()) else { return Some(ALL) };
            let (texts, row) = (texts.as_string_view(), order.old_row(group.start));
            texts.is_valid(row).then(|| texts.value(row))
        };
        for (number, group) in groups.iter().enumerate() {
            let (values, sum) = sums.as_ref().map_or((0, 0.0), |sums| sums[number]);
            totals.add(name(group), Total { rows: group.len() as u64, values, sum }, self.groups_max);
        }
        Ok(totals)
    }
}

/// Counts and sums the values of each group. The rows of a group are neighbours.
///
/// Polars gets the groups as numbers that ascend, and is told so: then it adds up neighbours. Hashing the text of each row took it seven times
/// as long.
fn sums(groups: &[Range<usize>], value: &ArrayRef) -> Result<Vec<(u64, f64)>, String> {
    let numbers = (0_u32..).zip(groups).flat_map(|(number, rows)| iter::repeat_n(number, rows.len()));
    let mut numbers = Series::new("group".into(), numbers.collect::<Vec<_>>());
    numbers.set_sorted_flag(IsSorted::Ascending);
    let value = polars_series("value", value)?;
    let sums = || {
        let frame = DataFrame::new(value.len(), vec![numbers.into(), value.into()])?.lazy().group_by([col("group")]);
        let frame = frame.agg([col("value").count().alias("values"), col("value").sum().alias("sum")]).collect()?;
        let (numbers, values, sum) = (frame.column("group")?.u32()?, frame.column("values")?.idx()?, frame.column("sum")?.f64()?);
        let mut sums = vec![(0, 0.0); groups.len()];
        for row in 0..frame.height() {
            let values = u64::from(values.get(row).unwrap_or_default());
            sums[numbers.get(row).unwrap_or_default() as usize] = (values, sum.get(row).unwrap_or_default());
        }
        Ok(sums)
    };
    sums().map_err(|e: PolarsError| e.to_string())
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("cannot aggregate for the monitor: {error}"))
}

/// Returns a column as it is, if it has the type already.
fn as_type(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, String> {
    if column.data_type() == data_type {
        return Ok(column.clone());
    }
    shown::column(column).and_then(|column| cast(&column, data_type)).map_err(|e| e.to_string())
}

/// Returns the place of a column that can be shown as a type. Says in words why there is none.
fn column(output: &Schema, name: &str, as_type: &DataType) -> Result<usize, String> {
    let Some(index) = output.fields().iter().position(|field| field.name() == name) else {
        let nearest = suggest::nearest(name, output.fields().iter().map(|field| field.name().as_str()));
        let hint = suggest::question(&nearest).map_or_else(String::new, |question| format!(": {question}"));
        return Err(format!("is no column of the output{hint}"));
    };
    let field = output.field(index);
    let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    // Arrow would parse text into a number, and take a time as one: neither has a mean that means something.
    let fits = match as_type {
        DataType::Float64 => field.data_type().is_numeric(),
        _ => is_text || can_cast_types(field.data_type(), as_type),
    };
    if fits { Ok(index) } else { Err(format!("is of type {}, which cannot be shown", sql_type::name(field.data_type()))) }
}

#[cfg(test)]
mod tests;
