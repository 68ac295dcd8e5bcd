//! Made-up records and datasets, for tests of those who read them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chrono::{DateTime, Utc};
use pintail_core::batch::{Counts, DeadLetterCounts, Trigger};
use pintail_core::error::Result;
use pintail_core::evidence::{Key, Mark};
use pintail_core::identity::SourceIdentity;
use pintail_core::offsets::{OffsetRange, Offsets, Partition, PartitionId};

use crate::checkpoint::process::Process;
use crate::checkpoint::record::{CommitRecord, FileKind, PartitionSpan, SourceRange, VERSION};
use crate::checkpoint::snapshot;
use crate::checkpoint::store::{Allow, Draft, Expected, NewFile, Remember, Sharing, Store};
use crate::durable::posix::Posix;

/// A checkpoint in which nothing happened.
pub fn checkpoint(sequence: u64) -> CommitRecord {
    CommitRecord {
        version: VERSION,
        sequence,
        generation: 0,
        previous: "a".repeat(64),
        epoch: 1,
        snapshot: None,
        state_sha256: Some("b".repeat(64)),
        key: Some(Mark([7; 16])),
        opened: None,
        action: None,
        rewrite: None,
        source: SourceRange { kind: "file".into(), partitions: vec![], notes: vec![], forget_before: None },
        counts: Counts::default(),
        files: vec![],
        schema: vec![],
        schema_version: 1,
        trigger: Some(Trigger::Interval),
        config_sha256: "d".repeat(64),
        sql_sha256: "e".repeat(64),
        lookups: vec![],
        time: DateTime::from_timestamp(1_767_225_600, 5_000).expect("samples are sound"),
        pintail: "0.2.0".into(),
    }
}

/// A span of a partition.
pub fn span(id: &str, from: u64, to: u64, new: bool) -> PartitionSpan {
    PartitionSpan { id: id.into(), label: id.into(), from, to, new, vanished: false, taken_over: None, evidence: None }
}

/// The columns of the dataset.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("amount", DataType::Int64, true), Field::new("region", DataType::Utf8, true)]))
}

/// The identity of the source.
pub fn simulator(_: DateTime<Utc>) -> SourceIdentity {
    SourceIdentity { kind: "simulator".into(), properties: BTreeMap::from([("seed".into(), "42".into())]) }
}

/// What a start expects of the dataset.
pub fn expected() -> Expected<'static> {
    Expected {
        source: &simulator,
        partition_by: vec![("region".into(), "Utf8".into())],
        schema: Some(schema()),
        allow_new_columns: false,
        now: DateTime::from_timestamp(1_767_225_600, 0).expect("samples are sound"),
        new_key: Key::new([7; 32]),
        process: Process::this(),
        action: None,
        allow: Allow::default(),
        remember: Remember::default(),
        records_max: snapshot::RECORDS_MAX,
        sharing: Sharing::alone(),
    }
}

/// Opens the dataset in a directory.
pub fn open(root: &Path) -> Result<Store> {
    Store::open(Arc::new(Posix::default()), root, &expected())
}

/// Extends the committed offsets by `rows`.
pub fn advanced(store: &Store, rows: u64) -> Offsets {
    behind(store.offsets(), rows)
}

fn behind(committed: &Offsets, records: u64) -> Offsets {
    let mut offsets = committed.clone();
    let id = PartitionId::new("events");
    let from = offsets.next_offset(&id).unwrap_or(0);
    let partition = Arc::new(Partition { id, label: "events".into() });
    offsets.extend(&OffsetRange::new(partition, from, from + records)).expect("samples are sound");
    offsets
}

/// A checkpoint of these files, behind what is committed.
pub fn draft(store: &Store, files: Vec<NewFile>) -> Draft {
    let rows = |kind| files.iter().filter(|file: &&NewFile| file.kind == kind).map(|file| file.rows).sum::<u64>();
    let (rows_out, decode) = (rows(FileKind::Parquet), rows(FileKind::DeadLetters));
    let records_in = (rows_out + decode).max(1);
    let dead_letters = DeadLetterCounts { decode, ..DeadLetterCounts::default() };
    let counts = Counts { records_in, rows_out, filtered: records_in - rows_out - decode, expanded: 0, dead_letters };
    draft_behind(store.offsets(), counts, schema(), files)
}

/// A checkpoint of these columns and files, behind what is committed.
pub fn draft_behind(committed: &Offsets, counts: Counts, schema: SchemaRef, files: Vec<NewFile>) -> Draft {
    Draft {
        offsets: behind(committed, counts.records_in),
        counts,
        files,
        schema,
        trigger: Trigger::Interval,
        lookups: vec![],
        config_sha256: "c".repeat(64),
        sql_sha256: "d".repeat(64),
        time: DateTime::from_timestamp(1_767_225_600, 0).expect("samples are sound"),
    }
}
