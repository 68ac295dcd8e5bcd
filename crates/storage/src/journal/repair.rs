//! The repair of a journal that no start accepts: what cannot be trusted is given up, by a person's order.
//!
//! Owns: how much can be kept, and which offsets are lost.
//! Does not own: the lock (the caller holds it), what is said about it (see `commands::repair`).
//!
//! Kept is everything from the committed offset on up to the first thing that is not whole, and what stands before it as far as it is whole
//! (its keys). The new, empty segment that a repair writes says which offsets are lost: they are not used again, and the line notes them
//! as a gap with its next checkpoint.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use pintail_core::error::{Error, ErrorKind, Result};

use super::facts::{Facts, segments};
use super::new_segment::NewSegment;
use super::plan::judge;
use super::position::{Watch, newest_segment};
use super::running::Running;
use super::scan::{Ending, Link, Scanned, read_from, scan};
use super::segment::{self, Frames, Header, Lost, Previous};
use super::time::Stamp;
use super::{Committed, Settings, tail};
use crate::durable::fs::Fs;

/// What a repair came to.
#[derive(Debug)]
pub enum Outcome {
    /// A start accepts the journal: nothing was changed.
    Sound,
    /// Something was given up.
    Repaired(Repair),
}

/// What was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// Why no start was possible.
    pub why: String,
    /// The offset that the last commit record holds.
    pub committed: u64,
    /// The offset up to which the journal is kept.
    pub kept_to: u64,
    /// The offsets that are given up: none where keys alone are lost. Those below `committed` are in the output.
    pub lost: Lost,
    /// Requests among the lost ones that can still be recognized, and were not committed.
    pub requests: u64,
    /// Files that are given up, each with the byte from which on.
    pub dropped: Vec<(PathBuf, u64)>,
}

impl Repair {
    /// Returns the lost offsets that were not committed: accepted, and not in the output.
    pub fn gap(&self) -> Option<Lost> {
        let gap = Lost { from: self.lost.from.max(self.committed), ..self.lost };
        (gap.from < gap.to).then_some(gap)
    }
}

/// Repairs the journal, if no start accepts it. The caller holds the dataset's lock.
///
/// # Errors
/// `State` if it is another dataset's, or one of a newer Pintail.
pub fn repair(fs: &dyn Fs, settings: &Settings, committed: &Committed) -> Result<Outcome> {
    if fs.entry(&settings.dir).map_err(|e| Error::io(format_args!("look at `{}`", settings.dir.display()), e))?.is_none() {
        fs.create_dir(&settings.dir).map_err(|e| Error::io(format_args!("make `{}`", settings.dir.display()), e))?;
    }
    let judged = Facts::look(fs, settings, committed).and_then(|facts| judge(settings, committed, &facts));
    let why = match judged {
        Ok(()) => return Ok(Outcome::Sound),
        Err(error) if error.kind() == ErrorKind::State => error.to_string(),
        Err(error) => return Err(error),
    };
    let plan = Plan::make(fs, settings, segments(fs, settings)?, committed)?;
    let repair = plan.repair(why);
    plan.carry_out(fs, settings, repair.lost)?;
    Ok(Outcome::Repaired(repair))
}

/// What is to be kept, and what is known of the rest.
struct Plan<'a> {
    settings: &'a Settings,
    files: BTreeMap<u64, u64>,
    committed: u64,
    /// Segments that stay, oldest first.
    kept: VecDeque<Scanned>,
    /// Where what is kept ends.
    offset: u64,
    lost: Lost,
    requests: u64,
    number: u64,
}

