use std::path::Path;
use std::time::Duration;

use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use pintail_core::limits::descriptors::Descriptors;
use pintail_core::schema::ColumnType;
use pintail_core::transform::LookupConfig;
use pintail_sources::file::config::FileConfig;
use pintail_sources::http::config::HttpConfig;
use pintail_sources::simulator::SimulatorConfig;

use super::*;

#[cfg(feature = "bucket")]
mod buckets;
mod kafka;
mod nats;

pub(super) fn load(env: &[(&str, &str)], sets: &[&str]) -> Result<Config> {
    load_file(None, env, sets)
}

fn load_file(file: Option<&Path>, env: &[(&str, &str)], sets: &[&str]) -> Result<Config> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Config::load(file, env, &sets)
}

fn with_text(text: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Config> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pintail.toml");
    std::fs::write(&path, text).unwrap();
    load_file(Some(&path), env, sets)
}

pub(super) fn faults(result: Result<Config>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), pintail_core::error::ErrorKind::Config);
    error.to_string()
}

#[track_caller]
pub(super) fn assert_fault(sets: &[&str], expected: &str) {
    let found = faults(load(&[], sets));
    assert!(found.contains(expected), "expected {expected:?} in: {found}");
}

fn simulator(config: &Config) -> &SimulatorConfig {
    config.source.settings().unwrap()
}

#[test]
fn nothing_given_runs_the_simulator() {
    let config = load(&[], &[]).unwrap();
    assert_eq!(config.pipeline.out_path, Path::new("checkpoints/"));
    assert_eq!(config.pipeline.batch_rows, 50_000);
    assert_eq!(config.pipeline.checkpoint_interval, Duration::from_secs(30));
    assert_eq!((simulator(&config).seed, simulator(&config).limit, simulator(&config).rate), (42, 0, 50_000));
    assert_eq!(config.schema, EventSchema::simulator());
    assert_eq!(config.sink.partition_by, ["region"]);
    assert_eq!(config.sink.event_time.as_deref(), Some("ts"));
    assert_eq!(config.sink.compression, Compression::ZSTD(ZstdLevel::try_new(1).unwrap()));
    assert_eq!((config.monitor.group_by.as_str(), config.monitor.value.as_str()), ("bucket", "amount"));
    assert!((1..=8).contains(&config.transform.threads));
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let file = "[source]\nlimit = 1\nrate = 1\nseed = 1\n";
    let env = [("PINTAIL_SOURCE__LIMIT", "2"), ("PINTAIL_SOURCE__RATE", "2")];
    let config = with_text(file, &env, &["source.limit=3"]).unwrap();
    assert_eq!((simulator(&config).limit, simulator(&config).rate, simulator(&config).seed), (3, 2, 1));
}

#[test]
fn what_the_environment_makes_of_the_file_is_told_unless_it_says_the_same_or_the_command_line_says_otherwise() {
    let file = "[pipeline]\nout_path = \"lake\"\nbatch_rows = 7\n[source]\nlimit = 1\nseed = 5\n";
    let env = [("OUT_PATH", "elsewhere"), ("BATCH_ROWS", "7"), ("PINTAIL_SOURCE__LIMIT", "2"), ("PINTAIL_SOURCE__SEED", "6")];
    let config = with_text(file, &env, &["source.seed=8"]).unwrap();
    let [out, limit] = &config.given.overruled[..] else { panic!("{:?}", config.given.overruled) };
    assert!(out.starts_with("`pipeline.out_path` of ") && out.contains(":2 ") && out.contains("variable OUT_PATH"), "{out}");
    assert!(limit.starts_with("`source.limit` of ") && limit.contains("variable PINTAIL_SOURCE__LIMIT"), "{limit}");
}

#[test]
fn the_short_names_set_their_keys_and_the_long_names_win_over_them() {
    let env = [("BATCH_ROWS", "1_000"), ("CHECKPOINT_SECONDS", "0.25"), ("OUT_PATH", "/data/lake")];
    let config = load(&env, &[]).unwrap();
    assert_eq!(config.pipeline.batch_rows, 1_000);
    assert_eq!(config.pipeline.checkpoint_interval, Duration::from_millis(250));
    assert_eq!(config.pipeline.out_path, Path::new("/data/lake"));
    let config = load(&[("OUT_PATH", "short"), ("PINTAIL_PIPELINE__OUT_PATH", "long")], &[]).unwrap();
    assert_eq!(config.pipeline.out_path, Path::new("long"));
}

