//! Writer: appends frames to the open Parquet files and commits them at a barrier.
//!
//! Owns: the checkpoint being written (files, dead letters, offsets, counts), stopping or pausing where too much is rejected (waiting is in
//! `wait`), and telling the monitor and the producer what is committed.
//! Does not own: SQL, batching, the interval, the steps of a commit (see `pintail_storage::checkpoint::store`), what happens at start
//! (see `pintail_storage::checkpoint::recovery`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use chrono::Utc;
use pintail_config::Config;
use pintail_core::batch::{Barrier, Counts, DeadLetter, Frame, LetterForm, LookupVersion, Phase, Transformed, Trigger};
use pintail_core::breaker::{self, DeadLetterConfig, Tally, UNITS_MIN, WhenRejected};
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::invocation::again_with;
use pintail_core::offsets::{OffsetRange, Offsets, PartitionId};
use pintail_core::reasons::{Reason, Reasons};
use pintail_core::totals::Totals;
use pintail_sink::files::{OpenFiles, Unplaced};
use pintail_storage::checkpoint::dead_letters::DeadLetterFile;
use pintail_storage::checkpoint::held;
use pintail_storage::checkpoint::lock::Lock;
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::store::Draft;
use pintail_storage::dataset::OpenDataset;
use tokio::sync::{Notify, mpsc, watch};

use crate::meters::Meters;
use crate::progress::{CheckpointDone, Progress};
use crate::stages::blocking;

mod wait;

/// Rejected records of each reason that are shown.
const REASON_SAMPLES: usize = 3;

/// The fourth stage.
pub(crate) struct Writer {
    /// From the transformer.
    pub input: mpsc::Receiver<Transformed>,
    /// The checkpoint being written: moved into the blocking pool and back.
    pub checkpoint: Checkpoint,
    /// Tells the producer what is durable.
    pub committed: watch::Sender<Arc<Offsets>>,
    /// To the monitor, which may be slow: what does not fit is merged into the next message.
    pub progress: mpsc::Sender<Progress>,
    /// Groups that the monitor shows by name.
    pub groups_max: usize,
    /// Turns true when the line shall stop.
    pub stop: watch::Receiver<bool>,
}

/// What became of a frame.
enum Appended {
    /// It is part of the open checkpoint.
    Taken,
    /// Too much of it was rejected: what came before it is committed, and it is not taken in.
    Held(Box<Frame>, Suspicion),
}

/// Why a frame is held back.
struct Suspicion {
    /// What was rejected up to its end.
    tally: Tally,
    /// Why the first record of that was, if it is known still.
    reason: Option<Reason>,
}

impl Writer {
    /// Writes until the last barrier. If the input breaks off before it, nothing of the open checkpoint is committed.
    pub(crate) async fn run(self) -> Result<()> {
        let Self { mut input, mut checkpoint, committed, progress, groups_max, mut stop } = self;
        checkpoint = blocking("writer", move || {
            // Of a process before this one: it is held back again where it still is too much.
            held::withdraw(&checkpoint.local);
            Ok(checkpoint)
        })
        .await?;
        let mut pending = Progress::default();
        let (mut last, mut appended) = (None, Appended::Taken);
        loop {
            let message = match appended {
                Appended::Held(frame, suspicion) => {
                    checkpoint = wait::wait_for_acceptance(checkpoint, &frame, suspicion, &mut stop).await?;
                    Some(Transformed::Frame(frame))
                }
                Appended::Taken => input.recv().await,
            };
            let Some(message) = message else { break };
            let next;
            let work = checkpoint.meters.writer.begin();
            (checkpoint, next, appended, last) = blocking("writer", move || {
                let _work = work;
                match message {
                    Transformed::Frame(frame) => {
                        let (next, appended) = checkpoint.append(*frame, groups_max)?;
                        Ok((checkpoint, next, appended, last))
                    }
                    Transformed::Barrier(barrier) => {
                        let next = checkpoint.commit(barrier)?;
                        Ok((checkpoint, next, Appended::Taken, Some(barrier.trigger)))
                    }
                }
            })
            .await?;
            if !next.checkpoints.is_empty() {
                committed.send_replace(Arc::new(checkpoint.store.offsets().clone()));
            }
            pending.merge(next, groups_max);
            pending = offer(&progress, pending);
        }
        let is_whole = matches!(last, Some(Trigger::End | Trigger::Shutdown));
        // Blocking: closing the file of dead letters may write what it holds.
        blocking("writer", move || {
            match is_whole {
                true => checkpoint.store.close(),
                false => checkpoint.discard(),
            }
            Ok(())
        })
        .await?;
        // The writer is done: now the monitor may take its time.
        let _ = progress.send(pending).await;
        Ok(())
    }
}

