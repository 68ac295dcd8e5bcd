//! A kind of source that another program brings along: one file, and one line where the configuration is loaded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pintail::source::{
    Chunk, Configured, Kind, OffsetRange, OffsetUnit, Partition, PartitionId, Records, Resume, Source, Surroundings, WhenRejected,
};
use pintail::{Config, ErrorKind, Pipeline, Result};
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::reader::Dataset;
use tokio::sync::Notify;

use crate::common::PATIENCE;

#[path = "../../examples/own_source.rs"]
mod example;

use example::{TICKS, settings};

async fn run(out: &str, count: u64) {
    let config = Config::load_with(&[TICKS], None, std::iter::empty(), &settings(out, count)).unwrap();
    Pipeline::builder(config).build().run().await.unwrap();
}

fn rows(out: &str) -> u64 {
    Dataset::open(std::path::Path::new(out)).unwrap().records().unwrap().map(|record| record.unwrap().counts.rows_out).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_of_ones_own_is_configured_read_and_gone_on_with_like_any_other() {
    let out = tempfile::tempdir().unwrap();
    let out = out.path().to_str().unwrap();
    run(out, 100).await;
    assert_eq!(rows(out), 100);
    run(out, 250).await;
    assert_eq!(rows(out), 250);
}

#[test]
fn its_keys_are_known_and_checked_like_those_of_others() {
    let load = |set: &str| Config::load_with(&[TICKS], None, std::iter::empty(), &[set.to_owned()]).unwrap_err().to_string();
    assert!(
        load("source.coutn=5").contains("`source.coutn` (--set): unknown key, did you mean `source.count`?"),
        "{}",
        load("source.coutn=5")
    );
    assert!(load("source.count=0").contains("`source.count` = 0"), "{}", load("source.count=0"));
    assert!(load("source.type=file").contains("expected one of \"ticks\""), "{}", load("source.type=file"));
}

/// Lines, and then nothing more for ever.
#[derive(Debug, Clone)]
struct Endless {
    lines: &'static str,
    when_rejected: WhenRejected,
    /// Told once the lines were taken.
    taken: Arc<Notify>,
}

const ENDLESS: Kind = Kind { name: "endless", keys: &[], read: |_, _| unreachable!("it is no part of a configuration"), owns: None };

impl Configured for Endless {
    fn kind(&self) -> &'static Kind {
        &ENDLESS
    }

    fn accepting_gaps(&self) -> Box<dyn Configured> {
        Box::new(self.clone())
    }

    fn open(&self, _around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Box<dyn Source>> {
        let next = resume.offsets.next_offset(&PartitionId::new("endless")).unwrap_or(0);
        Ok(Box::new(Opened { source: self.clone(), next: Some(next) }))
    }
}

struct Opened {
    source: Endless,
    next: Option<u64>,
}

#[async_trait::async_trait]
impl Source for Opened {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let Some(next) = self.next.take() else {
            self.source.taken.notify_one();
            return std::future::pending().await;
        };
        let partition = Arc::new(Partition { id: PartitionId::new("endless"), label: "endless".into() });
        let records = self.source.lines.lines().count() as u64;
        let range = OffsetRange::new(partition, next, next + records);
        Ok(Some(Chunk::new(Records::Lines(self.source.lines.into()), range, OffsetUnit::Records)))
    }

    fn when_rejected(&self) -> WhenRejected {
        self.source.when_rejected
    }
}

fn endless(lines: &'static str) -> Endless {
    Endless { lines, when_rejected: WhenRejected::Stop, taken: Arc::default() }
}

fn pipeline(out: &str, source: &Endless) -> pintail::Builder {
    let sets = [settings(out, 1), vec!["pipeline.batch_rows=1000".into()]].concat();
    let config = Config::load_with(&[TICKS], None, std::iter::empty(), &sets).unwrap();
    Pipeline::builder(config).source(source.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_is_dropped_lets_its_dataset_go_and_the_third_start_does_not_start_the_program_around_it_again() {
    let out = tempfile::tempdir().unwrap();
    let out = out.path().to_str().unwrap();
    let source = endless("{\"tick\":1}\n{\"tick\":2}\n");
    for _ in 0..2 {
        let begin = Instant::now();
        loop {
            tokio::select! {
                ended = pipeline(out, &source).build().run() => {
                    let error = ended.unwrap_err();
                    // The stages of the one before need a moment to go.
                    assert!(error.kind() == ErrorKind::TryAgain && begin.elapsed() < Duration::from_secs(10), "{error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                () = source.taken.notified() => break,
            }
        }
    }
    let begin = Instant::now();
    loop {
        let (pipeline, stop) = pipeline(out, &source).stop_handle();
        let ended = tokio::select! {
            ended = pipeline.build().run() => ended,
            () = async { source.taken.notified().await; stop.stop(); std::future::pending().await } => unreachable!("it stops"),
        };
        match ended {
            Ok(()) => break,
            Err(error) => assert!(error.kind() == ErrorKind::TryAgain && begin.elapsed() < Duration::from_secs(10), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rows(out), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_nobody_can_stop_waits_where_too_much_is_rejected() {
    let out = tempfile::tempdir().unwrap();
    let lines: &'static str = "no JSON\n".repeat(20_000).leak();
    let source = Endless { when_rejected: WhenRejected::Pause, ..endless(lines) };
    let held = Paths::new(out.path()).held();
    let paused = async {
        while !held.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // It would end with the next look.
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    tokio::select! {
        ended = pipeline(out.path().to_str().unwrap(), &source).build().run() => panic!("it ended: {ended:?}"),
        paused = tokio::time::timeout(PATIENCE, paused) => paused.expect("it does not pause"),
    }
}
