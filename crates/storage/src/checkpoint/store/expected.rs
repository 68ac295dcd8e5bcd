//! Expected: what a configuration asks of a dataset, and what an operator allows at a start.
//!
//! Owns: the questions, and how long is remembered what a start may have to recognize.
//! Does not own: the answers (see [`super::open`]).

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, TimeDelta, Utc};
use pintail_core::evidence::Key;
use pintail_core::identity::SourceIdentity;
use pintail_core::offsets::{PartitionId, Remembered};

use crate::checkpoint::process::Process;
use crate::checkpoint::record::Action;

/// What the configuration asks of the dataset.
#[derive(Clone)]
pub struct Expected<'a> {
    /// Identifies the source, given the time that the dataset was made.
    pub source: &'a dyn Fn(DateTime<Utc>) -> SourceIdentity,
    /// The partition columns and their types, outermost first.
    pub partition_by: Vec<(String, String)>,
    /// The columns of the SQL's output, with the partition columns; `None` takes what the dataset stores as it is, whatever `partition_by` says.
    pub schema: Option<SchemaRef>,
    /// Whether nullable columns may join the dataset.
    pub allow_new_columns: bool,
    /// The time to record.
    pub now: DateTime<Utc>,
    /// The key of the dataset if it is made now, or has none yet.
    pub new_key: Key,
    /// Who opens it.
    pub process: Process,
    /// What the operator asked of this start, to be recorded with it.
    pub action: Option<Action>,
    /// What the operator asked it to take as it is.
    pub allow: Allow,
    /// How long vanished partitions are remembered.
    pub remember: Remember,
    /// Records between two snapshots, at most [`RECORDS_MAX`](crate::checkpoint::snapshot::RECORDS_MAX).
    pub records_max: u64,
    /// How many instances share the dataset, and which source partitions are whose.
    pub sharing: Sharing<'a>,
}

/// What a start takes as it is, because an operator asked for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allow {
    /// Visible files that no record names: `pintail adopt` names them.
    pub strangers: bool,
    /// Another key than the evidence was made with: `pintail repair --key` gives the evidence up.
    pub another_key: bool,
    /// That files are gone whose rows are all older than this time: `pintail expire` declares it.
    pub gone_before: Option<DateTime<Utc>>,
}

/// How long vanished partitions are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remember {
    /// Longest time.
    pub longest: TimeDelta,
    /// Most of them.
    pub most: usize,
}

impl Default for Remember {
    fn default() -> Self {
        Self { longest: TimeDelta::days(90), most: 1_000_000 }
    }
}

impl Remember {
    /// Returns before which time, in seconds since 1970, a fingerprint must have been taken to be forgotten now; `None` if all stay.
    pub(super) fn forget_before(&self, remembered: &Remembered, now: DateTime<Utc>) -> Option<u32> {
        let oldest = remembered.values().map(|fingerprint| fingerprint.at).min()?;
        let longest_ago = now.checked_sub_signed(self.longest).map_or(0, |time| u32::try_from(time.timestamp()).unwrap_or(0));
        let too_many = remembered.len().saturating_sub(self.most);
        let mut before = longest_ago;
        if too_many > 0 {
            let mut times: Vec<u32> = remembered.values().map(|fingerprint| fingerprint.at).collect();
            let (_, newest_to_go, _) = times.select_nth_unstable(too_many - 1);
            before = before.max(newest_to_go.saturating_add(1));
        }
        (oldest < before).then_some(before)
    }
}

/// How instances share the source partitions of a dataset.
#[derive(Clone, Copy)]
pub struct Sharing<'a> {
    /// How many they are.
    pub instances: u32,
    /// Returns whether a source partition is that of instance `index` of `count`.
    pub owns: &'a dyn Fn(u32, u32, &PartitionId) -> bool,
}

impl Sharing<'_> {
    /// Returns that of a dataset with one instance.
    pub fn alone() -> Self {
        Self { instances: 1, owns: &|_, _, _| true }
    }
}
