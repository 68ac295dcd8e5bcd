//! The figures against the commit records, and against each other at every moment.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::http::{Answer, get};

/// SQL that filters, multiplies and fails.
const SQL: &str = "SELECT epoch_ms(timestamp) AS ts, user_id, region, amount, sku, 'b' AS bucket FROM events, \
                   unnest(CASE WHEN user_id % 3 = 0 THEN [1, 2] WHEN user_id % 3 = 1 THEN [1] ELSE [] END)";

fn letters(scrape: &Answer) -> [f64; 3] {
    ["decode", "sql", "sink"].map(|phase| scrape.metric(&format!("pintail_dead_letters_total{{phase=\"{phase}\"}}")))
}

fn checkpoints(scrape: &Answer) -> f64 {
    ["interval", "end", "shutdown"]
        .iter()
        .map(|trigger| scrape.metric(&format!("pintail_checkpoints_total{{trigger=\"{trigger}\"}}")))
        .sum()
}

/// Asserts the identity of the commit record on the counters of one scrape.
fn assert_balance(scrape: &Answer) {
    let of = |name| scrape.metric(name);
    let gone = of("pintail_rows_out_total") + of("pintail_filtered_total") + letters(scrape).iter().sum::<f64>();
    assert_eq!(of("pintail_records_in_total") + of("pintail_expanded_total"), gone, "{}", scrape.body);
}

#[test]
fn the_counters_balance_in_every_scrape_under_load_and_agree_with_the_records_at_the_end() {
    let dataset = Dataset::new();
    let mut process = dataset.watched().set("source.rate", 0).set("transform.sql", SQL).set("pipeline.checkpoint_interval", "30ms").spawn();
    let address = process.admin();
    process.wait_for_commits(2);
    let (mut scrapes, mut moved, mut last) = (0, 0, 0.0);
    while moved < 20 {
        let scrape = get(address, "/metrics");
        assert_balance(&scrape);
        let records = scrape.metric("pintail_records_in_total");
        assert!(records >= last, "a counter never falls: {last} → {records}");
        moved += u32::from(records > last);
        last = records;
        scrapes += 1;
    }
    println!("{scrapes} scrapes, each of which balances");

    // What a stop commits is seen too: hold the source still first, then compare.
    process.signal(Signal::TERM);
    let mut scrape = None;
    while let Some(answer) = try_get(address) {
        assert_balance(&answer);
        scrape = Some(answer);
    }
    process.wait().assert_code(0);
    let counts = dataset.counts();
    assert!(counts.expanded > 0 && counts.filtered > 0, "{counts:?}");
    // The last answer came from before the last commit or from after it.
    let seen = scrape.map_or(last, |scrape| scrape.metric("pintail_records_in_total"));
    assert!(seen <= counts.records_in as f64 && seen >= last);
    dataset.assert_clean();
}

fn try_get(address: std::net::SocketAddr) -> Option<Answer> {
    std::net::TcpStream::connect(address).ok()?;
    std::panic::catch_unwind(|| get(address, "/metrics")).ok()
}

#[test]
fn after_the_last_record_of_a_quiet_source_the_metrics_are_those_of_the_records() {
    let dataset = Dataset::new();
    let good = crate::common::lines::lines(0..5_000);
    dataset.append("events.ndjson", format!("{good}no json\n{{\"id\":\"x\"}}\n"));
    let mut process = dataset.follow("events.ndjson").set("admin.listen", "127.0.0.1:0").spawn();
    let address = process.admin();
    process.wait_until("all records", |dataset| dataset.counts().records_in == 5_002);
    // The record is there a moment before it is counted.
    crate::common::wait_until("the count", || get(address, "/metrics").metric("pintail_records_in_total") == 5_002.0);
    let scrape = get(address, "/metrics");
    let (counts, commits) = (dataset.counts(), dataset.commits());
    assert_balance(&scrape);
    assert_eq!(scrape.metric("pintail_rows_out_total"), counts.rows_out as f64);
    assert_eq!(letters(&scrape), [counts.decode, counts.sql, counts.sink].map(|count| count as f64));
    assert_eq!(counts.decode, 2);
    assert_eq!(checkpoints(&scrape), commits.len() as f64);
    assert_eq!(scrape.metric("pintail_checkpoint_duration_seconds_count"), commits.len() as f64);
    assert_eq!(scrape.metric("pintail_checkpoint_sequence"), commits.last().unwrap().seq as f64);
    assert_eq!(scrape.metric("pintail_files_total"), dataset.data_files().len() as f64);
    let bytes: u64 = dataset.data_files().iter().map(|file| dataset.out().join(file).metadata().unwrap().len()).sum();
    assert_eq!(scrape.metric("pintail_written_bytes_total"), bytes as f64);
    for zero in
        ["pintail_open_records", "pintail_open_dead_letters", "pintail_open_oldest_seconds", "pintail_lag_bytes", "pintail_disk_full"]
    {
        assert_eq!(scrape.metric(zero), 0.0, "{zero}");
    }
    assert_eq!((scrape.metric("pintail_ready"), scrape.metric("pintail_alive")), (1.0, 1.0));
    assert_eq!(scrape.metric("pintail_stage_records_total{stage=\"writer\"}"), 5_002.0);
    assert!(scrape.metric("pintail_stage_busy_seconds_total{stage=\"writer\"}") > 0.0);
    assert_eq!(scrape.metric("pintail_channel_capacity_messages{from=\"batcher\",to=\"transformer\"}"), 2.0);
    assert!(scrape.metric("process_resident_memory_bytes") > 10e6);
    assert_eq!(scrape.try_metric("pintail_lag_records"), None, "of files, bytes are known and records are not");
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn a_stream_that_waits_for_its_checkpoint_shows_what_is_open_and_since_when() {
    let dataset = Dataset::new();
    let mut process = dataset.watched().set("pipeline.checkpoint_interval", "1h").spawn();
    let address = process.admin();
    let open = || get(address, "/metrics").try_metric("pintail_open_records").unwrap_or(0.0);
    crate::common::wait_until("open records", || open() > 0.0);
    thread::sleep(Duration::from_millis(300));
    let scrape = get(address, "/metrics");
    let age = scrape.metric("pintail_open_oldest_seconds");
    assert!((0.3..30.0).contains(&age), "{age} s");
    assert_eq!((scrape.metric("pintail_records_in_total"), checkpoints(&scrape)), (0.0, 0.0));
    process.stop(Signal::TERM).assert_code(0);
}

/// What Prometheus' own linter would find first; `tests/page/dashboard.py` asks the linter.
#[test]
fn the_metrics_keep_to_the_conventions_of_prometheus() {
    let dataset = Dataset::new();
    let mut process = dataset.watched().spawn();
    let address = process.admin();
    process.wait_for_commits(1);
    let scrape = get(address, "/metrics");
    process.stop(Signal::TERM).assert_code(0);
    let types: Vec<(&str, &str)> = scrape.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert!(types.len() >= 24, "{} metrics", types.len());
    for (name, kind) in types {
        assert!(scrape.body.contains(&format!("# HELP {name} ")), "{name} has no help");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
    }
}
