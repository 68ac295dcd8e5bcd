//! The keys, section by section: default, limits, meaning.
//!
//! Owns: every key and the reason of its default (the words for users are in `config.example.toml`, which a test holds to this file).
//! Does not own: the wording of faults (see `reader`), the syntax of values (see `values`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use bytesize::ByteSize;
use pintail_core::breaker::DeadLetterConfig;
use pintail_core::limits::Limits;
use pintail_core::schema::{AvroFormat, Column, EventSchema, Framing};
use pintail_core::secret::Secret;
use pintail_core::transform::{LookupConfig, TransformConfig};
use pintail_decode::avro;
use pintail_settings::bounds::{DAY, HOUR, INTEGER_MAX, MILLISECOND, bounded, in_memory, secret_or_file, sizes};
use pintail_settings::raw::read_text;
use pintail_settings::report::Report;
use pintail_settings::{Section, values};
use pintail_sink::config::{SinkConfig, SortColumn};
use pintail_sources::kind::Kind;
use serde_json::json;

use super::lake;
use super::memory::MemoryMax;
use super::{AdminConfig, Listen, LogConfig, LogFormat, MonitorConfig, PipelineConfig, SourceConfig, TableConfig, TableFormat};
use crate::values as own;

/// The SQL unless another is given: for the simulator's events.
pub(super) const DEFAULT_SQL: &str = r#"SELECT epoch_ms("timestamp") AS ts, user_id, region, round(amount, 2) AS amount, sku, CASE WHEN amount >= 80 THEN 'high' WHEN amount >= 30 THEN 'medium' ELSE 'low' END AS bucket FROM events"#;

const MEMORY_LIMIT_MIN: ByteSize = ByteSize::mb(64);
const QUERY_MEMORY_MIN: ByteSize = ByteSize::mb(32);
/// `[pipeline]`; the longest record fits into a batch, also where memory is short.
pub(super) fn pipeline(section: &mut Section<'_>, limits: Limits, record_bytes_max: u64) -> (PipelineConfig, MemoryMax) {
    let memory = MemoryMax::read(section, limits);
    let limits = memory.within(limits);
    let out_path = section.text("out_path", "checkpoints/", lake::out_path);
    // Each checkpoint in a bucket costs requests, and each request money.
    let interval = if out_path.to_string_lossy().contains("://") { 60 } else { 30 };
    let config = PipelineConfig {
        out_path,
        // Planning the SQL costs 1 ms a batch whatever its size: at 50,000 rows that is a tenth of the transform.
        batch_rows: section.count("batch_rows", 50_000, 1..=10_000_000),
        // 50,000 records of 330 bytes; of longer ones fewer make a batch, at the same speed. Up to threads + batch_channel batches are on their
        // way at once, and each takes several times its bytes while it is worked on.
        batch_bytes_max: in_memory(bounded(
            section,
            "batch_bytes_max",
            ByteSize::mib(16),
            sizes(ByteSize::kib(64), ByteSize::gib(2)),
            |size| limits.at_most_part(64, size).max(record_bytes_max.min(size)),
        )),
        checkpoint_interval: section.duration("checkpoint_interval", Duration::from_secs(interval), MILLISECOND..=DAY),
        // `docker stop` kills after 10 s.
        shutdown_timeout: section.duration("shutdown_timeout", Duration::from_secs(8), Duration::from_millis(100)..=HOUR),
        // Chunks are small (a read of a file): 16 bridge a pause of the batcher. The large ones behind it wait only so that no stage
        // starves between two of its turns.
        chunk_channel: section.count("chunk_channel", 16, 1..=4096),
        batch_channel: section.count("batch_channel", 2, 1..=256),
        frame_channel: section.count("frame_channel", 4, 1..=256),
        // Known with the other sections.
        line_bytes_max: 0,
    };
    (config, memory)
}

