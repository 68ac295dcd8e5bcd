//! Opening the journal: what a crash left, and what is made of it.
//!
//! Owns: which segments count, the cut of a torn tail, the refusal of everything else that is not whole.
//! Does not own: writing afterwards (see `log`).
//!
//! The newest segment is replaced by a copy: what was written to it and not synced may be visible and yet not on the disk, and after a
//! failed fsync no further fsync of that file would tell.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pintail_core::error::{Error, Result};
use tracing::warn;

use super::frame::HEADER;
use super::keys::Keys;
use super::log::Log;
use super::new_segment::NewSegment;
use super::opening::Opening;
use super::position::{Contradiction, Watch};
use super::running::Running;
use super::scan::{Ending, Link, Scanned, scan};
use super::segment::{self, BadFrame, Frames, Header, untrusted};
use super::shared::{Extent, Shared};
use super::time::Stamp;
use super::{Committed, Settings, note};
use crate::durable::fs::{EntryKind, Fs, FsFile};

pub(super) fn open(fs: Arc<dyn Fs>, settings: Settings, committed: &Committed) -> Result<Log> {
    check_limits(&settings)?;
    make_dir(&*fs, &settings)?;
    let files = segments(&*fs, &settings)?;
    remove_in_progress(&*fs, &settings)?;
    let mut keys = Keys::new(settings.key_ttl, settings.keys_max);
    let (mut extents, newest) = match check(&*fs, &settings, &files, committed)? {
        None => (VecDeque::new(), first_segment(&settings)),
        Some(scanned) => take_over(&settings, scanned, &mut keys),
    };
    keys.settle();
    let Replacement { header, offset, running, stamp, .. } = newest.clone();
    let (file, end) = write(&*fs, &settings, newest)?;
    note::make(&*fs, &settings)?;
    let (segment, begin) = (header.segment, header.begin());
    extents.push_back(Extent { segment, begin, first_offset: header.first_offset, end, bytes: end });
    remove_replaced(&*fs, &settings, &files, &extents)?;
    let (dir, dataset_id) = (settings.dir.clone(), settings.dataset_id.clone());
    let shared = Arc::new(Shared::new(fs.clone(), dir, dataset_id, extents, (offset, running)));
    let (mark, released) = (header.mark(), committed.offset.unwrap_or(0));
    Ok(Log { fs, settings, shared, file, mark, broken: false, named_with: end, stamp, keys, released })
}

/// The segment to be written, and the one whose whole groups it takes over.
#[derive(Debug, Clone)]
struct Replacement {
    header: Header,
    /// Number, end in bytes, frames.
    of: Option<(u64, u64, u32)>,
    /// The offset behind the last record, and the hash of all before it.
    offset: u64,
    running: Running,
    stamp: Stamp,
}

fn check_limits(settings: &Settings) -> Result<()> {
    let least = 2 * settings.segment_bytes + 2 * (settings.keys_max * HEADER) as u64;
    if settings.bytes_max < least {
        return Err(Error::config(format!(
            "the journal may take {} bytes: segments of {} bytes and {} keys need at least {least}",
            settings.bytes_max, settings.segment_bytes, settings.keys_max
        )));
    }
    Ok(())
}

fn make_dir(fs: &dyn Fs, settings: &Settings) -> Result<()> {
    let dir = &settings.dir;
    let made = fs.entry(dir).and_then(|entry| if entry.is_none() { fs.create_dir(dir) } else { Ok(()) });
    // Also where it was there: who made it may have been killed before its name was durable.
    let made = made.and_then(|()| fs.sync_dir(dir.parent().expect("the journal lies in a dataset")));
    made.map_err(|e| Error::io(format_args!("make the directory `{}`", dir.display()), e))
}

/// Lists the segments with their lengths.
pub(super) fn segments(fs: &dyn Fs, settings: &Settings) -> Result<BTreeMap<u64, u64>> {
    let failed = |e| Error::io(format_args!("list `{}`", settings.dir.display()), e);
    let mut files = BTreeMap::new();
    for entry in fs.list(&settings.dir).map_err(failed)? {
        if let (EntryKind::File(bytes), Some(number)) = (entry.kind, segment::number(&entry.path)) {
            files.insert(number, bytes);
        }
    }
    Ok(files)
}

/// Looks whether the journal could be opened.
pub(super) fn check_unopened(fs: &dyn Fs, settings: &Settings, committed: &Committed) -> Result<()> {
    check_limits(settings)?;
    let dir = fs.entry(&settings.dir).map_err(|e| Error::io(format_args!("look for `{}`", settings.dir.display()), e))?;
    let files = if dir.is_none() { BTreeMap::new() } else { segments(fs, settings)? };
    check(fs, settings, &files, committed).map(drop)
}

/// Removes what did not get its name.
fn remove_in_progress(fs: &dyn Fs, settings: &Settings) -> Result<()> {
    let failed = |e| Error::io(format_args!("clean `{}`", settings.dir.display()), e);
    for entry in fs.list(&settings.dir).map_err(failed)? {
        if matches!(entry.kind, EntryKind::File(_)) && segment::is_in_progress(&entry.path) {
            fs.remove_file(&entry.path).map_err(failed)?;
        }
    }
    Ok(())
}

