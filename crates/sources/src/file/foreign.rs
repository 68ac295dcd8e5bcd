//! Foreign files: content that is no NDJSON, whole formats that a glob may match by mistake.
//!
//! Owns: telling them by their first bytes, and what to do about each.
//! Does not own: gzip and zstd, which are read (see [`Compression`](crate::compression::Compression)), what becomes of such a file (see `aside`).
//!
//! Only bytes that no JSON text begins with are taken for a sign: a file is set aside as one unit where each of its lines would be a dead letter.

use std::io;

/// Where the sign of a tar archive stands: behind its first member's name.
const TAR_AT: usize = 257;

const DECOMPRESS: &str = "decompress it, or recompress it as gzip or zstd";
const CONVERT: &str = "convert it to NDJSON";
const RECODE: &str = "convert it to UTF-8, as `iconv` does";

/// First bytes, what begins with them, and the way out.
const SIGNS: [(&[u8], &str, &str); 18] = [
    (b"BZh", "a bzip2 archive", DECOMPRESS),
    (b"\xfd7zXZ\0", "an xz archive", DECOMPRESS),
    (b"PK\x03\x04", "a zip archive", DECOMPRESS),
    (b"PK\x05\x06", "an empty zip archive", DECOMPRESS),
    (b"PK\x07\x08", "a zip archive", DECOMPRESS),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", DECOMPRESS),
    (b"\x04\x22\x4d\x18", "an lz4 archive", DECOMPRESS),
    (b"\xff\x06\0\0sNaPpY", "a snappy archive", DECOMPRESS),
    (b"\x1f\x9d", "an archive of `compress`", DECOMPRESS),
    (b"PAR1", "a Parquet file", CONVERT),
    (b"PARE", "an encrypted Parquet file", CONVERT),
    (b"ARROW1\0\0", "an Arrow file", CONVERT),
    (b"\xff\xff\xff\xff", "an Arrow stream", CONVERT),
    (b"Obj\x01", "an Avro file", CONVERT),
    // Before UTF-16, whose mark is the beginning of this one.
    (b"\xff\xfe\0\0", "text in UTF-32", RECODE),
    (b"\0\0\xfe\xff", "text in UTF-32", RECODE),
    (b"\xff\xfe", "text in UTF-16", RECODE),
    (b"\xfe\xff", "text in UTF-16", RECODE),
];

/// Checks that content, which begins with `head`, may be NDJSON.
///
/// # Errors
/// What it is instead, and the way out.
pub(super) fn check(head: &[u8]) -> io::Result<()> {
    let sign = SIGNS.iter().find(|(sign, ..)| head.starts_with(sign) && (*sign != b"BZh" || is_bzip2(head)));
    let tar = || head.get(TAR_AT..).filter(|rest| rest.starts_with(b"ustar")).map(|_| ("a tar archive", "unpack it"));
    match sign.map(|(_, what, way_out)| (*what, *way_out)).or_else(tar) {
        None => Ok(()),
        Some((what, way_out)) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is {what}, and no NDJSON: {way_out}, or leave it out of `source.path`"),
        )),
    }
}

/// Returns whether what begins with `BZh` is an archive: a size and the mark of a block, or of the end, follow.
fn is_bzip2(head: &[u8]) -> bool {
    let marks: [&[u8]; 2] = [b"1AY&SY", b"\x17rE8P\x90"];
    matches!(head, [_, _, _, b'1'..=b'9', rest @ ..] if marks.iter().any(|mark| rest.starts_with(mark)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_not_taken_for_another_format_whatever_it_begins_with() {
        for text in ["{}", "\u{feff}{}", "[1]", "BZh9 is no archive", "BZh", "PK", "PARIS", "Object", "ARROW1", "7z", "\0\0{}", "", "ustar"]
        {
            assert!(check(text.as_bytes()).is_ok(), "{text:?}");
        }
    }
}
