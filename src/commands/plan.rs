//! `pintail plan NEW.toml`: what another configuration would change for a dataset that is there.
//!
//! Owns: the comparison of two configurations: where they write and read, their columns, what the dataset says to the new one, and the rows that both make
//! of the same records, one record at a time.
//! Does not own: running records (see `tried`), comparing rows (see `rows`). Nothing is written, and the service may run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::num::NonZero;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use itertools::Itertools;
use pintail_config::{Config, Examined};
use pintail_core::batch::{Batch, Chunk, DeadLetter, Phase};
use pintail_core::error::{Error, Result};
use pintail_core::evidence::Key;
use pintail_core::offsets::Offsets;
use pintail_core::quantity::{counted, thousands};
use pintail_core::{escape, sql_type};
use pintail_decode::reject_undecoded;
use pintail_sources::dead_letters::DeadLetterSource;
use pintail_sources::{Resume, Source};
use pintail_storage::durable::disk_state::DiskState;
use tokio::time::{Instant, timeout};

use super::advise;
use super::rows::{Row, compare};
use super::tried::{Made, Tried};
use crate::pipeline::{Plan, refuse_bucket, surroundings};

/// Time without a record after which what came is the sample.
const IDLE: Duration = Duration::from_secs(3);
/// Time after which what came is the sample, however much more there is.
const LONGEST: Duration = Duration::from_secs(20);
/// Bytes of a record that are shown.
const SHOWN_BYTES: usize = 200;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Records to try.
    pub records: NonZero<usize>,
    /// Whether to try the dead letters, and not the source.
    pub dead_letters: bool,
    /// Records shown whose rows differ.
    pub samples: usize,
}

/// Says what would change.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] with everything for which the new configuration would be refused; those of the old one and of the source.
pub(crate) fn run(old: &Config, new: &Examined, asked: Asked, to: &mut dyn Write) -> Result<()> {
    let old_plan = Plan::new(old)?;
    let mut refusals: Vec<Error> = new.refusal().into_iter().collect();
    let sound = new.sound(&["source", "storage", "schema", "transform", "sink"]);
    let new_plan = sound.and_then(|config| Plan::new(config).map_err(|refusal| refusals.push(refusal)).ok());
    let failed = |e| Error::io("write the report", e);
    if let Some((config, plan)) = sound.zip(new_plan) {
        places(old, config, to).map_err(failed)?;
        columns(old_plan.engine.output(), plan.engine.output(), to).map_err(failed)?;
        refusals.extend(plan.check_dataset(config).err());
        let kept = common(old_plan.engine.output(), plan.engine.output());
        let (what, batches) = sample(old, config, asked)?;
        let mut found = Found { samples_max: asked.samples, ..Found::default() };
        let (mut before, mut now) = (Tried::new(old, old_plan)?, Tried::new(config, plan)?);
        for batch in &batches {
            found.take(batch, &before.run(batch)?, &now.run(batch)?, &kept);
        }
        found.print(&what, to).map_err(failed)?;
    }
    if refusals.is_empty() {
        let file = new_file(new);
        return writeln!(to, "\nthe dataset takes it")
            .and_then(|()| advise(to, format_args!("stop the service, then pintail run{file}")))
            .map_err(failed);
    }
    Err(Error::config(format!(
        "it would be refused:\n  {}",
        refusals.iter().map(|refusal| refusal.to_string().replace('\n', "\n  ")).join("\n  ")
    )))
}

fn new_file(new: &Examined) -> String {
    let file = new.sound(&[]).and_then(|config| config.given.file.as_ref());
    file.map_or_else(String::new, |file| format!(" --config {}", pintail_core::invocation::word(&file.display().to_string())))
}

