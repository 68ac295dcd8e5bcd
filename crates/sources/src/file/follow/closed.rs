//! Closed files: rotated and deleted ones whose descriptor is let go of.
//!
//! Owns: when such a file is closed, its last line, and finding out what became of known files that are not open.
//! Does not own: closing files to make room for others (see `idle`) or on a full disk (see `deleted`).

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Instant;

use pintail_core::error::Result;
use pintail_core::offsets::{NoteKind, PartitionId};
use tracing::{info, warn};

use super::tail::{Stage, Tail};
use super::{Follow, Found, Inode, Lines, Name, QUIET, Unterminated, Wanted, is_of_input, names, note, search};
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
        for tail in closed {
            let path = tail.path.clone();
            match self.close(tail, sender) {
                // What was not read of a deleted one is a gap, which the next search for its position finds.
                Err(Exit::Failed(error)) if is_of_input(&error) => self.files.aside.file(&path, &error),
                closed => closed?,
            }
        }
        Ok(())
    }

    /// Closes a file. A deleted one is forgotten; its last line will get no end, and is a record without it.
    fn close(&mut self, mut tail: Tail, sender: &ChunkSender) -> Result<(), Exit> {
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
        let there: HashSet<Inode> = found.files.iter().map(|(_, metadata)| Inode::of(metadata)).collect();
        let closed = self.files.positions.iter().filter(|known| !open.contains(known.id()));
        let missing = closed.filter(|known| !known.place().is_some_and(|place| there.contains(&place.inode)));
        let missing: Vec<(PartitionId, Option<Inode>)> =
            missing.map(|known| (known.id().clone(), known.place().map(|place| place.inode))).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let labels: Vec<PathBuf> =
            missing.iter().filter_map(|(id, _)| self.files.positions.get(id)).map(|known| names::path_of(&known.partition.label)).collect();
        let directories = self.files.patterns.directories(labels.iter().map(PathBuf::as_path));
        let numbers = missing.iter().filter_map(|(_, inode)| *inode).map(|inode| inode.number).collect();
        let searched = search(&directories, &Wanted { numbers, ..Wanted::default() }, &self.files.patterns.disk);
        searched.failed.iter().for_each(|(directory, error)| self.files.aside.directory(directory, error));
        let present: HashMap<Inode, u64> = searched.files.iter().map(|(_, metadata)| (Inode::of(metadata), metadata.len())).collect();
        let over = |(id, inode): &(PartitionId, Option<Inode>)| {
            let Some(length) = inode.and_then(|inode| present.get(&inode)) else { return true };
            self.files.positions.get(id).is_some_and(|known| known.has_grown(*length))
        };
        self.lost.extend(missing.into_iter().filter(over).map(|(id, _)| id));
        Ok(())
    }
}
