//! Follow: what is appended, what appears, what is rotated away.
//!
//! Owns: the polling, the open descriptors.
//! Does not own: a file's turn (see `tail`), letting go of rotated and deleted files (see `closed`), doing with few descriptors (see `idle`), what
//! becomes of files that appear and of positions that lost their file (see `survey`).
//!
//! A file is followed by its descriptor, not by its name: after a rotation the old file is read on, before the new one, until its writer
//! has left it. Compressed files do not grow: each is read whole once its length has stood still from one look to the next.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{File, Metadata};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pintail_core::error::{Error, Result};
use pintail_core::offsets::PartitionId;

use super::aside::{Stray, is_of_input};
use super::config::FileConfig;
use super::discover::{Searched, Wanted, gone_is_none, open, search};
use super::identity::{Inode, Place};
use super::input::Compression;
use super::plan::{Holder, Name};
use super::positions::{Known, new_partition};
use super::read_once::Turn;
use super::reader::{FileReader, Lines, Opened};
use super::survey::{Facts, Start, note};
use super::{Files, Found, names};
use crate::lines::Unterminated;
use crate::thread::{ChunkSender, Exit};

mod archives;
mod closed;
mod copies;
mod deleted;
mod holders;
mod idle;
mod tail;

#[cfg(test)]
mod tests;

use archives::{Archive, ArchiveState};
use copies::Part;
pub(super) use deleted::Behind;
use idle::Idle;
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

/// What a look at the names has come by so far.
#[derive(Debug, Default)]
struct Look {
    facts: Vec<Facts>,
    archives: HashMap<PathBuf, Archive>,
    /// Positions of files that are as they were.
    held: HashSet<PartitionId>,
    /// Files that are open, or to be opened.
    followed: HashSet<Inode>,
    /// Files that were looked at.
    examined: HashSet<Inode>,
    to_open: usize,
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
        follow.files.begin_look();
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

    /// Looks at the names, and at what became of positions that lost their file.
    fn look_again(&mut self) -> Result<()> {
        let found = self.files.patterns.find()?;
        // What waited has another name now, or is gone: that is found out before its old name is taken by another file.
        let strays = self.files.aside.take_strays(&found.files);
        self.files.take_failed(&found);
        if self.searched.elapsed() >= QUIET {
            self.searched = Instant::now();
            self.miss_closed(&found)?;
        }
        self.take_found(found, strays)
    }

    /// Takes what a look at the names has found.
    fn take_found(&mut self, found: Found, strays: Vec<Stray>) -> Result<()> {
        self.files.begin_look();
        self.files.sketch_crowds();
        let mut look = Look::default();
        look.facts = self.take_begun(&mut look.archives)?;
        self.look_for_strays(strays, &found, &mut look.facts)?;
        look.examined = look.facts.iter().map(|facts| facts.place.inode).collect();
        let named = self.take_names(&found);
        look.followed = self.tails.iter().map(|tail| tail.place.inode).collect();
        self.forget_waiting();
        let inodes = found.files.iter().map(|(_, metadata)| Inode::of(metadata)).collect();
        self.lost.extend(self.idle.take_missing(&inodes));
        for (path, metadata) in found.files {
            self.take_file(path, &metadata, &mut look)?;
        }
        // The time in which its writer may leave a file begins when its name goes, however long nothing was written before.
        let rotated = self.tails.iter_mut().zip(named).filter(|(tail, named)| *named && tail.name == Name::Renamed);
        rotated.for_each(|(tail, _)| tail.last_read = self.looked);
        self.archives = look.archives;
        self.parts.retain(|inode, _| look.examined.contains(inode));
        self.take_facts(look.facts, look.held)?;
        self.check_count()
    }

    /// Takes under which names the open files were found: what is compared with them is looked for there. Returns which of them had a name that matches
    /// before.
    fn take_names(&mut self, found: &Found) -> Vec<bool> {
        let named = self.tails.iter_mut().map(|tail| std::mem::replace(&mut tail.name, Name::Renamed) == Name::Matches).collect();
        let tails: HashMap<Inode, usize> = self.tails.iter().enumerate().map(|(at, tail)| (tail.place.inode, at)).collect();
        for (path, metadata) in &found.files {
            if let Some(tail) = tails.get(&Inode::of(metadata)).and_then(|at| self.tails.get_mut(*at)) {
                tail.take_name(path, &mut self.files);
            }
        }
        named
    }

