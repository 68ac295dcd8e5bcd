//! Outlet: a stage's way into the next channel.
//!
//! Owns: measuring how long the stage stands before the channel while it is full, and noting when it sent last.
//! Does not own: what is sent; the capacity, which is the channel's.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use pintail_core::clock::Clock;
use tokio::sync::mpsc;

use crate::meters::ChannelMeter;

/// The line behind is gone: the stage ends, and its neighbour says why.
#[derive(Debug)]
pub(crate) struct Closed;

/// The sending side of a channel between two stages.
pub(crate) struct Outlet<T> {
    sender: mpsc::Sender<T>,
    blocked: Arc<Clock>,
    sent: Arc<Mutex<Instant>>,
}

/// Makes the channel between two stages, which the meter watches from now on.
pub(crate) fn channel<T: Send + 'static>(capacity: usize, meter: &ChannelMeter) -> (Outlet<T>, mpsc::Receiver<T>) {
    let (sender, receiver) = mpsc::channel(capacity);
    (Outlet::new(sender, meter), receiver)
}

impl<T: Send + 'static> Outlet<T> {
    /// Takes the sender; the meter watches its channel from now on.
    pub(crate) fn new(sender: mpsc::Sender<T>, meter: &ChannelMeter) -> Self {
        meter.watch(&sender);
        Self { sender, blocked: meter.blocked.clone(), sent: meter.sent() }
    }

    /// Takes the sender of a channel that nobody watches.
    pub(crate) fn unwatched(sender: mpsc::Sender<T>) -> Self {
        Self { sender, blocked: Arc::default(), sent: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Sends, waiting for room: the only flow control there is.
    pub(crate) async fn send(&self, message: T) -> Result<(), Closed> {
        let sent = match self.sender.try_send(message) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Closed),
            Err(mpsc::error::TrySendError::Full(message)) => {
                let _blocked = self.blocked.begin();
                self.sender.send(message).await.map_err(|_| Closed)
            }
        };
        *self.sent.lock() = Instant::now();
        sent
    }

    /// Waits until nobody receives any more.
    pub(crate) async fn closed(&self) {
        self.sender.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pintail_storage::durable::disk_state::DiskState;

    use super::*;
    use crate::meters::Meters;

    #[tokio::test]
    async fn time_before_a_full_channel_is_counted_and_only_that() {
        let meters = Meters::new(DiskState::default());
        let (sender, mut receiver) = mpsc::channel(1);
        let outlet = Outlet::new(sender, &meters.chunks);
        outlet.send(1).await.unwrap();
        assert_eq!((meters.chunks.length(), meters.chunks.capacity()), (1, Some(1)));
        assert_eq!(meters.chunks.blocked.read().total, Duration::ZERO);
        let waited = tokio::join!(outlet.send(2), async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert!(meters.chunks.blocked.read().running, "it stands before the channel");
            receiver.recv().await
        });
        assert_eq!((waited.0.is_ok(), waited.1), (true, Some(1)));
        let blocked = meters.chunks.blocked.read();
        assert!(!blocked.running && blocked.total >= Duration::from_millis(30), "{blocked:?}");
        drop(receiver);
        assert!(outlet.send(3).await.is_err());
        drop(outlet);
        assert_eq!(meters.chunks.length(), 0);
    }
}
