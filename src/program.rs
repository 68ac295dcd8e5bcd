//! The program: arguments, logging, runtime, exit code; no logic.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pintail_config::{Config, Examined};
use pintail_core::error::{Error, Result};
use pintail_core::escape::{Form, Writer};
use pintail_core::invocation;
use pintail_core::limits::descriptors::Descriptors;
use pintail_settings::raw::settings_of;
use pintail_sources::registry::KINDS;
use tracing::error;

use crate::cli::{CONFIGURATION, Cli, Command, QueryFormat, Repairs, is_url};
use crate::commands::advise;
use crate::commands::demo::{self, Demo};
use crate::commands::fixtures::{self, Fixtures};
use crate::commands::init::{self, Init};
use crate::commands::load::{self, Load};
use crate::commands::{
    accept, adopt, check, compact, config, dead_letters, expire, health, infer, installed, plan, publish, query, repair, run, verify,
};
use crate::pipeline::{Input, Start, open_to_read, refuse_bucket};
use crate::signals::Early;
use crate::terminal::{Folded, Screen};
use crate::{child, cli, logging, sql_box, trial};

/// Time for a slow terminal to take the last table.
const SCREEN_PATIENCE: Duration = Duration::from_millis(500);
/// Time for a slow reader of the log to take the last lines.
const LOG_PATIENCE: Duration = Duration::from_millis(500);

/// Does what the arguments of the process say, and ends the process.
pub fn main() -> ! {
    Descriptors::raise();
    let code = match Cli::read(std::env::args_os()) {
        // It says what the service that started it says.
        Ok(cli) if cli.command() == Command::SqlBox => sql_box::run(),
        Ok(cli) => {
            cli.options_of_this_process().set();
            run_command(&cli)
        }
        Err(help) => {
            let _ = help.print();
            cli::exit_code(&help)
        }
    };
    let _ = io::stdout().flush();
    // Not a return from `main`: after a deadline, blocking work may still run, and neither it nor C++ destructors are to be waited for.
    signal_hook::low_level::exit(code.into())
}

fn run_command(cli: &Cli) -> u8 {
    if let Command::Run { child_of: Some(parent), .. } = cli.command()
        && let Err(error) = child::die_with(parent)
    {
        return error.kind().exit_code();
    }
    let result = match cli.command() {
        Command::Run { take_over: true, .. } => return serve(cli, Input::Source, Start::TakeOver),
        Command::Run { accept: true, .. } => return serve(cli, Input::Source, Start::Accept),
        Command::Run { .. } => return serve(cli, Input::Source, Start::Usual),
        Command::DeadLetters { replay: true, .. } => return serve(cli, Input::DeadLetters, Start::Usual),
        Command::Demo { events, seed, seconds, keep } => show(cli, &Demo { events, seed, seconds, keep }),
        Command::Load { files, to, wishes, records, fail_on_dead_letters, .. } => {
            load_into(cli, &Load { files, to, wishes, records, fail_on_dead_letters }).map(|()| 0)
        }
        Command::Test { names, dir, update, .. } => test(cli, &Fixtures { names, directory: dir, update }),
        Command::Completions { shell } => installed::completions(shell, &mut io::stdout()).map(|()| 0),
        Command::Man { command } => installed::man(command.as_deref(), &mut io::stdout()).map(|()| 0),
        command => run_once(cli, command).map(|()| 0),
    };
    match result {
        Ok(code) => code,
        // `pintail query … | head` has seen enough.
        Err(error) if error.is_broken_pipe() => 0,
        Err(error) => {
            complain(&error);
            error.kind().exit_code()
        }
    }
}

/// Says why a command ends. Whether anybody can read it changes nothing.
fn complain(error: &Error) {
    let _ = writeln!(Writer::new(io::stderr(), Form::Lines), "pintail: {error}");
}

/// Loads files or a pipe into a dataset.
fn load_into(cli: &Cli, load: &Load) -> Result<()> {
    if cli.config().is_some() {
        return Err(Error::config("`pintail load` takes no configuration: leave out --config, or use `pintail run --config …`"));
    }
    load::run(load, &cli.sets())
}

