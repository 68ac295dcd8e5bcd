//! `source.type = "file"`: its settings.
//!
//! Owns: every key and the reason of its default.
//! Does not own: the files that are found (see `discover`).

use std::time::Duration;

use chrono::TimeDelta;
use pintail_core::error::Result;
use pintail_core::limits::Limits;
use pintail_settings::bounds::{DAY, HOUR, MILLISECOND};
use pintail_settings::{Section, values};
use pintail_storage::checkpoint::store::Remember;

use super::{FileSource, NAME};
use crate::kind::{Configured, Kind, Surroundings};
use crate::{OnGap, Resume, Source};

/// `source.type = "file"`
#[derive(Debug, Clone)]
pub struct FileConfig {
    /// File names and globs; read in the order of names.
    pub paths: Vec<String>,
    /// Whether to go on waiting for lines and files.
    pub follow: bool,
    /// What to do when a file with uncommitted or already committed data was truncated, replaced or has vanished.
    pub on_gap: OnGap,
    /// Time between two looks at the files in follow mode.
    pub poll_interval: Duration,
    /// Files known at the same time.
    pub files_max: usize,
    /// Files open at the same time while following: the share of the descriptors that there are.
    pub open_max: usize,
    /// What to make of a file whose content was read under another name that still holds it.
    pub copies: Copies,
    /// How long a file that vanished after it was read is known again when it comes back.
    pub remember: Duration,
    /// Files that vanished and are remembered.
    pub remember_max: usize,
}

/// `source.copies`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// Pass over what was read under the other name; read what the copy holds beyond.
    Skip,
    /// Read it as a file of its own.
    Read,
}

/// The kind.
pub(crate) const KIND: Kind = Kind {
    name: NAME,
    keys: &["path", "follow", "on_gap", "poll_interval", "files_max", "copies", "remember", "remember_max"],
    read: |section, limits| Box::new(FileConfig::read(section, limits)),
    owns: None,
};

impl FileConfig {
    fn read(section: &mut Section<'_>, limits: Limits) -> Self {
        if !section.has("path") {
            section.missing("path", "`source.type = \"file\"` needs a file name or a glob, such as \"events/*.ndjson\"");
        }
        Self {
            paths: section.list("path", &[], glob_pattern),
            follow: section.boolean("follow", false),
            on_gap: OnGap::read(section),
            // Four looks a second cost nothing measurable and are below what a reader of the dataset notices.
            poll_interval: section.duration("poll_interval", Duration::from_millis(250), MILLISECOND..=HOUR),
            // Each known file costs a few hundred bytes of every snapshot.
            files_max: section.count("files_max", 10_000, 1..=1_000_000),
            open_max: limits.descriptors.input(),
            copies: section.choice("copies", "skip", &[("skip", Copies::Skip), ("read", Copies::Read)]),
            remember: section.duration("remember", DAY * 90, Duration::ZERO..=DAY * 3660),
            // About 48 bytes each.
            remember_max: section.count("remember_max", 1_000_000, 0..=10_000_000),
        }
    }
}

/// A file name or a glob, checked.
fn glob_pattern(text: &str) -> Result<String, String> {
    let pattern = values::name(text)?;
    glob::Pattern::new(&pattern).map_err(|e| format!("not a glob: {} at character {}", e.msg, e.pos + 1))?;
    Ok(pattern)
}

impl Configured for FileConfig {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn remember(&self) -> Remember {
        Remember { longest: TimeDelta::from_std(self.remember).unwrap_or(TimeDelta::MAX), most: self.remember_max }
    }

    fn can_be_tried(&self) -> bool {
        true
    }

    fn accepting_gaps(&self) -> Box<dyn Configured> {
        Box::new(Self { on_gap: OnGap::Record, ..self.clone() })
    }

    fn open(&self, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Box<dyn Source>> {
        Ok(Box::new(FileSource::open(self, around, resume)?))
    }

    fn check(&self, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Vec<String>> {
        FileSource::check(self, around, resume)
    }
}
