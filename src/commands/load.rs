//! `pintail load FILE… --to DIR`: files, or a pipe, into a dataset, in one line and without a configuration.
//!
//! Owns: the order (look at a sample, draft the settings, run the line to the end of the input) and what is said at the end.
//! Does not own: the settings (see `draft`), the line (see `pipeline`), which is that of `run`: what is loaded is committed, once, whatever ends the process;
//! telling a pipe that comes again (see `pintail_sources::repeated`).

use std::io::{self, IsTerminal, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use itertools::Itertools;
use pintail_config::Config;
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::escape::{self, Form, Writer};
use pintail_core::invocation::{command, quoted, word};
use pintail_core::quantity::{counted, thousands};
use pintail_decode::infer::Inferred;
use pintail_sources::file;
use pintail_sources::repeated::Repeated;
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::durable::disk_state::DiskState;
use pintail_storage::durable::posix::{self, Posix};

use self::progress::Progress;
use super::advise;
use super::draft::{self, Draft, Input};
use super::infer;
use super::run::check_writable;
use crate::cli::Wishes;
use crate::logging::{self, Log};
use crate::meters::Meters;
use crate::meters::ledger::Sums;
use crate::pipeline::{self, Line, Outside, Start, refuse_bucket};
use crate::signals::{self, Early};
use crate::stages::blocking;
use crate::terminal::{Folded, Screen};

mod progress;

/// New columns that are named.
const COLUMNS_NAMED_MAX: usize = 8;
/// Files that may be loaded at once.
const FILES_MAX: usize = 1_000_000;
/// What its flags are called in a configuration, which it has none of.
const FLAGS: [(&str, &str); 4] = [
    ("pipeline.out_path", "--to"),
    ("transform.sql", "--sql"),
    ("sink.partition_by", "--partition-by"),
    ("sink.event_time", "--event-time"),
];
/// Time for a slow terminal to take the last line.
const SCREEN_PATIENCE: Duration = Duration::from_millis(500);
/// Time for a slow reader of the log to take the last lines.
const LOG_PATIENCE: Duration = Duration::from_millis(500);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Load {
    /// Files and globs, or `-` alone; none is standard input.
    pub files: Vec<PathBuf>,
    /// The dataset.
    pub to: PathBuf,
    /// What the user said of the columns.
    pub wishes: Wishes,
    /// Records to infer the schema from.
    pub records: NonZero<usize>,
    /// Whether a dead letter makes the exit code 65.
    pub fail_on_dead_letters: bool,
}

/// What is to be loaded.
struct Sample {
    input: Input,
    inferred: Inferred,
    /// What was taken off standard input.
    begun: Option<Vec<u8>>,
    /// Bytes of all files; `None` if that does not say how much is read of them.
    bytes: Option<u64>,
}

/// How it ended.
struct Ended {
    result: Result<()>,
    sums: Sums,
    was_stopped: bool,
}

/// Loads, and says how much. `sets` are laid over the settings that the sample suggests.
///
/// # Errors
/// As `infer` and `run`; [`ErrorKind::TryAgain`] after a signal; [`ErrorKind::DeadLetters`] if there were any and that is to be an error. What was committed
/// stays so, and the same command goes on behind it.
pub(crate) fn run(load: &Load, sets: &[String]) -> Result<()> {
    load_into(load, sets).map_err(|error| error.with_flags(&FLAGS))
}

fn load_into(load: &Load, sets: &[String]) -> Result<()> {
    let Sample { input, inferred, begun, bytes } = look(load)?;
    let mut settings = settings_of(&input);
    let before = loaded_before(&load.to);
    let (inferred, wishes) = match &before {
        Some(before) => (inferred.beside(&before.schema.columns), wishes_beside(&load.wishes, before)),
        None => (inferred, load.wishes.clone()),
    };
    let draft = Draft::new(input, &load.to, inferred, &wishes, None)?;
    let known = before.map_or(usize::MAX, |before| before.schema.columns.len());
    let new_columns: Vec<String> = draft.columns().skip(known).map(str::to_owned).collect();
    settings.extend(draft.settings());
    settings.extend_from_slice(sets);
    let mut config = Config::load(None, pintail_config::environment(), &settings)?;
    if let Some(begun) = begun {
        config.source.kind = Arc::new(Repeated { begun: begun.into() });
    }
    refuse_bucket(&config)?;
    check_writable(&config.pipeline.out_path)?;
    let early = Early::install()?;
    let screen = Screen::stdout(false).map(Arc::new);
    let log = logging::init(&config.log, screen.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| Error::io("start the runtime", e))?;
    let begin = Instant::now();
    let (progress, last_words) = (screen.clone().map(|screen| Progress::new(screen, bytes)), log.clone());
    let ended = runtime.block_on(run_line(config, draft.text(), early, progress, last_words));
    runtime.shutdown_background();
    if let Some(screen) = screen {
        screen.draw(String::new());
        screen.finish(SCREEN_PATIENCE);
    }
    log.flush(LOG_PATIENCE);
    let mut to = Writer::new(Folded::stdout(), Form::Lines);
    report(load, &draft, &new_columns, &ended?, begin.elapsed(), &mut to)
}

/// Returns what the last load into a dataset went by; `None` if there was none, or nobody can tell. Without it the dataset would still refuse columns of
/// other types.
fn loaded_before(out: &Path) -> Option<Config> {
    Config::load(Some(&kept(out)?), std::iter::empty(), &[]).ok()
}

/// Returns the configuration that a load keeps in the dataset; `None` if there is none.
pub(crate) fn kept(out: &Path) -> Option<PathBuf> {
    let paths = Paths::new(out);
    (paths.format().is_file() && paths.loaded().is_file()).then(|| paths.loaded())
}

/// Completes what the user says with what was said, or chosen, before.
fn wishes_beside(wishes: &Wishes, before: &Config) -> Wishes {
    let sql = (before.transform.sql != draft::ALL).then(|| before.transform.sql.clone());
    Wishes {
        partition_by: wishes.partition_by.clone().or_else(|| Some(before.sink.partition_by.clone())),
        event_time: wishes.event_time.clone().or_else(|| Some(before.sink.event_time.clone().unwrap_or_default())),
        sql: wishes.sql.clone().or(sql),
    }
}

/// Returns the settings of a load that have nothing to do with the sample.
fn settings_of(input: &Input) -> Vec<String> {
    let mut settings: Vec<String> =
        ["admin.listen=\"\"", "log.level=\"warn\"", "log.format=\"text\"", "sink.allow_new_columns=true"].map(str::to_owned).into();
    if matches!(input, Input::Files(_)) {
        // A file is not loaded again because it was loaded long ago: it is remembered for as long as the source can.
        settings.extend([format!("source.files_max={FILES_MAX}"), "source.remember=\"3660d\"".to_owned()]);
    }
    settings
}

/// Looks at what is to be loaded.
fn look(load: &Load) -> Result<Sample> {
    let records = load.records.get();
    if load.files.is_empty() && io::stdin().is_terminal() {
        return Err(Error::config("nothing to load: name files, such as `pintail load events.ndjson --to lake`, or pipe lines into it"));
    }
    if load.files.is_empty() || load.files.iter().any(|file| file == Path::new(infer::STDIN)) {
        if load.files.len() > 1 {
            return Err(Error::config(
                "standard input (`-`) is loaded alone: load the files by a command of their own, into another dataset",
            ));
        }
        let (inferred, begun) = infer::look_at_stdin(records)?;
        return Ok(Sample { input: Input::Stdin, inferred, begun: Some(begun), bytes: None });
    }
    if let Some(directory) = load.files.iter().find(|file| file.is_dir()) {
        return Err(infer::sample::directory(directory));
    }
    let name = |file: &PathBuf| {
        let name = file.to_str().ok_or_else(|| Error::config(format!("`{}` is no UTF-8: load it by a glob, in quotes", file.display())));
        name.map(str::to_owned)
    };
    let names: Vec<String> = load.files.iter().map(name).collect::<Result<_>>()?;
    let files = file::matching(&names, &load.to, FILES_MAX)?;
    let is_compressed = |path: &Path| path.extension().is_some_and(|ending| ["gz", "zst", "zstd"].iter().any(|known| ending == *known));
    let bytes = (!files.iter().any(|(path, _)| is_compressed(path))).then(|| files.iter().map(|(_, bytes)| bytes).sum());
    let files: Vec<PathBuf> = files.into_iter().map(|(path, _)| path).collect();
    let inferred = infer::look_at_files(&files, records)?;
    Ok(Sample { input: Input::Files(names), inferred, begun: None, bytes })
}

/// Runs the line to the end of the input, or until a signal comes.
async fn run_line(config: Config, text: String, early: Early, progress: Option<Progress>, log: Log) -> Result<Ended> {
    let shutdown_timeout = config.pipeline.shutdown_timeout;
    let signals = signals::install(early, shutdown_timeout, move || log.flush(LOG_PATIENCE))?;
    let mut deadline = pipeline::deadline(signals.stop.clone(), shutdown_timeout);
    let disk = DiskState::default();
    let meters = Arc::new(Meters::new(disk.clone()));
    let (stop, unopened) = (signals.stop.clone(), disk.clone());
    let outside = Outside {
        stop: signals.stop,
        reload: signals.reload,
        screen: None,
        meters: meters.clone(),
        admin: None,
        fs: Arc::new(Posix::new(disk)),
        is_own_program: true,
    };
    let opening = blocking("start", move || {
        let line = Line::open(&config, pipeline::Input::Source, Start::Usual, outside)?;
        // Before anything is committed: the next load must know the columns of what is.
        let path = config.paths().loaded();
        posix::tell(&path, text.as_bytes()).map_err(|e| Error::io(format_args!("write `{}`", path.display()), e))?;
        Ok(line)
    });
    let line = Line::opened(opening, stop.clone(), unopened, &mut deadline).await?;
    let shown = progress.map(|progress| tokio::spawn(progress.run(meters.clone())));
    let result = line.run(deadline).await;
    if let Some(shown) = shown {
        shown.abort();
        // It must not draw over what is said at the end.
        let _ = shown.await;
    }
    let was_stopped = *stop.borrow();
    let sums = meters.ledger().process;
    Ok(Ended { result, sums, was_stopped })
}

/// Says what was loaded, and what to do with it.
fn report(load: &Load, draft: &Draft, new_columns: &[String], ended: &Ended, took: Duration, to: &mut dyn Write) -> Result<()> {
    let failed = |e| Error::io("write to standard output", e);
    let Ended { result, sums, was_stopped } = ended;
    let letters = sums.counts.dead_letters.total();
    if result.is_ok() && !was_stopped || sums.counts.records_in > 0 {
        if sums.counts.records_in > 0 {
            chosen(draft, new_columns, sums.counts.records_in, to).map_err(failed)?;
        }
        summary(load, sums, took, to).map_err(failed)?;
    }
    if let Err(error) = result {
        return Err(Error::new(error.kind(), error.to_string()));
    }
    if *was_stopped {
        return Err(Error::try_again("stopped before the end of the input: the same command goes on from here"));
    }
    if letters > 0 && load.fail_on_dead_letters {
        let letters = counted(letters, "record", "records");
        return Err(Error::new(ErrorKind::DeadLetters, format!("{letters} became dead letters: {} shows why", command("dead-letters"))));
    }
    let query = format!(
        "pintail query --set pipeline.out_path={} \\\n      {}",
        word(&load.to.display().to_string()),
        quoted(&draft.first_query())
    );
    advise(to, query).map_err(failed)
}

/// Says what was chosen, and what should be known of it: beside the figures on a terminal, else on standard error.
fn chosen(draft: &Draft, new_columns: &[String], records: u64, to: &mut dyn Write) -> io::Result<()> {
    let mut errors = Writer::new(io::stderr(), Form::Lines);
    let to: &mut dyn Write = if io::stdout().is_terminal() { to } else { &mut errors };
    draft.chosen().iter().chain(&draft.notes()).chain(&draft.unseen(records)).try_for_each(|line| writeln!(to, "{line}"))?;
    let named = new_columns.iter().take(COLUMNS_NAMED_MAX).map(|name| escape::line(name)).join(", ");
    match new_columns.len() {
        0 => Ok(()),
        all => writeln!(
            to,
            "{:<10}  {}: {named}{}",
            "note",
            counted(all as u64, "new column", "new columns"),
            if all > COLUMNS_NAMED_MAX { ", …" } else { "" }
        ),
    }
}

fn summary(load: &Load, sums: &Sums, took: Duration, to: &mut dyn Write) -> io::Result<()> {
    let out = load.to.display();
    if sums.counts.records_in == 0 {
        return writeln!(to, "nothing new: `{out}` has all of it");
    }
    let seconds = took.as_secs_f64();
    let rate = thousands((sums.counts.records_in as f64 / seconds.max(0.001)) as u64);
    let filtered = match sums.counts.filtered {
        0 => String::new(),
        filtered => format!(" · {} filtered by the SQL", thousands(filtered)),
    };
    let rows = counted(sums.counts.rows_out, "row", "rows");
    writeln!(to, "{rows} in {} of `{out}`", counted(sums.files, "new file", "new files"))?;
    let letters = counted(sums.counts.dead_letters.total(), "dead letter", "dead letters");
    writeln!(to, "{letters}{filtered} · {seconds:.1} s, {rate} records/s")?;
    match sums.counts.dead_letters.total() {
        0 => Ok(()),
        _ => writeln!(to, "{} shows what was rejected, and why", command("dead-letters")),
    }
}