impl<'a> Plan<'a> {
    fn make(fs: &dyn Fs, settings: &'a Settings, files: BTreeMap<u64, u64>, committed: &Committed) -> Result<Self> {
        let next = committed.offset.unwrap_or(0);
        let headers = headers(fs, settings, &files)?;
        let evidence = committed.evidence.as_deref();
        let mut watch = Watch::new(&settings.key, evidence);
        let (mut kept, end) = walk(fs, settings, &files, &headers, next, &mut watch)?;
        let trusted = !watch.differs();
        if !trusted {
            kept.clear();
        }
        let offset = kept.back().map_or(next, |last| last.offset);
        let ends = kept.back().map_or((0, 0), |last| (last.header.segment, last.end));
        let rest = Rest::look(fs, settings, &files, &headers, ends, next.max(offset))?;
        let witnessed = evidence.iter().flat_map(|evidence| &evidence.witnesses).map(|witness| witness.to).max();
        let begun = headers.values().map(|header| header.first_offset).max();
        let shown = next.max(offset).max(rest.end).max(begun.unwrap_or(0));
        let known = shown.max(witnessed.unwrap_or(0));
        // Something that cannot be read is a record at least.
        let unreadable = end == End::Unknown && trusted && !rest.complete;
        let to = if unreadable { known.max(offset + 1) } else { known };
        // What the commit record alone knows of, more may have followed.
        let lost = Lost { from: offset, to, counted: !unreadable && known == shown };
        let number = files.keys().next_back().copied().max(evidence.and_then(newest_segment)).unwrap_or(0) + 1;
        Ok(Self { settings, files, committed: next, kept, offset, lost, requests: rest.requests, number })
    }

    fn repair(&self, why: String) -> Repair {
        let dropped = self.files.iter().filter_map(|(number, bytes)| {
            let end = self.kept.iter().find(|kept| kept.header.segment == *number).map_or(0, |kept| kept.end);
            let last = self.kept.back().is_some_and(|last| last.header.segment == *number);
            (end == 0 || last && end < *bytes).then(|| (segment::path(&self.settings.dir, *number), end))
        });
        let (committed, kept_to, lost, requests) = (self.committed, self.offset, self.lost, self.requests);
        Repair { why, committed, kept_to, lost, requests, dropped: dropped.collect() }
    }

    /// Writes the segment that says what is lost; then removes what it does not follow, oldest first.
    fn carry_out(&self, fs: &dyn Fs, settings: &Settings, lost: Lost) -> Result<()> {
        let now = settings.clocks.read();
        let stamp = self.kept.iter().filter_map(|kept| kept.stamp).max();
        let stamp = stamp.map_or_else(|| Stamp::first(now), |stamp| stamp.then(now));
        let previous = self.kept.back().map(|last| Previous { segment: last.header.segment, bytes: last.end });
        let running = Running::from(&settings.dataset_id, lost.to);
        let header = Header::new(&settings.dataset_id, self.number, lost.to, previous, running, stamp);
        let header = Header { lost: Some(lost), ..header };
        let path = segment::path(&settings.dir, self.number);
        let made = NewSegment::begin(fs, &settings.dir, &header).and_then(NewSegment::sync).and_then(NewSegment::name);
        made.map_err(|e| Error::io(format_args!("write `{}`", path.display()), e))?;
        let kept = |number: u64| self.kept.iter().any(|kept| kept.header.segment == number);
        let mut dropped = self.files.keys().filter(|number| !kept(**number));
        let removed = dropped.try_for_each(|number| fs.remove_file(&segment::path(&settings.dir, *number)));
        removed.and_then(|()| fs.sync_dir(&settings.dir)).map_err(|e| Error::io(format_args!("clean `{}`", settings.dir.display()), e))
    }
}

/// Reads the headers that can be read.
fn headers(fs: &dyn Fs, settings: &Settings, files: &BTreeMap<u64, u64>) -> Result<BTreeMap<u64, Header>> {
    let mut headers = BTreeMap::new();
    for number in files.keys() {
        match Frames::open(fs, &settings.dir, &settings.dataset_id, *number, u64::MAX) {
            Ok(frames) => drop(headers.insert(*number, frames.header)),
            Err(error) if error.kind() == ErrorKind::State && !segment::is_foreign(fs, settings, *number)? => {}
            Err(error) => return Err(error),
        }
    }
    Ok(headers)
}

/// Whether everything that is missing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// What is kept ends where the journal ends, or it is known how far the rest goes.
    Known,
    /// Behind it was something that cannot be read.
    Unknown,
}

