//! Follow: what is appended, what appears, what is rotated away.
//!
//! Owns: the polling, the open descriptors, beginning to read.
//! Does not own: what a look at the names finds (see `look`), a file's turn (see `tail`), letting go of rotated and deleted files (see `closed`),
//! doing with few descriptors (see `idle`), what becomes of files that appear and of positions that lost their file (see `survey`).
//!
//! A file is followed by its descriptor, not by its name: after a rotation the old file is read on, before the new one, until its writer
//! has left it. Compressed files do not grow: each is read whole once its length has stood still from one look to the next.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pintail_core::error::{Error, Result};
use pintail_core::offsets::PartitionId;

use super::aside::{Stray, is_of_input};
use super::config::FileConfig;
use super::discover::{Searched, Wanted, gone_is_none, open, search};
use super::identity::{Inode, Place};
use super::plan::{Holder, Name};
use super::positions::{Known, new_partition};
use super::read_once::Turn;
use super::reader::{FileReader, Lines, Opened};
use super::survey::{Facts, Start, note};
use super::{Files, Found, names};
use crate::compression::Compression;
use crate::lines::Unterminated;
use crate::thread::{ChunkSender, Exit};

mod archives;
mod closed;
mod copies;
mod deleted;
mod holders;
mod idle;
mod look;
mod tail;

#[cfg(test)]
mod tests;

use archives::{Archive, ArchiveState};
use copies::Part;
pub(super) use deleted::Behind;
use idle::Idle;
use look::Look;
pub(super) use tail::TURN_BYTES;
use tail::{Stage, Tail, TurnEnd};

/// How long a rotated file must stand still before its descriptor is closed. Loggers reopen within seconds; what comes later is read at
/// the next start, by the file's content.
const QUIET: Duration = Duration::from_secs(60);

/// Follows files until nobody listens.
#[derive(Debug)]
pub(super) struct Follow {
    files: Files,
    poll_interval: Duration,
    behind: Behind,
    /// Whether it was said which deleted files keep room on a full disk.
    named: bool,
    looked: Instant,
    /// When known files that are not open were looked for.
    searched: Instant,
    /// In the order in which they were first seen, which puts a rotated file before its successor.
    tails: Vec<Tail>,
    /// Files that are known and have no descriptor.
    idle: Idle,
    archives: HashMap<PathBuf, Archive>,
    /// How many files were opened so far.
    opened: u64,
    /// Compressed files to be read next.
    ready: Vec<Turn>,
    /// Whether a file waits for another that begins alike to be read first.
    later: bool,
    /// Files that hold a part of another, or may.
    parts: HashMap<Inode, Part>,
    /// Positions whose file was cut, rewritten or is gone: what became of them is found out at the next look.
    lost: BTreeSet<PartitionId>,
}

impl Follow {
    /// Opens the files that are there, as many as may be open at the same time.
    pub(super) fn start(files: Files, config: &FileConfig, behind: Behind, found: Found) -> Result<Self> {
        let mut follow = Self {
            files,
            poll_interval: config.poll_interval,
            behind,
            named: false,
            looked: Instant::now(),
            searched: Instant::now(),
            tails: Vec::new(),
            idle: Idle::new(config.open_max),
            archives: HashMap::new(),
            opened: 0,
            ready: Vec::new(),
            later: false,
            parts: HashMap::new(),
            lost: BTreeSet::new(),
        };
        follow.files.take_failed(&found);
        let mut facts = Vec::new();
        follow.files.begin_look(&found);
        for (path, metadata) in found.files {
            let Some(mut found) = follow.files.examine_or_set_aside(&path, Name::Matches)? else { continue };
            if found.compression != Compression::None {
                found = found.closed();
                let archive = Archive { inode: Inode::of(&metadata), length: metadata.len(), state: ArchiveState::Settling };
                follow.archives.insert(path, archive);
            }
            facts.push(follow.within_open_max(found, facts.len()));
        }
        follow.files.search_missing(&mut facts, None)?;
        let starts = follow.files.decide(&mut facts, &HashMap::new(), Holder::Wanted)?;
        follow.lost.extend(follow.files.unsettled.iter().flatten().cloned());
        // What was rotated away is older than what has its name now.
        let (renamed, named): (Vec<_>, Vec<_>) = facts.into_iter().zip(starts).partition(|(facts, _)| facts.name == Name::Renamed);
        for (facts, start) in renamed.into_iter().chain(named) {
            let settled = facts.compression == Compression::None || facts.name == Name::Renamed || matches!(start, Start::Finished(_));
            // Another compressed file may still be written.
            if settled {
                follow.begin(facts, start)?;
            }
        }
        follow.check_count()?;
        Ok(follow)
    }

