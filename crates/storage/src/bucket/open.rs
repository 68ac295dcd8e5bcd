//! Opening a dataset in a bucket: FORMAT, the head, waiting for whoever holds it, recovery, and the open record that fences whoever still runs.
//!
//! Owns: the order of these, and looking at what [`super::entry`] decides on.
//! Does not own: what a dataset is asked to be (see [`crate::checkpoint::store`], as on a disk), finding the head (see `super::head`).
//!
//! While it waits nothing is changed but the object that tells the time. A head that moves meanwhile is a sign of life, and all is looked at anew.

use std::path::Path;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use pintail_core::digest::hex;
use pintail_core::error::{Error, Result};
use pintail_core::evidence::Key;
use tokio::time::Instant;
use tracing::{info, warn};

use super::entry::{Entry, Facts, entry, is_gone};
use super::ground;
use super::head::{self, Found, Holder};
use super::publish::{When, check_names, check_still_visible, publish_all};
use super::requests::{Created, Requests, failed};
use super::{BucketStore, Heart, Place, SOON, WhenHeld, lost, write_due_snapshot};
use crate::checkpoint::format::Format;
use crate::checkpoint::log;
use crate::checkpoint::process;
use crate::checkpoint::record::CommitRecord;
use crate::checkpoint::store::{
    Expected, Standing, Tip, check_empty, check_fits, check_instances, check_made_with, check_source, partition_columns,
};
use crate::checkpoint::visible::Readers;

/// Starts that may come between this one's looking and its open record. More at the same time is a mistake of whoever starts them.
const OPENINGS_MAX: usize = 8;

/// Objects that are looked at for files without a ledger, before a dataset is made.
const LISTED_MAX: usize = 1_000;

