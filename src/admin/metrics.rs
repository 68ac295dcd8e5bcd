//! Metrics: the figures in Prometheus' text format.
//!
//! Owns: names, help texts and labels. All counts of committed records are of one moment, between two commits.
//! Does not own: the figures; rates and shares, which Prometheus computes itself.
//!
//! Counters begin at 0 with the process, as Prometheus expects of them; `/api/status` has the sums since the dataset began.

#[cfg(feature = "bucket")]
use std::collections::{BTreeMap, HashMap};

#[cfg(feature = "bucket")]
use pintail_bucket::{BUCKETS_SECONDS, Counted, Traffic};
use pintail_core::limits;
use pintail_sources::meters::{Figure, Reading};
use prometheus::core::Collector;
#[cfg(feature = "bucket")]
use prometheus::core::Desc;
#[cfg(feature = "bucket")]
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{CounterVec, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use super::Shared;
use super::sampler::lag;
use crate::meters::Verified;
use crate::meters::ledger::TRIGGERS;

type Result<T = ()> = prometheus::Result<T>;

/// A registry that lives for one answer: its values do not change while they are written.
struct Answer(Registry);

impl Answer {
    fn add(&self, metric: impl Collector + 'static) -> Result {
        self.0.register(Box::new(metric))
    }

    fn counter(&self, name: &str, help: &str, value: u64) -> Result {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        self.add(counter)
    }

    fn counters(&self, name: &str, help: &str, label: &str, values: impl IntoIterator<Item = (String, u64)>) -> Result {
        let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
        values.into_iter().for_each(|(of, value)| counters.with_label_values(&[of]).inc_by(value));
        self.add(counters)
    }

    fn gauge(&self, name: &str, help: &str, value: u64) -> Result {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        self.add(gauge)
    }

    fn real(&self, name: &str, help: &str, value: f64) -> Result {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        self.add(gauge)
    }

    /// A figure that is unknown is left out.
    fn known(&self, name: &str, help: &str, value: Option<u64>) -> Result {
        value.map_or(Ok(()), |value| self.gauge(name, help, value))
    }
}

/// Returns all metrics as text.
pub(super) fn text(shared: &Shared) -> Result<String> {
    let answer = Answer(Registry::new());
    committed(&answer, shared)?;
    line(&answer, shared)?;
    source(&answer, shared)?;
    #[cfg(feature = "bucket")]
    if let Some(traffic) = shared.meters.traffic() {
        bucket(&answer, &traffic)?;
    }
    process(&answer, shared)?;
    TextEncoder::new().encode_to_string(&answer.0.gather())
}

/// What is committed, and what is open.
fn committed(answer: &Answer, shared: &Shared) -> Result {
    let (sums, open, oldest, sequence) = {
        let ledger = shared.meters.ledger();
        (ledger.process, ledger.open, ledger.oldest(), ledger.checkpoints.front().map(|newest| newest.sequence))
    };
    let counts = sums.counts;
    let since = "committed since the process began";
    answer.counter("pintail_records_in_total", &format!("Records read and {since}."), counts.records_in)?;
    answer.counter("pintail_rows_out_total", &format!("Rows written and {since}."), counts.rows_out)?;
    answer.counter("pintail_filtered_total", &format!("Records that the SQL took away, {since}."), counts.filtered)?;
    answer.counter("pintail_expanded_total", &format!("Rows that the SQL added, {since}."), counts.expanded)?;
    let letters = counts.dead_letters;
    let letters = [("decode", letters.decode), ("sql", letters.sql), ("sink", letters.sink)];
    let letters = letters.map(|(phase, count)| (phase.to_owned(), count));
    answer.counters("pintail_dead_letters_total", &format!("Records rejected, by phase, {since}."), "phase", letters)?;
    answer.counter("pintail_files_total", &format!("Data files {since}."), sums.files)?;
    answer.counter("pintail_written_bytes_total", &format!("Bytes of data files {since}."), sums.bytes)?;
    let checkpoints = TRIGGERS.iter().zip(sums.checkpoints).map(|(trigger, count)| (trigger.to_string(), count));
    answer.counters("pintail_checkpoints_total", &format!("Checkpoints by trigger, {since}."), "trigger", checkpoints)?;
    answer.known("pintail_checkpoint_sequence", "Sequence number of the last checkpoint of the dataset.", sequence)?;
    answer.gauge("pintail_open_records", "Records that the writer holds and that are not committed.", open.records_in)?;
    answer.gauge("pintail_open_dead_letters", "Rejected records that are not committed.", open.dead_letters.total())?;
    let age = oldest.map_or(0.0, |at| at.elapsed().as_secs_f64());
    answer.real("pintail_open_oldest_seconds", "Time since the oldest record was read that is not committed; 0 if there is none.", age)?;
    // Unknown until the look that is taken at the start has ended.
    let contradictions = match shared.meters.verified() {
        Verified::Sound { .. } => Some(0),
        Verified::Contradicted { contradictions, .. } => Some(contradictions),
        Verified::Pending | Verified::Failed(_) => None,
    };
    let help = "Committed files that were missing or of another length at the start, and other contradictions.";
    answer.known("pintail_verify_contradictions", help, contradictions)?;
    answer.add(shared.meters.checkpoint_seconds.clone())
}

/// The line: stages, channels, source, disk.
fn line(answer: &Answer, shared: &Shared) -> Result {
    let meters = &shared.meters;
    let stages = meters.stages().map(|stage| (stage.name.to_owned(), stage.records()));
    answer.counters("pintail_stage_records_total", "Records that came through a stage, committed or not.", "stage", stages)?;
    let work = CounterVec::new(
        Opts::new("pintail_stage_busy_seconds_total", "Time that a stage worked: of the transformer, the sum over its workers."),
        &["stage"],
    )?;
    let reading = meters.linked().and_then(|linked| linked.source.reading.as_ref()).map(|clock| clock.read().total.as_secs_f64());
    for stage in meters.stages() {
        let busy = stage.work.read().total.as_secs_f64();
        work.with_label_values(&[stage.name]).inc_by(busy);
        answer.add(stage.seconds.clone())?;
    }
    // Of a pipe, reading cannot be told from waiting.
    if let Some(reading) = reading {
        work.with_label_values(&["source"]).inc_by(reading);
    }
    answer.add(work)?;
    let blocked = CounterVec::new(
        Opts::new("pintail_channel_blocked_seconds_total", "Time that a stage stood before the full channel to the next."),
        &["from", "to"],
    )?;
    let length = GaugeVec::new(Opts::new("pintail_channel_messages", "Messages that wait in a channel."), &["from", "to"])?;
    let capacity = GaugeVec::new(Opts::new("pintail_channel_capacity_messages", "Messages that a channel has room for."), &["from", "to"])?;
    for channel in meters.channels() {
        let labels = [channel.from, channel.to];
        blocked.with_label_values(&labels).inc_by(channel.blocked.read().total.as_secs_f64());
        length.with_label_values(&labels).set(channel.length() as f64);
        capacity.with_label_values(&labels).set(channel.capacity().unwrap_or(0) as f64);
    }
    answer.add(blocked)?;
    answer.add(length)?;
    answer.add(capacity)?;
    let (lag_records, lag_bytes) = lag(meters);
    answer.known("pintail_lag_records", "Records that the source holds beyond what was read, if it knows.", lag_records)?;
    answer.known("pintail_lag_bytes", "Bytes that the source holds beyond what was read, if it knows.", lag_bytes)?;
    let help = "Files and directories of the source that cannot be read now: each waits, the others go on.";
    answer.known("pintail_source_files_waiting", help, meters.waiting().map(|waiting| waiting.count as u64))?;
    answer.gauge("pintail_memory_held_bytes", "Batches on their way and open Parquet files.", meters.memory.held() as u64)?;
    if let Some(bytes_max) = meters.memory.bytes_max() {
        answer.gauge("pintail_memory_max_bytes", "What the line may hold; past it, reading waits.", bytes_max as u64)?;
    }
    answer.gauge("pintail_disk_full", "1 while writing waits for room on the disk.", meters.disk.full().into())?;
    answer.gauge("pintail_paused", "1 while records are held back because too many are rejected.", meters.held().is_some().into())?;
    answer.gauge("pintail_ready", "1 while /readyz says 200.", shared.health.not_ready().is_empty().into())?;
    answer.gauge("pintail_alive", "1 while /healthz says 200.", shared.health.dead().is_empty().into())
}

/// What only sources of this kind have.
fn source(answer: &Answer, shared: &Shared) -> Result {
    let figures = shared.meters.linked().into_iter().flat_map(|linked| &linked.source.figures);
    figures.into_iter().try_for_each(|Figure { name, help, reading }| match reading {
        Reading::Counter(read) => answer.counter(name, help, read()),
        Reading::Counters(label, read) => answer.counters(name, help, label, read()),
        Reading::Gauge(read) => answer.gauge(name, help, read()),
    })
}

/// Requests to the bucket. Kinds and classes of answers are few, whatever a server answers.
#[cfg(feature = "bucket")]
fn bucket(answer: &Answer, traffic: &Traffic) -> Result {
    let help = "Requests to the bucket of the dataset, by kind and class of the answer's status; `none` if no answer came.";
    let requests = IntCounterVec::new(Opts::new("pintail_bucket_requests_total", help), &["kind", "status"])?;
    for counted in &traffic.counted {
        let status = match counted.status.map(|status| status / 100) {
            Some(class @ 1..=5) => format!("{class}xx"),
            Some(_) => "other".to_owned(),
            None => "none".to_owned(),
        };
        requests.with_label_values(&[counted.kind.to_string(), status]).inc_by(counted.requests);
    }
    answer.add(requests)?;
    let help = "Time until a request to the bucket was answered, or was not, by kind.";
    answer.add(Latencies::new("pintail_bucket_request_duration_seconds", help, &traffic.counted)?)?;
    let help = "Answers of the bucket that leave open whether a request was done, or put it off: it is sent again.";
    answer.counter("pintail_bucket_retries_total", help, traffic.inconclusive)?;
    let help = "Bytes of the bodies of requests to the bucket, also of those that came to nothing.";
    answer.counter("pintail_bucket_sent_bytes_total", help, traffic.sent_bytes)?;
    answer.counter("pintail_bucket_received_bytes_total", "Bytes of objects that were read from the bucket.", traffic.received_bytes)
}

/// Histograms of latencies that were counted elsewhere.
#[cfg(feature = "bucket")]
struct Latencies {
    desc: Desc,
    family: MetricFamily,
}

#[cfg(feature = "bucket")]
impl Latencies {
    fn new(name: &str, help: &str, counted: &[Counted]) -> Result<Self> {
        let mut by_kind: BTreeMap<String, (u64, f64, Vec<u64>)> = BTreeMap::new();
        for counted in counted {
            let (requests, seconds, within) = by_kind.entry(counted.kind.to_string()).or_default();
            (*requests, *seconds) = (*requests + counted.requests, *seconds + counted.seconds);
            within.resize(counted.within.len(), 0);
            within.iter_mut().zip(counted.within).for_each(|(sum, within)| *sum += within);
        }
        let metrics = by_kind.into_iter().map(|(kind, (requests, seconds, within))| {
            let mut histogram = Histogram::default();
            histogram.set_sample_count(requests);
            histogram.set_sample_sum(seconds);
            let mut up_to = 0;
            let buckets = BUCKETS_SECONDS.iter().zip(within).map(|(end, within)| {
                up_to += within;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*end);
                bucket.set_cumulative_count(up_to);
                bucket
            });
            histogram.set_bucket(buckets.collect());
            let (mut label, mut metric) = (LabelPair::default(), Metric::default());
            label.set_name("kind".to_owned());
            label.set_value(kind);
            metric.set_label(vec![label]);
            metric.set_histogram(histogram);
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(name.into());
        family.set_help(help.into());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(metrics.collect());
        Ok(Self { desc: Desc::new(name.into(), help.into(), vec!["kind".into()], HashMap::new())?, family })
    }
}

#[cfg(feature = "bucket")]
impl Collector for Latencies {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        vec![self.family.clone()]
    }
}

/// The process.
fn process(answer: &Answer, shared: &Shared) -> Result {
    let duckdb = shared.sampler().duckdb_memory;
    answer.known("pintail_duckdb_memory_bytes", "Memory that DuckDB has given out, lookup tables included; some seconds old.", duckdb)?;
    answer.known("process_resident_memory_bytes", "Resident memory size in bytes.", limits::process_bytes("self", "VmRSS"))?;
    let dropped = shared.meters.log_dropped();
    answer.counter("pintail_log_lines_dropped_total", "Log lines that were lost because nobody took them.", dropped)?;
    let started = shared.meters.started_at.timestamp_millis() as f64 / 1000.0;
    answer.real("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", started)?;
    let build = IntGauge::with_opts(
        Opts::new("pintail_build_info", "1, with the version as a label.").const_label("version", env!("CARGO_PKG_VERSION")),
    )?;
    build.set(1);
    answer.add(build)
}
