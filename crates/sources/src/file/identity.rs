//! Identity: where a file lies, and what partition ids look like.
//!
//! Owns: the place of a file (device, inode, time of birth), the ids of partitions, the identity that version 1 made of a file.
//! Does not own: recognizing a file by its content (see `sight`), and what follows for its offsets (see `plan`).
//!
//! A new partition has a random id, `file-` and 32 hexadecimal digits: it says nothing of the file, and is never used again. Ids of version
//! 1 are read: `<device>-<inode>-<generation>-<prefix bytes>-<hash>`, device and inode in hexadecimal. The hash is the first half of the
//! SHA-256 of the file's first bytes on disk, at most 1 KiB, as many as there were when it was first seen.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use pintail_core::offsets::PartitionId;
use sha2::{Digest, Sha256};

/// Bytes that version 1 identified a file's content by.
const PREFIX_BYTES_MAX: usize = 1024;

/// What the ids of new partitions begin with. No id of version 1 does: `file` is no hexadecimal number.
const PREFIX: &str = "file-";

/// A file on a disk: the same for every name of it, taken again after the file is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Inode {
    pub(super) device: u64,
    pub(super) number: u64,
}

impl Inode {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }
}

/// Where a file lies: its inode, and when the inode was made. A file that was deleted and made again often gets the inode, never the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) inode: Inode,
    /// Nanoseconds since 1970; `None` where the file system keeps no such time, or version 1 did not.
    pub(super) born: Option<u64>,
}

impl Place {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        Self { inode: Inode::of(metadata), born: born.and_then(|born| u64::try_from(born.as_nanos()).ok()) }
    }

    /// Reads the text that [`fmt::Display`] writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-').map(|part| u64::from_str_radix(part, 16).ok());
        let inode = Inode { device: parts.next()??, number: parts.next()?? };
        let born = parts.next();
        (parts.next().is_none() && born != Some(None)).then_some(Self { inode, born: born.flatten() })
    }

    /// Returns whether both may be the same file: what one of them does not know does not tell them apart.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        self.inode == other.inode && self.born.zip(other.born).is_none_or(|(own, other)| own == other)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.inode.device, self.inode.number)?;
        self.born.map_or(Ok(()), |born| write!(f, "-{born:x}"))
    }
}

/// Makes the id of a new partition.
pub(super) fn new_partition_id() -> PartitionId {
    PartitionId::new(format!("{PREFIX}{:032x}", rand::random::<u128>()))
}

/// Returns whether an id is one that [`new_partition_id`] makes.
pub(super) fn is_partition_id(id: &PartitionId) -> bool {
    let digits = id.as_str().strip_prefix(PREFIX);
    digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

/// What version 1 recognized a file by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdentityV1 {
    pub(super) inode: Inode,
    /// How many files were on this inode before.
    pub(super) generation: u32,
    /// How many bytes the hash covers; never 0.
    prefix_bytes: usize,
    hash: [u8; 16],
}

impl IdentityV1 {
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

    /// Returns whether a file that begins on disk with `prefix` begins as the identified one did when it was first seen.
    pub(super) fn recognizes(&self, prefix: &[u8]) -> bool {
        prefix.get(..self.prefix_bytes).is_some_and(|prefix| hash(prefix) == self.hash)
    }

    /// Returns how many bytes it was recognized by, and their hash.
    pub(super) fn prefix(&self) -> (usize, [u8; 16]) {
        (self.prefix_bytes, self.hash)
    }

    fn partition_id(&self) -> PartitionId {
        let Inode { device, number } = self.inode;
        let hash = u128::from_be_bytes(self.hash);
        PartitionId::new(format!("{device:x}-{number:x}-{}-{}-{hash:032x}", self.generation, self.prefix_bytes))
    }

    /// Makes the id that version 1 gave to a file.
    #[cfg(test)]
    pub(super) fn id_of(inode: Inode, generation: u32, prefix: &[u8]) -> PartitionId {
        Self { inode, generation, prefix_bytes: prefix.len(), hash: hash(prefix) }.partition_id()
    }
}

/// Returns what version 1 made of the first bytes of a file.
pub(super) fn hash(prefix: &[u8]) -> [u8; 16] {
    let digest = Sha256::digest(prefix);
    std::array::from_fn(|at| digest[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const INODE: Inode = Inode { device: 0xfe01, number: 77 };

    #[test]
    fn an_id_of_version_1_is_read_back_and_other_text_is_refused() {
        let id = IdentityV1::id_of(INODE, 3, b"x");
        // The hash is the beginning of `printf x | sha256sum`.
        assert_eq!(id.as_str(), "fe01-4d-3-1-2d711642b726b04401627ca9fbac32f5");
        let identity = IdentityV1::parse(&id).unwrap();
        assert!(identity.recognizes(b"xyz") && !identity.recognizes(b"yx") && !identity.recognizes(b""));
        for text in [
            "",
            "simulator",
            "fe01-4d-3-1",
            "fe01-4d-3-0-2d711642b726b04401627ca9fbac32f5",
            "fe01-4d-3-1-2d",
            "fe01-4d-3-1-2d711642b726b04401627ca9fbac32f5-",
        ] {
            assert_eq!(IdentityV1::parse(&PartitionId::new(text)), None, "{text}");
        }
    }

    #[test]
    fn new_ids_differ_from_each_other_and_from_those_of_version_1() {
        let (one, other) = (new_partition_id(), new_partition_id());
        assert_ne!(one, other);
        assert!(is_partition_id(&one) && IdentityV1::parse(&one).is_none());
        for text in ["file-", "file-x", "fe01-4d-3-1-2d711642b726b04401627ca9fbac32f5"] {
            assert!(!is_partition_id(&PartitionId::new(text)), "{text}");
        }
    }

    #[test]
    fn a_place_is_read_back_and_a_time_of_birth_that_is_unknown_tells_nothing_apart() {
        let place = Place { inode: INODE, born: Some(0xabc) };
        let bare = Place { inode: INODE, born: None };
        assert_eq!((place.to_string(), bare.to_string()), ("fe01-4d-abc".to_owned(), "fe01-4d".to_owned()));
        for place in [place, bare] {
            assert_eq!(Place::parse(&place.to_string()), Some(place));
        }
        assert!(place.may_be(&bare) && bare.may_be(&place) && !place.may_be(&Place { born: Some(1), ..place }));
        for text in ["", "1", "1-", "1-2-", "1-2-3-4", "x-1"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
