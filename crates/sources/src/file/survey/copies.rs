//! Copies: what stands in more than one file is read once.
//!
//! Owns: what is passed over in a copy: all of its original, a part of it, or what both got alike before they parted.
//! Does not own: which file is a copy of which (see `plan`), when a followed copy is read on (see `follow`).

use std::fs::File;
use std::io;
use std::sync::Arc;

use pintail_core::error::{Error, Result};
use pintail_core::evidence::{Evidence, Verdict};
use pintail_core::offsets::{NoteKind, PartitionId};
use tracing::info;

use super::{Compared, Facts, Start, note};
use crate::compression::Compression;
use crate::file::input::read_range;
use crate::file::plan::Name;
use crate::file::positions::{Known, new_partition};
use crate::file::reader::empty_chunk;
use crate::file::sight::Sight;
use crate::file::trail::{EDGE_BYTES, archive_of, evidence_of};
use crate::file::{Files, names};

impl Files {
    /// Moves a position in a copy on to where its original is read.
    pub(in crate::file) fn pass_over(&mut self, copy: &mut Known, original: &Known, evidence: Option<Arc<Evidence>>) {
        let (from, of) = (copy.next, &original.partition.label);
        copy.next = original.next;
        copy.evidence = evidence;
        let text = format!("`{}` holds up to byte {} what was read as `{of}`: passed over", copy.partition.label, copy.next);
        info!(path = %copy.partition.label, copy_of = %of, bytes = copy.next - from, "what was read under another name is passed over");
        self.unread.add(copy.next - from);
        self.pending.push(empty_chunk(copy, from, vec![note(NoteKind::Copy, text, None)]));
    }

    pub(super) fn take_copy(&mut self, of: &Known, facts: &Facts) -> Result<Start> {
        let judged = facts.judged(of.id()).unwrap_or(Verdict::Moved.into());
        let evidence = self.placed(of.evidence.as_ref(), facts, judged)?;
        let known = Known { partition: new_partition(&facts.path), next: of.next, evidence, v1: None };
        let id = self.begin_behind(known, NoteKind::Copy, &format!("what was read as `{}`", of.partition.label));
        Ok(if judged.finished { Start::Finished(id) } else { Start::At { known: id, copy_of: Some(of.id().clone()) } })
    }

    /// Takes a file that holds a part of another for a copy as far as its last whole line.
    pub(in crate::file) fn take_part(&mut self, of: &PartitionId, facts: &Facts) -> Result<Start> {
        let Some(of) = self.positions.get(of).cloned() else { return Ok(Start::New) };
        self.positions.forget_left(&facts.place);
        let evidence = self.evidence_of_part(&of, facts)?;
        let partition = new_partition(&facts.path);
        let next = evidence.witnesses.last().map_or(0, |tail| tail.to);
        let known = Known { partition, next, evidence: Some(evidence), v1: None };
        let known = self.begin_behind(known, NoteKind::Copy, &format!("a part of what was read as `{}`", of.partition.label));
        Ok(match facts.compression {
            Compression::None => Start::At { known, copy_of: Some(of.id().clone()) },
            Compression::Gzip | Compression::Zstd => Start::Finished(known),
        })
    }

    /// Returns the position farthest on, and behind `next`, of which a file holds all, or which holds all of the file.
    pub(in crate::file) fn read_further_elsewhere(&self, facts: &Facts, next: u64) -> Option<PartitionId> {
        let alike = facts.compared.iter().filter(|other| other.may_hold() || other.prefix);
        let further = alike.filter_map(|other| self.positions.get(&other.known)).filter(|known| known.next > next);
        further.filter(|known| Self::is_sure(known, facts)).max_by_key(|known| known.next).map(|known| known.id().clone())
    }

    /// Returns the position farthest on, beside its own, of which a file holds all.
    pub(in crate::file) fn longest_within(&self, facts: &Facts, own: Option<&PartitionId>) -> Option<PartitionId> {
        let held = facts.compared.iter().filter(|other| Some(&other.known) != own && other.may_hold());
        let held = held.filter_map(|other| self.positions.get(&other.known)).filter(|known| Self::is_sure(known, facts));
        held.max_by_key(|known| known.next).map(|known| known.id().clone())
    }

    /// Returns whether what a file shares with a known one tells that they are one content: a few lines may stand in several files.
    fn is_sure(known: &Known, facts: &Facts) -> bool {
        known.next >= EDGE_BYTES || names::are_related(&facts.path.to_string_lossy(), &known.partition.label)
    }

    /// Returns the position farthest on of which a file holds all, or which holds all of the file. Where none shows that, one further on in a file that
    /// began alike: the file of that may be found elsewhere at this look, and only then it can be compared.
    pub(super) fn may_be_copy_of(&self, own: &Known, facts: &Facts) -> Option<PartitionId> {
        let others = || facts.compared.iter().filter(|other| other.known != *own.id());
        let next = |other: &Compared| self.positions.get(&other.known).map(|known| known.next);
        let sure = others().filter(|other| other.may_hold() || other.prefix).max_by_key(|other| next(other));
        let has_more = facts.compression == Compression::None && facts.length > own.next;
        let further = || others().filter(|other| has_more && other.shares && next(other) > Some(own.next)).max_by_key(|other| next(other));
        sure.or_else(further).map(|other| other.known.clone())
    }

