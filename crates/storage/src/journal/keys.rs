//! Idempotency keys that are still remembered.
//!
//! Owns: lookup, expiry, the bound on their number, and in which segment each lies.
//! Does not own: writing them (see `log`), how time passes (see [`super::time`]).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::Receipt;
use super::frame::{Fingerprint, Head};

/// What is remembered of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Of the body that it came with.
    pub digest: Fingerprint,
    /// What it was answered with.
    pub receipt: Receipt,
    /// When it came, in the journal's time.
    pub at_ms: u64,
    /// The newest segment that holds it.
    pub segment: u64,
}

/// The live keys.
#[derive(Debug)]
pub struct Keys {
    ttl_ms: u64,
    max: usize,
    by_key: HashMap<Fingerprint, Known>,
    /// In the order of their times. One that is used anew after it expired stands here twice, the older place void.
    by_time: VecDeque<(u64, Fingerprint)>,
}

impl Keys {
    /// Remembers none yet.
    pub fn new(ttl: Duration, max: usize) -> Self {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Self { ttl_ms, max, by_key: HashMap::new(), by_time: VecDeque::new() }
    }

    /// Returns what is known of a key.
    pub fn get(&self, key: Fingerprint) -> Option<&Known> {
        self.by_key.get(&key)
    }

    /// Forgets what is too old at `now_ms`.
    pub fn expire(&mut self, now_ms: u64) {
        while self.by_time.front().is_some_and(|(at_ms, _)| at_ms.saturating_add(self.ttl_ms) <= now_ms) {
            self.forget_oldest();
        }
    }

    /// Remembers the key of a frame in `segment`, which is younger than all others.
    pub fn insert(&mut self, head: &Head, segment: u64) {
        if let Some(key) = self.note(head, segment) {
            self.by_time.push_back((head.at_ms, key));
            self.forget_surplus();
        }
    }

    /// Remembers the key of a frame that was found at start, in any order of times. [`Keys::settle`] comes after the last.
    pub fn recover(&mut self, head: &Head, segment: u64) {
        self.note(head, segment);
    }

    /// Puts what was recovered in order.
    pub fn settle(&mut self) {
        let mut by_time: Vec<_> = self.by_key.iter().map(|(key, known)| (known.at_ms, *key)).collect();
        by_time.sort_unstable();
        self.by_time = by_time.into();
        self.forget_surplus();
    }

    /// Returns the keys whose newest place is `segment`, oldest first.
    pub fn of_segment(&self, segment: u64) -> Vec<(Fingerprint, Known)> {
        let known = self.by_key.iter().filter(|(_, known)| known.segment == segment);
        let mut keys: Vec<_> = known.map(|(key, known)| (*key, *known)).collect();
        keys.sort_unstable_by_key(|(key, known)| (known.at_ms, *key));
        keys
    }

    /// Records that keys have been carried into `segment`.
    pub fn moved(&mut self, keys: &[(Fingerprint, Known)], segment: u64) {
        for (key, _) in keys {
            self.by_key.get_mut(key).expect("no key is forgotten while it is carried").segment = segment;
        }
    }

    fn note(&mut self, head: &Head, segment: u64) -> Option<Fingerprint> {
        let key = head.key?;
        let receipt = Receipt { offset: head.offset, records: head.records };
        self.by_key.insert(key, Known { digest: head.digest, receipt, at_ms: head.at_ms, segment });
        Some(key)
    }

    fn forget_surplus(&mut self) {
        while self.by_key.len() > self.max {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((at_ms, key)) = self.by_time.pop_front() else { return };
        if self.by_key.get(&key).is_some_and(|known| known.at_ms == at_ms) {
            self.by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::frame::{Form, Kind};

    fn head(key: u8, at_ms: u64) -> Head {
        let digest = Fingerprint([9; 16]);
        let kind = Kind::Records(Form::Lines);
        Head { group: 0, left: 0, kind, offset: at_ms, records: 1, at_ms, key: Some(Fingerprint([key; 16])), digest, length: 0 }
    }

    fn live(keys: &Keys) -> Vec<u8> {
        (0..=u8::MAX).filter(|key| keys.get(Fingerprint([*key; 16])).is_some()).collect()
    }

    #[test]
    fn a_key_is_forgotten_when_its_time_is_over_and_not_before() {
        let mut keys = Keys::new(Duration::from_millis(100), 10);
        (1..=3).for_each(|key| keys.insert(&head(key, u64::from(key) * 10), 1));
        keys.expire(109);
        assert_eq!(live(&keys), [1, 2, 3]);
        keys.expire(120);
        assert_eq!(live(&keys), [3]);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many_also_after_a_recovery_in_another_order() {
        let mut keys = Keys::new(Duration::from_secs(1), 2);
        (1..=3).for_each(|key| keys.insert(&head(key, u64::from(key)), 1));
        assert_eq!(live(&keys), [2, 3]);
        let mut recovered = Keys::new(Duration::from_secs(1), 2);
        [3, 1, 2].iter().for_each(|key| recovered.recover(&head(*key, u64::from(*key)), 1));
        recovered.settle();
        assert_eq!(live(&recovered), [2, 3]);
    }

    #[test]
    fn a_key_that_is_used_anew_lives_from_then_on() {
        let mut keys = Keys::new(Duration::from_millis(100), 10);
        keys.insert(&head(1, 0), 1);
        keys.expire(100);
        keys.insert(&head(1, 100), 2);
        keys.expire(199);
        assert_eq!(keys.get(Fingerprint([1; 16])).unwrap().segment, 2);
        assert!(keys.of_segment(1).is_empty());
    }
}
