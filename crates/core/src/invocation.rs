//! How this process was called, so that a message can name a command for the same dataset: `pintail verify --config pintail.toml`.
//!
//! Owns: the options that such a command needs, and their quoting for a shell.
//! Does not own: the arguments themselves (see `pintail::cli`), the messages.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::path::Path;
use std::sync::OnceLock;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::secret::{is_secret, without_login};

/// Set once, before anything else is done: like the arguments, it does not change while the process lives.
static OPTIONS: OnceLock<Options> = OnceLock::new();

/// What a process was told of its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The options that make a command one for the same dataset, each as a shell reads it, with a blank before it.
    words: String,
    /// Whether a configuration file or a variable of the environment says anything at all.
    is_configured: bool,
    /// Whether anything may say what the source is.
    has_source: bool,
    /// The arguments of this process, where it is another command than `run` that reads the source.
    again: Option<String>,
}

impl Options {
    /// Returns those of a process with the configuration file `config`, the settings `env` that its environment makes, and `sets`, the last of which wins.
    /// Secrets are left out: `--set source.password=…`; those of the environment altogether. The rest of the environment of a service the shell of
    /// whoever types the command may have not.
    pub fn new(config: Option<&Path>, env: &[String], sets: &[String]) -> Self {
        let mut words = String::new();
        if let Some(config) = config {
            add(&mut words, "--config", &config.to_string_lossy());
        }
        let open = env.iter().filter(|set| shown(set) == **set);
        open.for_each(|set| add(&mut words, "--set", set));
        sets.iter().for_each(|set| add(&mut words, "--set", &shown(set)));
        let is_configured = config.is_some() || !env.is_empty();
        let names_source = |set: &String| ["source=", "source.type="].iter().any(|key| set.starts_with(key));
        Self { words, is_configured, has_source: config.is_some() || env.iter().chain(sets).any(names_source), again: None }
    }

    /// The same for a process that was started with `arguments`, which are all that it takes to read the same source again.
    pub fn started_with<'a>(self, arguments: impl IntoIterator<Item = Cow<'a, str>>) -> Self {
        let words: Vec<String> = arguments.into_iter().map(|argument| word(&argument).into_owned()).collect();
        Self { again: Some(words.join(" ")), ..self }
    }

    /// Returns those of this process.
    pub fn of_this_process() -> Self {
        OPTIONS.get().cloned().unwrap_or_default()
    }

    /// Returns whether the key `key` has its default because nothing at all was configured.
    fn leave_default(&self, key: &str) -> bool {
        !self.is_configured && ![" ", " '"].iter().any(|before| self.words.contains(&format!("{before}{key}=")))
    }

    /// Makes them those of this process. What was set first stays.
    pub fn set(self) {
        OPTIONS.get_or_init(|| self);
    }
}

/// Returns the command `pintail WORDS` with the options of this process, in backticks.
pub fn command(words: impl fmt::Display) -> String {
    let options = OPTIONS.get().map_or("", |options| &options.words);
    format!("`pintail {words}{options}`")
}

/// Returns the command `pintail WORDS` as [`command`] does, for one that must know the whole configuration of the service, not the dataset alone.
pub fn service_command(words: impl fmt::Display) -> String {
    let lacks_source = OPTIONS.get().is_some_and(|options| !options.has_source);
    format!("{}{}", command(words), if lacks_source { " (with the `--config` of the service, if it has one)" } else { "" })
}

/// Returns the command `pintail WORDS` with a setting that holds whatever this process was told.
pub fn command_with(words: impl fmt::Display, setting: &str) -> String {
    let options = OPTIONS.get().map_or("", |options| &options.words);
    format!("`pintail {words}{options} --set {setting}`")
}

/// Returns the command that reads the source again as this process does, with a setting that holds whatever it was told.
pub fn again_with(setting: &str) -> String {
    match OPTIONS.get().and_then(|options| options.again.as_deref()) {
        Some(arguments) => format!("`pintail {arguments} --set {setting}`"),
        None => command_with("run", setting),
    }
}

/// Asks whether `--config` was forgotten, where the default of `key` is used because nothing was configured; else says nothing.
pub fn forgotten(key: &str) -> String {
    match OPTIONS.get() {
        Some(options) if options.leave_default(key) => format!(" (`{key}` has its default: was `--config` forgotten?)"),
        _ => String::new(),
    }
}

