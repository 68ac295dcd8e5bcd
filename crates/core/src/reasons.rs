//! Reasons: rejected records, grouped by why they were rejected.
//!
//! Owns: the text of a reason, what counts as the same, how many are kept apart and how much of each, the samples. All text is fit to be shown: it comes from outside.
//! Does not own: where the records come from, how the list is shown (see `commands::dead_letters`, `admin::status`).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::batch::{DeadLetter, Phase};
use crate::escape;

/// Reasons kept apart. An error of the SQL may quote a value, so there may be as many as records: those beyond are only counted.
const REASONS_MAX: usize = 1_000;
/// Bytes of a reason, a place or a sample: a line on a terminal, not the record.
const SHOWN_BYTES_MAX: usize = 200;

/// Bytes of these that are kept of the end of a reason: what a message says of the column stands behind the value.
const TAIL_BYTES: usize = 70;
/// What stands before the reason of another record, which holds for this one too but may quote a value of that one.
const AS_ANOTHER: &str = "the same expression fails as for another record: ";
/// Stands for what was left out.
const CUT: &str = "…";

/// Why a record was rejected: one line of at most 200 bytes, or 250 if it is another record's, whatever the record holds. Clones share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reason(Arc<str>);

impl Reason {
    /// Returns the reason of a record that fails as another does: the words that stand before come to its 200 bytes.
    pub fn as_another(of: &str) -> Self {
        Self(format!("{AS_ANOTHER}{}", shortened(of)).into())
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        Self(shortened(text).into())
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl Deref for Reason {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// Escapes a text; of a long one its beginning and its end.
fn shortened(text: &str) -> String {
    if text.len() <= SHOWN_BYTES_MAX {
        let escaped = escape::line(text);
        if escaped.len() <= SHOWN_BYTES_MAX {
            return escaped.into_owned();
        }
    }
    // Only as much is escaped as can be shown.
    let head = SHOWN_BYTES_MAX - TAIL_BYTES - CUT.len();
    let mut first = String::new();
    for c in text.chars() {
        let before = first.len();
        escape::push(&mut first, c);
        if first.len() > head {
            first.truncate(before);
            break;
        }
    }
    let mut from = text.len();
    let mut last = 0;
    for (at, c) in text.char_indices().rev() {
        last += escaped_len(c);
        if last > TAIL_BYTES {
            break;
        }
        from = at;
    }
    first + CUT + &escape::line(&text[from..])
}

fn escaped_len(c: char) -> usize {
    let mut escaped = String::new();
    escape::push(&mut escaped, c);
    escaped.len()
}

/// Rejected records by phase and reason.
#[derive(Debug, Clone, Default)]
pub struct Reasons {
    groups: BTreeMap<(Phase, String), Group>,
    others: u64,
}

/// Records with one reason.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// How many.
    pub records: u64,
    /// Some of them.
    pub samples: Vec<Sample>,
}

/// One rejected record.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Where it stood.
    pub place: String,
    /// Its beginning, on one line.
    pub text: String,
}

impl Reasons {
    /// Adds a record; keeps it as a sample if its group has fewer than `samples`.
    pub fn add(&mut self, letter: &DeadLetter, place: impl FnOnce() -> String, samples: usize) {
        let key = (letter.phase, escape::beginning(heading(&letter.reason), SHOWN_BYTES_MAX));
        if self.groups.len() >= REASONS_MAX && !self.groups.contains_key(&key) {
            self.others += 1;
            return;
        }
        let group = self.groups.entry(key).or_default();
        group.records += 1;
        if group.samples.len() < samples {
            group.samples.push(Sample { place: escape::beginning(&place(), SHOWN_BYTES_MAX), text: sample(&letter.bytes) });
        }
    }

    /// Adds all records of newer ones: their samples take the place of the old.
    pub fn merge(&mut self, newer: Self) {
        self.others += newer.others;
        for (key, group) in newer.groups {
            if self.groups.len() >= REASONS_MAX && !self.groups.contains_key(&key) {
                self.others += group.records;
                continue;
            }
            let known = self.groups.entry(key).or_default();
            known.records += group.records;
            let room = known.samples.len().max(group.samples.len());
            known.samples.splice(0..0, group.samples);
            known.samples.truncate(room);
        }
    }

    /// Returns the groups, the most frequent first.
    pub fn most_frequent(&self) -> Vec<(Phase, &str, &Group)> {
        let mut groups: Vec<_> = self.groups.iter().map(|((phase, reason), group)| (*phase, reason.as_str(), group)).collect();
        groups.sort_by_key(|(_, _, group)| Reverse(group.records));
        groups
    }

    /// Counts the records whose reason is not kept apart.
    pub fn others(&self) -> u64 {
        self.others
    }

