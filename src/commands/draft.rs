//! Draft: the configuration that a sample suggests, and that a user completes with a few words.
//!
//! Owns: choosing the event time and the hive partitions, asking a person where there is a choice, and the settings that follow: as the text of a
//! file, and as `key=value`.
//! Does not own: the guess of the schema (see `pintail_decode::infer`), what becomes of the settings (see `commands::init`, `commands::load`).

use std::fmt::Write as _;
use std::io::{BufRead, Write};
use std::path::Path;

use arrow::datatypes::DataType;
use itertools::Itertools;
use pintail_config::Config;
use pintail_core::error::{Error, Result};
use pintail_core::quantity::{counted, thousands};
use pintail_core::{escape, hive, suggest};
use pintail_decode::infer::{Hint, Inferred, Quoted};
use pintail_duckdb::Engine;

use crate::cli::Wishes;

/// Values of a column that may become directories. More are more files than hours need.
const VALUES_MAX: usize = 64;
/// Of so many records one may lack the column that becomes directories.
const PRESENT: u64 = 100;
/// Candidates that are named.
const NAMED_MAX: usize = 4;
/// Wrong answers that are taken before the choice is made without.
const ANSWERS_MAX: usize = 3;
/// What a person answers who wants none.
const NONE: &str = "-";
/// All columns, as they are.
pub(crate) const ALL: &str = "SELECT * FROM events";

/// Where the records come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// Names and globs.
    Files(Vec<String>),
    /// Standard input.
    Stdin,
}

/// A person at a terminal.
pub(crate) struct Person<'a> {
    /// What is typed.
    pub from: &'a mut dyn BufRead,
    /// Where questions are read.
    pub to: &'a mut dyn Write,
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

    /// Returns the settings as `--set` takes them.
    pub(crate) fn settings(&self) -> Vec<String> {
        let columns = (0..self.inferred.schema.columns.len()).map(|column| self.inferred.entry(column)).join(", ");
        let source = self.source().into_iter().map(|(key, value)| format!("source.{key}={value}"));
        let mut settings = vec![format!("pipeline.out_path={}", Quoted(&self.out))];
        settings.extend(source);
        settings.extend([
            format!("schema.columns=[{columns}]"),
            format!("transform.sql={}", Quoted(self.sql.as_deref().unwrap_or(ALL))),
            format!("sink.partition_by={}", list(&self.partition_by)),
            format!("sink.event_time={}", Quoted(self.event_time.as_deref().unwrap_or_default())),
        ]);
        settings.extend(self.figures().map(|(key, value)| format!("monitor.{key}={value}")));
        settings
    }

    fn source(&self) -> Vec<(&'static str, String)> {
        match &self.input {
            Input::Stdin => vec![("type", "\"stdin\"".to_owned())],
            Input::Files(paths) => {
                let path = if let [path] = &paths[..] { Quoted(path).to_string() } else { list(paths) };
                vec![("type", "\"file\"".to_owned()), ("path", path)]
            }
        }
    }

    fn figures(&self) -> impl Iterator<Item = (&'static str, String)> {
        let figures = [("group_by", &self.group_by), ("value", &self.value)];
        figures.into_iter().filter_map(|(key, column)| Some((key, Quoted(column.as_deref()?).to_string())))
    }

    /// Returns the text of a file with these settings.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes what is written to it");
        text
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        writeln!(to, "# From a sample: {}. Every other key, with its default, is in config.example.toml.\n", self.seen())?;
        writeln!(to, "[pipeline]\nout_path = {}", Quoted(&self.out))?;
        writeln!(to, "# How often files appear, beside the end of the input: checkpoint_interval = \"30s\"\n\n[source]")?;
        self.source().iter().try_for_each(|(key, value)| writeln!(to, "{key} = {value}"))?;
        if matches!(self.input, Input::Files(_)) {
            writeln!(to, "# Waits for more lines and files, as `tail -F` does: follow = true")?;
        }
        writeln!(
            to,
            "\n[schema]\n# What does not fit becomes a dead letter; behind a type, `, required = true` does that to a record without the value."
        )?;
        if let Some(skipped) = self.skipped() {
            writeln!(to, "# In the sample, {skipped}.")?;
        }
        writeln!(to, "columns = [")?;
        for column in 0..self.inferred.schema.columns.len() {
            let note = self.inferred.note(column);
            let note = if note.is_empty() { note } else { format!(" # {}", escape::line(&note)) };
            writeln!(to, "    {},{note}", self.inferred.entry(column))?;
        }
        writeln!(
            to,
            "]\n\n[transform]\n# One SELECT over `events`: filter, compute, rename.\nsql = {}",
            sql_text(self.sql.as_deref().unwrap_or(ALL))
        )?;
        writeln!(to, "\n[sink]\n# Columns whose values become directories.\npartition_by = {}", list(&self.partition_by))?;
        writeln!(to, "# The time that gives a file its hour.\nevent_time = {}", Quoted(self.event_time.as_deref().unwrap_or_default()))?;
        let figures: Vec<_> = self.figures().collect();
        if !figures.is_empty() {
            writeln!(to, "\n[monitor]\n# What the live table counts, and the mean that it shows.")?;
        }
        figures.iter().try_for_each(|(key, value)| writeln!(to, "{key} = {value}"))
    }

    /// Returns a first query over the rows.
    pub(crate) fn first_query(&self) -> String {
        match &self.partition_by[..] {
            [] => "SELECT * FROM events LIMIT 10".to_owned(),
            columns => {
                let columns = columns.iter().map(|name| identifier(name)).join(", ");
                format!("SELECT {columns}, count(*) FROM events GROUP BY ALL")
            }
        }
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

/// Chooses one of several candidates, each with what is shown of it: the first, or what a person says.
fn choose(candidates: &[(String, String)], question: &str, person: Option<&mut Person<'_>>) -> Result<Option<usize>> {
    let first = (!candidates.is_empty()).then_some(0);
    let (Some(person), 2..) = (person, candidates.len()) else { return Ok(first) };
    let failed = |e| Error::io("ask on the terminal", e);
    let shown = candidates.iter().map(|(_, shown)| escape::line(shown)).join("; ");
    writeln!(person.to, "{question} {shown}; {NONE} for none").map_err(failed)?;
    for _ in 0..ANSWERS_MAX {
        write!(person.to, "[{}] ", escape::line(&candidates[0].0)).and_then(|()| person.to.flush()).map_err(failed)?;
        let mut answer = String::new();
        person.from.read_line(&mut answer).map_err(failed)?;
        match answer.trim() {
            "" => return Ok(first),
            NONE => return Ok(None),
            name => match candidates.iter().position(|(known, _)| known == name) {
                Some(at) => return Ok(Some(at)),
                None => writeln!(person.to, "`{}` is none of them", escape::line(name)).map_err(failed)?,
            },
        }
    }
    Ok(first)
}

/// Says what was chosen, and what else there was.
fn told(what: &str, flag: &str, chosen: Option<usize>, candidates: &[(String, String)], why_none: &str) -> String {
    let Some(chosen) = chosen else {
        let why = if candidates.is_empty() { why_none } else { "as you said" };
        return format!("{what:<10}  none: {why} ({flag} COLUMN)");
    };
    let others = candidates.iter().enumerate().filter(|(at, _)| *at != chosen).map(|(_, (_, shown))| shown);
    let more = candidates.len().saturating_sub(NAMED_MAX + 1);
    let others = others.take(NAMED_MAX).join("; ");
    let others = match more {
        _ if others.is_empty() => String::new(),
        0 => format!("; or {others}"),
        more => format!("; or {others}; {more} more"),
    };
    format!("{what:<10}  {} ({flag}{others})", candidates[chosen].1)
}

/// Writes texts as a list of TOML.
fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| Quoted(text)).join(", "))
}

