//! Returns: files that vanished and are back.
//!
//! Owns: telling by its fingerprint whether a file that nothing known is in is one that vanished, and passing over what was read of it.
//! Does not own: which fingerprints are kept (see `positions`), waiting for one that may still be on its way back (see `follow`).

use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use pintail_core::error::Result;
use pintail_core::evidence::{Body, Evidence, Mark, Witness};
use pintail_core::offsets::{Fingerprint, NoteKind};
use tracing::{info, warn};

use super::{Facts, Start, empty_chunk, note};
use crate::compression::Compression;
use crate::file::Files;
use crate::file::bodies::end_of_body;
use crate::file::input::{Input, Walk};
use crate::file::positions::{Known, new_partition};
use crate::file::trail::{EDGE_BYTES, archive_of};
use crate::lines::TAIL_BYTES_MAX;

/// Offsets that are all asked. Where more files began alike, most of them do not end where a line does.
const ENDS_MAX: usize = 64;

/// Bytes read at a time.
const STEP_BYTES: u64 = 1 << 20;

/// What a file is that begins as one that vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vanished {
    /// That one, with all that was read of it; a compressed one may hold nothing else.
    Back { tail: Witness, body: Option<Mark>, finished: bool },
    /// It ends before the other did: a first part of it, or something else.
    Longer,
    /// Another one.
    Other,
}

impl Files {
    /// Begins a file that nothing known is in. It may be one that vanished.
    pub(super) fn take_new(&mut self, facts: &Facts) -> Result<Start> {
        if let Some(back) = self.find_back(facts, 0)? {
            return self.take_back(&back, facts);
        }
        let mut is_shorter =
            facts.compression == Compression::None && self.positions.fingerprints.may_be_part_of_many(&facts.head, facts.length);
        for (key, fingerprint) in self.positions.fingerprints.begun_as(&facts.head) {
            // Any file may begin with the same line or two, and what the vanished one was called is not remembered.
            if fingerprint.to < EDGE_BYTES {
                info!(path = %facts.path.display(), bytes = fingerprint.to, "the file begins as one that vanished; too short to tell, it is read as new");
            } else if !is_shorter && !self.positions.fingerprints.was_rewritten(&key) {
                is_shorter = self.compare_vanished(&fingerprint, facts)? == Vanished::Longer;
            }
        }
        // More than one file may begin so.
        let is_alone = !facts.compared.iter().any(|other| other.shares) && !self.positions.is_common(&facts.head);
        Ok(if is_shorter && is_alone { Start::Returning } else { Start::New })
    }

    /// Passes over what a file holds beyond a position that was found in it, if that was read before a file vanished.
    pub(super) fn pass_over_returned(&mut self, start: Start, facts: &Facts) -> Result<Start> {
        let (Start::At { known, .. } | Start::Finished(known)) = &start else { return Ok(start) };
        let Some(mut known) = self.positions.get(known).cloned() else { return Ok(start) };
        let Some(back) = self.find_back(facts, known.next)? else { return Ok(start) };
        let evidence = self.evidence_of_back(&back, facts)?;
        self.positions.fingerprints.recall(&back.key);
        let (from, label) = (known.next, known.partition.label.clone());
        (known.next, known.evidence) = (back.to, Some(evidence));
        let text = format!("`{label}` holds up to byte {} what was read before it vanished: passed over", back.to);
        warn!(path = %label, bytes = back.to - from, "the file holds what was read before it vanished: passed over");
        self.unread.add(back.to - from);
        self.pending.push(empty_chunk(&known, from, vec![note(NoteKind::Returned, text, None)]));
        let id = known.id().clone();
        self.positions.put(known);
        Ok(if back.finished { Start::Finished(id) } else { start })
    }

    /// Returns the file that vanished, and was read farthest beyond an offset, of which all stands in this one.
    fn find_back(&self, facts: &Facts, beyond: u64) -> Result<Option<Back>> {
        let remembered = self.positions.fingerprints.begun_as(&facts.head).into_iter();
        let mut further: Vec<(Mark, Fingerprint)> =
            remembered.filter(|(_, fingerprint)| fingerprint.to >= EDGE_BYTES && fingerprint.to > beyond).collect();
        further.sort_unstable_by_key(|(_, fingerprint)| Reverse(fingerprint.to));
        if let Some((head, ends)) = self.positions.fingerprints.many_begun_as(&facts.head) {
            let longest = if facts.compression == Compression::None { facts.length } else { u64::MAX };
            let ends: Vec<u64> = ends.filter(|to| *to > beyond && *to <= longest).collect();
            let back = facts.with_file(|file| self.find_back_among_many(file, facts.compression, head, &ends))?;
            if back.is_some() {
                return Ok(back);
            }
        }
        for (key, fingerprint) in further {
            if let Vanished::Back { tail, body, finished } = self.compare_vanished(&fingerprint, facts)? {
                let head = self.positions.key.mark(&[&facts.head[..usize::from(fingerprint.head_bytes)]]);
                let head = witness(0, u64::from(fingerprint.head_bytes), head);
                return Ok(Some(Back { key, to: fingerprint.to, witnesses: vec![head, tail], body, finished }));
            }
        }
        Ok(None)
    }