/// Goes through the segments from the committed offset on, as long as they are whole. Returns those that are kept, oldest first.
fn walk(
    fs: &dyn Fs,
    settings: &Settings,
    files: &BTreeMap<u64, u64>,
    headers: &BTreeMap<u64, Header>,
    next: u64,
    watch: &mut Watch<'_>,
) -> Result<(VecDeque<Scanned>, End)> {
    let follower = |number: u64| headers.values().rev().find(|header| header.previous.is_some_and(|previous| previous.segment == number));
    let link = |header: &Header| {
        let bytes = files[&header.segment];
        let follower = follower(header.segment);
        let end = follower.and_then(|follower| follower.previous).map_or(bytes, |previous| previous.bytes.min(bytes));
        Link { header: header.clone(), end, bytes, newest: follower.is_none() }
    };
    let mut kept = VecDeque::<Scanned>::new();
    let reached = headers.values().filter(|header| header.begin() <= next);
    let Some(first) = reached.max_by_key(|header| (header.begin(), header.segment)) else { return Ok((kept, End::Unknown)) };
    let mut end = End::Unknown;
    let mut at = Some(first);
    while let Some(header) = at {
        let link = link(header);
        if kept.back().is_some_and(|before| !joins(before, header)) {
            break;
        }
        let scanned = scan(fs, &settings.dir, &link, watch)?;
        let follower = follower(header.segment);
        let cut = follower.and_then(|follower| follower.previous).is_some_and(|previous| previous.bytes > scanned.end);
        let whole = scanned.ending.is_whole() && !cut;
        kept.push_back(scanned);
        at = follower.filter(|_| whole);
        end = if whole && at.is_none() { End::Known } else { End::Unknown };
    }
    // What stands before it holds keys: as far as it is whole.
    let mut quiet = Watch::new(&settings.key, None);
    while let Some(previous) = kept.front().and_then(|first| first.header.previous) {
        let Some(header) = headers.get(&previous.segment).filter(|_| files[&previous.segment] >= previous.bytes) else { break };
        let link = Link { header: header.clone(), end: previous.bytes, bytes: files[&previous.segment], newest: false };
        let scanned = scan(fs, &settings.dir, &link, &mut quiet)?;
        if !matches!(scanned.ending, Ending::Whole) || !kept.front().is_none_or(|after| joins(&scanned, &after.header)) {
            break;
        }
        kept.push_front(scanned);
    }
    Ok((kept, end))
}

fn joins(before: &Scanned, header: &Header) -> bool {
    let other = |(running, was)| running != was;
    header.lost.is_some() || header.first_offset == before.offset && !header.running.zip(before.running).is_some_and(other)
}

/// What can still be recognized of what is given up.
struct Rest {
    /// The offset behind the last record.
    end: u64,
    /// Requests from an offset on.
    requests: u64,
    /// Whether the last file ends with a request that was recognized: then nothing is behind it.
    complete: bool,
}

impl Rest {
    fn look(
        fs: &dyn Fs,
        settings: &Settings,
        files: &BTreeMap<u64, u64>,
        headers: &BTreeMap<u64, Header>,
        (segment, end): (u64, u64),
        from: u64,
    ) -> Result<Self> {
        let mut rest = Self { end: 0, requests: 0, complete: false };
        let mut seen = std::collections::BTreeSet::new();
        for (number, bytes) in files.range(segment..) {
            // Of one whose header cannot be read the mark is known all the same: by either version.
            let marks = match headers.get(number) {
                Some(header) => vec![header.mark()],
                None => Header::marks(&settings.dataset_id, *number),
            };
            let at = if *number == segment { end } else { 0 };
            let read = read_from(fs, &segment::path(&settings.dir, *number), at)?;
            let header_alone = headers.get(number).is_some_and(|header| header.encode().len() as u64 == *bytes);
            // A file of which nothing is left had a header once, and what stood behind that is unknown.
            rest.complete = at > 0 && read.is_empty() || header_alone;
            for mark in marks {
                for (place, header) in tail::headers(&read, mark) {
                    let Some((offset, behind, length)) = tail::records_of(header, mark) else { continue };
                    rest.end = rest.end.max(behind);
                    rest.requests += u64::from(offset >= from && seen.insert(offset));
                    rest.complete = at + place as u64 + length == *bytes;
                }
            }
        }
        Ok(rest)
    }
}