/// `[source]`; `None` if it cannot be told which source is meant.
pub(super) fn source(section: &mut Section<'_>, kinds: &[Kind], limits: Limits) -> Option<SourceConfig> {
    let record_bytes_max = section.size("record_bytes_max", ByteSize::mib(1), sizes(ByteSize::b(64), ByteSize::gib(1)));
    let named: Vec<_> = kinds.iter().map(|kind| (kind.name, kind)).collect();
    let asked = section.has("type");
    let keys: Vec<&str> = kinds.iter().flat_map(|kind| kind.keys).copied().collect();
    let chosen = match kinds.first() {
        // What the other keys are good for hangs on it.
        _ if section.is_misspelt("type", &keys) => None,
        Some(first) if !asked => Some(section.choice("type", first.name, &named)),
        _ => section.required_choice("type", &named),
    };
    let Some(chosen) = chosen else {
        section.forget_rest();
        return None;
    };
    for other in kinds.iter().filter(|other| other.name != chosen.name) {
        let default = if asked { "" } else { ", the default" };
        let why = format!("a key of `source.type = \"{}\"`, but the type is \"{}\"{default}", other.name, chosen.name);
        let foreign: Vec<_> = other.keys.iter().copied().filter(|key| !chosen.keys.contains(key)).collect();
        section.refuse(&foreign, &why);
    }
    Some(SourceConfig { record_bytes_max: in_memory(record_bytes_max), kind: (chosen.read)(section, limits).into() })
}

/// `[schema]`
pub(super) fn schema(section: &mut Section<'_>) -> EventSchema {
    let is_named = section.has("format");
    let is_avro = section.choice("format", "json", &[("json", false), ("avro", true)]);
    if is_avro && section.has("columns") {
        section.refuse(
            &["columns"],
            "the columns of Avro are the fields of `schema.from`: leave these out, or set `schema.format` to \"json\"",
        );
    }
    if !is_avro {
        let why = "a key of `schema.format` = \"avro\", but the format is \"json\"";
        section
            .refuse(&["from", "framing"], if is_named { why } else { "a key of `schema.format` = \"avro\", and \"json\" is the default" });
    }
    let format = avro(section, is_avro);
    let declared = declared(section);
    match format {
        Some(format) => {
            section.note("columns", json!(format.schema));
            EventSchema::avro(format)
        }
        None => declared,
    }
}

/// The keys of records that are Avro. The effective settings hold the text of the schema in place of columns.
fn avro(section: &mut Section<'_>, is_avro: bool) -> Option<AvroFormat> {
    let framing = section.choice("framing", "none", &[("none", Framing::None), ("confluent", Framing::Confluent)]);
    let read = |text: &str| {
        let path = values::path(text)?;
        let text = read_text(&path, avro::SCHEMA_BYTES_MAX as u64).map_err(|e| format!("cannot read it: {e}"))?;
        avro::format(&text, framing)
    };
    let is_given = section.has("from");
    let format = section.optional_text("from", read);
    if is_avro && !is_given {
        section.fault("from", "missing: the file of the Avro schema that records are read by, such as \"event.avsc\"");
    }
    format
}

fn declared(section: &mut Section<'_>) -> EventSchema {
    let default = EventSchema::simulator();
    let given = section.count_of("columns");
    let columns = section.tables("columns", column).unwrap_or(default.columns);
    if given == Some(0) {
        section.fault("columns", "expected at least one column with a name and a type");
    }
    for problem in repeated(columns.iter().map(|column| column.name.as_str())) {
        section.fault("columns", problem);
    }
    let canonical = |column: &Column| {
        let Column { name, path, column_type, required } = column;
        json!({ "name": name, "path": path, "type": column_type.to_string(), "required": required })
    };
    section.note("columns", columns.iter().map(canonical).collect());
    EventSchema::new(columns)
}

fn column(section: &mut Section<'_>) -> Option<Column> {
    let name = section.required_text("name", values::name);
    let column_type = section.required_text("type", own::column_type);
    let path = section.optional_text("path", own::keys);
    let required = section.boolean("required", false);
    let (name, column_type) = (name?, column_type?);
    Some(Column { path: path.unwrap_or_else(|| vec![name.clone()]), name, column_type, required })
}

