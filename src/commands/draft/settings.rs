//! Settings: what a draft comes to, as the text of a file and as `key=value`.
//!
//! Owns: the keys, the comments beside them, how values and SQL are written, the first query over the rows.
//! Does not own: what is chosen (see [`super`]), the columns (see `pintail_decode::infer`).

use std::fmt::Write as _;

use itertools::Itertools;
use pintail_core::escape;
use pintail_decode::infer::Quoted;

use super::{Draft, Input};

/// All columns, as they are.
pub(crate) const ALL: &str = "SELECT * FROM events";

impl Draft {
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
    use super::*;

    #[test]
    fn a_name_is_quoted_where_sql_would_read_something_else() {
        assert_eq!(
            ["shop", "Shop_2", "2nd", "a b", "order", "a\"b"].map(identifier),
            ["shop", "Shop_2", "\"2nd\"", "\"a b\"", "\"order\"", "\"a\"\"b\""]
        );
    }
}
