//! The ground: what is visible in a bucket, before a process relies on the ledger there; and whether the ledger is still there while it does.
//!
//! Owns: looking for files that are younger than the last record, and for what this process wrote.
//! Does not own: what is younger, and what is said of it (the same as on a disk, see [`crate::checkpoint::store`]).

use std::path::Path;

use parking_lot::Mutex;
use pintail_core::error::{Error, Result};

use super::listing;
use super::requests::Requests;
use crate::checkpoint::log;
use crate::checkpoint::store::{Visible, check_not_older, fenced_by};

/// Refuses a ledger whose last record is `last` if files are visible that are younger: an older copy was put back beside them, or records were removed.
/// What they hold would be read again. Lists all names of data files, 1,000 a request.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`], naming the newest file and the ways out. Not if the next record is there: then another process has gone on
/// from `last`, and whoever creates that record looks again.
pub(super) async fn check(requests: &Requests, last: Option<u64>) -> Result<()> {
    let visible = Mutex::new(Visible::default());
    listing::data(requests, |key, _| visible.lock().see(&requests.paths, &requests.paths.published(key.as_str()))).await?;
    let checked = check_not_older(&requests.paths, &visible.into_inner(), last);
    if checked.is_err() && requests.look(&requests.paths.record(last.unwrap_or(0) + 1)).await?.is_some() {
        return Ok(());
    }
    checked
}

/// Looks for a record that this process wrote, by its checksum. Returns the error that says why nothing more can be committed if it is not there: the
/// bucket was emptied or put back to an older state under this process, and whatever it committed now would lie behind a gap; or another process has
/// gone on from that older state.
pub(super) async fn lost(requests: &Requests, sequence: u64, sha256: &str) -> Result<Option<Error>> {
    let path = requests.paths.record(sequence);
    let Some(object) = requests.read(&path).await? else { return Ok(Some(gone(requests, &path))) };
    let (there, its_sha256) = log::parse(Some(&object.bytes), &path, sequence)?;
    Ok((its_sha256 != sha256).then(|| fenced_by(&there, &requests.paths)))
}

/// Returns the error that says so if FORMAT is gone.
pub(super) async fn format_lost(requests: &Requests) -> Result<Option<Error>> {
    let path = requests.paths.format();
    Ok(requests.look(&path).await?.is_none().then(|| gone(requests, &path)))
}

fn gone(requests: &Requests, path: &Path) -> Error {
    Error::state(format!(
        "`{}`, which this process found or wrote, is gone: somebody emptied the bucket while it ran, put it back to an older state, or removed that; \
         nothing more is committed; restore `{}` from a copy, or by the versions of the bucket; if the whole dataset was put back on purpose, start \
         again, and the source is read from where that ends",
        path.display(),
        requests.paths.private().display()
    ))
}
