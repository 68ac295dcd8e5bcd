//! Draft: the configuration that a sample suggests, and that a user completes with a few words.
//!
//! Owns: which columns may be the event time, the hive partitions and the figures of the live table, and what is said of the sample.
//! Does not own: the guess of the schema (see `pintail_decode::infer`), choosing among several (see `choice`), the settings that follow (see
//! `settings`), what becomes of those (see `commands::init`, `commands::load`).

use std::path::Path;

use arrow::datatypes::DataType;
use itertools::Itertools;
use pintail_config::Config;
use pintail_core::error::{Error, Result};
use pintail_core::quantity::{counted, thousands};
use pintail_core::{escape, hive, suggest};
use pintail_decode::infer::{Hint, Inferred};
use pintail_duckdb::Engine;

use crate::cli::Wishes;
use choice::{choose, told};

mod choice;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use choice::Person;
pub(crate) use settings::ALL;

/// Values of a column that may become directories. More are more files than hours need.
const VALUES_MAX: usize = 64;
/// Of so many records one may lack the column that becomes directories.
const PRESENT: u64 = 100;
/// Where the records come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// Names and globs.
    Files(Vec<String>),
    /// Standard input.
    Stdin,
}

/// A configuration to be.
#[derive(Debug)]
pub(crate) struct Draft {
    input: Input,
    out: String,
    inferred: Inferred,
    sql: Option<String>,
    partition_by: Vec<String>,
    event_time: Option<String>,
    group_by: Option<String>,
    value: Option<String>,
    /// What was chosen because nobody said it, a line each.
    chosen: Vec<String>,
    /// What the rows are laid out by and no record of the sample has, a line each.
    absent: Vec<String>,
}

/// A column of the SQL's output.
struct Output {
    name: String,
    data_type: DataType,
    /// What the sample says of the column of that name.
    hint: Hint,
}

impl Output {
    fn is_timestamp(&self) -> bool {
        matches!(self.data_type, DataType::Timestamp(..))
    }

    fn is_time(&self) -> bool {
        self.is_timestamp() || matches!(self.data_type, DataType::Date32 | DataType::Date64)
    }

    /// Returns how many directories it would make; `None` if it is not made for that.
    fn directories(&self, records: u64) -> Option<usize> {
        let values = self.hint.values.filter(|values| (2..=VALUES_MAX).contains(values))?;
        let is_there = self.hint.present * PRESENT >= records * (PRESENT - 1);
        (is_there && hive::column_name_fault(&self.name).is_none()).then_some(values)
    }
}

impl Draft {
    /// Completes what a sample says with what the user did, and asks `person` for what neither says.
    ///
    /// # Errors
    /// `Config` if the user named a column that is not there, or the SQL is wrong.
    pub(crate) fn new(input: Input, out: &Path, mut inferred: Inferred, wishes: &Wishes, mut person: Option<Person<'_>>) -> Result<Self> {
        let out = out.to_str().ok_or_else(|| Error::config(format!("`{}` is no UTF-8: name another directory", out.display())))?;
        if wishes.sql.is_none() {
            take_times(&mut inferred, wishes.event_time.as_deref());
        }
        let mut draft = Self {
            input,
            out: out.to_owned(),
            inferred,
            sql: wishes.sql.clone(),
            partition_by: Vec::new(),
            event_time: None,
            group_by: None,
            value: None,
            chosen: Vec::new(),
            absent: Vec::new(),
        };
        let outputs = draft.outputs()?;
        draft.choose_event_time(&outputs, wishes, person.as_mut())?;
        draft.choose_partitions(&outputs, wishes, person.as_mut())?;
        draft.choose_figures(&outputs);
        draft.look_for_absent(&outputs);
        Ok(draft)
    }

    /// Returns the columns that the SQL returns.
    fn outputs(&self) -> Result<Vec<Output>> {
        let columns = &self.inferred.schema.columns;
        let hint = |name: &str| columns.iter().position(|column| column.name == name).map_or(Hint::default(), |at| self.inferred.hints[at]);
        let output = |name: &str, data_type: &DataType| Output { name: name.to_owned(), data_type: data_type.clone(), hint: hint(name) };
        if self.sql.is_none() {
            return Ok(columns.iter().map(|column| output(&column.name, &column.column_type.arrow())).collect());
        }
        let config = Config::load(None, pintail_config::environment(), &self.settings())?;
        let engine = Engine::open(&config.transform, config.schema.arrow())?;
        Ok(engine.output().fields().iter().map(|field| output(field.name(), field.data_type())).collect())
    }

    fn choose_event_time(&mut self, outputs: &[Output], wishes: &Wishes, person: Option<&mut Person<'_>>) -> Result<()> {
        if let Some(wish) = &wishes.event_time {
            self.event_time = (!wish.is_empty()).then(|| find(outputs, "--event-time", wish)).transpose()?;
            return Ok(());
        }
        let days = outputs.iter().filter(|output| output.is_time() && !output.is_timestamp());
        let candidates = outputs.iter().filter(|output| output.is_timestamp()).chain(days);
        let candidates: Vec<_> = candidates.map(|output| (output.name.clone(), output.name.clone())).collect();
        let chosen = choose(&candidates, "Which time gives a file its hour?", person)?;
        self.chosen.push(told("event time", "--event-time", chosen, &candidates, "no column of times"));
        self.event_time = chosen.map(|at| candidates[at].0.clone());
        Ok(())
    }