/// Says where it reads and writes, where that is another place.
fn places(old: &Config, new: &Config, to: &mut dyn Write) -> io::Result<()> {
    let list = |names: &[String]| format!("[{}]", names.join(", "));
    let time = |config: &Config| config.sink.event_time.clone().unwrap_or_else(|| "none".to_owned());
    let changes = [
        ("pipeline.out_path", old.pipeline.out_path.display().to_string(), new.pipeline.out_path.display().to_string()),
        ("source.type", old.source.kind.name().to_owned(), new.source.kind.name().to_owned()),
        ("sink.partition_by", list(&old.sink.partition_by), list(&new.sink.partition_by)),
        ("sink.event_time", time(old), time(new)),
    ];
    let changed = changes.iter().filter(|(_, old, new)| old != new);
    changed
        .map(|(key, old, new)| format!("{key}: {} → {}", escape::line(old), escape::line(new)))
        .try_for_each(|line| writeln!(to, "{line}"))
}

/// Says which columns come, go, and change.
fn columns(old: &SchemaRef, new: &SchemaRef, to: &mut dyn Write) -> io::Result<()> {
    let width = old.fields().iter().chain(new.fields()).map(|field| field.name().chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for field in old.fields() {
        let (name, before) = (field.name(), sql_type::name(field.data_type()));
        match new.column_with_name(name).map(|(_, field)| sql_type::name(field.data_type())) {
            None => lines.push(format!("  - {name:width$}  {before}")),
            Some(now) if now != before => lines.push(format!("  ~ {name:width$}  {before} → {now}")),
            Some(_) => {}
        }
    }
    let added = new.fields().iter().filter(|field| old.column_with_name(field.name()).is_none());
    lines.extend(added.map(|field| format!("  + {:width$}  {}", field.name(), sql_type::name(field.data_type()))));
    if lines.is_empty() {
        return writeln!(to, "output columns: the same {}", new.fields().len());
    }
    writeln!(to, "output columns")?;
    lines.iter().try_for_each(|line| writeln!(to, "{line}"))
}

/// Returns the columns that both have: in these, rows can be compared.
fn common(old: &SchemaRef, new: &SchemaRef) -> BTreeSet<String> {
    let both = old.fields().iter().filter(|field| new.column_with_name(field.name()).is_some());
    both.map(|field| field.name().clone()).collect()
}

/// Reads records to try. Returns with them what they are, and each as a batch of its own; all of them as one where rows may depend on each other.
fn sample(old: &Config, new: &Config, asked: Asked) -> Result<(String, Vec<Batch>)> {
    let can_be_tried = old.source.kind.can_be_tried();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| Error::io("start the runtime", e))?;
    let from_source = can_be_tried && !asked.dead_letters;
    let chunks = runtime.block_on(async {
        let disk = DiskState::default();
        let source: Box<dyn Source> = match from_source {
            true => old
                .source
                .kind
                .open(&surroundings(old, &old.local_paths(), None, &disk), &Resume { offsets: &Offsets::default(), key: &Key::random() })?,
            false if old.is_in_bucket() => return refuse_bucket(old).map(|()| Vec::new()),
            false => Box::new(DeadLetterSource::open(&old.paths().dead_letters(), &Offsets::default(), ())?),
        };
        read(source, asked.records.get()).await
    });
    runtime.shutdown_background();
    let chunks = chunks?;
    let what = match from_source {
        true => format!("of the source `{}`, the oldest first", old.source.kind.name()),
        false if asked.dead_letters => "of the dead letters".to_owned(),
        false => format!("of the dead letters; the source `{}` cannot be read beside the service", old.source.kind.name()),
    };
    let is_coupled = old.transform.per_batch || new.transform.per_batch;
    let batches = match is_coupled {
        true if chunks.is_empty() => Vec::new(),
        true => vec![Batch::new(chunks)],
        false => chunks.into_iter().map(|chunk| Batch::new(vec![chunk])).collect(),
    };
    Ok((what, batches))
}

/// Reads at most `records_max` records, each as a chunk of its own.
async fn read(mut source: Box<dyn Source>, records_max: usize) -> Result<Vec<Chunk>> {
    let (mut chunks, end) = (Vec::new(), Instant::now() + LONGEST);
    while chunks.len() < records_max && Instant::now() < end {
        let Ok(read) = timeout(IDLE, source.read()).await else { break };
        let Some(mut chunk) = read? else { break };
        while chunk.records() > 1 && chunks.len() < records_max {
            chunks.push(chunk.split_off_front(1));
        }
        if chunk.records() == 1 && chunks.len() < records_max {
            chunks.push(chunk);
        }
    }
    Ok(chunks)
}

