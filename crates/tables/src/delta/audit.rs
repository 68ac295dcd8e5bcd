//! A table held against the ledger.
//!
//! Owns: what must be true of a table: each file that is published is in it once, with its length and its rows.
//! Does not own: the files themselves (see the program's `verify`).

use std::collections::BTreeSet;

use pintail_core::error::Result;
use serde_json::Value;

use super::log::Log;
use super::snapshot::{Depth, Snapshot};
use super::{app_id, plan};
use crate::facts::DataFile;
use crate::ledger::Ledger;

/// Files of a chain that are compared at once.
const FILES: usize = 10_000;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// The version of the table; `None` if there is none.
    pub version: Option<u64>,
    /// Committed files that are in the table.
    pub files: u64,
    /// Files in the table that no record names: of others who write to it.
    pub foreign: u64,
    /// By instance: records that are not published yet.
    pub behind: Vec<(u32, u64)>,
    /// What contradicts the ledger.
    pub faults: Vec<String>,
}

/// Holds the table of a log against a ledger.
///
/// # Errors
/// Those of the ledger and the log; [`pintail_core::error::ErrorKind::Config`] if the table is another dataset's.
pub fn audit(log: &dyn Log, ledger: &dyn Ledger) -> Result<Audit> {
    let table = Snapshot::read(log, Depth::Files, None)?;
    let mut audit = Audit { version: table.version, ..Audit::default() };
    if table.version.is_none() {
        return Ok(audit);
    }
    plan::check(&table, ledger.dataset(), &log.place())?;
    audit.faults.extend(table.doubled.iter().map(|path| format!("`{path}` was added to the table twice")));
    let mut named = BTreeSet::new();
    for chain in ledger.chains() {
        let published = table.txn(&app_id(&ledger.dataset().id, chain.instance));
        if published > chain.last {
            let text =
                format!("the table has the records of instance {} up to {published}, the ledger ends at {}", chain.instance, chain.last);
            audit.faults.push(text);
        }
        let published = published.min(chain.last);
        each(ledger, chain.instance, 0, published, |file| compare(file, &table, &mut audit, &mut named))?;
        let mut behind = 0;
        each(ledger, chain.instance, published, chain.last, |file| {
            behind += 1;
            named.insert(file.path.clone());
            if table.live.contains_key(&file.path) {
                audit.faults.push(format!("`{}` is in the table, which does not say that it is published", file.path));
            }
        })?;
        if behind > 0 {
            audit.behind.push((chain.instance, chain.last - published));
        }
    }
    let expired = ledger.expired()?;
    for path in table.live.keys().filter(|path| !named.contains(*path)) {
        match expired.contains(path) {
            true => audit.faults.push(format!("`{path}` is gone as was declared, and still in the table")),
            false => audit.foreign += 1,
        }
    }
    Ok(audit)
}

/// Visits the files of the records after `after` up to `to`.
fn each(ledger: &dyn Ledger, instance: u32, mut after: u64, to: u64, mut visit: impl FnMut(&DataFile)) -> Result<()> {
    while after < to {
        let portion = ledger.after(instance, after, to, FILES)?;
        portion.files.iter().for_each(&mut visit);
        after = portion.to;
    }
    Ok(())
}

fn compare(file: &DataFile, table: &Snapshot, audit: &mut Audit, named: &mut BTreeSet<String>) {
    let path = &file.path;
    named.insert(path.clone());
    let Some(add) = table.live.get(path) else {
        let by = if table.removed.contains_key(path) {
            "was taken out of the table"
        } else {
            "is not in the table, which says that it is published"
        };
        audit.faults.push(format!("`{path}` {by}"));
        return;
    };
    audit.files += 1;
    if u64::try_from(add.size) != Ok(file.bytes) {
        audit.faults.push(format!("`{path}` has {} bytes in the table, {} in its record", add.size, file.bytes));
    }
    let stats: Option<Value> = add.stats.as_deref().and_then(|stats| serde_json::from_str(stats).ok());
    if let Some(rows) = stats.and_then(|stats| stats["numRecords"].as_u64())
        && rows != file.rows
    {
        audit.faults.push(format!("`{path}` has {rows} rows in the table, {} in its record", file.rows));
    }
}