/// Offers the monitor what it has not heard; returns what it has still not heard.
fn offer(progress: &mpsc::Sender<Progress>, pending: Progress) -> Progress {
    match progress.try_send(pending) {
        Ok(()) => Progress::default(),
        Err(mpsc::error::TrySendError::Full(pending) | mpsc::error::TrySendError::Closed(pending)) => pending,
    }
}

/// The checkpoint being written. Blocking.
pub(crate) struct Checkpoint {
    store: OpenDataset,
    /// Where this machine's processes tell each other what is held back.
    local: Paths,
    files: OpenFiles,
    facts: Facts,
    open: Open,
    /// The last barrier.
    epoch: u64,
    /// The rejections that nobody has accepted, since the share of them was no larger than is allowed at the end of a checkpoint: a stream that
    /// is slow and all wrong is noticed too.
    tally: Tally,
    when_rejected: WhenRejected,
    /// Whether frames of a batch were taken whose last one is still to come.
    is_amid: bool,
    meters: Arc<Meters>,
    /// Asks the batcher for a checkpoint before its time.
    early: Arc<Notify>,
    /// Held as long as anything here may still write, also on a blocking thread that nobody waits for any more.
    lock: Arc<Lock>,
}

/// What every record of this process says.
struct Facts {
    schema: SchemaRef,
    config_sha256: String,
    sql_sha256: Arc<str>,
    dead_letters: DeadLetterConfig,
}

/// What the open checkpoint has gathered.
#[derive(Default)]
struct Open {
    offsets: Offsets,
    counts: Counts,
    lookups: Arc<[LookupVersion]>,
    totals: Totals,
    dead_letters: Option<DeadLetterFile>,
    /// The first rejection: if there are too many, this is what the operator reads.
    first_rejection: Option<Reason>,
    /// The rejections by reason.
    reasons: Reasons,
    /// Whether the files have been told of this checkpoint.
    begun: bool,
    /// Whether its end was asked for before its time.
    is_to_end: bool,
}

impl Open {
    fn after(store: &OpenDataset) -> Self {
        Self { offsets: store.offsets().clone(), ..Self::default() }
    }
}

impl Checkpoint {
    /// Opens the checkpoint that follows the store's last one.
    pub(crate) fn new(
        (store, lock): (OpenDataset, Arc<Lock>),
        files: OpenFiles,
        schema: SchemaRef,
        config: &Config,
        when_rejected: WhenRejected,
        (meters, early): (Arc<Meters>, Arc<Notify>),
    ) -> Self {
        let facts = Facts {
            schema,
            config_sha256: config.sha256.clone(),
            sql_sha256: config.transform.sql_sha256().into(),
            dead_letters: config.dead_letters.clone(),
        };
        Self {
            open: Open::after(&store),
            epoch: 0,
            tally: Tally::default(),
            store,
            local: config.local_paths(),
            files,
            facts,
            when_rejected,
            is_amid: false,
            meters,
            early,
            lock,
        }
    }

    /// Appends the rows and dead letters of a frame and takes its offsets in; unless the line is to pause over it.
    fn append(&mut self, frame: Frame, groups_max: usize) -> Result<(Progress, Appended)> {
        let is_part = std::mem::replace(&mut self.is_amid, frame.is_part);
        let tally = self.tally.plus(self.tally_of(&frame));
        if is_part || self.open.offsets.is_cut() {
            // Its first rows are written, or no checkpoint may end before it: it is taken. What was rejected of it counts for the batch behind it.
            self.tally = tally;
            return Ok((self.take_in(frame, groups_max)?, Appended::Taken));
        }
        if self.when_rejected == WhenRejected::Pause && tally.units >= UNITS_MIN && self.is_too_much(tally) {
            let reason = frame.dead_letters.first().map(|letter| letter.reason.clone()).or_else(|| self.open.first_rejection.clone());
            let before = self.commit(Barrier { epoch: self.epoch, trigger: Trigger::Interval })?;
            return Ok((before, Appended::Held(Box::new(frame), Suspicion { tally, reason })));
        }
        self.tally = tally;
        Ok((self.take_in(frame, groups_max)?, Appended::Taken))
    }

