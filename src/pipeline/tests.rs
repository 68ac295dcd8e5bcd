//! What opening a line waits for.

use std::io;
use std::time::Instant;

use super::*;

#[tokio::test]
async fn a_start_that_waits_for_room_ends_at_once_when_a_stop_is_asked_for() {
    let (disk, (stop, stopped)) = (DiskState::default(), watch::channel(false));
    let full = disk.clone();
    let opening = blocking("start", move || {
        let never = full.wait_for_room("create", || Err::<(), _>(io::ErrorKind::StorageFull.into()));
        never.map_err(|e| Error::io("open the dataset", e))
    });
    let opening = tokio::spawn(giving_up(opening, stopped, disk.clone()));
    while !disk.full() {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    stop.send_replace(true);
    let ended = opening.await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::TryAgain);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_stop_does_not_interrupt_a_start_that_needs_no_room() {
    let (_stop, stopped) = watch::channel(true);
    let opening = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        7
    };
    assert_eq!(giving_up(opening, stopped, DiskState::default()).await, 7);
}
