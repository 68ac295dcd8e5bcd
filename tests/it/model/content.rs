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
pub struct Content {
    bytes: Vec<u8>,
    mark: OnceLock<Mark>,
}

/// A content with its hexadecimal runs taken out.
#[derive(Debug)]
struct Mark {
    rest: u64,
    runs: Vec<u64>,
}

/// Numbers hexadecimal runs in the order they are met. A dataset's identity is random, and with it every checksum that follows from it:
/// two disks that differ only by a consistent renaming of these are one.
#[derive(Debug, Default)]
pub struct Renaming(Vec<u64>);

impl Content {
    pub fn new(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { bytes, mark: OnceLock::new() })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns these bytes with more after them.
    pub fn with(&self, more: &[u8]) -> Arc<Self> {
        Self::new([&self.bytes, more].concat())
    }

    /// Feeds the content to `hasher`, all identities renamed.
    pub fn hash(&self, renaming: &mut Renaming, hasher: &mut impl Hasher) {
        let mark = self.mark.get_or_init(|| Mark::of(&self.bytes));
        mark.rest.hash(hasher);
        for run in &mark.runs {
            let number = renaming.0.iter().position(|met| met == run);
            number
                .unwrap_or_else(|| {
                    renaming.0.push(*run);
                    renaming.0.len() - 1
                })
                .hash(hasher);
        }
    }
}

impl Mark {
    fn of(bytes: &[u8]) -> Self {
        let (mut rest, mut runs) = (DefaultHasher::new(), Vec::new());
        for piece in bytes.chunk_by(|a, b| is_hex(*a) == is_hex(*b)) {
            if is_hex(piece[0]) && piece.len() >= RUN_MIN {
                let mut hasher = DefaultHasher::new();
                piece.hash(&mut hasher);
                runs.push(hasher.finish());
                piece.len().hash(&mut rest);
            } else {
                piece.hash(&mut rest);
            }
        }
        Self { rest: rest.finish(), runs }
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}
