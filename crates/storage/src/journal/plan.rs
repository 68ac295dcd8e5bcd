//! Plan: what is made of a journal that was looked at. Pure.
//!
//! Owns: the refusal of what is not whole or contradicts the commit records, what is kept of a torn tail (nothing), the segment
//! that is written anew, what goes.
//! Does not own: looking (see [`super::facts`]), which segments count (see [`super::chain`]), carrying it out (see [`super::open`]), what a person may give up (see [`super::repair`]).

use std::collections::VecDeque;
use std::path::PathBuf;

use pintail_core::error::{Error, Result};

use super::facts::Facts;
use super::frame::HEADER;
use super::keys::Keys;
use super::position::Contradiction;
use super::running::Running;
use super::scan::{Ending, Link, Scanned};
use super::segment::{self, BadFrame, Header, untrusted};
use super::shared::Extent;
use super::time::{Reading, Stamp};
use super::{Committed, Settings, note};

/// What opening a journal comes to. It is carried out in this order, and may be killed at any step and planned again.
#[derive(Debug)]
pub(super) struct Plan {
    /// Segments that did not get their names: they go first.
    pub in_progress: Vec<PathBuf>,
    /// The end of a segment that was never answered, and is not copied.
    pub torn: Option<Torn>,
    /// The segment that is written.
    pub new: Replacement,
    /// The segments before it, oldest first.
    pub kept: VecDeque<Extent>,
    /// The segments that go once it has its name.
    pub replaced: Vec<PathBuf>,
    /// The keys that are remembered.
    pub keys: Keys,
}

/// The end of a segment that was never answered.
#[derive(Debug)]
pub(super) struct Torn {
    /// The segment.
    pub path: PathBuf,
    /// Where its whole groups end, in bytes.
    pub at: u64,
    /// The bytes behind that.
    pub bytes: u64,
}

/// The segment that is written, and what it takes over from the one that it replaces.
#[derive(Debug, Clone)]
pub(super) struct Replacement {
    /// Its header.
    pub header: Header,
    /// What is copied into it.
    pub copied: Option<Copied>,
    /// The offset behind the last record.
    pub offset: u64,
    /// The hash of all records before that.
    pub running: Running,
    /// When it is begun.
    pub stamp: Stamp,
}

/// The frames of a segment that are copied into another one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    /// The segment.
    pub segment: u64,
    /// Where its whole groups end, in bytes.
    pub end: u64,
    /// Its frames, of which there is at least one.
    pub frames: u32,
}

/// Plans the opening.
///
/// # Errors
/// `State` if the journal cannot be trusted.
pub(super) fn plan(settings: &Settings, committed: &Committed, facts: Facts<'_>) -> Result<Plan> {
    judge(settings, committed, &facts)?;
    let Facts { files, in_progress, mut scanned, now, .. } = facts;
    let mut keys = Keys::new(settings.key_ttl, settings.keys_max);
    let stamp = stamp(&scanned, now);
    let (mut torn, mut kept) = (None, VecDeque::new());
    let new = match scanned.pop() {
        None => first_segment(settings, now),
        Some((_, newest)) => {
            for (link, scanned) in scanned {
                let (segment, begin) = (link.header.segment, link.header.begin());
                scanned.keyed.iter().for_each(|head| keys.recover(head, segment));
                kept.push_back(Extent { segment, begin, first_offset: link.header.first_offset, end: link.end, bytes: link.bytes });
            }
            let new = copy_of(settings, &newest, stamp);
            newest.keyed.iter().for_each(|head| keys.recover(head, new.header.segment));
            if let Ending::Torn(bytes) = newest.ending {
                torn = Some(Torn { path: segment::path(&settings.dir, newest.header.segment), at: newest.end, bytes });
            }
            new
        }
    };
    keys.settle();
    let goes = |number: &&u64| kept.iter().all(|extent: &Extent| extent.segment != **number);
    let replaced = files.keys().filter(goes).map(|number| segment::path(&settings.dir, *number)).collect();
    Ok(Plan { in_progress, torn, new, kept, replaced, keys })
}

