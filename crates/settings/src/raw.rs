//! What the user typed: values, each with the place it was typed at.
//!
//! Owns: the layers (file < environment < `--set`) and their syntax.
//! Does not own: which keys exist, what they mean and their defaults (see `pintail_config::sections`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pintail_core::secret::without_login;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Every variable that sets a key begins so, and has [`SEPARATOR`] between section and key.
///
/// Others are left alone: Kubernetes makes `PINTAIL_SERVICE_HOST` and its like for a service named `pintail`.
const PREFIX: &str = "PINTAIL_";
const SEPARATOR: &str = "__";
/// Variables without the prefix, with the keys of `[pipeline]` that they set.
const SHORT: [(&str, &str); 3] = [("BATCH_ROWS", "batch_rows"), ("OUT_PATH", "out_path"), (SECONDS, "checkpoint_interval")];
/// The short name whose value is in seconds.
const SECONDS: &str = "CHECKPOINT_SECONDS";

/// Bytes of a configuration file: thousands of columns have room, and a file that is none costs nothing.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Sections inside each other in a key of the environment or of `--set`. No key has more than two; tables are read and dropped by recursion.
const KEY_LEVELS_MAX: usize = 16;

/// Where a value was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the configuration file, counted from 1.
    File {
        /// The file, as it was named.
        path: Arc<str>,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Environment(Arc<str>),
    /// The command line.
    Set,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "environment variable {}", name.escape_debug()),
            Self::Set => f.write_str("--set"),
        }
    }
}

/// A value and its origin.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it was typed.
    pub origin: Origin,
    /// The characters typed, if they came without quotes (environment, `--set`): a key that wants text takes `12345` as text.
    pub typed: Option<String>,
}

/// What TOML knows; a date and time is kept as its text, an integer beyond 64 bits too.
#[derive(Debug, Clone)]
pub enum Value {
    /// Text, or what stands for it.
    Text(String),
    /// An integer of 64 bits.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// Values in brackets.
    List(Vec<Node>),
    /// Values by key.
    Table(Table),
}

/// Values by key.
pub type Table = BTreeMap<String, Node>;

impl fmt::Display for Node {
    /// Writes the value as messages quote it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Text(text) => {
                let text = without_login(text);
                match text.chars().count() > 60 {
                    true => write!(f, "{:?}…", text.chars().take(60).collect::<String>()),
                    false => write!(f, "{text:?}"),
                }
            }
            Value::Integer(number) => write!(f, "{number}"),
            Value::Float(number) => write!(f, "{number:?}"),
            Value::Boolean(flag) => write!(f, "{flag}"),
            Value::List(_) => f.write_str("[…]"),
            Value::Table(_) => f.write_str("{…}"),
        }
    }
}

/// All layers, laid on each other.
#[derive(Debug, Default)]
pub struct RawConfig {
    /// Sections by name.
    pub root: Table,
    /// Variables that begin with the prefix and set no key. One of them may be a key with an underscore too few.
    pub unclaimed: Vec<String>,
    /// Keys of the file that a variable says otherwise, a clause each: nobody who reads the file sees it.
    pub overruled: Vec<String>,
}

impl RawConfig {
    /// Reads all layers; every fault of their syntax at once.
    pub fn collect(file: Option<&Path>, env: impl Iterator<Item = (String, String)>, sets: &[String]) -> Result<Self, Vec<String>> {
        let mut raw = Self::default();
        let mut faults = Vec::new();
        if let Some(path) = file {
            match read_file(path) {
                Ok(table) => raw.root = table,
                Err(found) => faults.extend(found),
            }
        }
        let file = raw.root.clone();
        raw.lay_environment(env, &mut faults);
        for set in sets {
            match set.split_once('=') {
                Some((key, value)) if !key.trim().is_empty() => {
                    let path: Vec<&str> = key.split('.').map(str::trim).collect();
                    raw.insert_at(&path, value, Origin::Set, &mut faults);
                }
                _ => faults.push(format!("--set {set:?}: expected key=value, such as source.limit=1000000")),
            }
        }
        overruled("", &file, &raw.root, &mut raw.overruled);
        if faults.is_empty() { Ok(raw) } else { Err(faults) }
    }

