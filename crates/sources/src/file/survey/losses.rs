//! Losses: files that are gone, or hold no more what was read of them.
//!
//! Owns: what becomes of their positions, and what is noted and logged of them.
//! Does not own: the decision (see `plan`), what `source.on_gap` makes of a gap (see [`crate::resume`]).

use pintail_core::error::Result;
use pintail_core::evidence::Verdict;
use pintail_core::offsets::{Note, NoteKind};
use tracing::warn;

use super::{Facts, empty_chunk, gap, note, now};
use crate::file::Files;
use crate::file::plan::{Loss, SeenFile};
use crate::file::positions::Known;
use crate::resume::{Finding, Gap};

impl Files {
    pub(super) fn take_losses(&mut self, known: &[Known], facts: &[Facts], seen: &[SeenFile], losses: &[(usize, Loss)]) -> Result<()> {
        let mut vanished = Vec::new();
        for (at, loss) in losses {
            let known_at = |at: usize| &known[at];
            let known = known_at(*at);
            match loss {
                Loss::Rewritten { file, why } => self.lose(known, &gap(*why, facts[*file].length))?,
                Loss::Unread { end } => self.lose(known, &format!("is gone, and was {end} bytes long when it was seen last"))?,
                Loss::Replaced { file } => self.replaced(known, &facts[*file]),
                Loss::Vanished => vanished.push((known, "has vanished; it was read to its end as it was seen last".to_owned())),
                Loss::Elsewhere { file } => {
                    if let Some(there) = seen[*file].pairs.iter().find(|pair| pair.verdict == Verdict::Same) {
                        self.positions.note_elsewhere(known, known_at(there.known).id());
                    }
                    vanished.push((known, format!("has vanished; its content is in `{}`", facts[*file].path.display())));
                }
            }
        }
        vanished.sort_by(|(a, _), (b, _)| a.partition.label.cmp(&b.partition.label));
        if let Some((first, _)) = vanished.first() {
            let first = &*first.partition.label;
            warn!(files = vanished.len(), first, "known files have vanished; they were read to their ends as they were seen last");
        }
        for (known, text) in vanished {
            self.forget(known, vec![note(NoteKind::Vanished, format!("`{}` {text}", known.partition.label), None)]);
        }
        Ok(())
    }

    /// Records that a file is gone that was read to its end, and that another one has its name: a rotation that kept nothing, as far as can be told.
    fn replaced(&mut self, known: &Known, by: &Facts) {
        let (label, read, bytes) = (&known.partition.label, known.next, by.length);
        warn!(path = %label, read, bytes, "the file is gone; it was read to its end as it was seen last. Another one has its name, and is read as new");
        let text = format!(
            "`{label}` has vanished; it was read to its end as it was seen last. A file of {bytes} bytes has its name that shares no KiB with it"
        );
        self.forget(known, vec![note(NoteKind::Vanished, text, None)]);
    }

    /// Records that data was or may have been lost: the position is over.
    ///
    /// # Errors
    /// `State` if `source.on_gap` is `refuse`.
    pub(in crate::file) fn lose(&mut self, known: &Known, what: &str) -> Result<()> {
        let gap = self.gap_of(known, what)?;
        let over = note(NoteKind::Vanished, format!("`{}` holds no more what was read of it", known.partition.label), None);
        self.forget(known, vec![gap, over]);
        self.positions.fingerprints.note_rewritten(known);
        known.place().inspect(|place| self.positions.forget_left(place));
        Ok(())
    }

    pub(super) fn gap_of(&self, known: &Known, what: &str) -> Result<Note> {
        let (label, next) = (&known.partition.label, known.next);
        let found = format!("`{label}` {what}, and {next} bytes of it were read");
        let gap = Finding::Gap(Gap {
            noted: found.clone(),
            found,
            then: "what is there is read as a new file; what lay between may be lost".into(),
            lost: known.evidence.as_ref().and_then(|evidence| evidence.end).map(|end| end - next),
        });
        self.on_gap.meet(label, gap)
    }

    /// Forgets a position, but for its fingerprint.
    pub(in crate::file) fn forget(&mut self, known: &Known, notes: Vec<Note>) {
        self.pending.push(empty_chunk(known, known.next, notes));
        self.positions.take(known.id());
        self.touched.remove(known.id());
        self.positions.fingerprints.remember(known, now());
    }
}
