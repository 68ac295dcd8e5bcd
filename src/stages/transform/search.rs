//! Search: finds the records that the SQL fails on, and sets them aside.
//!
//! Owns: what must be seen of a record before it is a dead letter, the order in which records are tried, saying how far the search is.
//! Does not own: what a failure is (see `worker`), guessing at culprits (see `probe`), the rows of the good records (see `transform`).
//!
//! A record is set aside only if it has failed among others *and* alone, the first ones twice. What failed among others and passes in smaller parts failed by
//! chance, and its rows are good. A record that fails alone and then passes shows that the SQL cannot be reproduced, and what fails even on no
//! records at all is nobody's fault: both stop the line. The good records go through the SQL as it was written, so their rows are the SQL's
//! own, whoever named the others.
//!
//! 1. The probe names suspects. Of those that are alike, some are tried alone; if they fail, the others have the same fate and the same
//!    reason, and have failed in DuckDB's `TRY` besides.
//! 2. The rest goes through the SQL at once, also those that are like others which have passed alone. If it fails, the probe is asked for more.
//! 3. If that fails, its records are tried in runs. Each failure tells which of them DuckDB had taken last: those before it pass in one
//!    run, and the few that are left are tried in smaller ones. A hint that leads nowhere is not followed again: then the runs are halves.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::time::{Duration, Instant};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use pintail_core::batch::{Counts, Phase};
use pintail_core::breaker::{Tally, is_too_much};
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::invocation::{again_with, command};
use pintail_core::reasons::Reason;
use pintail_decode::Decoded;
use pintail_duckdb::{Class, Failure, FailureKind, Scope, Suspect, VECTOR_ROWS};
use tracing::{info, warn};

use super::{Draft, Fault, Part, Transform};

/// Suspects of one class that are tried alone, for their own reasons: each run takes a millisecond.
const TRIED_PER_CLASS: usize = 4;
/// Suspects of a class that need not be alike which are tried alone, and all pass, before the others are run with the rest.
const PASSED_PER_CLASS: usize = 16;
/// Into how many runs those are cut that hold a culprit.
const PARTS: usize = 64;
/// So few records are handed to DuckDB one by one: that costs less than another run.
const SINGLY: usize = 256;
/// Records that are tried alone twice, which shows whether failures can be reproduced.
const TRIED_TWICE: u64 = 16;
/// Hints that may lead nowhere in one batch.
const MISLED_MAX: usize = 3;
/// Time between two lines of the log that say how far the search is.
const SAID_EVERY: Duration = Duration::from_secs(1);

/// The search in one batch.
pub(super) struct Search<'a, 'd> {
    transform: &'a mut Transform,
    decoded: &'a Decoded,
    draft: &'a mut Draft<'d>,
    /// What the suspects that were tried said of their class.
    known: HashMap<Class, Known>,
    misled: usize,
    searched: usize,
    said: Instant,
}

/// What is known of suspects of one class.
struct Known {
    /// How many failed alone, and how many passed.
    failed: usize,
    passed: usize,
    /// For those that are not tried alone.
    reason: Reason,
}

impl Known {
    /// Returns whether a suspect is a culprit, if that is known without trying it.
    fn verdict(&self, is_alike: bool) -> Option<bool> {
        let enough = if is_alike { TRIED_PER_CLASS } else { PASSED_PER_CLASS };
        match (self.failed, self.passed) {
            (failed, 0) if is_alike && failed >= enough => Some(true),
            // That they pass is seen when they are run with the rest.
            (0, passed) if passed >= enough => Some(false),
            _ => None,
        }
    }
}

/// What a record that has failed alone does once more.
enum Alone {
    Passes(RecordBatch),
    Fails(Phase, Failure),
}

