//! Report: what reading a configuration found out.
//!
//! Owns: the faults in their order, the settings that hold and their hash, the known keys, and the judgement of those that nobody asked for.
//! Does not own: reading (see [`crate::reader`]), the keys themselves (see `pintail_config::sections`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use pintail_core::digest::sha256_hex;
use pintail_core::suggest;
use serde_json::Value as Json;

use crate::described::Described;
use crate::raw::{Origin, Table};

/// What reading found out.
#[derive(Debug, Default)]
pub struct Report {
    /// Faults, in the order of reading.
    pub faults: Vec<String>,
    /// The settings that hold, by key, in a canonical form: the same intent gives the same text.
    pub effective: BTreeMap<String, Json>,
    /// All keys that were asked for; those of list items without their index.
    pub known: BTreeSet<String>,
    /// What each of them takes, but for those that are of no use here.
    pub described: BTreeMap<String, Described>,
    /// Where each value was typed that was given.
    pub origins: BTreeMap<String, Origin>,
    /// Sections with a fault: what rests on one of them cannot be judged.
    pub faulty: BTreeSet<String>,
    pub(crate) unknown: Vec<(String, Origin)>,
    /// Keys that are missing, each a fault.
    pub(crate) missing: BTreeSet<String>,
    /// Whether lists of tables are asked for the keys of an item that is not there.
    pub(crate) is_description: bool,
}

impl Report {
    /// A report that is to describe all keys; what it says of faults is of no use.
    pub fn for_description() -> Self {
        Self { is_description: true, ..Self::default() }
    }

    /// Keeps a fault of a key, as it is told.
    pub(crate) fn blame(&mut self, key: &str, fault: String) {
        self.faulty.insert(key.split(['.', '[']).next().unwrap_or(key).to_owned());
        self.faults.push(fault);
    }

    /// Keeps a fault of a key that has no value to quote.
    pub fn fault(&mut self, key: &str, problem: impl Display) {
        self.blame(key, format!("`{key}`: {problem}"));
    }

    /// Returns the hash of the effective settings.
    pub fn sha256(&self) -> String {
        // The map is ordered and the values are canonical, so this JSON is too.
        let json = serde_json::to_vec(&self.effective).expect("JSON values with text keys can be written");
        sha256_hex(&json)
    }

    /// Judges the keys that nobody asked for, once all known ones are known: `rest` of the root, and variables that set nothing.
    pub fn judge_unknown(&mut self, rest: Table, unclaimed: &[String]) {
        self.unknown.extend(rest.into_iter().map(|(name, node)| (name, node.origin)));
        for (key, origin) in std::mem::take(&mut self.unknown) {
            let near = self.nearest(&key).map(str::to_owned);
            // What rests on the section that was meant cannot be judged either.
            self.faulty.extend(near.as_ref().and_then(|near| near.split('.').next()).map(str::to_owned));
            let near = near.and_then(|known| suggest::question(&[&known])).map(|question| format!(", {question}"));
            // The only keys that are not ours, and so may have any character in them: a fault stays on its line.
            self.blame(&key, format!("`{}` ({origin}): unknown key{}", key.escape_debug(), near.unwrap_or_default()));
        }
        for name in unclaimed {
            let meant = name.to_lowercase();
            if let Some(known) = self.known.iter().find(|known| meant == format!("pintail_{}", known.replace('.', "_"))) {
                let right = known.replace('.', "__").to_uppercase();
                self.faults.push(format!("environment variable {name} sets nothing, did you mean PINTAIL_{right}?"));
            }
        }
    }

    /// Returns the known key that `key` was probably meant to be: the same name in another section, else a similar one.
    fn nearest(&self, key: &str) -> Option<&str> {
        let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
        let sections = self.known.iter().filter_map(|known| known.split_once('.')).map(|(section, _)| section);
        let candidates = || self.known.iter().map(String::as_str).chain(sections.clone());
        let moved = candidates().find(|known| last(known) == last(key));
        moved.or_else(|| suggest::nearest(key, candidates()).first().copied())
    }
}
