//! Reads typed values out of what the user typed, and keeps every fault.
//!
//! Owns: how a key is taken, typed, bounded and noted; the wording of the faults of values.
//! Does not own: what is kept of all that (see [`crate::report`]), the keys themselves and their limits (see `pintail_config::sections`), the
//! syntax of single values (see `values`).

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use pintail_core::quantity::grouped;
use pintail_core::secret::{is_secret_key, without_login};
use pintail_core::suggest;
use serde_json::{Value as Json, json};

use crate::described::{Described, Takes};
use crate::raw::{Node, Origin, Table, Value};
use crate::report::Report;
use crate::values;

/// One table of the configuration. Every key is taken out by name; what remains is unknown.
pub struct Section<'a> {
    name: String,
    table: Table,
    report: &'a mut Report,
}

impl<'a> Section<'a> {
    /// Takes the section `name` out of the root.
    pub fn open(root: &mut Table, name: &str, report: &'a mut Report) -> Self {
        let table = match root.remove(name) {
            None => Table::new(),
            Some(Node { value: Value::Table(table), .. }) => table,
            Some(node) => {
                report.blame(name, format!("`{name}` = {node} ({}): expected a section with keys", node.origin));
                Table::new()
            }
        };
        Self { name: name.into(), table, report }
    }

