//! `source.type = "file"`: its settings, as they may be used.

use std::time::Duration;

use crate::OnGap;

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
