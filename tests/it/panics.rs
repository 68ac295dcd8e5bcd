//! A panic in any stage: the process would leave with 70, nothing half done is committed, and a restart completes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use pintail::checkpoint::reader::Dataset;
use pintail::checkpoint::record::CommitRecord;
use pintail::config::Config;
use pintail::durable::disk_state::DiskState;
use pintail::durable::posix::Posix;
use pintail::error::{ErrorKind, Result};
use pintail::pipeline::{Input, Line, Outside, deadline};
use tokio::sync::watch;

/// A stage's task that panics at its n-th poll: as a panic inside it at whichever `await` it then stands.
struct PanicAtPoll {
    stage: BoxFuture<'static, Result<()>>,
    polls_left: usize,
}

impl Future for PanicAtPoll {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(self.polls_left > 0, "planted");
        self.polls_left -= 1;
        self.stage.as_mut().poll(context)
    }
}

fn config(out: &std::path::Path) -> Config {
    let set = |text: &str| text.to_owned();
    let sets = [
        format!("pipeline.out_path={:?}", out.to_str().unwrap()),
        set("pipeline.checkpoint_interval=\"20ms\""),
        set("pipeline.batch_rows=1000"),
        set("source.rate=0"),
        set("source.limit=400000"),
        set("transform.threads=2"),
    ];
    Config::load(None, std::iter::empty(), &sets).unwrap()
}

fn open(config: &Config) -> (Line, watch::Sender<bool>) {
    let (stop_sender, stop) = watch::channel(false);
    let (_, reload) = watch::channel(0);
    let disk = DiskState::default();
    let fs = Arc::new(Posix::new(disk.clone()));
    let outside = Outside { stop, reload, screen: None, disk, fs };
    (Line::open(config, Input::Source, outside).unwrap(), stop_sender)
}

fn records(out: &std::path::Path) -> Vec<CommitRecord> {
    Dataset::open(out).unwrap().records().unwrap().collect::<Result<_>>().unwrap()
}

async fn a_panic_of(stage: &str) {
    for polls_left in [0, 3, 25] {
        let out = tempfile::tempdir().unwrap();
        let config = config(out.path());
        let (mut line, stop) = open(&config);
        line.stages = line
            .stages
            .into_iter()
            .map(|(name, future)| -> (_, BoxFuture<'static, Result<()>>) {
                if name == stage { (name, Box::pin(PanicAtPoll { stage: future, polls_left })) } else { (name, future) }
            })
            .collect();
        let error = line.run(deadline(stop.subscribe(), Duration::from_secs(8))).await.expect_err("the planted panic");
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.kind().exit_code(), 70);
        assert_eq!(error.to_string(), format!("the {stage} panicked: planted"));

        let before = records(out.path());
        assert!(before.iter().all(|record| record.trigger == pintail::batch::Trigger::Interval), "after poll {polls_left}: {before:?}");
        let (line, stop) = open(&config);
        line.run(deadline(stop.subscribe(), Duration::from_secs(8))).await.unwrap();
        let records = records(out.path());
        assert_eq!(records.iter().map(|record| record.counts.rows_out).sum::<u64>(), 400_000);
        pintail::commands::verify::run(out.path(), None, &mut std::io::sink()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_producer_stops_the_line_and_a_restart_completes() {
    a_panic_of("producer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_batcher_stops_the_line_and_a_restart_completes() {
    a_panic_of("batcher").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_transformer_stops_the_line_and_a_restart_completes() {
    a_panic_of("transformer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_writer_stops_the_line_and_a_restart_completes() {
    a_panic_of("writer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_monitor_stops_the_line_and_a_restart_completes() {
    a_panic_of("monitor").await;
}
