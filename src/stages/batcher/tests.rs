use std::sync::Arc;

use bytes::Bytes;
use pintail_core::batch::{OffsetUnit, Records};
use pintail_core::memory::Memory;
use pintail_core::offsets::{OffsetRange, Partition, PartitionId};
use pintail_storage::durable::disk_state::DiskState;
use tokio::task::JoinHandle;

use super::*;

const INTERVAL: Duration = Duration::from_secs(30);

struct Line {
    to_batcher: mpsc::Sender<Read>,
    from_batcher: mpsc::Receiver<Cut>,
    task: JoinHandle<Result<()>>,
    next: u64,
}

fn start(batch_rows: usize, batch_bytes_max: usize) -> Line {
    start_with(batch_rows, batch_bytes_max, false)
}

fn start_with(batch_rows: usize, batch_bytes_max: usize, keeps_chunks: bool) -> Line {
    let (to_batcher, input) = mpsc::channel(64);
    let (output, from_batcher) = mpsc::channel(64);
    let meters = Arc::new(Meters::new(DiskState::default()));
    let output = Outlet::new(output, &meters.batches);
    let batcher =
        Batcher { input, output, batch_rows, batch_bytes_max, keeps_chunks, checkpoint_interval: INTERVAL, early: Arc::default(), meters };
    Line { to_batcher, from_batcher, task: tokio::spawn(batcher.run()), next: 0 }
}

impl Line {
    async fn send_lines(&mut self, count: usize) {
        let partition = Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() });
        let range = OffsetRange::new(partition, self.next, self.next + count as u64);
        self.next = range.to;
        let records = Records::Lines(Bytes::from("{}\n".repeat(count)));
        let chunk = Chunk::new(records, range, OffsetUnit::Records);
        self.to_batcher.send(Read::Chunk(chunk, Moment::now(), Memory::default().wait(0))).await.unwrap();
    }

    async fn batch(&mut self) -> (usize, u64, u64) {
        match self.from_batcher.recv().await {
            Some(Cut::Batch(batch, _)) => {
                let ranges = batch.ranges();
                assert_eq!(ranges.len(), 1);
                (batch.chunks.iter().map(Chunk::records).sum(), ranges[0].from, ranges[0].to)
            }
            other => panic!("expected a batch, got {other:?}"),
        }
    }

    async fn barrier(&mut self) -> Barrier {
        match self.from_batcher.recv().await {
            Some(Cut::Barrier(barrier)) => barrier,
            other => panic!("expected a barrier, got {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_line_may_pause_a_batch_ends_with_a_chunk_unless_that_alone_is_larger() {
    let mut line = start_with(10, usize::MAX, true);
    for count in [4, 4, 4, 25, 3, 10] {
        line.send_lines(count).await;
    }
    let ends = [(8, 0, 8), (4, 8, 12), (10, 12, 22), (10, 22, 32), (8, 32, 40), (10, 40, 50)];
    for end in ends {
        assert_eq!(line.batch().await, end);
    }
}

#[tokio::test(start_paused = true)]
async fn batches_have_exactly_the_configured_records() {
    let mut line = start(50, usize::MAX);
    line.send_lines(30).await;
    line.send_lines(125).await;
    assert_eq!(line.batch().await, (50, 0, 50));
    assert_eq!(line.batch().await, (50, 50, 100));
    assert_eq!(line.batch().await, (50, 100, 150));
    line.to_batcher.send(Read::End(EndReason::Finished)).await.unwrap();
    assert_eq!(line.batch().await, (5, 150, 155));
    assert_eq!(line.barrier().await, Barrier { epoch: 1, trigger: Trigger::End });
    assert!(line.from_batcher.recv().await.is_none());
    line.task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_is_sent_without_waiting_for_the_next_record() {
    let mut line = start(50, usize::MAX);
    line.send_lines(50).await;
    assert_eq!(line.batch().await, (50, 0, 50));
}

#[tokio::test(start_paused = true)]
async fn long_records_close_a_batch_early() {
    let mut line = start(50, 30);
    line.send_lines(11).await;
    assert_eq!(line.batch().await, (11, 0, 11));
}

#[tokio::test(start_paused = true)]
async fn one_record_and_then_silence_waits_no_longer_than_the_interval() {
    let mut line = start(50, usize::MAX);
    let before = Instant::now();
    line.send_lines(1).await;
    assert_eq!(line.batch().await, (1, 0, 1));
    assert_eq!(line.barrier().await, Barrier { epoch: 1, trigger: Trigger::Interval });
    assert!(before.elapsed() <= INTERVAL + Duration::from_millis(10), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_idle_line_still_gets_its_barriers() {
    let mut line = start(50, usize::MAX);
    for epoch in 1..=3 {
        assert_eq!(line.barrier().await, Barrier { epoch, trigger: Trigger::Interval });
    }
}

#[tokio::test(start_paused = true)]
async fn missed_ticks_make_one_barrier() {
    let (to_batcher, input) = mpsc::channel(1);
    let (output, mut from_batcher) = mpsc::channel(1);
    let meters = Arc::new(Meters::new(DiskState::default()));
    let output = Outlet::new(output, &meters.batches);
    let batcher = Batcher {
        input,
        output,
        batch_rows: 1,
        batch_bytes_max: 1,
        keeps_chunks: false,
        checkpoint_interval: INTERVAL,
        early: Arc::default(),
        meters,
    };
    let task = tokio::spawn(batcher.run());
    // The writer is busy for ten intervals: one barrier lies in the channel, the next is being sent.
    tokio::time::sleep(INTERVAL * 10).await;
    for _ in 0..2 {
        assert!(matches!(from_batcher.recv().await, Some(Cut::Barrier(_))));
    }
    let quiet = tokio::time::timeout(INTERVAL / 2, from_batcher.recv()).await;
    assert!(matches!(quiet, Err(_) | Ok(Some(Cut::Barrier(_)))));
    let silent = tokio::time::timeout(INTERVAL / 2, from_batcher.recv()).await;
    assert!(silent.is_err(), "missed ticks came in a burst: {silent:?}");
    drop(to_batcher);
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_input_that_breaks_off_sends_no_barrier() {
    let mut line = start(50, usize::MAX);
    line.send_lines(7).await;
    drop(line.to_batcher);
    assert!(line.from_batcher.recv().await.is_none());
    line.task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_gone_ends_an_idle_batcher() {
    let line = start(50, usize::MAX);
    drop(line.from_batcher);
    tokio::time::timeout(INTERVAL / 2, line.task).await.expect("ends at once").unwrap().unwrap();
}
