//! What `config.example.toml` says of each key: the words above it, and the value behind it.

use std::collections::BTreeMap;

use serde_json::Value as Json;

const EXAMPLE: &str = include_str!("../../../../config.example.toml");

/// What is said of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The words, one paragraph.
    pub words: String,
    /// The value as it is written: the default, or an example where there is none.
    pub value: Option<String>,
}

/// What is said of all keys.
#[derive(Debug)]
pub(crate) struct Words {
    keys: BTreeMap<String, Said>,
}

impl Words {
    /// Reads the example: a comment above a key is about it, and about those that follow without one of their own. An empty line, or an empty comment,
    /// ends what a comment is about.
    pub(crate) fn of_example() -> Self {
        let mut keys: BTreeMap<String, Said> = BTreeMap::new();
        let (mut section, mut comment, mut words) = (String::new(), Vec::new(), String::new());
        for line in EXAMPLE.lines() {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            let mut say = |name: String, value: Option<&str>| {
                if !comment.is_empty() {
                    words = std::mem::take(&mut comment).join(" ");
                }
                keys.entry(name).or_insert_with(|| Said { words: words.clone(), value: value.map(str::to_owned) });
            };
            if let Some(list) = bare.strip_prefix("[[").and_then(|bare| bare.strip_suffix("]]")) {
                list.clone_into(&mut section);
                say(section.clone(), None);
            } else if let Some(table) = bare.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')) {
                table.clone_into(&mut section);
                comment.clear();
                words.clear();
            } else if let Some((key, value)) = key_of(bare) {
                say(format!("{section}.{key}"), Some(value));
            } else if line.starts_with("# ") {
                comment.push(bare);
            } else {
                comment.clear();
            }
        }
        Self { keys }
    }

    /// Returns the keys of which something is said.
    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// Returns what is said of a key, or of the one whose table it is in.
    pub(super) fn of(&self, name: &str) -> Said {
        let of_table = || {
            let (table, key) = name.rsplit_once('.')?;
            let said = self.keys.get(table)?;
            let value = said.value.as_deref().and_then(json).and_then(|table| table.get(key).map(Json::to_string));
            Some(Said { words: said.words.clone(), value })
        };
        self.keys.get(name).cloned().or_else(of_table).unwrap_or_default()
    }
}

/// Reads a line as a key with its value.
fn key_of(bare: &str) -> Option<(&str, &str)> {
    bare.split_once(" = ").filter(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

/// Returns a value of TOML as JSON; `None` if it has another form there.
pub(super) fn json(value: &str) -> Option<Json> {
    toml::from_str::<toml::Table>(&format!("value = {value}")).ok().and_then(|mut table| serde_json::to_value(table.remove("value")?).ok())
}