    fn choose_partitions(&mut self, outputs: &[Output], wishes: &Wishes, person: Option<&mut Person<'_>>) -> Result<()> {
        if let Some(wish) = &wishes.partition_by {
            let names = wish.iter().filter(|name| !name.is_empty());
            self.partition_by = names.map(|name| find(outputs, "--partition-by", name)).collect::<Result<_>>()?;
            return Ok(());
        }
        let records = self.inferred.records;
        // A file must have a column of its own.
        let may_be = |output: &&Output| outputs.len() > 1 && self.event_time.as_ref() != Some(&output.name);
        let candidates = outputs.iter().filter(may_be).filter_map(|output| Some((output, output.directories(records)?)));
        let candidates = candidates.sorted_by_key(|(_, values)| *values);
        let shown = |(output, values): (&Output, usize)| {
            (output.name.clone(), format!("{}, {}", output.name, counted(values as u64, "value", "values")))
        };
        let candidates: Vec<_> = candidates.map(shown).collect();
        let chosen = choose(&candidates, "Which column's values become directories?", person)?;
        self.chosen.push(told("partitions", "--partition-by", chosen, &candidates, "no column of a few texts that come again and again"));
        self.partition_by = chosen.map(|at| candidates[at].0.clone()).into_iter().collect();
        Ok(())
    }

    /// Chooses what the live table shows.
    fn choose_figures(&mut self, outputs: &[Output]) {
        self.group_by = self.partition_by.first().cloned();
        let measures =
            outputs.iter().filter(|output| matches!(output.data_type, DataType::Float64 | DataType::Float32 | DataType::Decimal128(..)));
        self.value = measures.map(|output| output.name.clone()).next();
    }

    /// Finds columns of the input that lay out the rows and that no record of the sample has.
    fn look_for_absent(&mut self, outputs: &[Output]) {
        let is_absent = |name: &&String| {
            let is_input = self.inferred.schema.columns.iter().any(|column| column.name == **name);
            is_input && outputs.iter().any(|output| output.name == **name && output.hint.present == 0)
        };
        let absent = self.partition_by.iter().chain(&self.event_time).filter(is_absent);
        let note =
            |name: &String| format!("{:<10}  `{}`, which lays out the files, is in no record of the sample", "note", escape::line(name));
        self.absent = absent.map(note).collect();
    }

    /// Returns the names of the columns.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.inferred.schema.columns.iter().map(|column| column.name.as_str())
    }

    /// Returns what was chosen because nobody said it, a line each.
    pub(crate) fn chosen(&self) -> &[String] {
        &self.chosen
    }

    /// Returns what should be known of the columns by somebody who does not read them, a line each.
    pub(crate) fn notes(&self) -> Vec<String> {
        let skipped = self.skipped().map(|skipped| format!("{:<10}  {skipped}", "note"));
        let warnings = self.inferred.warnings().map(|(column, note)| format!("{:<10}  {}: {note}", "note", escape::line(column)));
        skipped.into_iter().chain(warnings).chain(self.absent.iter().cloned()).collect()
    }

    /// Says what nobody looked at of so many records; `None` if there is nothing.
    pub(crate) fn unseen(&self, records: u64) -> Option<String> {
        let seen = self.inferred.records;
        let sample = format!("{} of the {}", thousands(seen), counted(records, "record", "records"));
        (seen < records)
            .then(|| format!("{:<10}  the columns are those of {sample}: fields that only others have are left out (--records N)", "note"))
    }

    /// Says how much was looked at.
    pub(crate) fn seen(&self) -> String {
        let columns = counted(self.inferred.schema.columns.len() as u64, "column", "columns");
        format!("{columns} in {}", counted(self.inferred.records, "record", "records"))
    }

    /// Says how many lines of the sample would become dead letters; `None` if none would.
    pub(crate) fn skipped(&self) -> Option<String> {
        let Inferred { skipped, records, .. } = self.inferred;
        (skipped > 0).then(|| {
            format!("{} of {} lines are no JSON objects, and become dead letters", thousands(skipped), thousands(skipped + records))
        })
    }
}

/// Makes times of integers: of the column that is to be the event time, else of the first that is likely to be one, where no other column is a time.
fn take_times(inferred: &mut Inferred, wish: Option<&str>) {
    let columns = &inferred.schema.columns;
    let taken = match wish {
        Some(name) => columns.iter().position(|column| column.name == name),
        None if columns.iter().any(|column| matches!(column.column_type.arrow(), DataType::Timestamp(..))) => None,
        None => inferred.hints.iter().position(|hint| hint.time.is_some()),
    };
    if let Some(column) = taken {
        inferred.take_for_time(column);
    }
}

/// Finds the column that a flag names.
fn find(outputs: &[Output], flag: &str, name: &str) -> Result<String> {
    if outputs.iter().any(|output| output.name == name) {
        return Ok(name.to_owned());
    }
    let nearest = suggest::nearest(name, outputs.iter().map(|output| output.name.as_str()));
    let meant = suggest::question(&nearest).map_or_else(String::new, |question| format!("; {question}"));
    let names = outputs.iter().map(|output| &output.name).join(", ");
    Err(Error::config(format!("{flag}: there is no column `{name}` among {names}{meant}")))
}