/// Puts those to the front that tell what becomes of their class: they lie all over it, so that a class that is none shows it.
fn samples_first(suspects: Vec<Suspect>) -> Vec<Suspect> {
    let mut classes: HashMap<Class, Vec<usize>> = HashMap::new();
    for (index, suspect) in suspects.iter().enumerate() {
        classes.entry(suspect.class).or_default().push(index);
    }
    let samples = classes.values().flat_map(|of_one| (0..TRIED_PER_CLASS).map(|n| of_one[n * (of_one.len() - 1) / (TRIED_PER_CLASS - 1)]));
    let samples: BTreeSet<usize> = samples.collect();
    let (first, others): (Vec<_>, Vec<_>) = suspects.into_iter().enumerate().partition(|(index, _)| samples.contains(index));
    first.into_iter().chain(others).map(|(_, suspect)| suspect).collect()
}

/// Records that are looked at, and which rows of the batch they are.
struct Records {
    batch: RecordBatch,
    rows: Vec<usize>,
}

impl Records {
    fn part(&self) -> Part<'_> {
        Part { records: &self.batch, rows: Some(&self.rows) }
    }
}

impl<'a, 'd> Search<'a, 'd> {
    pub(super) fn new(transform: &'a mut Transform, decoded: &'a Decoded, draft: &'a mut Draft<'d>) -> Self {
        Self { transform, decoded, draft, known: HashMap::new(), misled: 0, searched: 0, said: Instant::now() }
    }

    /// Sets the culprits aside and puts the others through, after the batch has failed.
    pub(super) fn run(mut self, phase: Phase, failure: Failure) -> Result<(), Fault> {
        let all = &self.decoded.batch;
        self.try_none(&failure)?;
        let reason = Reason::from(failure.reason.as_str());
        let (records, advice) = (all.num_rows(), advice(&failure));
        match phase {
            Phase::Sink => warn!(records, %reason, "rows of a batch have no place: setting their records aside"),
            _ => warn!(records, %reason, %advice, "the SQL fails on a batch: setting the records aside that it fails on"),
        }
        let mut rest = Records { batch: all.clone(), rows: (0..records).collect() };
        let mut failed = (phase, failure);
        for scope in [Scope::Likely, Scope::All] {
            if failed.0 != Phase::Sql || !failed.1.kind.is_of_a_value() {
                break;
            }
            let Some(good) = self.without_suspects(&rest, scope)? else { continue };
            rest = good;
            match self.transform.attempt(rest.part(), VECTOR_ROWS, self.draft) {
                Ok(()) => return self.look_up(rest.rows.len()),
                Err(Fault::Suspect(phase, failure)) => failed = (phase, failure),
                Err(other) => return Err(other),
            }
        }
        let whole = 0..rest.rows.len();
        self.put_through(&rest, whole, VECTOR_ROWS, Some(failed))
    }

    /// Sets the culprits among the suspects aside; returns the other records, or nothing if none of them is one.
    fn without_suspects(&mut self, records: &Records, scope: Scope) -> Result<Option<Records>, Fault> {
        let suspects = self.transform.worker.suspects(&records.batch, scope)?;
        let mut is_good = vec![true; records.rows.len()];
        for suspect in samples_first(suspects) {
            self.look_up(1)?;
            is_good[suspect.row] = !self.judge(records, suspect)?;
        }
        if is_good.iter().all(|is_good| *is_good) {
            return Ok(None);
        }
        if scope == Scope::All {
            self.transform.worker.note_that_all_are_needed();
        }
        let rows = records.rows.iter().zip(&is_good).filter(|(_, is_good)| **is_good).map(|(row, _)| *row).collect();
        let batch = filter_record_batch(&records.batch, &BooleanArray::from(is_good));
        let batch = batch.map_err(|e| Error::internal("cannot cut a batch").with_source(e))?;
        Ok(Some(Records { batch, rows }))
    }

