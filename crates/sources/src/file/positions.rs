//! Positions: what is known of each file, found again by its place, its name and its content.
//!
//! Owns: the known positions while the source runs, and their indexes.
//! Does not own: the fingerprints of files that vanished (see [`Fingerprints`]), what a position is worth (see `sight`), what becomes of it (see `plan`), where it is kept (the commit records do).

use std::cell::{Cell, RefCell, RefMut};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::RandomState;
use std::path::Path;
use std::sync::Arc;

use pintail_core::error::{Error, Result};
use pintail_core::evidence::{Evidence, Key, Mark, Witness};
use pintail_core::offsets::{Offsets, Partition, PartitionId};

use super::crowd::{Crowd, End};
use super::fingerprints::Fingerprints;
use super::identity::{IdentityV1, Inode, Place, hash as hash_v1, is_partition_id, new_partition_id};
use super::names::{self, Group};
use super::sight::Sight;
use super::trail::EDGE_BYTES;
use crate::Resume;
use crate::lines::TAIL_BYTES_MAX;

mod index;

use index::{Heads, Index};

/// What is known of a file.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) partition: Arc<Partition>,
    /// Next offset, in decompressed bytes.
    pub(super) next: u64,
    /// What stands before it; `None` in a position of version 1.
    pub(super) evidence: Option<Arc<Evidence>>,
    /// What version 1 recognized the file by.
    pub(super) v1: Option<IdentityV1>,
}

impl Known {
    pub(super) fn id(&self) -> &PartitionId {
        &self.partition.id
    }

    /// Returns where the file lay.
    pub(super) fn place(&self) -> Option<Place> {
        let v1 = || self.v1.map(|identity| Place { inode: identity.inode, born: None });
        let place = self.evidence.as_ref().and_then(|evidence| evidence.place.as_deref());
        place.map_or_else(v1, Place::parse)
    }

    /// Returns whether a plain file is longer than it was when it was seen last.
    pub(super) fn has_grown(&self, length: u64) -> bool {
        self.evidence.as_ref().is_some_and(|evidence| evidence.archive.is_none() && length > evidence.end.unwrap_or(self.next))
    }

    /// Returns the position of a file that was `length` bytes long when it was seen last.
    pub(super) fn ending(&self, length: u64) -> Self {
        let mut known = self.clone();
        if let Some(evidence) = &mut known.evidence
            && length > self.next
        {
            Arc::make_mut(evidence).end = Some(length);
        }
        known
    }

    fn head(&self) -> Option<(usize, Mark)> {
        length_and_mark(self.evidence.as_ref()?.witnesses.first()?)
    }

    /// Returns the mark of its first KiB, if it has as much.
    fn whole_head(&self) -> Option<Mark> {
        self.head().filter(|(length, _)| *length == TAIL_BYTES_MAX).map(|(_, mark)| mark)
    }

    /// Returns what version 1 recognized its beginning by, as long as there is nothing better.
    fn v1_head(&self) -> Option<(usize, Mark)> {
        let (bytes, hash) = self.v1.filter(|_| self.evidence.is_none())?.prefix();
        Some((bytes, Mark(hash)))
    }

    /// Returns whether the indexes need not change with other evidence.
    fn is_indexed_as(&self, other: Option<&Evidence>) -> bool {
        if self.v1_head().is_some() {
            return false;
        }
        let head = |evidence: Option<&Evidence>| evidence.and_then(|evidence| evidence.witnesses.first().map(|head| head.mark));
        let own = self.evidence.as_deref();
        let place = |evidence: Option<&Evidence>| evidence.and_then(|evidence| evidence.place.clone());
        let archived = own.is_some_and(|own| own.archive.is_some()) || other.is_some_and(|other| other.archive.is_some());
        !archived && head(own) == head(other) && place(own) == place(other)
    }

    /// Returns the length on the disk and the mark of the last bytes there.
    fn archive_end(&self) -> Option<End> {
        let archive = self.evidence.as_ref()?.archive.as_ref()?;
        Some((archive.bytes, archive.witnesses.last()?.mark))
    }
}

fn length_and_mark(head: &Witness) -> Option<(usize, Mark)> {
    Some((usize::try_from(head.to).ok()?, head.mark))
}

