//! What is particular to a Delta table: its log, its protocol and its checkpoints.

use arrow::datatypes::{DataType, TimeUnit};
use chrono::TimeDelta;
use pintail_core::error::{ErrorKind, Result};

use super::*;
use crate::facts::{Column, Settled};
use crate::log::Made;
use crate::model::{Memory, Of, Records, assert_exact, now};
use crate::publisher::Published;

impl Memory {
    fn table(&self) -> Snapshot {
        Snapshot::read(self, Depth::Files, None).unwrap()
    }

    /// Writes a commit as somebody else does.
    fn commit(&self, version: u64, lines: &str) {
        assert_eq!(self.create(&log::commit(version), lines.as_bytes()).unwrap(), Made::Now);
    }
}

fn publish(log: &Memory, records: &Records) -> Result<Published> {
    log.publish(Of::Delta, records)
}

/// The same from a checkpoint as from the commits, as long as they are all there.
pub(crate) fn assert_checkpoints_agree(log: &Memory, told: &str) {
    if log.read(&log::commit(0)).unwrap().is_some() {
        let (table, commits) = (log.table(), Memory::default());
        for (name, file) in log.0.lock().unwrap().iter().filter(|(name, _)| matches!(log::kind(name), Kind::Commit(_))) {
            commits.0.lock().unwrap().insert(name.clone(), file.clone());
        }
        let from_commits = commits.table();
        assert_eq!(from_commits.live.keys().collect::<Vec<_>>(), table.live.keys().collect::<Vec<_>>(), "{told}");
        assert_eq!((from_commits.txns, from_commits.meta_data), (table.txns, table.meta_data), "{told}");
    }
}

