//! A configuration of any text → a configuration that may run, or faults that each name what is wrong.
//!
//! The input is a file; behind a NUL, and each behind one more, follow options: `key=value` of the command line, or a variable of the
//! environment if it begins with `$`.
#![no_main]

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use libfuzzer_sys::{Corpus, fuzz_target};
use pintail_config::Config;
use pintail_core::error::ErrorKind;
use pintail_core::schema::EventSchema;
use pintail_sources::file::config::FileConfig;

/// What a fault may begin with, beside a key in backticks.
const OTHER_BEGINNINGS: [&str; 4] = ["--set ", "environment variable PINTAIL_", "CHECKPOINT_SECONDS = ", "cannot read `"];

fn run(data: &[u8]) -> Corpus {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0');
    let file = File::of(parts.next().unwrap_or_default());
    let (environment, sets): (Vec<&str>, Vec<&str>) = parts.partition(|part| part.starts_with('$'));
    let environment: Vec<(String, String)> =
        environment.iter().filter_map(|part| part[1..].split_once('=')).map(|(name, value)| (name.into(), value.into())).collect();
    let sets: Vec<String> = sets.into_iter().map(Into::into).collect();
    let load = || Config::load(Some(&file.path), environment.iter().cloned(), &sets);
    match (load(), load()) {
        (Ok(config), Ok(again)) => {
            assert_eq!(config.sha256, again.sha256, "the hash of the same settings");
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
            check_config(&config);
        }
        (Err(error), Err(again)) => {
            assert_eq!(error.to_string(), again.to_string());
            assert_eq!(error.kind(), ErrorKind::Config);
            check_faults(&error.to_string(), &file.path);
        }
        _ => panic!("it is taken or refused, but not both"),
    }
    Corpus::Keep
}

/// What the line relies on and does not check again.
fn check_config(config: &Config) {
    let Config { pipeline, source, schema, transform, sink, dead_letters, monitor, .. } = config;
    assert!(pipeline.batch_rows > 0 && pipeline.chunk_channel > 0 && pipeline.batch_channel > 0 && pipeline.frame_channel > 0);
    assert!(!pipeline.checkpoint_interval.is_zero() && !pipeline.shutdown_timeout.is_zero() && !transform.timeout.is_zero());
    assert!(source.record_bytes_max > 0 && pipeline.batch_bytes_max >= source.record_bytes_max);
    assert!(transform.threads > 0 && sink.threads > 0 && sink.open_files_max > 0 && sink.partitions_max > 0 && monitor.groups_max > 0);
    assert!(sink.row_group_rows > 0 && sink.row_group_bytes <= sink.buffer_bytes_max && sink.target_file_bytes > 0);
    assert!((0.0..=1.0).contains(&dead_letters.ratio_max) && dead_letters.ratio_records_min > 0);
    assert!(!transform.sql.trim().is_empty() && config.sha256.len() == 64);
    assert!(!monitor.group_by.is_empty() && !monitor.value.is_empty() && sink.event_time.as_deref() != Some(""));
    assert!(sink.partition_by.iter().all(|column| !column.is_empty() && !column.starts_with(['_', '.'])));
    check_schema(schema);
    if let Some(file) = source.settings::<FileConfig>() {
        assert!(file.paths.iter().all(|path| !path.is_empty()) && !file.poll_interval.is_zero() && file.files_max > 0);
    }
}

fn check_schema(schema: &EventSchema) {
    assert!(!schema.columns.is_empty());
    for (index, column) in schema.columns.iter().enumerate() {
        assert!(!column.name.is_empty() && !column.path.is_empty());
        let lower = column.name.to_lowercase();
        assert!(schema.columns[..index].iter().all(|other| other.name.to_lowercase() != lower), "{} twice", column.name);
        assert_eq!(column.column_type.to_string().parse::<pintail_core::schema::ColumnType>().ok(), Some(column.column_type));
    }
}

/// Every fault stands on a line of its own and names its key, or the place where it was typed.
fn check_faults(message: &str, file: &Path) {
    let mut lines = message.lines();
    let first = lines.next().expect("a message");
    let faults: Vec<&str> = match first.strip_prefix("configuration: ") {
        Some(fault) => [fault].into_iter().chain(lines).collect(),
        None => {
            let count = first.strip_suffix(" faults in the configuration:").and_then(|count| count.parse().ok());
            let faults: Vec<&str> = lines.map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
            assert_eq!(count, Some(faults.len()), "{message}");
            faults
        }
    };
    let file = file.display().to_string();
    for fault in faults {
        // An unknown key may have backticks itself.
        let names_key = fault.strip_prefix('`').is_some_and(|rest| rest.contains('`'));
        let names_place = fault.starts_with(&file) || OTHER_BEGINNINGS.iter().any(|beginning| fault.starts_with(beginning));
        assert!(names_key || names_place, "a fault that names nothing: {fault:?} in\n{message}");
        assert!(!fault.chars().any(char::is_control), "a fault with control characters: {fault:?}");
    }
}

/// A file in memory, with a name.
struct File {
    path: PathBuf,
    _open: std::fs::File,
}

impl File {
    fn of(text: &str) -> Self {
        let created = rustix::fs::memfd_create("pintail.toml", rustix::fs::MemfdFlags::empty()).expect("memory");
        let mut open = std::fs::File::from(created);
        open.write_all(text.as_bytes()).expect("memory");
        Self { path: format!("/proc/self/fd/{}", open.as_raw_fd()).into(), _open: open }
    }
}

fuzz_target!(|data: &[u8]| -> Corpus { run(data) });