    fn lay_environment(&mut self, env: impl Iterator<Item = (String, String)>, faults: &mut Vec<String>) {
        // The short names first: a long one says more exactly what is meant and wins.
        let (mut long, mut short) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in env {
            match name.strip_prefix(PREFIX) {
                Some(rest) if rest.contains(SEPARATOR) => drop(long.insert(name, value)),
                Some(_) => self.unclaimed.push(name),
                None => drop(short.insert(name, value)),
            }
        }
        for (name, key) in SHORT {
            let Some(value) = short.remove(name) else { continue };
            match short_value(name, &value) {
                Some(value) => insert(&mut self.root, &["pipeline", key], bare(&value, Origin::Environment(name.into()))),
                None => faults.push(format!("{name} = {value:?}: expected seconds above 0, such as 30 or 0.5")),
            }
        }
        for (name, value) in long {
            let key = name[PREFIX.len()..].to_lowercase();
            let path: Vec<&str> = key.split(SEPARATOR).collect();
            self.insert_at(&path, &value, Origin::Environment(name.as_str().into()), faults);
        }
    }

    fn insert_at(&mut self, path: &[&str], value: &str, origin: Origin, faults: &mut Vec<String>) {
        match path {
            path if path.len() > KEY_LEVELS_MAX => {
                let shown = path[..KEY_LEVELS_MAX].join(".");
                faults.push(format!(
                    "`{}.…` (--set or environment): unknown key, of {} names inside each other",
                    shown.escape_debug(),
                    path.len()
                ));
            }
            path => insert(&mut self.root, path, bare(value, origin)),
        }
    }
}

/// Returns the settings that variables of the environment are, as `--set` takes them, those that win last.
pub fn settings_of(env: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let env: BTreeMap<String, String> = env.collect();
    let short = SHORT.iter().filter_map(|(name, key)| Some(format!("pipeline.{key}={}", short_value(name, env.get(*name)?)?)));
    let key = |name: &str| Some(name.strip_prefix(PREFIX)?).filter(|rest| rest.contains(SEPARATOR)).map(str::to_lowercase);
    let long = env.iter().filter_map(|(name, value)| Some(format!("{}={value}", key(name)?.replace(SEPARATOR, "."))));
    short.chain(long).collect()
}

/// Returns what the variable with a short name sets its key to; `None` if it must be seconds and is not.
fn short_value(name: &str, value: &str) -> Option<String> {
    match name {
        SECONDS => seconds(value).map(|interval| humantime::format_duration(interval).to_string()),
        _ => Some(value.to_owned()),
    }
}

/// Parses seconds with a fraction.
fn seconds(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Reads a value that was typed without a file around it: as TOML, else as a string.
fn bare(text: &str, origin: Origin) -> Node {
    let value = match DeValue::parse(text) {
        Ok(value) => convert(value.into_inner(), &|_| origin.clone()),
        Err(_) => Value::Text(text.into()),
    };
    let typed = (!matches!(value, Value::Text(_))).then(|| text.into());
    Node { value, origin, typed }
}

/// Lays a value over what is there. Tables are joined, everything else is replaced.
fn insert(table: &mut Table, path: &[&str], node: Node) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        return lay(table, (*first).into(), node);
    }
    let origin = node.origin.clone();
    let inner = table.entry((*first).into()).or_insert_with(|| Node { value: Value::Table(Table::new()), origin, typed: None });
    if !matches!(inner.value, Value::Table(_)) {
        *inner = Node { value: Value::Table(Table::new()), origin: node.origin.clone(), typed: None };
    }
    if let Value::Table(inner) = &mut inner.value {
        insert(inner, rest, node);
    }
}

fn lay(table: &mut Table, key: String, node: Node) {
    match (table.get_mut(&key).map(|known| &mut known.value), node.value) {
        (Some(Value::Table(below)), Value::Table(above)) => above.into_iter().for_each(|(key, node)| lay(below, key, node)),
        (_, value) => drop(table.insert(key, Node { value, ..node })),
    }
}

