//! `pintail dead-letters`: why records were rejected, with samples.
//!
//! Owns: which of them are listed, and printing; saying what the line holds back, and what would become of it.
//! Does not own: grouping (see `reasons`), replaying them (they are a source then), letting them pass (see `accept`). Runs beside the service, without the lock.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, Utc};
use pintail_core::batch::{LetterForm, Phase};
use pintail_core::error::{Error, Result};
use pintail_core::invocation::{command, forgotten};
use pintail_core::offsets::PartitionId;
use pintail_core::quantity::{counted, thousands};
use pintail_core::reasons::Reasons;
use pintail_storage::checkpoint::lock::{self, Seen};
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::record::FileKind;
use pintail_storage::checkpoint::{dead_letters, dead_letters::Kept, held};

use super::verify::newest;

/// Lists the rejected records of a dataset that were not replayed, by reason, the most frequent first, with at most `samples` records each.
/// Returns how many there are. `local` is where its process says what it holds back.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`], after the list, if files are gone that were not declared expired.
pub(crate) fn run(dataset: &Dataset, local: &Paths, samples: usize, to: &mut dyn Write) -> Result<u64> {
    let mut found = Found::default();
    let instances = dataset.instances()?;
    for instance in &instances {
        collect(instance, samples, &mut found)?;
    }
    let printed = print(&found, to).and_then(|()| match found.reasons.records() + found.replayed {
        0 => writeln!(to, "none in `{}`{}", dataset.paths().root().display(), forgotten("pipeline.out_path")),
        _ => Ok(()),
    });
    let printed =
        printed.and_then(|()| instances.iter().try_for_each(|instance| print_held(&local.of_instance(instance.paths().instance()), to)));
    printed.map_err(|e| Error::io("write the list", e))?;
    found.check_missing(&instances)?;
    Ok(found.reasons.records())
}

/// Says what an instance holds back because too much of it was rejected: none of that is among the rejected records yet.
fn print_held(paths: &Paths, to: &mut dyn Write) -> io::Result<()> {
    let held = match held::announced(paths) {
        Ok(None) => return Ok(()),
        Ok(Some(held)) => held,
        Err(error) => return writeln!(to, "\nwhat is held back is not known: {error}"),
    };
    let since = held.since.to_rfc3339_opts(SecondsFormat::Secs, true);
    match lock::look(paths.clone()) {
        Ok(Seen::Free) => writeln!(to, "\nSTOPPED WHILE PAUSED, since {since}; the next start reads the same again: {held}")?,
        _ => writeln!(to, "\nPAUSED since {since}: {held}")?,
    }
    writeln!(to, "what came before is committed, nothing of the rest is; {}", held::ways_out(&command("dead-letters --accept")))
}

/// The rejected records of a dataset.
#[derive(Default)]
struct Found {
    /// Those that were not replayed.
    reasons: Reasons,
    /// How many of these a replay has rejected again.
    tried: u64,
    /// How many of these no replay can send through the line: it passes them over.
    output_rows: u64,
    /// Those that were replayed.
    replayed: u64,
    /// The files that are gone, with the time of their newest record and the number of records.
    missing: Vec<(DateTime<Utc>, PathBuf, u64)>,
}