    /// Takes the list of tables `name` out of the root and reads each as a section of its own, named `name[0]`, `name[1]`, …
    pub fn each<T>(root: &mut Table, name: &str, report: &mut Report, read: impl Fn(&mut Section<'_>) -> Option<T>) -> Vec<T> {
        let mut found = Vec::new();
        report.known.insert(name.to_owned());
        report.described.insert(name.to_owned(), Described::optional(Takes::Tables));
        if report.is_description {
            let item = Node { value: Value::Table(Table::new()), origin: Origin::Set, typed: None };
            root.insert(name.to_owned(), Node { value: Value::List(vec![item]), origin: Origin::Set, typed: None });
        }
        let items = match root.remove(name) {
            None => return found,
            Some(Node { value: Value::List(items), .. }) => items,
            Some(node) => {
                report.blame(name, format!("`{name}` = {node} ({}): expected a list of tables, each under a line [[{name}]]", node.origin));
                return found;
            }
        };
        for (index, item) in items.into_iter().enumerate() {
            let name = format!("{name}[{index}]");
            let Value::Table(table) = item.value else {
                report.blame(&name, format!("`{name}` = {item} ({}): expected a table with keys", item.origin));
                continue;
            };
            let mut section = Section { name, table, report: &mut *report };
            found.extend(read(&mut section));
            section.close();
        }
        found
    }

    /// Ends reading: what is left over is unknown.
    pub fn close(self) {
        for (key, node) in self.table {
            self.report.unknown.push((format!("{}.{key}", self.name), node.origin));
        }
    }

    /// Returns whether a key was not given, and another one that nobody knows was probably meant to be it. `others` are known.
    pub fn is_misspelt(&mut self, key: &str, others: &[&str]) -> bool {
        let is_slip = |given: &String| !others.contains(&given.as_str()) && !suggest::nearest(given, [key]).is_empty();
        let Some(slip) = self.table.keys().find(|given| is_slip(given)).filter(|_| !self.has(key)).cloned() else { return false };
        self.ask(key);
        if let Some(node) = self.table.remove(&slip) {
            self.report.unknown.push((format!("{}.{slip}", self.name), node.origin));
        }
        true
    }

    /// Drops what is left over, where it cannot be judged.
    pub fn forget_rest(&mut self) {
        self.table.clear();
    }

    /// Returns whether the user gave this key.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Keeps a fault of a key of this section.
    pub fn fault(&mut self, key: &str, problem: impl Display) {
        let key = self.key(key);
        self.report.fault(&key, problem);
    }

    /// Keeps the fault that a key must be given, which is not.
    pub fn missing(&mut self, key: &str, why: impl Display) {
        self.fault(key, format_args!("missing: {why}"));
        let key = without_index(&self.key(key));
        if let Some(described) = self.report.described.get_mut(&key) {
            (described.has_default, described.is_required) = (false, true);
        }
        self.report.missing.insert(key);
    }

    /// Returns whether there is a fault of this key already.
    pub fn is_faulty(&self, key: &str) -> bool {
        let name = format!("`{}`", self.key(key));
        self.report.faults.iter().any(|fault| fault.starts_with(&name))
    }

    /// Takes keys away that are of no use here, each a fault.
    pub fn refuse(&mut self, keys: &[&str], why: &str) {
        for key in keys {
            self.ask(key);
            if let Some(node) = self.table.remove(*key) {
                let shown = if is_secret_key(key) { "…".to_owned() } else { node.to_string() };
                let key = self.key(key);
                self.report.blame(&key, format!("`{key}` = {shown} ({}): {why}", node.origin));
            }
        }
    }

    /// Takes a value as it was typed; `None` if it was not given or is faulty.
    fn take<T>(&mut self, key: &str, described: Described, parse: impl FnOnce(&Node) -> Result<T, String>) -> Option<T> {
        self.ask(key);
        self.describe(key, described);
        let node = self.table.remove(key)?;
        self.report.origins.insert(self.key(key), node.origin.clone());
        match parse(&node) {
            Ok(value) => Some(value),
            Err(problem) => {
                let key = self.key(key);
                self.report.blame(&key, format!("`{key}` = {node} ({}): {problem}", node.origin));
                None
            }
        }
    }

    /// Notes what holds, for the hash of the configuration. The keys of list items are left out: whoever reads the list notes it whole.
    pub fn note(&mut self, key: &str, canonical: Json) {
        if !self.name.ends_with(']') {
            let key = self.key(key);
            self.report.effective.insert(key, canonical);
        }
    }

    /// Takes an integer in a range.
    pub fn integer(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let parse = |node: &Node| match node.value {
            Value::Integer(number) if u64::try_from(number).is_ok_and(|number| range.contains(&number)) => Ok(number.unsigned_abs()),
            _ => Err(format!("expected an integer from {} to {}", grouped(*range.start(), '_'), grouped(*range.end(), '_'))),
        };
        let value = self.take(key, Described::with_default(Takes::Integer(range.clone())), parse).unwrap_or(default);
        self.note(key, json!(value));
        value
    }

    /// Takes a number of things that are held in memory.
    pub fn count(&mut self, key: &str, default: u32, range: RangeInclusive<u32>) -> usize {
        let value = self.integer(key, default.into(), (*range.start()).into()..=(*range.end()).into());
        usize::try_from(value).expect("the range ends at 32 bits")
    }

    /// Takes a number with a fraction.
    pub fn float(&mut self, key: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let parse = |node: &Node| match node.value {
            Value::Float(number) if range.contains(&number) => Ok(number),
            Value::Integer(number) if range.contains(&(number as f64)) => Ok(number as f64),
            _ => Err(format!("expected a number from {:?} to {:?}", range.start(), range.end())),
        };
        let value = self.take(key, Described::with_default(Takes::Number(range.clone())), parse).unwrap_or(default);
        self.note(key, json!(value));
        value
    }

    /// Takes `true` or `false`.
    pub fn boolean(&mut self, key: &str, default: bool) -> bool {
        let parse = |node: &Node| match node.value {
            Value::Boolean(flag) => Ok(flag),
            _ => Err("expected true or false".to_owned()),
        };
        let value = self.take(key, Described::with_default(Takes::Boolean), parse).unwrap_or(default);
        self.note(key, json!(value));
        value
    }

    /// Takes `true` or `false`; there is no default.
    pub fn optional_boolean(&mut self, key: &str) -> Option<bool> {
        if self.has(key) {
            return Some(self.boolean(key, false));
        }
        self.ask(key);
        self.describe(key, Described::optional(Takes::Boolean));
        self.note(key, Json::Null);
        None
    }

    /// Takes a size in bytes.
    pub fn size(&mut self, key: &str, default: ByteSize, range: RangeInclusive<ByteSize>) -> u64 {
        let parse = |node: &Node| {
            let size = match &node.value {
                Value::Integer(bytes) => u64::try_from(*bytes).ok().map(ByteSize::b),
                Value::Text(text) => text.trim().parse().ok(),
                _ => None,
            };
            let (from, to) = (range.start(), range.end());
            size.filter(|size| range.contains(size)).ok_or_else(|| format!("expected a size from {from} to {to}, such as \"{default}\""))
        };
        let value = self.take(key, Described::with_default(Takes::Size(range.clone())), parse).unwrap_or(default).as_u64();
        self.note(key, json!(value));
        value
    }

    /// Takes a duration.
    pub fn duration(&mut self, key: &str, default: Duration, range: RangeInclusive<Duration>) -> Duration {
        let text = |duration: Duration| humantime::format_duration(duration).to_string();
        let parse = |node: &Node| {
            let duration = match &node.value {
                Value::Text(text) => humantime::parse_duration(text.trim()).ok(),
                _ => None,
            };
            let (from, to) = (text(*range.start()), text(*range.end()));
            let wanted = || format!("expected a duration from {from} to {to} with its unit, such as \"{}\"", text(default));
            duration.filter(|duration| range.contains(duration)).ok_or_else(wanted)
        };
        let value = self.take(key, Described::with_default(Takes::Duration(range.clone())), parse).unwrap_or(default);
        self.note(key, json!(text(value)));
        value
    }

    /// Takes text and makes something of it. The default goes the same way.
    pub fn text<T>(&mut self, key: &str, default: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        self.text_that(key, Takes::Text, default, parse)
    }

    /// Takes one of a few words.
    pub fn choice<T: Copy>(&mut self, key: &str, default: &str, choices: &[(&str, T)]) -> T {
        self.text_that(key, words(choices), default, |text| values::choice(text, choices))
    }

    fn text_that<T>(&mut self, key: &str, takes: Takes, default: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let (canonical, value) = match self.take(key, Described::with_default(takes), |node| both(text_of(node)?, &parse)) {
            Some(given) => given,
            None => both(default, &parse).expect("every default is valid: a test loads them"),
        };
        self.note(key, json!(canonical));
        value
    }

    /// Takes text that has no default.
    pub fn optional_text<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.given_text(key, Described::optional(Takes::Text), parse)
    }

