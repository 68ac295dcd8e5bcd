//! The monitor's figures: count and sum by group, by Polars.
//!
//! Owns: which two columns of the output are imported, and their aggregation over one batch's rows.
//! Does not own: adding batches up (see [`crate::totals`]), the looks (the terminal).

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{DataType, Schema};
use polars::prelude::{Column, DataFrame, IntoLazy, PolarsError, col, len};

use super::arrow_ffi::polars_series;
use crate::config::MonitorConfig;
use crate::error::{Error, Result};
use crate::totals::{Total, Totals};

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
    /// that is missing or of no use narrows the figures (one group `all`; counts only) and is told by [`Self::warnings`].
    pub fn new(output: &Schema, monitor: &MonitorConfig) -> Self {
        let mut warnings = Vec::new();
        let group = find(output, "monitor.group_by", &monitor.group_by, &mut warnings);
        let group = group.filter(|index| usable(output, "monitor.group_by", *index, &DataType::Utf8View, &mut warnings));
        let value = find(output, "monitor.value", &monitor.value, &mut warnings);
        let value = value.filter(|index| usable(output, "monitor.value", *index, &DataType::Float64, &mut warnings));
        Self { group, value, groups_max: monitor.groups_max, warnings }
    }

    /// Returns how many groups have a name of their own.
    pub fn groups_max(&self) -> usize {
        self.groups_max
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
        let mut columns = Vec::new();
        for (index, name, data_type) in [(self.group, "group", DataType::Utf8View), (self.value, "value", DataType::Float64)] {
            if let Some(index) = index {
                columns.push(import(batch.column(index), name, &data_type).map_err(failed)?);
            }
        }
        if columns.is_empty() {
            totals.add(Some(ALL), Total { rows: rows as u64, ..Total::default() }, self.groups_max);
            return Ok(totals);
        }
        self.aggregate(rows, columns, &mut totals).map_err(failed)?;
        Ok(totals)
    }

    fn aggregate(&self, rows: usize, columns: Vec<Column>, totals: &mut Totals) -> Result<(), PolarsError> {
        let frame = DataFrame::new(rows, columns)?.lazy();
        let mut figures = vec![len().alias("rows")];
        if self.value.is_some() {
            figures.extend([col("value").count().alias("values"), col("value").sum().alias("sum")]);
        }
        let frame = if self.group.is_some() { frame.group_by([col("group")]).agg(figures) } else { frame.select(figures) }.collect()?;
        let groups = self.group.map(|_| frame.column("group")?.str()).transpose()?;
        let counts = frame.column("rows")?.idx()?;
        let values = self.value.map(|_| Ok::<_, PolarsError>((frame.column("values")?.idx()?, frame.column("sum")?.f64()?))).transpose()?;
        for row in 0..frame.height() {
            let mut total = Total { rows: u64::from(counts.get(row).unwrap_or_default()), ..Total::default() };
            if let Some((count, sum)) = values {
                total.values = u64::from(count.get(row).unwrap_or_default());
                total.sum = sum.get(row).unwrap_or_default();
            }
            totals.add(groups.map_or(Some(ALL), |groups| groups.get(row)), total, self.groups_max);
        }
        Ok(())
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("cannot aggregate for the monitor: {error}"))
}

/// Imports a column, without copying if it has the type already.
fn import(column: &ArrayRef, name: &str, data_type: &DataType) -> Result<Column, String> {
    if column.data_type() == data_type {
        return Ok(polars_series(name, column)?.into());
    }
    let cast = cast(column, data_type).map_err(|e| e.to_string())?;
    Ok(polars_series(name, &cast)?.into())
}

fn find(output: &Schema, key: &str, name: &str, warnings: &mut Vec<String>) -> Option<usize> {
    let found = output.fields().iter().position(|field| field.name() == name);
    if found.is_none() {
        let likeness = |other: &str| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
        let nearest = output.fields().iter().map(|field| field.name()).max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let nearest = nearest.map_or_else(String::new, |nearest| format!("; the nearest is `{nearest}`"));
        warnings.push(format!("{key} = `{name}` is no column of the output{nearest}"));
    }
    found
}

fn usable(output: &Schema, key: &str, index: usize, as_type: &DataType, warnings: &mut Vec<String>) -> bool {
    let field = output.field(index);
    let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    // Arrow would parse text into a number, and take a time as one: neither has a mean that means something.
    let fits = match as_type {
        DataType::Float64 => field.data_type().is_numeric(),
        _ => is_text || can_cast_types(field.data_type(), as_type),
    };
    if !fits {
        warnings.push(format!("{key} = `{}` is of type {}, which cannot be shown", field.name(), field.data_type()));
    }
    fits
}

#[cfg(test)]
mod tests;
