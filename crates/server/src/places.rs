//! Places: the connections that a server holds at the same time.
//!
//! Owns: their number, and which one makes room for a new one: of those that have no request in work the one that has had none for the longest
//! time. So whoever holds connections and asks nothing keeps nobody away, and an answer that is worked on is not broken off.
//! Does not own: what counts as work (the routes say, by [`working`]), accepting.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::http::Extensions;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// All connections of a server.
#[derive(Debug)]
pub(crate) struct Places {
    state: Mutex<State>,
    /// Somebody left, or has no more work.
    changed: Notify,
    max: usize,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// Counts up: the lesser, the longer without work.
    turn: u64,
    /// Those without work.
    idle: BTreeMap<u64, Arc<Notify>>,
}

/// A connection. Its place is free when it is dropped.
pub(crate) struct Place {
    connection: Arc<Connection>,
}

/// What requests know of the connection that they come by.
struct Connection {
    places: Arc<Places>,
    /// Told that it has to go.
    evicted: Arc<Notify>,
    work: Mutex<Work>,
}

/// What a connection does.
enum Work {
    /// Nothing, since this turn.
    Idle(u64),
    /// So many requests are worked on.
    Busy(usize),
    /// It is over.
    Over,
}

/// A request in work; its connection is not closed for another's sake while this is held.
#[must_use]
pub struct Working(Option<Arc<Connection>>);

/// Records that a request is worked on from now on, by the extensions of its head.
pub fn working(extensions: &Extensions) -> Working {
    let connection = extensions.get::<Carried>().map(|carried| carried.0.clone());
    if let Some(connection) = &connection {
        connection.begin();
    }
    Working(connection)
}

/// The connection among the extensions of a request.
#[derive(Clone)]
struct Carried(Arc<Connection>);

impl Places {
    /// Makes room for so many.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Notify::new(), max })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Takes a place; closes the connection that is idle for the longest time, if there is no other. `None` if all of them have work. Safe to cancel.
    pub(crate) async fn try_take(self: &Arc<Self>) -> Option<Place> {
        loop {
            let changed = self.changed.notified();
            if let Some(place) = self.take_free() {
                return Some(place);
            }
            if !self.evict() {
                return None;
            }
            changed.await;
        }
    }

    /// As [`Self::try_take`], but waits while all have work.
    pub(crate) async fn take(self: &Arc<Self>) -> Place {
        loop {
            let changed = self.changed.notified();
            if let Some(place) = self.try_take().await {
                return place;
            }
            changed.await;
        }
    }

    fn take_free(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.state();
        if state.taken >= self.max {
            return None;
        }
        state.taken += 1;
        state.turn += 1;
        let (turn, evicted) = (state.turn, Arc::<Notify>::default());
        state.idle.insert(turn, evicted.clone());
        let connection = Connection { places: self.clone(), evicted, work: Mutex::new(Work::Idle(turn)) };
        Some(Place { connection: Arc::new(connection) })
    }

    /// Tells the connection that is idle for the longest time to go. Returns whether there is one.
    pub(crate) fn evict(&self) -> bool {
        let longest = self.state().idle.pop_first();
        longest.map(|(_, evicted)| evicted.notify_one()).is_some()
    }

    /// Waits until all are gone.
    pub(crate) async fn empty(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state().taken == 0 {
                return;
            }
            changed.await;
        }
    }
}

impl Place {
    /// Waits until the connection has to make room.
    pub(crate) async fn evicted(&self) {
        loop {
            self.connection.evicted.notified().await;
            if matches!(*self.connection.work(), Work::Idle(_)) {
                return;
            }
            // A request came meanwhile: another connection has to go.
            self.connection.places.changed.notify_waiters();
        }
    }

    /// Returns what a request is to carry.
    pub(crate) fn carry(&self, extensions: &mut Extensions) {
        extensions.insert(Carried(self.connection.clone()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.connection.work(), Work::Over);
        let mut state = self.connection.places.state();
        state.taken -= 1;
        if let Work::Idle(turn) = before {
            state.idle.remove(&turn);
        }
        drop(state);
        self.connection.places.changed.notify_waiters();
    }
}

impl Connection {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock()
    }

    fn begin(&self) {
        let mut work = self.work();
        match &mut *work {
            Work::Idle(turn) => {
                self.places.state().idle.remove(turn);
                *work = Work::Busy(1);
            }
            Work::Busy(requests) => *requests += 1,
            Work::Over => {}
        }
    }

    fn end(&self) {
        let mut work = self.work();
        match &mut *work {
            Work::Busy(1) => {
                let mut state = self.places.state();
                state.turn += 1;
                let turn = state.turn;
                state.idle.insert(turn, self.evicted.clone());
                drop(state);
                *work = Work::Idle(turn);
                self.places.changed.notify_waiters();
            }
            Work::Busy(requests) => *requests -= 1,
            Work::Idle(_) | Work::Over => {}
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.end();
        }
    }
}

impl fmt::Debug for Working {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Working").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn carried(place: &Place) -> Extensions {
        let mut extensions = Extensions::new();
        place.carry(&mut extensions);
        extensions
    }

    /// Stands for the task of a connection: it goes when it is told to.
    fn serve(place: Place) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move { place.evicted().await })
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_was_idle_for_the_longest_time_makes_room_and_one_with_work_does_not() {
        let places = Places::new(3);
        let [first, second, third] = [places.take().await, places.take().await, places.take().await];
        let extensions = carried(&second);
        // The first one has just been answered: now the third has waited for the longest time.
        drop(working(&carried(&first)));
        let work = working(&extensions);
        let [first, second, third] = [first, second, third].map(serve);
        let _fourth = serve(places.try_take().await.unwrap());
        assert!(third.is_finished() && !first.is_finished() && !second.is_finished());
        let _fifth = places.try_take().await.unwrap();
        assert!(first.is_finished() && !second.is_finished());
        drop(work);
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_have_work_a_new_one_is_refused_or_waits_for_the_first_that_is_done() {
        let places = Places::new(1);
        let place = places.take().await;
        let extensions = carried(&place);
        let (work, again) = (working(&extensions), working(&extensions));
        let busy = serve(place);
        assert!(places.try_take().await.is_none());
        assert!(timeout(Duration::from_secs(1), places.take()).await.is_err());
        drop(work);
        assert!(places.try_take().await.is_none(), "one of two requests is still worked on");
        drop(again);
        let taken = timeout(Duration::from_secs(1), places.take()).await.unwrap();
        assert!(busy.is_finished());
        drop(taken);
        timeout(Duration::from_secs(1), places.empty()).await.unwrap();
    }
}
