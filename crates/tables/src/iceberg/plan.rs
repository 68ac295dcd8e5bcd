//! The next version of a table: decided from what the table and the ledger say.
//!
//! Owns: who may write to a table, which columns it gets, which files join and leave, which manifests and snapshots it keeps.
//! Does not own: reading either of them, and writing the version.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use pintail_core::error::{Error, Result};
use serde_json::{Map, Value as Json, json};

use super::avro::{Record, Value};
use super::manifest::{self, DELETED, Partition, Shape, entry, listed, long};
use super::state::{State, told};
use super::{Commit, Iceberg, names};
use crate::facts::{Column, Dataset};
use crate::ledger::Ledger;
use crate::publisher::{Joining, OWNER, Plan, app_id, check_owner, uuid};
use crate::types;
use crate::types::iceberg::{field_of, iceberg, name_mapping};

/// The first id of a partition field.
const PARTITION_FIRST: i64 = 1_000;
/// The property that maps columns by name.
const NAME_MAPPING: &str = "schema.name-mapping.default";

/// Returns why a dataset of these columns cannot be an Iceberg table: all faults.
pub fn faults(columns: &[Column], partition_by: &[String]) -> Vec<String> {
    // Before anything is written the columns have no numbers yet.
    let number = |column: &Column| if column.id == 0 { 1 } else { column.id };
    let mut faults: Vec<String> = columns.iter().filter_map(|column| iceberg(column, number(column)).err()).collect();
    faults.extend(types::common_faults(columns, partition_by, "Iceberg"));
    faults
}

/// Returns the property that says how far a chain is in the table.
pub(super) fn sequence_property(dataset_id: &str, instance: u32) -> String {
    format!("{}.sequence", app_id(dataset_id, instance))
}

/// Returns how far the table is with a chain; 0 if it never was published.
pub(super) fn standing(table: &State, dataset_id: &str, instance: u32) -> u64 {
    table.property(&sequence_property(dataset_id, instance)).and_then(|of| of.parse().ok()).unwrap_or(0)
}

/// Checks that this dataset may write to a table.
pub(super) fn check(of: &Iceberg, table: &State, dataset: &Dataset, place: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::config(format!("`{place}` {why}")));
    if let Some(version) = table.compressed.filter(|compressed| table.version.is_none_or(|version| *compressed >= version)) {
        return refuse(format!(
            "has compressed metadata of version {version}, by another writer, which this pintail does not read: make the table anew"
        ));
    }
    if table.version.is_none() {
        return Ok(());
    }
    match table.metadata["format-version"].as_i64() {
        Some(2) => {}
        other => {
            let other = other.map_or_else(|| "none".into(), |version| version.to_string());
            return refuse(format!("has the format version {other}, and this pintail writes version 2: make the table anew"));
        }
    }
    check_owner(table.property(OWNER), dataset, place)?;
    let location = table.metadata["location"].as_str().unwrap_or_default();
    if location != of.location() {
        return refuse(format!(
            "was made at `{location}` and lies at `{}` now: an Iceberg table names its files by absolute paths; move the directory away, and it is \
             made anew",
            of.location()
        ));
    }
    let columns = partition_columns(table);
    if columns.as_ref() != Some(&dataset.partition_by) {
        let told = columns.map_or_else(|| "in another way".to_owned(), |columns| format!("by {columns:?}"));
        return refuse(format!("is partitioned {told}, the dataset by {:?}: make the table anew", dataset.partition_by));
    }
    Ok(())
}

/// Returns the columns whose values are the partitions; `None` if there are other transforms.
fn partition_columns(table: &State) -> Option<Vec<String>> {
    let fields = table.schema()?["fields"].as_array()?;
    let column = |of: &Json| {
        let source = fields.iter().find(|field| field["id"] == of["source-id"])?;
        (of["transform"] == "identity").then(|| source["name"].as_str().map(str::to_owned))?
    };
    table.spec()?["fields"].as_array()?.iter().map(column).collect()
}