impl Found {
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`], naming the first file that is gone and was not declared expired.
    fn check_missing(&mut self, instances: &[Dataset]) -> Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let indexes = instances.iter().map(|instance| instance.index(&|| Ok(()))).collect::<Result<Vec<_>>>()?;
        let declared = indexes.iter().flat_map(|index| index.declared_expired()).max().map(DateTime::from);
        self.missing.retain(|(newest, ..)| declared.is_none_or(|declared| *newest >= declared));
        let Some((_, first, _)) = self.missing.first() else { return Ok(()) };
        let more = match self.missing.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let records = counted(self.missing.iter().map(|(.., records)| records).sum(), "rejected record is", "rejected records are");
        Err(Error::state(format!(
            "{records} missing: `{}`{more} is gone; `{}` names all that is, and the ways out",
            first.display(),
            command("verify")
        )))
    }
}

/// Takes the rejected records of an instance.
fn collect(dataset: &Dataset, samples: usize, found: &mut Found) -> Result<()> {
    let committed = replayed_up_to(dataset)?;
    let last = dataset.last_sequence()?;
    for record in dataset.records()? {
        let record = record?;
        let files = record.files.iter().filter(|file| file.kind == FileKind::DeadLetters);
        for file in files {
            let Some(place) = dataset.local(file)? else {
                // That of the last checkpoint may be on its way.
                if record.sequence < last {
                    found.missing.push((newest(&record, file), dataset.paths().published(&file.path), file.rows));
                }
                continue;
            };
            let done = committed.get(&PartitionId::of_dead_letters(record.sequence)).copied().unwrap_or(0);
            for (index, kept) in (0..).zip(dead_letters::read(&place)?) {
                let Kept { letter, tried } = kept?;
                let is_record = letter.form != LetterForm::OutputRow;
                if is_record && index < done {
                    found.replayed += 1;
                    continue;
                }
                found.output_rows += u64::from(!is_record);
                found.tried += u64::from(tried.is_some());
                let partition = record.source.partitions.iter().find(|partition| partition.id == letter.partition.as_str());
                let label = partition.map_or(letter.partition.as_str(), |partition| &partition.label);
                let place = format!("checkpoint {}, {label} at {}", record.sequence, letter.offset);
                found.reasons.add(&letter, || place, samples);
            }
        }
    }
    Ok(())
}

/// Returns how far each file of rejected records was replayed. A record says so only of those that it replayed itself.
fn replayed_up_to(dataset: &Dataset) -> Result<BTreeMap<PartitionId, u64>> {
    let mut replayed = BTreeMap::new();
    for record in dataset.records()? {
        let spans = record?.source.partitions.into_iter().map(|span| (PartitionId::new(span.id), span.to));
        replayed.extend(spans.filter(|(id, _)| id.is_of_dead_letters()));
    }
    Ok(replayed)
}

fn print(found: &Found, to: &mut dyn Write) -> io::Result<()> {
    let Found { reasons, tried, output_rows, replayed, missing: _ } = found;
    for (phase, reason, group) in reasons.most_frequent() {
        writeln!(to, "{:>9}  {}  {reason}", thousands(group.records), says(phase))?;
        for sample in &group.samples {
            writeln!(to, "           {}: {}", sample.place, sample.text)?;
        }
    }
    if reasons.others() > 0 {
        writeln!(to, "{:>9}  for other reasons", thousands(reasons.others()))?;
    }
    let all = reasons.records();
    if *tried > 0 {
        writeln!(to, "{:>9}  of all these were rejected again by a replay", thousands(*tried))?;
    }
    if *output_rows > 0 {
        writeln!(to, "{:>9}  of all these cannot be replayed: they are rows of the SQL's output", thousands(*output_rows))?;
    }
    match replayed {
        0 => writeln!(to, "{}", counted(all, "dead letter", "dead letters")),
        _ => writeln!(to, "{}, and {} that were replayed", counted(all, "dead letter", "dead letters"), thousands(*replayed)),
    }
}

fn says(phase: Phase) -> &'static str {
    match phase {
        Phase::Decode => "decode",
        Phase::Sql => "sql",
        Phase::Sink => "sink",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use bytes::Bytes;
    use pintail_core::batch::DeadLetter;
    use pintail_core::offsets::{OffsetRange, Partition};
    use pintail_storage::checkpoint::dead_letters::DeadLetterFile;
    use pintail_storage::samples::{draft, open};

    use super::*;

    fn list(dir: &Path, samples: usize, to: &mut Vec<u8>) -> u64 {
        run(&Dataset::open(dir).unwrap(), &Paths::new(dir), samples, to).unwrap()
    }

    fn letter(reason: &str, offset: u64, record: &'static [u8]) -> DeadLetter {
        DeadLetter {
            phase: Phase::Decode,
            reason: reason.into(),
            partition: PartitionId::new("a.ndjson"),
            offset,
            form: LetterForm::Record,
            bytes: Bytes::from_static(record),
            length: record.len() as u64,
            message: None,
        }
    }

    #[test]
    fn rejected_records_are_listed_by_reason_the_most_frequent_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        for _ in 0..2 {
            let mut staging = store.staging();
            let mut file = DeadLetterFile::create(&mut staging, store.paths().dead_letters_of(store.next_sequence())).unwrap();
            file.write(&letter("a is missing", 0, b"{}"), None).unwrap();
            file.write(&letter("column `a`: expected int64, got \"x\"", 3, b"\x1b[2Jx"), None).unwrap();
            file.write(&letter("column `a`: expected int64, got true", 9, b"y"), None).unwrap();
            let draft = draft(&store, vec![file.finish().unwrap()]);
            store.commit(staging, draft).unwrap();
        }
        let mut text = Vec::new();
        assert_eq!(list(dir.path(), 1, &mut text), 6);
        let expected = "        4  decode  column `a`: expected int64\n           checkpoint 2, a.ndjson at 3: \\u{1b}[2Jx\n        \
                        2  decode  a is missing\n           checkpoint 2, a.ndjson at 0: {}\n6 dead letters\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn rows_of_the_output_that_a_replay_has_passed_over_stay_listed() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        let mut staging = store.staging();
        let mut file = DeadLetterFile::create(&mut staging, store.paths().dead_letters_of(store.next_sequence())).unwrap();
        let row = |offset| DeadLetter { phase: Phase::Sink, form: LetterForm::OutputRow, ..letter("too many partitions", offset, b"{}") };
        file.write(&row(0), None).unwrap();
        file.write(&letter("a is missing", 1, b"x"), None).unwrap();
        file.write(&row(2), None).unwrap();
        let first = draft(&store, vec![file.finish().unwrap()]);
        store.commit(staging, first).unwrap();
        let id = PartitionId::of_dead_letters(store.next_sequence() - 1);
        let partition = Arc::new(Partition { label: id.as_str().into(), id });
        let mut replay = draft(&store, Vec::new());
        replay.offsets.extend(&OffsetRange::new(partition, 0, 3)).unwrap();
        let staging = store.staging();
        store.commit(staging, replay).unwrap();
        let mut text = Vec::new();
        assert_eq!(list(dir.path(), 0, &mut text), 2);
        let expected = "        2  sink  too many partitions\n        2  of all these cannot be replayed: they are rows of the SQL's output\n\
                        2 dead letters, and 1 that were replayed\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
