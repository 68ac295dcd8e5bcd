//! Payloads: what stands around the record in a message.
//!
//! Owns: whether there is a record at all, a byte order mark, and the frame of a schema registry (`00`, and the number of the schema in four bytes).
//! Does not own: the record (see `rows`).

/// Why a payload of nothing but whitespace is rejected.
pub(super) const BLANK: &str = "an empty message: there is no record in it";

/// Why a payload without a frame is rejected where each has one.
pub(super) const UNFRAMED: &str = "no frame of a schema registry before it (a zero and the four bytes of the schema's id)";

/// Bytes of a frame.
const FRAME_BYTES: usize = 5;

/// What a payload holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// There is no payload: a tombstone.
    Nothing,
    /// It is empty, or whitespace.
    Blank,
    /// These bytes are to be read.
    Bytes(&'a [u8]),
    /// These are to be read, behind a frame.
    Framed(&'a [u8]),
    /// There is a frame as it seems, and no JSON behind it.
    Foreign { schema: u32 },
}

impl<'a> Content<'a> {
    pub(super) fn of(payload: Option<&'a [u8]>) -> Self {
        let Some(payload) = payload else { return Self::Nothing };
        let bytes = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
        if bytes.trim_ascii_start().is_empty() {
            return Self::Blank;
        }
        match payload.split_first_chunk::<FRAME_BYTES>() {
            // No JSON begins with a zero.
            Some(([0, ..], bytes)) if bytes.trim_ascii_start().starts_with(b"{") => Self::Framed(bytes),
            Some(([0, schema @ ..], _)) => Self::Foreign { schema: u32::from_be_bytes(*schema) },
            _ => Self::Bytes(bytes),
        }
    }
}

/// Takes the frame off a payload that has one: the number of the schema, and what stands behind it.
pub(super) fn unframed(payload: &[u8]) -> Option<(u32, &[u8])> {
    match payload.split_first_chunk::<FRAME_BYTES>()? {
        ([0, schema @ ..], bytes) => Some((u32::from_be_bytes(*schema), bytes)),
        _ => None,
    }
}

/// Completes the reason why a record without values does not fit.
pub(super) fn of_tombstone(reason: String) -> String {
    format!("a message without a payload (a tombstone) is a record without values: {reason}")
}

/// Says why what stands behind a frame is no record.
pub(super) fn foreign(schema: u32) -> String {
    format!(
        "not a JSON object: it begins with a zero, as the frame of a schema registry does (schema {schema}), and no JSON object follows"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_told_from_other_zeros_and_nothing_from_no_bytes() {
        assert_eq!(Content::of(None), Content::Nothing);
        for blank in [&b""[..], b" \r\n\t", b"\xef\xbb\xbf\n"] {
            assert_eq!(Content::of(Some(blank)), Content::Blank, "{blank:?}");
        }
        assert_eq!(Content::of(Some(b"\0\0\0\x01\x02 {}")), Content::Framed(b" {}"));
        assert_eq!(Content::of(Some(b"\0\0\0\x01\x02\x06abc")), Content::Foreign { schema: 258 });
        assert_eq!(Content::of(Some(b"\0\0\0\0")), Content::Bytes(b"\0\0\0\0"));
        assert_eq!(Content::of(Some(b"\xef\xbb\xbf {}")), Content::Bytes(b" {}"));
        assert_eq!(Content::of(Some(b"x")), Content::Bytes(b"x"));
    }
}