/// Decides the next version.
pub(super) fn plan(
    of: &Iceberg,
    table: &State,
    ledger: &dyn Ledger,
    gone: &BTreeSet<String>,
    files_max: usize,
    now: DateTime<Utc>,
) -> Result<Plan<Commit>> {
    let dataset = ledger.dataset();
    let standing = |instance| standing(table, &dataset.id, instance);
    let nothing = |chains| Plan { commit: None, files: 0, rows: 0, removed: 0, kept: 0, chains };
    if dataset.columns.is_empty() {
        return Ok(nothing(ledger.chains().iter().map(|chain| (chain.instance, standing(chain.instance))).collect()));
    }
    let faults = faults(&dataset.columns, &dataset.partition_by);
    if !faults.is_empty() {
        return Err(Error::config(format!("the dataset cannot be an Iceberg table: {}", faults.join("\n"))));
    }
    if let Some(clash) = &dataset.clash {
        return Err(Error::config(format!(
            "the dataset cannot be an Iceberg table, which finds columns by their numbers: {clash}; publish it as a Delta table"
        )));
    }
    let (mut metadata, is_changed) = match table.version {
        None => (created(of, dataset, now)?, true),
        Some(_) => evolved(table, dataset)?,
    };
    let joining = Joining::of(ledger, standing, files_max)?;
    let (files, rows) = (joining.files().count() as u64, joining.rows());
    let leaves = |entry: &Record| told(of, entry).is_some_and(|(path, _)| gone.contains(&path));
    let removed = table.opened.values().flatten().filter(|entry| leaves(entry)).count() as u64;
    if !is_changed && files == 0 && removed == 0 {
        return Ok(nothing(joining.chains));
    }
    let version = table.version.map_or(1, |version| version + 1);
    let mut commit = Commit { version, files: Vec::new(), metadata: Vec::new() };
    let now = now.timestamp_millis().max(metadata["last-updated-ms"].as_i64().unwrap_or(0));
    if files > 0 || removed > 0 {
        for (instance, portion) in &joining.portions {
            metadata["properties"][sequence_property(&dataset.id, *instance)] = portion.to.to_string().into();
        }
        Snapshot { of, table, joining: &joining, leaves: &leaves, now }.add(&mut metadata, &mut commit)?;
    }
    if let Some(before) = table.version {
        let entry = json!({ "metadata-file": of.path(&names::metadata(before)), "timestamp-ms": metadata["last-updated-ms"] });
        push(&mut metadata["metadata-log"], entry, of.policy.versions);
    }
    metadata["last-updated-ms"] = now.into();
    commit.metadata = serde_json::to_vec(&metadata).map_err(|e| Error::internal(format!("cannot write metadata: {e}")))?;
    Ok(Plan { commit: Some(commit), files, rows, removed, kept: 0, chains: joining.chains })
}

/// Appends to a list, of which the last ones are kept.
fn push(list: &mut Json, item: Json, most: usize) {
    let mut items = list.as_array().cloned().unwrap_or_default();
    items.push(item);
    let first = items.len().saturating_sub(most);
    *list = items.split_off(first).into();
}

/// What is to become the next snapshot.
struct Snapshot<'a> {
    of: &'a Iceberg,
    table: &'a State,
    joining: &'a Joining,
    leaves: &'a dyn Fn(&Record) -> bool,
    now: i64,
}

