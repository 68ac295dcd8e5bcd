//! The directory `_delta_log`: the names in it.
//!
//! Owns: what each file is, by its name.
//! Does not own: how files are made and read (see [`crate::log`]), what is in them.

use pintail_storage::checkpoint::visible::DELTA_LOG;

use crate::log::is_unfinished;

/// The name of the directory.
pub const DIR: &str = DELTA_LOG;
/// The file that names the last checkpoint.
pub const LAST_CHECKPOINT: &str = "_last_checkpoint";

/// Returns the name of a commit.
pub fn commit(version: u64) -> String {
    format!("{version:020}.json")
}

/// Returns the name of a checkpoint of one part.
pub fn checkpoint(version: u64) -> String {
    format!("{version:020}.checkpoint.parquet")
}

/// What a file of the log is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A commit.
    Commit(u64),
    /// A checkpoint, or one of the parts of one.
    Checkpoint {
        /// The commit that it stands after.
        version: u64,
        /// Its parts.
        parts: u32,
    },
    /// What a publisher of ours has not finished.
    Unfinished,
    /// Anything else.
    Other,
}

/// Reads a name.
pub fn kind(name: &str) -> Kind {
    if is_unfinished(name) {
        return Kind::Unfinished;
    }
    let mut pieces = name.split('.');
    let version = pieces.next().filter(|digits| digits.len() == 20).and_then(|digits| digits.parse().ok());
    let Some(version) = version else { return Kind::Other };
    match *pieces.collect::<Vec<_>>() {
        ["json"] => Kind::Commit(version),
        ["checkpoint", "parquet"] => Kind::Checkpoint { version, parts: 1 },
        ["checkpoint", part, parts, "parquet"] if part.len() == 10 => {
            parts.parse().map_or(Kind::Other, |parts| Kind::Checkpoint { version, parts })
        }
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_commits_from_checkpoints_and_from_everything_else() {
        assert_eq!(kind(&commit(7)), Kind::Commit(7));
        assert_eq!(kind(&checkpoint(20)), Kind::Checkpoint { version: 20, parts: 1 });
        let part = "00000000000000000020.checkpoint.0000000001.0000000003.parquet";
        assert_eq!(kind(part), Kind::Checkpoint { version: 20, parts: 3 });
        let by_id = "00000000000000000020.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet";
        for other in [LAST_CHECKPOINT, "00000000000000000007.crc", "7.json", "00000000000000000007.json.tmp", by_id] {
            assert_eq!(kind(other), Kind::Other, "{other}");
        }
        assert_eq!(kind(&format!(".{}.0123.pintail.tmp", commit(7))), Kind::Unfinished);
    }
}
