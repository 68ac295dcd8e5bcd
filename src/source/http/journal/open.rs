//! Opening the journal: what a crash left, and what is made of it.
//!
//! Owns: which segments count, the cut of a torn tail, the refusal of everything else that is not whole.
//! Does not own: writing afterwards (see `log`).
//!
//! The newest segment is replaced by a copy: what was written to it and not synced may be visible and yet not on the disk, and after a
//! failed fsync no further fsync of that file would tell.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::sync::Arc;

use memchr::memmem;
use tracing::warn;

use super::Settings;
use super::frame::{HEADER, Head, first};
use super::keys::Keys;
use super::log::Log;
use super::new_segment::NewSegment;
use super::segment::{self, BadFrame, Frames, Header};
use super::shared::{Extent, Shared};
use crate::durable::fs::{EntryKind, Fs, FsFile};
use crate::error::{Error, Result};

/// A segment that counts, as its header and the one after it describe it.
struct Link {
    header: Header,
    end: u64,
    bytes: u64,
}

/// What a scan of a segment found.
struct Scanned {
    /// Where its whole groups end, in bytes.
    end: u64,
    /// The offset behind its last record.
    offset: u64,
    /// The frames that have a key.
    keyed: Vec<Head>,
}

pub fn open(fs: Arc<dyn Fs>, settings: Settings, committed: Option<u64>) -> Result<Log> {
    check_limits(&settings)?;
    make_dir(&*fs, &settings)?;
    let files = segments(&*fs, &settings)?;
    let committed = committed.unwrap_or(0);
    let mut keys = Keys::new(settings.key_ttl, settings.keys_max);
    let (mut extents, newest, offset) = match files.last_key_value() {
        None => (VecDeque::new(), first_segment(&settings, committed)?, 0),
        Some((newest, _)) => recover(&*fs, &settings, &files, *newest, committed, &mut keys)?,
    };
    keys.settle();
    let header = newest.header.clone();
    let (file, end) = write(&*fs, &settings, newest)?;
    extents.push_back(Extent { segment: header.segment, first_offset: header.first_offset, end, bytes: end });
    remove_replaced(&*fs, &settings, &files, &extents)?;
    let shared = Arc::new(Shared::new(fs.clone(), settings.dir.clone(), settings.dataset_id.clone(), extents, offset));
    Ok(Log { fs, settings, shared, file, mark: header.mark(), broken: false, keys, released: committed })
}

