//! Closed files: rotated and deleted ones whose descriptor is let go of.
//!
//! Owns: when such a file is closed, its last line, and finding out what became of known files that are not open, and of files that waited.
//! Does not own: closing files to make room for others (see `idle`) or on a full disk (see `deleted`).

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::path::PathBuf;
use std::time::Instant;

use pintail_core::error::Result;
use pintail_core::offsets::{NoteKind, PartitionId};
use tracing::{info, warn};

use super::tail::{Stage, Tail};
use super::{
    Facts, Follow, Found, Inode, Known, Lines, Name, Place, QUIET, Searched, Stray, Unterminated, Wanted, is_of_input, names,
    new_partition, note, search,
};
use crate::thread::{ChunkSender, Exit};

impl Follow {
    /// Closes files that have no matching name any more and have stood still. The length of time is what tells that their writer left.
    pub(super) fn let_go(&mut self, now: Instant, sender: &ChunkSender) -> Result<(), Exit> {
        let quiet = |tail: &Tail| tail.name == Name::Renamed && now.saturating_duration_since(tail.last_read) >= QUIET;
        if !self.tails.iter().any(quiet) {
            return Ok(());
        }
        let (closed, kept) = std::mem::take(&mut self.tails).into_iter().partition(quiet);
        self.tails = kept;
        for mut tail in closed {
            match self.close(&mut tail, sender) {
                // What was not read of a deleted one is a gap, which the next search for its position finds.
                Err(Exit::Failed(error)) if is_of_input(&error) => tail.set_aside(&mut self.files, &error),
                closed => closed?,
            }
        }
        Ok(())
    }

    /// Closes a file. A deleted one is forgotten; its last line will get no end, and is a record without it.
    fn close(&mut self, tail: &mut Tail, sender: &ChunkSender) -> Result<(), Exit> {
        let deleted = tail.is_deleted();
        if let Stage::Open(reader) = &mut tail.stage {
            if deleted && let Lines::Chunk(chunk) = reader.next_lines(Unterminated::Record)? {
                self.files.unread.see(&mut tail.seen, chunk.range.to);
                self.files.positions.advance(reader.partition(), chunk.range.to, chunk.range.evidence.clone());
                sender.send(chunk)?;
            }
            let unread = tail.seen.saturating_sub(reader.next());
            if unread > 0 {
                warn!(path = %tail.path.display(), bytes = unread, "a rotated file ends in an unfinished line: left unread");
            }
        }
        let known = tail.known().and_then(|id| self.files.positions.get(id)).cloned();
        if let Some(known) = known.filter(|_| deleted) {
            let text = format!("`{}` was deleted after it was read to its end", known.partition.label);
            self.files.forget(&known, vec![note(NoteKind::Vanished, text, None)]);
        }
        info!(path = %tail.path.display(), deleted, "closed a rotated file");
        tail.forget_unread(&self.files);
        Ok(())
    }

    /// Finds out which known files that are not open are gone, and which have grown under a name that does not match.
    pub(super) fn miss_closed(&mut self, found: &Found) -> Result<()> {
        let open: HashSet<&PartitionId> = self.tails.iter().filter_map(Tail::known).collect();
        let there = found.places();
        let is_there = |place: Place| there.get(&place.inode).is_some_and(|found| found.may_be(&place));
        let closed = self.files.positions.iter().filter(|known| !open.contains(known.id()));
        let missing = closed.filter(|known| !known.place().is_some_and(is_there));
        let missing: Vec<(PartitionId, Option<Place>)> = missing.map(|known| (known.id().clone(), known.place())).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let labels: Vec<PathBuf> =
            missing.iter().filter_map(|(id, _)| self.files.positions.get(id)).map(|known| names::path_of(&known.partition.label)).collect();
        let directories = self.files.patterns.directories(labels.iter().map(PathBuf::as_path));
        let numbers = missing.iter().filter_map(|(_, place)| *place).map(|place| place.inode.number).collect();
        let searched = search(&directories, &Wanted { numbers, ..Wanted::default() }, &self.files.patterns.disk);
        searched.failed.iter().for_each(|(directory, error)| self.files.aside.directory(directory, error));
        let present: HashMap<Inode, &Metadata> = searched.files.iter().map(|(_, metadata)| (Inode::of(metadata), metadata)).collect();
        let over = |(id, place): &(PartitionId, Option<Place>)| {
            let present = place.and_then(|place| present.get(&place.inode).filter(|found| Place::of(found).may_be(&place)));
            let Some(length) = present.map(|found| found.len()) else { return true };
            self.files.positions.get(id).is_some_and(|known| known.has_grown(length))
        };
        self.lost.extend(missing.into_iter().filter(over).map(|(id, _)| id));
        Ok(())
    }

    /// Looks at files that waited under a name that they do not have any more. They matched: nothing else says that they are to be read.
    pub(super) fn look_for_strays(&mut self, strays: Vec<Stray>, found: &Found, facts: &mut Vec<Facts>) -> Result<()> {
        let mut paths = self.files.aside.due_strays(&found.files);
        let directories = self.files.patterns.directories(strays.iter().map(|stray| stray.path.as_path()));
        let numbers = strays.iter().map(|stray| stray.place.inode.number).collect();
        let searched = match strays.is_empty() {
            true => Searched::default(),
            false => search(&directories, &Wanted { numbers, ..Wanted::default() }, &self.files.patterns.disk),
        };
        searched.failed.iter().for_each(|(directory, error)| self.files.aside.directory(directory, error));
        for stray in strays {
            // The descriptor of one that was empty is held.
            if self.tails.iter().any(|tail| tail.place.may_be(&stray.place)) {
                continue;
            }
            match searched.files.iter().find(|(_, metadata)| Place::of(metadata).may_be(&stray.place)) {
                Some((path, _)) => paths.push(path.clone()),
                None if !searched.failed.is_empty() => self.files.aside.keep_stray(stray),
                None => self.miss_stray(&stray)?,
            }
        }
        for path in paths {
            facts.extend(self.files.examine_or_set_aside(&path, Name::Matches)?.map(Facts::closed));
        }
        Ok(())
    }

    /// Records that a file is gone that could not be read.
    fn miss_stray(&mut self, stray: &Stray) -> Result<()> {
        let known: Vec<PartitionId> = self.files.positions.at(&stray.place).map(|known| known.id().clone()).collect();
        if !known.is_empty() {
            self.lost.extend(known);
            return Ok(());
        }
        let known = Known { partition: new_partition(&stray.path), next: 0, evidence: None, v1: None };
        // Who takes away a file that is damaged or of another format, or puts a whole one in its place, repairs it.
        if stray.damaged {
            let (label, why) = (&known.partition.label, &stray.why);
            warn!(path = %label, why, "a file that could not be read is gone, and nothing of it was read");
            let text = format!("`{label}` is gone, and nothing of it was read: {why}");
            self.files.forget(&known, vec![note(NoteKind::Vanished, text, None)]);
            return Ok(());
        }
        self.files.lose(&known, "is gone, and could not be read while it was there")
    }
}