/// All known files.
#[derive(Debug)]
pub(super) struct Positions {
    pub(super) key: Key,
    known: HashMap<PartitionId, Known>,
    by_inode: Index<Inode>,
    by_label: Index<Arc<str>>,
    /// By the names that a rotated file may have had.
    by_name: names::Related<PartitionId>,
    /// By the first bytes of the content.
    by_head: Heads,
    /// By the length and the last bytes of a compressed file as it lies on the disk.
    by_archive: Index<End>,
    /// By the first bytes as version 1 hashed them.
    by_v1: Heads,
    /// Those that are many, by what they share: they are told apart by more.
    crowds: RefCell<HashMap<Shared, Crowd>>,
    /// Whether some of them share a name.
    crowds_by_name: Cell<bool>,
    /// Counts the looks.
    look: u64,
    /// What sketches are made with.
    pub(super) hashes: RandomState,
    /// Files that vanished after they were read.
    pub(super) fingerprints: Fingerprints,
    /// Files that were cut or rewritten, by their places.
    left: HashMap<Inode, Left>,
}

/// What the files of a crowd share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Shared {
    /// The first KiB.
    Head(Mark),
    /// The name, but for what rotation makes of it.
    Name(Group),
}

/// Files that are compared each with each: more of them are a crowd.
pub(super) const FEW: usize = if cfg!(test) { 2 } else { 32 };

/// What became of what was read of a file that was cut or rewritten.
#[derive(Debug, Clone)]
pub(super) struct Left {
    place: Place,
    /// The position in the file that holds it: what is left in its place may be a first part of that, too short to be found by it.
    pub(super) of: PartitionId,
    /// Its own position, which is over, until something else is in its place.
    pub(super) was: Option<Known>,
}

/// Places that are kept of files that were cut.
const LEFT_MAX: usize = 10_000;

impl Positions {
    /// Reads what is committed.
    ///
    /// # Errors
    /// `State` if a partition is no file's.
    pub(super) fn new(resume: &Resume<'_>, remember_max: usize) -> Result<Self> {
        let mut positions = Self {
            key: resume.key.clone(),
            known: HashMap::new(),
            by_inode: Index::new(),
            by_label: Index::new(),
            by_name: names::Related::default(),
            by_head: Heads::default(),
            by_archive: Index::new(),
            by_v1: Heads::default(),
            crowds: RefCell::default(),
            crowds_by_name: Cell::new(false),
            look: 0,
            hashes: RandomState::new(),
            fingerprints: Fingerprints::new(resume, remember_max),
            left: HashMap::new(),
        };
        for known in read_positions(resume.offsets)? {
            positions.put(known);
        }
        Ok(positions)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.known.values()
    }

    pub(super) fn get(&self, id: &PartitionId) -> Option<&Known> {
        self.known.get(id)
    }

    /// Returns the known files that may lie in a place.
    pub(super) fn at(&self, place: &Place) -> impl Iterator<Item = &Known> {
        let known = self.by_inode.get(&place.inode).filter_map(|id| self.known.get(id));
        known.filter(move |known| known.place().is_some_and(|known| known.may_be(place)))
    }

    /// Returns the known files that had a name when they were seen last.
    pub(super) fn named(&self, label: &str) -> Vec<&Known> {
        self.by_label.get(label).filter_map(|id| self.known.get(id)).collect()
    }

    /// Returns whether a file is known by this name.
    pub(super) fn is_name(&self, path: &Path) -> bool {
        self.by_label.get(&*names::label_of(path)).next().is_some()
    }

    /// Takes a position in place of what was known of its partition.
    pub(super) fn put(&mut self, known: Known) {
        let id = known.id().clone();
        let was = self.known.remove(&id);
        was.iter().for_each(|was| self.unindex(was));
        if let Some(place) = known.place() {
            self.by_inode.insert(place.inode, &id);
        }
        self.by_label.insert(known.partition.label.clone(), &id);
        self.by_name.add(&known.partition.label, id.clone());
        self.by_head.insert(known.head(), &id);
        known.archive_end().into_iter().for_each(|end| self.by_archive.insert(end, &id));
        self.by_v1.insert(known.v1_head(), &id);
        self.change_crowds(was.as_ref(), Some(&known));
        let head = known.whole_head();
        self.known.insert(id, known);
        if let Some(head) = head.filter(|head| self.by_head.count((TAIL_BYTES_MAX, *head)) > FEW) {
            self.gather(&Shared::Head(head));
        }
    }

