//! Opening the journal: what a crash left, and what is made of it.
//!
//! Facts (see [`super::facts`]), a pure plan (see [`super::plan`]), and here it is carried out.
//!
//! Owns: the order in which a plan is carried out.
//! Does not own: what is in the plan, writing afterwards (see `log`).
//!
//! The newest segment is replaced by a copy: what was written to it and not synced may be visible and yet not on the disk, and after a
//! failed fsync no further fsync of that file would tell.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use pintail_core::error::{Error, Result};
use tracing::warn;

use super::facts::Facts;
use super::frame::HEADER;
use super::log::Log;
use super::new_segment::NewSegment;
use super::opening::Opening;
use super::plan::{Plan, Replacement, judge, plan};
use super::segment::{self, Frames};
use super::shared::{Extent, Shared};
use super::{Committed, Settings, note};
use crate::durable::fs::{Fs, FsFile};

pub(super) fn open(fs: Arc<dyn Fs>, settings: Settings, committed: &Committed) -> Result<Log> {
    check_limits(&settings)?;
    let plan = plan(&settings, committed, Facts::look(&*fs, &settings, committed)?)?;
    carry_out(fs, settings, committed, plan)
}

/// Looks whether the journal could be opened. Changes nothing.
///
/// # Errors
/// As [`open`].
pub(super) fn check(fs: &dyn Fs, settings: &Settings, committed: &Committed) -> Result<()> {
    check_limits(settings)?;
    judge(settings, committed, &Facts::look(fs, settings, committed)?)
}

fn check_limits(settings: &Settings) -> Result<()> {
    let least = 2 * settings.segment_bytes + 2 * (settings.keys_max * HEADER) as u64;
    if settings.bytes_max < least {
        return Err(Error::config(format!(
            "the journal may take {} bytes: segments of {} bytes and {} keys need at least {least}",
            settings.bytes_max, settings.segment_bytes, settings.keys_max
        )));
    }
    Ok(())
}

fn carry_out(fs: Arc<dyn Fs>, settings: Settings, committed: &Committed, plan: Plan) -> Result<Log> {
    let Plan { in_progress, torn, new, kept: mut extents, replaced, keys } = plan;
    make_dir(&*fs, &settings)?;
    let cleaned = in_progress.iter().try_for_each(|path| fs.remove_file(path));
    cleaned.map_err(|e| Error::io(format_args!("clean `{}`", settings.dir.display()), e))?;
    if let Some(torn) = torn {
        warn!(segment = %torn.path.display(), at = torn.at, bytes = torn.bytes, "cut off the end of the journal, which was never answered");
    }
    let (file, end) = write(&*fs, &settings, &new)?;
    note::make(&*fs, &settings)?;
    let Replacement { header, offset, running, stamp, .. } = new;
    let (segment, begin) = (header.segment, header.begin());
    extents.push_back(Extent { segment, begin, first_offset: header.first_offset, end, bytes: end });
    remove_replaced(&*fs, &settings, &replaced)?;
    let (dir, dataset_id) = (settings.dir.clone(), settings.dataset_id.clone());
    let shared = Arc::new(Shared::new(fs.clone(), dir, dataset_id, extents, (offset, running)));
    let (mark, released) = (header.mark(), committed.offset.unwrap_or(0));
    Ok(Log { fs, settings, shared, file, mark, broken: false, named_with: end, stamp, keys, released })
}

fn make_dir(fs: &dyn Fs, settings: &Settings) -> Result<()> {
    let dir = &settings.dir;
    let made = fs.entry(dir).and_then(|entry| if entry.is_none() { fs.create_dir(dir) } else { Ok(()) });
    // Also where it was there: who made it may have been killed before its name was durable.
    let made = made.and_then(|()| fs.sync_dir(dir.parent().expect("the journal lies in a dataset")));
    made.map_err(|e| match dir.parent() {
        Some(parent) if e.kind() == io::ErrorKind::NotFound => Error::io(
            format_args!("make the directory `{}` of the journal: `{}` is to be there before", dir.display(), parent.display()),
            e,
        ),
        _ => Error::io(format_args!("make the directory `{}`", dir.display()), e),
    })
}

/// Writes a segment, with the frames that it takes over from the one that it replaces.
fn write(fs: &dyn Fs, settings: &Settings, new: &Replacement) -> Result<(Box<dyn FsFile>, u64)> {
    let path = segment::path(&settings.dir, new.header.segment);
    let failed = |e| Error::io(format_args!("write `{}`", path.display()), e);
    let mut segment = NewSegment::begin(fs, &settings.dir, &new.header).map_err(failed)?;
    if let Some(copied) = new.copied {
        let (length, running) = (new.header.copied - HEADER as u64, new.header.running.expect("a new segment has it"));
        segment.open(Opening { group: 0, frames: copied.frames, length, zeros: 0, running, stamp: new.stamp }).map_err(failed)?;
        let mut frames = Frames::open(fs, &settings.dir, &settings.dataset_id, copied.segment, copied.end)?;
        while let Some(frame) = frames.read()?.map_err(|bad| frames.refuse(&bad, 0))? {
            segment.add(&frame.head, &frame.body).map_err(failed)?;
        }
    }
    segment.sync().and_then(NewSegment::name).map_err(failed)
}

/// Removes the segments that were replaced, durably before any other goes.
fn remove_replaced(fs: &dyn Fs, settings: &Settings, replaced: &[PathBuf]) -> Result<()> {
    let removed = replaced.iter().try_for_each(|path| fs.remove_file(path));
    // Also where none is left: who removed them may have been killed before that was durable.
    let removed = removed.and_then(|()| fs.sync_dir(&settings.dir));
    removed.map_err(|e| Error::io(format_args!("remove the replaced segments of `{}`", settings.dir.display()), e))
}