/// `[transform]`
pub(super) fn transform(section: &mut Section<'_>, limits: Limits) -> TransformConfig {
    let lookups = section.tables("lookup", lookup).unwrap_or_default();
    for problem in repeated(lookups.iter().map(|lookup| lookup.name.as_str())) {
        section.fault("lookup", problem);
    }
    let canonical = |lookup: &LookupConfig| json!({ "name": lookup.name, "path": lookup.path });
    section.note("lookup", lookups.iter().map(canonical).collect());
    TransformConfig {
        is_default_sql: !section.is_given("sql") && !section.is_given("sql_file"),
        sql: sql(section),
        // One more than there are cores: the others keep these busy while it hands on its frame and waits for a batch.
        threads: section.count("threads", 8, 1..=256).min(limits.cores + 1),
        // Lookup tables and the state of joins live here; below 64 MB DuckDB cannot plan.
        memory_limit: bounded(section, "memory_limit", ByteSize::gb(4), sizes(MEMORY_LIMIT_MIN, ByteSize::tib(16)), |size| {
            limits.at_most_part(4, size).max(MEMORY_LIMIT_MIN.as_u64())
        }),
        timeout: section.duration("timeout", Duration::from_secs(60), Duration::from_millis(10)..=DAY),
        // Ten times a usual batch. What is more goes through the SQL in parts.
        rows_bytes_max: in_memory(bounded(
            section,
            "rows_bytes_max",
            ByteSize::mib(256),
            sizes(ByteSize::mib(1), ByteSize::gib(16)),
            |size| limits.at_most_part(8, size).max(1 << 20),
        )),
        per_batch: section.boolean("per_batch", false),
        lookups,
    }
}

/// `transform.sql`, or what `transform.sql_file` holds. The effective settings hold the text, wherever it came from.
fn sql(section: &mut Section<'_>) -> String {
    let given = section.has("sql");
    let read = |text: &str| {
        let path = values::path(text)?;
        read_text(&path, own::SQL_BYTES_MAX).map_err(|e| format!("cannot read it: {e}"))
    };
    let file = section.optional_text("sql_file", read);
    if given && file.is_some() {
        section.fault("sql_file", "given together with `transform.sql`: leave one of them out");
    }
    let sql = section.text("sql", DEFAULT_SQL, own::sql);
    let Some(sql_of_file) = file else { return sql };
    if let Err(problem) = own::sql(&sql_of_file) {
        section.fault("sql_file", problem);
    }
    section.note("sql", json!(sql_of_file));
    sql_of_file
}

fn lookup(section: &mut Section<'_>) -> Option<LookupConfig> {
    let name = section.required_text("name", |text| match text {
        _ if text.eq_ignore_ascii_case("events") => Err("`events` is the name of the records; choose another".into()),
        _ => values::name(text),
    });
    let path = section.required_text("path", values::path);
    Some(LookupConfig { name: name?, path: path? })
}