    /// Runs the SQL on no records: what fails then is no record's fault.
    fn try_none(&mut self, failure: &Failure) -> Result<(), Fault> {
        let none = self.decoded.batch.slice(0, 0);
        match self.transform.worker.run(&none).map_err(Fault::from) {
            Ok(_) => Ok(()),
            Err(Fault::Suspect(..)) if self.shall_stop() => Err(Fault::GivenUp),
            Err(Fault::Suspect(..)) => Err(Fault::Fatal(Error::internal(format!(
                "the SQL fails on no records at all, which it did not at start: {}; nothing of this checkpoint is committed",
                Reason::from(failure.reason.as_str())
            )))),
            Err(other) => Err(other),
        }
    }

    /// Returns whether a suspect is a culprit, which is then set aside.
    fn judge(&mut self, records: &Records, suspect: Suspect) -> Result<bool, Fault> {
        let row = records.rows[suspect.row];
        let known = self.known.get(&suspect.class);
        match known.and_then(|known| Some((known.verdict(suspect.is_alike)?, known.reason.clone()))) {
            Some((true, reason)) => return self.set_aside(row, Phase::Sql, reason).map(|()| true),
            Some((false, _)) => return Ok(false),
            None => {}
        }
        let record = records.batch.slice(suspect.row, 1);
        let fault = match self.transform.worker.run(&record).map_err(Fault::from) {
            Ok(_) => return Ok(self.passes(suspect.class)),
            Err(fault) => fault,
        };
        let (phase, failure) = match fault {
            // It has failed in `TRY` too, which is the second time.
            Fault::Suspect(phase, failure) if failure.kind.is_of_a_value() => (phase, failure),
            fault => match self.once_more(&record, fault)? {
                Alone::Passes(_) => return Ok(self.passes(suspect.class)),
                Alone::Fails(phase, failure) => (phase, failure),
            },
        };
        let like = || Known { failed: 0, passed: 0, reason: Reason::as_another(&failure.reason) };
        let known = self.known.entry(suspect.class).or_insert_with(like);
        if known.failed == 0 {
            known.reason = Reason::as_another(&failure.reason);
        }
        known.failed += 1;
        self.set_aside(row, phase, failure.reason.into())?;
        Ok(true)
    }

    /// Records that a suspect has passed alone: it is no culprit.
    fn passes(&mut self, class: Class) -> bool {
        self.known.entry(class).or_insert_with(|| Known { failed: 0, passed: 0, reason: "".into() }).passed += 1;
        false
    }

    /// Runs a record that has failed alone once more; while nothing else runs, if that may have been the cause.
    fn once_more(&mut self, record: &RecordBatch, fault: Fault) -> Result<Alone, Fault> {
        let (phase, failure) = match fault {
            Fault::Suspect(Phase::Sql, failure) => (Phase::Sql, failure),
            // That its rows have no place does not hang on when it is run.
            Fault::Suspect(phase, failure) => return Ok(Alone::Fails(phase, failure)),
            other => return Err(other),
        };
        if self.shall_stop() {
            return Err(Fault::GivenUp);
        }
        let hangs_on_neighbours = failure.kind.hangs_on_neighbours();
        if !hangs_on_neighbours && self.draft.frame.counts.dead_letters.sql >= TRIED_TWICE {
            return Ok(Alone::Fails(phase, failure));
        }
        let worker = &mut self.transform.worker;
        let ran = if hangs_on_neighbours { worker.run_alone(record) } else { worker.run(record) };
        match ran.map_err(Fault::from) {
            Ok(rows) if hangs_on_neighbours => Ok(Alone::Passes(rows)),
            Ok(_) => Err(Fault::Fatal(not_reproducible(&failure))),
            Err(Fault::Suspect(_, failure)) => Ok(Alone::Fails(phase, failure)),
            Err(other) => Err(other),
        }
    }

