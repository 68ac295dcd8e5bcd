//! Making the last snapshot again, where it is gone or torn.
//!
//! Owns: the requests.
//! Does not own: what the records add up to, and whether that is what the last one names (see [`crate::checkpoint::store`]).

use pintail_core::error::Result;

use super::Place;
use super::head;
use super::open::find_format;
use super::requests::Requests;
use crate::checkpoint::record::SnapshotName;
use crate::checkpoint::store::Chain;

/// Makes the snapshot again that the last record names, from all records before it. Returns its name, or `None` if no record names one. A process may
/// hold the dataset meanwhile: what is written are the very bytes that its records name.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if the records do not lead to it.
pub async fn rebuild_snapshot(place: &Place) -> Result<Option<SnapshotName>> {
    let requests = Requests::of(place);
    let Some((format, format_sha256)) = find_format(&requests).await? else { return Ok(None) };
    let Some(name) = head::last(&requests).await?.and_then(|last| last.snapshot) else { return Ok(None) };
    let mut chain = Chain::new(&requests.paths, &format_sha256);
    head::follow_all(&requests, &mut chain, 1..=name.sequence).await?;
    let bytes = chain.snapshot(&format.dataset_id, &name)?;
    requests.replace(&requests.paths.snapshot(name.sequence), bytes.into()).await?;
    Ok(Some(name))
}
