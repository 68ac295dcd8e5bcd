//! What must hold in a bucket, and what makes two of them the same for whoever starts next.
//!
//! Owns: the judgement of one world, and its essence.
//! Does not own: how it came to be (see `life` and `walk`); what holds at every single request (see `world`).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;
use std::path::Path;

use pintail_core::digest::sha256_hex;
use pintail_storage::checkpoint::paths::{Paths, sequence_of};
use pintail_storage::checkpoint::record::{CommitRecord, FileEntry};
use pintail_storage::durable::fs::ReadFs;

use super::life::Host;
use super::world::{Request, World};
use crate::model::{Model, Renames};
use crate::script::{Checked, tree};

/// Reads the records, oldest first. There is none behind one that is missing.
pub(crate) fn chain(world: &World) -> Checked<Vec<CommitRecord>> {
    let records = world.objects.iter().filter(|(key, _)| key.contains("/commits/"));
    let read = |(at, (key, (bytes, _))): (usize, (&String, &(bytes::Bytes, _)))| {
        let sequence = at as u64 + 1;
        if sequence_of(Path::new(key)) != Some(sequence) {
            return Err(format!("{key} is in the place of record {sequence}"));
        }
        CommitRecord::parse(bytes, sequence).map(|(record, _)| record).map_err(|why| format!("{key}: {why}"))
    };
    records.enumerate().map(read).collect()
}

/// Holds a world against its records. `complete` says that the last process ended well: then everything committed is visible.
pub(crate) fn check(world: &World, chain: &[CommitRecord], complete: bool) -> Checked<()> {
    if let Some(broken) = &world.broken {
        return Err(broken.clone());
    }
    let (mut named, mut next) = (BTreeMap::new(), 0);
    for record in chain {
        for span in &record.source.partitions {
            if span.from != next {
                return Err(format!("record {} begins at {}, the one before it ended at {next}", record.sequence, span.from));
            }
            next = span.to;
        }
        for file in &record.files {
            let must_be_there = complete || record.sequence < chain.len() as u64 || next <= world.acknowledged;
            if must_be_there && !world.objects.contains_key(&file.path) {
                return Err(format!("{} of record {} is not visible", file.path, record.sequence));
            }
            if named.insert(file.path.as_str(), &file.sha256).is_some() {
                return Err(format!("two records name {}", file.path));
            }
        }
    }
    if next < world.acknowledged {
        return Err(format!("{} source records were acknowledged, {next} are committed", world.acknowledged));
    }
    let mut rows = BTreeSet::new();
    for (key, bytes) in world.visible() {
        if named.get(key).is_none_or(|sha256| **sha256 != sha256_hex(bytes)) {
            return Err(format!("{key} is visible, and no record says what it holds"));
        }
        for row in std::str::from_utf8(bytes).map_err(|e| format!("{key} is torn: {e}"))?.lines() {
            let row: u64 = row.parse().map_err(|e| format!("{key} is torn: {e}"))?;
            if row >= next || !rows.insert(row) {
                return Err(format!("row {row} is in {key}, and in another file or behind what is committed"));
            }
        }
    }
    if complete && rows.len() as u64 != next {
        return Err(format!("{next} rows are committed, {} are visible", rows.len()));
    }
    Ok(())
}

/// Returns whether the last record has a file that nobody can make visible from a host: its upload is gone, and its bytes are not there.
pub(crate) fn is_lost(world: &World, host: Host) -> bool {
    let Some(last) = chain(world).ok().and_then(|mut chain| chain.pop()) else { return false };
    let scratch = Model::over(world.scratch.clone(), 0, Renames::Atomic).without_moments();
    last.files.iter().any(|file| {
        let upload = file.upload.as_ref().expect("every file was uploaded");
        let can_be_completed = world.objects.contains_key(&file.path) || world.is_open(&file.path, &upload.id.0);
        let can_be_uploaded = host == Host::Same && is_staged(&scratch, &last, file);
        !can_be_completed && !can_be_uploaded
    })
}