/// Runs fixtures.
fn test(cli: &Cli, fixtures: &Fixtures) -> Result<u8> {
    // The defaults are made for the simulator: fixtures of somebody would all come out as if nothing fitted, and be written so.
    let says_what = |setting: &String| ["schema.", "transform."].iter().any(|section| setting.starts_with(section));
    if configuration(cli).is_none() && !settings_of(pintail_config::environment()).iter().chain(&cli.sets()).any(says_what) {
        let here = if Path::new(CONFIGURATION).is_file() { format!(": `{CONFIGURATION}` is here") } else { String::new() };
        return Err(Error::config(format!("which configuration is to be tested? Name it with --config{here}")));
    }
    fixtures::run(&load(cli)?, fixtures, &mut Writer::new(io::stdout().lock(), Form::Lines))
}

/// Says what the configuration `new` would change for the dataset of this invocation, or of the one service that runs.
fn compare(cli: &Cli, new: &Path, asked: plan::Asked, to: &mut dyn Write) -> Result<()> {
    if names_a_dataset(cli) {
        let new = Config::examine(KINDS, Some(new), pintail_config::environment(), &cli.sets());
        return plan::run(&load(cli)?, &new, asked, to);
    }
    let none = "which configuration is the old one? No service of this user runs here, or several do: name it with --config";
    let service = health::Service::find().ok_or_else(|| Error::config(none))?;
    // Its paths are relative to its directory, those of the new configuration as well; where that one is, is said by whoever typed it.
    let new = std::path::absolute(new).map_err(|e| Error::io(format_args!("look at `{}`", new.display()), e))?;
    std::env::set_current_dir(&service.directory).map_err(|e| Error::io("go to the directory of the service", e))?;
    let (environment, sets) = (service.environment, service.cli.sets());
    let old = Config::load(service.cli.config(), environment.iter().cloned(), &sets)?;
    plan::run(&old, &Config::examine(KINDS, Some(&new), environment.into_iter(), &sets), asked, to)
}

fn load(cli: &Cli) -> Result<Config> {
    Config::load(configuration(cli).as_deref(), pintail_config::environment(), &cli.sets())
}

fn examine(cli: &Cli) -> Examined {
    Config::examine(KINDS, configuration(cli).as_deref(), pintail_config::environment(), &cli.sets())
}

/// Returns the configuration that is meant: the one that is named, or the one that `pintail load` keeps in the dataset that is named.
fn configuration(cli: &Cli) -> Option<PathBuf> {
    cli.config().map(Path::to_owned).or_else(|| load::kept(&named_dataset(cli)?))
}

/// Returns the dataset that arguments or environment name.
fn named_dataset(cli: &Cli) -> Option<PathBuf> {
    let mut settings = settings_of(pintail_config::environment()).into_iter().chain(cli.sets()).rev();
    settings.find_map(|setting| Some(setting.strip_prefix("pipeline.out_path=")?.trim_matches('"').into()))
}

/// Returns whether the invocation says which dataset is meant, or where that stands.
fn names_a_dataset(cli: &Cli) -> bool {
    cli.config().is_some() || named_dataset(cli).is_some()
}

/// Loads the configuration of the service that runs here, however it was started: of a container, nobody tells its health check.
fn load_of_running(cli: &Cli) -> Result<Config> {
    let Some(service) = health::Service::find() else { return load(cli) };
    std::env::set_current_dir(&service.directory).map_err(|e| Error::io("go to the directory of the service", e))?;
    Config::load(service.cli.config(), service.environment.into_iter(), &service.cli.sets())
}

/// Runs a demonstration.
fn show(cli: &Cli, demo: &Demo) -> Result<u8> {
    if cli.config().is_some() || !cli.sets().is_empty() {
        return Err(Error::config("`pintail demo` takes no configuration: leave out --config, --set, --log-format and --verbose"));
    }
    demo::run(demo, &mut io::stdout())
}

