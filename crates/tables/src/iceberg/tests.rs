//! What is particular to an Iceberg table: its metadata, its manifests, what is kept of them.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, TimeUnit};
use pintail_core::error::{ErrorKind, Result};
use serde_json::{Value as Json, json};

use super::avro::Value;
use super::manifest::entry;
use super::*;
use crate::facts::{Column, Settled};
use crate::model::{Memory, Of, ROOT, Records, assert_exact, now};
use crate::publisher::Published;

fn publish(log: &Memory, records: &Records) -> Result<Published> {
    log.publish(Of::Iceberg, records)
}

fn metadata(log: &Memory) -> Json {
    let version = log.names().iter().filter_map(|name| version_of(name)).max().unwrap();
    serde_json::from_slice(&log.read(&names::metadata(version)).unwrap().unwrap()).unwrap()
}

/// Changes the table as another writer does.
fn change(log: &Memory, change: impl FnOnce(&mut Json)) {
    let mut changed = metadata(log);
    let version = log.names().iter().filter_map(|name| version_of(name)).max().unwrap();
    change(&mut changed);
    assert_eq!(log.create(&names::metadata(version + 1), changed.to_string().as_bytes()).unwrap(), Made::Now);
}

fn list(log: &Memory, snapshot: &Json) -> Vec<Record> {
    let name = file_name(ROOT, snapshot["manifest-list"].as_str().unwrap()).unwrap();
    avro::read(&log.read(name).unwrap().unwrap()).unwrap().records
}

fn entries(log: &Memory, manifest: &Record) -> Vec<Record> {
    avro::read(&log.read(file_name(ROOT, text(manifest, listed::PATH).unwrap()).unwrap()).unwrap().unwrap()).unwrap().records
}