impl Snapshot<'_> {
    /// Adds it to the metadata, and its manifests to the files of the commit.
    fn add(&self, metadata: &mut Json, commit: &mut Commit) -> Result<()> {
        let (of, table) = (self.of, self.table);
        let nonce = rand::random::<u64>();
        // Readers want it above 0.
        let snapshot_id = (rand::random::<u64>() >> 1).cast_signed().max(1);
        let sequence = metadata["last-sequence-number"].as_i64().unwrap_or(0) + 1;
        let after = State { version: table.version, metadata: metadata.clone(), ..State::default() };
        let cannot = |why: String| Error::state(format!("cannot write a manifest: {why}"));
        let (schema, spec) =
            after.schema().zip(after.spec()).ok_or_else(|| Error::state("the metadata has no schema or no partitioning"))?;
        let partitions = partitions(schema, spec).map_err(Error::state)?;
        let shape = Shape { schema, spec, spec_id: spec["spec-id"].as_i64().unwrap_or(0), partitions: &partitions };
        let fields = schema["fields"].as_array().map_or(&[][..], Vec::as_slice);
        let columns: BTreeMap<&str, (i64, &Json)> =
            fields.iter().filter_map(|field| Some((field["name"].as_str()?, (field["id"].as_i64()?, &field["type"])))).collect();
        let misnumbered = |file: &crate::facts::DataFile| {
            let column = file.misnumbered.as_ref()?;
            Some(format!(
                "`{}` was adopted, and its column `{column}` has another number (`field_id`) in it than the dataset has for it: an Iceberg table would \
                 read another column; publish the dataset as a Delta table, or write the file anew without such numbers before it is adopted",
                file.path
            ))
        };
        if let Some(why) = self.joining.files().find_map(misnumbered) {
            return Err(Error::config(why));
        }
        let added = self.joining.files().map(|file| manifest::added(file, &of.root, &columns, &partitions, snapshot_id));
        let added = added.collect::<std::result::Result<Vec<_>, _>>().map_err(Error::state)?;
        let (mut carried, mut left) = (Vec::new(), Vec::new());
        for mut entry in table.opened.values().flatten().cloned() {
            if (self.leaves)(&entry) {
                entry.insert(entry::STATUS, Value::Long(DELETED));
                entry.insert(entry::SNAPSHOT, Value::Long(snapshot_id));
                left.push(entry);
            } else {
                carried.push(entry);
            }
        }
        let summary = self.summary(&added, &left);
        let mut manifests = Vec::new();
        let groups = [added].into_iter().chain([left]).chain(carried.chunks(of.policy.entries).map(<[Record]>::to_vec));
        for (number, entries) in groups.enumerate().filter(|(_, entries)| !entries.is_empty()) {
            let name = names::manifest(nonce, number);
            let made = manifest::write(&of.path(&name), &shape, &entries, snapshot_id, sequence).map_err(cannot)?;
            manifests.push(made.listed);
            commit.files.push((name, made.bytes));
        }
        // What names no file any more is told by one snapshot alone.
        let names_files = |manifest: &Record| [listed::ADDED, listed::EXISTING].iter().any(|id| long(manifest, *id) != Some(0));
        let others = table.manifests.iter().enumerate().filter(|(place, of)| !table.opened.contains_key(place) && names_files(of));
        manifests.extend(others.map(|(_, manifest)| manifest.clone()));
        let parent = table.current().and_then(|snapshot| snapshot["snapshot-id"].as_i64());
        let list = names::list(snapshot_id, nonce);
        commit.files.push((list.clone(), manifest::write_list(&manifests, snapshot_id, parent, sequence).map_err(cannot)?));
        let mut snapshot = json!({
            "snapshot-id": snapshot_id,
            "sequence-number": sequence,
            "timestamp-ms": self.now,
            "manifest-list": of.path(&list),
            "summary": summary,
            "schema-id": schema["schema-id"],
        });
        if let Some(parent) = parent {
            snapshot["parent-snapshot-id"] = parent.into();
        }
        metadata["last-sequence-number"] = sequence.into();
        metadata["current-snapshot-id"] = snapshot_id.into();
        if !metadata["refs"]["main"].is_object() {
            metadata["refs"]["main"] = json!({ "type": "branch" });
        }
        metadata["refs"]["main"]["snapshot-id"] = snapshot_id.into();
        push(&mut metadata["snapshot-log"], json!({ "snapshot-id": snapshot_id, "timestamp-ms": self.now }), of.policy.snapshots);
        keep_snapshots(metadata, snapshot, of.policy.snapshots);
        Ok(())
    }

    fn summary(&self, added: &[Record], left: &[Record]) -> Json {
        let sum = |entries: &[Record], id: i32| {
            let of = entries.iter().filter_map(|entry| long(manifest::data_file(entry)?, id));
            of.fold(0, i64::saturating_add)
        };
        let count = |entries: &[Record]| i64::try_from(entries.len()).unwrap_or(i64::MAX);
        let partitions: BTreeSet<String> = added
            .iter()
            .chain(left)
            .filter_map(|entry| Some(format!("{:?}", manifest::data_file(entry)?.get(&entry::PARTITION)?)))
            .collect();
        let operation = match (added.is_empty(), left.is_empty()) {
            (_, true) => "append",
            (true, false) => "delete",
            (false, false) => "overwrite",
        };
        let mut summary = Map::new();
        let mut say = |name: &str, value: String| _ = summary.insert(name.into(), value.into());
        say("operation", operation.into());
        say("engine-name", "pintail".into());
        say("engine-version", env!("CARGO_PKG_VERSION").into());
        say("changed-partition-count", partitions.len().to_string());
        let before = self.table.current().map(|snapshot| &snapshot["summary"]);
        for (what, joined, gone, added_name, deleted_name) in [
            ("total-data-files", count(added), count(left), "added-data-files", "deleted-data-files"),
            ("total-records", sum(added, entry::ROWS), sum(left, entry::ROWS), "added-records", "deleted-records"),
            ("total-files-size", sum(added, entry::BYTES), sum(left, entry::BYTES), "added-files-size", "removed-files-size"),
        ] {
            if joined > 0 {
                say(added_name, joined.to_string());
            }
            if gone > 0 {
                say(deleted_name, gone.to_string());
            }
            let before = match before {
                None => Some(0),
                Some(summary) => summary[what].as_str().and_then(|total| total.parse::<i64>().ok()),
            };
            // What another writer left out cannot be told from then on.
            if let Some(before) = before {
                say(what, (before + joined - gone).to_string());
            }
        }
        for what in ["total-delete-files", "total-position-deletes", "total-equality-deletes"] {
            let before = before.map_or(Some("0"), |summary| summary[what].as_str());
            if let Some(before) = before {
                say(what, before.to_owned());
            }
        }
        Json::Object(summary)
    }
}