    /// Returns the file that vanished, and was read farthest, of which all stands in this one, where many began alike: the content is read once, and asked
    /// at each offset up to which one of them was read. Of very many, those count that ended with a line.
    fn find_back_among_many(&self, file: &File, compression: Compression, head: Mark, ends: &[u64]) -> io::Result<Option<Back>> {
        let key = &self.positions.key;
        let mut input = Input::open(file.try_clone()?, compression)?;
        let (mut body, mut window, mut from, mut found) = (Body::new(key), Vec::new(), 0, None);
        let at = |from: u64, to: u64| usize::try_from(to - from).unwrap_or(usize::MAX);
        for to in ends {
            while from + (window.len() as u64) < *to {
                body.push(&window[at(from, body.length())..]);
                let kept = window.len().min(TAIL_BYTES_MAX);
                from += (window.len() - kept) as u64;
                window.drain(..window.len() - kept);
                match (&mut input).take(STEP_BYTES).read_to_end(&mut window) {
                    Ok(0) => return Ok(found),
                    Ok(_) => {}
                    // What is wrong with a damaged file is said when it is read.
                    Err(e) if compression.is_damage(&e) => return Ok(found),
                    Err(e) => return Err(e),
                }
            }
            let end = at(from, *to);
            if ends.len() > ENDS_MAX && window[end - 1] != b'\n' {
                continue;
            }
            body.push(&window[at(from, body.length())..end]);
            let tail = key.mark(&[&window[end - TAIL_BYTES_MAX..end]]);
            let Some(summed) = body.mark() else { continue };
            if let Some((key, _)) = self.positions.fingerprints.with(head, *to, tail, summed) {
                let witnesses = vec![witness(0, EDGE_BYTES, head), witness(to - EDGE_BYTES, *to, tail)];
                found = Some(Back { key, to: *to, witnesses, body: Some(summed), finished: false });
            }
        }
        if let Some(back) = found.as_mut().filter(|_| compression != Compression::None) {
            back.finished = back.to == from + window.len() as u64 && input.read(&mut [0]).is_ok_and(|read| read == 0);
        }
        Ok(found)
    }

    /// Compares a file with one that vanished and began alike.
    fn compare_vanished(&self, fingerprint: &Fingerprint, facts: &Facts) -> Result<Vanished> {
        if facts.compression == Compression::None && facts.length < fingerprint.to {
            return Ok(Vanished::Longer);
        }
        let compare = |file: &File| -> io::Result<Vanished> {
            let to = fingerprint.to;
            let mut walk = Walk::begin(file.try_clone()?, facts.compression)?.summing(&self.positions.key);
            walk.to(to)?;
            if walk.at < to {
                return Ok(Vanished::Longer);
            }
            let body = match (&walk.body, facts.bodies.get(&end_of_body(to))) {
                (Some(body), _) => body.mark(),
                (None, Some(body)) => Some(*body),
                (None, None) => self.body_before(file, facts.place, to)?,
            };
            let tail = self.positions.key.mark(&[&walk.tail]);
            if !fingerprint.is_of(tail, body) {
                return Ok(Vanished::Other);
            }
            let tail = witness(to - walk.tail.len() as u64, to, tail);
            walk.to(to.saturating_add(1))?;
            Ok(Vanished::Back { tail, body, finished: facts.compression != Compression::None && walk.at == to })
        };
        facts.with_file(|file| match compare(file) {
            // What is wrong with a damaged file is said when it is read.
            Err(e) if facts.compression.is_damage(&e) => Ok(Vanished::Other),
            compared => compared,
        })
    }

    /// Records that a file is back.
    fn take_back(&mut self, back: &Back, facts: &Facts) -> Result<Start> {
        let evidence = Some(self.evidence_of_back(back, facts)?);
        // Nothing can fail behind here: a file that is set aside must be known again when it is tried again.
        self.positions.fingerprints.recall(&back.key);
        let known = Known { partition: new_partition(&facts.path), next: back.to, evidence, v1: None };
        let known = self.begin_behind(known, NoteKind::Returned, "what was read before it vanished");
        Ok(if back.finished { Start::Finished(known) } else { Start::At { known, copy_of: None } })
    }

    fn evidence_of_back(&self, back: &Back, facts: &Facts) -> Result<Arc<Evidence>> {
        let archive = back.finished.then(|| facts.with_file(|file| archive_of(&self.positions.key, file))).transpose()?;
        let (place, witnesses) = (Some(facts.place.to_string().into()), back.witnesses.clone());
        Ok(Arc::new(Evidence { place, end: None, witnesses, body: back.body, archive }))
    }
}

/// A file that is back.
struct Back {
    /// What its fingerprint lies under.
    key: Mark,
    to: u64,
    witnesses: Vec<Witness>,
    body: Option<Mark>,
    /// Whether it is compressed and holds nothing else.
    finished: bool,
}

fn witness(from: u64, to: u64, mark: Mark) -> Witness {
    Witness { from, to, time: None, epoch: None, mark }
}