/// What was found.
#[derive(Default)]
struct Found {
    records: u64,
    same: u64,
    /// Records whose rows differ, and by field how many.
    changed: u64,
    fields: BTreeMap<String, u64>,
    /// Rows before and none now, and the other way round.
    gone: u64,
    come: u64,
    /// Rows before and rejected now, and the other way round.
    rejected: u64,
    mended: u64,
    samples_max: usize,
    samples: Vec<String>,
}

impl Found {
    /// Takes up what has become of a record, or of all where they are run together.
    fn take(&mut self, batch: &Batch, before: &Made, now: &Made, kept: &BTreeSet<String>) {
        self.records += now.records;
        if before.records == 0 && now.records == 0 {
            return;
        }
        let only = |made: &Made| made.rows.iter().map(|row| row.only(kept)).collect::<Vec<Row>>();
        let (old, new) = (only(before), only(now));
        let difference = compare(&old, &new);
        let (was_rejected, is_rejected) = (before.dead_letters.len(), now.dead_letters.len());
        let counted = match () {
            () if difference.is_none() && was_rejected == is_rejected => return self.same += now.records,
            () if is_rejected > was_rejected => &mut self.rejected,
            () if was_rejected > is_rejected => &mut self.mended,
            () if new.is_empty() => &mut self.gone,
            () if old.is_empty() => &mut self.come,
            () => &mut self.changed,
        };
        *counted += 1;
        // Where a record makes one row in both, all their fields are compared, however few are alike.
        let pairs = if old.len() == 1 && new.len() == 1 { vec![(0, 0)] } else { difference.changed };
        let changes = pairs.iter().flat_map(|(at, other)| old[*at].changes(&new[*other]));
        let names: BTreeSet<String> = changes.map(|(name, ..)| name).collect();
        names.into_iter().for_each(|name| *self.fields.entry(name).or_default() += 1);
        if self.samples.len() < self.samples_max {
            self.samples.push(shown(batch, before, now));
        }
    }

    fn print(&self, what: &str, to: &mut dyn Write) -> io::Result<()> {
        if self.records == 0 {
            return writeln!(to, "\nno records to try {what}");
        }
        writeln!(to, "\ntried {} {what}", counted(self.records, "record", "records"))?;
        let fields = self.fields.iter().map(|(name, count)| format!("{} in {}", escape::line(name), thousands(*count))).join(", ");
        let fields = if fields.is_empty() { fields } else { format!(": {fields}") };
        for (count, says) in [
            (self.same, "the same rows"),
            (self.changed, "other rows"),
            (self.gone, "rows before, none now"),
            (self.come, "no rows before, some now"),
            (self.rejected, "rows before, dead letters now"),
            (self.mended, "dead letters before, rows now"),
        ] {
            let fields = if says == "other rows" { fields.as_str() } else { "" };
            if count > 0 {
                writeln!(to, "  {:>9}  {says}{fields}", thousands(count))?;
            }
        }
        self.samples.iter().try_for_each(|sample| write!(to, "\n{sample}"))
    }
}

/// Shows a record with the rows that were made of it, and those that would be.
fn shown(batch: &Batch, before: &Made, now: &Made) -> String {
    let record = match &batch.chunks[..] {
        [chunk] => {
            let letter = reject_undecoded(chunk, Phase::Decode, "".into());
            let text = String::from_utf8_lossy(&letter.bytes);
            format!("  {} at {}: {}\n", escape::line(&chunk.range.partition.label), letter.offset, escape::beginning(&text, SHOWN_BYTES))
        }
        chunks => format!("  {} records together\n", chunks.len()),
    };
    let rows = |sign: char, made: &Made| {
        let rows = made.rows.iter().map(move |row| format!("    {sign} {}\n", row.shown()));
        let letters = made.dead_letters.iter().map(move |letter: &DeadLetter| format!("    {sign} rejected: {}\n", letter.reason));
        let none = (made.rows.is_empty() && made.dead_letters.is_empty()).then(|| format!("    {sign} no row\n"));
        rows.chain(letters).chain(none).collect::<String>()
    };
    record + &rows('-', before) + &rows('+', now)
}
