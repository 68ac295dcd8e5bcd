//! Recovery: from what lies on the disk to what must be done, as a function without a disk.
//!
//! Owns: the decision for each file of the last commit record, and which staging is garbage.
//! Does not own: looking and acting (see `store::open`), what is said of files that are gone (see `store::missing`).

use super::paths::StagedBy;

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
    /// Whether an operator has declared that it may be gone.
    pub may_be_gone: bool,
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
    /// It is gone: somebody removed it after it was published, or its staging before.
    Missing,
    /// It was never published and cannot be: somebody removed or changed its staged copy.
    Lost,
    /// Something else is in its place.
    Occupied,
}

/// Decides for each file of the last record, in its order. What is kept or published is made durable, also if it was there. Carrying out any part
/// of the plan and deciding again leads to the same end. A plan with a [`Step::Lost`] or [`Step::Occupied`] follows from no crash, and must not be
/// carried out.
pub fn plan(facts: &Facts) -> Vec<Step> {
    let Some(last) = &facts.last else { return Vec::new() };
    // Staging is removed after everything is published and durable: its absence says that it was.
    let published = !facts.staging.contains(&last.staged_by);
    last.files.iter().map(|file| step(published, file)).collect()
}

/// Returns the staging directories that no record needs any more, once everything is published and the open record of `epoch` is durable, and
/// before its process stages anything: those of older processes, and of one that took the same number in a newer copy of the dataset. A younger
/// process may be at work.
pub fn garbage(staging: &[StagedBy], epoch: u64) -> Vec<StagedBy> {
    staging.iter().copied().filter(|staged| staged.epoch <= epoch).collect()
}

fn step(published: bool, file: &FileFacts) -> Step {
    match (file.at_final, file.at_staged) {
        (Found::Right, _) => Step::Keep,
        (Found::Wrong, _) => Step::Occupied,
        (Found::Absent, Found::Right) => Step::Publish,
        (Found::Absent, _) if published || file.may_be_gone => Step::Missing,
        (Found::Absent, _) => Step::Lost,
    }
}

#[cfg(test)]
mod tests;
