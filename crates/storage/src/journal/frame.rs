//! A frame: one request as it lies in a segment.
//!
//! Owns: the 96 bytes before a body, and what makes them trustworthy.
//! Does not own: where frames lie (see `segment`), when they are written (see `log`), what stands before a group (see [`super::opening`]).
//!
//! ```text
//!  0 mark      8 bytes, of the segment: what a client sends cannot imitate a frame
//!  8 check     first 8 bytes of the SHA-256 of all other bytes of the header
//! 16 group     position in the segment of the first frame that was written and synced together with this one
//! 24 left      u32, frames of the group behind this one
//! 28 kind      0 lines, 1 Arrow IPC, 2 a carried key without its body, 4 payloads (3 is an opening)
//! 29 keyed     1 if there is a key; then two zeros
//! 32 offset    u64, of its first record
//! 40 records   u64
//! 48 at_ms     u64, when the request came, in the journal's time
//! 56 key       fingerprint, or zeros
//! 72 digest    fingerprint of the body (of a carried key: of the body it came with)
//! 88 length    u64, of the body that follows; 0 for a carried key
//! ```
//! All numbers are little endian.

use std::io::{self, Read};

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Length of the header in bytes.
pub const HEADER: usize = 96;

/// What every frame of a segment begins with.
pub type Mark = [u8; 8];

/// The first 128 bits of a SHA-256: enough to tell bodies and keys apart, half to remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// Returns that of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(Sha256::new_with_prefix(bytes))
    }

    /// Returns that of what was hashed.
    pub fn from_hash(hash: Sha256) -> Self {
        Self(first(&hash.finalize()))
    }
}

/// How the records of a body are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// NDJSON: a line each, with its end.
    Lines,
    /// An Arrow IPC stream.
    Arrow,
    /// Records of any bytes (see [`super::payloads`]).
    Payloads,
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request.
    Records(Form),
    /// A key whose request lay in a segment that is gone.
    CarriedKey,
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Position of the first frame of the group.
    pub group: u64,
    /// Frames of the group behind this one.
    pub left: u32,
    /// What it holds.
    pub kind: Kind,
    /// Offset of the first record.
    pub offset: u64,
    /// Number of records.
    pub records: u64,
    /// When the request came, in the journal's time.
    pub at_ms: u64,
    /// Its idempotency key.
    pub key: Option<Fingerprint>,
    /// Of the body.
    pub digest: Fingerprint,
    /// Of the body that follows, in bytes.
    pub length: u64,
}

/// A frame as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The header.
    pub head: Head,
    /// The body.
    pub body: Bytes,
}

impl Head {
    /// Returns whether its records stand in the journal here, and so move the offset.
    pub fn holds_records(&self) -> bool {
        self.kind != Kind::CarriedKey
    }

    /// Returns the length of the whole frame.
    pub fn frame_bytes(&self) -> u64 {
        HEADER as u64 + self.length
    }

    /// Writes the header.
    pub fn encode(&self, mark: Mark) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(&mark);
        bytes[16..24].copy_from_slice(&self.group.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.left.to_le_bytes());
        bytes[28] = match self.kind {
            Kind::Records(Form::Lines) => 0,
            Kind::Records(Form::Arrow) => 1,
            Kind::CarriedKey => 2,
            Kind::Records(Form::Payloads) => 4,
        };
        bytes[29] = u8::from(self.key.is_some());
        bytes[32..40].copy_from_slice(&self.offset.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.records.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.at_ms.to_le_bytes());
        bytes[56..72].copy_from_slice(&self.key.map_or([0; 16], |key| key.0));
        bytes[72..88].copy_from_slice(&self.digest.0);
        bytes[88..96].copy_from_slice(&self.length.to_le_bytes());
        seal(&mut bytes);
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// Says in words what is wrong.
    pub fn decode(bytes: &[u8; HEADER], mark: Mark) -> Result<Self, String> {
        check_seal(bytes, mark)?;
        let kind = match bytes[28] {
            0 => Kind::Records(Form::Lines),
            1 => Kind::Records(Form::Arrow),
            2 => Kind::CarriedKey,
            4 => Kind::Records(Form::Payloads),
            other => return Err(format!("the frame is of the unknown kind {other}: use the pintail that wrote it")),
        };
        Ok(Self {
            group: u64::from_le_bytes(first(&bytes[16..])),
            left: u32::from_le_bytes(first(&bytes[24..])),
            kind,
            offset: u64::from_le_bytes(first(&bytes[32..])),
            records: u64::from_le_bytes(first(&bytes[40..])),
            at_ms: u64::from_le_bytes(first(&bytes[48..])),
            key: (bytes[29] == 1).then(|| Fingerprint(first(&bytes[56..]))),
            digest: Fingerprint(first(&bytes[72..])),
            length: u64::from_le_bytes(first(&bytes[88..])),
        })
    }
}

