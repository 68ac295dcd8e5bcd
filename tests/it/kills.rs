//! `kill -9` in the middle of it.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::lines::{ids, line};

/// Makes the random moments of a test, and prints what repeats them.
fn moments() -> StdRng {
    let seed = rand::random();
    println!("the moments of this run: StdRng::seed_from_u64({seed})");
    StdRng::seed_from_u64(seed)
}

#[test]
fn simulated_events_arrive_once_however_often_the_process_is_killed() {
    let dataset = Dataset::new();
    let mut moments = moments();
    let run = || {
        let pintail = dataset.simulator(600_000).set("source.rate", 200_000).set("pipeline.checkpoint_interval", "100ms");
        pintail.set("pipeline.batch_rows", 5000)
    };
    for kill in 0..4 {
        let before = dataset.commits_len();
        let mut process = run().spawn();
        process.wait_for_commits(before + 1);
        thread::sleep(Duration::from_millis(moments.random_range(0..250)));
        assert!(process.is_running(), "the events must outlast kill {kill}");
        assert_eq!(process.kill().code(), 137);
    }
    assert!(dataset.last_commit().next_offset() < 600_000, "there is something left to do after the kills");
    run().run_ok();
    dataset.assert_simulated(600_000);
    dataset.assert_clean();
    assert_eq!(dataset.counts().rows_out, 600_000);
}

/// Ends the writer also when the test fails, or the test would wait for it forever.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn lines_of_a_growing_file_and_its_dead_letters_arrive_once_however_often_the_process_is_killed() {
    let dataset = Dataset::new();
    let mut moments = moments();
    let stop = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        // Goes on while Pintail is down: what is appended then must be found as well.
        let writer = scope.spawn(|| {
            let mut next = 0;
            while !stop.load(Ordering::Relaxed) {
                let text: String =
                    (next..next + 200).map(|id| if id % 100 == 7 { format!("{{\"id\":{id},\n") } else { line(id) }).collect();
                // Torn in the middle of a record, as an unbuffered writer does it.
                let (head, tail) = text.split_at(text.len() - 20);
                dataset.append("growing.ndjson", head);
                thread::sleep(Duration::from_millis(10));
                dataset.append("growing.ndjson", tail);
                next += 200;
            }
            next
        });
        let _stop = StopOnDrop(&stop);
        let run = || dataset.follow("growing.ndjson").set("pipeline.checkpoint_interval", "50ms").set("pipeline.batch_rows", 1000);
        dataset.append("growing.ndjson", "");
        for _ in 0..4 {
            let before = dataset.commits_len();
            let mut process = run().spawn();
            process.wait_for_commits(before + 1);
            thread::sleep(Duration::from_millis(moments.random_range(0..150)));
            assert_eq!(process.kill().code(), 137);
        }
        stop.store(true, Ordering::Relaxed);
        let written: i64 = writer.join().unwrap();
        let mut process = run().spawn();
        let size = fs::metadata(dataset.root().join("growing.ndjson")).unwrap().len();
        process.wait_until("the whole file", |dataset| dataset.last_commit().next_offset() == size);
        process.stop(Signal::TERM).assert_code(0);
        written
    });
    let good: Vec<_> = ids(0..written).into_iter().filter(|id| id % 100 != 7).collect();
    assert_eq!(dataset.ids(), good);
    let mut dead: Vec<_> = dataset.dead_letters().iter().map(|letter| letter["offset"].as_u64().expect("its position")).collect();
    assert_eq!(dead.len() as i64, written - good.len() as i64);
    dead.sort_unstable();
    dead.dedup();
    assert_eq!(dead.len() as i64, written - good.len() as i64, "a dead letter doubled");
    dataset.assert_clean();
}

#[test]
fn a_process_killed_before_its_first_commit_leaves_nothing_behind_for_readers() {
    let dataset = Dataset::new();
    let mut process = dataset.simulator(0).set("pipeline.checkpoint_interval", "1h").spawn();
    process.wait_until("staged bytes", |dataset| crate::common::walk(&dataset.internal("staging")).iter().any(|f| f.metadata().is_ok()));
    process.kill();
    assert_eq!((dataset.data_files().len(), dataset.commits_len()), (0, 0));
    dataset.simulator(1000).run_ok();
    dataset.assert_simulated(1000);
    dataset.assert_clean();
}