    /// Counts all records.
    pub fn records(&self) -> u64 {
        self.others + self.groups.values().map(|group| group.records).sum::<u64>()
    }
}

/// Leaves out the value that the decoder quotes, and that a reason is another record's: records that fail in the same way belong together.
fn heading(reason: &str) -> &str {
    let reason = reason.strip_prefix(AS_ANOTHER).unwrap_or(reason);
    const NO_OBJECT: &str = "not a JSON object";
    if reason.starts_with(NO_OBJECT) { NO_OBJECT } else { reason.split_once(", got ").map_or(reason, |(heading, _)| heading) }
}

/// Shows the beginning of a record on one line.
fn sample(bytes: &[u8]) -> String {
    // A character that is cut through would look like a broken one: one more is looked at, and left out.
    let looked_at = &bytes[..bytes.len().min(SHOWN_BYTES_MAX + 4)];
    escape::beginning(&String::from_utf8_lossy(looked_at), SHOWN_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::batch::LetterForm;
    use crate::offsets::PartitionId;

    fn letter(reason: &str, record: &'static str) -> DeadLetter {
        DeadLetter {
            phase: Phase::Decode,
            reason: reason.into(),
            partition: PartitionId::new("a.ndjson"),
            offset: 0,
            form: LetterForm::Record,
            bytes: Bytes::from_static(record.as_bytes()),
            length: record.len() as u64,
            message: None,
        }
    }

    #[test]
    fn a_long_value_is_cut_in_the_middle_and_what_stands_behind_it_stays() {
        let reason = Reason::from(format!("could not convert '{}' to INT32 of column sku", "é".repeat(500_000)));
        assert!(reason.len() <= SHOWN_BYTES_MAX && reason.starts_with("could not convert 'é"), "{reason}");
        assert!(reason.ends_with("é' to INT32 of column sku"), "{reason}");
    }

    proptest! {
        #[test]
        fn a_reason_is_short_and_on_one_line_whatever_it_quotes(text in any::<String>(), times in 1_usize..200) {
            let reason = Reason::from(text.repeat(times));
            prop_assert!(reason.len() <= SHOWN_BYTES_MAX, "{reason:?}");
            prop_assert_eq!(escape::line(&reason), &*reason);
        }
    }

    #[test]
    fn a_record_that_fails_as_another_does_is_in_the_group_of_that_one() {
        for text in ["Conversion Error: bad".to_owned(), format!("Out of Range Error: {} of column sku", "x".repeat(500))] {
            let mut reasons = Reasons::default();
            for reason in [Reason::from(text.as_str()), Reason::as_another(&text)] {
                reasons.add(&DeadLetter { reason, ..letter("", "{}") }, || "a.ndjson:1".to_owned(), 1);
            }
            let groups: Vec<_> = reasons.most_frequent().iter().map(|(_, reason, group)| ((*reason).to_owned(), group.records)).collect();
            assert_eq!(groups, [(Reason::from(text).to_string(), 2)]);
        }
    }

    #[test]
    fn reasons_without_end_are_counted_and_not_kept() {
        let mut reasons = Reasons::default();
        (0..REASONS_MAX + 7).for_each(|i| reasons.add(&letter(&format!("bad value {i}"), ""), String::new, 1));
        assert_eq!((reasons.groups.len(), reasons.others), (REASONS_MAX, 7));
        let newer = reasons.clone();
        reasons.merge(newer);
        assert_eq!((reasons.groups.len(), reasons.others, reasons.records()), (REASONS_MAX, 14, 2 * (REASONS_MAX as u64 + 7)));
    }

    #[test]
    fn a_reason_that_quotes_a_long_and_hostile_value_is_cut_and_escaped() {
        let mut reasons = Reasons::default();
        let text: &'static str = "\x1b]0;t\x07\u{202e}é".repeat(1000).leak();
        reasons.add(&letter(text, text), || text.to_owned(), 1);
        let groups = reasons.most_frequent();
        let (_, reason, group) = groups[0];
        for shown in [reason, group.samples[0].text.as_str(), group.samples[0].place.as_str()] {
            assert!(shown.len() < 1000 && shown.contains('…'), "{shown}");
            assert!(!shown.contains(|c: char| c.is_control() || c == '\u{202e}' || c == '\u{fffd}'), "{shown}");
        }
    }

    #[test]
    fn merged_groups_add_up_and_show_the_newer_samples() {
        let (mut old, mut new) = (Reasons::default(), Reasons::default());
        old.add(&letter("a, got 1", "old"), String::new, 2);
        old.add(&letter("a, got 2", "older"), String::new, 2);
        new.add(&letter("a, got 3", "new"), String::new, 2);
        old.merge(new);
        let groups = old.most_frequent();
        let samples: Vec<_> = groups[0].2.samples.iter().map(|sample| sample.text.as_str()).collect();
        assert_eq!((groups.len(), groups[0].2.records, samples), (1, 3, vec!["new", "old"]));
    }
}
