//! Sharing out: the source partitions of a dataset, anew among another number of instances.
//!
//! Owns: gathering the position of each from the chains, and the one file that makes the change.
//! Does not own: the locks of all instances, which the caller holds, and where each begins afterwards (see `open`).

use std::path::Path;
use std::sync::Arc;

use pintail_core::error::{Error, Result};

use super::named::{self, Written, remove_leftovers};
use super::{Expected, Sharing, Store};
use crate::checkpoint::directories::Directories;
use crate::checkpoint::log;
use crate::checkpoint::paths::Paths;
use crate::checkpoint::take_over::{self, HandedOver, Origin, TakeOver};
use crate::durable::fs::Fs;

/// Shares the source partitions of the dataset at `root` out among as many instances as `expected` asks for; nothing if it is theirs already.
/// Completes first what a crash interrupted, in every chain. The caller holds the locks of all instances, of before and of after.
///
/// May be killed at any moment and run again: the file that says it is written last, and appears whole or not at all.
///
/// # Errors
/// As [`Store::open`] for any of the chains.
pub fn share_out(fs: &Arc<dyn Fs>, root: &Path, expected: &Expected) -> Result<()> {
    let absolute = Paths::new(root).absolute();
    let paths = absolute.map_err(|e| Error::io(format_args!("use `{}` as `pipeline.out_path`", root.display()), e))?;
    let Some(before) = instances(&**fs, &paths)? else { return Ok(()) };
    let after = expected.sharing.instances;
    if before == after {
        return Ok(());
    }
    let expected = Expected { sharing: Sharing { instances: before, ..expected.sharing }, ..expected.clone() };
    let mut partitions = Vec::new();
    let mut made = None;
    for instance in 0..before {
        let store = Store::open(fs.clone(), paths.of_instance(instance), &expected)?;
        partitions.extend(positions(&store).collect::<Vec<_>>());
        made = Some(store);
    }
    let store = made.expect("there was at least one instance");
    let (_, format_sha256) = store.format().encode();
    let last = take_over::last(&**fs, &paths, &format_sha256)?;
    let by = expected.process.clone();
    let take_over = TakeOver::new(last.as_ref(), &format_sha256, (before, after), partitions, expected.now, by);
    Directories::open(fs.clone(), &paths)?.ensure([paths.instances()])?;
    let path = paths.take_over(take_over.number);
    remove_leftovers(&**fs, &paths.instances(), &expected.process.nonce)?;
    match named::write(&**fs, &paths, &expected.process.nonce, &path, &take_over.encode())? {
        Written::Now => Ok(()),
        Written::Taken => {
            Err(Error::try_again(format!("`{}` is there already: another process shares the partitions out", path.display())))
        }
    }
}

/// Returns how many instances share the dataset; `None` if there is no dataset.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if what says so cannot be trusted.
pub fn instances(fs: &dyn Fs, paths: &Paths) -> Result<Option<u32>> {
    let Some((format, sha256)) = log::format(fs, paths)? else { return Ok(None) };
    let last = take_over::last(fs, paths, &sha256)?;
    Ok(Some(last.map_or(format.instances, |last| last.take_over.to_instances)))
}

/// Returns where the source partitions of a chain stand. Those of its rejected records are not handed over.
fn positions(store: &Store) -> impl Iterator<Item = HandedOver> {
    // An open record was just written: it is durable, and the state after it holds them all.
    let last = store.last().expect("a store that is open has a record");
    let from = Origin { instance: store.paths.instance(), sequence: last.sequence, sha256: store.tip.previous.clone() };
    let positions = store.tip.state.positions().filter(|(id, _)| !id.is_of_dead_letters());
    positions.map(move |(id, position)| HandedOver {
        id: id.as_str().into(),
        label: position.label.as_ref().into(),
        offset: position.to,
        from: from.clone(),
        evidence: position.evidence.as_deref().cloned(),
    })
}

#[cfg(test)]
mod tests;