    /// Passes over the whole lines that a file holds beyond its own position if all of it was read as another. Returns whether there were any.
    pub(in crate::file) fn pass_over_part(&mut self, known: &PartitionId, of: &PartitionId, facts: &Facts) -> Result<bool> {
        let (Some(mut known), Some(of)) = (self.positions.get(known).cloned(), self.positions.get(of).cloned()) else { return Ok(false) };
        let evidence = self.evidence_of_part(&of, facts)?;
        let next = evidence.witnesses.last().map_or(0, |tail| tail.to);
        if next <= known.next {
            return Ok(false);
        }
        self.pass_over(&mut known, &Known { next, ..of }, Some(evidence));
        self.positions.put(known);
        Ok(true)
    }

    /// Passes over the whole lines that a copy shares with its original behind its own position, if the two have parted since. Returns whether
    /// there were any. Compared are all bytes from the beginning: what only may be a copy is read. `open` is the original, if it is open: its name may be
    /// another by now.
    pub(in crate::file) fn pass_over_common(
        &mut self,
        known: &PartitionId,
        of: &PartitionId,
        facts: &Facts,
        open: Option<File>,
    ) -> Result<bool> {
        let (Some(mut known), Some(of)) = (self.positions.get(known).cloned(), self.positions.get(of).cloned()) else { return Ok(false) };
        if facts.compression != Compression::None || of.next <= known.next {
            return Ok(false);
        }
        let path = names::path_of(&of.partition.label);
        let original = open.map_or_else(|| self.open_file(&path), |open| Ok(Some(open)))?;
        let Some(original) = original else { return Ok(false) };
        let sight = Sight::look(original, &path, Name::Matches)?;
        if sight.compression != Compression::None {
            return Ok(false);
        }
        let failed = |e| Error::io(format_args!("compare `{}` with `{}`", facts.path.display(), of.partition.label), e);
        // What was read as the original must be what is compared.
        if sight.place.inode == facts.place.inode || sight.judge(&self.positions.key, &of).map_err(failed)?.verdict != Verdict::Same {
            return Ok(false);
        }
        let next = facts.with_file(|file| end_of_lines(file, common_end(file, &sight.file, of.next)?))?;
        let sure = next >= EDGE_BYTES || names::are_related(&known.partition.label, &of.partition.label);
        if next <= known.next || !sure {
            return Ok(false);
        }
        let place = facts.place.to_string();
        let evidence = facts.with_file(|file| self.evidence_before(file, facts, next, &place))?;
        self.pass_over(&mut known, &Known { next, ..of }, Some(Arc::new(evidence)));
        self.positions.put(known);
        Ok(true)
    }

    /// Makes the evidence of an offset in a plain file.
    fn evidence_before(&self, file: &File, facts: &Facts, offset: u64, place: &str) -> io::Result<Evidence> {
        let evidence = evidence_of(&self.positions.key, file, facts.compression, offset, place)?;
        Ok(Evidence { body: self.body_before(file, facts.place, offset)?, ..evidence })
    }

    /// Makes the evidence of the end of the last whole line in a file that holds a part of another; of the end of a compressed one.
    fn evidence_of_part(&self, of: &Known, facts: &Facts) -> Result<Arc<Evidence>> {
        let place = facts.place.to_string();
        let key = &self.positions.key;
        match facts.compression {
            Compression::None => facts.with_file(|file| {
                let end = end_of_lines(file, facts.length)?;
                self.evidence_before(file, facts, end, &place).map(Arc::new)
            }),
            Compression::Gzip | Compression::Zstd => facts.with_file(|file| {
                let evidence = evidence_of(key, file, facts.compression, of.next, &place)?;
                Ok(Arc::new(Evidence { archive: Some(archive_of(key, file)?), ..evidence }))
            }),
        }
    }
}

/// Returns where the last whole line before `length` ends; 0 if there is none.
pub(in crate::file) fn end_of_lines(file: &File, length: u64) -> io::Result<u64> {
    const STEP: u64 = 64 << 10;
    let mut to = length;
    while to > 0 {
        let from = to.saturating_sub(STEP);
        if let Some(at) = memchr::memrchr(b'\n', &read_range(file, from, to)?) {
            return Ok(from + at as u64 + 1);
        }
        to = from;
    }
    Ok(0)
}

/// Returns how far two files hold the same bytes, at most `to`.
fn common_end(a: &File, b: &File, to: u64) -> io::Result<u64> {
    const STEP: u64 = 64 << 10;
    let mut at = 0;
    while at < to {
        let step = to.min(at + STEP);
        let (a, b) = (read_range(a, at, step)?, read_range(b, at, step)?);
        let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count() as u64;
        at += same;
        if at < step {
            break;
        }
    }
    Ok(at)
}
