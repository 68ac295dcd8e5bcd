//! Sketch: a short text that stands for the beginning of content.
//!
//! Owns: which bytes it covers, and that a beginning of content has a beginning of its sketch.
//! Does not own: looking them up (see `prefixes`), which files have one (see `crowd`).
//!
//! It says that two contents differ, never that they are the same. It is made anew in each process, and kept nowhere.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};

use super::input::{Input, read_range};
use crate::compression::Compression;

/// Bytes that a sketch covers at most. Headers that thousands of files share are shorter.
pub(super) const SKETCHED_BYTES: u64 = SKETCHED as u64;
const SKETCHED: usize = 32 << 10;

/// How many bytes have one in the sketch, up to an offset. A record that differs is the longer, the more stands before it.
const PIECES: [(usize, usize); 3] = [(4 << 10, 4), (16 << 10, 16), (SKETCHED, 64)];

/// Bytes of a new file's content by which it is told from others that begin with the same sketch, and how many have one there.
const FURTHER: (usize, usize) = (1 << 20, 256);

/// A byte for each whole piece of content, of the hash of all up to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sketch(Box<[u8]>);

impl Sketch {
    pub(super) fn of(content: &[u8], hashes: &RandomState) -> Self {
        Self::in_pieces(content, &PIECES, hashes)
    }

    fn in_pieces(content: &[u8], of: &[(usize, usize)], hashes: &RandomState) -> Self {
        let (mut pieces, mut hasher, mut at) = (Vec::new(), hashes.build_hasher(), 0);
        for &(to, bytes) in of {
            while at + bytes <= to.min(content.len()) {
                hasher.write(&content[at..at + bytes]);
                pieces.push(hasher.finish().to_le_bytes()[0]);
                at += bytes;
            }
        }
        Self(pieces.into())
    }

    /// Makes the sketch of a file, of so many bytes of its content. Of a damaged one it covers what can be read.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn of_file(file: &File, compression: Compression, to: u64, hashes: &RandomState) -> io::Result<Self> {
        let to = to.min(SKETCHED_BYTES);
        if compression == Compression::None {
            return Ok(Self::of(&read_range(file, 0, to)?, hashes));
        }
        let mut content = Vec::new();
        match Input::open(file.try_clone()?, compression)?.take(to).read_to_end(&mut content) {
            Err(e) if !compression.is_damage(&e) => Err(e),
            _ => Ok(Self::of(&content, hashes)),
        }
    }

    /// Makes a longer sketch of a plain file, which begins with its sketch.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn further(file: &File, to: u64, hashes: &RandomState) -> io::Result<Self> {
        let content = read_range(file, 0, to.min(FURTHER.0 as u64))?;
        Ok(Self::in_pieces(&content, &[PIECES[0], PIECES[1], PIECES[2], FURTHER], hashes))
    }

    /// Returns whether it covers all that one may.
    pub(super) fn is_whole(&self) -> bool {
        let pieces = |from: usize, (to, bytes): (usize, usize)| (to - from) / bytes;
        self.0.len() >= pieces(0, PIECES[0]) + pieces(PIECES[0].0, PIECES[1]) + pieces(PIECES[1].0, PIECES[2])
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sketch_of_a_beginning_is_a_beginning_of_the_sketch_and_a_record_that_differs_shows() {
        let hashes = RandomState::new();
        let content: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
        let whole = Sketch::of(&content, &hashes);
        for length in [0, 1, 4, 1023, 1024, 1025, 4095, 4096, 5000, 32_767, 32_768, 40_000] {
            assert!(whole.as_bytes().starts_with(Sketch::of(&content[..length], &hashes).as_bytes()), "{length}");
        }
        let longer = Sketch::in_pieces(&content, &[PIECES[0], PIECES[1], PIECES[2], FURTHER], &hashes);
        assert!(longer.as_bytes().starts_with(whole.as_bytes()) && longer.as_bytes().len() > whole.as_bytes().len());
        assert!(whole.is_whole() && !Sketch::of(&content[..32_000], &hashes).is_whole());
        // Of a single piece one other in 256 looks the same.
        for at in [0, 1000, 3000, 10_000] {
            let mut other = content.clone();
            other[at..at + 1000].iter_mut().for_each(|byte| *byte ^= 1);
            assert_ne!(Sketch::of(&other, &hashes), whole, "{at}");
        }
    }
}