#[test]
fn checkpoint_seconds_that_are_no_time_are_refused_by_that_name() {
    for seconds in ["0", "-1", "soon", "inf", "NaN", ""] {
        let found = faults(load(&[("CHECKPOINT_SECONDS", seconds)], &[]));
        assert!(found.contains("CHECKPOINT_SECONDS"), "{found}");
    }
}

#[test]
fn all_faults_come_at_once_each_with_its_key_value_and_origin() {
    let file = "[pipeline]\nbatch_rows = 0\n\n[source]\nrat = 5\n";
    let found = faults(with_text(file, &[("PINTAIL_SINK__COMPRESSION", "zip")], &["pipeline.checkpoint_interval=30"]));
    assert!(found.starts_with("4 faults"), "{found}");
    assert!(found.contains("`pipeline.batch_rows` = 0 (") && found.contains("pintail.toml:2): expected an integer from 1 to"), "{found}");
    assert!(found.contains("`source.rat` (") && found.contains("pintail.toml:5): unknown key, did you mean `source.rate`?"), "{found}");
    assert!(
        found.contains("`sink.compression` = \"zip\" (environment variable PINTAIL_SINK__COMPRESSION): expected \"zstd(1)\""),
        "{found}"
    );
    assert!(found.contains("`pipeline.checkpoint_interval` = 30 (--set): expected a duration from 1ms to 1day with its unit"), "{found}");
}

#[test]
fn an_unknown_key_names_the_nearest_known_one_also_of_another_section() {
    assert_fault(&["pipeline.partition_by=[]"], "did you mean `sink.partition_by`?");
    assert_fault(&["sourc.limit=1"], "`sourc` (--set): unknown key, did you mean `source`?");
    assert_fault(&["source.limits=1"], "did you mean `source.limit`?");
    assert_fault(&["limit=1"], "did you mean `source.limit`?");
    let found = faults(load(&[], &["zebra.crossing=1"]));
    assert!(!found.contains("did you mean"), "{found}");
}

#[test]
fn what_follows_from_a_slip_is_no_fault_of_its_own() {
    let found = faults(load(&[], &["source.typ=http", "source.listen=127.0.0.1:9000", "source.token_file=t"]));
    assert!(found.contains("`source.typ` (--set): unknown key, did you mean `source.type`?") && found.lines().count() == 1, "{found}");
    let examined = Config::examine(KINDS, None, std::iter::empty(), &["sorce.type=stdin".to_owned()]);
    assert!(examined.refusal().is_some() && examined.sound(&["source"]).is_none() && examined.sound(&["sink"]).is_some());
}

#[test]
fn a_key_of_another_source_type_is_refused_and_says_so() {
    assert_fault(&["source.path=x.ndjson"], "a key of `source.type = \"file\"`, but the type is \"simulator\", the default");
    assert_fault(&["source.type=stdin", "source.seed=1"], "a key of `source.type = \"simulator\"`, but the type is \"stdin\"");
}

#[test]
fn an_unknown_source_type_is_one_fault_and_its_keys_are_not_judged() {
    let found = faults(load(&[], &["source.type=kafk", "source.brokers=b"]));
    assert_eq!(
        found,
        "configuration: `source.type` = \"kafk\" (--set): expected one of \"simulator\", \"file\", \"stdin\", \"http\", \"nats\", \"kafka\""
    );
}

#[test]
fn files_are_named_by_one_pattern_or_by_several() {
    let paths = |sets: &[&str]| load(&[], sets).unwrap().source.settings::<FileConfig>().unwrap().paths.clone();
    assert_eq!(paths(&["source.type=file", "source.path=events/*.ndjson"]), ["events/*.ndjson"]);
    assert_eq!(paths(&["source.type=file", "source.path=[\"a\", \"b\"]"]), ["a", "b"]);
    assert_fault(&["source.type=file"], "`source.path`: missing");
    assert_fault(&["source.type=file", "source.path=[\"a\", \"b[\"]"], "`source.path`: \"b[\": not a glob");
}