/// Asserts that the hint names the last version, and that what it names is there: of each snapshot all files, and as many as it says.
pub(crate) fn assert_whole(log: &Memory, told: &str) {
    let metadata = metadata(log);
    let last = log.names().iter().filter_map(|name| version_of(name)).max().unwrap();
    assert_eq!(log.read(names::HINT).unwrap().unwrap(), last.to_string().as_bytes(), "{told}");
    let snapshots = metadata["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.last().unwrap()["snapshot-id"], metadata["current-snapshot-id"], "{told}");
    for snapshot in snapshots {
        let manifests = list(log, snapshot);
        let live = manifests.iter().flat_map(|of| manifest::carried(entries(log, of), of)).count();
        assert_eq!(snapshot["summary"]["total-data-files"], live.to_string(), "{told}");
        let counted = manifests.iter().map(|of| long(of, listed::ADDED).unwrap() + long(of, listed::EXISTING).unwrap()).sum::<i64>();
        assert_eq!(usize::try_from(counted), Ok(live), "{told}");
    }
}

#[test]
fn a_new_table_says_what_the_format_asks_for_and_names_its_files_by_absolute_paths() {
    let (log, mut records) = (Memory::default(), Records::new(&[2]));
    records.chains[0].last = 1;
    let published = publish(&log, &records).unwrap();
    assert_eq!((published.version, published.commits, published.files), (Some(1), 1, 1));
    let said = metadata(&log);
    assert_eq!(said["location"], format!("{ROOT}/_iceberg"));
    assert_eq!(said["table-uuid"], "01234567-89ab-cdef-0123-456789abcdef");
    assert_eq!(
        said["schemas"],
        json!([{ "type": "struct", "schema-id": 0, "fields": [
            { "id": 1, "name": "n", "required": false, "type": "long" },
            { "id": 2, "name": "region", "required": false, "type": "string" },
        ] }])
    );
    assert_eq!(
        said["partition-specs"],
        json!([{ "spec-id": 0, "fields": [{ "source-id": 2, "field-id": 1000, "name": "region", "transform": "identity" }] }])
    );
    assert_eq!((&said["last-column-id"], &said["last-partition-id"]), (&json!(2), &json!(1000)));
    let property = format!("pintail.{}.0.sequence", records.dataset.id);
    assert_eq!((&said["properties"][&property], &said["properties"]["write.data.path"]), (&json!("1"), &json!(ROOT)));
    let manifests = list(&log, &said["snapshots"][0]);
    let file = manifest::data_file(&entries(&log, &manifests[0])[0]).unwrap().clone();
    assert_eq!(file[&entry::PATH], Value::Text(format!("{ROOT}/region=a%20b/events-i0-1-0.parquet")));
    assert_eq!(file[&entry::PARTITION], Value::Record([(1000, Value::Text("a b".into()))].into()));
    let pair = |key: i32, value: i32, of: Value| Value::Array(vec![Value::Record([(key, Value::Long(1)), (value, of)].into())]);
    assert_eq!(file[&125], pair(126, 127, Value::Bytes(1_i64.to_le_bytes().to_vec())));
    assert_eq!(file[&128], pair(129, 130, Value::Bytes(2_i64.to_le_bytes().to_vec())));
    assert_eq!(file[&110], pair(121, 122, Value::Long(0)));
    assert_eq!(file[&108], pair(117, 118, Value::Long(9)));
    // The next version says where it comes from.
    records.chains[0].last = 2;
    publish(&log, &records).unwrap();
    let next = metadata(&log);
    assert_eq!(next["metadata-log"][0]["metadata-file"], format!("{ROOT}/_iceberg/metadata/v1.metadata.json"));
    assert_eq!(next["snapshots"][1]["parent-snapshot-id"], said["current-snapshot-id"]);
    assert_eq!((&next["last-sequence-number"], &next["properties"][&property]), (&json!(2), &json!("2")));
    assert_eq!(next["snapshots"][1]["summary"]["total-data-files"], "2");
}

#[test]
fn a_table_of_another_dataset_or_with_what_is_not_known_is_refused() {
    let log = Memory::default();
    publish(&log, &Records::new(&[1])).unwrap();
    let refusal = |log: &Memory, records: &Records| {
        let error = publish(log, records).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        error.to_string()
    };
    let with = |of: fn(&mut Json)| {
        let log = log.copy();
        change(&log, of);
        refusal(&log, &Records::new(&[1]))
    };
    let mut other = Records::new(&[1]);
    other.dataset.id = "f".repeat(32);
    assert!(refusal(&log, &other).contains("belongs to the dataset 0123456789abcdef0123456789abcdef"));
    assert!(with(|of| of["format-version"] = 3.into()).contains("has the format version 3"));
    assert!(
        with(|of| of["location"] = "/elsewhere/_iceberg".into())
            .contains("was made at `/elsewhere/_iceberg` and lies at `/lake/a b/_iceberg`")
    );
    assert!(with(|of| of["properties"] = json!({})).contains("was not made by pintail"));
    assert!(with(|of| of["partition-specs"][0]["fields"][0]["transform"] = "bucket[4]".into()).contains("is partitioned in another way"));
    // The whole directory, manifests and all, somewhere else: nothing of it is looked for where it was.
    let elsewhere = Iceberg::new("/moved".into());
    let state = elsewhere.read(&log, Depth::Files).unwrap();
    let error = elsewhere.check(&state, &Records::new(&[1]).dataset, "moved").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("lies at `/moved/_iceberg` now"), "{error}");
    let mut moved = Records::new(&[1]);
    moved.dataset.partition_by.clear();
    assert!(refusal(&log, &moved).contains("is partitioned by"));
    log.create("v2.gz.metadata.json", b"").unwrap();
    assert!(refusal(&log, &Records::new(&[1])).contains("has compressed metadata of version 2"));
    let lost = Memory::default();
    publish(&lost, &Records::new(&[1])).unwrap();
    let list = lost.names().into_iter().find(|name| name.starts_with("snap-")).unwrap();
    lost.remove(&list).unwrap();
    assert_eq!(publish(&lost, &Records::new(&[1])).unwrap_err().kind(), ErrorKind::State);
}