/// Runs the line.
fn serve(cli: &Cli, input: Input, start: Start) -> u8 {
    // Before anything else: a supervisor may stop what it has just started.
    let early = match Early::install() {
        Ok(early) => early,
        Err(error) => {
            complain(&error);
            return error.kind().exit_code();
        }
    };
    let config = match load(cli) {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return error.kind().exit_code();
        }
    };
    let is_demonstration = matches!(cli.command(), Command::Run { child_of: Some(_), .. });
    let next = next_of(&cli.command());
    let screen = Screen::stdout(is_demonstration).map(Arc::new);
    let log = match logging::init(&config.log, screen.clone()) {
        Ok(log) => log,
        Err(error) => {
            complain(&error);
            return error.kind().exit_code();
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| Error::io("start the runtime", e));
    let result = runtime.and_then(|runtime| {
        let result = runtime.block_on(run::run(config, (input, start), early, screen.clone(), log.clone()));
        runtime.shutdown_background();
        result
    });
    // The table first: an error above a long one would be out of sight.
    if let Some(screen) = screen {
        screen.finish(SCREEN_PATIENCE);
    }
    if let Err(error) = &result {
        error!(exit_code = error.kind().exit_code(), "{error}");
    }
    log.flush(LOG_PATIENCE);
    if result.is_ok() {
        let _ = say_next(next, &mut Writer::new(io::stdout(), Form::Lines));
    }
    result.map_or_else(|error| error.kind().exit_code(), |()| 0)
}

/// Runs a command that ends by itself.
fn run_once(cli: &Cli, command: Command) -> Result<()> {
    // What a command prints may come from outside: records, files, servers.
    let to: &mut dyn Write = match (form(&command), &command) {
        // The columns of a table stand one below the other.
        (form, Command::Query { .. }) => &mut Writer::new(io::stdout().lock(), form),
        (form @ Form::Lines, _) => &mut Writer::new(Folded::stdout(), form),
        (form, _) => &mut Writer::new(io::stdout().lock(), form),
    };
    if let Command::Infer { file, records, complete, .. } = &command {
        infer::run(file, records.get(), *complete, to)?;
        return say_next(next_of(&command), to);
    }
    if let Command::Init { file, output, force, to: out, wishes, records } = command.clone() {
        if cli.config().is_some() || !cli.sets().is_empty() {
            return Err(Error::config(
                "`pintail init` takes no configuration: it writes one. Leave out --config, --set, --log-format and --verbose",
            ));
        }
        return init::run(&Init { file, output, force, to: out, wishes, records }, to);
    }
    if let Command::Plan { new, records, dead_letters, samples, .. } = &command {
        return compare(cli, new, plan::Asked { records: *records, dead_letters: *dead_letters, samples: *samples }, to);
    }
    if let Command::Check { .. } = &command {
        check::run(&examine(cli), to)?;
        return say_next(next_of(&command), to);
    }
    if let Command::Config { explain, .. } = &command {
        return match explain {
            Some(key) => config::explain(key, &examine(cli), to),
            None => config::schema(to),
        };
    }
    let config = match &command {
        Command::Health { .. } if !names_a_dataset(cli) => load_of_running(cli)?,
        _ => load(cli)?,
    };
    let out = config.pipeline.out_path.as_path();
    let next = next_of(&command);
    if !matches!(
        command,
        Command::Health { .. }
            | Command::Trial { .. }
            | Command::DeadLetters { .. }
            | Command::Verify { .. }
            | Command::Query { .. }
            | Command::Compact { .. }
            | Command::Expire { .. }
            | Command::Repair { what: Repairs { key: false, .. }, .. }
    ) {
        refuse_bucket(&config)?;
    }
    match command {
        Command::Adopt { .. } => adopt::run(&config, to),
        Command::Compact { dry_run, .. } => compact::run(&config, dry_run, to),
        Command::Expire { before: Some(before), force, remove, .. } => expire::declare(&config, before, force, remove, to),
        Command::Expire { .. } => expire::take_back(&config, to),
        Command::Verify { out: other, since, fast, .. } => {
            let depth = if fast { verify::Depth::Length } else { verify::Depth::Content };
            match other.filter(|other| !is_url(other)) {
                Some(other) => verify::run(&other, since, depth, to),
                None => verify::run_on(&open_to_read(&config)?, since, depth, to),
            }
        }
        Command::Publish { out: other, table, .. } => publish::run(&config, other.as_deref().unwrap_or(out), table.as_deref(), to),
        Command::Query { sql, format, .. } => query::run(&open_to_read(&config)?, query_bytes_max(&config), &sql, format, to),
        Command::DeadLetters { accept: true, .. } => accept::run(&config, to),
        Command::DeadLetters { samples, .. } => match dead_letters::run(&open_to_read(&config)?, &config.local_paths(), samples, to)? {
            // There is nothing to be done about them.
            0 => return Ok(()),
            _ => Ok(()),
        },
        Command::Repair { what: Repairs { key: true, .. }, .. } => repair::key(&config, to),
        Command::Repair { what: Repairs { snapshot: true, .. }, .. } => repair::snapshot(&config, to),
        Command::Repair { .. } => repair::journal(&config, to),
        Command::Health { .. } => health::run(config.local_paths(), out),
        Command::Trial { sha256, .. } => trial::run(&config, &sha256),
        Command::Run { .. }
        | Command::Demo { .. }
        | Command::Load { .. }
        | Command::Init { .. }
        | Command::Test { .. }
        | Command::Plan { .. }
        | Command::Infer { .. }
        | Command::Check { .. }
        | Command::Config { .. }
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::SqlBox => unreachable!("handled before"),
    }?;
    say_next(next, to)
}