/// `[sink]`
pub(super) fn sink(section: &mut Section<'_>, limits: Limits) -> SinkConfig {
    // Half of the buffer: the row group that is being filled, and the others.
    let row_group_bytes = bounded(section, "row_group_bytes", ByteSize::mib(64), sizes(ByteSize::kib(64), ByteSize::gib(4)), |size| {
        limits.at_most_part(16, size).max(ByteSize::mib(1).as_u64())
    });
    let defaulted = ["partition_by", "event_time"].into_iter().filter(|key| !section.is_given(key)).collect();
    let config = SinkConfig {
        defaulted,
        partition_by: section.list("partition_by", &["region"], own::partition_column),
        event_time: event_time(section),
        compression: section.text("compression", "zstd(1)", own::compression),
        // A reader's thread takes a row group at a time: below about 100,000 rows it works on headers, not on rows.
        row_group_rows: section.count("row_group_rows", 1_000_000, 1_000..=100_000_000),
        row_group_bytes: in_memory(row_group_bytes),
        target_file_bytes: section.size("target_file_bytes", ByteSize::mib(256), sizes(ByteSize::kib(64), ByteSize::tib(1))),
        // Open row groups are the largest part of the process' memory. With 128 MiB, about 100 MB of code, DuckDB and allocator, and
        // up to 14 batches of a few MB each on their way, the process stays below 400 MB.
        buffer_bytes_max: in_memory(bounded(
            section,
            "buffer_bytes_max",
            ByteSize::mib(128),
            sizes(ByteSize::mib(1), ByteSize::tib(1)),
            |size| limits.at_most_part(8, size).max(row_group_bytes.min(size)),
        )),
        // Each open file holds its own encoders and pages, about 1 MiB before the first row group is full.
        open_files_max: section.count("open_files_max", 64, 1..=65_536).min(limits.descriptors.written_files()),
        threads: section.count("threads", 8, 1..=256).min(limits.cores),
        // A column of ids must not make a directory for each user.
        partitions_max: section.count("partitions_max", 1_000, 1..=1_000_000),
        sort_by: section.list("sort_by", &[], own::sort_column),
        text_statistics: section.list("text_statistics", &[], values::name),
        bloom_filter: section.list("bloom_filter", &[], values::name),
        allow_new_columns: section.boolean("allow_new_columns", false),
    };
    check_sink_columns(section, &config);
    if config.row_group_bytes > config.buffer_bytes_max {
        section.fault("row_group_bytes", "larger than `sink.buffer_bytes_max`: no row group could ever reach it");
    }
    config
}

/// `""` switches the column off.
fn event_time(section: &mut Section<'_>) -> Option<String> {
    section.text("event_time", "ts", |text| Ok((!text.is_empty()).then(|| text.to_owned())))
}

fn check_sink_columns(section: &mut Section<'_>, config: &SinkConfig) {
    let sorted = || config.sort_by.iter().map(|column: &SortColumn| column.name.as_str());
    let statistics = || config.text_statistics.iter().map(String::as_str);
    let bloom = || config.bloom_filter.iter().map(String::as_str);
    let repeats = [
        ("partition_by", repeated(config.partition_by.iter().map(String::as_str))),
        ("sort_by", repeated(sorted())),
        ("text_statistics", repeated(statistics())),
        ("bloom_filter", repeated(bloom())),
    ];
    for (key, problems) in repeats {
        problems.iter().for_each(|problem| section.fault(key, problem));
    }
    let partitions = |name: &&str| config.partition_by.iter().any(|column| column.eq_ignore_ascii_case(name));
    let in_files = sorted().map(|name| ("sort_by", name));
    let in_files = in_files.chain(statistics().map(|name| ("text_statistics", name))).chain(bloom().map(|name| ("bloom_filter", name)));
    for (key, name) in in_files.filter(|(_, name)| partitions(name)) {
        section.fault(key, format_args!("`{}` is a partition column: it is in the path, not in the files", name.escape_debug()));
    }
}

/// `[[table]]`
pub(super) fn table(section: &mut Section<'_>) -> Option<TableConfig> {
    let formats = [("delta", TableFormat::Delta), ("iceberg", TableFormat::Iceberg)];
    let format = section.required_choice("format", &formats);
    let name = section.required_text("name", own::table_name);
    // A catalog, or whoever reads the log, has to take each commit in; a minute is as stale as most readers of tables allow.
    let interval = section.duration("interval", Duration::from_secs(60), Duration::from_secs(1)..=DAY);
    Some(TableConfig { name: name?, format: format?, interval })
}

/// Names of tables that are given twice, and formats that a dataset has one table of.
pub(super) fn tables(report: &mut Report, tables: &[TableConfig]) {
    for problem in repeated(tables.iter().map(|table| table.name.as_str())) {
        report.fault("table", problem);
    }
    for (format, called, what) in [(TableFormat::Delta, "Delta", "log"), (TableFormat::Iceberg, "Iceberg", "metadata")] {
        let same: Vec<_> = tables.iter().filter(|table| table.format == format).map(|table| table.name.as_str()).collect();
        if let [first, second, ..] = *same {
            report.fault(
                "table",
                format_args!("`{first}` and `{second}` are both {called} tables: their {what} is beside the files, so a dataset has one"),
            );
        }
    }
    let canonical = |table: &TableConfig| {
        let millis = u64::try_from(table.interval.as_millis()).unwrap_or(u64::MAX);
        json!({ "name": table.name, "format": table.format.name(), "interval_ms": millis })
    };
    if !tables.is_empty() {
        report.effective.insert("table".into(), tables.iter().map(canonical).collect());
    }
}

