//! Recovery: from what lies on the disk to what must be done, as a function without a disk.
//!
//! Owns: the decision for each file of the last commit record, and which staging is garbage.
//! Does not own: looking and acting (see `store::open`).

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
    /// Its sequence number.
    pub sequence: u64,
    /// Its files.
    pub files: Vec<FileFacts>,
}

/// Everything that the decision rests on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The last record; `None` before the first commit.
    pub last: Option<LastRecord>,
    /// The sequence numbers of all staging directories.
    pub staging: Vec<u64>,
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

/// What to do, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// For each file of the last record, in its order. What is kept or published is made durable, also if it was there.
    pub steps: Vec<Step>,
    /// Then the staging directories to remove: no record needs them any more.
    pub remove: Vec<u64>,
}

/// Decides. Carrying out any part of the plan and deciding again leads to the same end.
///
/// # Errors
/// [`crate::error::ErrorKind::State`] if what lies there follows from no crash: somebody else wrote, removed or changed it.
pub fn plan(facts: &Facts) -> Result<Plan> {
    let Some(last) = &facts.last else {
        return Ok(Plan { steps: Vec::new(), remove: facts.staging.clone() });
    };
    // Staging is removed after everything is published and durable: its absence says that it was.
    let published = !facts.staging.contains(&last.sequence);
    let steps = last.files.iter().map(|file| step(last.sequence, published, file)).collect::<Result<_>>()?;
    Ok(Plan { steps, remove: facts.staging.clone() })
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
