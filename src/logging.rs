//! Logs: where they go and how they look.
//!
//! Owns: the one `tracing` subscriber of the process, that text from outside is escaped in it, and that a panic is told by it.
//! Does not own: what is logged, how lines get to their reader (see `spool`), the table on the terminal (see `terminal`).

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use pintail_config::{LogConfig, LogFormat, log_filter};
use pintail_core::error::{Error, Result};
use pintail_core::escape::{self, Form};
use pintail_core::panics;
use tracing::field::Field;
use tracing::{Subscriber, error};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::util::SubscriberInitExt;

use crate::terminal::Screen;
use spool::Spool;

mod spool;

/// The way of the log to its reader.
#[derive(Debug, Clone)]
pub struct Log(Lines);

impl Log {
    /// Returns how many lines were lost because nobody took them.
    pub fn dropped(&self) -> u64 {
        self.0.spool.dropped() + self.0.screen.as_ref().map_or(0, |screen| screen.dropped_ever())
    }

    /// Waits until standard error has all lines; gives up after `patience`.
    pub fn flush(&self, patience: Duration) {
        self.0.spool.flush(patience);
    }
}

/// Installs the subscriber. `RUST_LOG` wins over `log.level`. From then on a panic is a line of the log, not text beside it.
///
/// Lines go to standard error; above the table of `screen` if both are the terminal. Nobody waits for who reads them.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] if `RUST_LOG` is no filter; [`pintail_core::error::ErrorKind::Internal`] at a second call.
pub fn init(log: &LogConfig, screen: Option<Arc<Screen>>) -> Result<Log> {
    let env = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let terminal = io::stderr().is_terminal();
    let format = match log.format {
        LogFormat::Auto if terminal => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        chosen => chosen,
    };
    let lines = Lines { screen: screen.filter(|_| terminal), spool: Spool::start(io::stderr())? };
    // https://no-color.org
    let colors = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = subscriber(filter(log, env.as_deref())?, format, colors, lines.clone());
    subscriber.try_init().map_err(|e| Error::internal("a second log subscriber in one process").with_source(e))?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(Log(lines))
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
        Some(text) => {
            let refused = |why: &dyn fmt::Display| Error::config(format!("RUST_LOG = {text:?}: {why}"));
            log_filter(text).map_err(|why| refused(&why)).and_then(|text| EnvFilter::try_new(text).map_err(|e| refused(&e)))
        }
        // The client of NATS tells of each try to connect, and of errors that the source handles; it is heard if the filter names it.
        None => EnvFilter::try_new(format!("async_nats=off,{}", log.level))
            .map_err(|e| Error::internal(format!("`log.level` = {:?} was not checked", log.level)).with_source(e)),
    }
}

fn subscriber<W>(filter: EnvFilter, format: LogFormat, colors: bool, lines: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // What it would print of its own failures could not be written either.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colors).log_internal_errors(false);
    match format {
        LogFormat::Json => Box::new(builder.json().flatten_event(true).with_current_span(false).with_writer(JsonLines(lines)).finish()),
        LogFormat::Auto | LogFormat::Text => {
            Box::new(builder.with_target(false).fmt_fields(debug_fn(write_field).delimited(" ")).with_writer(lines).finish())
        }
    }
}

/// Writes a field of a text log: its value may come from outside. A message may have several lines (faults of a configuration); those behind the
/// first are indented, so that none of them looks like another event.
fn write_field(to: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() == "message" {
        let message = format!("{value:?}");
        let mut lines = message.lines();
        escape::Line(&mut *to).write_str(lines.next().unwrap_or_default())?;
        return lines.try_for_each(|line| {
            to.write_str("\n    ")?;
            escape::Line(&mut *to).write_str(line)
        });
    }
    let (italic, end) = if to.has_ansi_escapes() { ("\x1b[3m", "\x1b[0m") } else { ("", "") };
    write!(to, "{italic}{}{end}=", field.name())?;
    let value = format!("{value:?}");
    match value.trim_matches('"').parse() {
        Ok(bytes) if is_bytes(field.name()) => to.write_str(&size(bytes)),
        _ => escape::Line(to).write_str(&value),
    }
}

/// Returns whether a field counts bytes.
fn is_bytes(name: &str) -> bool {
    name.split('_').any(|word| matches!(word, "bytes" | "memory"))
}

/// Writes a size as the configuration takes it, and as one word.
fn size(bytes: u64) -> String {
    ByteSize::b(bytes).to_string().replace(' ', "")
}

/// Lines of JSON, in which also those control characters are escaped that JSON allows.
struct JsonLines<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for JsonLines<W> {
    type Writer = escape::Writer<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        escape::Writer::new(self.0.make_writer(), Form::Json)
    }
}

/// Where lines go.
#[derive(Debug, Clone)]
struct Lines {
    /// Above its table, as long as there is one.
    screen: Option<Arc<Screen>>,
    spool: Spool,
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
        if !self.screen.as_ref().is_some_and(|screen| screen.log(line)) {
            self.spool.push(line.to_vec());
        }
        Ok(line.len())
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
        let hostile = "a\x1b]0;t\x07\u{9b}31m\u{202e}";
        let filter = filter(&LogConfig { level: level.into(), format }, env).unwrap();
        tracing::subscriber::with_default(subscriber(filter, format, false, lines), || {
            tracing::info!(seq = 42, path = "a\"b", "checkpoint committed");
            tracing::debug!("a batch");
            tracing::error!(batch_bytes_max = 16_777_216, batch_rows = 50_000, "limits");
            tracing::warn!(reason = %hostile, text = hostile, "two\nlines: {hostile}");
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
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((&line["level"], &line["seq"]), (&"INFO".into(), &42.into()));
        assert_eq!((&line["message"], &line["path"]), (&"checkpoint committed".into(), &"a\"b".into()));
    }

    #[test]
    fn a_person_reads_one_line_without_colors_where_they_are_off() {
        let text = logged(LogFormat::Text, "info", None);
        assert!(text.lines().next().unwrap().ends_with(" INFO checkpoint committed seq=42 path=\"a\\\"b\""), "{text}");
    }

    #[test]
    fn text_from_outside_moves_no_cursor_and_makes_no_line_of_its_own() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, "warn", None);
            assert!(!text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text:?}");
        }
        let text = logged(LogFormat::Text, "warn", None);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 3 && lines[2].starts_with("    lines: a\\u{1b}]0;t"), "{text}");
        let text = logged(LogFormat::Json, "warn", None);
        let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(line["reason"], "a\x1b]0;t\x07\u{9b}31m\u{202e}", "a machine reads the text as it is");
    }

    #[test]
    fn a_person_reads_bytes_in_units_and_a_machine_counts_them() {
        assert!(logged(LogFormat::Text, "error", None).ends_with(" limits batch_bytes_max=16.0MiB batch_rows=50000\n"));
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, "error", None)).unwrap();
        assert_eq!((&line["batch_bytes_max"], &line["batch_rows"]), (&16_777_216.into(), &50_000.into()));
    }

    #[test]
    fn rust_log_wins_over_the_configured_level() {
        assert!(logged(LogFormat::Text, "error", Some("debug")).contains("a batch"));
        assert!(!logged(LogFormat::Text, "debug", Some("error")).contains("a batch"));
        let log = LogConfig { level: "info".into(), format: LogFormat::Auto };
        assert!(filter(&log, Some("a=b=c")).unwrap_err().to_string().starts_with("RUST_LOG = \"a=b=c\""));
        assert!(filter(&log, Some("info,loud")).unwrap_err().to_string().contains("`loud`"));
    }
}
