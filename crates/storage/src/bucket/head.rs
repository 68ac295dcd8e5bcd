//! Finding the head of a chain in a bucket, and who holds it.
//!
//! Owns: the requests: the hint, the search, the last record, the snapshot that it names, the records between.
//! Does not own: which record to ask for (see `super::search`), what the records add up to (`Chain`, the same as on a disk).

use std::pin::pin;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;

use super::SIDE_BY_SIDE;
use super::beat::Beat;
use super::requests::Requests;
use super::search::{Next, Search};
use crate::checkpoint::log;
use crate::checkpoint::process::Process;
use crate::checkpoint::record::{CommitRecord, SnapshotName};
use crate::checkpoint::state::State;
use crate::checkpoint::store::{Chain, Head, parse_snapshot};

/// What a start finds.
#[derive(Debug)]
pub(super) struct Found {
    /// The head.
    pub head: Head,
    /// The process that holds the dataset, or did; `None` before the first record.
    pub holder: Option<Holder>,
}

/// The process that wrote the last record.
#[derive(Debug)]
pub(super) struct Holder {
    /// Who that is.
    pub process: Process,
    /// When its last record, or the last heartbeat if that is younger, was written, by the clock of the server. Also if that is another's, who does not
    /// know yet that it was fenced: it has replaced one of this process.
    pub last_seen: DateTime<Utc>,
    /// Its last heartbeat; `None` if there is none, or it is another's.
    pub beat: Option<Beat>,
}

/// A record as it lies in the bucket.
struct Lying {
    record: CommitRecord,
    sha256: String,
    bytes: usize,
    written: DateTime<Utc>,
}

/// Reads the head.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if anything contradicts anything.
pub(super) async fn find(requests: &Requests, format_sha256: &str, dataset_id: &str) -> Result<Found> {
    let beat = beat(requests).await?;
    let Some(sequence) = search(requests, beat.as_ref().map(|(beat, _)| beat.sequence)).await? else {
        return Ok(Found { head: Chain::new(&requests.paths, format_sha256).end(None), holder: None });
    };
    let last = record(requests, sequence).await?;
    let mut chain = match &last.record.snapshot {
        Some(name) => {
            let state = snapshot(requests, name, dataset_id).await?;
            Chain::after(&requests.paths, name, state, record(requests, name.sequence).await?.sha256)
        }
        None => Chain::new(&requests.paths, format_sha256),
    };
    let between = chain.sequence + 1..sequence;
    follow_all(requests, &mut chain, between).await?;
    follow(&mut chain, &last)?;
    let holder = holder(requests, &last, beat).await?;
    Ok(Found { head: chain.end(Some(last.record)), holder: Some(holder) })
}

/// Reads the last record; `None` before the first.
///
/// # Errors
/// As [`find`], as far as the last record shows it.
pub(super) async fn last(requests: &Requests) -> Result<Option<CommitRecord>> {
    let hint = beat(requests).await?.map(|(beat, _)| beat.sequence);
    let Some(sequence) = search(requests, hint).await? else { return Ok(None) };
    Ok(Some(record(requests, sequence).await?.record))
}

/// Lets a chain take in the records of these numbers, which are read side by side.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if one is missing or does not follow.
pub(super) async fn follow_all(requests: &Requests, chain: &mut Chain, numbers: impl Iterator<Item = u64>) -> Result<()> {
    let mut records = pin!(stream::iter(numbers).map(|number| record(requests, number)).buffered(SIDE_BY_SIDE));
    while let Some(lying) = records.next().await {
        follow(chain, &lying?)?;
    }
    Ok(())
}

fn follow(chain: &mut Chain, lying: &Lying) -> Result<()> {
    chain.follow(&lying.record, lying.sha256.clone())?;
    chain.since.add(lying.bytes);
    Ok(())
}

/// Reads the heartbeat, with the time that it was written. Whatever is wrong with it, there is none.
async fn beat(requests: &Requests) -> Result<Option<(Beat, DateTime<Utc>)>> {
    let object = requests.read(&requests.paths.beat()).await?;
    Ok(object.and_then(|object| Some((Beat::parse(&object.bytes)?, object.meta.written))))
}

/// Returns the number of the last record; `None` if there is none.
async fn search(requests: &Requests, hint: Option<u64>) -> Result<Option<u64>> {
    let mut search = Search::new(hint);
    loop {
        match search.next() {
            Next::Ask(sequence) => {
                let is_there = requests.look(&requests.paths.record(sequence)).await?.is_some();
                search.answer(sequence, is_there);
            }
            Next::Found(last) => return Ok(last),
            Next::Removed(hint) => return Err(log::missing(&requests.paths, hint)),
        }
    }
}

/// Finds out who wrote the last record: its open record says so.
async fn holder(requests: &Requests, last: &Lying, beat: Option<(Beat, DateTime<Utc>)>) -> Result<Holder> {
    let epoch = last.record.epoch;
    let opened = if epoch == last.record.sequence { last.record.opened.clone() } else { record(requests, epoch).await?.record.opened };
    let process = opened.ok_or_else(|| {
        let (sequence, path) = (last.record.sequence, requests.paths.record(epoch));
        Error::state(format!(
            "record {sequence} is of the process of `{}`, which is no open record; {}",
            path.display(),
            log::way_out(&path)
        ))
    })?;
    let last_seen = beat.as_ref().map_or(last.written, |(_, written)| last.written.max(*written));
    let beat = beat.map(|(beat, _)| beat).filter(|beat| beat.epoch == epoch);
    Ok(Holder { process, last_seen, beat })
}

async fn record(requests: &Requests, sequence: u64) -> Result<Lying> {
    let path = requests.paths.record(sequence);
    let object = requests.read(&path).await?;
    let (record, sha256) = log::parse(object.as_ref().map(|object| &*object.bytes), &path, sequence)?;
    let object = object.expect("what is missing does not parse");
    Ok(Lying { record, sha256, bytes: object.bytes.len(), written: object.meta.written })
}

async fn snapshot(requests: &Requests, name: &SnapshotName, dataset_id: &str) -> Result<(State, u64)> {
    let path = requests.paths.snapshot(name.sequence);
    let object = requests.read(&path).await?;
    let parsed = object.ok_or_else(|| "it is missing".to_owned()).and_then(|object| parse_snapshot(&object.bytes, name, dataset_id));
    parsed.map_err(|why| {
        Error::state(format!(
            "the snapshot `{}` cannot be trusted: {why}: run {}, which makes it again from the records",
            path.display(),
            command("repair --snapshot")
        ))
    })
}