/// Holds a journal against itself and against what is committed.
///
/// # Errors
/// `State` if it cannot be trusted.
pub(super) fn judge(settings: &Settings, committed: &Committed, facts: &Facts<'_>) -> Result<()> {
    let next = committed.offset.unwrap_or(0);
    let dir = settings.dir.display();
    let Some((first, _)) = facts.scanned.first() else { return judge_nothing(settings, committed, facts.is_gone) };
    let begin = first.header.begin();
    if begin > next {
        return Err(contradiction(settings, &format!("begins at offset {begin}"), next));
    }
    let mut before: Option<&Scanned> = None;
    for (link, scanned) in &facts.scanned {
        if let Some(before) = before {
            check_join(settings, before, &link.header)?;
        }
        match &scanned.ending {
            Ending::Whole | Ending::Torn(_) => {}
            Ending::Damaged(bad, offset) => return Err(segment::refuse(&settings.dir, link.header.segment, bad, *offset)),
            Ending::Followed => {
                let why = "it says that another segment follows, and none does".into();
                return Err(segment::refuse(&settings.dir, link.header.segment, &BadFrame { at: scanned.end, why }, scanned.offset));
            }
        }
        before = Some(scanned);
    }
    let (link, last) = facts.scanned.last().expect("there is a segment");
    let end = last.offset;
    facts.watch.judge(next, end, (link.header.segment, last.end)).map_err(|contradicts| match contradicts {
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
    })
}

/// Judges a journal without a segment: there must never have been one.
fn judge_nothing(settings: &Settings, committed: &Committed, is_gone: bool) -> Result<()> {
    let next = committed.offset.unwrap_or(0);
    let dir = settings.dir.display();
    let known = committed.evidence.iter().flat_map(|evidence| &evidence.witnesses).map(|witness| witness.to).max();
    if next > 0 || known.is_some() {
        return Err(untrusted(format_args!(
            "the journal `{dir}` has no segment, and its records are committed up to offset {next}: what was accepted after that is lost"
        )));
    }
    if is_gone {
        let note = note::path(settings);
        return Err(untrusted(format_args!(
            "the journal `{dir}` has no segment, and `{}` says that it was begun: what was accepted is lost",
            note.display()
        )));
    }
    Ok(())
}

fn first_segment(settings: &Settings, now: Reading) -> Replacement {
    let stamp = Stamp::first(now);
    let running = Running::from(&settings.dataset_id, 0);
    let header = Header::new(&settings.dataset_id, 1, 0, None, running, stamp);
    Replacement { header, copied: None, offset: 0, running, stamp }
}

/// Plans the copy of the newest segment.
fn copy_of(settings: &Settings, newest: &Scanned, stamp: Stamp) -> Replacement {
    let was = &newest.header;
    let before = was.running.unwrap_or_else(|| Running::from(&settings.dataset_id, was.first_offset));
    let header = Header::new(&settings.dataset_id, was.segment + 1, was.first_offset, was.previous, before, stamp);
    let length = if newest.frames == 0 { 0 } else { HEADER as u64 + newest.length };
    let header = Header { copied: length, lost: was.lost, ..header };
    let copied = (newest.frames > 0).then_some(Copied { segment: was.segment, end: newest.end, frames: newest.frames });
    let running = newest.running.expect("the newest segment is hashed");
    Replacement { header, copied, offset: newest.offset, running, stamp }
}

/// Returns the journal's time at the opening.
fn stamp(scanned: &[(Link, Scanned)], now: Reading) -> Stamp {
    let stamp = scanned.iter().filter_map(|(_, scanned)| scanned.stamp).max();
    let newest_key = || scanned.iter().flat_map(|(_, scanned)| &scanned.keyed).map(|head| head.at_ms).max();
    stamp.map_or_else(|| Stamp::of_version_1(newest_key().unwrap_or(now.wall_ms), now), |stamp| stamp.then(now))
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

fn contradiction(settings: &Settings, what: &str, committed: u64) -> Error {
    untrusted(format_args!("the journal `{}` {what}, its records are committed up to {committed}", settings.dir.display()))
}

#[cfg(test)]
mod tests;