/// Adds a snapshot, and forgets the oldest ones beyond `most` that no reference names.
fn keep_snapshots(metadata: &mut Json, snapshot: Json, most: usize) {
    let mut snapshots = metadata["snapshots"].as_array().cloned().unwrap_or_default();
    snapshots.push(snapshot);
    let named: BTreeSet<i64> =
        metadata["refs"].as_object().into_iter().flatten().filter_map(|(_, of)| of["snapshot-id"].as_i64()).collect();
    let first = snapshots.len().saturating_sub(most);
    let is_kept = |(place, of): &(usize, Json)| *place >= first || of["snapshot-id"].as_i64().is_some_and(|id| named.contains(&id));
    let kept: Vec<Json> = snapshots.into_iter().enumerate().filter(is_kept).map(|(_, of)| of).collect();
    let ids: BTreeSet<i64> = kept.iter().filter_map(|of| of["snapshot-id"].as_i64()).collect();
    // The log of a table begins after the last snapshot that is forgotten.
    let log = metadata["snapshot-log"].as_array().cloned().unwrap_or_default();
    let first = log.iter().rposition(|of| !of["snapshot-id"].as_i64().is_some_and(|id| ids.contains(&id))).map_or(0, |place| place + 1);
    metadata["snapshot-log"] = log[first..].to_vec().into();
    metadata["snapshots"] = kept.into();
}

/// Returns the columns of the partitioning with their types.
fn partitions(schema: &Json, spec: &Json) -> std::result::Result<Vec<Partition>, String> {
    let fields = schema["fields"].as_array().map_or(&[][..], Vec::as_slice);
    let partition = |of: &Json| {
        let source = fields.iter().find(|field| field["id"] == of["source-id"]);
        let id = of["field-id"].as_i64().and_then(|id| i32::try_from(id).ok());
        let known = source.zip(id).and_then(|(source, id)| {
            Some(Partition { id, name: source["name"].as_str()?.to_owned(), kind: source["type"].as_str()?.to_owned() })
        });
        known.ok_or_else(|| format!("a field of the partitioning has no column: {of}"))
    };
    spec["fields"].as_array().map_or(&[][..], Vec::as_slice).iter().map(partition).collect()
}

/// Returns the metadata of a table that is not there yet.
fn created(of: &Iceberg, dataset: &Dataset, now: DateTime<Utc>) -> Result<Json> {
    let fields = fields(dataset, &[])?;
    let id = |name: &str| fields.iter().find(|field| field["name"] == name).map(|field| field["id"].clone());
    let mut spec = Vec::new();
    for (field_id, name) in (PARTITION_FIRST..).zip(&dataset.partition_by) {
        let source = id(name).ok_or_else(|| Error::state(format!("the dataset has no column `{name}`, by which it is partitioned")))?;
        spec.push(json!({ "source-id": source, "field-id": field_id, "name": name, "transform": "identity" }));
    }
    let last_partition = PARTITION_FIRST - 1 + i64::try_from(spec.len()).unwrap_or(0);
    Ok(json!({
        "format-version": 2,
        "table-uuid": uuid(&dataset.id),
        "location": of.location(),
        "last-sequence-number": 0,
        "last-updated-ms": now.timestamp_millis(),
        "last-column-id": last_id(&fields),
        "schemas": [{ "type": "struct", "schema-id": 0, "fields": fields }],
        "current-schema-id": 0,
        "partition-specs": [{ "spec-id": 0, "fields": spec }],
        "default-spec-id": 0,
        "last-partition-id": last_partition,
        "sort-orders": [{ "order-id": 0, "fields": [] }],
        "default-sort-order-id": 0,
        "properties": {
            OWNER: dataset.id,
            "write.data.path": of.root,
            "write.format.default": "parquet",
            NAME_MAPPING: name_mapping(&fields).to_string(),
        },
        "current-snapshot-id": -1,
        "refs": {},
        "snapshots": [],
        "snapshot-log": [],
        "metadata-log": [],
    }))
}

