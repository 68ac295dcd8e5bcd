//! Survey: what was found is compared with what is known, and the plan is carried out.
//!
//! Owns: gathering the facts of the plan, the search for files that lost their name, and what the plan leads to: positions that go on elsewhere,
//! files that vanished or are back, and what `source.on_gap` makes of a gap. What is found out rides in empty chunks into the commit record.
//! Does not own: the decision (see `plan`), what is passed over in copies (see `copies`) and in files that are back (see `returns`), comparing whole contents (see `whole`, `beside`), reading (see `follow`, `read_once`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pintail_core::error::{Error, Result};
use pintail_core::evidence::{Evidence, Verdict, Why};
use pintail_core::offsets::{Note, NoteKind, Partition, PartitionId};
use pintail_storage::durable::disk_state::DiskState;
use tracing::{info, warn};

use super::bodies::{Marks, Patience};
use super::config::Copies;
use super::discover::{Wanted, open, search};
use super::follow::TURN_BYTES;
use super::identity::{Inode, Place};
use super::plan::{Edited, Fate, Holder, KnownFile, Name, Pair, SeenFile, plan};
use super::positions::Known;
use super::reader::empty_chunk;
use super::sight::{Judged, Sight};
use super::sketch::Sketch;
use super::trail::{EDGE_BYTES, archive_of, evidence_of};
use super::{Files, Found, aside, names};
use crate::compression::Compression;
use crate::lines::TAIL_BYTES_MAX;

mod alike;
mod beside;
mod copies;
mod lines;
mod losses;
mod returns;
mod whole;

pub(super) use copies::end_of_lines;

/// What was found out about a file.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) path: PathBuf,
    pub(super) name: Name,
    pub(super) place: Place,
    pub(super) length: u64,
    pub(super) compression: Compression,
    head: Vec<u8>,
    /// Where many files begin alike.
    sketch: Option<Sketch>,
    compared: Vec<Compared>,
    /// Bodies of a plain file, by offset.
    bodies: Marks,
    /// Open, if it is to be held.
    pub(super) file: Option<File>,
    pub(super) disk: DiskState,
}

#[derive(Debug)]
struct Compared {
    known: PartitionId,
    judged: Judged,
    shares: bool,
    prefix: bool,
    whole: bool,
}

/// How reading of a file begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// At the position that is known of it. It may be a copy of another, as far as that is read.
    At { known: PartitionId, copy_of: Option<PartitionId> },
    /// It is compressed, and read to its end.
    Finished(PartitionId),
    /// At its beginning.
    New,
    /// Not yet: it holds the beginning of another file, and nothing else so far.
    PartOf(PartitionId),
    /// Not yet: another file that begins alike is read first.
    Later,
    /// At its beginning, if it does not become one that vanished: it begins as that one did, and is shorter.
    Returning,
    /// Not at all.
    Nothing,
    /// Not now: it cannot be read, and is set aside.
    Aside,
}

impl Files {
    /// Looks at a file and compares it with what is known; `None` if it is gone.
    pub(super) fn examine(&self, path: &Path, name: Name) -> Result<Option<Facts>> {
        self.open_file(path)?.map(|file| self.examine_open(file, path, name)).transpose()
    }

    /// Looks at a file and compares it with what is known; `None` if it is gone, or cannot be read and is set aside.
    pub(super) fn examine_or_set_aside(&mut self, path: &Path, name: Name) -> Result<Option<Facts>> {
        let examined = self.open_file(path).and_then(|file| file.map(|file| self.examine_in_steps(file, path, name)).transpose());
        Ok(self.or_set_aside(path, name, examined)?.flatten().flatten())
    }

