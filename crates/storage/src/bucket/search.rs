//! The search for the last record, without a list.
//!
//! Owns: which record to ask for next, from what was answered, as a function without a bucket.
//! Does not own: asking, and the hint that it begins with (see `super::beat`).
//!
//! Records are contiguous and never deleted, so one that is there has all before it, and one that is not there has none behind it. From the hint on
//! the steps double until a record is missing; then the distance is halved. With a hint that is exact it takes two requests, without any at most 36 for
//! 100,000 records.

/// A search under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// The hint, until it was asked for.
    hint: Option<u64>,
    /// The greatest number that is known to be there; 0 if none is.
    there: u64,
    /// The least number that is known to be missing.
    missing: Option<u64>,
    /// How far the next step goes.
    step: u64,
}

/// What a search needs, or has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask whether the record of this number is there.
    Ask(u64),
    /// It is the last one; `None` if there is none.
    Found(Option<u64>),
    /// The record that the hint names is not there. A hint only ever names one that was: records were removed.
    Removed(u64),
}

impl Search {
    /// Begins at the record that a hint names.
    pub fn new(hint: Option<u64>) -> Self {
        Self { hint: hint.filter(|hint| *hint > 0), there: 0, missing: None, step: 1 }
    }

    /// Returns what comes next.
    pub fn next(&self) -> Next {
        match (self.hint, self.missing) {
            (Some(hint), Some(_)) => Next::Removed(hint),
            (Some(hint), None) => Next::Ask(hint),
            (None, None) => Next::Ask(self.there.saturating_add(self.step)),
            (None, Some(missing)) if missing - self.there > 1 => Next::Ask(self.there + (missing - self.there) / 2),
            (None, Some(_)) => Next::Found((self.there > 0).then_some(self.there)),
        }
    }

    /// Takes in whether the record that was asked for is there.
    pub fn answer(&mut self, sequence: u64, is_there: bool) {
        if !is_there {
            self.missing = Some(sequence);
            return;
        }
        self.there = sequence;
        if self.hint.take().is_none() {
            self.step = self.step.saturating_mul(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a chain of `length` records. Returns what it came to, and after how many requests.
    fn search(hint: Option<u64>, length: u64) -> (Next, usize) {
        let mut search = Search::new(hint);
        for requests in 0.. {
            match search.next() {
                Next::Ask(sequence) => search.answer(sequence, sequence <= length),
                end => return (end, requests),
            }
        }
        unreachable!("a search comes to an end")
    }

    #[test]
    fn the_last_record_is_found_from_any_hint_that_is_not_beyond_it() {
        for length in 0..70 {
            let found = Next::Found((length > 0).then_some(length));
            assert_eq!(search(None, length).0, found);
            assert_eq!(search(Some(0), length).0, found, "a hint at no record is none");
            for hint in 1..=length {
                assert_eq!(search(Some(hint), length).0, found, "hint {hint} of {length}");
            }
        }
    }

    #[test]
    fn a_hint_beyond_the_last_record_says_that_records_were_removed() {
        for (hint, length) in [(1, 0), (8, 7), (u64::MAX, 7)] {
            assert_eq!(search(Some(hint), length), (Next::Removed(hint), 1));
        }
    }

    #[test]
    fn an_exact_hint_takes_two_requests_and_none_at_all_few_for_many_records() {
        assert_eq!(search(Some(100_000), 100_000).1, 2);
        assert_eq!(search(Some(99_996), 100_000).1, 6);
        let most = (99_990..100_010).chain([65_535, 65_536, 131_071]).map(|length| search(None, length).1).max();
        assert!(most <= Some(36), "{most:?}");
    }
}
