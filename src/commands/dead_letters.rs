//! `pintail dead-letters`: why records were rejected, with samples.
//!
//! Owns: grouping and printing.
//! Does not own: replaying them (they are a source then). Runs beside the service, without the lock.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use crate::batch::{DeadLetter, Phase};
use crate::checkpoint::dead_letters;
use crate::checkpoint::reader::Dataset;
use crate::checkpoint::record::FileKind;
use crate::error::{Error, Result};
use crate::offsets::Offsets;
use crate::source;

/// Reasons kept apart. An error of the SQL may quote a value, so there may be as many as records: those beyond are only counted.
const REASONS_MAX: usize = 1_000;
/// Bytes of a sample: a line on a terminal, not the record.
const SAMPLE_BYTES_MAX: usize = 200;

/// Lists the rejected records of the dataset at `out` that were not replayed, by reason, the most frequent first, with at most `samples` records each.
pub fn run(out: &Path, samples: usize, to: &mut dyn Write) -> Result<()> {
    let dataset = Dataset::open(out)?;
    let mut reasons = Reasons::default();
    let mut replayed = 0;
    let last = dataset.last_sequence()?;
    let committed = if last > 0 { dataset.record(last)?.0.offsets() } else { Offsets::default() };
    for record in dataset.records()? {
        let record = record?;
        let files = record.files.iter().filter(|file| file.kind == FileKind::DeadLetters);
        for place in files.filter_map(|file| dataset.visible(file)) {
            let done = committed.next_offset(&source::dead_letters::partition(record.sequence)).unwrap_or(0);
            replayed += done;
            for letter in dead_letters::read(&place)?.skip(done as usize) {
                let letter = letter?;
                let partition = record.source.partitions.iter().find(|partition| partition.id == letter.partition.as_str());
                let label = partition.map_or(letter.partition.as_str(), |partition| &partition.label);
                let place = format!("checkpoint {}, {label} at {}", record.sequence, letter.offset);
                reasons.add(letter, place, samples);
            }
        }
    }
    reasons.print(replayed, to).map_err(|e| Error::io("write the list", e))
}

#[derive(Default)]
struct Reasons {
    groups: BTreeMap<(Phase, String), Group>,
    others: u64,
}

#[derive(Default)]
struct Group {
    records: u64,
    /// Where it stood, and its beginning.
    samples: Vec<(String, String)>,
}

impl Reasons {
    fn add(&mut self, letter: DeadLetter, place: String, samples: usize) {
        let key = (letter.phase, heading(&letter.reason).to_owned());
        if self.groups.len() >= REASONS_MAX && !self.groups.contains_key(&key) {
            self.others += 1;
            return;
        }
        let group = self.groups.entry(key).or_default();
        group.records += 1;
        if group.samples.len() < samples {
            group.samples.push((place, sample(&letter.bytes)));
        }
    }

    fn print(&self, replayed: u64, to: &mut dyn Write) -> io::Result<()> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.records));
        for ((phase, reason), group) in groups {
            writeln!(to, "{:>9}  {}  {reason}", group.records, says(*phase))?;
            for (place, text) in &group.samples {
                writeln!(to, "           {place}: {text}")?;
            }
        }
        if self.others > 0 {
            writeln!(to, "{:>9}  for other reasons", self.others)?;
        }
        let all = self.others + self.groups.values().map(|group| group.records).sum::<u64>();
        match replayed {
            0 => writeln!(to, "{all} dead letters"),
            _ => writeln!(to, "{all} dead letters, and {replayed} that were replayed"),
        }
    }
}

fn says(phase: Phase) -> &'static str {
    match phase {
        Phase::Decode => "decode",
        Phase::Sql => "sql",
        Phase::Sink => "sink",
    }
}

/// Leaves out the value that the decoder quotes: records that fail in the same way belong together.
fn heading(reason: &str) -> &str {
    const NO_OBJECT: &str = "not a JSON object";
    if reason.starts_with(NO_OBJECT) { NO_OBJECT } else { reason.split_once(", got ").map_or(reason, |(heading, _)| heading) }
}

/// Shows the beginning of a record on one line, without control characters: it comes from outside and goes to a terminal.
fn sample(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(SAMPLE_BYTES_MAX)];
    let cut = if shown.len() < bytes.len() { "…" } else { "" };
    let text: String = String::from_utf8_lossy(shown).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    text + cut
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::checkpoint::dead_letters::DeadLetterFile;
    use crate::checkpoint::store::tests::{draft, open};
    use crate::offsets::PartitionId;

    fn letter(reason: &str, offset: u64, record: &'static [u8]) -> DeadLetter {
        DeadLetter {
            phase: Phase::Decode,
            reason: reason.into(),
            partition: PartitionId::new("a.ndjson"),
            offset,
            form: crate::batch::LetterForm::Record,
            bytes: Bytes::from_static(record),
            length: record.len() as u64,
        }
    }

    #[test]
    fn rejected_records_are_listed_by_reason_the_most_frequent_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        for _ in 0..2 {
            let mut staging = store.staging();
            let mut file = DeadLetterFile::create(&mut staging, store.next_sequence()).unwrap();
            file.write(&letter("a is missing", 0, b"{}")).unwrap();
            file.write(&letter("column `a`: expected int64, got \"x\"", 3, b"\x1b[2Jx")).unwrap();
            file.write(&letter("column `a`: expected int64, got true", 9, b"y")).unwrap();
            let draft = draft(&store, vec![file.finish().unwrap()]);
            store.commit(staging, draft).unwrap();
        }
        let mut text = Vec::new();
        run(dir.path(), 1, &mut text).unwrap();
        let expected = "        4  decode  column `a`: expected int64\n           checkpoint 1, a.ndjson at 3: \u{fffd}[2Jx\n        \
                        2  decode  a is missing\n           checkpoint 1, a.ndjson at 0: {}\n6 dead letters\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn reasons_without_end_are_counted_and_not_kept() {
        let mut reasons = Reasons::default();
        (0..REASONS_MAX + 7).for_each(|i| reasons.add(letter(&format!("bad value {i}"), 0, b""), String::new(), 1));
        assert_eq!((reasons.groups.len(), reasons.others), (REASONS_MAX, 7));
    }
}