    /// Sets a file aside that cannot be read. Passes on what is no fault of one file.
    pub(super) fn or_set_aside<T>(&mut self, path: &Path, name: Name, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if aside::is_of_input(&error) => {
                self.aside.file(path, name, &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins a look in which not more is compared than is read of a file before others have their turns.
    pub(super) fn begin_look(&mut self, found: &Found) {
        self.bodies.get_mut().allow(TURN_BYTES);
        self.positions.begin_look();
        self.gone.begin_look(found);
        self.unsettled = None;
    }

    /// Returns whether a file was met at this look that may hold a position, and was not compared to its end.
    pub(super) fn is_unsettled(&self, known: &PartitionId) -> bool {
        self.unsettled.as_ref().is_some_and(|unsettled| unsettled.contains(known))
    }

    /// Looks at an open file and compares it with what is known.
    pub(super) fn examine_open(&self, file: File, path: &Path, name: Name) -> Result<Facts> {
        let examined = self.examine_sight(Sight::look(file, path, name)?, Patience::All)?;
        Ok(examined.unwrap_or_else(|_| unreachable!("all of it was read")))
    }

    /// The same for a file of which much may have to be compared. `None` if that is not done yet: nothing may follow for these positions until it is.
    pub(super) fn examine_in_steps(&mut self, file: File, path: &Path, name: Name) -> Result<Option<Facts>> {
        match self.examine_sight(Sight::look(file, path, name)?, Patience::Step)? {
            Ok(facts) => Ok(Some(facts)),
            Err(unsettled) => {
                self.unsettled.get_or_insert_default().extend(unsettled);
                Ok(None)
            }
        }
    }

    /// Returns the facts, or the positions that could not be compared yet.
    fn examine_sight(&self, sight: Sight, patience: Patience) -> Result<Result<Facts, Vec<PartitionId>>> {
        let label = sight.label();
        let path = &sight.path;
        let failed = |e| Error::io(format_args!("compare `{}` with what was read of it", path.display()), e);
        let own = self.positions.own(&sight);
        let mut judged = self.judge_all(&sight, &own)?;
        let is_settled = judged.iter().any(|(known, judged)| sight.holds_only(known, *judged));
        let (mut others, sketch) = self.find_alike(&sight, is_settled).map_err(failed)?;
        others.retain(|id| !own.contains(id));
        judged.extend(self.judge_all(&sight, &others)?);
        let suspects = || Ok(Err(judged.iter().map(|(known, _)| known.id().clone()).collect()));
        let Some(bodies) = self.bodies_of(&sight, &judged, patience).map_err(failed)? else { return suspects() };
        let mut compared = Vec::new();
        for (known, worth) in &judged {
            let Some(judged) = self.confirm(&sight, known, *worth, &bodies, patience).map_err(failed)? else { return suspects() };
            let begins = sight.begins_as(&self.positions.key, known);
            let is_changed = sight.length > 0 && matches!(judged.verdict, Verdict::Other(_)) && sight.may_be(known);
            let shares = begins || (is_changed && sight.holds_end_of(&self.positions.key, known).map_err(failed)?);
            let shorter = matches!(judged.verdict, Verdict::Other(Why::Shorter { .. }));
            let related = || names::are_related(&label, &known.partition.label) || self.positions.is_part(&sight.place, known.id());
            let alike = begins || (sight.length < EDGE_BYTES && related());
            let is_prefix = if alike && shorter { self.is_prefix(&sight, known, patience).map_err(failed)? } else { Some(false) };
            let Some(prefix) = is_prefix else { return suspects() };
            let whole = sight.holds_only(known, judged);
            compared.push(Compared { known: known.id().clone(), judged, shares, prefix, whole });
        }
        let Sight { path, name, file, place, length, compression, head, .. } = sight;
        let disk = self.patterns.disk.clone();
        Ok(Ok(Facts { path, name, place, length, compression, head, sketch, compared, bodies, file: Some(file), disk }))
    }

    /// Judges positions by what a file holds.
    fn judge_all(&self, sight: &Sight, ids: &BTreeSet<PartitionId>) -> Result<Vec<(&Known, Judged)>> {
        let mut judged = Vec::new();
        for known in ids.iter().filter_map(|id| self.positions.get(id)) {
            match sight.judge(&self.positions.key, known) {
                Ok(worth) => judged.push((known, worth)),
                // A damaged archive that may be any other file says nothing of this one.
                Err(e) if !sight.may_be(known) && sight.compression.is_damage(&e) => {}
                Err(e) => return Err(Error::io(format_args!("compare `{}` with what was read of it", sight.path.display()), e)),
            }
        }
        Ok(judged)
    }

    /// Looks for the files of known positions that nothing of `facts` holds, under other names in the directories that files come from: of some
    /// positions, or of all.
    pub(super) fn search_missing(&mut self, facts: &mut Vec<Facts>, wanted: Option<&BTreeSet<PartitionId>>) -> Result<()> {
        let held = held(facts);
        let is_missing = |known: &&Known| !held.contains(known.id());
        let missing: Vec<&Known> = match wanted {
            Some(wanted) => wanted.iter().filter_map(|id| self.positions.get(id)).filter(is_missing).collect(),
            None => self.positions.iter().filter(is_missing).collect(),
        };
        if missing.is_empty() {
            return Ok(());
        }
        let wanted = Wanted {
            numbers: missing.iter().filter_map(|known| known.place()).map(|place| place.inode.number).collect(),
            names: missing.iter().fold(names::Related::default(), |mut names, known| {
                names.add(&known.partition.label, ());
                names
            }),
            seen: facts.iter().map(|facts| facts.place.inode).collect(),
        };
        let paths: Vec<PathBuf> = missing.iter().map(|known| names::path_of(&known.partition.label)).collect();
        let paths = facts.iter().map(|facts| facts.path.as_path()).chain(paths.iter().map(PathBuf::as_path));
        let directories = self.patterns.directories(paths);
        let searched = search(&directories, &wanted, &self.patterns.disk);
        searched.failed.iter().for_each(|(directory, error)| self.aside.directory(directory, error));
        for (path, metadata) in searched.files {
            if !self.aside.waits(&path, &metadata) {
                facts.extend(self.examine_or_set_aside(&path, Name::Renamed)?.map(Facts::closed));
            }
        }
        Ok(())
    }

    /// Decides what becomes of the files and of the known positions, and takes it up. `holders` are those of some positions; the others have `other`.
    ///
    /// # Errors
    /// `State` if something was lost and `source.on_gap` is `refuse`.
    pub(super) fn decide(&mut self, facts: &mut [Facts], holders: &HashMap<PartitionId, Holder>, other: Holder) -> Result<Vec<Start>> {
        self.sketch_new(facts);
        let holder = |known: &Known| holders.get(known.id()).copied().unwrap_or(other);
        let known = self.concerned(facts, holders, other);
        // One that was let go of since is none any more.
        let index = |id: &PartitionId| known.binary_search_by(|known| known.id().cmp(id)).ok();
        let mut seen: Vec<SeenFile> = facts.iter().map(|facts| facts.seen(index)).collect();
        let failed = self.compare_beside(&known, facts, &mut seen)?;
        self.leave_out(&failed, facts, &mut seen);
        let mut left_out: Vec<usize> = failed.iter().map(|(at, _)| *at).collect();
        left_out.extend(self.leave_unsettled(&known, &mut seen));
        let places: HashMap<Inode, Place> = facts.iter().map(|facts| (facts.place.inode, facts.place)).collect();
        let was_seen = |place: Place| places.get(&place.inode).is_some_and(|seen| seen.may_be(&place));
        let hidden = self.aside.hidden();
        let files: Vec<KnownFile> = known
            .iter()
            .map(|known| KnownFile {
                label: known.partition.label.to_string(),
                place: known.place(),
                next: known.next,
                end: known.evidence.as_ref().and_then(|evidence| evidence.end),
                shares_name: self.positions.named(&known.partition.label).len() > 1,
                holder: match holder(known) {
                    // It may be one that cannot be read now; but not where the file in its place was looked at.
                    Holder::Wanted if self.is_unsettled(known.id()) => Holder::Unsearched,
                    Holder::Wanted if !known.place().is_some_and(was_seen) && hidden.may_hold(known) => Holder::Unsearched,
                    holder => holder,
                },
            })
            .collect();
        let plan = plan(&files, &seen, self.copies);
        self.take_losses(&known, facts, &seen, &plan.losses)?;
        let mut starts = Vec::with_capacity(facts.len());
        for (at, (facts, fate)) in facts.iter().zip(&plan.fates).enumerate() {
            if left_out.contains(&at) {
                starts.push(Start::Aside);
                continue;
            }
            let start = self.take_fate(&known, facts, *fate).and_then(|start| self.pass_over_returned(start, facts));
            starts.push(self.or_set_aside(&facts.path, facts.name, start)?.unwrap_or(Start::Aside));
        }
        Ok(starts)
    }

    /// Returns the positions that the decision is about, in the order of their ids: those that are looked for, and those that files were compared with.
    fn concerned(&self, facts: &[Facts], holders: &HashMap<PartitionId, Holder>, other: Holder) -> Vec<Known> {
        let is_decided = |holder: Holder| matches!(holder, Holder::Wanted | Holder::Nameless);
        if is_decided(other) {
            let mut known: Vec<Known> = self.positions.iter().cloned().collect();
            known.sort_unstable_by(|a, b| a.id().cmp(b.id()));
            return known;
        }
        let mut ids: BTreeSet<&PartitionId> = facts.iter().flat_map(|facts| &facts.compared).map(|compared| &compared.known).collect();
        ids.extend(holders.iter().filter(|(_, holder)| is_decided(**holder)).map(|(id, _)| id));
        ids.into_iter().filter_map(|id| self.positions.get(id)).cloned().collect()
    }

    fn take_fate(&mut self, known: &[Known], facts: &Facts, fate: Fate) -> Result<Start> {
        match fate {
            Fate::GoesOn { known: at, beyond } => self.go_on(&known[at], beyond.map(|at| &known[at]), facts),
            Fate::Copy { of } => self.take_copy(&known[of], facts),
            Fate::PartOf { of } => {
                self.positions.note_part(facts.place, known[of].id());
                Ok(Start::PartOf(known[of].id().clone()))
            }
            Fate::After { .. } => Ok(Start::Later),
            Fate::New => {
                self.check_left(facts)?;
                self.take_new(facts)
            }
            Fate::Nothing => Ok(Start::Nothing),
        }
    }

    fn go_on(&mut self, known: &Known, beyond: Option<&Known>, facts: &Facts) -> Result<Start> {
        let judged = facts.judged(known.id()).unwrap_or(Verdict::Same.into());
        self.touched.remove(known.id());
        let label = names::label_of(&facts.path);
        let keeps_name = facts.name == Name::Renamed && judged.verdict == Verdict::Same;
        let label: Arc<str> = if keeps_name { known.partition.label.clone() } else { label.into() };
        let partition = Arc::new(Partition { id: known.id().clone(), label });
        let mut goes_on = Known { partition, ..known.clone() };
        let place = facts.place.to_string();
        let old = &*known.partition.label;
        match judged.verdict {
            Verdict::Same if judged.finished => goes_on.evidence = self.placed(known.evidence.as_ref(), facts, judged)?,
            // A commit names where it lies: what takes that name later is compared with it.
            Verdict::Same if *goes_on.partition.label != *known.partition.label => {
                self.pending.push(empty_chunk(&goes_on, known.next, Vec::new()));
            }
            Verdict::Same => {}
            Verdict::CannotBeSeen => {
                let evidence = facts.with_file(|file| evidence_of(&self.positions.key, file, facts.compression, known.next, &place))?;
                let evidence = Arc::new(evidence);
                // Shorter than what was read of it, decompressed: reading says so.
                if evidence.witnesses.last().is_some_and(|tail| tail.to == known.next) {
                    goes_on.evidence = Some(evidence);
                    let text = format!("`{}` is accepted at byte {} as an earlier version left it", goes_on.partition.label, known.next);
                    self.pending.push(empty_chunk(&goes_on, known.next, vec![note(NoteKind::Accepted, text, None)]));
                }
            }
            Verdict::Moved | Verdict::Other(_) => {
                self.positions.note_elsewhere(known, known.id());
                goes_on.evidence = self.placed(known.evidence.as_ref(), facts, judged)?;
                let text = format!("what was read as `{old}` is in `{}`, and goes on there at byte {}", facts.path.display(), known.next);
                info!(path = %facts.path.display(), known_as = old, next = known.next, "found a known file in another place");
                self.pending.push(empty_chunk(&goes_on, known.next, vec![note(NoteKind::Moved, text, None)]));
            }
        }
        if let Some(beyond) = beyond {
            let judged = facts.judged(beyond.id()).unwrap_or(judged);
            let evidence = self.placed(beyond.evidence.as_ref(), facts, judged)?;
            self.pass_over(&mut goes_on, beyond, evidence);
        }
        let finished = beyond.map_or(Some(judged), |beyond| facts.judged(beyond.id())).is_some_and(|judged| judged.finished);
        let id = known.id().clone();
        let copy_of = self.may_be_copy_of(&goes_on, facts).filter(|_| self.copies == Copies::Skip);
        self.positions.put(goes_on);
        Ok(if finished { Start::Finished(id) } else { Start::At { known: id, copy_of } })
    }

    /// Begins a partition behind what is read already.
    fn begin_behind(&mut self, known: Known, kind: NoteKind, what: &str) -> PartitionId {
        let (label, next) = (&known.partition.label, known.next);
        warn!(path = %label, bytes = next, "the file holds {what}: passed over");
        let text = format!("`{label}` holds up to byte {next} {what}: passed over");
        self.pending.push(empty_chunk(&known, next, vec![note(kind, text, None)]));
        let id = known.id().clone();
        self.positions.put(known);
        id
    }

    /// Makes evidence that holds where the file lies now.
    pub(super) fn placed(&self, evidence: Option<&Arc<Evidence>>, facts: &Facts, judged: Judged) -> Result<Option<Arc<Evidence>>> {
        let Some(evidence) = evidence else { return Ok(None) };
        let finished = judged.finished && facts.compression != Compression::None;
        let archive = finished.then(|| facts.with_file(|file| archive_of(&self.positions.key, file))).transpose()?;
        let witnesses = evidence.witnesses.clone();
        let end = evidence.end.filter(|_| judged.verdict == Verdict::Same);
        let body = judged.body.or(evidence.body);
        Ok(Some(Arc::new(Evidence { place: Some(facts.place.to_string().into()), end, witnesses, body, archive })))
    }
}

impl Start {
    /// Returns the start without waiting for an original.
    pub(super) fn without_copy(self) -> Self {
        match self {
            Self::At { known, .. } => Self::At { known, copy_of: None },
            start => start,
        }
    }
}

impl Compared {
    fn may_hold(&self) -> bool {
        !matches!(self.judged.verdict, Verdict::Other(_))
    }
}

impl Facts {
    /// Returns the facts alone: the file is opened again in its turn.
    pub(super) fn closed(self) -> Self {
        Self { file: None, ..self }
    }

    fn seen(&self, index: impl Fn(&PartitionId) -> Option<usize>) -> SeenFile {
        let pair = |compared: &Compared| {
            Some(Pair {
                known: index(&compared.known)?,
                verdict: compared.judged.verdict,
                shares: compared.shares,
                edited: Edited::Maybe,
                prefix: compared.prefix,
                whole: compared.whole,
            })
        };
        let behind = self.sketch.as_ref().filter(|_| self.head.len() == TAIL_BYTES_MAX).map(Sketch::as_bytes);
        SeenFile {
            label: names::label_of(&self.path).into_owned(),
            name: self.name,
            place: self.place,
            beginning: [&self.head[..], behind.unwrap_or_default()].concat(),
            empty: self.length == 0,
            pairs: self.compared.iter().filter_map(pair).collect(),
        }
    }

    pub(super) fn judged(&self, id: &PartitionId) -> Option<Judged> {
        self.compared.iter().find(|compared| compared.known == *id).map(|compared| compared.judged)
    }

    /// Returns with how many positions it was compared.
    #[cfg(test)]
    pub(super) fn compared_with(&self) -> usize {
        self.compared.len()
    }

    /// Says that it is read although it may be a part of a file that vanished: of that one, nothing is known between its first and its last KiB.
    pub(super) fn warn_of_part(&self) {
        warn!(
            path = %self.path.display(), bytes = self.length,
            "the file begins as one that vanished and is shorter: whether it is a part of that cannot be known. It is read as new"
        );
    }

    /// Returns whether all of the file stands at the beginning of a known one.
    pub(super) fn is_part_of(&self, id: &PartitionId) -> bool {
        self.compared.iter().any(|compared| compared.known == *id && compared.prefix)
    }

    /// Does something with the file, opened again if it is not held.
    pub(super) fn with_file<T>(&self, act: impl FnOnce(&File) -> io::Result<T>) -> Result<T> {
        let acted = match &self.file {
            Some(file) => act(file),
            None => open(&self.path, &self.disk).and_then(|file| act(&file)),
        };
        acted.map_err(|e| Error::io(format_args!("look at `{}`", self.path.display()), e))
    }
}

/// Returns the positions that files may hold.
pub(super) fn held(facts: &[Facts]) -> HashSet<&PartitionId> {
    facts.iter().flat_map(|facts| &facts.compared).filter(|compared| compared.may_hold()).map(|compared| &compared.known).collect()
}

/// Completes a sentence that begins with a known file: what is in its place now, `length` bytes long on the disk.
pub(super) fn gap(why: Why, length: u64) -> String {
    match why {
        Why::Shorter { end } => format!("was truncated to {end} bytes"),
        Why::Differs { at } => format!("was replaced by other content of {length} bytes, which differs at byte {at} or behind it"),
        why => why.to_string(),
    }
}

pub(super) fn note(kind: NoteKind, text: String, lost: Option<u64>) -> Note {
    Note { kind, text, lost }
}

/// Returns the time in seconds since 1970.
fn now() -> u32 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