    /// Takes one of a few words; there is no default.
    pub fn optional_choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        self.given_text(key, Described::optional(words(choices)), |text| values::choice(text, choices))
    }

    /// Takes text that must be given.
    pub fn required_text<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.required(key, Takes::Text, parse)
    }

    /// Takes one of a few words, which must be given.
    pub fn required_choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        self.required(key, words(choices), |text| values::choice(text, choices))
    }

    fn required<T>(&mut self, key: &str, takes: Takes, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let described = Described::required(takes);
        if !self.has(key) {
            self.ask(key);
            self.describe(key, described);
            self.fault(key, "missing");
            return None;
        }
        self.given_text(key, described, parse)
    }

    fn given_text<T>(&mut self, key: &str, described: Described, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let given = self.take(key, described, |node| both(text_of(node)?, &parse));
        self.note(key, json!(given.as_ref().map(|(canonical, _)| canonical)));
        given.map(|(_, value)| value)
    }

    /// Takes text that is not to be seen: not in faults, and of the hash only whether there is one.
    pub fn secret(&mut self, key: &str) -> Option<String> {
        self.ask(key);
        self.describe(key, Described::optional(Takes::Secret));
        let node = self.table.remove(key);
        if let Some(node) = &node {
            self.report.origins.insert(self.key(key), node.origin.clone());
        }
        let given = node.map(|node| text_of(&node).map(str::to_owned));
        let text = match given {
            Some(Err(problem)) => {
                self.fault(key, problem);
                None
            }
            Some(Ok(text)) => Some(text).filter(|text| !text.is_empty()),
            None => None,
        };
        self.note(key, json!(text.is_some()));
        text
    }

    /// Takes a list of texts; a single text is a list of one. Every faulty item is named.
    pub fn list<T>(&mut self, key: &str, default: &[&str], parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let given = self.take(key, Described::with_default(Takes::Texts), |node| match &node.value {
            Value::List(items) => items.iter().map(|item| Ok(text_of(item)?.to_owned())).collect::<Result<Vec<_>, String>>(),
            _ => Ok(vec![text_of(node).map_err(|_| "expected a list of texts".to_owned())?.to_owned()]),
        });
        let texts = given.unwrap_or_else(|| default.iter().map(|text| (*text).to_owned()).collect());
        let mut items = Vec::with_capacity(texts.len());
        for text in &texts {
            match parse(text) {
                Ok(item) => items.push(item),
                Err(problem) => self.fault(key, format_args!("{:?}: {problem}", without_login(text))),
            }
        }
        self.note(key, json!(texts));
        items
    }

    /// Takes a list of tables and reads each as a section of its own, named `key[0]`, `key[1]`, …; `None` if it was not given.
    pub fn tables<T>(&mut self, key: &str, read: impl Fn(&mut Section<'_>) -> Option<T>) -> Option<Vec<T>> {
        let header = format!("[[{}]]", self.key(key));
        if self.report.is_description {
            let item = Node { value: Value::Table(Table::new()), origin: Origin::Set, typed: None };
            self.table.insert(key.to_owned(), Node { value: Value::List(vec![item]), origin: Origin::Set, typed: None });
        }
        let items = self.take(key, Described::optional(Takes::Tables), |node| match &node.value {
            Value::List(items) => Ok(items.clone()),
            _ => Err(format!("expected a list of tables, each under a line {header}")),
        })?;
        let mut read_items = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let name = format!("{}[{index}]", self.key(key));
            let Value::Table(table) = item.value else {
                self.report.blame(&name, format!("`{name}` = {item} ({}): expected a table with keys", item.origin));
                continue;
            };
            let mut section = Section { name, table, report: &mut *self.report };
            read_items.extend(read(&mut section));
            section.close();
        }
        Some(read_items)
    }

    /// Returns whether a key has a value that is not its default.
    pub fn is_given(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Returns how many items a list has; `None` if there is no list.
    pub fn count_of(&self, key: &str) -> Option<usize> {
        match self.table.get(key)?.value {
            Value::List(ref items) => Some(items.len()),
            _ => None,
        }
    }

    /// Reads a table as a section of its own; `None` if it was not given.
    pub fn table<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> Option<T> {
        let node = self.take(key, Described::optional(Takes::Table), |node| match &node.value {
            Value::Table(table) => Ok(table.clone()),
            _ => Err("expected a table with keys".to_owned()),
        });
        // Its keys are known also where it is not given, for the hints of others.
        let given = node.is_some();
        let mut section = Section { name: self.key(key), table: node.unwrap_or_default(), report: &mut *self.report };
        let value = read(&mut section);
        section.close();
        given.then_some(value)
    }

    /// Takes a table of texts whose keys are not ours. Tables in it are read as keys with dots. Secrets are not noted.
    pub fn texts(&mut self, key: &str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        let found = self.take(key, Described::optional(Takes::Map), |node| match &node.value {
            Value::Table(table) => flatten("", table, &mut texts),
            _ => Err("expected a table of texts".to_owned()),
        });
        if found.is_none() {
            texts.clear();
        }
        let secret = |name: &str| ["password", "secret", "pem"].iter().any(|word| name.contains(word));
        let shown: BTreeMap<_, _> = texts.iter().map(|(name, text)| (name, if secret(name) { "…" } else { text })).collect();
        self.note(key, json!(shown));
        texts
    }

    fn ask(&mut self, key: &str) {
        let key = self.key(key);
        self.report.known.insert(without_index(&key));
    }

    fn describe(&mut self, key: &str, described: Described) {
        let key = without_index(&self.key(key));
        let described = if self.report.missing.contains(&key) { Described::required(described.takes) } else { described };
        self.report.described.insert(key, described);
    }

    /// Returns the whole name of a key of this section.
    pub fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }
}

