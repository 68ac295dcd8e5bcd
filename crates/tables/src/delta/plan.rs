//! The next commit of a table: decided purely, from what the table and the ledger say.
//!
//! Owns: who may write to a table, which columns it gets, which files join and leave, and how far that brings each chain.
//! Does not own: reading either of them, and writing the commit.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use pintail_core::error::{Error, Result};
use serde_json::{Value, json};

use super::action::{self, Add, FileFormat, Line, MetaData, Protocol, Remove, Txn};
use super::snapshot::Snapshot;
use super::{Commit, OWNER, WITHOUT_ZONE, app_id, stats};
use crate::facts::{Column, DataFile, Dataset};
use crate::ledger::Ledger;
use crate::publisher::{Joining, Plan, check_owner, uuid};
use crate::types;

/// Features that an appending writer has nothing to do for beyond what it does.
const WRITER_FEATURES: &[&str] = &["appendOnly", "invariants", WITHOUT_ZONE];
const READER_FEATURES: &[&str] = &[WITHOUT_ZONE];

/// Returns why a dataset of these columns cannot be a Delta table: all faults.
pub fn faults(columns: &[Column], partition_by: &[String]) -> Vec<String> {
    let mut faults: Vec<String> = columns.iter().filter_map(|column| types::delta(column).err()).collect();
    faults.extend(types::common_faults(columns, partition_by, "Delta"));
    faults
}

/// Checks that this dataset may write to a table.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] if the table belongs to another dataset or to none, or asks for what is not known here.
pub(super) fn check(table: &Snapshot, dataset: &Dataset, place: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::config(format!("`{place}` {why}")));
    if table.version.is_none() {
        return Ok(());
    }
    let (Some(protocol), Some(meta_data)) = (&table.protocol, &table.meta_data) else {
        return refuse("has no protocol or no metadata: it is no Delta table".into());
    };
    check_owner(meta_data.configuration.get(OWNER).and_then(Option::as_deref), dataset, place)?;
    let unknown = |features: &Option<Vec<String>>, known: &[&str]| {
        features.iter().flatten().find(|feature| !known.contains(&feature.as_str())).cloned()
    };
    let versions = (protocol.min_reader_version, protocol.min_writer_version);
    let feature = unknown(&protocol.reader_features, READER_FEATURES).or_else(|| unknown(&protocol.writer_features, WRITER_FEATURES));
    if let Some(feature) = feature {
        return refuse(format!(
            "has the table feature `{feature}`, which this pintail does not know: drop the feature, or make the table anew"
        ));
    }
    if !matches!(versions, (1, 1 | 2 | 7) | (3, 7)) {
        return refuse(format!("asks for reader {} and writer {}, which this pintail does not know", versions.0, versions.1));
    }
    if meta_data.configuration.contains_key("delta.setTransactionRetentionDuration") {
        return refuse(
            "has the property `delta.setTransactionRetentionDuration`, after which it forgets what is published: take the property away"
                .into(),
        );
    }
    if meta_data.partition_columns != dataset.partition_by {
        return refuse(format!(
            "is partitioned by {:?}, the dataset by {:?}: make the table anew",
            meta_data.partition_columns, dataset.partition_by
        ));
    }
    Ok(())
}

/// Decides the next commit.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] if the columns cannot be those of the table; those of the ledger.
pub(super) fn plan(
    table: &Snapshot,
    ledger: &dyn Ledger,
    name: &str,
    gone: &BTreeSet<String>,
    files_max: usize,
    now: DateTime<Utc>,
) -> Result<Plan<Commit>> {
    let dataset = ledger.dataset();
    let standing = |instance| table.txn(&app_id(&dataset.id, instance));
    if dataset.columns.is_empty() {
        let chains = ledger.chains().iter().map(|chain| (chain.instance, standing(chain.instance))).collect();
        return Ok(Plan { commit: None, files: 0, rows: 0, removed: 0, kept: 0, chains });
    }
    let head = head(table, dataset, name, now)?;
    let joining = Joining::of(ledger, standing, files_max)?;
    let mut data: Vec<Line> = Vec::new();
    for (instance, portion) in &joining.portions {
        let version = i64::try_from(portion.to).map_err(|_| Error::internal("there are too many records"))?;
        let txn = Txn { app_id: app_id(&dataset.id, *instance), version, last_updated: Some(now.timestamp_millis()) };
        data.push(Line { txn: Some(txn), ..Line::default() });
        data.extend(portion.files.iter().map(|file| Line { add: Some(add(file, dataset)), ..Line::default() }));
    }
    let (files, rows) = (joining.files().count() as u64, joining.rows());
    let mut plan = Plan { commit: None, files, rows, removed: 0, kept: 0, chains: joining.chains };
    let append_only = table.meta_data.as_ref().and_then(|of| of.configuration.get("delta.appendOnly")?.as_deref()) == Some("true");
    for (path, add) in table.live.iter().filter(|(path, _)| gone.contains(*path)) {
        debug_assert_eq!(*path, action::decode(&add.path), "files are filed by their paths");
        if append_only {
            plan.kept += 1;
            continue;
        }
        data.push(Line { remove: Some(remove(add, now)), ..Line::default() });
        plan.removed += 1;
    }
    if head.is_empty() && data.is_empty() {
        return Ok(plan);
    }
    let version = table.version.map_or(0, |version| version + 1);
    let operation = match (table.version, plan.removed) {
        (None, _) => "CREATE TABLE",
        (_, 0) => "WRITE",
        _ => "DELETE",
    };
    let info = json!({
        "timestamp": now.timestamp_millis(),
        "operation": operation,
        "operationParameters": { "mode": "Append" },
        "isBlindAppend": plan.removed == 0,
        "engineInfo": concat!("pintail/", env!("CARGO_PKG_VERSION")),
    });
    let lines = [Line { commit_info: Some(info), ..Line::default() }].into_iter().chain(head).chain(data).collect();
    plan.commit = Some(Commit { version, lines });
    Ok(plan)
}

