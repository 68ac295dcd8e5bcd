//! Read once: each file to its end, one after another.
//!
//! Owns: the turns, reading a file whole, and what becomes of a last line without an end. A file is open only in its turn, so ten thousand files need
//! one descriptor.
//! Does not own: files that appear later; the list is made at the start.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use pintail_core::error::{Error, Result};
use pintail_core::offsets::PartitionId;
use tracing::warn;

use super::aside::is_of_input;
use super::input::{Input, read_range};
use super::plan::{Holder, Name};
use super::positions::{Known, new_partition};
use super::reader::{FileReader, Lines, Opened, empty_chunk};
use super::survey::{Facts, Start, gap};
use super::trail::EDGE_BYTES;
use super::{Files, Found, Left, archive, names};
use crate::compression::Compression;
use crate::lines::Unterminated;
use crate::thread::{ChunkSender, Exit};

/// How often a file may turn out to be another than was planned before it is given up: each time something was rewritten in between.
const TRIES_MAX: u32 = 8;

/// How long a file must have stood still for its last line to be a record without an end. Who writes a line in two parts pauses for less, also over a
/// network that loses packets; who waits for this at the end of a fresh file loses little.
const STILL: Duration = Duration::from_secs(5);

/// Time between two looks at a file that may still be written.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Files to be read.
#[derive(Debug)]
pub(super) struct ReadOnce {
    files: Files,
    turns: VecDeque<Turn>,
    left: Left,
}

/// A file to be read whole.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    name: Name,
    compression: Compression,
    from: From,
    /// See [`Turn::copy_of`].
    copy_of: Option<PartitionId>,
    /// The length up to which its bytes are counted as unread.
    seen: u64,
    tries: u32,
}

/// Where reading begins.
#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Known(PartitionId),
    Beginning,
    /// To be found out in its turn, when the files before it are read.
    Undecided(Option<PartitionId>),
}

impl ReadOnce {
    /// Looks at each file before any is read: what was lost is said at the start, not after an hour. Renamed files come first, they are
    /// older; those that may be copies come last.
    pub(super) fn start(mut files: Files, found: Found, left: Left) -> Result<Self> {
        files.take_failed(&found);
        let mut facts = Vec::new();
        for (path, _) in found.files {
            facts.extend(files.examine_or_set_aside(&path, Name::Matches)?.map(Facts::closed));
        }
        files.search_missing(&mut facts, None)?;
        let starts = files.decide(&mut facts, &HashMap::new(), Holder::Wanted)?;
        let turn = |(facts, start): (&Facts, Start)| {
            let mut turn = Turn::of(facts, start)?;
            turn.count(&files, facts.length);
            Some(turn)
        };
        let mut turns: Vec<Turn> = facts.iter().zip(starts).filter_map(turn).collect();
        turns.sort_by_key(|turn| (matches!(turn.from, From::Undecided(_)), turn.name == Name::Matches));
        files.patterns.check_count(turns.len())?;
        Ok(Self { files, turns: turns.into(), left })
    }

    /// Reads them all. What could not be read is said when everything else has been handed on.
    pub(super) fn run(mut self, sender: &ChunkSender) -> Result<(), Exit> {
        self.files.tell(sender)?;
        self.files.read_turns(self.turns, sender)?;
        *self.left.lock() = self.files.aside.unread();
        Ok(())
    }
}

impl Turn {
    /// Makes the turn of a file; `None` if nothing is to be read of it.
    pub(super) fn of(facts: &Facts, start: Start) -> Option<Self> {
        let copy_of = match &start {
            Start::At { copy_of, .. } => copy_of.clone(),
            _ => None,
        };
        let from = match start {
            Start::At { known, copy_of: None } => From::Known(known),
            Start::At { known, copy_of: Some(_) } => From::Undecided(Some(known)),
            Start::New => From::Beginning,
            Start::Returning => {
                facts.warn_of_part();
                From::Beginning
            }
            Start::PartOf(_) | Start::Later => From::Undecided(None),
            Start::Finished(_) | Start::Nothing | Start::Aside => return None,
        };
        Some(Self { path: facts.path.clone(), name: facts.name, compression: facts.compression, from, copy_of, seen: 0, tries: 0 })
    }

    /// Returns what it was a copy of when it was planned.
    pub(super) fn copy_of(&self) -> Option<&PartitionId> {
        self.copy_of.as_ref()
    }

    /// Counts what is unread.
    fn count(&mut self, files: &Files, length: u64) {
        if self.compression == Compression::None {
            let next = self.known(files).map_or(0, |known| known.next);
            self.seen = self.seen.max(next);
            files.unread.see(&mut self.seen, length);
        }
    }