#[test]
fn a_new_column_joins_with_its_number_and_one_whose_number_is_not_its_own_is_refused() {
    let (log, mut records) = (Memory::default(), Records::new(&[2]));
    records.chains[0].last = 1;
    publish(&log, &records).unwrap();
    records.chains[0].last = 2;
    let column = |id, name: &str, data_type| Column { id, name: name.into(), data_type, settled: Settled::InFiles };
    records.dataset.columns.push(column(7, "at", DataType::Timestamp(TimeUnit::Microsecond, None)));
    publish(&log, &records).unwrap();
    let said = metadata(&log);
    assert_eq!((&said["current-schema-id"], &said["last-column-id"]), (&json!(1), &json!(7)));
    assert_eq!(said["schemas"][1]["fields"][2], json!({ "id": 7, "name": "at", "required": false, "type": "timestamp" }));
    assert_eq!(said["snapshots"][1]["schema-id"], 1);
    let mapping: Json = serde_json::from_str(said["properties"]["schema.name-mapping.default"].as_str().unwrap()).unwrap();
    assert_eq!(mapping[2], json!({ "field-id": 7, "names": ["at"] }));
    assert_eq!(publish(&log, &records).unwrap().commits, 0);
    let refusal = |change: fn(&mut Records)| {
        let mut records = records.clone();
        change(&mut records);
        let error = publish(&log, &records).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    assert!(refusal(|of| of.dataset.columns[2].id = 8).contains("is number 7 in the table and 8 in the dataset"));
    assert!(refusal(|of| of.dataset.columns[2].name = "when".into()).contains("is number 7 in the dataset, which is \"at\" in the table"));
    assert!(refusal(|of| of.dataset.columns[0].data_type = DataType::Float64).contains("make the table anew"));
    assert!(refusal(|of| of.dataset.clash = Some("they differ".into())).contains("they differ; publish it as a Delta table"));
    assert!(refusal(|of| of.dataset.columns[0].data_type = DataType::UInt64).contains("CAST(\"n\" AS DECIMAL(20,0))"));
}

#[test]
fn columns_without_numbers_get_those_that_the_dataset_will_give_them() {
    let (log, mut records) = (Memory::default(), Records::new(&[2]));
    records.dataset.columns.iter_mut().for_each(|column| column.id = 0);
    records.chains[0].last = 1;
    publish(&log, &records).unwrap();
    records.chains[0].last = 2;
    records.dataset.columns[0].id = 1;
    records.dataset.columns[1].id = 2;
    publish(&log, &records).unwrap();
    assert_eq!(metadata(&log)["schemas"].as_array().unwrap().len(), 1);
}

#[test]
fn a_file_whose_columns_have_numbers_of_another_writer_is_refused() {
    let (log, mut records) = (Memory::default(), Records::new(&[1]));
    records.files.get_mut(&(0, 1)).unwrap()[0].misnumbered = Some("n".into());
    let error = publish(&log, &records).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("its column `n` has another number"), "{error}");
    assert!(log.names().is_empty());
}

#[test]
fn many_small_manifests_become_one_and_old_snapshots_and_files_go_with_their_time() {
    let all = Records::new(&[140]);
    let log = Memory::default();
    let mut manifests_max = 0;
    for last in 1..=140 {
        let mut some = all.clone();
        some.chains[0].last = last;
        if last == 95 {
            log.age(now() - GRACE - TimeDelta::seconds(1));
        }
        publish(&log, &some).unwrap();
        assert_exact(Of::Iceberg, &log, &some, &last.to_string());
        let said = metadata(&log);
        let snapshots = said["snapshots"].as_array().unwrap();
        manifests_max = manifests_max.max(list(&log, snapshots.last().unwrap()).len());
        assert!(snapshots.len() <= 4 && said["snapshot-log"].as_array().unwrap().len() == snapshots.len());
        assert!(said["metadata-log"].as_array().unwrap().len() <= 4);
    }
    // 140 files in manifests of 20, but for a few that are small.
    assert!(manifests_max <= 140 / 10 + 4, "{manifests_max}");
    let versions: Vec<u64> = log.names().iter().filter_map(|name| version_of(name)).collect();
    // At 100 what was older went, but for the last versions; what came since is too young.
    assert_eq!((versions.iter().min(), versions.len()), (Some(&95), 46), "{versions:?}");
    assert!(log.names().len() < 200, "{}", log.names().len());
    let entry = log.list().unwrap();
    assert!(entry.iter().all(|entry| entry.written.is_some()));
}

#[test]
fn a_snapshot_that_somebody_named_stays() {
    let all = Records::new(&[10]);
    let log = Memory::default();
    let until = |last: u64| {
        let mut some = all.clone();
        some.chains[0].last = last;
        some
    };
    publish(&log, &until(1)).unwrap();
    change(&log, |of| of["refs"]["audited"] = json!({ "snapshot-id": of["current-snapshot-id"], "type": "tag" }));
    for last in 2..=10 {
        publish(&log, &until(last)).unwrap();
    }
    let said = metadata(&log);
    let ids: Vec<&Json> = said["snapshots"].as_array().unwrap().iter().map(|of| &of["snapshot-id"]).collect();
    assert_eq!(ids.len(), 5);
    assert_eq!(ids[0], &said["refs"]["audited"]["snapshot-id"]);
    assert_whole(&log, "with a tag");
}

