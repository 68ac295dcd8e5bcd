//! Recovery: from what lies on the disk to what must be done, as a function without a disk.
//!
//! Owns: the decision for each file of the last commit record, and which staging is garbage.
//! Does not own: looking and acting (see `store::open`).

use super::paths::StagedBy;
use crate::error::{Error, Result};

/// What lies at a place where a file of the last record may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Absent,
    /// The bytes that the record names.
    Right,
    /// Something else.
    Wrong,
}

/// One file of the last record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// Its final place below the dataset's directory.
    pub path: String,
    /// Its number in the staging directory.
    pub staged_index: u32,
    /// What lies in its final place. If the record's staging is gone, its length alone says right or wrong.
    pub at_final: Found,
    /// What lies in its staged place.
    pub at_staged: Found,
}

/// The last record and its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRecord {
    /// Which checkpoint of which process it is of: the name of its staging directory.
    pub staged_by: StagedBy,
    /// Its files.
    pub files: Vec<FileFacts>,
}

/// Everything that the decision rests on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The last record; `None` before the first commit.
    pub last: Option<LastRecord>,
    /// All staging directories.
    pub staging: Vec<StagedBy>,
}

/// What to do with one file of the last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is in its place; a staged twin goes with its directory.
    Keep,
    /// Rename the staged file to its final place.
    Publish,
    /// It was published and somebody else has removed it since: warn.
    Missing,
}

/// Decides for each file of the last record, in its order. What is kept or published is made durable, also if it was there. Carrying out any part of the plan and deciding again leads to the same end.
///
/// # Errors
/// [`crate::error::ErrorKind::State`] if what lies there follows from no crash: somebody else wrote, removed or changed it.
pub fn plan(facts: &Facts) -> Result<Vec<Step>> {
    let Some(last) = &facts.last else { return Ok(Vec::new()) };
    // Staging is removed after everything is published and durable: its absence says that it was.
    let published = !facts.staging.contains(&last.staged_by);
    last.files.iter().map(|file| step(last.staged_by.sequence, published, file)).collect()
}

/// Returns the staging directories that no record needs any more, once everything is published and the open record of `epoch` is durable: those
/// of older processes. A younger one may be at work.
pub fn garbage(staging: &[StagedBy], epoch: u64) -> Vec<StagedBy> {
    staging.iter().copied().filter(|staged| staged.epoch < epoch).collect()
}

fn step(sequence: u64, published: bool, file: &FileFacts) -> Result<Step> {
    match (published, file.at_final, file.at_staged) {
        (true, Found::Right, Found::Absent) => Ok(Step::Keep),
        (true, Found::Absent, Found::Absent) => Ok(Step::Missing),
        (false, Found::Right, Found::Absent | Found::Right) => Ok(Step::Keep),
        (false, Found::Absent, Found::Right) => Ok(Step::Publish),
        (_, at_final, at_staged) => Err(Error::state(format!(
            "commit record {sequence} names `{}`: its place is {}, its staged copy is {}, and no crash leaves that: \
             refusing to start; run `pintail verify`",
            file.path,
            says(at_final),
            says(at_staged)
        ))),
    }
}

fn says(found: Found) -> &'static str {
    match found {
        Found::Absent => "empty",
        Found::Right => "right",
        Found::Wrong => "not what the record says",
    }
}

#[cfg(test)]
mod tests;