/// The segment to be written, and the one whose whole groups it takes over.
struct Replacement {
    header: Header,
    of: Option<(u64, u64)>,
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

/// Lists the segments with their lengths. Removes what did not get its name.
fn segments(fs: &dyn Fs, settings: &Settings) -> Result<BTreeMap<u64, u64>> {
    let failed = |e| Error::io(format_args!("list `{}`", settings.dir.display()), e);
    let mut files = BTreeMap::new();
    for entry in fs.list(&settings.dir).map_err(failed)? {
        match (entry.kind, segment::number(&entry.path)) {
            (EntryKind::File(bytes), Some(number)) => drop(files.insert(number, bytes)),
            (EntryKind::File(_), None) if segment::is_in_progress(&entry.path) => fs.remove_file(&entry.path).map_err(failed)?,
            _ => {}
        }
    }
    Ok(files)
}

fn first_segment(settings: &Settings, committed: u64) -> Result<Replacement> {
    if committed > 0 {
        return Err(Error::state(format!(
            "the journal `{}` has no segment, and its records are committed up to offset {committed}: what was accepted after that is \
             lost; restore the directory from a copy",
            settings.dir.display()
        )));
    }
    Ok(Replacement { header: Header::new(&settings.dataset_id, 1, 0, None), of: None })
}

type Recovered = (VecDeque<Extent>, Replacement, u64);

fn recover(
    fs: &dyn Fs,
    settings: &Settings,
    files: &BTreeMap<u64, u64>,
    newest: u64,
    committed: u64,
    keys: &mut Keys,
) -> Result<Recovered> {
    let chain = chain(fs, settings, files, newest)?;
    let mut offset = chain[0].header.first_offset;
    if offset > committed {
        return Err(contradiction(settings, &format!("begins at offset {offset}"), committed));
    }
    let mut extents = VecDeque::new();
    for link in &chain {
        let number = link.header.segment;
        if link.header.first_offset != offset {
            let path = segment::path(&settings.dir, number);
            let begins = link.header.first_offset;
            return Err(Error::state(format!(
                "journal segment `{}` begins at offset {begins}, the one before it ends at {offset}: restore the directory from a copy",
                path.display()
            )));
        }
        let scanned = scan(fs, settings, link, number == newest)?;
        offset = scanned.offset;
        if number == newest {
            if offset < committed {
                return Err(contradiction(settings, &format!("ends at offset {offset}"), committed));
            }
            let header = Header::new(&settings.dataset_id, newest + 1, link.header.first_offset, link.header.previous);
            scanned.keyed.iter().for_each(|head| keys.recover(head, header.segment));
            return Ok((extents, Replacement { header, of: Some((newest, scanned.end)) }, offset));
        }
        scanned.keyed.iter().for_each(|head| keys.recover(head, number));
        extents.push_back(Extent { segment: number, first_offset: link.header.first_offset, end: link.end, bytes: link.bytes });
    }
    unreachable!("the newest segment is the last link")
}

fn contradiction(settings: &Settings, what: &str, committed: u64) -> Error {
    Error::state(format!(
        "the journal `{}` {what}, its records are committed up to {committed}: restore the directory from a copy",
        settings.dir.display()
    ))
}

/// Follows the segments from the newest on, each naming the one before it. Returns them oldest first.
fn chain(fs: &dyn Fs, settings: &Settings, files: &BTreeMap<u64, u64>, newest: u64) -> Result<VecDeque<Link>> {
    let mut links = VecDeque::new();
    let (mut number, mut end) = (newest, files[&newest]);
    loop {
        let bytes = files[&number];
        let header = Frames::open(fs, &settings.dir, &settings.dataset_id, number, end)?.header;
        let previous = header.previous;
        links.push_front(Link { header, end, bytes });
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
    Error::state(format!("journal segment `{}` cannot be trusted, at byte 0: {why}; restore the directory from a copy", path.display()))
}

/// Reads all frames of a segment. Only the newest may end in a group that is not whole.
fn scan(fs: &dyn Fs, settings: &Settings, link: &Link, newest: bool) -> Result<Scanned> {
    let mut frames = Frames::open(fs, &settings.dir, &settings.dataset_id, link.header.segment, link.end)?;
    let mut whole = Scanned { end: frames.at(), offset: link.header.first_offset, keyed: vec![] };
    let mut group = Vec::<Head>::new();
    let mut offset = whole.offset;
    loop {
        let at = frames.at();
        match frames.read()? {
            Ok(None) if group.is_empty() => return Ok(whole),
            Ok(None) if newest => break,
            Ok(None) => return Err(frames.refuse(&BadFrame { at, why: "a group of frames is not whole".into() }, offset)),
            Ok(Some(frame)) => {
                check_place(&frame.head, at, group.last(), offset).map_err(|why| frames.refuse(&BadFrame { at, why }, offset))?;
                if frame.head.holds_records() {
                    offset += frame.head.records;
                }
                group.push(frame.head);
                if frame.head.left == 0 {
                    whole.keyed.extend(group.drain(..).filter(|head| head.key.is_some()));
                    (whole.end, whole.offset) = (frames.at(), offset);
                }
            }
            Err(bad) if !newest || is_followed(fs, &frames, &bad)? => return Err(frames.refuse(&bad, offset)),
            Err(_) => break,
        }
    }
    let torn = link.end - whole.end;
    warn!(segment = %frames.path().display(), at = whole.end, bytes = torn, "cut off the end of the journal, which was never answered");
    Ok(whole)
}

/// Checks that a frame continues what stands before it.
fn check_place(head: &Head, at: u64, before: Option<&Head>, offset: u64) -> Result<(), String> {
    let (group, left) = before.map_or((at, None), |before| (before.group, Some(before.left - 1)));
    if head.group != group || left.is_some_and(|left| left != head.left) {
        return Err("the frame belongs to another group".into());
    }
    if head.holds_records() && head.offset != offset {
        return Err(format!("the frame begins at offset {}", head.offset));
    }
    Ok(())
}

/// Returns whether a group was begun behind a bad frame's: then that one had been synced, and was whole.
fn is_followed(fs: &dyn Fs, frames: &Frames, bad: &BadFrame) -> Result<bool> {
    let failed = |e| Error::io(format_args!("read `{}`", frames.path().display()), e);
    let mut input = fs.open(frames.path()).map_err(failed)?;
    io::copy(&mut input.by_ref().take(bad.at), &mut io::sink()).map_err(failed)?;
    let mut rest = Vec::new();
    input.read_to_end(&mut rest).map_err(failed)?;
    let mark = frames.header.mark();
    let found = memmem::find_iter(&rest, &mark).filter_map(|at| rest.get(at..at + HEADER));
    let mut heads = found.filter_map(|bytes| Head::decode(&first(bytes), mark).ok());
    Ok(heads.any(|head| head.group > bad.at))
}

/// Writes a segment, with the frames that it takes over from the one that it replaces.
fn write(fs: &dyn Fs, settings: &Settings, new: Replacement) -> Result<(Box<dyn FsFile>, u64)> {
    let path = segment::path(&settings.dir, new.header.segment);
    let failed = |e| Error::io(format_args!("write `{}`", path.display()), e);
    let mut segment = NewSegment::begin(fs, &settings.dir, &new.header).map_err(failed)?;
    if let Some((number, end)) = new.of {
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