fn first_segment(settings: &Settings) -> Replacement {
    let stamp = Stamp::first(settings.clocks.read());
    let running = Running::from(&settings.dataset_id, 0);
    let header = Header::new(&settings.dataset_id, 1, 0, None, running, stamp);
    Replacement { header, of: None, offset: 0, running, stamp }
}

/// A segment that was scanned, oldest first, and what it takes on the disk.
type Whole = Vec<(Link, Scanned)>;

/// Holds the journal against itself and against what is committed. Changes nothing. Returns its segments, `None` if there is none yet.
///
/// # Errors
/// `State` if it cannot be trusted.
pub(super) fn check(fs: &dyn Fs, settings: &Settings, files: &BTreeMap<u64, u64>, committed: &Committed) -> Result<Option<Whole>> {
    let next = committed.offset.unwrap_or(0);
    let dir = settings.dir.display();
    let Some(newest) = files.last_key_value().map(|(newest, _)| *newest) else {
        let known = committed.evidence.iter().flat_map(|evidence| &evidence.witnesses).map(|witness| witness.to).max();
        if next > 0 || known.is_some() {
            return Err(untrusted(format_args!(
                "the journal `{dir}` has no segment, and its records are committed up to offset {next}: what was accepted after that is \
                 lost"
            )));
        }
        if note::is_there(fs, settings)? {
            let note = note::path(settings);
            return Err(untrusted(format_args!(
                "the journal `{dir}` has no segment, and `{}` says that it was begun: what was accepted is lost",
                note.display()
            )));
        }
        return Ok(None);
    };
    let chain = chain(fs, settings, files, newest)?;
    let begin = chain[0].header.begin();
    if begin > next {
        return Err(contradiction(settings, &format!("begins at offset {begin}"), next));
    }
    let mut watch = Watch::new(&settings.key, committed.evidence.as_deref());
    let mut whole = Whole::new();
    for link in chain {
        if let Some((_, before)) = whole.last() {
            check_join(settings, before, &link.header)?;
        }
        let scanned = scan(fs, &settings.dir, &link, &mut watch)?;
        match &scanned.ending {
            Ending::Whole | Ending::Torn(_) => {}
            Ending::Damaged(bad, offset) => return Err(segment::refuse(&settings.dir, link.header.segment, bad, *offset)),
            Ending::Followed => {
                let why = "it says that another segment follows, and none does".into();
                return Err(segment::refuse(&settings.dir, newest, &BadFrame { at: scanned.end, why }, scanned.offset));
            }
        }
        whole.push((link, scanned));
    }
    let (link, last) = whole.last().expect("there is a segment");
    let end = last.offset;
    watch.judge(next, end, (newest, last.end)).map_err(|contradicts| match contradicts {
        Contradiction::Ends { end: expected } if expected > next => untrusted(format_args!(
            "the journal `{dir}` ends at offset {end}, records up to offset {expected} were accepted and are lost"
        )),
        Contradiction::Ends { .. } => contradiction(settings, &format!("ends at offset {end}"), next),
        Contradiction::Differs { at } => untrusted(format_args!(
            "the journal `{dir}` holds something else at offset {at} than the commit records say was accepted there (was it restored, or is \
             it another one?)"
        )),
        Contradiction::Keys { segment, bytes } => untrusted(format_args!(
            "the journal `{dir}` ends in segment {}, at byte {}; segment {segment} had {bytes} bytes, with idempotency keys that are lost",
            link.header.segment, last.end
        )),
    })?;
    Ok(Some(whole))
}