#[test]
fn a_text_key_takes_what_was_typed_though_it_looks_like_a_number() {
    let config = load(&[("PINTAIL_MONITOR__VALUE", "1e5")], &["monitor.group_by=007", "sink.partition_by=2026-01-01"]).unwrap();
    assert_eq!((config.monitor.group_by.as_str(), config.monitor.value.as_str()), ("007", "1e5"));
    assert_eq!(config.sink.partition_by, ["2026-01-01"]);
    let found = faults(with_text("[monitor]\nvalue = 5\n", &[], &[]));
    assert!(found.contains("expected text in quotes"), "{found}");
}

#[test]
fn sizes_have_units_or_are_plain_bytes() {
    let bytes = |text: &str| load(&[], &[&format!("sink.target_file_bytes={text}")]).unwrap().sink.target_file_bytes;
    assert_eq!(bytes("\"1MiB\""), 1 << 20);
    assert_eq!(bytes("1MB"), 1_000_000);
    assert_eq!(bytes("1.5 GiB"), 3 << 29);
    assert_eq!(bytes("1_000_000"), 1_000_000);
    assert_fault(&["sink.target_file_bytes=lots"], "expected a size from 64.0 KiB to 1.0 TiB");
    assert_fault(&["sink.target_file_bytes=-5"], "expected a size");
}