fn words<T>(choices: &[(&str, T)]) -> Takes {
    Takes::Choice(choices.iter().map(|(word, _)| (*word).to_owned()).collect())
}

fn flatten(prefix: &str, table: &Table, texts: &mut BTreeMap<String, String>) -> Result<(), String> {
    for (key, node) in table {
        let name = format!("{prefix}{key}");
        let text = match (&node.value, &node.typed) {
            (Value::Table(inner), _) => {
                flatten(&format!("{name}."), inner, texts)?;
                continue;
            }
            (Value::Text(text), _) | (_, Some(text)) => text.clone(),
            (Value::Integer(number), _) => number.to_string(),
            (Value::Float(number), _) => number.to_string(),
            (Value::Boolean(flag), _) => flag.to_string(),
            (Value::List(_), _) => return Err(format!("`{name}` is a list: expected a text")),
        };
        texts.insert(name, text);
    }
    Ok(())
}

/// Returns the text of a node; of one that was typed without quotes, the characters.
fn text_of(node: &Node) -> Result<&str, String> {
    match (&node.value, &node.typed) {
        (Value::Text(text), _) | (_, Some(text)) => Ok(text),
        _ => Err("expected text in quotes".into()),
    }
}

/// Returns the text beside what it means.
fn both<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<(String, T), String> {
    Ok((text.to_owned(), parse(text)?))
}

/// Turns `schema.columns[0].name` into `schema.columns.name`.
fn without_index(key: &str) -> String {
    let mut plain = String::with_capacity(key.len());
    let mut inside = false;
    for c in key.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ if !inside => plain.push(c),
            _ => {}
        }
    }
    plain
}