    fn take_in(&mut self, frame: Frame, groups_max: usize) -> Result<Progress> {
        let Frame { is_part, units, rows, origins, ranges, mut counts, dead_letters, totals, lookups, memory: _memory, .. } = frame;
        self.open.lookups = lookups;
        if !self.open.begun {
            self.files.begin(self.store.staging(), self.store.paths().checkpoint_name(self.store.next_sequence()), Utc::now());
            self.open.begun = true;
        }
        let unplaced = self.files.append(rows)?;
        self.meters.memory.set_files(self.files.held_bytes() + self.files.written_bytes());
        counts.rows_out -= unplaced.len() as u64;
        counts.dead_letters.sink += unplaced.len() as u64;
        // Where they have no place is known only here: what was rejected so counts for the batch behind it.
        self.tally.rejected += unplaced.len() as u64;
        self.tally.units += units.min(unplaced.len() as u64);
        if self.files.is_due() {
            self.end_early();
        }
        let batch = ranges.first();
        let unplaced = unplaced.into_iter().filter_map(|row| {
            let origin = origins.get(row.row).cloned().flatten();
            Some(without_place(row, origin, batch?))
        });
        // The ranges first: they bring the names of the partitions.
        if !is_part {
            self.meters.count_taken(&ranges);
        }
        for range in &ranges {
            if !is_part {
                self.open.offsets.extend(range)?;
            } else if self.open.offsets.next_offset(&range.partition.id).is_none() {
                // Once: where partitions take turns in a batch, each comes several times.
                self.open.offsets.extend(&OffsetRange::new(range.partition.clone(), range.from, range.from))?;
            }
        }
        for letter in dead_letters.into_iter().chain(unplaced) {
            self.reject(&letter)?;
        }
        self.open.counts.add(&counts);
        self.meters.writer.count(counts.records_in);
        self.meters.ledger().appended(&counts);
        self.open.totals.merge(&totals, groups_max);
        Ok(Progress {
            records: counts.records_in,
            dead_letters: counts.dead_letters.total(),
            open: self.open.totals.clone(),
            ..Progress::default()
        })
    }

    /// Asks, once, for the end of the checkpoint. It ends behind what the source read at once, which only the batcher knows.
    fn end_early(&mut self) {
        if !std::mem::replace(&mut self.open.is_to_end, true) {
            self.early.notify_one();
        }
    }

    fn reject(&mut self, letter: &DeadLetter) -> Result<()> {
        if self.open.dead_letters.is_none() {
            self.open.dead_letters =
                Some(DeadLetterFile::create(self.files.staging_mut()?, self.store.paths().dead_letters_of(self.store.next_sequence()))?);
        }
        let file = self.open.dead_letters.as_mut().expect("made above");
        let is_replayed = letter.partition.is_of_dead_letters();
        file.write(letter, is_replayed.then_some(&self.facts.sql_sha256))?;
        if file.bytes() >= self.facts.dead_letters.bytes_max {
            self.end_early();
        }
        self.open.first_rejection.get_or_insert_with(|| letter.reason.clone());
        let label = || self.open.offsets.label(&letter.partition).unwrap_or(letter.partition.as_str());
        self.open.reasons.add(letter, || format!("{}@{}", label(), letter.offset), REASON_SAMPLES);
        Ok(())
    }