/// `[dead_letters]`
pub(super) fn dead_letters(section: &mut Section<'_>) -> DeadLetterConfig {
    DeadLetterConfig {
        ratio_max: section.float("ratio_max", 0.10, 0.0..=1.0),
        ratio_records_min: section.integer("ratio_records_min", 1_000, 1..=INTEGER_MAX),
        bytes_max: section.size("bytes_max", ByteSize::mib(64), sizes(ByteSize::kib(64), ByteSize::tib(1))),
    }
}

/// `[monitor]`
pub(super) fn monitor(section: &mut Section<'_>) -> MonitorConfig {
    let defaulted = ["group_by", "value"].into_iter().filter(|key| !section.is_given(key)).collect();
    MonitorConfig {
        defaulted,
        group_by: section.text("group_by", "bucket", values::name),
        value: section.text("value", "amount", values::name),
        // A table that fits on a screen.
        groups_max: section.count("groups_max", 20, 1..=10_000),
    }
}

/// `[admin]`
pub(super) fn admin(section: &mut Section<'_>, limits: Limits) -> AdminConfig {
    let chosen = section.has("listen");
    let address = section.text("listen", "127.0.0.1:9464", values::address);
    // What takes longer than this is hardly ever still at work, and what is restarted for nothing reads its last records again.
    let stalled_after = section.duration("stalled_after", Duration::from_secs(300), Duration::from_secs(1)..=DAY);
    let query = section.boolean("query", false);
    let query_token = query_token(section);
    if query && query_token.is_none() && address.is_some_and(|address| !address.ip().is_loopback()) {
        let why = "answered without a token on an address that other machines reach: set `admin.query_token` or `admin.query_token_file`, \
                   or listen on 127.0.0.1";
        section.fault("query", why);
    }
    AdminConfig {
        listen: address.map(|address| Listen { address, chosen }),
        // More than the listeners, so that a scrape finds room beside them.
        connections_max: limits.descriptors.admin().min(64),
        stalled_after,
        query,
        query_token,
        // As many as a person looks at; for more there is `pintail query`.
        query_rows_max: section.count("query_rows_max", 1_000, 1..=100_000),
        query_timeout: section.duration("query_timeout", Duration::from_secs(10), Duration::from_millis(10)..=HOUR),
        // Beside the line's own memory: in a container of 1 GB both fit.
        query_memory_limit: bounded(section, "query_memory_limit", ByteSize::mb(256), sizes(QUERY_MEMORY_MIN, ByteSize::tib(16)), |size| {
            limits.at_most_part(4, size).max(QUERY_MEMORY_MIN.as_u64())
        }),
    }
}

/// `admin.query_token`, or what `admin.query_token_file` holds.
fn query_token(section: &mut Section<'_>) -> Option<Secret> {
    let (key, token) = secret_or_file(section, "query_token", "query_token_file")?;
    match values::token(&token) {
        Ok(()) => Some(Secret::new(token)),
        Err(problem) => {
            section.fault(key, problem);
            None
        }
    }
}

/// `[log]`
pub(super) fn log(section: &mut Section<'_>) -> LogConfig {
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    LogConfig { level: section.text("level", "info", own::log_filter), format: section.choice("format", "auto", &formats) }
}

/// Names each name that comes twice, case ignored: DuckDB and most readers ignore it.
fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    let mut problems = Vec::new();
    for name in names {
        match seen.entry(name.to_lowercase()) {
            Entry::Occupied(known) => {
                let (name, known) = (name.escape_debug(), known.get().escape_debug());
                problems.push(format!("`{name}` and `{known}` are the same name (case is ignored)"));
            }
            Entry::Vacant(new) => {
                new.insert(name);
            }
        }
    }
    problems
}
