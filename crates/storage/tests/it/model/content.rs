//! The bytes of a modelled file.
//!
//! Owns: sharing them, and what makes two contents the same for the purpose of not trying a disk twice.
//! Does not own: where they lie.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// Shorter runs of hexadecimal digits are no identity of a dataset, and no checksum.
const RUN_MIN: usize = 8;

/// The bytes of a file at one moment.
#[derive(Debug, Default)]
pub(crate) struct Content {
    bytes: Vec<u8>,
    mark: OnceLock<Mark>,
}

/// A content with its hexadecimal runs and its sequence numbers taken out.
#[derive(Debug)]
struct Mark {
    rest: u64,
    runs: Vec<u64>,
    numbers: Vec<u64>,
}

/// Numbers hexadecimal runs in the order they are met. A dataset's identity is random, and with it every checksum that follows from it:
/// two disks that differ only by a consistent renaming of these are one.
#[derive(Debug, Default)]
pub(crate) struct Renaming(Vec<u64>);

impl Content {
    pub(crate) fn new(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { bytes, mark: OnceLock::new() })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns these bytes with more after them.
    pub(crate) fn with(&self, more: &[u8]) -> Arc<Self> {
        Self::new([&self.bytes, more].concat())
    }

    /// Feeds the content to `hasher`, all identities renamed, and sequence numbers counted back from `last` if that is given.
    pub(crate) fn hash(&self, renaming: &mut Renaming, last: Option<u64>, hasher: &mut impl Hasher) {
        let mark = self.mark.get_or_init(|| Mark::of(&self.bytes));
        mark.rest.hash(hasher);
        mark.runs.iter().for_each(|run| renaming.number(*run).hash(hasher));
        mark.numbers.iter().for_each(|number| last.unwrap_or(0).wrapping_sub(*number).hash(hasher));
    }
}

impl Renaming {
    /// Returns the number of a hexadecimal run.
    pub(crate) fn number_of(&mut self, run: &[u8]) -> usize {
        self.number(digest(run))
    }

    fn number(&mut self, run: u64) -> usize {
        self.0.iter().position(|met| *met == run).unwrap_or_else(|| {
            self.0.push(run);
            self.0.len() - 1
        })
    }
}

/// What comes before a sequence number.
const NUMBERED: [&[u8]; 2] = [b"\"sequence\":", b"\"epoch\":"];

impl Mark {
    fn of(bytes: &[u8]) -> Self {
        let (mut rest, mut runs, mut numbers) = (DefaultHasher::new(), Vec::new(), Vec::new());
        let mut at = 0;
        for piece in bytes.chunk_by(|a, b| is_hex(*a) == is_hex(*b)) {
            let before = &bytes[..at];
            at += piece.len();
            if is_hex(piece[0]) && piece.len() >= RUN_MIN {
                runs.push(digest(piece));
                piece.len().hash(&mut rest);
            } else if let Some(number) = number(before, piece) {
                numbers.push(number);
            } else {
                piece.hash(&mut rest);
            }
        }
        Self { rest: rest.finish(), runs, numbers }
    }
}

fn number(before: &[u8], piece: &[u8]) -> Option<u64> {
    NUMBERED.iter().any(|key| before.ends_with(key)).then(|| std::str::from_utf8(piece).ok()?.parse().ok()).flatten()
}

fn digest(run: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    run.hash(&mut hasher);
    hasher.finish()
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}