    /// Commits what came before the barrier. An empty offset range commits nothing; one that moved is recorded even without files.
    fn commit(&mut self, barrier: Barrier) -> Result<Progress> {
        let started = Instant::now();
        self.epoch = barrier.epoch;
        if self.open.offsets.is_cut() {
            return Err(Error::internal("a checkpoint would end amid what the source read at once, where it could not go on"));
        }
        if !self.open.offsets.moved() {
            self.discard();
            self.meters.ledger().closed(barrier.epoch);
            return Ok(Progress::default());
        }
        self.check_rejected()?;
        let (staging, mut files) = self.files.finish()?;
        self.meters.memory.set_files(0);
        let (data_files, bytes) = (files.len() as u64, files.iter().map(|file| file.staged.bytes).sum());
        if let Some(dead_letters) = self.open.dead_letters.take() {
            files.push(dead_letters.finish()?);
        }
        let open = std::mem::take(&mut self.open);
        assert!(open.counts.balance(), "records are not accounted for: {:?}", open.counts);
        self.lock.check()?;
        let record = self.store.commit(
            staging,
            Draft {
                offsets: open.offsets,
                counts: open.counts,
                files,
                schema: self.facts.schema.clone(),
                trigger: barrier.trigger,
                lookups: open.lookups.to_vec(),
                config_sha256: self.facts.config_sha256.clone(),
                sql_sha256: self.facts.sql_sha256.to_string(),
                time: Utc::now(),
            },
        )?;
        if !self.facts.dead_letters.is_above(self.tally.rejected, self.tally.records) {
            self.tally = Tally::default();
        }
        let (sequence, took) = (record.sequence, started.elapsed());
        self.meters.ledger().committed(record, barrier.epoch, took, open.reasons);
        self.meters.checkpoint_seconds.observe(took.as_secs_f64());
        self.open = Open::after(&self.store);
        let done = CheckpointDone {
            sequence,
            trigger: barrier.trigger,
            files: data_files,
            bytes,
            counts: open.counts,
            took,
            at: Instant::now(),
            totals: open.totals.clone(),
        };
        Ok(Progress { committed: Some(open.totals), checkpoints: vec![done], ..Progress::default() })
    }

    /// Counts the rejections of a frame that nobody has accepted.
    fn tally_of(&self, frame: &Frame) -> Tally {
        let rest = self.store.state().rest();
        let ids = frame.ranges.iter().map(|range| (&range.partition.id, rest.accepted_up_to(&range.partition.id, &range.partition.label)));
        let accepted: BTreeMap<_, _> = ids.filter_map(|(id, up_to)| Some((id, up_to?))).collect();
        let is_accepted = |letter: &&DeadLetter| accepted.get(&letter.partition).is_some_and(|to| letter.offset < *to);
        let accepted = if accepted.is_empty() { 0 } else { frame.dead_letters.iter().filter(is_accepted).count() as u64 };
        let rejected = frame.counts.dead_letters.total() - accepted;
        let units = if rejected == 0 { 0 } else { frame.rejected_units };
        Tally { records: frame.counts.records_in, rejected, units }
    }

    fn is_too_much(&self, tally: Tally) -> bool {
        breaker::is_too_much(tally, &self.facts.dead_letters, self.store.state().rest().usual)
    }

    /// Refuses a checkpoint of which too much was rejected, where the line ends by itself: a wrong schema must not eat the input.
    fn check_rejected(&self) -> Result<()> {
        if self.when_rejected != WhenRejected::Stop || !self.is_too_much(self.tally) {
            return Ok(());
        }
        let (Tally { records, rejected, .. }, ratio_max) = (self.tally, self.facts.dead_letters.ratio_max);
        let reason = self.open.first_rejection.as_deref().unwrap_or("no reason known");
        Err(Error::new(
            ErrorKind::DeadLetters,
            format!(
                "{rejected} of {records} records were rejected, more than dead_letters.ratio_max = {ratio_max}; nothing of this \
                 checkpoint is committed; fix the schema or the SQL, or let them pass as dead letters once with {}; the first: {reason}",
                again_with("dead_letters.ratio_max=1")
            ),
        ))
    }

    /// Drops what is not committed. The offsets stay at the last commit, so it is read again.
    fn discard(&mut self) {
        self.open = Open::after(&self.store);
        self.files.discard();
    }
}

/// Turns an output row that has no place into a dead letter. Where its record is not known, its batch is.
fn without_place(row: Unplaced, origin: Option<(PartitionId, u64)>, batch: &OffsetRange) -> DeadLetter {
    let unknown = if origin.is_some() { "" } else { " (the place is that of its batch)" };
    let (partition, offset) = origin.unwrap_or_else(|| (batch.partition.id.clone(), batch.from));
    DeadLetter {
        phase: Phase::Sink,
        reason: format!("{}{unknown}", row.reason).into(),
        partition,
        offset,
        form: LetterForm::OutputRow,
        length: row.row_json.len() as u64,
        bytes: row.row_json.into(),
        message: None,
    }
}
