//! Alive and ready through a life. The line runs in this process: so the disk can be full, stuck, and the source out of reach at will.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pintail::internals::Admin;
use pintail::internals::Meters;
use pintail::internals::{Input, Line, Outside, Plan, Start, deadline};
use pintail_config::Config;
use pintail_core::batch::{Chunk, OffsetUnit, Records};
use pintail_core::error::Result;
use pintail_core::offsets::{OffsetRange, Partition, PartitionId};
use pintail_sources::Source;
use pintail_sources::meters::SourceMeters;
use pintail_storage::durable::disk_state::DiskState;
use rustix::process::Signal;
use tokio::sync::watch;

use crate::backpressure::Stuck;
use crate::common::http::{Answer, get};
use crate::common::{Dataset, wait_until};

/// A source that gives a line now and then, for ever, and says what it is told to say of its connection.
struct Drip {
    next: u64,
    partition: Arc<Partition>,
    trouble: watch::Receiver<Option<String>>,
}

#[async_trait]
impl Source for Drip {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let line = "{\"timestamp\":1767225600000,\"user_id\":1,\"region\":\"us\",\"amount\":1.5,\"sku\":\"SKU-00001\"}\n";
        let range = OffsetRange::new(self.partition.clone(), self.next, self.next + 1);
        self.next += 1;
        Ok(Some(Chunk::new(Records::Lines(Bytes::from_static(line.as_bytes())), range, OffsetUnit::Records)))
    }

    fn meters(&self) -> SourceMeters {
        SourceMeters { trouble: Some(self.trouble.clone()), ..SourceMeters::default() }
    }
}

fn ready(address: SocketAddr) -> Answer {
    get(address, "/readyz")
}

/// Waits until `/readyz` refuses with a reason that names `word`; asserts that the service is alive meanwhile.
fn wait_for_reason(address: SocketAddr, word: &str) {
    wait_until(word, || {
        let answer = ready(address);
        answer.status == 503 && answer.body.contains(word)
    });
    assert_eq!(get(address, "/healthz").status, 200, "not ready, but alive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_is_alive_throughout_and_ready_only_while_records_pass() {
    let out = tempfile::tempdir().unwrap();
    let sets = [
        format!("pipeline.out_path={:?}", out.path().to_str().unwrap()),
        "pipeline.checkpoint_interval=\"20ms\"".into(),
        "source.type=\"stdin\"".into(),
        "admin.listen=\"127.0.0.1:0\"".into(),
        "admin.stalled_after=\"1s\"".into(),
    ];
    let config = Config::load(None, std::iter::empty(), &sets).unwrap();
    let (stop_sender, stop) = watch::channel(false);
    let (_reload_sender, reload) = watch::channel(0);
    let (trouble_sender, trouble) = watch::channel(None);
    let meters = Arc::new(Meters::new(DiskState::default()));
    let (disk, fs) = (meters.disk.clone(), Stuck::new(meters.disk.clone()));

    let admin = Admin::start(&config, Input::Source, meters.clone(), stop.clone()).unwrap().unwrap();
    let address = admin.address();
    wait_for_reason(address, "recovering");
    let status = get(address, "/api/status").json();
    assert_eq!((&status["state"], &status["ready"], &status["records_in"]), (&"recovering".into(), &false.into(), &().into()));

    let plan = Plan::new(&config).unwrap();
    let store = plan.open_store(&config, Start::Usual, fs.clone(), &meters, Some(address)).unwrap();
    let partition = Arc::new(Partition { id: PartitionId::new("stdin"), label: "stdin".into() });
    let source = Box::new(Drip { next: 0, partition, trouble });
    let outside = Outside { stop: stop.clone(), reload, screen: None, meters, admin: Some(address), fs: fs.clone(), is_own_program: false };
    let line = Line::link(&config, plan, store, source, outside).unwrap();
    let running = tokio::spawn(line.run(deadline(stop, Duration::from_secs(8))));
    let is_well = || wait_until("ready", || ready(address).status == 200 && get(address, "/healthz").status == 200);
    tokio::task::block_in_place(|| {
        is_well();
        pintail::internals::health::run(out.path(), out.path()).unwrap();

        // No room on the disk: an operation is repeated until there is.
        let room = Arc::new(AtomicBool::new(false));
        let waiting = thread::spawn({
            let room = room.clone();
            move || disk.wait_for_room("test", || if room.load(Ordering::SeqCst) { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) })
        });
        wait_for_reason(address, "the disk is full");
        let unhealthy = pintail::internals::health::run(out.path(), out.path()).unwrap_err().to_string();
        assert!(unhealthy.contains("the disk is full"), "{unhealthy}");
        assert!(get(address, "/metrics").metric("pintail_disk_full") == 1.0);
        room.store(true, Ordering::SeqCst);
        waiting.join().unwrap().unwrap();
        is_well();

        trouble_sender.send_replace(Some("connection refused".into()));
        wait_for_reason(address, "the source gives nothing: connection refused");
        trouble_sender.send_replace(None);
        is_well();

        // A disk that hangs: the writer has work and does not move.
        fs.set_released(false);
        wait_until("a dead writer", || {
            let answer = get(address, "/healthz");
            answer.status == 503 && answer.body.contains("the writer has work and has not moved")
        });
        assert_eq!(get(address, "/healthz").json()["dead"].as_array().unwrap().len(), 1, "those behind which it is stuck live");
        fs.set_released(true);
        is_well();

        fs.set_released(false);
        stop_sender.send_replace(true);
        wait_until("draining", || ready(address).body.contains("draining"));
        fs.set_released(true);
    });
    running.await.unwrap().unwrap();
    let last = get(address, "/metrics");
    assert!(last.metric("pintail_checkpoints_total{trigger=\"shutdown\"}") <= 1.0);
    assert_eq!(last.metric("pintail_open_records"), 0.0);
    admin.stop().await;
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn the_health_command_asks_the_server_of_the_process_that_holds_the_dataset() {
    let dataset = Dataset::new();
    let mut process = dataset.watched().spawn();
    process.admin();
    process.wait_for_commits(1);
    dataset.pintail().args(["health"]).run_ok();
    process.stop(Signal::TERM).assert_code(0);
    dataset.pintail().args(["health"]).run().assert_refused(75, &["no pintail runs"]);
}
