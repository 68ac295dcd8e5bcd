//! The state: what the records of an instance add up to.
//!
//! Owns: the positions with their evidence, the fingerprints of vanished partitions, the columns with their ids, the declared retention; how a
//! record changes them, whether a record follows from the state before it, and the hash that tells two states apart.
//! Does not own: a record's own content (see [`super::record`]), the file that a state is kept in (see [`super::snapshot`]).
//!
//! The hash must not cost what the state holds: ten thousand files are followed, and a checkpoint moves one. So each entry is hashed alone, and
//! the hash of the state is taken over their sum (addition of 256-bit numbers, as in Bellare and Micciancio, "A new paradigm for
//! collision-free hashing", 1997, AdHASH) and the small rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pintail_core::breaker::Usual;
use pintail_core::digest::sha256_hex;
use pintail_core::evidence::{Evidence, Mark};
use pintail_core::offsets::{Fingerprint, Offsets, PartitionId, Remembered, Span};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::columns::{self, OutputColumn};
use super::record::{ActionKind, CommitRecord, PartitionSpan, UpTo};
use super::sealed::rfc3339_optional;

/// Where a source partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// What messages call it.
    pub label: Arc<str>,
    /// Next offset.
    pub to: u64,
    /// What stands right before it.
    pub evidence: Option<Arc<Evidence>>,
}

/// What the records up to one of them add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    positions: BTreeMap<PartitionId, Position>,
    remembered: Arc<Remembered>,
    rest: Rest,
    sum: Sum,
}

/// What a state holds beside its many entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// Take-overs so far.
    pub generation: u64,
    /// The columns of the output. None is ever removed, so the greatest id tells the next.
    pub columns: Vec<OutputColumn>,
    /// Counts changes of the columns.
    pub schema_version: u64,
    /// The mark of the key that the evidence was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Mark>,
    /// Files whose rows are all older than this may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339_optional")]
    pub expired_before: Option<DateTime<Utc>>,
    /// How many records are usually rejected.
    #[serde(default, skip_serializing_if = "Usual::is_empty")]
    pub usual: Usual,
    /// By partition: rejected records below this offset may pass, however many. Reached ones are dropped.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accepted: BTreeMap<String, u64>,
    /// The same of partitions without a position, by label, with the id that they had then: their next one may be another.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accepted_unread: BTreeMap<String, UpTo>,
    /// Rewrites so far. Who does not know them comes to another hash, and refuses the dataset.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rewrites: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Rest {
    /// Returns the offset below which a partition's rejected records may pass, however many; `None` if nobody has said so.
    pub fn accepted_up_to(&self, id: &PartitionId, label: &str) -> Option<u64> {
        let unread = || self.accepted_unread.get(label).map(|up_to| up_to.to);
        self.accepted.get(id.as_str()).copied().or_else(unread)
    }
}

impl State {
    /// Puts a state together again.
    pub fn new(positions: BTreeMap<PartitionId, Position>, remembered: Remembered, rest: Rest) -> Self {
        let mut sum = Sum::default();
        positions.iter().for_each(|(id, position)| sum.add(&of_position(id, position)));
        remembered.iter().for_each(|(head, fingerprint)| sum.add(&of_fingerprint(head, fingerprint)));
        Self { positions, remembered: Arc::new(remembered), rest, sum }
    }

    /// Returns the positions in the order of their ids.
    pub fn positions(&self) -> impl ExactSizeIterator<Item = (&PartitionId, &Position)> {
        self.positions.iter()
    }

    /// Returns where a partition stands; `None` if it is unknown.
    pub fn position(&self, id: &PartitionId) -> Option<&Position> {
        self.positions.get(id)
    }

    /// Returns the fingerprints of vanished partitions.
    pub fn remembered(&self) -> &Arc<Remembered> {
        &self.remembered
    }

    /// Returns what it holds beside positions and fingerprints.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// Returns the offsets that a source goes on from.
    pub fn offsets(&self) -> Offsets {
        let span = |(id, position): (&PartitionId, &Position)| {
            (id.clone(), Span::standing(position.label.clone(), position.to, position.evidence.clone()))
        };
        Offsets::from_spans(self.positions.iter().map(span)).with_remembered(self.remembered.clone())
    }

