//! A table held against the ledger.
//!
//! Owns: what must be true of a table: each file that is published is in it once, with its length and its rows.
//! Does not own: reading the table (see [`crate::publisher`]), the files themselves (see the program's `verify`).

use std::collections::{BTreeMap, BTreeSet};

use pintail_core::error::Result;

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
    pub foreign: BTreeSet<String>,
    /// By instance: records that are not published yet.
    pub behind: Vec<(u32, u64)>,
    /// What contradicts the ledger.
    pub faults: Vec<String>,
}

/// What a table says of its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// The files, by their places below the dataset; those elsewhere by what the table calls them.
    pub live: BTreeMap<String, Told>,
    /// Files that left, as far as the table still says so.
    pub removed: BTreeSet<String>,
    /// How far each chain is, by instance.
    pub standing: BTreeMap<u32, u64>,
    /// What is wrong with the table whatever the ledger says.
    pub faults: Vec<String>,
}

/// What a table says of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Its length.
    pub bytes: i64,
    /// Its rows.
    pub rows: Option<u64>,
}

/// Holds what a table says against a ledger.
pub(crate) fn compare(version: u64, table: View, ledger: &dyn Ledger) -> Result<Audit> {
    let mut audit = Audit { version: Some(version), faults: table.faults.clone(), ..Audit::default() };
    let mut named = BTreeSet::new();
    for chain in ledger.chains() {
        let published = table.standing.get(&chain.instance).copied().unwrap_or(0);
        if published > chain.last {
            let text =
                format!("the table has the records of instance {} up to {published}, the ledger ends at {}", chain.instance, chain.last);
            audit.faults.push(text);
        }
        let published = published.min(chain.last);
        each(ledger, chain.instance, 0, published, |file| find(file, &table, &mut audit, &mut named))?;
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
            false => drop(audit.foreign.insert(path.clone())),
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

fn find(file: &DataFile, table: &View, audit: &mut Audit, named: &mut BTreeSet<String>) {
    let path = &file.path;
    named.insert(path.clone());
    let Some(told) = table.live.get(path) else {
        let by = if table.removed.contains(path) {
            "was taken out of the table"
        } else {
            "is not in the table, which says that it is published"
        };
        audit.faults.push(format!("`{path}` {by}"));
        return;
    };
    audit.files += 1;
    if u64::try_from(told.bytes) != Ok(file.bytes) {
        audit.faults.push(format!("`{path}` has {} bytes in the table, {} in its record", told.bytes, file.bytes));
    }
    if let Some(rows) = told.rows
        && rows != file.rows
    {
        audit.faults.push(format!("`{path}` has {rows} rows in the table, {} in its record", file.rows));
    }
}
