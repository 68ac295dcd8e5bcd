//! Status: the service at one moment, as JSON.
//!
//! Owns: the shape of `/api/status`, `/api/checkpoints` and `/api/history`. A figure that is unknown is null.
//! Does not own: the figures.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use pintail_core::limits;
use pintail_core::reasons::Group;
use pintail_core::totals::Total;
use serde_json::{Value, json};

use super::Shared;
use super::sampler::{HISTORY_INTERVAL, lag};
use crate::meters::ledger::{Before, Checkpoint, Ledger, Sums};
use crate::meters::{Groups, Verified};

/// Hive partitions that are listed, those with the most rows.
const PARTITIONS_SHOWN: usize = 100;
/// Reasons that are listed, the most frequent.
const REASONS_SHOWN: usize = 50;

/// Returns the whole status.
pub(super) fn status(shared: &Shared) -> Value {
    let (meters, facts, config) = (&shared.meters, &shared.facts, &shared.config);
    let state = shared.health.state();
    let not_ready = shared.health.not_ready();
    let linked = meters.linked();
    let (rates, duckdb_memory) = {
        let sampler = shared.sampler();
        (sampler.rates(meters), sampler.duckdb_memory)
    };
    let (lag_records, lag_bytes) = lag(meters);
    let stages = meters.stages().into_iter().enumerate().map(|(place, stage)| {
        json!({ "name": stage.name, "busy": rates.busy[place].map(rounded), "records_per_second": rounded(rates.records[place]),
                "records": stage.records(), "workers": stage.workers() })
    });
    let channels = meters.channels().into_iter().enumerate().map(|(place, channel)| {
        json!({ "from": channel.from, "to": channel.to, "length": channel.length(), "capacity": channel.capacity(),
                "blocked": rounded(rates.blocked[place]) })
    });
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "dataset_id": linked.map(|linked| &linked.dataset_id),
        "out_path": facts.paths.root().display().to_string(),
        "source": facts.source,
        "partition_by": linked.map_or(&[][..], |linked| linked.partition_by.as_slice()),
        "state": state.name(),
        "ready": not_ready.is_empty(),
        "not_ready": not_ready,
        "alive": shared.health.dead().is_empty(),
        "waiting_inputs": waiting(shared),
        "started_at": time(meters.started_at),
        "now": time(Utc::now()),
        "records_per_second": rounded(rates.records[3]),
        "lag_records": lag_records,
        "lag_bytes": lag_bytes,
        "stages": stages.collect::<Vec<_>>(),
        "channels": channels.collect::<Vec<_>>(),
        "group_by": facts.monitor.group_by,
        "value": facts.monitor.value,
        "memory_bytes": limits::process_bytes("self", "VmRSS"),
        "duckdb_memory_bytes": duckdb_memory,
        "query": { "enabled": config.query, "token": config.query_token.is_some(), "rows_max": config.query_rows_max,
                   "timeout_seconds": config.query_timeout.as_secs_f64() },
    });
    let rest = [committed(&meters.ledger(), facts.checkpoint_interval), groups(&meters.groups())];
    let all = status.as_object_mut().expect("made as an object");
    rest.into_iter().for_each(|part| all.extend(part.as_object().cloned().unwrap_or_default()));
    status
}

/// What the ledger holds. Made under its lock: all of one moment.
fn committed(ledger: &Ledger, interval: Duration) -> Value {
    let sums = ledger.sums();
    let count = |of: fn(&Sums) -> u64| sums.as_ref().map(of);
    let now = Instant::now();
    let newest = ledger.checkpoints.front();
    let since = ledger.last_at.map(|at| now.saturating_duration_since(at).as_secs_f64());
    let since = since.or_else(|| newest.and_then(|newest| (Utc::now() - newest.at).to_std().ok()).map(|since| since.as_secs_f64()));
    let mut partitions: Vec<_> = ledger.partitions.iter().collect();
    partitions.sort_by_key(|(_, partition)| Reverse(partition.rows));
    let more = partitions.len().saturating_sub(PARTITIONS_SHOWN);
    let partitions = partitions.into_iter().take(PARTITIONS_SHOWN).map(|(name, partition)| {
        let name = if name.is_empty() { "." } else { name };
        json!({ "partition": name, "rows": partition.rows, "bytes": partition.bytes, "files": partition.files })
    });
    json!({
        "records_in": count(|sums| sums.counts.records_in),
        "rows_out": count(|sums| sums.counts.rows_out),
        "filtered": count(|sums| sums.counts.filtered),
        "expanded": count(|sums| sums.counts.expanded),
        "dead_letters": {
            "decode": count(|sums| sums.counts.dead_letters.decode),
            "sql": count(|sums| sums.counts.dead_letters.sql),
            "sink": count(|sums| sums.counts.dead_letters.sink),
        },
        "files": count(|sums| sums.files),
        "bytes": count(|sums| sums.bytes),
        // Whether the figures since the dataset began are known.
        "history_read": match ledger.before {
            Before::Read(_) => json!(true),
            Before::Unread => json!(false),
            Before::Failed => Value::Null,
        },
        "open": {
            "records_in": ledger.open.records_in,
            "dead_letters": ledger.open.dead_letters.total(),
            "oldest_seconds": ledger.oldest().map(|at| rounded(now.saturating_duration_since(at).as_secs_f64())),
        },
        "checkpoint": {
            "sequence": newest.map(|newest| newest.sequence),
            "interval_seconds": interval.as_secs_f64(),
            "seconds_since": since.map(rounded),
        },
        "partitions": partitions.collect::<Vec<_>>(),
        "partitions_more": more,
        "dead_letter_reasons": ledger.reasons.most_frequent().into_iter().take(REASONS_SHOWN).map(reason).collect::<Vec<_>>(),
    })
}

