//! What there is to know of each key: for people, and as JSON Schema for editors.
//!
//! Owns: putting together what the reader asks for (type, bounds, whether there is a default) and what `config.example.toml` says (the words, the
//! default), which tests hold to each other.
//! Does not own: either of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use itertools::Itertools;
use pintail_core::error::{Error, Result};
use pintail_core::limits::Limits;
use pintail_core::suggest;
use pintail_settings::described::{Described, Takes};
use pintail_settings::raw::RawConfig;
use pintail_settings::report::Report;
use pintail_sources::kind::Kind;
use serde_json::{Map, Value as Json, json};

use self::words::{Said, Words};

pub(crate) mod words;

/// Places of datasets that have keys of their own.
const PLACES: [&str; 3] = ["checkpoints/", "az://account/container", "s3://lake"];
/// The section whose keys depend on one of them.
const SOURCE: &str = "source";

/// What there is to know of all keys.
#[derive(Debug)]
pub struct Reference {
    keys: BTreeMap<String, Key>,
    /// The kinds of source, the default first, each with its keys of `[source]`.
    kinds: Vec<(&'static str, BTreeMap<String, Described>)>,
}

#[derive(Debug)]
struct Key {
    described: Described,
    said: Said,
    /// The kinds of source that have it; empty where it has nothing to do with the kind.
    kinds: Vec<&'static str>,
}

impl Reference {
    /// Puts together what there is to know, where `source.type` may be any of `kinds`.
    pub fn new(kinds: &[Kind]) -> Self {
        let words = Words::of_example();
        let mut keys: BTreeMap<String, Key> = BTreeMap::new();
        let mut described_kinds = Vec::new();
        for kind in kinds {
            let mut described = described(kinds, kind.name);
            for (name, described) in &described {
                let of_kind = name.split('.').nth(1).filter(|key| name.starts_with(SOURCE) && kind.keys.contains(key)).map(|_| kind.name);
                let key = keys.entry(name.clone()).or_insert_with(|| Key {
                    described: described.clone(),
                    said: words.of(name),
                    kinds: Vec::new(),
                });
                key.kinds.extend(of_kind);
            }
            described.retain(|name, _| name.starts_with("source."));
            described_kinds.push((kind.name, described));
        }
        Self { keys, kinds: described_kinds }
    }

    /// Returns all keys, each with what it takes, its default as it is written in TOML, the kinds of source that have it (none where it has nothing to
    /// do with the kind) and the words for it.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &Takes, Option<&str>, &[&'static str], &str)> {
        self.keys.iter().map(|(name, key)| (name.as_str(), &key.described.takes, key.default(), &*key.kinds, key.said.words.as_str()))
    }

    /// Explains a key, or lists the keys of a section. `set` says what a key is set to, and where, if it is.
    ///
    /// # Errors
    /// `Config` if there is no such key.
    pub fn explain(&self, name: &str, set: impl Fn(&str) -> Option<String>) -> Result<String> {
        let name = name.trim();
        if let Some(key) = self.keys.get(name) {
            return Ok(key.explained(name, self.below(name), set(name)));
        }
        let keys = self.below(name);
        if !keys.is_empty() {
            return Ok(self.listed(name, &keys));
        }
        let sections = self.keys.keys().filter_map(|name| name.split_once('.')).map(|(section, _)| section).dedup();
        let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
        let same: Vec<&str> = self.keys.keys().map(String::as_str).filter(|known| last(known) == last(name)).collect();
        let near =
            if same.is_empty() { suggest::nearest(name, self.keys.keys().map(String::as_str).chain(sections.clone())) } else { same };
        let meant = suggest::question(&near).unwrap_or_else(|| format!("the sections are {}", sections.clone().join(", ")));
        Err(Error::config(format!("`{}` is no key: {meant}", name.escape_debug())))
    }

    /// Returns the keys of a section, or of the tables of a key.
    fn below(&self, name: &str) -> Vec<&str> {
        let prefix = format!("{name}.");
        self.keys.keys().map(String::as_str).filter(|known| known.starts_with(&prefix)).collect()
    }

    fn listed(&self, name: &str, keys: &[&str]) -> String {
        let width = keys.iter().map(|key| key.len()).max().unwrap_or(0);
        let mut text = format!("[{name}]\n");
        for key in keys {
            let shown = &self.keys[*key];
            let value = shown.default().map_or_else(String::new, |default| format!(" = {}", brief(default)));
            let kinds = if shown.kinds.is_empty() { String::new() } else { format!("  ({})", shown.kinds.join(", ")) };
            writeln!(text, "  {key:width$}{value}{kinds}").expect("a String takes what is written to it");
        }
        text
    }

