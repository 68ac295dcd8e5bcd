//! Budget: the memory of all bodies that are not answered yet.
//!
//! Owns: the bound, in bytes, and how long a body waits for others to make room.
//! Does not own: the limit of a single body (see `body`, `records`).
//!
//! A body takes its bytes as they come, not as they are announced: who announces much and sends nothing keeps nobody waiting. One that
//! cannot get on gives up what it has after a moment, so two that wait for each other do not wait for long.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::refusal::Refusal;

/// Time that a body waits for room.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes taken at a time, at least: the bound is looked at a few times for each body and not at each packet.
const STEP: usize = 64 << 10;

/// The memory of all bodies.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    bytes: Arc<Semaphore>,
}

/// What one body has taken; given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    used: usize,
}

impl Budget {
    /// Makes a bound.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: Arc::new(Semaphore::new(bytes_max.min(Semaphore::MAX_PERMITS))) }
    }

    /// Begins with nothing.
    pub(super) fn hold(&self) -> Held {
        Held { bytes: self.bytes.clone(), permit: None, used: 0 }
    }
}

impl Held {
    /// Takes room for more bytes, waiting for it a moment.
    pub(super) async fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let Some(step) = self.step(bytes) else { return Ok(()) };
        match timeout(PATIENCE, self.bytes.clone().acquire_many_owned(step)).await {
            Ok(Ok(permit)) => self.take(permit),
            _ => return Err(no_memory()),
        }
        Ok(())
    }

    /// Takes room for more bytes if it is there.
    pub(super) fn try_grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let Some(step) = self.step(bytes) else { return Ok(()) };
        let permit = self.bytes.clone().try_acquire_many_owned(step).map_err(|_| no_memory())?;
        self.take(permit);
        Ok(())
    }

    /// Notes the use of more bytes; returns what must be taken for them.
    fn step(&mut self, bytes: usize) -> Option<u32> {
        self.used += bytes;
        let has = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let lacks = self.used.checked_sub(has).filter(|lacks| *lacks > 0)?;
        Some(u32::try_from(lacks.max(STEP)).expect("a body is at most 1 GiB"))
    }

    fn take(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
    }
}

fn no_memory() -> Refusal {
    let why = "too many large requests at this moment (`source.bodies_bytes_max`): try again";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why).retry_after(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_finds_no_room_is_refused_after_a_moment_and_what_was_held_comes_back() {
        let budget = Budget::new(3 * STEP);
        let (mut first, mut second) = (budget.hold(), budget.hold());
        first.grow(2 * STEP).await.unwrap();
        second.grow(1).await.unwrap();
        second.grow(STEP - 1).await.unwrap();
        assert_eq!(second.grow(1).await.unwrap_err().status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(budget.hold().try_grow(1).is_err());
        drop(first);
        budget.hold().try_grow(2 * STEP).unwrap();
    }
}
