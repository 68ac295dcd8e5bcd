//! The opening of a group: what stands before frames that are written and synced together.
//!
//! Owns: its 96 bytes. They make what follows judgeable: how long the group is, how many of its sectors were written as zeros, and what
//! stood before it.
//! Does not own: the judgement of a group that is not whole (see [`super::tail`]).
//!
//! ```text
//!  0 mark      8 bytes, of the segment
//!  8 check     first 8 bytes of the SHA-256 of all other bytes of the opening
//! 16 group     its own position in the segment: everything before it is durable
//! 24 frames    u32, of the group; 0 says that the journal goes on in the next segment
//! 28 kind      3, then three zeros
//! 32 wall_ms   u64, the wall clock, in milliseconds since 1970
//! 40 zeros     u32, sectors behind the opening that hold nothing but zeros, as they were written; then four zeros
//! 48 at_ms     u64, the journal's time
//! 56 running   16 bytes, the hash of all records before the group
//! 72 boot      u64, of the machine
//! 80 up_ms     u64, the machine's uptime
//! 88 length    u64, of the frames that follow
//! ```
//! All numbers are little endian. Segments of version 1 have no openings.

use super::frame::{HEADER, Mark, check_seal, first, seal};
use super::running::Running;
use super::time::Stamp;

/// The kind, at the place where a frame has its own.
const KIND: u8 = 3;

/// What stands before a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Its position in the segment.
    pub group: u64,
    /// Frames that follow. None: the journal goes on in the next segment.
    pub frames: u32,
    /// Bytes that follow.
    pub length: u64,
    /// Sectors of these that were written as zeros.
    pub zeros: u32,
    /// The hash of all records before it.
    pub running: Running,
    /// When it was written.
    pub stamp: Stamp,
}

impl Opening {
    /// Returns whether a header is one, whatever else it says.
    pub fn is_one(header: &[u8; HEADER]) -> bool {
        header[28] == KIND
    }

    /// Writes it.
    pub fn encode(&self, mark: Mark) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(&mark);
        bytes[16..24].copy_from_slice(&self.group.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.frames.to_le_bytes());
        bytes[28] = KIND;
        bytes[32..40].copy_from_slice(&self.stamp.wall_ms.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.zeros.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.stamp.at_ms.to_le_bytes());
        bytes[56..72].copy_from_slice(&self.running.0);
        bytes[72..80].copy_from_slice(&self.stamp.boot.to_le_bytes());
        bytes[80..88].copy_from_slice(&self.stamp.up_ms.to_le_bytes());
        bytes[88..96].copy_from_slice(&self.length.to_le_bytes());
        seal(&mut bytes);
        bytes
    }

    /// Reads it.
    ///
    /// # Errors
    /// Says in words what is wrong.
    pub fn decode(bytes: &[u8; HEADER], mark: Mark) -> Result<Self, String> {
        check_seal(bytes, mark)?;
        if !Self::is_one(bytes) {
            return Err("no group begins here".into());
        }
        Ok(Self {
            group: u64::from_le_bytes(first(&bytes[16..])),
            frames: u32::from_le_bytes(first(&bytes[24..])),
            length: u64::from_le_bytes(first(&bytes[88..])),
            zeros: u32::from_le_bytes(first(&bytes[40..])),
            running: Running(first(&bytes[56..])),
            stamp: Stamp {
                at_ms: u64::from_le_bytes(first(&bytes[48..])),
                wall_ms: u64::from_le_bytes(first(&bytes[32..])),
                boot: u64::from_le_bytes(first(&bytes[72..])),
                up_ms: u64::from_le_bytes(first(&bytes[80..])),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = *b"marktest";

    fn opening() -> Opening {
        let stamp = Stamp { at_ms: 1, wall_ms: 1 << 40, boot: u64::MAX, up_ms: 7 };
        Opening { group: 300, frames: 2, length: 1 << 33, zeros: 9, running: Running([5; 16]), stamp }
    }

    #[test]
    fn an_opening_reads_back_as_it_was_written() {
        assert_eq!(Opening::decode(&opening().encode(MARK), MARK), Ok(opening()));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        for at in 0..HEADER {
            let mut bytes = opening().encode(MARK);
            bytes[at] ^= 1;
            assert!(Opening::decode(&bytes, MARK).is_err(), "{at}");
        }
    }

    #[test]
    fn a_pintail_of_version_1_takes_it_for_no_frame_of_its_own() {
        let refused = super::super::frame::Head::decode(&opening().encode(MARK), MARK).unwrap_err();
        assert!(refused.contains("unknown kind 3"), "{refused}");
    }
}
