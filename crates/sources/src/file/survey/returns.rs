//! Returns: files that vanished and are back.
//!
//! Owns: telling by its fingerprint whether a file that nothing known is in is one that vanished, and passing over what was read of it.
//! Does not own: which fingerprints are kept (see `positions`), waiting for one that may still be on its way back (see `follow`).

use std::fs::File;
use std::io;

use pintail_core::error::Result;
use pintail_core::evidence::{Mark, Verdict};
use pintail_core::offsets::{Fingerprint, NoteKind};
use tracing::info;

use super::{Facts, Start};
use crate::file::Files;
use crate::file::input::{Compression, Walk};
use crate::file::positions::{Known, evidence_of_fingerprint, new_partition};
use crate::file::sight::Judged;
use crate::file::trail::EDGE_BYTES;

/// What a file is that begins as one that vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vanished {
    /// That one, with all that was read of it; a compressed one may hold nothing else.
    Back { finished: bool },
    /// It ends before the other did: a first part of it, or something else.
    Longer,
    /// Another one.
    Other,
}

impl Files {
    /// Begins a file that nothing known is in. It may be one that vanished.
    pub(super) fn take_new(&mut self, facts: &Facts) -> Result<Start> {
        let mut is_shorter = false;
        for (mark, fingerprint) in self.positions.remembered(&facts.head) {
            // Any file may begin with the same line or two, and what the vanished one was called is not remembered.
            if fingerprint.to < EDGE_BYTES {
                info!(path = %facts.path.display(), bytes = fingerprint.to, "the file begins as one that vanished; too short to tell, it is read as new");
                continue;
            }
            match self.compare_vanished(&fingerprint, facts)? {
                Vanished::Back { finished } => return self.take_back(mark, &fingerprint, facts, finished),
                Vanished::Longer => is_shorter |= !self.positions.was_rewritten(&mark),
                Vanished::Other => {}
            }
        }
        // More than one file may begin so.
        let is_alone = !facts.compared.iter().any(|other| other.shares);
        Ok(if is_shorter && is_alone { Start::Returning } else { Start::New })
    }

    /// Compares a file with one that vanished and began alike.
    fn compare_vanished(&self, fingerprint: &Fingerprint, facts: &Facts) -> Result<Vanished> {
        let compare = |file: &File| -> io::Result<Vanished> {
            let mut walk = Walk::begin(file.try_clone()?, facts.compression)?;
            walk.to(fingerprint.to)?;
            if walk.at < fingerprint.to {
                return Ok(Vanished::Longer);
            }
            if self.positions.key.mark(&[&walk.tail]) != fingerprint.tail {
                return Ok(Vanished::Other);
            }
            walk.to(fingerprint.to.saturating_add(1))?;
            Ok(Vanished::Back { finished: facts.compression != Compression::None && walk.at == fingerprint.to })
        };
        facts.with_file(|file| match compare(file) {
            // What is wrong with a damaged file is said when it is read.
            Err(e) if facts.compression.is_damage(&e) => Ok(Vanished::Other),
            compared => compared,
        })
    }

    /// Takes up that a file is back.
    fn take_back(&mut self, mark: Mark, fingerprint: &Fingerprint, facts: &Facts, finished: bool) -> Result<Start> {
        let evidence = Some(evidence_of_fingerprint(mark, fingerprint, &facts.place));
        let evidence = self.placed(evidence.as_ref(), facts, Judged { verdict: Verdict::Moved, finished })?;
        // Nothing can fail behind here: a file that is set aside must be known again when it is tried again.
        self.positions.recall(&mark);
        let known = Known { partition: new_partition(&facts.path), next: fingerprint.to, evidence, v1: None };
        let known = self.begin_behind(known, NoteKind::Returned, "what was read before it vanished");
        Ok(if finished { Start::Finished(known) } else { Start::At { known, copy_of: None } })
    }
}