    /// Puts the records `[from, to)` through in order, `at_a_time` handed to DuckDB at once; sets those aside that it fails on. `failed` says
    /// that they were run already, and how they failed.
    fn put_through(
        &mut self,
        records: &Records,
        range: Range<usize>,
        mut at_a_time: usize,
        failed: Option<(Phase, Failure)>,
    ) -> Result<(), Fault> {
        let Range { start: mut from, end: to } = range;
        let mut failed = failed.filter(|_| to - from > 1);
        while from < to {
            self.look_up(0)?;
            let known = match failed.take() {
                Some(known) => known,
                None => match self.attempt_part(records, from..to, at_a_time) {
                    Ok(()) => return self.look_up(to - from),
                    Err(Fault::Suspect(phase, failure)) => (phase, failure),
                    Err(other) => return Err(other),
                },
            };
            if to - from == 1 {
                return self.put_aside_or_through(records, from, known);
            }
            let (phase, failure) = known;
            let smaller = self.part(to - from, &failure);
            if failure.at == Some(0..to - from) && smaller < at_a_time && self.misled < MISLED_MAX {
                // They were all handed out at once: in smaller parts the hint says more.
                at_a_time = smaller;
                continue;
            }
            if failure.kind == FailureKind::TimedOut && failure.at.is_none() {
                // Each run over all that are left would take all the time that a run has, and halves would come to many of them.
                let part = (to - from).div_ceil(PARTS);
                return (from..to).step_by(part).try_for_each(|start| {
                    self.look_up(0)?;
                    self.put_through(records, start..to.min(start + part), at_a_time, None)
                });
            }
            let Range { start, end } = self.suspected(phase, &failure, to - from);
            let set_aside = self.draft.frame.counts.dead_letters.total();
            if start > 0 {
                self.put_through(records, from..from + start, VECTOR_ROWS, None)?;
            }
            self.put_through(records, from + start..from + end, self.part(end - start, &failure), None)?;
            // Parts of what passed a limit may well pass, and the hint was good.
            if failure.at.is_some() && failure.kind.is_of_a_value() && self.draft.frame.counts.dead_letters.total() == set_aside {
                self.misled += 1;
            }
            from += end;
        }
        Ok(())
    }

    fn attempt_part(&mut self, records: &Records, range: Range<usize>, at_a_time: usize) -> Result<(), Fault> {
        let batch = records.batch.slice(range.start, range.len());
        self.transform.attempt(Part { records: &batch, rows: Some(&records.rows[range]) }, at_a_time, self.draft)
    }

    fn place_one(&mut self, records: &Records, index: usize, rows: &RecordBatch) -> Result<(), Fault> {
        let batch = records.batch.slice(index, 1);
        self.transform.place(Part { records: &batch, rows: Some(&records.rows[index..=index]) }, rows, self.draft)
    }

    /// Returns which of so many records to try next after a failure, after those before them: fewer than all.
    fn suspected(&self, phase: Phase, failure: &Failure, count: usize) -> Range<usize> {
        let is_less = |hint: &Range<usize>| hint.end <= count && hint.len() < count && !hint.is_empty();
        let hint = failure.at.clone().filter(is_less).filter(|_| self.misled < MISLED_MAX);
        match hint {
            // To find the place of one row that has none takes a run over all, so the others of its run are tried with it.
            Some(hint) if phase == Phase::Sink => {
                let part = (count / PARTS).max(1);
                let start = hint.start / part * part;
                start..(start + part).min(count)
            }
            Some(hint) => hint,
            None => 0..count / 2,
        }
    }

    /// Returns how many of so many records are handed to DuckDB at a time after a failure. Each time-out that leads closer takes all the time
    /// that a run has, so there are as many parts as can be handed out in about a fifth of it.
    fn part(&self, records: usize, failure: &Failure) -> usize {
        let parts = match failure.kind {
            FailureKind::TimedOut => usize::try_from(self.transform.worker.timeout().as_millis() / 2).unwrap_or(usize::MAX).max(PARTS),
            _ => PARTS,
        };
        if records <= SINGLY { 1 } else { (records / parts).max(1) }
    }