    /// Counts its unread bytes no more.
    fn uncount(&mut self, files: &Files) {
        let next = self.known(files).map_or(0, |known| known.next);
        files.unread.sub(self.seen.saturating_sub(next));
        self.seen = 0;
    }

    fn known<'a>(&self, files: &'a Files) -> Option<&'a Known> {
        match &self.from {
            From::Known(id) | From::Undecided(Some(id)) => files.positions.get(id),
            From::Beginning | From::Undecided(None) => None,
        }
    }
}

impl Files {
    /// Reads files to their ends. One that cannot be read is set aside.
    pub(super) fn read_turns(&mut self, mut turns: VecDeque<Turn>, sender: &ChunkSender) -> Result<(), Exit> {
        while let Some(mut turn) = turns.pop_front() {
            match self.read_whole(&mut turn, sender) {
                Ok(more) => more.into_iter().rev().for_each(|more| turns.push_front(more)),
                Err(Exit::Failed(error)) if is_of_input(&error) => {
                    self.aside.file(&turn.path, turn.name, &error);
                    turn.uncount(self);
                }
                Err(exit) => return Err(exit),
            }
        }
        Ok(())
    }

    /// Reads what is left of a file. Returns what turned out to be read instead.
    fn read_whole(&mut self, turn: &mut Turn, sender: &ChunkSender) -> Result<Vec<Turn>, Exit> {
        if matches!(turn.from, From::Undecided(_)) {
            return self.plan_again(turn, sender);
        }
        let Some(file) = self.open_file(&turn.path)? else {
            warn!(path = %names::label_of(&turn.path), "the file vanished before it was read");
            return self.plan_again(turn, sender);
        };
        self.check_whole(turn, &file, sender)?;
        let known = turn.known(self).cloned();
        let known = known.unwrap_or_else(|| Known { partition: new_partition(&turn.path), next: 0, evidence: None, v1: None });
        let key = self.positions.key.clone();
        match FileReader::open(file, &turn.path, turn.compression, &known, &key, self.record_bytes_max)? {
            Opened::Ready(reader) => {
                let length = reader.length();
                turn.count(self, length);
                if self.read_to_end(turn, *reader, sender)? {
                    self.aside.well(&turn.path);
                    return Ok(Vec::new());
                }
            }
            // A position of version 1 in a compressed file: only now it is known how much that holds.
            Opened::Other(why) if known.evidence.is_none() => {
                self.lose(&known, &gap(why, turn.seen))?;
                turn.from = From::Undecided(None);
            }
            Opened::Other(_) => {}
        }
        self.plan_again(turn, sender)
    }

    /// Checks that a compressed file is whole and sound before anything of it is read: what a damaged one decompresses to need not be what was compressed,
    /// and of what is committed nothing can be taken back.
    fn check_whole(&self, turn: &mut Turn, file: &File, sender: &ChunkSender) -> Result<(), Exit> {
        let label = names::label_of(&turn.path);
        let failed = |e| Error::io(format_args!("read `{label}`"), e);
        turn.compression = Compression::tell(&read_range(file, 0, EDGE_BYTES).map_err(failed)?, &label);
        if turn.compression == Compression::None {
            return Ok(());
        }
        let input = Input::open(file.try_clone().map_err(failed)?, turn.compression).map_err(failed)?;
        // Of a large one it takes a while, in which nothing moves.
        sender.at_rest(|| {
            archive::check(input, || sender.check_stop().map_err(Stop::Exit)).map_err(|stop| match stop {
                Stop::Exit(exit) => exit,
                Stop::Damaged(error) => failed(error).into(),
            })
        })?;
        Ok(())
    }

    /// Finds out anew what is to be read: files before it were read, or it is not what it was.
    fn plan_again(&mut self, turn: &mut Turn, sender: &ChunkSender) -> Result<Vec<Turn>, Exit> {
        turn.tries += 1;
        if turn.tries > TRIES_MAX {
            let error = io::Error::other("it is rewritten while it is read");
            return Err(Error::io(format_args!("read `{}`", names::label_of(&turn.path)), error).into());
        }
        let (own, seen) = (turn.known(self).cloned(), turn.seen);
        turn.uncount(self);
        let mut facts: Vec<Facts> = self.examine(&turn.path, turn.name)?.into_iter().collect();
        if facts.is_empty()
            && let Some(own) = &own
        {
            self.positions.put(own.ending(seen));
        }
        let own: BTreeSet<PartitionId> = own.into_iter().map(|known| known.id().clone()).collect();
        self.search_missing(&mut facts, Some(&own))?;
        let holders = own.into_iter().map(|own| (own, Holder::Wanted)).collect();
        let starts = self.decide(&mut facts, &holders, Holder::Open)?;
        let mut turns = Vec::new();
        for (facts, start) in facts.iter().zip(starts) {
            let start = match start {
                Start::PartOf(of) => self.take_part(&of, facts)?,
                Start::At { known, copy_of: Some(of) } if facts.is_part_of(&of) => {
                    self.pass_over_part(&known, &of, facts)?;
                    Start::At { known, copy_of: None }
                }
                Start::At { known, copy_of } => {
                    if let Some(of) = turn.copy_of.as_ref().filter(|of| **of != known) {
                        self.pass_over_common(&known, of, facts, None)?;
                    }
                    Start::At { known, copy_of }
                }
                start => start,
            };
            // What is before it is read: a copy need not wait any more.
            if let Some(mut more) = Turn::of(facts, start.without_copy()) {
                more.tries = turn.tries;
                more.count(self, facts.length);
                turns.push(more);
            }
        }
        self.tell(sender)?;
        Ok(turns)
    }

