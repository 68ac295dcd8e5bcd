//! Alike: which known files one is compared with, beside those in its place and under its name.
//!
//! Owns: looking for content in common, among few by their beginnings, among many by sketches, ends and bodies.
//! Does not own: the look-ups (see `positions`, `crowd`), the comparison (see `sight`, `whole`), what follows (see `plan`).

use std::collections::{BTreeSet, HashMap};
use std::io;

use pintail_core::evidence::{Body, Key, Verdict};
use pintail_core::offsets::PartitionId;

use super::Facts;
use crate::compression::Compression;
use crate::file::crowd::{Crowd, End};
use crate::file::discover::open;
use crate::file::input::{Input, read_range};
use crate::file::plan::Name;
use crate::file::positions::{FEW, Known, Shared};
use crate::file::sight::Sight;
use crate::file::sketch::{SKETCHED_BYTES, Sketch};
use crate::file::trail::EDGE_BYTES;
use crate::file::{Files, names};
use crate::lines::TAIL_BYTES_MAX;

/// Bytes of a file that are read in the time that it takes to compare it with one more position.
const BYTES_A_JUDGEMENT: u64 = 16 << 10;

/// Bytes read at a time.
const STEP_BYTES: u64 = 1 << 20;

/// Files that are sketched at one look without need: while they are there. Others have their turns in between.
const SKETCHED_MAX: usize = 1000;

impl Files {
    /// Returns the known files that may have content in common with one that was seen, and its sketch, if that was needed. `is_settled` says that what was
    /// read of it stands in its place, and nothing else: then those whose own file is gone matter no more.
    pub(super) fn find_alike(&self, sight: &Sight, is_settled: bool) -> io::Result<(BTreeSet<PartitionId>, Option<Sketch>)> {
        let (mut ids, mut sketch) = (BTreeSet::new(), None);
        let label = sight.label();
        let groups: Vec<names::Group> = names::groups_related_to(&label).collect();
        if sight.length < EDGE_BYTES {
            for group in &groups {
                let in_crowd = self.find_in_crowd(&Shared::Name(group.clone()), sight, &mut sketch, is_settled)?;
                ids.extend(in_crowd.unwrap_or_else(|| self.positions.in_group(group).cloned().collect()));
            }
        }
        for ((length, mark), begun) in self.positions.begun_as(&sight.head) {
            if begun.len() <= FEW {
                ids.extend(begun.iter().cloned());
            } else if length < TAIL_BYTES_MAX {
                // All of a few lines stands here, as in many other files: their names decide.
                groups.iter().for_each(|group| ids.extend(self.ending_in_group(group, &(length as u64, mark))));
            } else {
                let in_crowd = self.find_in_crowd(&Shared::Head(mark), sight, &mut sketch, is_settled)?;
                ids.extend(in_crowd.unwrap_or_default());
            }
        }
        if sight.compression != Compression::None {
            let end = end_of(&self.positions.key, sight)?;
            ids.extend(self.positions.archived_as(&end).take(FEW).cloned());
        }
        ids.extend(self.positions.begun_as_v1(sight));
        Ok((ids, sketch))
    }

    /// Returns the known files with related names of which was read as far as an end.
    fn ending_in_group(&self, group: &names::Group, end: &End) -> Vec<PartitionId> {
        if let Some(crowd) = self.positions.crowd(&Shared::Name(group.clone())) {
            return crowd.ending(end).cloned().collect();
        }
        self.positions.in_group(group).filter(|id| self.positions.get(id).is_some_and(|known| known.next == end.0)).cloned().collect()
    }

    /// Returns the files of a crowd that may have content in common with one that was seen; `None` if they are few.
    fn find_in_crowd(
        &self,
        shared: &Shared,
        sight: &Sight,
        sketch: &mut Option<Sketch>,
        is_settled: bool,
    ) -> io::Result<Option<Vec<PartitionId>>> {
        if self.positions.crowd(shared).is_none() {
            return Ok(None);
        }
        self.sketch_crowd(shared, usize::MAX);
        if sketch.is_none() {
            *sketch = Some(Sketch::of_file(&sight.file, sight.compression, SKETCHED_BYTES.min(sight.seen_to()), &self.positions.hashes)?);
        }
        let sketch = sketch.clone().unwrap_or_default();
        let is_stale = self.positions.crowd(shared).is_some_and(|mut crowd| crowd.forget_stale(&sketch));
        if is_stale {
            self.sketch_crowd(shared, usize::MAX);
        }
        let Some(crowd) = self.positions.crowd(shared) else { return Ok(None) };
        let mut alike: Vec<PartitionId> = crowd.alike(&sketch).cloned().collect();
        if sight.compression == Compression::None {
            alike.extend(crowd.ending(&end_of(&self.positions.key, sight)?).cloned());
        }
        if crowd.hidden_count() <= FEW {
            alike.extend(crowd.hidden().cloned());
        } else if !is_settled {
            alike.extend(self.find_hidden(&crowd, sight)?);
        }
        Ok(Some(alike))
    }