    /// Reads what is there and what comes.
    pub(super) fn run(mut self, sender: &ChunkSender) -> Result<(), Exit> {
        let mut in_vain = false;
        loop {
            let turns = self.read_round(sender)?;
            // What others wait for has been read.
            let is_read = turns == TurnEnd::AtEnd && std::mem::take(&mut self.later);
            let ready = turns == TurnEnd::AtEnd && !in_vain && (is_read || self.has_room_for_waiting());
            if turns == TurnEnd::AtEnd && !ready {
                self.idle.tell();
                sender.sleep(self.poll_interval)?;
            }
            if ready || self.looked.elapsed() >= self.poll_interval || !self.lost.is_empty() {
                self.looked = Instant::now();
                let before = self.opened;
                self.look_again()?;
                // There is room, and nothing that may be opened: another look at once would find the same.
                in_vain = ready && self.opened == before;
            }
        }
    }

    /// Gives each file its turn.
    fn read_round(&mut self, sender: &ChunkSender) -> Result<TurnEnd, Exit> {
        self.files.tell(sender)?;
        self.may_close_again();
        let mut end = TurnEnd::AtEnd;
        let mut at = 0;
        while at < self.tails.len() {
            match self.turn(at, sender)? {
                TurnEnd::Lost => {
                    let mut tail = self.tails.remove(at);
                    self.lost.extend(tail.known().cloned());
                    tail.forget_unread(&self.files);
                    end = TurnEnd::More;
                    continue;
                }
                TurnEnd::Failed => {
                    self.tails.remove(at).forget_unread(&self.files);
                    continue;
                }
                TurnEnd::More => end = TurnEnd::More,
                TurnEnd::AtEnd => {}
            }
            at += 1;
        }
        let (waiting, ready): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.ready).into_iter().partition(|turn| self.waits_for_original(turn));
        self.ready = waiting;
        self.files.read_turns(ready.into(), sender)?;
        self.relieve_disk();
        self.let_go(Instant::now(), sender)?;
        self.files.tell(sender)?;
        Ok(end)
    }

    fn turn(&mut self, at: usize, sender: &ChunkSender) -> Result<TurnEnd, Exit> {
        match self.read(at, sender) {
            Err(Exit::NoRoom) => self.wait_for_room(sender).map(|()| TurnEnd::More),
            Err(Exit::Failed(error)) if is_of_input(&error) => {
                self.tails[at].set_aside(&mut self.files, &error);
                Ok(TurnEnd::Failed)
            }
            turn => turn,
        }
    }

    fn read(&mut self, at: usize, sender: &ChunkSender) -> Result<TurnEnd, Exit> {
        let Some(metadata) = self.tails[at].changed()? else { return Ok(TurnEnd::AtEnd) };
        if self.tails[at].copy_of.is_some() && !self.may_read_copy(at)? {
            return Ok(TurnEnd::AtEnd);
        }
        self.files.tell(sender)?;
        let turn = sender.impatiently(|| self.tails[at].read_turn(&metadata, &mut self.files, sender))?;
        if turn != TurnEnd::Lost && !self.files.aside.is_empty() {
            self.files.aside.well(&self.tails[at].path);
        }
        Ok(turn)
    }

    /// Begins to read a file. One that cannot be read is set aside.
    fn begin(&mut self, facts: Facts, start: Start) -> Result<()> {
        let (path, name) = (facts.path.clone(), facts.name);
        let begun = self.begin_at(facts, start);
        self.files.or_set_aside(&path, name, begun).map(|_| ())
    }

    fn begin_at(&mut self, facts: Facts, start: Start) -> Result<()> {
        match (start, facts.compression) {
            // It was only looked at in search of another.
            (Start::Nothing, _) if facts.name == Name::Renamed => {
                self.files.aside.well(&facts.path);
                Ok(())
            }
            (Start::Aside, _) => Ok(()),
            (Start::PartOf(of), _) => self.wait_with_part(facts, of),
            (Start::Later, _) => {
                self.later = true;
                self.settle_again(&facts)
            }
            (Start::Returning, Compression::None) => self.wait_for_return(facts),
            (start, Compression::Gzip | Compression::Zstd) => {
                if let Some(archive) = self.archives.get_mut(&facts.path) {
                    archive.state = ArchiveState::Taken;
                }
                let turn = Turn::of(&facts, start);
                if turn.is_none() {
                    self.files.aside.well(&facts.path);
                }
                self.ready.extend(turn);
                Ok(())
            }
            (Start::Nothing | Start::New, Compression::None) => self.open_tail(facts, None, None),
            (Start::At { known, copy_of }, Compression::None) => self.open_tail(facts, Some(known), copy_of),
            (Start::Finished(_), Compression::None) => {
                self.files.aside.well(&facts.path);
                Ok(())
            }
        }
    }

    /// Closes what was looked at if so many are held open already.
    fn within_open_max(&self, facts: Facts, held: usize) -> Facts {
        if self.tails.len() + held < self.idle.open_max() { facts } else { facts.closed() }
    }

    fn open_tail(&mut self, mut facts: Facts, known: Option<PartitionId>, copy_of: Option<PartitionId>) -> Result<()> {
        let (name, length) = (facts.name, facts.length);
        // One that has no matching name is not found again.
        if name == Name::Matches && !self.make_room() {
            return self.leave_closed(&facts, known);
        }
        self.opened += 1;
        let taken = facts.take_file();
        let Some(file) = self.files.or_set_aside(&facts.path, name, taken)?.flatten() else {
            self.lost.extend(known);
            return Ok(());
        };
        let mut tail = Tail::new(facts.path, facts.place, name, Stage::Empty(file));
        if length == 0 && known.is_none() {
            self.files.aside.well(&tail.path);
            self.tails.push(tail);
            return Ok(());
        }
        let known = known.and_then(|known| self.files.positions.get(&known)).cloned();
        let known = known.unwrap_or_else(|| Known { partition: new_partition(&tail.path), next: 0, evidence: None, v1: None });
        // Years of rotated files may lie there: one that is read to its end and has stood still is left closed.
        if name == Name::Renamed && length == known.next && tail.stands_still().unwrap_or(false) {
            self.files.aside.well(&tail.path);
            return Ok(());
        }
        let key = &self.files.positions.key;
        let opened = tail
            .try_clone()
            .and_then(|file| FileReader::open(file, &tail.path, Compression::None, &known, key, self.files.record_bytes_max));
        let Some(opened) = self.files.or_set_aside(&tail.path, name, opened)? else { return Ok(()) };
        match opened {
            Opened::Ready(reader) => {
                tail.seen = known.next;
                self.files.unread.see(&mut tail.seen, reader.length());
                tail.stage = Stage::Open(reader);
                self.tails.push(tail);
                self.relate(self.tails.len() - 1, copy_of);
            }
            Opened::Other(_) => self.lost.extend([known.id().clone()]),
        }
        Ok(())
    }

    /// Takes empty files that are no more: what is in them may be known.
    fn take_begun(&mut self, archives: &mut HashMap<PathBuf, Archive>) -> Result<Vec<Facts>> {
        let mut facts = Vec::new();
        for tail in std::mem::take(&mut self.tails) {
            let begun = tail.begun().filter(|metadata| !self.files.aside.waits(&tail.path, metadata));
            if begun.is_none() {
                self.tails.push(tail);
                continue;
            }
            // It was found by its name, wherever it has been rotated to since.
            let examined = tail.try_clone().and_then(|file| self.files.examine_in_steps(file, &tail.path, Name::Matches));
            let Some(examined) = self.files.or_set_aside(&tail.path, Name::Matches, examined)?.flatten() else {
                // No name may lead to it any more.
                self.tails.push(tail);
                continue;
            };
            if examined.compression == Compression::None {
                facts.push(examined);
            } else {
                let archive = Archive { inode: examined.place.inode, length: examined.length, state: ArchiveState::Settling };
                archives.insert(examined.path, archive);
            }
        }
        Ok(facts)
    }

    fn check_count(&self) -> Result<()> {
        let count = self.tails.len() + self.idle.len() + self.archives.len();
        if self.files.patterns.check_count(count).is_ok() {
            return Ok(());
        }
        // Deleted files are held open for a while, and do not count.
        let deleted = self.tails.iter().filter(|tail| tail.name == Name::Renamed && tail.is_deleted()).count();
        self.files.patterns.check_count(count - deleted)
    }
}

impl Facts {
    /// Takes the open file, or opens it if it is still the one that was looked at.
    fn take_file(&mut self) -> Result<Option<File>> {
        if let Some(file) = self.file.take() {
            return Ok(Some(file));
        }
        let opened = gone_is_none(open(&self.path, &self.disk));
        let Some(file) = opened.map_err(|e| Error::io(format_args!("open `{}`", names::label_of(&self.path)), e))? else { return Ok(None) };
        let metadata = file.metadata().map_err(|e| Error::io(format_args!("look at `{}`", self.path.display()), e))?;
        Ok((Place::of(&metadata) == self.place).then_some(file))
    }
}