    /// Forgets a partition.
    pub(super) fn take(&mut self, id: &PartitionId) -> Option<Known> {
        let known = self.known.remove(id)?;
        self.unindex(&known);
        self.change_crowds(Some(&known), None);
        Some(known)
    }

    fn unindex(&mut self, known: &Known) {
        let id = known.id();
        if let Some(place) = known.place() {
            self.by_inode.remove(&place.inode, id);
        }
        self.by_label.remove(&known.partition.label, id);
        self.by_name.remove(&known.partition.label, id);
        self.by_head.remove(known.head(), id);
        known.archive_end().iter().for_each(|end| self.by_archive.remove(end, id));
        self.by_v1.remove(known.v1_head(), id);
    }

    /// Takes a position out of the crowds that it belongs to no more, and up in the others.
    fn change_crowds(&mut self, was: Option<&Known>, known: Option<&Known>) {
        let crowds = self.crowds.get_mut();
        if crowds.is_empty() {
            return;
        }
        let with_names = self.crowds_by_name.get();
        let shared = |known: &Known| -> Vec<Shared> {
            let names = with_names.then(|| names::groups_of(&known.partition.label).map(Shared::Name));
            known.whole_head().map(Shared::Head).into_iter().chain(names.into_iter().flatten()).collect()
        };
        let (left, joined) = (was.map(shared).unwrap_or_default(), known.map(shared).unwrap_or_default());
        for shared in left.iter().filter(|shared| !joined.contains(shared)) {
            if let (Some(crowd), Some(was)) = (crowds.get_mut(shared), was) {
                crowd.take(was.id());
            }
        }
        for shared in &joined {
            if let (Some(crowd), Some(known)) = (crowds.get_mut(shared), known) {
                crowd.put(known);
            }
        }
    }

    /// Makes a crowd of the positions that share something, if it is none yet.
    fn gather(&self, shared: &Shared) {
        let mut crowds = self.crowds.borrow_mut();
        if crowds.contains_key(shared) {
            return;
        }
        let members: Vec<&PartitionId> = match shared {
            Shared::Head(head) => self.by_head.with(Some((TAIL_BYTES_MAX, *head))).collect(),
            Shared::Name(group) => self.by_name.within(group).into_iter().flatten().collect(),
        };
        let mut crowd = Crowd::default();
        members.into_iter().filter_map(|id| self.known.get(id)).for_each(|known| crowd.put(known));
        crowds.insert(shared.clone(), crowd);
        self.crowds_by_name.set(self.crowds_by_name.get() || matches!(shared, Shared::Name(_)));
    }

