//! The handle and the thread behind it: many who append at once.

use std::sync::atomic::Ordering;

use super::faults::Disk;
use super::*;

fn start(dir: &Path, disk: Arc<Disk>) -> Journal {
    let large = Settings { segment_bytes: 1 << 20, bytes_max: 8 << 20, ..settings(dir) };
    Journal::open(disk, large, None).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_wait_together_share_an_fsync_and_each_is_there_once() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::new());
    let journal = start(dir.path(), disk.clone());
    disk.sync_takes_ms.store(2, Ordering::SeqCst);
    let appends: Vec<_> = (0..500)
        .map(|n| {
            let journal = journal.clone();
            tokio::spawn(async move { journal.append(request(&format!("r{n}"), 1, None)).await.unwrap() })
        })
        .collect();
    let mut offsets = Vec::new();
    for append in appends {
        offsets.push(append.await.unwrap().offset);
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (0..500).collect::<Vec<_>>());
    let syncs = disk.syncs.load(Ordering::SeqCst);
    assert!(syncs < 250, "{syncs} fsyncs for 500 requests");
    let mut reader = journal.reader(0);
    let read = std::iter::from_fn(|| reader.read(Duration::ZERO).unwrap()).map(|recorded| recorded.body).collect::<Vec<_>>();
    let mut lines: Vec<_> = read.iter().map(|body| std::str::from_utf8(body).unwrap().trim_end().to_owned()).collect();
    lines.sort();
    let mut expected: Vec<_> = (0..500).map(|n| format!("r{n}.0")).collect();
    expected.sort();
    assert_eq!((lines, journal.end()), (expected, 500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_with_the_same_key_at_once_have_one_answer() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::new());
    let journal = start(dir.path(), disk);
    let appends: Vec<_> = (0..50)
        .map(|_| {
            let journal = journal.clone();
            tokio::spawn(async move { journal.append(request("r", 3, Some("key"))).await })
        })
        .collect();
    for append in appends {
        assert_eq!(append.await.unwrap(), receipt(0, 3));
    }
    assert_eq!(journal.end(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_while_it_waits_has_its_answer_when_it_comes_back() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::new());
    let journal = start(dir.path(), disk);
    let gone = tokio::time::timeout(Duration::ZERO, journal.append(request("r", 3, Some("key")))).await;
    assert!(gone.is_err() || gone == Ok(receipt(0, 3)));
    assert_eq!(journal.append(request("r", 3, Some("key"))).await, receipt(0, 3));
    assert_eq!(journal.end(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_released_goes_and_the_thread_ends_with_the_last_handle() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::new());
    let journal = Journal::open(disk, settings(dir.path()), None).unwrap();
    for n in 0..20 {
        journal.append(request(&format!("r{n}"), 1, None)).await.unwrap();
    }
    let before = segments(dir.path()).len();
    journal.release(20).await.unwrap();
    // The first may be answered in the same turn; the release comes right after it.
    for name in ["same turn", "next turn"] {
        journal.append(request(name, 1, None)).await.unwrap();
    }
    let after = segments(dir.path()).len();
    assert!(before > 3 && after <= 2, "{before}, {after}");
    let shared = Arc::downgrade(&journal.shared);
    drop(journal);
    let begin = std::time::Instant::now();
    while shared.upgrade().is_some() {
        assert!(begin.elapsed() < Duration::from_secs(10), "the thread outlived the journal");
        std::thread::sleep(Duration::from_millis(5));
    }
}