fn is_staged(scratch: &Model, record: &CommitRecord, file: &FileEntry) -> bool {
    let staged = Paths::new("/scratch").staged(record.staged_by(), file.staged);
    matches!(scratch.entry(&staged), Ok(Some(_)))
}

/// Returns what a world is for whoever starts next: everything that a decision looks at, numbers counted back from the last record. What rows the files
/// hold decides nothing, and neither do uploads that no record names.
pub(crate) fn essence(world: &World, chain: &[CommitRecord]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let last = chain.len() as u64;
    let back = |number: u64| last.wrapping_sub(number);
    let paths = Paths::new("");
    (world.provider, last.min(1)).hash(&mut hasher);
    [paths.format(), paths.key()].map(|path| world.objects.contains_key(path.to_str().unwrap())).hash(&mut hasher);
    let snapshot = chain.last().and_then(|last| last.snapshot.as_ref()).map_or(0, |snapshot| snapshot.sequence);
    snapshot.min(1).hash(&mut hasher);
    for record in &chain[usize::try_from(snapshot).unwrap()..] {
        (record.opened.is_some(), back(record.epoch), record.snapshot.as_ref().map(|name| back(name.sequence))).hash(&mut hasher);
    }
    let scratch = Model::over(world.scratch.clone(), 0, Renames::Atomic).without_moments();
    if let Some(last) = chain.last() {
        for file in &last.files {
            let upload = file.upload.as_ref().map_or("", |upload| &upload.id.0);
            let is_staged = is_staged(&scratch, last, file);
            (world.objects.contains_key(&file.path), world.is_open(&file.path, upload), is_staged).hash(&mut hasher);
        }
    }
    tree(&scratch, Path::new("/scratch")).len().hash(&mut hasher);
    let snapshots = world.objects.keys().filter(|key| key.contains("/snapshots/")).filter_map(|key| sequence_of(Path::new(key)));
    snapshots.map(back).filter(|back| *back < 4).collect::<Vec<_>>().hash(&mut hasher);
    hint(world, last).hash(&mut hasher);
    world.late.as_ref().map(|request| late(request, world, last)).hash(&mut hasher);
    hasher.finish()
}

/// Returns the heartbeat: how far back it points, how far back its process began, and whether that stopped.
fn hint(world: &World, last: u64) -> Option<Option<(u64, u64, bool)>> {
    let (bytes, _) = world.objects.get(Paths::new("").beat().to_str().unwrap())?;
    let beat: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let read = |beat: serde_json::Value| {
        let back = |key: &str| Some(last.wrapping_sub(beat[key].as_u64()?));
        Some((back("sequence")?, back("epoch")?, beat["stopped"].as_bool().unwrap_or(false)))
    };
    Some(beat.and_then(read))
}

/// Returns what a request under way may still do: what it is, how far back what it is about lies, and whether that is still open.
fn late(request: &Request, world: &World, last: u64) -> (std::mem::Discriminant<Request>, String, u64, bool) {
    let key = request.key();
    let about = Paths::new("").checkpoint_of(Path::new(key)).or_else(|| sequence_of(Path::new(key)));
    let place = key.split('/').next_back().map_or(key, |name| key.strip_suffix(name).unwrap_or(key));
    let kind = match request {
        Request::PutIfAbsent(_, bytes) => bytes.windows(8).any(|window| window == b"\"opened\""),
        Request::Complete(key, upload, _) | Request::PutPart(key, upload, ..) | Request::Abort(key, upload) => world.is_open(key, upload),
        Request::Replace(_, bytes) => bytes.windows(4).any(|window| window == b"true"),
        _ => false,
    };
    let place = if about.is_some() { place } else { key };
    (discriminant(request), place.to_owned(), about.map_or(0, |sequence| last.wrapping_sub(sequence)), kind)
}