    /// Returns whether the end was reached, and not something else.
    fn read_to_end(&mut self, turn: &mut Turn, mut reader: FileReader, sender: &ChunkSender) -> Result<bool, Exit> {
        let plain = turn.compression == Compression::None;
        let partition = reader.partition().clone();
        let mut unterminated = if plain { Unterminated::Wait } else { Unterminated::Record };
        let mut grows = false;
        loop {
            match reader.next_lines(unterminated)? {
                Lines::Chunk(chunk) => {
                    match plain {
                        true => self.unread.see(&mut turn.seen, chunk.range.to),
                        false => self.unread.add(chunk.range.to - chunk.range.from),
                    }
                    self.positions.advance(&partition, chunk.range.to, chunk.range.evidence.clone());
                    turn.from = From::Known(partition.id.clone());
                    sender.send(chunk)?;
                }
                Lines::End if unterminated == Unterminated::Record || !reader.holds_open_line() => break,
                Lines::End if grows => {
                    self.leave_open_line(&mut reader, sender)?;
                    break;
                }
                Lines::End => match stands_still(&reader, sender)? {
                    true => unterminated = Unterminated::Record,
                    false => grows = true,
                },
                Lines::Rewritten => return Ok(false),
            }
        }
        self.unread.sub(turn.seen.saturating_sub(reader.next()));
        if !grows && let Some(chunk) = reader.open_line() {
            self.positions.advance(&partition, chunk.range.to, chunk.range.evidence.clone());
            sender.send(chunk)?;
        }
        if !plain && reader.next() > 0 {
            let evidence = reader.finished()?;
            self.positions.advance(&partition, reader.next(), Some(Arc::clone(&evidence)));
            let known = Known { partition, next: reader.next(), evidence: Some(evidence), v1: None };
            sender.send(empty_chunk(&known, known.next, Vec::new()))?;
        }
        Ok(true)
    }

    /// Leaves the unfinished line of a file that is still written to the next run.
    fn leave_open_line(&mut self, reader: &mut FileReader, sender: &ChunkSender) -> Result<(), Exit> {
        warn!(path = %reader.path().display(), at = reader.next(), "the file is still written, and its last line has no end yet: left for the next run");
        let Some(chunk) = reader.open_line() else { return Ok(()) };
        self.positions.advance(reader.partition(), chunk.range.to, chunk.range.evidence.clone());
        sender.send(chunk)
    }
}

/// Why the check of a compressed file ended before its end.
enum Stop {
    Exit(Exit),
    Damaged(io::Error),
}

impl std::convert::From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error)
    }
}

/// Waits until a file has stood still for [`STILL`]. Returns whether it did, and not change.
fn stands_still(reader: &FileReader, sender: &ChunkSender) -> Result<bool, Exit> {
    let look = || reader.file().metadata().map_err(|e| Error::io(format_args!("look at `{}`", reader.path().display()), e));
    let shown = |metadata: &Metadata| (metadata.len(), metadata.modified().ok());
    let seen = look()?;
    let end = Instant::now() + STILL.saturating_sub(still_for(&seen));
    while Instant::now() < end {
        sender.sleep(LOOK_INTERVAL)?;
        if shown(&look()?) != shown(&seen) {
            return Ok(false);
        }
    }
    Ok(reader.has_reached(seen.len()))
}

/// Returns for how long a file was not written. Anybody may set that time, also to one in the future, which says nothing; not that of the last change of
/// any kind.
fn still_for(metadata: &Metadata) -> Duration {
    let since = |seconds: i64, nanoseconds: i64| {
        let time = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
        UNIX_EPOCH.checked_add(time)?.elapsed().ok()
    };
    let modified = since(metadata.mtime(), metadata.mtime_nsec());
    modified.or_else(|| since(metadata.ctime(), metadata.ctime_nsec())).unwrap_or_default()
}
