//! Crowd: known files that begin alike, or have related names, where those are many.
//!
//! Owns: their sketches and their ends, and looking up which of them may have content in common with another file.
//! Does not own: reading their files (see `survey`), how many are a crowd (see `positions`), comparing contents (see `sight`).
//!
//! Logs and exports begin with the same header, by the thousand: comparing each with each would take minutes at every start. What is left out here would
//! have turned out to be another file.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pintail_core::evidence::Mark;
use pintail_core::offsets::PartitionId;

use super::bodies::end_of_body;
use super::positions::Known;
use super::prefixes::Prefixes;
use super::sketch::{SKETCHED_BYTES, Sketch};
use super::trail::EDGE_BYTES;

/// Files of one content that are compared with another one. Further ones would say the same.
const SAME_MAX: usize = 8;

/// Where what was read ends: the offset, and the mark of the bytes before it.
pub(super) type End = (u64, Mark);

/// The known files of a crowd.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    members: HashMap<PartitionId, Member>,
    sketched: Prefixes<Box<[u8]>, BTreeMap<End, BTreeSet<PartitionId>>>,
    by_end: HashMap<End, BTreeSet<PartitionId>>,
    /// Those at whose files nobody has looked yet.
    unsketched: BTreeSet<PartitionId>,
    hidden: Hidden,
    /// The look at which the hidden ones were looked for.
    look: u64,
}

#[derive(Debug)]
struct Member {
    end: End,
    body: Option<Mark>,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Unsketched,
    /// The sketch, made when so much was read.
    Sketched(Sketch, u64),
    /// What was read is not in its place.
    Hidden,
}

/// Members without a sketch, by what is known of their content: the ends of their bodies, and the bodies.
#[derive(Debug, Default)]
struct Hidden {
    ids: BTreeSet<PartitionId>,
    by_body: BTreeMap<u64, HashMap<Mark, BTreeSet<PartitionId>>>,
    bodiless: BTreeSet<PartitionId>,
}

impl Crowd {
    /// Takes a member, in place of what was known of it. A sketch stays that of what was read; what was not in its place may be by now.
    pub(super) fn put(&mut self, known: &Known) {
        let was = self.remove(known.id()).map(|was| was.state);
        let state = was.filter(|was| matches!(was, State::Sketched(..))).unwrap_or(State::Unsketched);
        let tail = known.evidence.as_ref().and_then(|evidence| evidence.witnesses.last());
        let end = (known.next, tail.map_or(Mark([0; 16]), |tail| tail.mark));
        let body = known.evidence.as_ref().and_then(|evidence| evidence.body);
        self.insert(known.id(), Member { end, body, state });
    }

    /// Takes a member out.
    pub(super) fn take(&mut self, id: &PartitionId) {
        self.remove(id);
    }

    fn insert(&mut self, id: &PartitionId, member: Member) {
        self.by_end.entry(member.end).or_default().insert(id.clone());
        match &member.state {
            State::Unsketched => drop(self.unsketched.insert(id.clone())),
            State::Sketched(sketch, _) => {
                self.sketched.entry(sketch.as_bytes().into()).entry(member.end).or_default().insert(id.clone());
            }
            State::Hidden => self.hidden.insert(id, &member),
        }
        self.members.insert(id.clone(), member);
    }

    fn remove(&mut self, id: &PartitionId) -> Option<Member> {
        let member = self.members.remove(id)?;
        if let Some(same) = self.by_end.get_mut(&member.end) {
            same.remove(id);
            if same.is_empty() {
                self.by_end.remove(&member.end);
            }
        }
        match &member.state {
            State::Unsketched => drop(self.unsketched.remove(id)),
            State::Sketched(sketch, _) => self.remove_sketched(id, sketch, &member.end),
            State::Hidden => self.hidden.remove(id, &member),
        }
        Some(member)
    }

    fn remove_sketched(&mut self, id: &PartitionId, sketch: &Sketch, end: &End) {
        let Some(ends) = self.sketched.get_mut(sketch.as_bytes()) else { return };
        if let Some(same) = ends.get_mut(end) {
            same.remove(id);
            if same.is_empty() {
                ends.remove(end);
            }
        }
        if ends.is_empty() {
            self.sketched.remove(sketch.as_bytes());
        }
    }

    /// Returns members at whose files nobody has looked yet.
    pub(super) fn unsketched(&self) -> impl Iterator<Item = &PartitionId> {
        self.unsketched.iter()
    }

