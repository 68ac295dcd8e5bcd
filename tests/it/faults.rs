//! A panic or an error in any stage: the right exit code, nothing half done is committed, and a restart completes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use pintail::internals::Meters;
use pintail::internals::{Input, Line, Outside, Start, deadline};
use pintail_config::{Config, LogConfig, LogFormat};
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::record::CommitRecord;
use pintail_storage::durable::disk_state::DiskState;
use pintail_storage::durable::posix::Posix;
use tokio::sync::watch;

#[derive(Debug, Clone, Copy)]
enum Fault {
    Panic,
    Error,
}

/// A stage's task with a fault at its n-th poll: as one inside it at whichever `await` it then stands.
struct FaultAtPoll {
    stage: BoxFuture<'static, Result<()>>,
    fault: Fault,
    polls_left: usize,
}

impl Future for FaultAtPoll {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match (self.polls_left, self.fault) {
            (0, Fault::Panic) => panic!("planted"),
            (0, Fault::Error) => Poll::Ready(Err(Error::io("do what was planted", io::Error::other("the cause")))),
            _ => {
                self.polls_left -= 1;
                self.stage.as_mut().poll(context)
            }
        }
    }
}

fn config(out: &std::path::Path) -> Config {
    let set = |text: &str| text.to_owned();
    let sets = [
        format!("pipeline.out_path={:?}", out.to_str().unwrap()),
        set("pipeline.checkpoint_interval=\"20ms\""),
        set("pipeline.batch_rows=1000"),
        set("source.rate=0"),
        set("source.limit=100000"),
        set("transform.threads=2"),
    ];
    Config::load(None, std::iter::empty(), &sets).unwrap()
}

fn open(config: &Config) -> (Line, watch::Sender<bool>) {
    let (stop_sender, stop) = watch::channel(false);
    let (_, reload) = watch::channel(0);
    let meters = Arc::new(Meters::new(DiskState::default()));
    let fs = Arc::new(Posix::new(meters.disk.clone()));
    let outside = Outside { stop, reload, screen: None, meters, admin: None, fs, is_own_program: false };
    (Line::open(config, Input::Source, Start::Usual, outside).unwrap(), stop_sender)
}

fn records(out: &std::path::Path) -> Vec<CommitRecord> {
    Dataset::open(out).unwrap().records().unwrap().collect::<Result<_>>().unwrap()
}

/// Runs the line with a fault in a stage, to its error.
async fn failed(config: &Config, stage: &str, fault: Fault, polls_left: usize) -> Error {
    let (mut line, stop) = open(config);
    line.stages = line
        .stages
        .into_iter()
        .map(|(name, future)| -> (_, BoxFuture<'static, Result<()>>) {
            if name == stage { (name, Box::pin(FaultAtPoll { stage: future, fault, polls_left })) } else { (name, future) }
        })
        .collect();
    line.run(deadline(stop.subscribe(), Duration::from_secs(8))).await.expect_err("the planted fault")
}

async fn a_fault_of(stage: &str, fault: Fault) {
    for polls_left in [0, 3, 25] {
        let out = tempfile::tempdir().unwrap();
        let config = config(out.path());
        let error = failed(&config, stage, fault, polls_left).await;
        let (kind, exit_code, message) = match fault {
            Fault::Panic => (ErrorKind::Internal, 70, format!("the {stage} panicked: planted")),
            Fault::Error => (ErrorKind::Io, 74, "cannot do what was planted: the cause".to_owned()),
        };
        assert_eq!((error.kind(), error.kind().exit_code(), error.to_string()), (kind, exit_code, message));

        let before = records(out.path());
        assert!(
            before.iter().all(|record| record.trigger.is_none_or(|trigger| trigger == pintail_core::batch::Trigger::Interval)),
            "after poll {polls_left}: {before:?}"
        );
        let (line, stop) = open(&config);
        line.run(deadline(stop.subscribe(), Duration::from_secs(8))).await.unwrap();
        let records = records(out.path());
        assert_eq!(records.iter().map(|record| record.counts.rows_out).sum::<u64>(), 100_000);
        pintail::internals::verify::run(out.path(), None, pintail::internals::verify::Depth::Content, &mut io::sink()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_producer_stops_the_line_and_a_restart_completes() {
    a_fault_of("producer", Fault::Panic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_producer_stops_the_line_with_its_own_error_and_a_restart_completes() {
    a_fault_of("producer", Fault::Error).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_batcher_stops_the_line_and_a_restart_completes() {
    a_fault_of("batcher", Fault::Panic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_batcher_stops_the_line_with_its_own_error_and_a_restart_completes() {
    a_fault_of("batcher", Fault::Error).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_transformer_stops_the_line_and_a_restart_completes() {
    a_fault_of("transformer", Fault::Panic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_transformer_stops_the_line_with_its_own_error_and_a_restart_completes() {
    a_fault_of("transformer", Fault::Error).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_writer_stops_the_line_and_a_restart_completes() {
    a_fault_of("writer", Fault::Panic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_writer_stops_the_line_with_its_own_error_and_a_restart_completes() {
    a_fault_of("writer", Fault::Error).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_monitor_stops_the_line_and_a_restart_completes() {
    a_fault_of("monitor", Fault::Panic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_monitor_stops_the_line_with_its_own_error_and_a_restart_completes() {
    a_fault_of("monitor", Fault::Error).await;
}

const CHILD: &str = "PINTAIL_TEST_PANIC";

/// The process of the next test: logs as the binary does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_leaves_no_text_of_its_own() {
    let Some(out) = std::env::var_os(CHILD) else { return tells_a_panic_in_lines_of_the_log() };
    pintail::internals::log_to(&LogConfig { level: "info".into(), format: LogFormat::Json }, None).unwrap();
    let error = failed(&config(out.as_ref()), "writer", Fault::Panic, 3).await;
    tracing::error!("{error}");
}

fn tells_a_panic_in_lines_of_the_log() {
    let out = tempfile::tempdir().unwrap();
    let name = "faults::a_panic_leaves_no_text_of_its_own";
    let mut child = Command::new(std::env::current_exe().unwrap());
    let done = child.args(["--exact", name, "--nocapture"]).env(CHILD, out.path()).env_remove("RUST_LOG").output().unwrap();
    let text = String::from_utf8(done.stderr).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{text}"))).collect();
    let errors: Vec<_> = lines.iter().filter(|line| line["level"] == "ERROR").collect();
    assert_eq!(errors.len(), 2, "{text}");
    assert_eq!(errors[0]["message"], "panicked: planted");
    assert!(errors[0]["at"].as_str().unwrap().contains("faults.rs:"), "{text}");
    assert_eq!(errors[1]["message"], "the writer panicked: planted");
}
