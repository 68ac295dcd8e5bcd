//! Removing files of data that a record has declared expired.
//!
//! Owns: the requests, side by side. May be killed at any step and run again.
//! Does not own: which files (see the command `expire`): their record comes first, so that nobody misses what is gone.

use std::path::PathBuf;

use futures_util::{StreamExt, TryStreamExt, stream};
use pintail_core::error::Result;

use super::requests::{Requests, failed};
use super::{Place, SIDE_BY_SIDE};
use crate::blob::Discard;

/// Removes files, named by their paths below the root. Those that are gone are no fault.
///
/// # Errors
/// If the bucket refuses one, or does not answer. Some are removed then.
pub async fn discard(place: &Place, from: &dyn Discard, names: &[String]) -> Result<()> {
    let requests = &Requests::of(place);
    let discard = |path: PathBuf| async move {
        let key = requests.key(&path);
        let discarded = requests.persist(|| from.discard(&key)).await;
        discarded.map_err(|fault| failed(format_args!("remove `{}`", path.display()), fault))
    };
    let paths = names.iter().map(|name| requests.paths.published(name));
    stream::iter(paths.map(discard)).buffer_unordered(SIDE_BY_SIDE).try_collect().await
}