/// Checks that a segment begins where the one before it ends, with the same behind it.
fn check_join(settings: &Settings, before: &Scanned, header: &Header) -> Result<()> {
    let path = segment::path(&settings.dir, header.segment);
    if header.lost.is_some() {
        return Ok(());
    }
    let (begins, ends) = (header.first_offset, before.offset);
    if begins != ends {
        return Err(untrusted(format_args!(
            "journal segment `{}` begins at offset {begins}, the one before it ends at {ends}",
            path.display()
        )));
    }
    match header.running.zip(before.running) {
        Some((running, was)) if running != was => Err(untrusted(format_args!(
            "journal segment `{}` follows other records than stand before it, at offset {begins}",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Plans the copy of the newest segment, and takes up what the others hold.
fn take_over(settings: &Settings, mut whole: Whole, keys: &mut Keys) -> (VecDeque<Extent>, Replacement) {
    let now = settings.clocks.read();
    let stamp = whole.iter().filter_map(|(_, scanned)| scanned.stamp).max();
    let newest_key = whole.iter().flat_map(|(_, scanned)| &scanned.keyed).map(|head| head.at_ms).max();
    let stamp = stamp.map_or_else(|| Stamp::of_version_1(newest_key.unwrap_or(now.wall_ms), now), |stamp| stamp.then(now));
    let (_, newest) = whole.pop().expect("there is a segment");
    let mut extents = VecDeque::new();
    for (link, scanned) in whole {
        let (segment, begin) = (link.header.segment, link.header.begin());
        scanned.keyed.iter().for_each(|head| keys.recover(head, segment));
        extents.push_back(Extent { segment, begin, first_offset: link.header.first_offset, end: link.end, bytes: link.bytes });
    }
    let was = newest.header;
    if let Ending::Torn(bytes) = newest.ending {
        let path = segment::path(&settings.dir, was.segment);
        warn!(segment = %path.display(), at = newest.end, bytes, "cut off the end of the journal, which was never answered");
    }
    let before = was.running.unwrap_or_else(|| Running::from(&settings.dataset_id, was.first_offset));
    let header = Header::new(&settings.dataset_id, was.segment + 1, was.first_offset, was.previous, before, stamp);
    let copied = if newest.frames == 0 { 0 } else { HEADER as u64 + newest.length };
    let header = Header { copied, lost: was.lost, ..header };
    newest.keyed.iter().for_each(|head| keys.recover(head, header.segment));
    let running = newest.running.expect("the newest segment is hashed");
    (extents, Replacement { header, of: Some((was.segment, newest.end, newest.frames)), offset: newest.offset, running, stamp })
}

fn contradiction(settings: &Settings, what: &str, committed: u64) -> Error {
    untrusted(format_args!("the journal `{}` {what}, its records are committed up to {committed}", settings.dir.display()))
}

/// Follows the segments from the newest on, each naming the one before it. Returns them oldest first.
pub(super) fn chain(fs: &dyn Fs, settings: &Settings, files: &BTreeMap<u64, u64>, newest: u64) -> Result<VecDeque<Link>> {
    let mut links = VecDeque::new();
    let (mut number, mut end) = (newest, files[&newest]);
    loop {
        let bytes = files[&number];
        let header = Frames::open(fs, &settings.dir, &settings.dataset_id, number, end)?.header;
        let previous = header.previous;
        links.push_front(Link { header, end, bytes, newest: number == newest });
        let Some(previous) = previous else { break };
        if previous.segment >= number {
            return Err(refuse(settings, number, &format!("it follows segment {}, which is not before it", previous.segment)));
        }
        match files.get(&previous.segment) {
            Some(bytes) if *bytes < previous.bytes => {
                let why = format!("it has {bytes} bytes, {} were accepted", previous.bytes);
                return Err(refuse(settings, previous.segment, &why));
            }
            Some(_) => (number, end) = (previous.segment, previous.bytes),
            // Released. It went after everything older.
            None if files.range(..previous.segment).next().is_some() => {
                return Err(refuse(settings, previous.segment, "it is missing, and older ones are there"));
            }
            None => break,
        }
    }
    Ok(links)
}

fn refuse(settings: &Settings, number: u64, why: &str) -> Error {
    let path = segment::path(&settings.dir, number);
    untrusted(format_args!("journal segment `{}` cannot be trusted, at byte 0: {why}", path.display()))
}

/// Writes a segment, with the frames that it takes over from the one that it replaces.
fn write(fs: &dyn Fs, settings: &Settings, new: Replacement) -> Result<(Box<dyn FsFile>, u64)> {
    let path = segment::path(&settings.dir, new.header.segment);
    let failed = |e| Error::io(format_args!("write `{}`", path.display()), e);
    let mut segment = NewSegment::begin(fs, &settings.dir, &new.header).map_err(failed)?;
    if let Some((number, end, count)) = new.of.filter(|(_, _, count)| *count > 0) {
        let (length, running) = (new.header.copied - HEADER as u64, new.header.running.expect("a new segment has it"));
        segment.open(Opening { group: 0, frames: count, length, zeros: 0, running, stamp: new.stamp }).map_err(failed)?;
        let mut frames = Frames::open(fs, &settings.dir, &settings.dataset_id, number, end)?;
        while let Some(frame) = frames.read()?.map_err(|bad| frames.refuse(&bad, 0))? {
            segment.add(&frame.head, &frame.body).map_err(failed)?;
        }
    }
    segment.sync().and_then(NewSegment::name).map_err(failed)
}

/// Removes the segments that were replaced, durably before any other goes.
fn remove_replaced(fs: &dyn Fs, settings: &Settings, files: &BTreeMap<u64, u64>, extents: &VecDeque<Extent>) -> Result<()> {
    let replaced: Vec<_> = files.keys().filter(|number| extents.iter().all(|extent| extent.segment != **number)).collect();
    let removed = replaced.iter().try_for_each(|number| fs.remove_file(&segment::path(&settings.dir, **number)));
    // Also where none is left: who removed them may have been killed before that was durable.
    let removed = removed.and_then(|()| fs.sync_dir(&settings.dir));
    removed.map_err(|e| Error::io(format_args!("remove the replaced segments of `{}`", settings.dir.display()), e))
}