    /// Returns a crowd of files with something in common; `None` if they are few.
    pub(super) fn crowd(&self, shared: &Shared) -> Option<RefMut<'_, Crowd>> {
        let is_many = match shared {
            Shared::Head(head) => self.by_head.count((TAIL_BYTES_MAX, *head)) > FEW,
            Shared::Name(group) => self.by_name.within(group).is_some_and(|named| named.len() > FEW),
        };
        if !is_many {
            return None;
        }
        self.gather(shared);
        let mut crowd = RefMut::filter_map(self.crowds.borrow_mut(), |crowds| crowds.get_mut(shared)).ok()?;
        crowd.begin_look(self.look);
        Some(crowd)
    }

    /// Returns what the files of crowds share that begin alike.
    pub(super) fn crowds_of_heads(&self) -> Vec<Shared> {
        self.crowds.borrow().keys().filter(|shared| matches!(shared, Shared::Head(_))).cloned().collect()
    }

    /// Begins a look at the files.
    pub(super) fn begin_look(&mut self) {
        self.look += 1;
    }

    /// Moves a position on.
    pub(super) fn advance(&mut self, partition: &Arc<Partition>, next: u64, evidence: Option<Arc<Evidence>>) {
        // Most chunks change neither name nor beginning.
        if let Some(known) = self.known.get_mut(&partition.id)
            && known.partition == *partition
            && known.is_indexed_as(evidence.as_deref())
            && self.crowds.get_mut().is_empty()
        {
            (known.next, known.evidence) = (next, evidence);
            return;
        }
        let v1 = self.known.get(&partition.id).and_then(|known| known.v1);
        self.put(Known { partition: partition.clone(), next, evidence, v1 });
    }

    /// Returns the known files that one which was seen most likely is: by its place and its name.
    pub(super) fn own(&self, sight: &Sight) -> BTreeSet<PartitionId> {
        let mut ids: BTreeSet<PartitionId> = self.by_inode.get(&sight.place.inode).cloned().collect();
        ids.extend(self.by_label.get(&*sight.label()).cloned());
        ids.extend(self.left_in(&sight.place).filter(|_| sight.length < EDGE_BYTES).map(|left| left.of.clone()));
        ids
    }

    /// Returns the known files with a name in a group.
    pub(super) fn in_group(&self, group: &Group) -> impl Iterator<Item = &PartitionId> {
        self.by_name.within(group).into_iter().flatten()
    }

    /// Returns the known files that begin with the same bytes as content: with how many, their mark, and which.
    pub(super) fn begun_as(&self, head: &[u8]) -> Vec<((usize, Mark), &HashSet<PartitionId>)> {
        self.by_head.of(head, |lengths| self.key.marks_of_beginnings(head, lengths))
    }

    /// Returns the known compressed files that end with the same bytes.
    pub(super) fn archived_as(&self, end: &End) -> impl Iterator<Item = &PartitionId> {
        self.by_archive.get(end)
    }

    /// Returns the known files that version 1 recognized by the first bytes of a file, as they lie on the disk or decompressed.
    pub(super) fn begun_as_v1(&self, sight: &Sight) -> Vec<PartitionId> {
        let marks = |head: &[u8], lengths: &[usize]| lengths.iter().map(|length| Mark(hash_v1(&head[..*length]))).collect();
        let heads = [&sight.disk_head, &sight.head].into_iter();
        heads.flat_map(|head| self.by_v1.of(head, |lengths| marks(head, lengths))).flat_map(|(_, ids)| ids).cloned().collect()
    }

    /// Records that the file in a place may hold a first part of a known one.
    pub(super) fn note_part(&mut self, place: Place, of: &PartitionId) {
        let was = self.left_in(&place).and_then(|left| left.was.clone());
        self.note_left(place, of, was);
    }

    /// Records that what was read of the file in a place is in another one: at the position `of`.
    pub(super) fn note_elsewhere(&mut self, was: &Known, of: &PartitionId) {
        if let Some(place) = was.place() {
            self.note_left(place, of, Some(was.clone()));
        }
    }

    fn note_left(&mut self, place: Place, of: &PartitionId, was: Option<Known>) {
        if self.left.len() >= LEFT_MAX {
            self.left.retain(|_, left| self.known.contains_key(&left.of));
        }
        if self.left.len() >= LEFT_MAX {
            self.left.clear();
        }
        self.left.insert(place.inode, Left { place, of: of.clone(), was });
    }

    /// Returns what was read of the file in a place, if it was cut.
    pub(super) fn left_in(&self, place: &Place) -> Option<&Left> {
        self.left.get(&place.inode).filter(|left| left.place.may_be(place))
    }

    /// Forgets what was read of the file in a place: it is another one now.
    pub(super) fn forget_left(&mut self, place: &Place) {
        self.left.remove(&place.inode);
    }

    /// Returns whether the file in a place may hold a first part of a known one.
    pub(super) fn is_part(&self, place: &Place, of: &PartitionId) -> bool {
        self.left_in(place).is_some_and(|left| left.of == *of)
    }

    /// Returns the other positions whose files begin as that of a known one; where that is too short to tell, those with a related name. Of many, those
    /// that may have more than the beginning in common.
    pub(super) fn alike(&self, known: &Known) -> Vec<&Known> {
        let mut ids = BTreeSet::new();
        let groups = (known.next < EDGE_BYTES).then(|| names::groups_related_to(&known.partition.label).map(Shared::Name));
        for shared in groups.into_iter().flatten().chain(known.whole_head().map(Shared::Head)) {
            let crowd = self.crowd(&shared);
            let members: Vec<PartitionId> =
                match (shared.clone(), crowd.as_ref().and_then(|crowd| Some((crowd, crowd.sketch_of(known.id())?)))) {
                    (_, Some((crowd, sketch))) => {
                        crowd.alike(sketch).chain(crowd.unsketched()).chain(crowd.hidden().take(FEW)).cloned().collect()
                    }
                    (Shared::Head(head), None) => self.by_head.with(Some((TAIL_BYTES_MAX, head))).cloned().collect(),
                    (Shared::Name(group), None) => self.in_group(&group).cloned().collect(),
                };
            ids.extend(members);
        }
        // Shorter ones are the same as a whole.
        ids.extend(
            known
                .head()
                .filter(|(length, _)| *length < TAIL_BYTES_MAX)
                .into_iter()
                .flat_map(|head| self.by_head.with(Some(head)))
                .take(FEW)
                .cloned(),
        );
        ids.iter().filter(|id| *id != known.id()).filter_map(|id| self.known.get(id)).collect()
    }

    /// Returns whether known files share the first KiB of one that nothing known is in: it may be any other as well.
    pub(super) fn is_common(&self, head: &[u8]) -> bool {
        head.len() == TAIL_BYTES_MAX && self.by_head.count((TAIL_BYTES_MAX, self.key.mark(&[head]))) > 0
    }
}