#[test]
fn a_table_of_another_dataset_or_with_what_is_not_known_is_refused() {
    let log = Memory::default();
    publish(&log, &Records::new(&[1])).unwrap();
    let mut other = Records::new(&[1]);
    other.dataset.id = "f".repeat(32);
    let refusal = |log: &Memory, records: &Records| {
        let error = publish(log, records).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    assert!(refusal(&log, &other).contains("belongs to the dataset 0123456789abcdef0123456789abcdef"));
    let with = |lines: &str| {
        let log = log.copy();
        log.commit(1, lines);
        log
    };
    let feature = with(
        r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}"#,
    );
    assert!(refusal(&feature, &Records::new(&[1])).contains("`deletionVectors`"));
    assert!(
        refusal(&with(r#"{"protocol":{"minReaderVersion":2,"minWriterVersion":5}}"#), &Records::new(&[1]))
            .contains("reader 2 and writer 5")
    );
    let foreign = Memory::default();
    foreign.commit(0, "{\"protocol\":{\"minReaderVersion\":1,\"minWriterVersion\":2}}\n{\"metaData\":{\"id\":\"x\",\"format\":{\"provider\":\"parquet\"},\"schemaString\":\"{}\",\"partitionColumns\":[]}}");
    assert!(refusal(&foreign, &Records::new(&[1])).contains("was not made by pintail"));
    let mut moved = Records::new(&[1]);
    moved.dataset.partition_by.clear();
    assert!(refusal(&log, &moved).contains("is partitioned by"));
    let hole = Memory::default();
    hole.commit(1, "{}");
    assert_eq!(publish(&hole, &Records::new(&[1])).unwrap_err().kind(), ErrorKind::State);
}

#[test]
fn a_new_column_joins_the_table_with_the_first_commit_after_it_and_what_others_added_stays() {
    let (log, mut records) = (Memory::default(), Records::new(&[2]));
    records.chains[0].last = 1;
    publish(&log, &records).unwrap();
    assert_eq!(log.table().protocol.unwrap().min_reader_version, 1);
    let mut meta_data = log.table().meta_data.unwrap();
    let mut schema: Value = serde_json::from_str(&meta_data.schema_string).unwrap();
    schema["fields"].as_array_mut().unwrap().push(crate::types::delta_field("theirs", "long".into()));
    meta_data.schema_string = schema.to_string();
    let line = Line { meta_data: Some(meta_data), ..Line::default() };
    log.commit(1, &serde_json::to_string(&line).unwrap());
    records.chains[0].last = 2;
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    records.dataset.columns.push(Column { id: 3, name: "at".into(), data_type: time, settled: Settled::InFiles });
    publish(&log, &records).unwrap();
    let table = log.table();
    let schema: Value = serde_json::from_str(&table.meta_data.unwrap().schema_string).unwrap();
    let names: Vec<_> = schema["fields"].as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["n", "region", "theirs", "at"]);
    let protocol = table.protocol.unwrap();
    assert_eq!((protocol.min_reader_version, protocol.min_writer_version), (3, 7));
    assert_eq!(protocol.writer_features.unwrap(), ["timestampNtz", "appendOnly", "invariants"]);
    assert_eq!(publish(&log, &records).unwrap().commits, 0);
    records.dataset.columns[0].data_type = DataType::Float64;
    assert!(publish(&log, &records).unwrap_err().to_string().contains("make the table anew"));
}

#[test]
fn a_column_that_a_table_cannot_have_is_refused_before_anything_is_written() {
    let (log, mut records) = (Memory::default(), Records::new(&[1]));
    records.dataset.columns[0].data_type = DataType::UInt64;
    let text = publish(&log, &records).unwrap_err().to_string();
    assert!(text.contains("CAST(\"n\" AS DECIMAL(20,0))"), "{text}");
    assert!(log.list().unwrap().is_empty());
}

#[test]
fn what_others_compacted_is_not_published_again_and_their_files_are_counted_as_foreign() {
    let (log, mut records) = (Memory::default(), Records::new(&[4]));
    records.chains[0].last = 2;
    publish(&log, &records).unwrap();
    let path = action::encode("region=a%20b/events-i0-1-0.parquet");
    log.commit(
        1,
        &format!(
            "{{\"remove\":{{\"path\":\"{path}\",\"dataChange\":false}}}}\n{{\"add\":{{\"path\":\"theirs.parquet\",\"partitionValues\":{{\"region\":\"a b\"}},\
             \"size\":1,\"modificationTime\":1,\"dataChange\":false}}}}"
        ),
    );
    records.chains[0].last = 4;
    assert_eq!(publish(&log, &records).unwrap().files, 2);
    assert_eq!(log.table().live.len(), 4);
    let audit = log.audit(Of::Delta, &records);
    assert_eq!((audit.files, audit.foreign.len()), (3, 1));
    assert_eq!(audit.faults, ["`region=a%20b/events-i0-1-0.parquet` was taken out of the table"]);
}

#[test]
fn old_commits_go_once_two_checkpoints_stand_for_them_and_the_table_stays_the_same() {
    let all = Records::new(&[35]);
    let log = Memory::default();
    for last in 1..=35 {
        let mut some = all.clone();
        some.chains[0].last = last;
        if last == 30 {
            log.age(now() - LOG_RETENTION - TimeDelta::seconds(1));
        }
        publish(&log, &some).unwrap();
        assert_eq!(log.table().live.len() as u64, last);
    }
    let names: Vec<String> = log.list().unwrap().into_iter().map(|entry| entry.name).collect();
    let checkpoints = names.iter().filter(|name| matches!(log::kind(name), Kind::Checkpoint { .. })).count();
    assert_eq!(checkpoints, 2, "{names:?}");
    assert!(!names.contains(&log::commit(0)) && names.contains(&log::commit(30)), "{names:?}");
    assert_exact(Of::Delta, &log, &all, "after the clean-up");
}

#[test]
fn a_null_partition_value_survives_a_checkpoint() {
    let mut records = Records::new(&[1]);
    records.files.get_mut(&(0, 1)).unwrap()[0].path = "region=__HIVE_DEFAULT_PARTITION__/events-1.parquet".into();
    let log = Memory::default();
    publish(&log, &records).unwrap();
    let table = log.table();
    let (bytes, rows) = checkpoint::write(&table, 0).unwrap();
    assert_eq!(rows, 4);
    let mut adds = Vec::new();
    checkpoint::read(bytes, Depth::Files, |line| adds.extend(line.add)).unwrap();
    assert_eq!(adds.len(), 1);
    assert_eq!(adds[0].partition_values, [("region".to_owned(), None)].into());
    assert_eq!(adds[0].stats, table.live.values().next().unwrap().stats);
}
