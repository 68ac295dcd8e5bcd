//! Identity: which file this is, whatever it is called now.
//!
//! Owns: the identity's text, which is the id of the file's partition in the commit records, and recognizing a file by it.
//! Does not own: what follows for the offsets (see `positions`).
//!
//! The text is `<device>-<inode>-<generation>-<prefix bytes>-<hash>`, device and inode in hexadecimal. The hash is the first half of the
//! SHA-256 of the file's first bytes, at most 1 KiB, as many as there were when it was first seen: an appended file keeps its identity, a
//! rewritten one does not. The generation counts the files that have followed one another on one inode, so that a file which was
//! truncated and began with the same bytes again is another partition.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use sha2::{Digest, Sha256};

use crate::offsets::PartitionId;

/// Bytes that identify a file's content. More would tell more files apart and cost a longer read for each; log lines differ by time.
const PREFIX_BYTES_MAX: usize = 1024;

/// A place on a disk: the same for every name of a file, taken again after the file is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    pub(super) device: u64,
    pub(super) number: u64,
}

impl Inode {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }
}

/// What a look at a file shows.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub(super) inode: Inode,
    /// The length on disk, in bytes.
    pub(super) length: u64,
    /// The first bytes.
    pub(super) prefix: Vec<u8>,
}

impl Observed {
    /// Looks at a file, without moving its read position.
    pub(super) fn look(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let mut prefix = vec![0; PREFIX_BYTES_MAX];
        let mut read = 0;
        while read < prefix.len() {
            match file.read_at(&mut prefix[read..], read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        prefix.truncate(read);
        // The length was asked first: a file that grew in between shows a prefix that is longer, never one that is missing.
        Ok(Self { inode: Inode::of(&metadata), length: metadata.len().max(read as u64), prefix })
    }
}

/// What a file is recognized by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) inode: Inode,
    /// How many files were on this inode before.
    pub(super) generation: u32,
    /// How many bytes the hash covers; never 0.
    pub(super) prefix_bytes: usize,
    hash: [u8; 16],
}

impl Identity {
    /// Identifies a file on first sight; `None` while it is empty.
    pub(super) fn first_sight(observed: &Observed, generation: u32) -> Option<Self> {
        let prefix_bytes = observed.prefix.len();
        (prefix_bytes > 0).then(|| Self { inode: observed.inode, generation, prefix_bytes, hash: hash(&observed.prefix) })
    }

    /// Returns whether the file still begins as it did on first sight.
    pub(super) fn recognizes(&self, observed: &Observed) -> bool {
        let prefix = observed.prefix.get(..self.prefix_bytes);
        self.inode == observed.inode && prefix.is_some_and(|prefix| hash(prefix) == self.hash)
    }

    /// Writes the id of the partition.
    pub(super) fn partition_id(&self) -> PartitionId {
        let Inode { device, number } = self.inode;
        let hash = u128::from_be_bytes(self.hash);
        PartitionId::new(format!("{device:x}-{number:x}-{}-{}-{hash:032x}", self.generation, self.prefix_bytes))
    }

    /// Reads the id of a partition.
    pub(super) fn parse(id: &PartitionId) -> Option<Self> {
        let mut parts = id.as_str().split('-');
        let mut part = || parts.next();
        let device = u64::from_str_radix(part()?, 16).ok()?;
        let number = u64::from_str_radix(part()?, 16).ok()?;
        let generation = part()?.parse().ok()?;
        let prefix_bytes = part()?.parse().ok()?;
        let hash = u128::from_str_radix(part()?, 16).ok()?.to_be_bytes();
        let identity = Self { inode: Inode { device, number }, generation, prefix_bytes, hash };
        (identity.partition_id() == *id && (1..=PREFIX_BYTES_MAX).contains(&prefix_bytes)).then_some(identity)
    }
}

fn hash(prefix: &[u8]) -> [u8; 16] {
    let digest = Sha256::digest(prefix);
    std::array::from_fn(|at| digest[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(prefix: &[u8]) -> Observed {
        Observed { inode: Inode { device: 0xfe01, number: 77 }, length: prefix.len() as u64, prefix: prefix.to_vec() }
    }

    #[test]
    fn a_file_that_grew_is_recognized_and_one_that_was_rewritten_or_cut_is_not() {
        let identity = Identity::first_sight(&observed(b"{\"a\":1}\n"), 0).unwrap();
        assert!(identity.recognizes(&observed(b"{\"a\":1}\n{\"a\":2}\n")));
        assert!(!identity.recognizes(&observed(b"{\"a\":7}\n{\"a\":2}\n")));
        assert!(!identity.recognizes(&observed(b"{\"a\":1}")));
        let mut elsewhere = observed(b"{\"a\":1}\n");
        elsewhere.inode.number = 78;
        assert!(!identity.recognizes(&elsewhere));
    }

    #[test]
    fn an_empty_file_has_no_identity() {
        assert_eq!(Identity::first_sight(&observed(b""), 0), None);
    }

    #[test]
    fn the_text_of_an_identity_is_read_back_and_other_text_is_refused() {
        let identity = Identity::first_sight(&observed(b"x"), 3).unwrap();
        let id = identity.partition_id();
        // The hash is the beginning of `printf x | sha256sum`.
        assert_eq!(id.as_str(), "fe01-4d-3-1-2d711642b726b04401627ca9fbac32f5");
        assert_eq!(Identity::parse(&id), Some(identity));
        for text in [
            "",
            "simulator",
            "fe01-4d-3-1",
            "fe01-4d-3-0-2d711642b726b04401627ca9fbac32f5",
            "fe01-4d-3-1-2d",
            "fe01-4d-3-1-2d711642b726b04401627ca9fbac32f5-",
        ] {
            assert_eq!(Identity::parse(&PartitionId::new(text)), None, "{text}");
        }
    }
}