    /// Looks at a file that was found, unless it is open or as it was.
    fn take_file(&mut self, path: PathBuf, metadata: &Metadata, look: &mut Look) -> Result<()> {
        let inode = Inode::of(metadata);
        if look.followed.contains(&inode) {
            return Ok(());
        }
        if self.archives.get(&path).is_some_and(|archive| archive.inode == inode) {
            return self.take_archive(path, metadata, look);
        }
        if self.idle.holds(&path, metadata) {
            look.held.extend(self.idle.known(&inode));
            return Ok(());
        }
        if self.files.aside.waits(&path, metadata) || look.examined.contains(&inode) {
            return Ok(());
        }
        if self.waits_for_return_still(&inode, metadata) {
            look.examined.insert(inode);
            return Ok(());
        }
        if self.lost.is_empty() && look.to_open >= self.idle.open_max() {
            // As many as could be opened at once: the others need not be looked at again each time.
            self.let_wait();
            return Ok(());
        }
        let Some(found) = self.files.examine_or_set_aside(&path, Name::Matches)? else { return Ok(()) };
        // Between the look and the opening the name may have passed to a file that is followed already.
        if look.followed.contains(&found.place.inode) {
            return Ok(());
        }
        if found.compression != Compression::None {
            look.archives.insert(path, Archive { inode, length: metadata.len(), state: ArchiveState::Settling });
            // What was lost may be in it.
            look.facts.extend((!self.lost.is_empty()).then(|| found.closed()));
            return Ok(());
        }
        look.followed.insert(found.place.inode);
        look.examined.insert(found.place.inode);
        // One that waits for what it may be a part of takes no descriptor.
        look.to_open += usize::from(!self.parts.contains_key(&found.place.inode));
        look.facts.push(self.within_open_max(found, look.facts.len()));
        Ok(())
    }

    /// Decides on files that nobody holds open, and begins to read them.
    fn take_facts(&mut self, mut facts: Vec<Facts>, mut held: HashSet<PartitionId>) -> Result<()> {
        if facts.is_empty() && self.lost.is_empty() {
            return Ok(());
        }
        let mut lost = std::mem::take(&mut self.lost);
        lost.extend(self.written_again(&facts).into_iter().filter(|known| !held.contains(known)));
        if !lost.is_empty() {
            self.files.search_missing(&mut facts, Some(&lost))?;
            self.find_holders(&lost, &mut facts)?;
        }
        for tail in self.tails.iter().filter(|tail| tail.name == Name::Matches || !tail.is_deleted()) {
            held.extend(tail.known().cloned());
        }
        let nameless = self.replaced(&facts);
        if !nameless.is_empty() {
            self.look_at_settling(&mut facts)?;
            self.files.search_missing(&mut facts, Some(&nameless))?;
            self.find_holders(&nameless, &mut facts)?;
        }
        let mut holders: HashMap<PartitionId, Holder> = nameless.iter().map(|id| (id.clone(), Holder::Nameless)).collect();
        holders.extend(lost.iter().map(|id| (id.clone(), Holder::Wanted)));
        holders.extend(held.into_iter().map(|id| (id, Holder::Open)));
        let starts = self.files.decide(&mut facts, &holders, Holder::Unsearched)?;
        // What was found for them is compared further at the next look, which is at once.
        self.lost.extend(lost.into_iter().filter(|lost| self.files.is_unsettled(lost)));
        self.drop_edited(&nameless);
        self.drop_found_again(&starts);
        facts.into_iter().zip(starts).try_for_each(|(facts, start)| self.begin(facts, start))
    }

    /// Returns the open files that have no name any more, since these took them.
    fn replaced(&self, by: &[Facts]) -> BTreeSet<PartitionId> {
        let by: HashSet<&PathBuf> = by.iter().map(|facts| &facts.path).collect();
        let nameless = self.tails.iter().filter(|tail| by.contains(&tail.path) && tail.is_deleted());
        nameless.filter_map(|tail| tail.known().cloned()).collect()
    }

    /// Closes those of some open files whose positions are over: an edited file took their place.
    fn drop_edited(&mut self, some: &BTreeSet<PartitionId>) {
        let over: HashSet<PartitionId> = some.iter().filter(|known| self.files.positions.get(known).is_none()).cloned().collect();
        self.drop_tails(&over.iter().collect());
    }

    /// Closes open files that were deleted and whose content is in a file that is begun now.
    fn drop_found_again(&mut self, starts: &[Start]) {
        let known = starts.iter().filter_map(|start| match start {
            Start::At { known, .. } | Start::Finished(known) => Some(known),
            _ => None,
        });
        self.drop_tails(&known.collect());
    }

    fn drop_tails(&mut self, over: &HashSet<&PartitionId>) {
        let files = &self.files;
        self.tails
            .extract_if(.., |tail| tail.known().is_some_and(|known| over.contains(known)))
            .for_each(|mut tail| tail.forget_unread(files));
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