    /// Returns the JSON Schema of a configuration file, draft 2020-12.
    pub fn schema(&self) -> Json {
        let mut sections = Map::new();
        for section in self.keys.keys().filter_map(|name| name.split_once('.')).map(|(section, _)| section).dedup() {
            let schema = match section {
                SOURCE => {
                    json!({ "oneOf": self.kinds.iter().map(|(kind, described)| self.schema_of_kind(kind, described)).collect::<Vec<_>>() })
                }
                _ => {
                    let of_section = self.schema_of(section, self.keys.iter().map(|(name, key)| (name.as_str(), &key.described)));
                    match self.keys.get(section) {
                        Some(list) => json!({ "type": "array", "items": of_section, "description": list.said.words }),
                        None => of_section,
                    }
                }
            };
            sections.insert(section.to_owned(), schema);
        }
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": concat!("Configuration of Pintail ", env!("CARGO_PKG_VERSION")),
            "type": "object",
            "properties": sections,
            "additionalProperties": false,
        })
    }

    fn schema_of_kind(&self, kind: &str, described: &BTreeMap<String, Described>) -> Json {
        let mut schema = self.schema_of(SOURCE, described.iter().map(|(name, described)| (name.as_str(), described)));
        schema["title"] = json!(kind);
        schema["properties"]["type"] = json!({ "const": kind, "description": self.keys["source.type"].said.words });
        // The default kind is meant where none is named.
        let is_default = self.kinds.first().is_some_and(|(first, _)| *first == kind);
        if let Some(required) = schema["required"].as_array_mut() {
            required.retain(|key| !is_default || key != "type");
        }
        schema
    }

    /// Returns the schema of the table `name`, of all keys that there are.
    fn schema_of<'a>(&self, name: &str, all: impl Iterator<Item = (&'a str, &'a Described)> + Clone) -> Json {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        let prefix = format!("{name}.");
        for (whole, described) in all.clone() {
            let Some(key) = whole.strip_prefix(&prefix).filter(|key| !key.contains('.')) else { continue };
            let mut schema = described.takes.schema();
            match described.takes {
                Takes::Tables => schema["items"] = self.schema_of(whole, all.clone()),
                Takes::Table => schema = self.schema_of(whole, all.clone()),
                _ => {}
            }
            let Key { said, .. } = &self.keys[whole];
            if !said.words.is_empty() {
                schema["description"] = json!(said.words);
            }
            if let Some(default) = self.keys[whole].default().and_then(words::json) {
                schema["default"] = default;
            }
            if described.is_required {
                required.push(json!(key));
            }
            properties.insert(key.to_owned(), schema);
        }
        let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        if !required.is_empty() {
            schema["required"] = Json::Array(required);
        }
        schema
    }
}

impl Key {
    /// Returns the default as it is written in TOML.
    fn default(&self) -> Option<&str> {
        self.said.value.as_deref().filter(|_| self.described.has_default)
    }

    fn explained(&self, name: &str, below: Vec<&str>, set: Option<String>) -> String {
        let mut lines = vec![name.to_owned(), format!("  takes    {}", self.described.takes)];
        lines.push(match (self.default(), self.described.is_required) {
            (Some(default), _) => format!("  default  {}", brief(default)),
            (None, true) => "  default  none: it must be given".to_owned(),
            (None, false) => "  default  none".to_owned(),
        });
        if let (Some(example), false) = (&self.said.value, self.described.has_default) {
            lines.push(format!("  such as  {}", brief(example)));
        }
        if !self.kinds.is_empty() {
            lines.push(format!("  only     with source.type = {}", self.kinds.iter().map(|kind| format!("\"{kind}\"")).join(", ")));
        }
        let environment = name.replace('.', "__").to_uppercase();
        if below.is_empty() {
            lines.push(format!("  given    --set {name}=…, or PINTAIL_{environment} in the environment"));
        } else {
            lines.push(format!("  keys     {}", below.join(", ")));
        }
        lines.extend(set.map(|set| format!("  here     {set}")));
        if !self.said.words.is_empty() {
            lines.push(format!("\n{}", self.said.words));
        }
        lines.join("\n") + "\n"
    }
}

/// Returns a value that fits on a line.
fn brief(value: &str) -> String {
    const CHARS_MAX: usize = 60;
    if value.chars().count() <= CHARS_MAX { value.to_owned() } else { value.chars().take(CHARS_MAX).collect::<String>() + "…" }
}

/// Returns what the reader asks for with a kind of source.
fn described(kinds: &[Kind], kind: &str) -> BTreeMap<String, Described> {
    let mut all = BTreeMap::new();
    for place in PLACES {
        let sets = [format!("source.type={kind}"), format!("pipeline.out_path={place}")];
        let raw = RawConfig::collect(None, std::iter::empty(), &sets).expect("the name of a kind and a place can be set");
        let mut report = Report::for_description();
        super::read(raw, kinds, Limits::of_this_process(), &mut report);
        all.extend(report.described);
    }
    all
}

#[cfg(test)]
mod tests;
