//! A dataset of Kafka, as far as its source knows of it: driven without the rest of the line, on a broker whose logs can be cut, elected,
//! deleted, compacted and made again.

use std::time::{Duration, Instant};

use pintail_core::batch::Records;
use pintail_core::error::{Error, ErrorKind};
use pintail_core::evidence::Key;
use pintail_core::identity::Instance;
use pintail_core::offsets::{NoteKind, Offsets, Span};
use pintail_sources::OnGap;
use pintail_sources::kafka::KafkaSource;
use pintail_sources::kafka::config::KafkaConfig;
use pintail_sources::{Resume, Source as _};
use tokio::runtime::Runtime;

use crate::common::PATIENCE;
use crate::common::broker::log::Log;
use crate::common::broker::{Age, Broker};

pub(super) const TOPIC: &str = "events";
pub(super) const AGES: [Age; 3] = [Age::Old, Age::WithoutIds, Age::WithIds];
/// Time in which a reader that has nothing to say says nothing.
const QUIET: Duration = Duration::from_millis(1500);

/// A dataset, as far as a source knows of it.
pub(super) struct Dataset {
    pub broker: Broker,
    pub topics: Vec<String>,
    pub runtime: Runtime,
    pub key: Key,
    /// What is committed.
    pub offsets: Offsets,
    /// The records that were committed, in their order.
    pub records: Vec<String>,
    /// The notes that were committed.
    pub notes: Vec<(NoteKind, String)>,
}

/// A start of the source.
pub(super) struct Run<'a> {
    pub dataset: &'a mut Dataset,
    pub source: KafkaSource,
    pub offsets: Offsets,
    pub records: Vec<String>,
}

impl Dataset {
    pub(super) fn new(age: Age) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let broker = Broker::start(age, TOPIC, 1);
        Self {
            broker,
            topics: vec![TOPIC.to_owned()],
            runtime,
            key: Key::new([7; 32]),
            offsets: Offsets::default(),
            records: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Returns one that has read the numbers up to `count`.
    pub(super) fn having_read(age: Age, count: i64) -> Self {
        let mut dataset = Self::new(age);
        dataset.log(|log| log.append(numbers(0, count)));
        dataset.start().read(count as usize).commit();
        dataset
    }

    pub(super) fn log<T>(&self, act: impl FnOnce(&mut Log) -> T) -> T {
        self.broker.log(TOPIC, 0, act)
    }

    pub(super) fn start(&mut self) -> Run<'_> {
        self.start_with(OnGap::Refuse)
    }

    fn config(&self, on_gap: OnGap) -> KafkaConfig {
        KafkaConfig {
            brokers: vec![self.broker.address()],
            topics: self.topics.clone(),
            group: "pintail".to_owned(),
            on_gap,
            password: None,
            properties: Default::default(),
            partitions_interval: Duration::from_secs(30),
            instance: Instance::default(),
        }
    }

    pub(super) fn start_with(&mut self, on_gap: OnGap) -> Run<'_> {
        let config = self.config(on_gap);
        let source = KafkaSource::open(&config, 1 << 20, &Resume { offsets: &self.offsets, key: &self.key }).unwrap();
        let offsets = self.offsets.clone();
        Run { dataset: self, source, offsets, records: Vec::new() }
    }

    /// Starts, and returns the refusal, which `pintail check` sees, too.
    pub(super) fn refused(&mut self) -> String {
        let seen = self.checked(OnGap::Refuse).unwrap_err();
        let error = self.start().fail();
        assert_eq!((error.kind(), seen.kind()), (ErrorKind::State, ErrorKind::State), "{error}; {seen}");
        let text = error.to_string();
        assert_eq!(text, seen.to_string());
        self.checked(OnGap::Record).unwrap();
        assert!(text.contains("`events[") && text.contains("on_gap") && text.contains("--accept"), "{text}");
        text
    }

    /// Does what `pintail check` does.
    pub(super) fn checked(&self, on_gap: OnGap) -> Result<String, Error> {
        KafkaSource::probe(&self.config(on_gap), 1 << 20, &Resume { offsets: &self.offsets, key: &self.key })
    }

    /// Starts, reads what there is and commits it; returns the kinds of the notes made.
    pub(super) fn read_on(&mut self, on_gap: OnGap, count: usize) -> Vec<NoteKind> {
        let before = self.notes.len();
        self.start_with(on_gap).read(count).commit();
        self.notes[before..].iter().map(|(kind, _)| *kind).collect()
    }

    /// Forgets the evidence, as a record of version 1 has none.
    pub(super) fn forget_evidence(&mut self) {
        let spans = self.offsets.spans().map(|(id, span)| (id.clone(), Span { evidence: None, ..span.clone() }));
        self.offsets = Offsets::from_spans(spans.collect::<Vec<_>>());
    }

    /// Returns the next offset of the partition that was read last.
    pub(super) fn next(&self) -> u64 {
        self.offsets.spans().last().unwrap().1.to
    }
}

impl Run<'_> {
    /// Reads one chunk, or nothing for a while.
    pub(super) fn turn(&mut self) -> Result<(), Error> {
        let patience = Duration::from_millis(50);
        let read = self.dataset.runtime.block_on(async { tokio::time::timeout(patience, self.source.read()).await });
        let Ok(chunk) = read else { return Ok(()) };
        let chunk = chunk?.expect("a topic does not end");
        assert!(chunk.range.evidence.is_some(), "a checkpoint may end behind any chunk: {:?}", chunk.range);
        self.offsets.extend(&chunk.range).unwrap();
        if let Records::Payloads(payloads) = chunk.records {
            let payload = |at| String::from_utf8(payloads.message(at).payload.unwrap().to_vec()).unwrap();
            self.records.extend((0..payloads.len()).map(payload));
        }
        Ok(())
    }

    pub(super) fn until(mut self, what: &str, done: impl Fn(&Self) -> bool) -> Self {
        let begun = Instant::now();
        while !done(&self) {
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}; read {:?}", self.records);
            self.turn().unwrap();
        }
        self
    }

    /// Reads so many records, and no more.
    pub(super) fn read(self, count: usize) -> Self {
        let run = self.until("records, and no lag", |run| run.records.len() >= count && run.source.remaining() == Some(0));
        assert_eq!(run.records.len(), count, "{:?}", run.records);
        run
    }

    /// Reads on for a while, in which nothing comes.
    pub(super) fn quiet(mut self) -> Self {
        let (begun, before) = (Instant::now(), self.records.len());
        while begun.elapsed() < QUIET {
            self.turn().unwrap();
        }
        assert_eq!(self.records.len(), before, "{:?}", self.records);
        self
    }

    /// Reads until it fails.
    pub(super) fn fail(mut self) -> Error {
        let begun = Instant::now();
        loop {
            if let Err(error) = self.turn() {
                return error;
            }
            assert!(begun.elapsed() < PATIENCE, "read in silence: {:?}", self.records);
        }
    }

    pub(super) fn commit(self) {
        self.dataset.offsets = self.offsets.committed();
        self.dataset.notes.extend(self.offsets.notes().iter().map(|(_, note)| (note.kind, note.text.clone())));
        self.dataset.records.extend(self.records);
    }
}

pub(super) fn numbers(from: i64, to: i64) -> Vec<String> {
    (from..to).map(|number| number.to_string()).collect()
}