    /// Sets a record aside that has failed alone, unless it passes while nothing else runs.
    fn put_aside_or_through(&mut self, records: &Records, index: usize, known: (Phase, Failure)) -> Result<(), Fault> {
        let (phase, failure) = match self.once_more(&records.batch.slice(index, 1), Fault::Suspect(known.0, known.1))? {
            Alone::Fails(phase, failure) => (phase, failure),
            Alone::Passes(rows) => match self.place_one(records, index, &rows) {
                Ok(()) => return self.look_up(1),
                Err(Fault::Suspect(phase, failure)) => (phase, failure),
                Err(other) => return Err(other),
            },
        };
        self.set_aside(records.rows[index], phase, failure.reason.into())?;
        self.look_up(1)
    }

    /// Returns whether the line shall stop. Then runs are interrupted, and what they say is not to be used.
    fn shall_stop(&self) -> bool {
        *self.transform.stop.borrow()
    }

    fn set_aside(&mut self, row: usize, phase: Phase, reason: Reason) -> Result<(), Fault> {
        if self.shall_stop() {
            return Err(Fault::GivenUp);
        }
        self.draft.frame.dead_letters.push(self.decoded.origins.dead_letter(row, phase, reason));
        *self.draft.frame.counts.dead_letters.phase_mut(phase) += 1;
        self.check_ratio()
    }

    /// Stops the search in a batch that is hopeless: record by record it would take minutes to come to the same end.
    fn check_ratio(&self) -> Result<(), Fault> {
        let Counts { records_in, dead_letters, .. } = self.draft.frame.counts;
        let tally = Tally { records: records_in, rejected: dead_letters.sql + dead_letters.sink, units: 0 };
        let Some((config, _)) = self.transform.stops_at.as_ref().filter(|(config, usual)| is_too_much(tally, config, *usual)) else {
            return Ok(());
        };
        let reason = self.draft.frame.dead_letters.first().map_or("no reason known", |letter| &*letter.reason);
        // The search ends here: how many more of the batch would fail is not known.
        let tried = (self.searched as u64).clamp(tally.rejected, records_in);
        Err(Fault::Fatal(Error::new(
            ErrorKind::DeadLetters,
            format!(
                "the SQL fails on {} of the {tried} records tried so far, of a batch of {records_in}: more than dead_letters.ratio_max = {} of it; nothing of this \
                 checkpoint is committed; fix the SQL or the input, or let them pass once with {}; the first reason: {reason}",
                tally.rejected,
                config.ratio_max,
                again_with("dead_letters.ratio_max=1")
            ),
        )))
    }

    /// Counts records that are done, says how far the search is, and gives it up if the line shall stop.
    fn look_up(&mut self, done: usize) -> Result<(), Fault> {
        self.searched += done;
        if self.shall_stop() {
            return Err(Fault::GivenUp);
        }
        if self.said.elapsed() >= SAID_EVERY {
            self.said = Instant::now();
            let (records, set_aside) = (self.decoded.batch.num_rows(), self.draft.frame.counts.dead_letters.total());
            info!(searched = self.searched.min(records), records, set_aside, "searching a batch for the records that the SQL fails on");
        }
        Ok(())
    }
}

/// What stops the line where the same record fails and passes.
fn not_reproducible(failure: &Failure) -> Error {
    Error::internal(format!(
        "the SQL fails on a record alone and then does not: its failures cannot be reproduced, so no record can be set aside for them; nothing of \
         this checkpoint is committed: {}",
        Reason::from(failure.reason.as_str())
    ))
}

/// What the operator may do about failures of this kind.
fn advice(failure: &Failure) -> Cow<'static, str> {
    match failure.kind {
        FailureKind::Conversion => "use TRY_CAST to take such values as NULL".into(),
        FailureKind::OutOfMemory => "raise transform.memory_limit or lower pipeline.batch_rows if this goes on".into(),
        FailureKind::TimedOut => "raise transform.timeout or lower pipeline.batch_rows if this goes on".into(),
        FailureKind::TooLarge => "raise transform.rows_bytes_max or lower pipeline.batch_rows if this goes on".into(),
        FailureKind::Broken | FailureKind::Other => format!("see {}", command("dead-letters")).into(),
    }
}