/// Returns the metadata of a table with the columns that the dataset has by now, and whether there are new ones.
fn evolved(table: &State, dataset: &Dataset) -> Result<(Json, bool)> {
    let mut metadata = table.metadata.clone();
    let schema = table.schema().ok_or_else(|| Error::config("the table has no schema: make it anew"))?;
    let mut all = schema["fields"].as_array().cloned().unwrap_or_default();
    let before = all.len();
    let lower = |field: &Json| field["name"].as_str().unwrap_or_default().to_lowercase();
    for field in fields(dataset, &all)? {
        match all.iter().find(|known| lower(known) == lower(&field)) {
            None => {
                if let Some(other) = all.iter().find(|known| known["id"] == field["id"]) {
                    return Err(Error::config(format!(
                        "column {} is number {} in the dataset, which is {} in the table: make the table anew",
                        field["name"], field["id"], other["name"]
                    )));
                }
                all.push(field);
            }
            Some(known)
                if known["name"] == field["name"] && known["id"] == field["id"] && plain(&known["type"]) == plain(&field["type"]) => {}
            Some(known) if known["id"] != field["id"] => {
                return Err(Error::config(format!(
                    "column {} is number {} in the table and {} in the dataset: make the table anew; instances that gave out different numbers \
                     cannot share an Iceberg table",
                    field["name"], known["id"], field["id"]
                )));
            }
            Some(known) => {
                return Err(Error::config(format!(
                    "column {} is {} in the table and {} in the dataset: make the table anew",
                    field["name"], known["type"], field["type"]
                )));
            }
        }
    }
    if all.len() == before {
        return Ok((metadata, false));
    }
    let schemas = metadata["schemas"].as_array().cloned().unwrap_or_default();
    let id = schemas.iter().filter_map(|schema| schema["schema-id"].as_i64()).max().unwrap_or(0) + 1;
    metadata["properties"][NAME_MAPPING] = name_mapping(&all).to_string().into();
    metadata["last-column-id"] = last_id(&all).max(metadata["last-column-id"].as_i64().unwrap_or(0)).into();
    let mut schema = schema.clone();
    schema["schema-id"] = id.into();
    schema["fields"] = all.into();
    metadata["schemas"] = schemas.into_iter().chain([schema]).collect();
    metadata["current-schema-id"] = id.into();
    Ok((metadata, true))
}

/// Returns the columns of a dataset as fields. Those without a number, which 0.1 gave none, have that of the table, or the next: the dataset gives the
/// same ones once a later version writes to it.
fn fields(dataset: &Dataset, known: &[Json]) -> Result<Vec<Json>> {
    let of_table = |name: &str| known.iter().find(|field| field["name"] == name)?["id"].as_u64();
    let numbers =
        dataset.columns.iter().map(|column| u64::from(column.id)).chain(dataset.columns.iter().filter_map(|of| of_table(&of.name)));
    let mut last = numbers.max().unwrap_or(0);
    let mut field = |column: &Column| {
        let id = match (column.id, of_table(&column.name)) {
            (0, Some(id)) => id,
            (0, None) => {
                last += 1;
                last
            }
            (id, _) => id.into(),
        };
        let id = u32::try_from(id).map_err(|_| Error::config(format!("column `{}` has a number that is too large", column.name)))?;
        let kind = iceberg(column, id).map_err(Error::config)?;
        Ok(field_of(id, &column.name, kind))
    };
    dataset.columns.iter().map(&mut field).collect()
}

/// Returns a type without what it says of nulls and notes.
fn plain(of: &Json) -> Json {
    match of {
        Json::Object(fields) => {
            let said = ["required", "doc", "element-required", "value-required"];
            fields.iter().filter(|(name, _)| !said.contains(&name.as_str())).map(|(name, of)| (name.clone(), plain(of))).collect()
        }
        Json::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}

/// Returns the greatest id that fields and what they hold have.
fn last_id(fields: &[Json]) -> i64 {
    fn of(json: &Json) -> i64 {
        match json {
            Json::Object(members) => {
                let own = ["id", "element-id", "key-id", "value-id"].iter().filter_map(|name| members.get(*name)?.as_i64());
                own.chain(members.values().map(of)).max().unwrap_or(0)
            }
            Json::Array(items) => items.iter().map(of).max().unwrap_or(0),
            _ => 0,
        }
    }
    fields.iter().map(of).max().unwrap_or(0)
}
