//! Logs: where they go and how they look.
//!
//! Owns: the one `tracing` subscriber of the process, and that a panic is told by it.
//! Does not own: what is logged, the table on the terminal (see `terminal`).

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::Arc;

use tracing::{Subscriber, error};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};
use crate::error::{Error, Result};
use crate::panics;
use crate::terminal::Screen;

/// Installs the subscriber. `RUST_LOG` wins over `log.level`. From then on a panic is a line of the log, not text beside it.
///
/// Lines go to standard error; above the table of `screen` if both are the terminal.
///
/// # Errors
/// [`crate::error::ErrorKind::Config`] if `RUST_LOG` is no filter; [`crate::error::ErrorKind::Internal`] at a second call.
pub fn init(log: &LogConfig, screen: Option<Arc<Screen>>) -> Result<()> {
    let env = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let terminal = io::stderr().is_terminal();
    let format = match log.format {
        LogFormat::Auto if terminal => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        chosen => chosen,
    };
    let lines = match screen {
        Some(screen) if terminal => Lines::AboveTable(screen),
        _ => Lines::Stderr,
    };
    // https://no-color.org
    let colors = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = subscriber(filter(log, env.as_deref())?, format, colors, lines);
    subscriber.try_init().map_err(|e| Error::internal("a second log subscriber in one process").with_source(e))?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Logs where a panic came from. What it means to the line is the supervisor's to say: some are contained.
fn log_panic(panic: &PanicHookInfo<'_>) {
    if panics::note(panic) {
        return;
    }
    let backtrace = Backtrace::capture();
    let at = panic.location().map(ToString::to_string);
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    error!(at, backtrace, "panicked: {}", panic.payload_as_str().unwrap_or("no message"));
}

fn filter(log: &LogConfig, env: Option<&str>) -> Result<EnvFilter> {
    match env {
        // Its parser panics at characters that take more than a byte.
        Some(text) if !text.is_ascii() => Err(Error::config(format!("RUST_LOG = {text:?} is no filter such as info,pintail=debug"))),
        Some(text) => EnvFilter::try_new(text)
            .map_err(|e| Error::config(format!("RUST_LOG = {text:?} is no filter such as info,pintail=debug")).with_source(e)),
        // The client of NATS tells of each try to connect, and of errors that the source handles; it is heard if the filter names it.
        None => EnvFilter::try_new(format!("async_nats=off,{}", log.level))
            .map_err(|e| Error::internal(format!("`log.level` = {:?} was not checked", log.level)).with_source(e)),
    }
}

fn subscriber<W>(filter: EnvFilter, format: LogFormat, colors: bool, lines: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).with_ansi(colors);
    match format {
        LogFormat::Json => Box::new(builder.json().flatten_event(true).with_current_span(false).finish()),
        LogFormat::Auto | LogFormat::Text => Box::new(builder.with_target(false).finish()),
    }
}

/// Where lines go.
#[derive(Debug, Clone)]
enum Lines {
    Stderr,
    AboveTable(Arc<Screen>),
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Lines {
    /// Takes a whole line: the formatter writes each event at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr => io::stderr().write(line),
            Self::AboveTable(screen) => {
                screen.log(line);
                Ok(line.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn logged(format: LogFormat, level: &str, env: Option<&str>) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = written.clone();
        let lines = move || Sink(sink.clone());
        let filter = filter(&LogConfig { level: level.into(), format }, env).unwrap();
        tracing::subscriber::with_default(subscriber(filter, format, false, lines), || {
            tracing::info!(seq = 42, path = "a\"b", "checkpoint committed");
            tracing::debug!("a batch");
        });
        let bytes = written.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_filter_that_its_parser_would_panic_at_is_refused_by_name() {
        let log = LogConfig { level: "info".into(), format: LogFormat::Json };
        assert!(filter(&log, Some(" a\u{e9}=info")).unwrap_err().to_string().contains("RUST_LOG"));
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_machine_finds_the_fields_at_the_top_of_a_json_line() {
        let text = logged(LogFormat::Json, "info", None);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["seq"]), (&"INFO".into(), &42.into()));
        assert_eq!((&line["message"], &line["path"]), (&"checkpoint committed".into(), &"a\"b".into()));
    }

    #[test]
    fn a_person_reads_one_line_without_colors_where_they_are_off() {
        let text = logged(LogFormat::Text, "info", None);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(" INFO checkpoint committed seq=42") && !text.contains('\x1b'), "{text}");
    }

    #[test]
    fn rust_log_wins_over_the_configured_level() {
        assert_eq!(logged(LogFormat::Text, "error", Some("debug")).lines().count(), 2);
        assert_eq!(logged(LogFormat::Text, "debug", Some("error")), "");
        let log = LogConfig { level: "info".into(), format: LogFormat::Auto };
        assert!(filter(&log, Some("a=b=c")).unwrap_err().to_string().starts_with("RUST_LOG = \"a=b=c\""));
    }
}