    /// Returns the members of a crowd whose own files are gone, and all of which may stand in one that was seen.
    fn find_hidden(&self, crowd: &Crowd, sight: &Sight) -> io::Result<Vec<PartitionId>> {
        let mut ids: Vec<PartitionId> = crowd.hidden_bodiless().cloned().collect();
        let (count, offsets) = crowd.hidden_before(sight.seen_to());
        let worth = FEW as u64 + sight.seen_to() / BYTES_A_JUDGEMENT;
        if sight.compression == Compression::None && count as u64 <= worth {
            ids.extend(crowd.hidden().filter(|id| self.positions.get(id).is_some_and(|known| known.next <= sight.length)).cloned());
            return Ok(ids);
        }
        let mut input = Input::open(sight.file.try_clone()?, sight.compression)?;
        let mut body = Body::new(&self.positions.key);
        let mut bytes = vec![0; usize::try_from(STEP_BYTES).unwrap_or_default()];
        for offset in offsets {
            while body.length() < offset {
                let most = usize::try_from((offset - body.length()).min(STEP_BYTES)).unwrap_or_default();
                match io::Read::read(&mut input, &mut bytes[..most]) {
                    Ok(0) => return Ok(ids),
                    Ok(read) => body.push(&bytes[..read]),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    // What is wrong with a damaged file is said when it is read.
                    Err(e) if sight.compression.is_damage(&e) => return Ok(ids),
                    Err(e) => return Err(e),
                }
            }
            ids.extend(body.mark().into_iter().flat_map(|mark| crowd.hidden_with(offset, mark)).cloned());
        }
        Ok(ids)
    }

    /// Makes sketches of what was read of files that begin alike, while they are there.
    pub(in crate::file) fn sketch_crowds(&self) {
        self.positions.crowds_of_heads().iter().for_each(|shared| self.sketch_crowd(shared, SKETCHED_MAX));
    }

    fn sketch_crowd(&self, shared: &Shared, most: usize) {
        let unsketched = self.positions.crowd(shared).map(|crowd| crowd.unsketched().take(most).cloned().collect::<Vec<_>>());
        for id in unsketched.into_iter().flatten() {
            let sketch = self.positions.get(&id).and_then(|known| self.sketch_known(known));
            if let Some(mut crowd) = self.positions.crowd(shared) {
                crowd.sketch(&id, sketch);
            }
        }
    }

    /// Makes the sketch of what was read of a file; `None` if that does not stand under its name.
    fn sketch_known(&self, known: &Known) -> Option<Sketch> {
        let path = names::path_of(&known.partition.label);
        let sight = Sight::look(open(&path, &self.patterns.disk).ok()?, &path, Name::Renamed).ok()?;
        let judged = sight.judge(&self.positions.key, known).ok()?;
        let is_there = matches!(judged.verdict, Verdict::Same | Verdict::Moved);
        is_there.then(|| Sketch::of_file(&sight.file, sight.compression, known.next, &self.positions.hashes).ok())?
    }

    /// Makes the sketches of files that nothing is known of, where many begin alike.
    pub(super) fn sketch_new(&self, facts: &mut [Facts]) {
        if facts.len() <= FEW {
            return;
        }
        let mut heads: HashMap<&[u8], usize> = HashMap::new();
        for facts in facts.iter().filter(|facts| facts.head.len() == TAIL_BYTES_MAX) {
            *heads.entry(&facts.head).or_default() += 1;
        }
        let many: Vec<bool> = facts.iter().map(|facts| heads.get(&*facts.head).is_some_and(|count| *count > FEW)).collect();
        for (facts, _) in facts.iter_mut().zip(many).filter(|(facts, many)| *many && facts.sketch.is_none()) {
            let to = if facts.compression == Compression::None { facts.length } else { u64::MAX };
            let made = facts.with_file(|file| Sketch::of_file(file, facts.compression, to, &self.positions.hashes));
            facts.sketch = made.ok();
        }
        self.sketch_further(facts);
    }

    /// Makes longer sketches of plain files whose sketches are the same. Without them, each would wait for another that begins alike to be read first.
    fn sketch_further(&self, facts: &mut [Facts]) {
        let whole = |facts: &Facts| facts.sketch.clone().filter(|sketch| sketch.is_whole() && facts.compression == Compression::None);
        let mut same: HashMap<(Vec<u8>, Vec<u8>), Vec<usize>> = HashMap::new();
        for (at, facts) in facts.iter().enumerate() {
            if let Some(sketch) = whole(facts) {
                same.entry((facts.head.clone(), sketch.as_bytes().to_vec())).or_default().push(at);
            }
        }
        for at in same.into_values().filter(|same| same.len() > 1).flatten() {
            let facts = &mut facts[at];
            let made = facts.with_file(|file| Sketch::further(file, facts.length, &self.positions.hashes));
            facts.sketch = made.ok().or(facts.sketch.take());
        }
    }
}

/// Returns where a file ends on the disk, and the mark of its last bytes.
fn end_of(key: &Key, sight: &Sight) -> io::Result<End> {
    let last = read_range(&sight.file, sight.length.saturating_sub(EDGE_BYTES), sight.length)?;
    Ok((sight.length, key.mark(&[&last])))
}
