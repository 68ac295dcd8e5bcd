//! Search: where a stream's messages become younger than a time, in a few dozen questions.
//!
//! Owns: which sequence to ask for next.
//! Does not own: asking (see `check`).
//!
//! A server can say what the first message at or behind a sequence is, and no more. Halving the range finds the border, as long as times ascend.

use std::ops::Range;

/// A search in a range of sequences.
#[derive(Debug)]
pub(super) struct Search {
    /// The border lies between these two.
    begin: u64,
    end: u64,
    /// The end of the range.
    limit: u64,
    time: i64,
    /// The time of the last message before the border.
    last: Option<i64>,
}

impl Search {
    /// Begins a search for the first message that is younger than `time`.
    pub(super) fn new(range: Range<u64>, time: i64) -> Self {
        Self { begin: range.start, end: range.end, limit: range.end, time, last: None }
    }

    /// Returns the sequence to ask for: the first message at or behind it. `None` once the border is found.
    pub(super) fn ask(&self) -> Option<u64> {
        (self.begin < self.end).then(|| self.begin + (self.end - self.begin) / 2)
    }

    /// Takes sequence and time of the message that was asked for.
    pub(super) fn learn(&mut self, found: Option<(u64, Option<i64>)>) {
        let Some(asked) = self.ask() else { return };
        match found {
            Some((sequence, time)) if sequence < self.limit && time <= Some(self.time) => {
                self.begin = sequence + 1;
                self.last = time;
            }
            _ => self.end = asked,
        }
    }

    /// Returns the sequence from which on all messages are younger; the end of the range if none is.
    pub(super) fn boundary(&self) -> u64 {
        self.begin.min(self.limit)
    }

    /// Returns the time of the last message that is not younger.
    pub(super) fn last_time(&self) -> Option<i64> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches among messages, whose times are their sequences; returns the border, the time before it, and the number of questions.
    fn search(messages: &[u64], range: Range<u64>, time: i64) -> (u64, Option<i64>, usize) {
        let mut search = Search::new(range, time);
        let mut questions = 0;
        while let Some(asked) = search.ask() {
            questions += 1;
            let found = messages.iter().find(|sequence| **sequence >= asked);
            search.learn(found.map(|sequence| (*sequence, Some(*sequence as i64))));
        }
        (search.boundary(), search.last_time(), questions)
    }

    #[test]
    fn the_border_lies_before_the_first_message_that_is_younger() {
        let messages: Vec<u64> = (1..=1000).filter(|n| n % 7 != 0).collect();
        for time in 0..=1100 {
            for range in [1..1001, 1..1, 300..600, 599..600, 1..u64::MAX] {
                let (border, last, questions) = search(&messages, range.clone(), time);
                let within = |n: &&u64| range.contains(n);
                let older = messages.iter().filter(within).rfind(|n| **n as i64 <= time);
                assert_eq!(last, older.map(|n| *n as i64), "{range:?} {time}");
                assert!(messages.iter().filter(within).all(|n| (*n < border) == (*n as i64 <= time)), "{border} of {range:?} {time}");
                assert!(questions <= 64, "{questions} questions");
            }
        }
    }

    #[test]
    fn no_message_is_no_border() {
        assert_eq!(search(&[], 5..100, 50), (5, None, 7));
        assert_eq!(search(&[200], 5..100, 500), (5, None, 7));
    }
}