fn reason((phase, reason, group): (pintail_core::batch::Phase, &str, &Group)) -> Value {
    let samples = group.samples.iter().map(|sample| json!({ "position": sample.place, "text": sample.text }));
    json!({ "phase": phase, "reason": reason, "count": group.records, "samples": samples.collect::<Vec<_>>() })
}

/// Rows by group, of this process: `rows` and `mean` of committed and open ones together. A null group has a null name.
fn groups(groups: &Groups) -> Value {
    let mut all = groups.committed.clone();
    all.merge(&groups.open, usize::MAX);
    let open_rows = |name| groups.open.groups().find(|(group, _)| *group == name).map_or(0, |(_, total)| total.rows);
    let row = |name: Option<&str>, total: &Total, open_rows: u64| json!({ "name": name, "rows": total.rows, "mean": total.mean(), "open_rows": open_rows });
    let named = all.groups().map(|(name, total)| row(name, total, open_rows(name)));
    let others = (all.others().rows > 0).then(|| row(None, all.others(), groups.open.others().rows));
    json!({ "groups": named.collect::<Vec<_>>(), "groups_others": others })
}

/// Returns the newest checkpoints, newest first.
pub(super) fn checkpoints(shared: &Shared, limit: usize) -> Value {
    let row = |checkpoint: &Checkpoint| {
        let counts = &checkpoint.counts;
        json!({
            "sequence": checkpoint.sequence,
            "trigger": checkpoint.trigger,
            "at": time(checkpoint.at),
            "files": checkpoint.files,
            "rows": counts.rows_out,
            "records_in": counts.records_in,
            "filtered": counts.filtered,
            "expanded": counts.expanded,
            "dead_letters": counts.dead_letters.total(),
            "bytes": checkpoint.bytes,
            "duration_ms": checkpoint.took.map(|took| took.as_millis() as u64),
        })
    };
    shared.meters.ledger().checkpoints.iter().take(limit).map(row).collect()
}

/// Returns the last 15 minutes, oldest first.
pub(super) fn history(shared: &Shared) -> Value {
    let sampler = shared.sampler();
    let samples = sampler.history.iter().map(|point| {
        json!({
            "at": time(point.at),
            "records_per_second": rounded(point.records_per_second),
            "lag_records": point.lag_records,
            "lag_bytes": point.lag_bytes,
            "open_oldest_seconds": point.open_oldest.map(|age| rounded(age.as_secs_f64())),
        })
    });
    json!({ "interval_seconds": HISTORY_INTERVAL.as_secs(), "samples": samples.collect::<Vec<_>>() })
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Digits beyond the third say nothing of a load that changes each second.
fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

/// Returns what the look at the dataset found that was taken at the start. A dataset that contradicts its records is still written to: what is
/// missing is for a person to restore, and the stream goes on meanwhile.
pub(super) fn verified(shared: &Shared) -> Value {
    match shared.meters.verified() {
        Verified::Pending => json!({ "state": "pending" }),
        Verified::Sound { at, files } => json!({ "state": "sound", "at": at.to_rfc3339(), "files": files }),
        Verified::Contradicted { at, contradictions, first } => {
            json!({ "state": "contradicted", "at": at.to_rfc3339(), "contradictions": contradictions, "first": first })
        }
        Verified::Failed(why) => json!({ "state": "failed", "why": why }),
    }
}

/// Returns which inputs of the source cannot be read; null of a source without several. The others go on, so the service is ready all the same.
pub(super) fn waiting(shared: &Shared) -> Value {
    let Some(waiting) = shared.meters.waiting() else { return Value::Null };
    let named = waiting.named.iter().map(|input| json!({ "path": input.path, "why": input.why, "since": input.since.to_rfc3339() }));
    json!({ "count": waiting.count, "first": named.collect::<Vec<_>>() })
}