impl BucketStore {
    /// Opens the dataset, makes it if there is none, waits for a process that may still hold it, makes visible what a crash left, and fences
    /// whoever still writes to it. May be dropped while it waits.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if the dataset is not what `expected` asks for, [`pintail_core::error::ErrorKind::State`] if what
    /// lies there contradicts itself, or is committed and cannot be made visible: nothing is skipped silently.
    /// [`pintail_core::error::ErrorKind::TryAgain`] if others open it all the time, or the bucket does not answer.
    pub async fn open(place: &Place, expected: &Expected<'_>) -> Result<Self> {
        place.scratch.make()?;
        let requests = Requests::of(place);
        let (format, format_sha256) = open_format(&requests, expected).await?;
        check_instances(&requests.paths, &format, None, expected.sharing.instances)?;
        for _ in 0..OPENINGS_MAX {
            let found = enter(&requests, &format, &format_sha256, place, expected).await?;
            let next = found.head.last.as_ref().map_or(1, |last| last.sequence + 1);
            match Self::open_at(&requests, format.clone(), found, place, expected).await {
                Ok(Some(store)) => {
                    place.scratch.remove_older(store.tip.epoch)?;
                    if let Err(error) = store.beat().await {
                        warn!(%error, "could not update the heartbeat");
                    }
                    return Ok(store);
                }
                // The number of the open record was taken.
                Ok(None) => {}
                // What was looked at is not what is there now: another process has gone on from there.
                Err(_) if requests.look(&requests.paths.record(next)).await?.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::try_again(format!(
            "other processes open `{}` all the time: run one process on a dataset",
            requests.paths.root().display()
        )))
    }

    /// Opens the dataset at its head; `None` if another process takes the next sequence number first.
    async fn open_at(requests: &Requests, format: Format, found: Found, place: &Place, expected: &Expected<'_>) -> Result<Option<Self>> {
        let head = found.head;
        if !expected.allow.strangers {
            ground::check(requests, head.last.as_ref().map(|last| last.sequence)).await?;
        }
        let key = open_key(requests, head.last.as_ref(), expected).await?;
        check_fits(&requests.paths, &format, &head, expected)?;
        if let Some(last) = &head.last {
            recover(requests, last, head.state.rest().expired_before.max(expected.allow.gone_before), place).await?;
        }
        let mut tip = Tip::new(format, key, head, expected);
        write_due_snapshot(requests, &mut tip).await?;
        let record = tip.open_record(expected);
        let sealed = tip.seal(record)?;
        let path = requests.paths.record(sealed.record.sequence);
        check_follows(requests, &tip).await?;
        let looked = Instant::now();
        match requests.create(&path, sealed.bytes.clone().into()).await? {
            Created::Anothers(_) => Ok(None),
            Created::Own => {
                if looked.elapsed() > SOON {
                    check_follows(requests, &tip).await?;
                }
                let heart = Heart::new(requests, place.beat_every, &sealed);
                tip.take(sealed);
                tip.offsets = tip.state.offsets();
                Ok(Some(Self { requests: requests.clone(), scratch: place.scratch.clone(), heart, tip }))
            }
        }
    }
}

/// Checks that the head that was found is still there: the bucket may have been put back since.
async fn check_follows(requests: &Requests, tip: &Tip) -> Result<()> {
    lost(requests, tip).await?.map_or(Ok(()), Err)
}

/// Returns whether there is a dataset. Nothing is written.
///
/// # Errors
/// If the bucket does not say.
pub async fn is_there(place: &Place) -> Result<bool> {
    let requests = Requests::of(place);
    Ok(requests.look(&requests.paths.format()).await?.is_some())
}

/// Compares a dataset with what a configuration asks of it, without changing anything. Returns where it stands; `None` where there is none.
///
/// # Errors
/// As [`BucketStore::open`]. What a crash left of the last checkpoint is not looked at: a start makes it visible, or says why not.
pub async fn check_dataset(place: &Place, expected: &Expected<'_>) -> Result<Option<Standing>> {
    let requests = Requests::of(place);
    let there = match requests.read(&requests.paths.format()).await? {
        Some(object) => Some(object.bytes),
        None => check_unused(&requests).await?,
    };
    let Some(there) = there else { return Ok(None) };
    let (format, sha256) = parse_format(&requests, &there, expected)?;
    check_instances(&requests.paths, &format, None, expected.sharing.instances)?;
    let head = head::find(&requests, &sha256, &format.dataset_id).await?.head;
    ground::check(&requests, head.last.as_ref().map(|last| last.sequence)).await?;
    let key = read_key(&requests).await?;
    check_made_with(&requests.paths, head.last.as_ref(), key.as_ref())?;
    check_fits(&requests.paths, &format, &head, expected)?;
    if let Some(last) = &head.last {
        check_still_visible(&requests, &place.scratch, last, head.state.rest().expired_before).await?;
    }
    Ok(Some(Standing { offsets: head.state.offsets(), key, format }))
}

/// Makes all files of the last record visible. May be killed at any step and run again.
async fn recover(requests: &Requests, last: &CommitRecord, expired_before: Option<DateTime<Utc>>, place: &Place) -> Result<()> {
    check_names(&requests.paths, last).map_err(|why| {
        let path = requests.paths.record(last.sequence);
        Error::state(format!("commit record `{}` cannot be trusted: {why}; {}", path.display(), log::way_out(&path)))
    })?;
    publish_all(requests, &place.scratch, last, expired_before, When::Recovery).await
}

/// Waits until the dataset may be entered. Returns what was found then.
async fn enter(requests: &Requests, format: &Format, format_sha256: &str, place: &Place, expected: &Expected<'_>) -> Result<Found> {
    let waits = &place.waits;
    loop {
        let found = head::find(requests, format_sha256, &format.dataset_id).await?;
        let facts = match &found.holder {
            Some(holder) => Some(look_at(requests, holder, place, expected).await?),
            None => None,
        };
        match entry(facts.as_ref()) {
            Entry::Now => return Ok(found),
            Entry::Wait(pause) => {
                if let Some(holder) = &found.holder {
                    if place.when_held == WhenHeld::Refuse {
                        return Err(Error::try_again(format!(
                            "{} holds `{}`: stop it first; if it was killed, try again in {} s",
                            holder.process,
                            requests.paths.root().display(),
                            pause.as_secs() + 1
                        )));
                    }
                    let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                    info!(holder = %holder.process, pause_ms, "another process may hold the dataset, waiting");
                    let root = requests.paths.root().display();
                    let why = format!(
                        "standby: {} holds `{root}`, and this one goes in once that stops or misses two heartbeats",
                        holder.process
                    );
                    let _waiting = waits.waiting(why);
                    if !waits.pause(pause).await {
                        return Err(Error::try_again(format!("stopped while {} held `{root}`: nothing was changed", holder.process)));
                    }
                }
            }
        }
    }
}

/// Looks at the process that holds the dataset. The time of the server is asked for only where it matters.
async fn look_at(requests: &Requests, holder: &Holder, place: &Place, expected: &Expected<'_>) -> Result<Facts> {
    let stopped = holder.beat.as_ref().is_some_and(|beat| beat.stopped);
    let gone = is_gone(&holder.process, &expected.process, process::started_of);
    let now = if stopped || gone { holder.last_seen } else { server_time(requests).await? };
    let every = holder.beat.as_ref().map_or(place.beat_every, super::beat::Beat::every);
    Ok(Facts { stopped, gone, last_seen: holder.last_seen, now, every })
}

/// Returns the time of the server: that of an object which is written now.
async fn server_time(requests: &Requests) -> Result<DateTime<Utc>> {
    let path = requests.paths.clock();
    requests.replace(&path, Bytes::new()).await?;
    let meta = requests.look(&path).await?;
    meta.map(|meta| meta.written).ok_or_else(|| Error::try_again(format!("`{}` was removed at this moment: start again", path.display())))
}

/// Returns FORMAT with its checksum as it is, or makes it.
async fn open_format(requests: &Requests, expected: &Expected<'_>) -> Result<(Format, String)> {
    let path = requests.paths.format();
    let there = match requests.read(&path).await? {
        Some(object) => object.bytes,
        None => make_format(requests, expected).await?,
    };
    parse_format(requests, &there, expected)
}

/// Returns FORMAT with its checksum; `None` if there is none.
pub(super) async fn find_format(requests: &Requests) -> Result<Option<(Format, String)>> {
    let object = requests.read(&requests.paths.format()).await?;
    object.map(|object| trusted(requests, &object.bytes)).transpose()
}

fn parse_format(requests: &Requests, there: &[u8], expected: &Expected<'_>) -> Result<(Format, String)> {
    let (format, sha256) = trusted(requests, there)?;
    check_source(&requests.paths, &format, expected)?;
    Ok((format, sha256))
}

fn trusted(requests: &Requests, there: &[u8]) -> Result<(Format, String)> {
    let path = requests.paths.format();
    Format::parse(there).map_err(|why| Error::state(format!("`{}` cannot be trusted: {why}; {}", path.display(), log::way_out(&path))))
}

/// Checks that there is no ledger, and no files without one. Returns FORMAT if another process has made it meanwhile.
async fn check_unused(requests: &Requests) -> Result<Option<Bytes>> {
    let paths = &requests.paths;
    let listed = requests.persist(|| requests.blob().list(LISTED_MAX)).await;
    let listed = listed.map_err(|fault| failed(format_args!("list `{}`", paths.root().display()), fault))?;
    let has_records = requests.look(&paths.record(1)).await?.is_some();
    // Again, after these: another process may make the dataset at this moment, and FORMAT is older than its records and files.
    if let Some(object) = requests.read(&paths.format()).await? {
        return Ok(Some(object.bytes));
    }
    if has_records {
        return Err(Error::state(format!(
            "`{}` is missing, but there are commit records: {}",
            paths.format().display(),
            log::way_out(paths.root())
        )));
    }
    check_empty(paths, listed.iter().map(|key| Path::new(key.as_str())).find(|file| Readers::of(file) == Readers::All))?;
    Ok(None)
}

/// Makes FORMAT where nothing is. Returns its bytes, or those of a process that was faster.
async fn make_format(requests: &Requests, expected: &Expected<'_>) -> Result<Bytes> {
    let paths = &requests.paths;
    if let Some(there) = check_unused(requests).await? {
        return Ok(there);
    }
    if paths.instance() > 0 {
        let path = paths.format();
        return Err(Error::try_again(format!("`{}` is not there yet: instance 0 makes it, start that first", path.display())));
    }
    let format = Format::new(expected.now, expected.source, partition_columns(expected)).for_instances(expected.sharing.instances);
    let bytes = Bytes::from(format.encode().0);
    match requests.create(&paths.format(), bytes.clone()).await? {
        Created::Own => Ok(bytes),
        Created::Anothers(there) => Ok(there),
    }
}

/// Reads the key, or makes it.
async fn open_key(requests: &Requests, last: Option<&CommitRecord>, expected: &Expected<'_>) -> Result<Key> {
    let path = requests.paths.key();
    let found = read_key(requests).await?;
    if !expected.allow.another_key {
        // Before one is made: it would lie in the way of whoever restores the right one.
        check_made_with(&requests.paths, last, found.as_ref())?;
    }
    if let Some(key) = found {
        return Ok(key);
    }
    let bytes = format!("{}\n", hex(expected.new_key.bytes()));
    match requests.create(&path, bytes.into()).await? {
        Created::Own => Ok(expected.new_key.clone()),
        Created::Anothers(there) => parse_key(requests, &there),
    }
}

async fn read_key(requests: &Requests) -> Result<Option<Key>> {
    let object = requests.read(&requests.paths.key()).await?;
    object.map(|object| parse_key(requests, &object.bytes)).transpose()
}

fn parse_key(requests: &Requests, bytes: &[u8]) -> Result<Key> {
    let path = requests.paths.key();
    Key::parse(bytes).ok_or_else(|| Error::state(format!("`{}` is no key of a dataset: restore it from a copy", path.display())))
}
