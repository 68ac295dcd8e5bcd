//! Prefixes: things by texts, to look up those of which one text is the beginning of another.
//!
//! Owns: the look-up, in the time of a few steps however many there are.
//! Does not own: what the texts stand for (see `sketch`, `crowd` and `plan`).

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Things by their texts.
#[derive(Debug)]
pub(super) struct Prefixes<K, T>(BTreeMap<K, T>);

impl<K, T> Default for Prefixes<K, T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Borrow<[u8]> + Ord, T> Prefixes<K, T> {
    /// Returns the thing with a text, made if there is none.
    pub(super) fn entry(&mut self, text: K) -> &mut T
    where
        T: Default,
    {
        self.0.entry(text).or_default()
    }

    pub(super) fn get_mut(&mut self, text: &[u8]) -> Option<&mut T> {
        self.0.get_mut(text)
    }

    pub(super) fn remove(&mut self, text: &[u8]) {
        self.0.remove(text);
    }

    /// Returns the things whose text begins as `text`, or is a beginning of it.
    pub(super) fn alike<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = &'a T> {
        self.beginning_with(text).chain(self.beginnings_of(text))
    }

    /// Returns the things whose text is `text`, or longer and begins with it.
    pub(super) fn beginning_with<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = &'a T> {
        let from = self.0.range::<[u8], _>((Bound::Included(text), Bound::Unbounded));
        from.take_while(move |(other, _)| Borrow::<[u8]>::borrow(*other).starts_with(text)).map(|(_, thing)| thing)
    }

    /// Returns the things whose text is shorter than `text`, which begins with it: the longest first.
    fn beginnings_of<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = &'a T> {
        let mut end = Bound::Excluded(text);
        std::iter::from_fn(move || {
            loop {
                let (other, thing) = self.0.range::<[u8], _>((Bound::Unbounded, end)).next_back()?;
                let other: &[u8] = other.borrow();
                let common = other.iter().zip(text).take_while(|(a, b)| a == b).count();
                if common == other.len() {
                    end = Bound::Excluded(&text[..common]);
                    return Some(thing);
                }
                // What is a beginning of the text and comes before that one is no longer than what both share.
                end = Bound::Included(&text[..common]);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exactly_the_beginnings_of_a_text_and_what_it_begins_are_found(
            texts in proptest::collection::btree_set(proptest::collection::vec(0_u8..3, 0..6), 0..40),
            text in proptest::collection::vec(0_u8..3, 0..6),
        ) {
            let mut prefixes = Prefixes::default();
            texts.iter().for_each(|text| *prefixes.entry(text.clone()) = text.clone());
            let mut found: Vec<&Vec<u8>> = prefixes.alike(&text).collect();
            found.sort();
            let expected: Vec<&Vec<u8>> = texts.iter().filter(|other| other.starts_with(&text) || text.starts_with(other)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
