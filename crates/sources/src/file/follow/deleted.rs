//! Deleted files on a full disk.
//!
//! Owns: closing those that are read and committed, since an open file keeps its room, and naming the rest.
//! Does not own: deleted files while there is room: those are held for a while, their writer may not have left (see `follow`).

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pintail_core::offsets::{NoteKind, Offsets};
use pintail_storage::durable::disk_state::DiskState;
use tracing::{info, warn};

use super::tail::{Stage, Tail};
use super::{Follow, note};
use crate::thread::{ChunkSender, Exit};

/// What the reading thread is told of the world behind it.
#[derive(Debug, Clone, Default)]
pub(in crate::file) struct Behind {
    disk: Arc<OnceLock<DiskState>>,
    committed: Arc<Mutex<Offsets>>,
}

impl Behind {
    /// Takes whether writing waits for room.
    pub(in crate::file) fn watch(&self, disk: DiskState) {
        let _ = self.disk.set(disk);
    }

    /// Reads what is committed.
    pub(in crate::file) fn commit(&self, offsets: &Offsets) {
        *self.committed.lock() = offsets.clone();
    }

    fn is_full(&self) -> bool {
        self.disk.get().is_some_and(DiskState::full)
    }
}

impl Follow {
    /// Waits until the line takes the chunk that it had no room for. What stops it may be a full disk.
    pub(super) fn wait_for_room(&mut self, sender: &ChunkSender) -> Result<(), Exit> {
        while !sender.hand_over_kept()? {
            self.relieve_disk();
        }
        Ok(())
    }

    /// Does what can be done for a full disk.
    pub(super) fn relieve_disk(&mut self) {
        if !self.behind.is_full() {
            self.named = false;
            return;
        }
        self.close_committed();
        if !std::mem::replace(&mut self.named, true) {
            self.name_deleted();
        }
    }

    /// Closes deleted files of which everything is committed.
    pub(super) fn close_committed(&mut self) {
        let committed = self.behind.committed.lock().clone();
        let is_over = |tail: &Tail| match &tail.stage {
            Stage::Open(reader) => {
                let is_committed = committed.next_offset(&reader.partition().id) == Some(reader.next());
                is_committed && tail.is_deleted() && tail.file().metadata().is_ok_and(|metadata| metadata.len() == reader.next())
            }
            Stage::Empty(_) => false,
        };
        let (over, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.tails).into_iter().partition(is_over);
        self.tails = kept;
        for tail in over {
            let Some(known) = tail.known().and_then(|id| self.files.positions.get(id)).cloned() else { continue };
            info!(path = %tail.path.display(), bytes = known.next, "closed a deleted file: the disk is full and it is committed");
            let text = format!("`{}` was deleted after it was read to its end", known.partition.label);
            self.files.forget(&known, vec![note(NoteKind::Vanished, text, None)]);
        }
    }

    /// Says which deleted files still keep room on the disk.
    fn name_deleted(&self) {
        let deleted: Vec<&Tail> = self.tails.iter().filter(|tail| tail.is_deleted()).collect();
        let Some(first) = deleted.first() else { return };
        let bytes: u64 = deleted.iter().filter_map(|tail| tail.file().metadata().ok()).map(|metadata| metadata.len()).sum();
        warn!(
            files = deleted.len(),
            bytes,
            first = %first.path.display(),
            "deleted files keep room on the full disk: they are not committed, and without them what was read of them would be lost"
        );
    }
}