    /// Returns the hash of the whole state, in lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        let mut bytes = serde_json::to_vec(&self.rest).expect("our own structs have text keys and no failing serializer");
        bytes.extend_from_slice(&(self.positions.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&(self.remembered.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.sum.bytes());
        sha256_hex(&bytes)
    }

    /// Takes in the next record.
    ///
    /// # Errors
    /// Says in words why the record does not follow from this state, which is then of no further use.
    pub fn apply(&mut self, record: &CommitRecord) -> Result<(), String> {
        if record.version > 1 && self.rest.schema_version == 0 && !self.rest.columns.is_empty() {
            // The columns of version 1 had no ids.
            self.rest.columns = columns::number(&[], &self.rest.columns);
            self.rest.schema_version = 1;
        }
        if record.key.is_some() && record.key != self.rest.key {
            self.change_key(record.key);
        }
        if record.generation > self.rest.generation {
            self.take_over(record);
        }
        record.source.partitions.iter().try_for_each(|span| self.apply_span(span, record))?;
        record.source.partitions.iter().for_each(|span| self.file_accepted(span));
        if record.version == 1 {
            self.check_none_forgotten(record)?;
        }
        if let Some(before) = record.source.forget_before {
            self.forget(before);
        }
        if !record.schema.is_empty() {
            self.rest.columns.clone_from(&record.schema);
            self.rest.schema_version = record.schema_version;
        }
        if let Some(action) = &record.action {
            match action.kind {
                ActionKind::Expire => self.rest.expired_before = self.rest.expired_before.max(action.before),
                ActionKind::TakeBack => self.rest.expired_before = action.before,
                _ => {}
            }
            action.up_to.iter().for_each(|up_to| self.accept(up_to));
        }
        self.rest.rewrites += u64::from(record.rewrite.is_some());
        self.judge(record);
        match &record.state_sha256 {
            Some(said) if *said != self.sha256() => Err(format!("the state after it is {}, it says {said}", self.sha256())),
            _ => Ok(()),
        }
    }

    fn accept(&mut self, up_to: &UpTo) {
        self.rest.accepted.insert(up_to.id.clone(), up_to.to);
        if let Some(label) = &up_to.label
            && !self.positions.contains_key(&PartitionId::new(up_to.id.as_str()))
        {
            self.rest.accepted_unread.insert(label.clone(), up_to.clone());
        }
    }

    /// From its first position on, a partition is known by its id.
    fn file_accepted(&mut self, span: &PartitionSpan) {
        let Rest { accepted, accepted_unread, .. } = &mut self.rest;
        if accepted_unread.is_empty() || !span.new {
            return;
        }
        if !accepted.contains_key(&span.id)
            && let Some(up_to) = accepted_unread.remove(&span.label)
        {
            accepted.remove(&up_to.id);
            accepted.insert(span.id.clone(), up_to.to);
        }
        accepted_unread.retain(|_, up_to| up_to.id != span.id);
    }

    /// Takes in what became of a checkpoint's records, and drops what was accepted up to an offset that is reached.
    fn judge(&mut self, record: &CommitRecord) {
        let replayed = record.source.partitions.iter().any(|span| PartitionId::new(span.id.as_str()).is_of_dead_letters());
        // Of a chain of version 1 only the last record is taken in.
        if record.version > 1 && record.trigger.is_some() && !replayed {
            self.rest.usual.add(record.counts.records_in, record.counts.dead_letters.total());
        }
        let Self { positions, rest, .. } = self;
        rest.accepted.retain(|id, to| positions.get(&PartitionId::new(id.as_str())).is_none_or(|position| position.to < *to));
    }

    /// What another key marked says nothing under this one.
    fn change_key(&mut self, key: Option<Mark>) {
        if self.rest.key.is_some() {
            let remembered = Remembered::new();
            // Where a file was found is marked by no key, and is all that is left to find it by.
            let found = |evidence: &Evidence| {
                let left = Evidence { place: evidence.place.clone(), end: evidence.end, ..Evidence::default() };
                evidence.place.is_some().then(|| Arc::new(left))
            };
            let strip = |position: &Position| Position { evidence: position.evidence.as_deref().and_then(found), ..position.clone() };
            let stripped = self.positions.iter().map(|(id, position)| (id.clone(), strip(position)));
            *self = Self::new(stripped.collect(), remembered, std::mem::take(&mut self.rest));
        }
        self.rest.key = key;
    }

    /// Gives up the positions of the generation before: the take-over has them. Those of replayed dead letters stay.
    fn take_over(&mut self, record: &CommitRecord) {
        let left: Vec<_> = self.positions.keys().filter(|id| !id.is_of_dead_letters()).cloned().collect();
        left.iter().for_each(|id| self.remove(id));
        self.rest.accepted.clear();
        self.rest.accepted_unread.clear();
        self.rest.generation = record.generation;
    }

    fn apply_span(&mut self, span: &PartitionSpan, record: &CommitRecord) -> Result<(), String> {
        let id = PartitionId::new(span.id.as_str());
        match (self.positions.get(&id), span.new, &span.taken_over) {
            (Some(position), false, None) if position.to == span.from => {}
            (None, true, None) | (None, false, Some(_)) => {}
            (Some(position), _, _) => {
                let new = if span.new { " and calls it new" } else { "" };
                return Err(format!("{} is committed up to {}, this checkpoint begins at {}{new}", span.label, position.to, span.from));
            }
            (None, _, _) => return Err(format!("{} is known to no earlier checkpoint, but not called new", span.label)),
        }
        let before = self.positions.get(&id).and_then(|position| position.evidence.clone());
        self.remove(&id);
        let evidence = span.evidence.clone().map(Arc::new);
        let at = u32::try_from(record.time.timestamp()).unwrap_or_default();
        let fingerprint = |evidence: &Arc<Evidence>| Fingerprint::of(evidence, span.to, at);
        if span.new {
            let head = evidence.as_ref().and_then(|evidence| evidence.witnesses.first()).map(|head| head.mark);
            let key = evidence.as_ref().and_then(fingerprint).map(|(key, _)| key);
            head.into_iter().chain(key).for_each(|key| self.remember(key, None));
        }
        if span.vanished {
            if let Some((key, fingerprint)) = evidence.or(before).as_ref().and_then(fingerprint) {
                self.remember(key, Some(fingerprint));
            }
            return Ok(());
        }
        let position = Position { label: span.label.as_str().into(), to: span.to, evidence };
        self.sum.add(&of_position(&id, &position));
        self.positions.insert(id, position);
        Ok(())
    }

    /// A record of version 1 holds every position.
    fn check_none_forgotten(&self, record: &CommitRecord) -> Result<(), String> {
        let ids: std::collections::HashSet<&str> = record.source.partitions.iter().map(|span| span.id.as_str()).collect();
        match self.positions.iter().find(|(id, _)| !ids.contains(id.as_str())) {
            Some((_, position)) => Err(format!("{} is committed up to {}, this checkpoint forgets it", position.label, position.to)),
            None => Ok(()),
        }
    }

    fn remove(&mut self, id: &PartitionId) {
        if let Some(position) = self.positions.remove(id) {
            self.sum.subtract(&of_position(id, &position));
        }
    }

    fn remember(&mut self, head: Mark, fingerprint: Option<Fingerprint>) {
        if fingerprint.is_none() && !self.remembered.contains_key(&head) {
            return;
        }
        let remembered = Arc::make_mut(&mut self.remembered);
        let replaced = match fingerprint {
            Some(fingerprint) => remembered.insert(head, fingerprint),
            None => remembered.remove(&head),
        };
        if let Some(replaced) = replaced {
            self.sum.subtract(&of_fingerprint(&head, &replaced));
        }
        if let Some(fingerprint) = fingerprint {
            self.sum.add(&of_fingerprint(&head, &fingerprint));
        }
    }

    fn forget(&mut self, before: u32) {
        let old: Vec<Mark> = self.remembered.iter().filter(|(_, fingerprint)| fingerprint.at < before).map(|(head, _)| *head).collect();
        old.into_iter().for_each(|head| self.remember(head, None));
    }
}

/// A sum of hashes: whatever their order, the same; and one can be taken out again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum([u64; 4]);

impl Sum {
    fn add(&mut self, hash: &[u64; 4]) {
        let mut carry = false;
        for (place, more) in self.0.iter_mut().zip(hash) {
            (*place, carry) = carrying_add(*place, *more, carry);
        }
    }