#[test]
fn compression_has_a_level_where_the_codec_has_one() {
    let codec = |text: &str| load(&[], &[&format!("sink.compression={text}")]).map(|config| config.sink.compression);
    assert_eq!(codec("zstd(3)").unwrap(), Compression::ZSTD(ZstdLevel::try_new(3).unwrap()));
    assert_eq!(codec("gzip(6)").unwrap(), Compression::GZIP(GzipLevel::try_new(6).unwrap()));
    assert_eq!(codec("lz4").unwrap(), Compression::LZ4_RAW);
    assert_eq!(codec("snappy").unwrap(), Compression::SNAPPY);
    assert_eq!(codec("none").unwrap(), Compression::UNCOMPRESSED);
    for wrong in ["zstd(0)", "zstd(23)", "gzip(10)", "snappy(1)", "zstd(", "brotli", ""] {
        assert!(codec(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn columns_are_read_with_types_paths_and_required() {
    let text = r#"
        [[schema.columns]]
        name = "time"
        type = "timestamp_ms"
        path = 'payload."unix.time"'
        required = true
        [[schema.columns]]
        name = "price"
        type = "decimal(12, 2)"
    "#;
    let columns = with_text(text, &[], &[]).unwrap().schema.columns;
    assert_eq!(columns[0].path, ["payload", "unix.time"]);
    assert!(columns[0].required && !columns[1].required);
    assert_eq!(columns[1].path, ["price"]);
    assert_eq!(columns[1].column_type, ColumnType::Decimal { precision: 12, scale: 2 });
}

#[test]
fn every_faulty_column_is_named_by_its_place() {
    let text = "[[schema.columns]]\nname = \"a\"\ntype = \"strng\"\n\n[[schema.columns]]\ntype = \"text\"\npth = \"x\"\n\n\
                [[schema.columns]]\nname = \"b\"\ntype = \"decimal(39, 0)\"\npath = \"a..b\"\n";
    let found = faults(with_text(text, &[], &[]));
    assert!(found.contains("`schema.columns[0].type` = \"strng\""), "{found}");
    assert!(found.contains("`schema.columns[1].name`: missing"), "{found}");
    assert!(found.contains("`schema.columns[1].pth`") && found.contains("did you mean `schema.columns.path`?"), "{found}");
    assert!(found.contains("`schema.columns[2].type` = \"decimal(39, 0)\""), "{found}");
    assert!(found.contains("`schema.columns[2].path` = \"a..b\""), "{found}");
}

#[test]
fn names_that_differ_by_case_alone_are_refused() {
    let columns = r#"[{name="a", type="text"}, {name="A", type="text"}]"#;
    assert_fault(&[&format!("schema.columns={columns}")], "`A` and `a` are the same name");
    assert_fault(&["sink.partition_by=[\"region\", \"Region\"]"], "`Region` and `region` are the same name");
}

#[test]
fn sorting_takes_an_order_and_column_names_with_spaces() {
    let config = load(&[], &["sink.sort_by=[\"ts desc\", \"unit price\", \"sku ASC\"]"]).unwrap();
    let sorted: Vec<_> = config.sink.sort_by.iter().map(|column| (column.name.as_str(), column.descending)).collect();
    assert_eq!(sorted, [("ts", true), ("unit price", false), ("sku", false)]);
    assert_fault(&["sink.sort_by=region"], "`region` is a partition column");
}

#[test]
fn an_empty_event_time_switches_it_off() {
    assert_eq!(load(&[], &["sink.event_time="]).unwrap().sink.event_time, None);
}

#[test]
fn a_fault_stays_on_its_line_whatever_is_in_the_key_or_the_name() {
    let text = "\"a\\nb\" = 1\n[sink]\nsort_by = [\"x\\ny\", \"x\\nY\"]\n[[schema.columns]]\nname = \"c\"\ntype = \"int\\n64\"\n";
    let found = faults(with_text(text, &[("PINTAIL_C__\n", "1")], &["e\tf.g=1"]));
    // The count, and five faults.
    assert_eq!(found.lines().count(), 6, "{found}");
    assert!(found.contains(r"`a\nb` (") && found.contains(r"`x\nY` and `x\ny`") && found.contains(r"unknown type `int\n64`"), "{found}");
    assert!(found.contains(r"environment variable PINTAIL_C__\n)") && found.contains(r"`e\tf` (--set)"), "{found}");
}

#[test]
fn sql_comes_from_one_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.sql");
    std::fs::write(&path, "SELECT 1 AS a FROM events\n").unwrap();
    let set = format!("transform.sql_file={}", path.display());
    assert_eq!(load(&[], &[&set]).unwrap().transform.sql, "SELECT 1 AS a FROM events\n");
    assert_fault(&[&set, "transform.sql=SELECT 2"], "given together with `transform.sql`");
    assert_fault(&["transform.sql_file=/no/such.sql"], "`transform.sql_file` = \"/no/such.sql\" (--set): cannot read it");
    assert_fault(&["transform.sql= "], "expected one SELECT over events");
}

#[test]
fn a_text_that_would_cost_the_engine_gigabytes_or_its_stack_is_refused_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.sql");
    let set = format!("transform.sql_file={}", path.display());
    let fault = |sql: &str, needle: &str| {
        std::fs::write(&path, sql).unwrap();
        assert_fault(&[&set], needle);
        assert_fault(
            &[&format!("transform.sql={sql}")],
            if needle.contains("more than 1048576") { "at most 1048576 are taken" } else { needle },
        );
    };
    fault(&format!("SELECT 1 AS a FROM events --{}", "x".repeat(1 << 20)), "cannot read it: it has more than 1048576 bytes");
    let nested = |depth: usize| format!("SELECT * FROM {}SELECT 1 AS a FROM events{}", "(".repeat(depth), ")".repeat(depth));
    fault(&nested(1_001), "more than 1000 parentheses inside each other");
    std::fs::write(&path, nested(1_000)).unwrap();
    load(&[], &[&set]).unwrap();
    load(&[], &[&format!("transform.sql=SELECT {} AS a FROM events", "(1) + ".repeat(5_000) + "(1)")]).unwrap();
    assert_fault(&["transform.sql_file=/dev/zero"], "`transform.sql_file` = \"/dev/zero\" (--set): cannot read it: it has more than");
}

#[test]
fn a_file_that_is_too_long_for_a_configuration_is_refused_without_being_read_to_its_end() {
    let found = faults(load_file(Some(Path::new("/dev/zero")), &[], &[]));
    assert!(found.contains("cannot read `/dev/zero`: it has more than 4194304 bytes"), "{found}");
}

#[test]
fn a_key_of_many_thousand_names_is_refused_and_no_stack_overflow() {
    let key = |separator: &str| vec!["a"; 50_000].join(separator);
    assert_fault(&[&format!("{}=1", key("."))], "a.…` (--set or environment): unknown key, of 50000 names inside each other");
    let found = faults(load(&[(&format!("PINTAIL_{}", key("__")), "1")], &[]));
    assert!(found.contains("unknown key, of 50000 names inside each other"), "{found}");
}

#[test]
fn twenty_thousand_columns_are_compared_with_each_other_in_no_time() {
    let columns = (0..20_000).map(|index| format!("{{name=\"c{index}\", type=\"text\"}}")).collect::<Vec<_>>().join(",");
    let begin = std::time::Instant::now();
    assert_eq!(load(&[], &[&format!("schema.columns=[{columns}]")]).unwrap().schema.columns.len(), 20_000);
    assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
}

#[test]
fn lookups_have_a_name_and_a_file() {
    let config = load(&[], &["transform.lookup=[{name=\"airlines\", path=\"a.csv\"}]"]).unwrap();
    assert_eq!(config.transform.lookups, [LookupConfig { name: "airlines".into(), path: "a.csv".into() }]);
    assert_fault(&["transform.lookup=[{name=\"EVENTS\", path=\"a.csv\"}]"], "is the name of the records");
    assert_fault(&["transform.lookup=[{name=\"a\"}]"], "`transform.lookup[0].path`: missing");
    assert_fault(&["transform.lookup=5"], "expected a list of tables, each under a line [[transform.lookup]]");
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    assert_fault(&["source.record_bytes_max=64MiB"], "`pipeline.batch_bytes_max`: smaller than `source.record_bytes_max`");
    assert_fault(&["sink.row_group_bytes=1GiB"], "`sink.row_group_bytes`: larger than `sink.buffer_bytes_max`");
}

/// What holds where the process may take one core and so many bytes.
fn in_container(memory: u64, sets: &[&str]) -> Config {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let mut report = Report::default();
    let raw = RawConfig::collect(None, std::iter::empty(), &sets).unwrap();
    let config = read(raw, KINDS, Limits { cores: 1, memory: Some(memory), descriptors: Descriptors::new(256) }, &mut report).unwrap();
    assert_eq!(report.faults, [""; 0]);
    config
}

/// The four sizes that keep to the memory: DuckDB's, the open files', a row group's, a batch's.
fn sizes_of(config: &Config) -> [u64; 4] {
    let Config { transform, sink, pipeline, .. } = config;
    [transform.memory_limit, sink.buffer_bytes_max as u64, sink.row_group_bytes as u64, pipeline.batch_bytes_max as u64]
}

const MIB: u64 = 1 << 20;

#[test]
fn a_memory_that_was_typed_bounds_the_sizes_that_were_not() {
    let of = |sets: &[&str]| {
        let config = in_container(1 << 40, sets);
        [config.pipeline.line_bytes_max, config.sink.buffer_bytes_max, config.sink.row_group_bytes, config.pipeline.batch_bytes_max]
            .map(|bytes| bytes as u64 / MIB)
    };
    assert_eq!(of(&["pipeline.memory_max=96MiB"]), [96, 32, 16, 4]);
    assert_eq!(of(&["pipeline.memory_max=96MiB", "sink.buffer_bytes_max=64MiB"]), [96, 64, 16, 4]);
    // Without it, what was typed elsewhere has room.
    assert_eq!(of(&["sink.buffer_bytes_max=2GiB"]), [4096, 2048, 64, 16]);
    assert_eq!(of(&["source.type=http", "source.bodies_bytes_max=512MiB"]), [512, 128, 64, 16]);
    assert_eq!(in_container(1024 * MIB, &[]).pipeline.line_bytes_max as u64, 384 * MIB);
    assert_fault(&["pipeline.memory_max=64MiB", "sink.buffer_bytes_max=65MiB"], "`pipeline.memory_max`: smaller than");
}

#[test]
fn what_is_open_keeps_to_the_descriptors_there_are() {
    let config = in_container(1024 * MIB, &["sink.open_files_max=1000", "source.type=http", "admin.listen=127.0.0.1:0"]);
    let http: &HttpConfig = config.source.settings().unwrap();
    assert_eq!((config.sink.open_files_max, http.connections_max, config.admin.connections_max), (64, 64, 16));
}

#[test]
fn sizes_that_were_not_given_keep_to_the_memory_of_the_container_and_threads_to_its_cores() {
    let config = in_container(512 * MIB, &[]);
    assert_eq!(sizes_of(&config), [128 * MIB, 64 * MIB, 32 * MIB, 8 * MIB]);
    assert_eq!((config.transform.threads, config.sink.threads), (2, 1));
    assert_eq!(sizes_of(&in_container(1024 * MIB, &[])), [256 * MIB, 128 * MIB, 64 * MIB, 16 * MIB]);
    assert_eq!(sizes_of(&in_container(1 << 40, &[])), [4_000_000_000, 128 * MIB, 64 * MIB, 16 * MIB]);
    // However little there is, a default is a value that may run.
    assert_eq!(sizes_of(&in_container(MIB, &[])), [64_000_000, MIB, MIB, MIB]);
}

#[test]
fn sizes_that_were_given_hold_whatever_the_container_has_and_the_others_fit_them() {
    let given =
        ["transform.memory_limit=2GB", "sink.buffer_bytes_max=1GiB", "sink.row_group_bytes=512MiB", "pipeline.batch_bytes_max=64MiB"];
    assert_eq!(sizes_of(&in_container(512 * MIB, &given)), [2_000_000_000, 1024 * MIB, 512 * MIB, 64 * MIB]);
    let config = in_container(128 * MIB, &["sink.row_group_bytes=100MiB", "source.record_bytes_max=10MiB"]);
    assert_eq!(sizes_of(&config)[1..], [100 * MIB, 100 * MIB, 10 * MIB]);
}

#[test]
fn the_hash_is_the_same_in_every_container() {
    assert_eq!(in_container(64 * MIB, &[]).sha256, load(&[], &[]).unwrap().sha256);
}

#[test]
fn a_misspelt_log_level_is_not_taken_for_a_target() {
    for (level, named) in
        [("inof", "`log.level`"), ("loud", "`log.level`"), ("info,loud", "`loud`"), ("pintail=dbug,info", "`pintail=dbug`")]
    {
        assert_fault(&[&format!("log.level=\"{level}\"")], named);
    }
    // Found by the fuzz target: the filter's parser counts the bytes of the trimmed text in the text.
    assert_fault(&["log.level=' a\u{e9}=info'"], "`log.level`");
    assert_eq!(load(&[], &["log.level=warn,pintail=debug"]).unwrap().log.level, "warn,pintail=debug");
}

#[test]
fn variables_that_others_set_for_a_service_named_pintail_are_left_alone() {
    load(&[("PINTAIL_SERVICE_HOST", "10.0.0.1"), ("PINTAIL_PORT_9464_TCP", "tcp://10.0.0.1:9464")], &[]).unwrap();
    let found = faults(load(&[("PINTAIL_SOURCE_LIMIT", "5")], &[]));
    assert!(found.contains("PINTAIL_SOURCE_LIMIT sets nothing, did you mean PINTAIL_SOURCE__LIMIT?"), "{found}");
    let found = faults(load(&[("PINTAIL_SOURCE__LIMTI", "5")], &[]));
    assert!(found.contains("did you mean `source.limit`?"), "{found}");
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_the_line() {
    let found = faults(with_text("[source]\nlimit = \n", &[], &[]));
    assert!(found.contains("pintail.toml:2: "), "{found}");
    let found = faults(load_file(Some(Path::new("/no/such.toml")), &[], &[]));
    assert!(found.contains("cannot read `/no/such.toml`"), "{found}");
}

#[test]
fn a_set_without_a_value_or_with_a_section_only_is_refused() {
    assert_fault(&["source.limit"], "expected key=value");
    assert_fault(&["=5"], "expected key=value");
    assert_fault(&["source=5"], "`source` = 5 (--set): expected a section with keys");
}

#[test]
fn the_hash_follows_the_meaning_not_the_spelling() {
    let hash = |sets: &[&str]| load(&[], sets).unwrap().sha256;
    assert_eq!(hash(&[]), hash(&["pipeline.checkpoint_interval=30000ms", "sink.target_file_bytes=268435456", "source.seed=42"]));
    assert_ne!(hash(&[]), hash(&["source.seed=43"]));
    assert_eq!(hash(&[]).len(), 64);
}

fn http(sets: &[&str]) -> Result<Config> {
    load(&[], &[&["source.type=http"], sets].concat())
}

#[test]
fn an_address_that_others_reach_wants_a_token_or_the_word_that_it_needs_none() {
    let open = "source.listen=0.0.0.0:8088";
    assert!(faults(http(&[open])).contains("`source.listen`: others than this machine reach that address"));
    http(&[open, "source.allow_without_token=true"]).unwrap();
    http(&[open, "source.token=0123456789abcdef"]).unwrap();
    http(&["source.listen=[::1]:8088"]).unwrap();
    assert!(faults(http(&["source.listen="])).contains("not an empty text"));
}

#[test]
fn two_tokens_are_good_at_once_and_no_fault_shows_one() {
    let tokens = |text: &str| match http(&[&format!("source.token={text}")]) {
        Ok(config) => Ok(config.source.settings::<HttpConfig>().unwrap().tokens.clone()),
        Err(error) => Err(error.to_string()),
    };
    let both = tokens("0123456789abcdef fedcba9876543210").unwrap();
    assert!(both[0].is(b"0123456789abcdef") && both[1].is(b"fedcba9876543210"));
    for wrong in ["hush-hush", "0123456789abcdef hush-hush", "0123456789abcdef 0123456789abcdef hush-hush-hush-hush"] {
        let fault = tokens(wrong).unwrap_err();
        assert!(fault.contains("`source.token`") && !fault.contains("hush") && !fault.contains("0123"), "{fault}");
    }
}

#[test]
fn limits_of_http_that_do_not_fit_each_other_are_faults() {
    let fault = faults(http(&["source.bodies_bytes_max=64MiB"]));
    assert!(fault.contains("`source.bodies_bytes_max`") && fault.contains("would never be taken"), "{fault}");
    let fault = faults(http(&["source.journal_bytes_max=500MiB"]));
    assert!(fault.contains("`source.journal_bytes_max`") && fault.contains("source.idempotency_keys_max"), "{fault}");
    assert!(faults(http(&["source.tls_key_file=key.pem"])).contains("without `source.tls_cert_file`"));
    assert!(faults(load(&[], &["source.body_timeout=1s"])).contains("a key of `source.type = \"http\"`"));
}

#[test]
fn a_broken_column_is_one_fault_and_a_schema_without_columns_another() {
    let found = faults(load(&[], &[r#"schema.columns=[{name="id",type="int46"}]"#]));
    assert!(found.contains("did you mean `int64`") && !found.contains("at least one column"), "{found}");
    assert_fault(&["schema.columns=[]"], "expected at least one column");
}

#[test]
fn records_that_are_avro_have_the_columns_of_their_schema_and_need_messages() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        format!("schema.from={}", dir.path().join(name).display())
    };
    let good =
        file("good.avsc", r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b","type":["null","string"]}]}"#);
    let nats = ["source.type=nats", "source.stream=S"];
    let with = |sets: &[&str]| faults(load(&[], &[&nats[..], sets].concat()));
    let config = load(&[], &[nats[0], nats[1], "schema.format=avro", &good]).unwrap();
    assert_eq!(config.schema.names(), ["a", "b"]);
    assert!(config.schema.columns.is_empty());
    let hash = |framing: &str| load(&[], &[nats[0], nats[1], "schema.format=avro", &good, framing]).unwrap().sha256;
    assert_ne!(hash("schema.framing=none"), hash("schema.framing=confluent"));

    let of_json = with(&[&good]);
    assert!(of_json.contains("`schema.from`") && of_json.contains("`schema.format` = \"avro\", and \"json\" is the default"), "{of_json}");
    assert!(with(&["schema.format=json", "schema.framing=none"]).contains("but the format is \"json\""));
    assert!(with(&["schema.format=avro"]).contains("`schema.from`: missing: the file of the Avro schema"));
    let both = with(&["schema.format=avro", &good, r#"schema.columns=[{name="a",type="int64"}]"#]);
    assert!(both.contains("`schema.columns`") && both.contains("leave these out, or set `schema.format` to \"json\""), "{both}");
    assert!(with(&["schema.format=avro", "schema.from=/nowhere.avsc"]).contains("cannot read it"));
    let bad = with(&["schema.format=avro", &file("bad.avsc", "\"int\"")]);
    assert!(bad.contains("a schema of type `int`: expected one of a record"), "{bad}");
    let lines = faults(load(&[], &["source.type=stdin", "schema.format=avro", &good]));
    assert!(lines.contains("the source `stdin` gives lines: take one of \"kafka\" and \"nats\", or the format \"json\""), "{lines}");
    let own = file("own.avsc", r#"{"type":"record","name":"R","fields":[{"name":"_KEY","type":"int"}]}"#);
    let kafka = faults(load(&[], &["source.type=kafka", "source.brokers=a:1", "source.topics=t", "schema.format=avro", &own]));
    assert!(kafka.contains("`schema.from`: `_KEY` is a column that the source `kafka` brings along"), "{kafka}");
}

#[test]
fn the_effective_settings_hold_the_text_of_an_avro_schema() {
    let dir = tempfile::tempdir().unwrap();
    let hash = |name: &str, field: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!(r#"{{"type":"record","name":"R","fields":[{{"name":"{field}","type":"int"}}]}}"#)).unwrap();
        let from = format!("schema.from={}", path.display());
        load(&[], &["source.type=nats", "source.stream=S", "schema.format=avro", &from]).unwrap().sha256
    };
    assert_ne!(hash("a.avsc", "a"), hash("a.avsc", "b"));
}