    /// Takes the sketch of what was read of a member; `None` if that is not in its place.
    pub(super) fn sketch(&mut self, id: &PartitionId, sketch: Option<Sketch>) {
        if let Some(member) = self.remove(id) {
            let state = sketch.map_or(State::Hidden, |sketch| State::Sketched(sketch, member.end.0));
            self.insert(id, Member { state, ..member });
        }
    }

    /// Begins a look, at which members may be in their places again that were not.
    pub(super) fn begin_look(&mut self, look: u64) {
        if std::mem::replace(&mut self.look, look) == look {
            return;
        }
        for id in self.hidden.ids.clone() {
            self.reset(&id);
        }
    }

    /// Makes the sketches anew of members of which much more was read since, and of which this may be the beginning. Returns whether there are any.
    pub(super) fn forget_stale(&mut self, sketch: &Sketch) -> bool {
        let is_stale = |id: &PartitionId| {
            let member = self.members.get(id);
            member.is_some_and(|member| matches!(member.state, State::Sketched(_, of) if of < SKETCHED_BYTES && member.end.0 / 2 >= of))
        };
        let stale: Vec<PartitionId> =
            self.sketched.alike(sketch.as_bytes()).flat_map(BTreeMap::values).flatten().filter(|id| is_stale(id)).cloned().collect();
        stale.iter().for_each(|id| self.reset(id));
        !stale.is_empty()
    }

    fn reset(&mut self, id: &PartitionId) {
        if let Some(member) = self.remove(id) {
            self.insert(id, Member { state: State::Unsketched, ..member });
        }
    }

    /// Returns the sketch of a member.
    pub(super) fn sketch_of(&self, id: &PartitionId) -> Option<&Sketch> {
        match &self.members.get(id)?.state {
            State::Sketched(sketch, _) => Some(sketch),
            State::Unsketched | State::Hidden => None,
        }
    }

    /// Returns the members that may be the beginning of content with this sketch, or begin with it.
    pub(super) fn alike<'a>(&'a self, sketch: &'a Sketch) -> impl Iterator<Item = &'a PartitionId> {
        self.sketched.alike(sketch.as_bytes()).flat_map(BTreeMap::values).flat_map(|same| same.iter().take(SAME_MAX))
    }

    /// Returns members of which was read as far as an end.
    pub(super) fn ending(&self, end: &End) -> impl Iterator<Item = &PartitionId> {
        self.by_end.get(end).into_iter().flat_map(|same| same.iter().take(SAME_MAX))
    }

    /// Returns how many members have no sketch, since their files are not in their places.
    pub(super) fn hidden_count(&self) -> usize {
        self.hidden.ids.len()
    }

    /// Returns all these.
    pub(super) fn hidden(&self) -> impl Iterator<Item = &PartitionId> {
        self.hidden.ids.iter()
    }

    /// Returns how many of these may end before an offset, and the offsets at which their bodies do.
    pub(super) fn hidden_before(&self, offset: u64) -> (usize, Vec<u64>) {
        let before = || self.hidden.by_body.range(..=end_of_body(offset));
        (before().flat_map(|(_, bodies)| bodies.values()).map(BTreeSet::len).sum(), before().map(|(offset, _)| *offset).collect())
    }

    /// Returns those whose body is this one, up to an offset.
    pub(super) fn hidden_with(&self, offset: u64, body: Mark) -> impl Iterator<Item = &PartitionId> {
        let same = self.hidden.by_body.get(&offset).and_then(|bodies| bodies.get(&body));
        same.into_iter().flat_map(|same| same.iter().take(SAME_MAX))
    }

    /// Returns those that an earlier version read, which kept no body.
    pub(super) fn hidden_bodiless(&self) -> impl Iterator<Item = &PartitionId> {
        self.hidden.bodiless.iter()
    }
}

impl Hidden {
    fn insert(&mut self, id: &PartitionId, member: &Member) {
        self.ids.insert(id.clone());
        match member.body {
            Some(body) => {
                self.by_body.entry(end_of_body(member.end.0)).or_default().entry(body).or_default().insert(id.clone());
            }
            // What is shorter than a KiB is found by its first bytes.
            None if member.end.0 >= EDGE_BYTES => drop(self.bodiless.insert(id.clone())),
            None => {}
        }
    }

    fn remove(&mut self, id: &PartitionId, member: &Member) {
        self.ids.remove(id);
        self.bodiless.remove(id);
        let Some(body) = member.body else { return };
        let offset = end_of_body(member.end.0);
        let Some(bodies) = self.by_body.get_mut(&offset) else { return };
        if let Some(same) = bodies.get_mut(&body) {
            same.remove(id);
            if same.is_empty() {
                bodies.remove(&body);
            }
        }
        if bodies.is_empty() {
            self.by_body.remove(&offset);
        }
    }
}