/// Makes the partition of a file that nothing is known of.
pub(super) fn new_partition(path: &Path) -> Arc<Partition> {
    Arc::new(Partition { id: new_partition_id(), label: names::label_of(path).into() })
}

/// Reads the positions of commit records; of version 1, the latest on each inode: the others' files were over before.
fn read_positions(offsets: &Offsets) -> Result<Vec<Known>> {
    let mut positions = Vec::new();
    let mut latest: HashMap<Inode, u32> = HashMap::new();
    for (id, span) in offsets.spans().filter(|(id, _)| !id.is_of_dead_letters()) {
        let v1 = IdentityV1::parse(id);
        if v1.is_none() && !is_partition_id(id) {
            return Err(Error::state(format!(
                "the commit record's partition `{id}` is no file's identity: restore the commit records from a copy of the dataset"
            )));
        }
        if let Some(identity) = v1 {
            let latest = latest.entry(identity.inode).or_default();
            *latest = identity.generation.max(*latest);
        }
        let partition = Arc::new(Partition { id: id.clone(), label: span.label.clone() });
        positions.push(Known { partition, next: span.to, evidence: span.evidence.clone(), v1 });
    }
    let superseded = |known: &Known| {
        let identity = known.v1.filter(|_| known.evidence.is_none());
        identity.is_some_and(|identity| latest.get(&identity.inode).is_some_and(|latest| *latest > identity.generation))
    };
    positions.retain(|known| !superseded(known));
    Ok(positions)
}

#[cfg(test)]
mod tests {
    use pintail_core::error::ErrorKind;
    use pintail_core::offsets::OffsetRange;

    use super::*;

    const INODE: Inode = Inode { device: 1, number: 2 };

    fn positions(ids: &[(PartitionId, u64)]) -> Result<Positions> {
        let mut offsets = Offsets::default();
        for (id, to) in ids {
            offsets.extend(&OffsetRange::new(Arc::new(Partition { id: id.clone(), label: "a".into() }), 0, *to)).unwrap();
        }
        Positions::new(&Resume { offsets: &offsets, key: &Key::new([7; 32]) }, 10)
    }

    #[test]
    fn of_the_positions_of_version_1_on_one_inode_the_latest_is_live() {
        let ids = [(0, 100), (10, 4), (9, 50)].map(|(generation, to)| (IdentityV1::id_of(INODE, generation, b"1\n2\n"), to));
        let positions = positions(&ids).unwrap();
        assert_eq!(positions.iter().map(|known| known.next).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn offsets_of_replayed_dead_letters_are_left_alone_and_of_anything_else_refused() {
        assert_eq!(positions(&[(PartitionId::new("dead_letters/0000000042"), 1)]).unwrap().iter().count(), 0);
        assert_eq!(positions(&[(PartitionId::new("topic-1"), 1)]).unwrap_err().kind(), ErrorKind::State);
    }
}