/// Returns what changes of the table itself: all of a new one, the columns of an old one that has fewer.
fn head(table: &Snapshot, dataset: &Dataset, name: &str, now: DateTime<Utc>) -> Result<Vec<Line>> {
    let faults = faults(&dataset.columns, &dataset.partition_by);
    if !faults.is_empty() {
        return Err(Error::config(format!("the dataset cannot be a Delta table: {}", faults.join("\n"))));
    }
    let columns = dataset.columns.iter().map(|column| types::delta(column).map(|of| (column, of)));
    let columns = columns.collect::<std::result::Result<Vec<_>, String>>().map_err(Error::config)?;
    let without_zone = columns.iter().any(|(_, of)| of.without_zone);
    let fields = || columns.iter().map(|(column, of)| types::delta_field(&column.name, of.kind.clone()));
    let schema = |fields: Vec<Value>| json!({ "type": "struct", "fields": fields }).to_string();
    let Some(meta_data) = &table.meta_data else {
        let meta_data = MetaData {
            id: uuid(&dataset.id),
            name: Some(name.to_owned()).filter(|name| !name.is_empty()),
            description: None,
            format: FileFormat { provider: "parquet".into(), options: Default::default() },
            schema_string: schema(fields().collect()),
            partition_columns: dataset.partition_by.clone(),
            configuration: [(OWNER.to_owned(), Some(dataset.id.clone()))].into(),
            created_time: Some(now.timestamp_millis()),
        };
        let protocol = Protocol::of(without_zone);
        return Ok(vec![Line { protocol: Some(protocol), ..Line::default() }, Line { meta_data: Some(meta_data), ..Line::default() }]);
    };
    let known: Value = serde_json::from_str(&meta_data.schema_string)
        .map_err(|e| Error::config(format!("the schema of the table cannot be read ({e}): make it anew")))?;
    let mut all: Vec<Value> = known["fields"].as_array().cloned().unwrap_or_default();
    let before = all.len();
    for field in fields() {
        let of_name = |field: &Value| field["name"].as_str().unwrap_or_default().to_lowercase();
        match all.iter().find(|known| of_name(known) == of_name(&field)) {
            None => all.push(field),
            Some(known) if known["name"] == field["name"] && plain(&known["type"]) == plain(&field["type"]) => {}
            Some(known) => {
                return Err(Error::config(format!(
                    "column {} is {} in the table and {} in the dataset: make the table anew",
                    field["name"], known["type"], field["type"]
                )));
            }
        }
    }
    let mut lines = Vec::new();
    if all.len() > before {
        let protocol = table.protocol.clone().unwrap_or_else(|| Protocol::of(without_zone));
        let knows = protocol.reader_features.iter().flatten().any(|feature| feature == WITHOUT_ZONE);
        if without_zone && !knows {
            // What the writer version 2 stands for is to be named from 7 on.
            let mut raised = Protocol::of(true);
            let named = raised.writer_features.get_or_insert_default();
            match protocol.writer_features {
                Some(features) => named.extend(features),
                None if protocol.min_writer_version >= 2 => named.extend(["appendOnly".to_owned(), "invariants".to_owned()]),
                None => {}
            }
            lines.push(Line { protocol: Some(raised), ..Line::default() });
        }
        let meta_data = MetaData { schema_string: schema(all), ..meta_data.clone() };
        lines.push(Line { meta_data: Some(meta_data), ..Line::default() });
    }
    Ok(lines)
}

/// Returns a type without what it says of nulls and notes.
fn plain(of: &Value) -> Value {
    match of {
        Value::Object(fields) => {
            let said = ["nullable", "metadata", "containsNull", "valueContainsNull"];
            fields.iter().filter(|(name, _)| !said.contains(&name.as_str())).map(|(name, of)| (name.clone(), plain(of))).collect()
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}

fn add(file: &DataFile, dataset: &Dataset) -> Add {
    let mut values = file.partition_values();
    // What somebody adopted may have other directories in its path.
    values.retain(|name, _| dataset.partition_by.contains(name));
    Add {
        path: action::encode(&file.path),
        partition_values: values,
        size: i64::try_from(file.bytes).unwrap_or(i64::MAX),
        modification_time: file.committed.timestamp_millis(),
        data_change: true,
        stats: Some(stats::of(file, dataset)),
        tags: None,
    }
}

fn remove(add: &Add, now: DateTime<Utc>) -> Remove {
    Remove {
        path: add.path.clone(),
        deletion_timestamp: Some(now.timestamp_millis()),
        data_change: true,
        extended_file_metadata: Some(true),
        partition_values: Some(add.partition_values.clone()),
        size: Some(add.size),
    }
}