/// Writes SQL as a person reads it: one of several lines as such.
fn sql_text(sql: &str) -> String {
    let is_plain = |c: char| c == '\n' || c == '\t' || !c.is_control();
    match sql.contains('\n') && !sql.contains("'''") && !sql.ends_with('\'') && sql.chars().all(is_plain) {
        true => format!("'''\n{sql}'''"),
        false => Quoted(sql).to_string(),
    }
}

/// Writes a column's name as SQL has it.
fn identifier(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
    if is_plain && !RESERVED.contains(&&*name.to_lowercase()) { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Words that a column may be called and that SQL takes for its own.
const RESERVED: [&str; 16] = [
    "all", "case", "check", "default", "desc", "end", "from", "group", "having", "limit", "offset", "order", "select", "table", "user",
    "where",
];

#[cfg(test)]
mod tests {
    use pintail_decode::infer::infer;

    use super::*;

    fn sample(of: impl Fn(usize) -> String) -> Inferred {
        let lines: String = (0..100).map(|n| of(n) + "\n").collect();
        infer(lines.as_bytes(), 1_000).unwrap()
    }

    fn sales() -> Inferred {
        sample(|n| {
            let (shop, state) = (["berlin", "boston", "bern"][n % 3], ["new", "done"][n % 2]);
            format!(
                r#"{{"id":{n},"at":"2026-01-05T10:00:00Z","paid":"2026-01-05T11:00:00Z","shop":"{shop}","state":"{state}","price":{n}.5}}"#
            )
        })
    }

    fn draft(inferred: Inferred, wishes: &Wishes) -> Result<Draft> {
        Draft::new(Input::Files(vec!["sales.ndjson".into()]), Path::new("lake"), inferred, wishes, None)
    }

    fn asked(inferred: Inferred, typed: &str) -> (Draft, String) {
        let (mut from, mut to) = (typed.as_bytes(), Vec::new());
        let person = Person { from: &mut from, to: &mut to };
        let draft = Draft::new(Input::Stdin, Path::new("lake"), inferred, &Wishes::default(), Some(person)).unwrap();
        (draft, String::from_utf8(to).unwrap())
    }

    #[test]
    fn what_nobody_says_is_chosen_from_the_sample_and_said() {
        let draft = draft(sales(), &Wishes::default()).unwrap();
        assert_eq!((draft.event_time.as_deref(), &draft.partition_by[..]), (Some("at"), &["state".to_owned()][..]));
        assert_eq!(
            draft.chosen,
            ["event time  at (--event-time; or paid)", "partitions  state, 2 values (--partition-by; or shop, 3 values)"]
        );
        assert_eq!(draft.first_query(), "SELECT state, count(*) FROM events GROUP BY ALL");
    }

    #[test]
    fn integers_that_are_times_become_the_event_time_where_there_is_no_other() {
        let times = || sample(|n| format!(r#"{{"ts":{},"created_at":1767225600,"x":"{n}"}}"#, 1_767_225_600_000_i64 + n as i64));
        let wishes = |event_time: &str| Wishes { event_time: Some(event_time.into()), ..Wishes::default() };
        let chosen = draft(times(), &Wishes::default()).unwrap();
        assert_eq!(chosen.event_time.as_deref(), Some("ts"));
        assert!(chosen.text().contains("{ name = \"ts\", type = \"timestamp_ms\" }"), "{}", chosen.text());
        assert!(draft(times(), &wishes("created_at")).unwrap().text().contains("{ name = \"created_at\", type = \"timestamp_s\" }"));
        let none = draft(times(), &wishes("")).unwrap();
        assert!(none.event_time.is_none() && !none.text().contains("timestamp_ms\" }"));
    }

    #[test]
    fn a_person_is_asked_only_where_there_is_a_choice() {
        let (chosen, questions) = asked(sales(), "paid\nshpo\nshop\n");
        assert_eq!((chosen.event_time.as_deref(), &chosen.partition_by[..]), (Some("paid"), &["shop".to_owned()][..]));
        assert!(questions.contains("at; paid; - for none\n[at] ") && questions.contains("`shpo` is none of them"), "{questions}");
        let (chosen, _) = asked(sales(), "\n-\n");
        assert_eq!((chosen.event_time.as_deref(), chosen.partition_by.len()), (Some("at"), 0));
        let one = sample(|n| format!(r#"{{"at":"2026-01-05T10:00:00Z","shop":"{}"}}"#, n % 2));
        assert_eq!(asked(one, "").1, "");
    }

    #[test]
    fn a_column_that_is_not_there_is_refused_with_the_nearest() {
        let wishes = Wishes { partition_by: Some(vec!["shpo".into()]), ..Wishes::default() };
        let error = draft(sales(), &wishes).unwrap_err().to_string();
        assert!(error.ends_with("; did you mean `shop`?"), "{error}");
        assert!(error.starts_with("--partition-by: there is no column `shpo` among id, at"), "{error}");
    }

    #[test]
    fn the_text_says_the_same_as_the_settings_and_is_a_page() {
        let hostile = sample(|n| format!(r#"{{"a\"b\n#":{n},"c.d":{{"e":"\u001b"}},"t":"x{}"}}"#, n % 2));
        let sql = "SELECT *,\n  't' AS \"it's\"\nFROM events";
        for (inferred, sql) in [(sales(), None), (hostile, Some(sql)), (sales(), Some("SELECT id FROM events WHERE shop <> ''"))] {
            let wishes =
                Wishes { sql: sql.map(str::to_owned), partition_by: sql.map(|_| Vec::new()), event_time: sql.map(|_| String::new()) };
            let draft = draft(inferred, &wishes).unwrap();
            let text = draft.text();
            assert!((10..=42).contains(&text.lines().count()), "{text}");
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &text).unwrap();
            let written = Config::load(Some(file.path()), std::iter::empty(), &[]).unwrap();
            let set = Config::load(None, std::iter::empty(), &draft.settings()).unwrap();
            assert_eq!(written.sha256, set.sha256, "{text}");
            assert_eq!(written.transform.sql, sql.unwrap_or(ALL));
        }
    }

    #[test]
    fn a_name_is_quoted_where_sql_would_read_something_else() {
        assert_eq!(
            ["shop", "Shop_2", "2nd", "a b", "order", "a\"b"].map(identifier),
            ["shop", "Shop_2", "\"2nd\"", "\"a b\"", "\"order\"", "\"a\"\"b\""]
        );
    }
}