/// Returns how many bytes a query may fetch from a bucket.
fn query_bytes_max(config: &Config) -> u64 {
    #[cfg(feature = "bucket")]
    return config.lake.as_ref().map_or(0, |lake| lake.storage.query_bytes_max);
    #[cfg(not(feature = "bucket"))]
    {
        let _ = config;
        0
    }
}

/// Returns what somebody may want to do after a command; `None` where its answer is all that was wanted.
fn next_of(command: &Command) -> Option<String> {
    Some(match command {
        // The service of a demonstration is none of the reader's.
        Command::Run { child_of: None, .. } => invocation::command("query 'SELECT count(*) FROM events'"),
        Command::Check { .. } => invocation::command("run"),
        Command::Infer { .. } => "pintail init, which writes a whole configuration".to_owned(),
        Command::Verify { .. } => invocation::command("query 'SELECT count(*) FROM events'"),
        Command::Expire { .. } => invocation::command("verify --fast"),
        Command::Adopt { .. } | Command::Compact { .. } => invocation::command("verify"),
        Command::Repair { .. } => invocation::command("run"),
        Command::DeadLetters { accept: true, .. } | Command::DeadLetters { replay: true, .. } => invocation::command("dead-letters"),
        Command::DeadLetters { .. } => {
            format!("correct the schema or the SQL, stop the service, then {}", invocation::command("dead-letters --replay"))
        }
        _ => return None,
    })
}

fn say_next(next: Option<String>, to: &mut dyn Write) -> Result<()> {
    next.map_or(Ok(()), |next| advise(to, next).map_err(|e| Error::io("write to standard output", e)))
}

/// Returns what kind of text a command prints.
fn form(command: &Command) -> Form {
    match command {
        Command::Query { format: QueryFormat::Csv, .. } => Form::Csv,
        // A text of TOML takes the same escapes as one of JSON.
        Command::Query { format: QueryFormat::Json, .. } | Command::Infer { .. } | Command::Config { schema: true, .. } => Form::Json,
        Command::Init { output, .. } if output == Path::new(infer::STDIN) => Form::Json,
        _ => Form::Lines,
    }
}
