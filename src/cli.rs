//! The command line.
//!
//! Owns: commands, flags and their help.
//! Does not own: what a command does (see `commands`), nor any setting: those are keys of the configuration.

use std::borrow::Cow;
use std::ffi::OsString;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, Utc};
use clap::error::ErrorKind::UnknownArgument;
use clap::error::{ContextKind, ContextValue};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;
use pintail_config as config;
use pintail_core::error::ErrorKind;
use pintail_core::invocation::{self, word};
use pintail_settings::raw::settings_of;

use self::help::{CONFIG_EXAMPLES, EXAMPLES, INIT_EXAMPLES, LOAD_EXAMPLES, PLAN_EXAMPLES, TEMPLATE, TEST_EXAMPLES};

mod help;

/// Columns of the narrowest terminal that help is written for.
pub(crate) const HELP_COLUMNS: usize = 80;

/// What the configuration that `pintail init` writes is called unless it is said.
pub(crate) const CONFIGURATION: &str = "pintail.toml";
/// The subcommand that the service starts itself with, to try records.
pub(crate) const TRIAL: &str = "trial";
/// The subcommand that the service starts itself with for a query of the admin server.
pub(crate) const SQL_BOX: &str = "sql-box";

/// Takes events, transforms them with DuckDB SQL and publishes Hive-partitioned Parquet, in checkpoints that survive a kill.
#[derive(Debug, Parser)]
#[command(name = "pintail", version, after_help = EXAMPLES, help_template = TEMPLATE, max_term_width = HELP_COLUMNS)]
pub(crate) struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum Command {
    /// Run the line until the input ends or a signal comes. The default command.
    Run {
        /// Before it runs, share the partitions of the source out among `source.instance.count` instances; all must be stopped.
        #[arg(long)]
        take_over: bool,
        /// Accept what contradicts the positions in the source, at this start: it is recorded as a gap, whatever `source.on_gap` says.
        #[arg(long, conflicts_with = "take_over")]
        accept: bool,
        /// The process to end with: what a demonstration starts its service with.
        #[arg(long, hide = true, value_name = "PID")]
        child_of: Option<i32>,
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Show in half a minute that a kill loses and doubles nothing: simulated events, two kills, a comparison. Needs nothing, leaves nothing behind.
    Demo {
        /// How many events.
        #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = value_parser!(u64).range(1_000..=50_000_000))]
        events: u64,
        /// What the events and the moments of the kills are drawn from.
        #[arg(long, value_name = "S", default_value_t = 42)]
        seed: u64,
        /// How long the stream takes.
        #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = value_parser!(u64).range(1..=3_600))]
        seconds: u64,
        /// An empty directory, or one to make, where the two datasets stay.
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// Load NDJSON files, or a pipe, into a dataset, and end. Needs no configuration.
    #[command(after_help = LOAD_EXAMPLES)]
    Load {
        /// NDJSON files, also of gzip or zstd, or globs in quotes; `-`, or none behind a pipe, is standard input.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The dataset: made if it is not there.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// What the rows are made of.
        #[command(flatten)]
        wishes: Wishes,
        /// Records to infer the schema from.
        #[arg(long, value_name = "N", default_value_t = SAMPLE)]
        records: NonZero<usize>,
        /// End with exit code 65 if any record became a dead letter; all others are loaded all the same.
        #[arg(long)]
        fail_on_dead_letters: bool,
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Write a configuration that fits a sample, and check it.
    #[command(after_help = INIT_EXAMPLES)]
    Init {
        /// An NDJSON file, also of gzip or zstd, or a glob in quotes; `-` is standard input.
        file: PathBuf,
        /// The configuration to write; `-` prints it.
        #[arg(short, long, value_name = "FILE", default_value = CONFIGURATION)]
        output: PathBuf,
        /// Replace the configuration if it is there.
        #[arg(long)]
        force: bool,
        /// The dataset.
        #[arg(long, value_name = "DIR", default_value = "checkpoints/")]
        to: PathBuf,
        /// What the rows are made of.
        #[command(flatten)]
        wishes: Wishes,
        /// Records to look at.
        #[arg(long, value_name = "N", default_value_t = SAMPLE)]
        records: NonZero<usize>,
    },
    /// Put fixtures through the schema and the SQL, and compare what comes out. Needs a configuration; writes no dataset.
    #[command(after_help = TEST_EXAMPLES)]
    Test {
        /// Fixtures; all unless given.
        names: Vec<String>,
        /// Where they are: `tests` beside the configuration unless given.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Write what comes out as what is expected.
        #[arg(long)]
        update: bool,
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Say what another configuration would change: columns, refusals, and rows of a sample. Changes nothing.
    #[command(after_help = PLAN_EXAMPLES)]
    Plan {
        /// The new configuration. The old one is `--config`, or that of the one service that runs.
        new: PathBuf,
        /// Records to try.
        #[arg(long, value_name = "N", default_value_t = NonZero::new(1_000).expect("1,000 is not zero"))]
        records: NonZero<usize>,
        /// Try the dead letters of the dataset, not its source.
        #[arg(long)]
        dead_letters: bool,
        /// Records shown whose rows differ.
        #[arg(long, value_name = "N", default_value_t = 5)]
        samples: usize,
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Check configuration, SQL and access; print the output schema and an example path. Every fault at once.
    Check {
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Print a schema that fits a sample of an NDJSON file, ready for the configuration.
    Infer {
        /// The NDJSON file, also one of gzip or zstd; `-` is standard input.
        file: PathBuf,
        /// Records to look at.
        #[arg(long, value_name = "N", default_value_t = SAMPLE)]
        records: NonZero<usize>,
        /// Print a whole configuration that runs as it is: the file as the source, all columns, no hive partitions.
        #[arg(long)]
        complete: bool,
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Check that every committed file is there and holds what its record says. Exit code 65 if not.
    Verify {
        /// The dataset; `pipeline.out_path` unless given.
        out: Option<PathBuf>,
        /// Leave out the files of checkpoints before this one.
        #[arg(long, value_name = "N")]
        since: Option<u64>,
        /// Only look whether files are there with their lengths; read none.
        #[arg(long)]
        fast: bool,
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Publish a dataset as a table (Delta, Iceberg) that Spark, Trino, DuckDB and others read: adds what is committed and not in it yet. Safe to repeat.
    Publish {
        /// The dataset; `pipeline.out_path` unless given.
        out: Option<PathBuf>,
        /// Only this `[[table]]`; without any in the configuration, the name of a Delta table. All tables unless given.
        #[arg(long, value_name = "NAME")]
        table: Option<String>,
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Begin or repair a ledger so that it names the Parquet files that are there and that no record names.
    Adopt {
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Make few files of the many small ones of each closed hour, while no service runs. Readers see either; one in the act may find no file, and repeats.
    Compact {
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Declare that files with old rows may be gone, so that `verify` and `query` do without them; and remove them, if asked to.
    #[command(group(ArgGroup::new("declaration").required(true).args(["before", "take_back"])))]
    Expire {
        /// Files whose rows are all older than this time (RFC 3339) or day (UTC). Files without an event time go by the time of their commit.
        #[arg(long, value_name = "TIME", value_parser = expire_time)]
        before: Option<DateTime<Utc>>,
        /// Also if the time is in the future, so that it covers files that are not written yet.
        #[arg(long)]
        force: bool,
        /// Remove the files as well, once the declaration is written. Those of the last checkpoint stay.
        #[arg(long, conflicts_with = "take_back")]
        remove: bool,
        /// Take the last declaration back; the one before it holds again.
        #[arg(long, conflicts_with = "force")]
        take_back: bool,
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Run read-only DuckDB SQL over the committed files, as the table `events`.
    Query {
        /// The SQL.
        sql: String,
        /// Looks of the result.
        #[arg(long, value_enum, default_value_t = QueryFormat::Table)]
        format: QueryFormat,
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Show the rejected records by reason, with samples.
    DeadLetters {
        /// Samples shown of each reason.
        #[arg(long, value_name = "N", default_value_t = 3)]
        samples: usize,
        /// Send the rejected records through the line again, each of them once.
        #[arg(long)]
        replay: bool,
        /// Let pass, as dead letters, what the line holds back because too much was rejected. Works on a running service and a stopped one.
        #[arg(long, conflicts_with = "replay")]
        accept: bool,
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Give up what cannot be trusted, where no start is possible, and print what is lost. Changes nothing if all is sound.
    Repair {
        /// What to repair.
        #[command(flatten)]
        what: Repairs,
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Run batches that come on standard input: what the service starts for records that may end a process.
    #[command(name = TRIAL, hide = true)]
    Trial {
        /// The hash of the configuration that must be found.
        sha256: String,
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Tell by the exit code whether a service runs on the dataset: for containers.
    Health {
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Explain a key of the configuration, or print the JSON Schema of all, for editors.
    #[command(group(ArgGroup::new("what").required(true).args(["explain", "schema"])), after_help = CONFIG_EXAMPLES)]
    Config {
        /// Say what a key takes, its default, what it is set to here, and what it is for; of a section, list the keys.
        #[arg(long, value_name = "KEY")]
        explain: Option<String>,
        /// Print the JSON Schema of a configuration file.
        #[arg(long)]
        schema: bool,
        /// Options behind the command's name.
        #[command(flatten)]
        options: Options,
    },
    /// Print the completions of a shell, for packages.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the man page, for packages.
    Man {
        /// A command that has a page of its own; the program unless given.
        command: Option<String>,
    },
    /// Answer the question on standard input, for the SQL box of a service.
    #[command(name = SQL_BOX, hide = true)]
    SqlBox,
}

/// Records of a sample.
const SAMPLE: NonZero<usize> = NonZero::new(10_000).expect("10,000 is not zero");

/// What the rows of a dataset are made of, where the sample alone does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Wishes {
    /// Columns whose values become directories; '' for none.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub partition_by: Option<Vec<String>>,
    /// The column whose time gives a file its hour; '' for none.
    #[arg(long, value_name = "COLUMN")]
    pub event_time: Option<String>,
    /// One SELECT over the table `events`; all columns as they are unless given.
    #[arg(long, value_name = "SQL")]
    pub sql: Option<String>,
}

/// What `repair` puts right, one at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Repairs {
    /// The journal of events over HTTP: gives up what is damaged, and names it.
    #[arg(long)]
    pub journal: bool,
    /// A lost key: a new one is made, and all positions are accepted as they are, once.
    #[arg(long)]
    pub key: bool,
    /// A lost or torn snapshot: it is made again from the records.
    #[arg(long)]
    pub snapshot: bool,
}

/// Looks of a query's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueryFormat {
    /// Columns side by side, for people.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    Json,
}

/// What every command takes, before its name or behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Options {
    /// Configuration file. Without it, none is read: every key has a default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key, as `source.limit=1000000`; may be repeated. The value is read as TOML, else as text.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Looks of the log: short for `--set log.format=…`.
    #[arg(long, value_name = "FORMAT", value_parser = ["auto", "text", "json"])]
    log_format: Option<String>,
    /// Logs each batch: short for `--set log.level=debug`.
    #[arg(short, long)]
    verbose: bool,
}

/// Returns whether a dataset is given by a URL, and not by its directory.
pub(crate) fn is_url(out: &Path) -> bool {
    out.to_str().is_some_and(|out| out.contains("://"))
}

impl Cli {
    /// Reads the arguments, the program's name first.
    ///
    /// # Errors
    /// Also `--help` and `--version` end here: print the error (it knows where) and leave with [`exit_code`].
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(arguments).map_err(|mut error| {
            // Other tools take it as an argument.
            if let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg).filter(|_| error.kind() == UnknownArgument)
                && argument.ends_with(".toml")
            {
                let tip = format!("a configuration is named by `--config {}`", word(argument));
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
            }
            error
        })
    }

    /// Returns the command.
    pub(crate) fn command(&self) -> Command {
        self.command.clone().unwrap_or_else(|| Command::Run {
            take_over: false,
            accept: false,
            child_of: None,
            options: Options::default(),
        })
    }

    /// Returns the arguments of a `load` that loads the same; none of any other command.
    fn load_again(&self) -> Vec<Cow<'_, str>> {
        let Some(Command::Load { files, to, wishes, .. }) = &self.command else { return Vec::new() };
        let mut arguments = vec![Cow::from("load")];
        arguments.extend(files.iter().map(|file| file.to_string_lossy()));
        arguments.extend([Cow::from("--to"), to.to_string_lossy()]);
        let columns = wishes.partition_by.as_ref().map(|columns| columns.join(","));
        let wished = [("--partition-by", columns.map(Cow::from)), ("--event-time", wishes.event_time.as_deref().map(Cow::from))];
        let wished = wished.into_iter().chain([("--sql", wishes.sql.as_deref().map(Cow::from))]);
        arguments.extend(wished.filter_map(|(flag, value)| Some([Cow::from(flag), value?])).flatten());
        arguments.extend(self.sets().into_iter().flat_map(|set| [Cow::from("--set"), invocation::shown(&set).into_owned().into()]));
        arguments
    }

    /// Returns the configuration file; the one behind the command's name if there are two.
    pub(crate) fn config(&self) -> Option<&Path> {
        self.options().rev().find_map(|options| options.config.as_deref())
    }

    /// Returns the settings in the order in which they are laid over each other: short flags, then `--set` as typed.
    pub(crate) fn sets(&self) -> Vec<String> {
        let verbose = self.options().any(|options| options.verbose).then(|| "log.level=debug".to_owned());
        let format = self.options().filter_map(|options| options.log_format.as_ref()).map(|format| format!("log.format={format}"));
        let sets = self.options().flat_map(|options| options.sets.iter().cloned());
        // What is set for the storage of a bucket is needed to reach it.
        let bucket = match &self.command {
            Some(Command::Verify { out: Some(out), .. }) if is_url(out) => Some(format!("pipeline.out_path={}", out.display())),
            _ => None,
        };
        verbose.into_iter().chain(format).chain(sets).chain(bucket).collect()
    }

    /// Returns the options of a command for the same dataset.
    pub(crate) fn options_of_this_process(&self) -> invocation::Options {
        let mut sets: Vec<String> = self.options().flat_map(|options| options.sets.iter().cloned()).collect();
        match &self.command {
            Some(Command::Verify { out: Some(out), .. } | Command::Publish { out: Some(out), .. }) => {
                sets.push(format!("pipeline.out_path={}", out.display()))
            }
            // What it loads with is its own; of the dataset it is enough to know where it is.
            Some(Command::Load { to, .. }) => {
                let options = invocation::Options::new(None, &[], &[format!("pipeline.out_path={}", to.display())]);
                return options.started_with(self.load_again());
            }
            Some(Command::Init { output, .. }) => return invocation::Options::new(Some(output), &[], &[]),
            _ => {}
        }
        invocation::Options::new(self.config(), &settings_of(config::environment()), &sets)
    }

    /// Returns the options before the command and those behind it. (An argument that clap calls global would lose the former when
    /// both are given.)
    fn options(&self) -> impl DoubleEndedIterator<Item = &Options> {
        let behind = self.command.as_ref().and_then(|command| match command {
            Command::Run { options, .. }
            | Command::Load { options, .. }
            | Command::Test { options, .. }
            | Command::Plan { options, .. }
            | Command::Check { options }
            | Command::Config { options, .. }
            | Command::Infer { options, .. }
            | Command::Verify { options, .. }
            | Command::Publish { options, .. }
            | Command::Adopt { options }
            | Command::Compact { options, .. }
            | Command::Expire { options, .. }
            | Command::Query { options, .. }
            | Command::DeadLetters { options, .. }
            | Command::Repair { options, .. }
            | Command::Trial { options, .. }
            | Command::Health { options } => Some(options),
            Command::Demo { .. } | Command::Init { .. } | Command::Completions { .. } | Command::Man { .. } | Command::SqlBox => None,
        });
        std::iter::once(&self.options).chain(behind)
    }
}

/// Reads a time, or a day.
fn expire_time(text: &str) -> Result<DateTime<Utc>, String> {
    let day = || text.parse::<NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0)).map(|midnight| midnight.and_utc());
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).ok();
    time.or_else(day).ok_or_else(|| "write a time as 2026-01-31T00:00:00Z, or a day as 2026-01-31".to_owned())
}

/// Returns the exit code for arguments that were not read: 0 after help, else that of a wrong configuration.
pub(crate) fn exit_code(error: &clap::Error) -> u8 {
    if error.use_stderr() { ErrorKind::Config.exit_code() } else { 0 }
}

#[cfg(test)]
mod tests;