    fn subtract(&mut self, hash: &[u64; 4]) {
        let mut borrow = false;
        for (place, less) in self.0.iter_mut().zip(hash) {
            let (first, one) = place.overflowing_sub(*less);
            let (second, other) = first.overflowing_sub(u64::from(borrow));
            (*place, borrow) = (second, one || other);
        }
    }

    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.chunks_exact_mut(8).zip(self.0).for_each(|(bytes, place)| bytes.copy_from_slice(&place.to_le_bytes()));
        bytes
    }
}

fn carrying_add(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let (first, one) = a.overflowing_add(b);
    let (second, other) = first.overflowing_add(u64::from(carry));
    (second, one || other)
}

fn of_position(id: &PartitionId, position: &Position) -> [u64; 4] {
    let evidence = position.evidence.as_deref();
    let entry = (id.as_str(), &*position.label, position.to, evidence);
    numbers(&Sha256::digest(serde_json::to_vec(&entry).expect("our own structs have text keys and no failing serializer")))
}

fn of_fingerprint(head: &Mark, fingerprint: &Fingerprint) -> [u64; 4] {
    numbers(&Sha256::digest(super::snapshot::pack(head, fingerprint)))
}

fn numbers(hash: &[u8]) -> [u64; 4] {
    let mut numbers = [0; 4];
    for (number, bytes) in numbers.iter_mut().zip(hash.chunks_exact(8)) {
        *number = u64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes"));
    }
    numbers
}

#[cfg(test)]
mod tests;