/// Tells which values of the file are others now by a variable of the environment. The command line is before the eyes of whoever typed it.
fn overruled(section: &str, file: &Table, now: &Table, told: &mut Vec<String>) {
    for (key, below) in file {
        let Some(above) = now.get(key) else { continue };
        let key = format!("{section}{key}");
        match (&below.value, &above.value, &above.origin) {
            (Value::Table(below), Value::Table(above), _) => overruled(&format!("{key}."), below, above, told),
            (_, _, Origin::Environment(_)) if below.to_string() != above.to_string() => {
                told.push(format!("`{key}` of {} is overruled by the {}", below.origin, above.origin));
            }
            _ => {}
        }
    }
}

/// Reads a file of text that a person wrote. A longer one is an error: `/dev/zero` and a log by mistake must not fill the memory.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it has more than {bytes_max} bytes")));
    }
    String::from_utf8(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

fn read_file(path: &Path) -> Result<Table, Vec<String>> {
    let name: Arc<str> = path.display().to_string().into();
    let text = read_text(path, FILE_BYTES_MAX).map_err(|e| vec![format!("cannot read `{name}`: {e}")])?;
    if text.trim().is_empty() {
        return Err(vec![format!("`{name}` is empty: was it to be written by a command that failed?")]);
    }
    let line_of = |at: usize| text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    let (document, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        let fault = |e: &toml::de::Error| match e.span() {
            Some(span) => format!("{name}:{}: {}", line_of(span.start), e.message()),
            None => format!("{name}: {}", e.message()),
        };
        return Err(errors.iter().map(fault).collect());
    }
    let origin = |at| Origin::File { path: name.clone(), line: line_of(at) };
    Ok(convert_table(document.into_inner(), &origin))
}

fn convert_table(table: DeTable<'_>, origin: &impl Fn(usize) -> Origin) -> Table {
    let entry = |(key, value): (Spanned<Cow<'_, str>>, Spanned<DeValue<'_>>)| {
        let origin_here = origin(key.span().start);
        let node = Node { value: convert(value.into_inner(), origin), origin: origin_here, typed: None };
        (key.into_inner().into_owned(), node)
    };
    table.into_iter().map(entry).collect()
}

fn convert(value: DeValue<'_>, origin: &impl Fn(usize) -> Origin) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Boolean(flag) => Value::Boolean(flag),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or_else(|_| Value::Text(number.to_string()), Value::Integer)
        }
        DeValue::Float(number) => {
            let parsed = number.as_str().parse();
            parsed.map_or_else(|_| Value::Text(number.as_str().into()), Value::Float)
        }
        DeValue::Array(items) => {
            let item = |item: Spanned<DeValue<'_>>| {
                let origin_here = origin(item.span().start);
                Node { value: convert(item.into_inner(), origin), origin: origin_here, typed: None }
            };
            Value::List(items.into_iter().map(item).collect())
        }
        DeValue::Table(table) => Value::Table(convert_table(table, origin)),
    }
}

#[cfg(test)]
mod tests {
    use super::settings_of;

    fn settings(env: &[(&str, &str)]) -> Vec<String> {
        settings_of(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn variables_are_settings_if_they_are_ours_and_the_long_name_wins() {
        assert_eq!(settings(&[("HOME", "/root"), ("PINTAIL_SERVICE_HOST", "10.0.0.1"), ("pintail_a__b", "1")]), [""; 0]);
        let service = [("PINTAIL_SOURCE__TYPE", "file"), ("CHECKPOINT_SECONDS", "0.5")];
        assert_eq!(settings(&service), ["pipeline.checkpoint_interval=500ms", "source.type=file"]);
        let env = [("PINTAIL_PIPELINE__OUT_PATH", "/lake"), ("OUT_PATH", "/other"), ("PINTAIL_SOURCE__INSTANCE__INDEX", "2")];
        assert_eq!(settings(&env), ["pipeline.out_path=/other", "pipeline.out_path=/lake", "source.instance.index=2"]);
    }
}