#[test]
fn what_a_stalled_publisher_still_wants_to_name_does_not_go() {
    // It wrote its manifests on version 50 and has not made version 51 yet; everything is old.
    let all = Records::new(&[50]);
    let log = Memory::default();
    for last in 1..=50 {
        let mut some = all.clone();
        some.chains[0].last = last;
        publish(&log, &some).unwrap();
    }
    log.age(now() - GRACE - TimeDelta::seconds(2));
    log.create("pintail-00000000000000aa-m0.avro", b"").unwrap();
    log.0.lock().unwrap().get_mut("pintail-00000000000000aa-m0.avro").unwrap().1 = Some(now() - GRACE - TimeDelta::seconds(1));
    let iceberg = Iceberg::with_policy(ROOT.into(), Policy { manifests: 3, entries: 20, snapshots: 4, versions: 4 });
    let state = State::read(&iceberg, &log, Depth::Head).unwrap();
    let before = log.names().len();
    iceberg.clean(&log, &state, 50, now()).unwrap();
    assert!(log.read("pintail-00000000000000aa-m0.avro").unwrap().is_some());
    assert_eq!(log.names().len(), before, "nothing is older than the version");
    // Once somebody made a later version, it comes too late, and its manifest goes.
    log.0.lock().unwrap().get_mut(&names::metadata(50)).unwrap().1 = Some(now());
    iceberg.clean(&log, &State::read(&iceberg, &log, Depth::Head).unwrap(), 50, now()).unwrap();
    assert!(log.read("pintail-00000000000000aa-m0.avro").unwrap().is_none());
    assert_whole(&log, "after the clean-up");
}

#[test]
fn a_hint_that_went_back_is_put_right_and_values_of_partitions_are_typed() {
    let (log, mut records) = (Memory::default(), Records::new(&[2]));
    records.dataset.columns[1].data_type = DataType::Date32;
    let name = "region=2026-01-02/a.parquet";
    records.files.get_mut(&(0, 1)).unwrap()[0].path = name.into();
    records.files.get_mut(&(0, 2)).unwrap()[0].path = "region=__HIVE_DEFAULT_PARTITION__/b.parquet".into();
    publish(&log, &records).unwrap();
    log.replace(names::HINT, b"0").unwrap();
    assert_eq!(publish(&log, &records).unwrap().commits, 0);
    assert_whole(&log, "after a stale hint");
    let manifests = list(&log, &metadata(&log)["snapshots"][0]);
    let days = 20_455;
    let partitions: BTreeMap<String, Value> = entries(&log, &manifests[0])
        .iter()
        .map(|of| {
            let file = manifest::data_file(of).unwrap();
            (manifest::path(of).unwrap().to_owned(), file[&entry::PARTITION].clone())
        })
        .collect();
    let expected = [
        (format!("{ROOT}/{name}"), Value::Record([(1000, Value::Long(days))].into())),
        (format!("{ROOT}/region=__HIVE_DEFAULT_PARTITION__/b.parquet"), Value::Record([(1000, Value::Null)].into())),
    ];
    assert_eq!(partitions, expected.into());
    let Value::Array(summaries) = &manifests[0][&507] else { panic!("no summary") };
    let bytes = Value::Bytes(vec![0xE7, 0x4F, 0, 0]);
    let summary = [(509, Value::Boolean(true)), (518, Value::Boolean(false)), (510, bytes.clone()), (511, bytes)];
    assert_eq!(summaries[0], Value::Record(summary.into()));
    records.files.get_mut(&(0, 2)).unwrap()[0].path = "region=x/b.parquet".into();
    let error = publish(&Memory::default(), &records).unwrap_err().to_string();
    assert!(error.contains("`x` in the path of `region=x/b.parquet` is no date"), "{error}");
}

#[test]
fn rows_that_another_writer_took_out_are_a_fault() {
    let (log, records) = (Memory::default(), Records::new(&[1]));
    publish(&log, &records).unwrap();
    let name = file_name(ROOT, metadata(&log)["snapshots"][0]["manifest-list"].as_str().unwrap()).unwrap().to_owned();
    let mut file = avro::read(&log.read(&name).unwrap().unwrap()).unwrap();
    let mut deletes = file.records[0].clone();
    deletes.insert(listed::CONTENT, Value::Long(1));
    file.records.push(deletes);
    log.replace(&name, &avro::write(&file.metadata, &file.records).unwrap()).unwrap();
    assert_eq!(log.audit(Of::Iceberg, &records).faults, ["another writer took rows out of files (the table has delete files)"]);
    // A file that is there twice, and one that is none of the dataset.
    let mut file = avro::read(&log.read(&name).unwrap().unwrap()).unwrap();
    file.records[1].insert(listed::CONTENT, Value::Long(0));
    log.replace(&name, &avro::write(&file.metadata, &file.records).unwrap()).unwrap();
    assert_eq!(log.audit(Of::Iceberg, &records).faults, ["`region=a%20b/events-i0-1-0.parquet` is in the table twice"]);
}