/// Why a frame could not be read.
#[derive(Debug)]
pub enum Unreadable {
    /// The bytes are not a frame.
    Bad(String),
    /// The disk refused.
    Io(io::Error),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Bad("the file ends within the frame".into()),
            _ => Self::Io(error),
        }
    }
}

impl Frame {
    /// Reads the next frame, which must lie within `available` bytes.
    pub fn read(input: &mut impl Read, mark: Mark, available: u64) -> Result<Self, Unreadable> {
        let head = read_header(input, available)?;
        Self::read_behind(&head, input, mark, available)
    }

    /// Reads the frame whose header was read; it must lie within `available` bytes.
    pub fn read_behind(head: &[u8; HEADER], input: &mut impl Read, mark: Mark, available: u64) -> Result<Self, Unreadable> {
        let head = Head::decode(head, mark).map_err(Unreadable::Bad)?;
        if head.length > available - HEADER as u64 {
            return Err(cut());
        }
        let mut body = vec![0; usize::try_from(head.length).map_err(|_| cut())?];
        input.read_exact(&mut body)?;
        if head.holds_records() && Fingerprint::of(&body) != head.digest {
            return Err(Unreadable::Bad("the checksum of the frame's body does not fit".into()));
        }
        Ok(Self { head, body: body.into() })
    }
}

/// Reads a header, which must lie within `available` bytes.
pub fn read_header(input: &mut impl Read, available: u64) -> Result<[u8; HEADER], Unreadable> {
    if available < HEADER as u64 {
        return Err(cut());
    }
    let mut head = [0; HEADER];
    input.read_exact(&mut head)?;
    Ok(head)
}

fn cut() -> Unreadable {
    Unreadable::Bad("the frame is cut off".into())
}

/// Gives a header its checksum.
pub fn seal(header: &mut [u8; HEADER]) {
    let check = check(header);
    header[8..16].copy_from_slice(&check);
}

/// Checks the mark and the checksum of a header.
///
/// # Errors
/// Says in words what is wrong.
pub fn check_seal(header: &[u8; HEADER], mark: Mark) -> Result<(), String> {
    if header[0..8] != mark {
        return Err("no frame begins here".into());
    }
    if header[8..16] != check(header) {
        return Err("the checksum of the frame's header does not fit".into());
    }
    Ok(())
}

fn check(header: &[u8; HEADER]) -> [u8; 8] {
    let hash = Sha256::new_with_prefix(&header[..8]).chain_update(&header[16..]).finalize();
    first(&hash)
}

/// Returns the first `N` bytes.
pub fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("the caller has so many bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = *b"marktest";

    fn frame(key: Option<Fingerprint>, body: &'static [u8]) -> (Head, Vec<u8>) {
        let head = Head {
            group: 300,
            left: 2,
            kind: Kind::Records(Form::Lines),
            offset: 1 << 40,
            records: 3,
            at_ms: 1_767_225_600_123,
            key,
            digest: Fingerprint::of(body),
            length: body.len() as u64,
        };
        (head, [&head.encode(MARK)[..], body].concat())
    }

    fn read(bytes: &[u8]) -> Result<Frame, Unreadable> {
        Frame::read(&mut &*bytes, MARK, bytes.len() as u64)
    }

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        for key in [None, Some(Fingerprint::of(b"key"))] {
            for kind in [Form::Lines, Form::Arrow, Form::Payloads].map(Kind::Records) {
                let (head, _) = frame(key, b"a\nb\nc\n");
                let head = Head { kind, ..head };
                let bytes = [&head.encode(MARK)[..], b"a\nb\nc\n"].concat();
                assert_eq!(read(&bytes).unwrap(), Frame { head, body: Bytes::from_static(b"a\nb\nc\n") });
            }
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_and_a_cut_anywhere_are_noticed() {
        let (_, bytes) = frame(Some(Fingerprint::of(b"key")), b"a\nb\nc\n");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(matches!(read(&flipped), Err(Unreadable::Bad(_))), "bit {bit} of byte {at}");
            }
            assert!(matches!(read(&bytes[..at]), Err(Unreadable::Bad(_))), "cut at {at}");
        }
    }

    #[test]
    fn a_frame_of_another_segment_is_no_frame() {
        let (_, bytes) = frame(None, b"a\nb\nc\n");
        assert!(Frame::read(&mut &bytes[..], *b"another!", bytes.len() as u64).is_err());
    }
}
