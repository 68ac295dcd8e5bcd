//! Compression: how bytes are compressed, told by the first of them.
//!
//! Owns: the signs of gzip and zstd, what a few bytes may be the beginning of, which errors say that content is damaged.
//! Does not own: decompression, other formats that are taken for no text (see `file::foreign`).

use std::io;

/// A member of gzip: its sign, and the only method that there is (RFC 1952, 2.3.1).
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
/// A frame of zstd (RFC 8878, 3.1.1).
pub(crate) const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What follows the first byte, which is one of sixteen, of a frame of zstd that is skipped (RFC 8878, 3.1.2).
const SKIPPED: [u8; 3] = [0x2a, 0x4d, 0x18];

/// How bytes are compressed: the first of them say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// They are not.
    None,
    /// Members of gzip.
    Gzip,
    /// Frames of zstd.
    Zstd,
}

impl Compression {
    /// Tells by a sign that is there whole.
    pub fn of(head: &[u8]) -> Self {
        match head {
            head if head.starts_with(&GZIP) => Self::Gzip,
            head if head.starts_with(&ZSTD) => Self::Zstd,
            [0x50..=0x5f, rest @ ..] if rest.starts_with(&SKIPPED) => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Tells by the first bytes; by the name's ending where there are too few of them.
    pub(crate) fn tell(head: &[u8], name: &str) -> Self {
        match (Self::of(head), head) {
            (Self::None, []) => Self::named(name),
            // No text begins so.
            (Self::None, _) if GZIP.starts_with(head) => Self::Gzip,
            (Self::None, [_, _, ..]) if ZSTD.starts_with(head) => Self::Zstd,
            (Self::None, _) if Self::Zstd.may_begin(head) && Self::named(name) == Self::Zstd => Self::Zstd,
            (whole, _) => whole,
        }
    }

    /// Tells by the ending: `.gz`, `.zst`. All that there is to go by where version 1 read the file, which went by it.
    pub(crate) fn named(name: &str) -> Self {
        match name.rsplit_once('.') {
            Some((_, "gz")) => Self::Gzip,
            Some((_, "zst")) => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Returns whether a member or frame may begin so, be there ever so few bytes of it.
    pub(crate) fn may_begin(self, head: &[u8]) -> bool {
        let alike = |head: &[u8], sign: &[u8]| head.iter().zip(sign).all(|(byte, of_sign)| byte == of_sign);
        match (self, head) {
            (Self::Zstd, [0x50..=0x5f, rest @ ..]) => alike(rest, &SKIPPED),
            (Self::Zstd, _) => alike(head, &ZSTD),
            (Self::Gzip | Self::None, _) => alike(head, &GZIP),
        }
    }

    /// Returns whether a failed read says that compressed content is damaged, and not that the disk cannot be read: errors of the system have a number.
    pub(crate) fn is_damage(self, error: &io::Error) -> bool {
        self != Self::None && error.raw_os_error().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_sign_tells_whatever_the_name_and_the_beginning_of_one_where_no_text_begins_so() {
        use Compression::{Gzip, None, Zstd};
        // By a whole sign, by the first bytes of a file without an ending, of one called `.zst`, of one called `.gz`.
        let cases: [(&[u8], [Compression; 4]); 17] = [
            (b"", [None, None, Zstd, Gzip]),
            (b"{}", [None; 4]),
            (b"\x1f", [None, Gzip, Gzip, Gzip]),
            (b"\x1f\x8b", [None, Gzip, Gzip, Gzip]),
            (b"\x1f\x8b\x08", [Gzip; 4]),
            (b"\x1f\x8b\x07", [None; 4]),
            (b"\x1f\x9d", [None; 4]),
            (b"(", [None, None, Zstd, None]),
            (b"(\xb5", [None, Zstd, Zstd, Zstd]),
            (b"(\xb5/", [None, Zstd, Zstd, Zstd]),
            (b"(\xb5/\xfd", [Zstd; 4]),
            (b"(a", [None; 4]),
            (b"P", [None, None, Zstd, None]),
            (b"_*", [None, None, Zstd, None]),
            (b"P*M", [None, None, Zstd, None]),
            (b"_*M\x18", [Zstd; 4]),
            (b"PK\x03\x04", [None; 4]),
        ];
        for (head, told) in cases {
            assert_eq!(
                [
                    Compression::of(head),
                    Compression::tell(head, "a.log"),
                    Compression::tell(head, "a.zst"),
                    Compression::tell(head, "a.gz")
                ],
                told,
                "{head:?}"
            );
        }
    }
}
