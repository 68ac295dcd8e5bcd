//! Wait: the line pauses over a frame of which too much was rejected, until a person lets it pass or the process is asked to stop.
//!
//! Owns: saying so everywhere, the look for the acceptance, its record.
//! Does not own: what is too much (see `breaker`), the command (see `commands::accept`).

use std::time::Duration;

use chrono::Utc;
use pintail_core::batch::Frame;
use pintail_core::breaker::Tally;
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::invocation::command;
use pintail_core::offsets::OffsetRange;
use pintail_storage::checkpoint::held::{self, Held, HeldRange, ways_out};
use pintail_storage::checkpoint::record::{Action, ActionKind};
use pintail_storage::checkpoint::store::Adopted;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{Checkpoint, Suspicion};
use crate::stages::{blocking, stopped};

/// Time between two looks for an acceptance.
const LOOK: Duration = Duration::from_millis(500);

/// Waits until the frame may pass; nothing of it is committed meanwhile.
///
/// # Errors
/// [`ErrorKind::DeadLetters`] if the process is asked to stop.
pub(super) async fn wait_for_acceptance(
    mut checkpoint: Checkpoint,
    frame: &Frame,
    suspicion: Suspicion,
    stop: &mut watch::Receiver<bool>,
) -> Result<Checkpoint> {
    let held = checkpoint.held(frame, suspicion);
    let ways_out = ways_out(&command("dead-letters --accept"));
    error!("paused, too much is rejected: {held}; what came before is committed; {ways_out}");
    checkpoint.meters.hold(Some(held.clone()));
    let announced = held.clone();
    checkpoint = blocking("writer", move || {
        if let Err(error) = held::announce(&checkpoint.local, &announced) {
            warn!(%error, "the command that lets them pass cannot know of it");
        }
        Ok(checkpoint)
    })
    .await?;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stopped(stop) => {
                return Err(Error::new(
                    ErrorKind::DeadLetters,
                    format!("stopped while paused, all before is committed, the rest is read again at the next start: {held}; {ways_out}"),
                ));
            }
        }
        let (asked, accepted);
        asked = held.clone();
        (checkpoint, accepted) = blocking("writer", move || {
            let accepted = checkpoint.look_for_acceptance(&asked)?;
            Ok((checkpoint, accepted))
        })
        .await?;
        if accepted {
            checkpoint.meters.hold(None);
            return Ok(checkpoint);
        }
    }
}

impl Checkpoint {
    fn held(&self, frame: &Frame, Suspicion { tally, reason }: Suspicion) -> Held {
        let range = |range: &OffsetRange| HeldRange {
            id: range.partition.id.as_str().into(),
            label: range.partition.label.as_ref().into(),
            from: range.from,
            to: range.to,
        };
        Held {
            since: Utc::now(),
            ranges: frame.ranges.iter().map(range).collect(),
            tally,
            usual: self.store.state().rest().usual,
            reason: reason.as_deref().unwrap_or("no reason known").to_owned(),
        }
    }

    /// Takes an acceptance, if there is one, into the ledger. Returns whether it lets all of these records pass.
    fn look_for_acceptance(&mut self, held: &Held) -> Result<bool> {
        let acceptance = match held::take_acceptance(&self.local) {
            Ok(Some(acceptance)) => acceptance,
            Ok(None) => return Ok(false),
            Err(error) => {
                warn!(%error, "what an operator lets pass cannot be read");
                return Ok(false);
            }
        };
        if !acceptance.covers(held) {
            warn!(by = %acceptance.by, "what an operator lets pass does not cover what is held back: give the command again");
            return Ok(false);
        }
        self.lock.check()?;
        let text = format!("rejected records may pass: {}", held.places());
        info!(by = %acceptance.by, "{text}");
        let action = Action { by: acceptance.by, up_to: acceptance.up_to, ..Action::new(ActionKind::AcceptRejected, text) };
        self.store.act(action, Adopted::default(), Utc::now())?;
        self.open = super::Open::after(&self.store);
        self.tally = Tally::default();
        held::withdraw(&self.local);
        Ok(true)
    }
}