/// Returns the command that declares files expired whose newest row is of the time `newest`.
pub fn expire_up_to(newest: DateTime<Utc>) -> String {
    // It takes whole seconds, and what is older than that.
    let before = newest + TimeDelta::seconds(1);
    let force = if before > Utc::now() { " --force" } else { "" };
    command(format_args!("expire --before {}{force}", before.to_rfc3339_opts(SecondsFormat::Secs, true)))
}

/// Leaves the value of a secret out of `key=value`.
pub fn shown(set: &str) -> Cow<'_, str> {
    match set.split_once('=') {
        Some((key, value)) if is_secret(key, value) => format!("{key}=…").into(),
        Some((key, value)) => format!("{key}={}", without_login(value)).into(),
        None => set.into(),
    }
}

fn add(options: &mut String, name: &str, value: &str) {
    write!(options, " {name} {}", word(value)).expect("a String takes what is written to it");
}

/// Writes a text as one word of a shell, quoted only where it must be.
pub fn word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,@%+…".contains(c);
    match text {
        // A message is one line, and so is what is copied from it.
        _ if text.contains(char::is_control) => format!("\"$(printf %b {})\"", quoted(&escaped(text))).into(),
        _ if text.is_empty() || !text.chars().all(is_plain) => quoted(text).into(),
        _ => text.into(),
    }
}

/// Quotes a text for a shell.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Writes control characters, and backslashes, as `printf %b` reads them.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        let written = match c {
            '\\' => write!(escaped, r"\\"),
            '\n' => write!(escaped, r"\n"),
            c if c.is_ascii_control() => write!(escaped, r"\0{:03o}", u32::from(c)),
            c => write!(escaped, "{c}"),
        };
        written.expect("a String takes what is written to it");
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(config: Option<&str>, env: &[&str], sets: &[&str]) -> String {
        let owned = |sets: &[&str]| sets.iter().map(|set| (*set).to_owned()).collect::<Vec<_>>();
        Options::new(config.map(Path::new), &owned(env), &owned(sets)).words
    }

    #[test]
    fn a_command_has_the_file_the_settings_and_the_dataset_of_the_environment() {
        assert_eq!(options(None, &[], &[]), "");
        assert_eq!(options(Some("a.toml"), &[], &["source.limit=5"]), " --config a.toml --set source.limit=5");
        let service = ["pipeline.checkpoint_interval=500ms", "source.token=hush", "source.type=file"];
        assert_eq!(options(None, &service, &[]), " --set pipeline.checkpoint_interval=500ms --set source.type=file");
        // The last one wins on the command line.
        let expected = " --set pipeline.out_path=/lake --set pipeline.out_path=/mine";
        assert_eq!(options(None, &["pipeline.out_path=/lake"], &["pipeline.out_path=/mine"]), expected);
    }

    #[test]
    fn a_shell_reads_each_option_as_it_was_typed() {
        let sets = [r#"sink.partition_by=["a", "b"]"#, "transform.sql=SELECT 'x' AS y FROM events", "a=", "b=%s\t'\\d\\n'\n--"];
        let told = options(Some("my file.toml"), &[], &sets);
        assert!(!told.contains(char::is_control), "{told}");
        let words = std::process::Command::new("sh").args(["-c", &format!(r"printf '%s\n'{told}")]).output().unwrap();
        let read = String::from_utf8(words.stdout).unwrap();
        let expected = sets.iter().fold("--config\nmy file.toml\n".to_owned(), |all, set| all + "--set\n" + set + "\n");
        assert_eq!(read, expected);
    }

    #[test]
    fn no_secret_is_in_a_message() {
        let sets = [
            "source.password=hush",
            "source.token = hush",
            r#"source.properties."sasl.password"=hush"#,
            r#"source.properties={ssl="hush"}"#,
            r#"source={ type="nats", password="hush" }"#,
            r#"source.servers=["nats://me:hush@a:4222", "nats://me:hush@host:4222"]"#,
            "source.token_file=/run/token",
            "transform.sql=SELECT token FROM events",
        ];
        let told = options(None, &[], &sets);
        assert!(!told.contains("hush"), "{told}");
        for kept in ["source.password=…", "…@host:4222", "/run/token", "SELECT token FROM events"] {
            assert!(told.contains(kept), "{told}");
        }
    }
}
