//! Sharing out: the source partitions of a dataset, anew among another number of instances.
//!
//! Owns: gathering the position of each from the chains, and the one file that makes the change.
//! Does not own: the locks of all instances, which the caller holds, and where each begins afterwards (see `open`).

use std::path::Path;
use std::sync::Arc;

use super::open::remove_leftovers;
use super::{Expected, Sharing, Store, write_named};
use crate::checkpoint::directories::Directories;
use crate::checkpoint::log;
use crate::checkpoint::paths::{Paths, in_progress};
use crate::checkpoint::take_over::{self, HandedOver, Origin, TakeOver};
use crate::durable::fs::Fs;
use crate::error::{Error, Result};
use crate::source::dead_letters;

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
    let take_over = TakeOver::new(last.as_ref(), &format_sha256, (before, after), partitions, expected.now);
    Directories::open(fs.clone(), &paths)?.ensure([paths.instances()])?;
    let path = paths.take_over(take_over.number);
    remove_leftovers(&**fs, [&in_progress(&path)])?;
    write_named(&**fs, &paths, &path, &take_over.encode())
}

/// Returns how many instances share the dataset; `None` if there is no dataset.
///
/// # Errors
/// [`crate::error::ErrorKind::State`] if what says so cannot be trusted.
pub fn instances(fs: &dyn Fs, paths: &Paths) -> Result<Option<u32>> {
    let Some((format, sha256)) = log::format(fs, paths)? else { return Ok(None) };
    let last = take_over::last(fs, paths, &sha256)?;
    Ok(Some(last.map_or(format.instances, |last| last.take_over.to_instances)))
}

/// Returns where the source partitions of a chain stand. Those of its rejected records are not handed over.
fn positions(store: &Store) -> impl Iterator<Item = HandedOver> {
    let of_last =
        store.last().map(|last| Origin { instance: store.paths.instance(), sequence: last.sequence, sha256: store.previous.clone() });
    let spans = store.offsets.spans().filter(|(id, _)| !dead_letters::owns(id));
    spans.filter_map(move |(id, span)| {
        // What was handed over before and has not moved since stands where it stood.
        let from = store.taken_over.get(id).or(of_last.as_ref())?.clone();
        Some(HandedOver { id: id.as_str().into(), label: span.label.as_ref().into(), offset: span.to, from })
    })
}
