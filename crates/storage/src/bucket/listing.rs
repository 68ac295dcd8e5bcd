//! Lists of what lies in a bucket.
//!
//! Owns: the order of the requests, page by page and side by side.
//! Does not own: what readers take for data ([`crate::checkpoint::visible`]), what follows from a list (see `super::ground` and `super::tree`). No commit
//! rests on one.

use futures_util::{StreamExt, TryStreamExt, stream};
use pintail_core::error::{Error, Result};

use super::SIDE_BY_SIDE;
use super::requests::{Requests, failed};
use crate::blob::{Fault, ObjectKey, Page, Reach};

/// Lists one level of a directory.
pub(super) async fn level(requests: &Requests, dir: &str) -> std::result::Result<Page, Fault> {
    let mut all = Page::default();
    loop {
        let page = page(requests, dir, Reach::Level, all.next.take()).await?;
        all.objects.extend(page.objects);
        all.dirs.extend(page.dirs);
        all.next = page.next;
        if all.next.is_none() {
            return Ok(all);
        }
    }
}

/// Lists all objects below a directory. Each is given to `take` with its length.
///
/// # Errors
/// If the bucket does not say.
pub(super) async fn below(requests: &Requests, dir: &str, mut take: impl FnMut(&ObjectKey, u64)) -> Result<()> {
    let mut next = None;
    loop {
        let page = page(requests, dir, Reach::All, next.take()).await.map_err(|fault| cannot(requests, dir, fault))?;
        page.objects.iter().for_each(|(key, bytes)| take(key, *bytes));
        next = page.next;
        if next.is_none() {
            return Ok(());
        }
    }
}

/// Lists all objects but those of the ledger. Each is given to `take` with its length, in no order. The directories at the root are listed side by side, unless they fill more than a page: then they may be many and small,
/// and all is listed from the root.
///
/// # Errors
/// If the bucket does not say.
pub(super) async fn data(requests: &Requests, take: impl Fn(&ObjectKey, u64)) -> Result<()> {
    let first = page(requests, "", Reach::Level, None).await.map_err(|fault| cannot(requests, "", fault))?;
    let private = requests.key(&requests.paths.private());
    if first.next.is_some() {
        let is_private = |key: &ObjectKey| key.as_str().strip_prefix(private.as_str()).is_some_and(|below| below.starts_with('/'));
        let take = |key: &ObjectKey, bytes| {
            if !is_private(key) {
                take(key, bytes);
            }
        };
        return below(requests, "", take).await;
    }
    first.objects.iter().for_each(|(key, bytes)| take(key, *bytes));
    let dirs = first.dirs.iter().filter(|dir| **dir != private);
    let lists = dirs.map(|dir| below(requests, dir.as_str(), &take));
    stream::iter(lists).buffer_unordered(SIDE_BY_SIDE).try_collect().await
}

async fn page(requests: &Requests, dir: &str, reach: Reach, page: Option<String>) -> std::result::Result<Page, Fault> {
    requests.persist(|| requests.blob().page(dir, reach, page.clone())).await
}

fn cannot(requests: &Requests, dir: &str, fault: Fault) -> Error {
    failed(format_args!("list `{}`", requests.paths.published(dir).display()), fault)
}
