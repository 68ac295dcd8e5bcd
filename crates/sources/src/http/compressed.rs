//! Compressed bodies.
//!
//! Owns: the encodings, a body that has another than it says, and the limit of what comes out.
//! Does not own: the limit of what goes in (see `body`).

use std::io::{self, Read};

use axum::http::StatusCode;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use zstd::stream::read::Decoder;

use super::budget::Held;
use super::refusal::Refusal;
use crate::compression::Compression;

/// Logarithm of the largest window of zstd, 8 MiB: RFC 9659 sets it for `Content-Encoding`.
const WINDOW_LOG_MAX: u32 = 23;

/// Bytes decompressed at a time.
const PIECE_BYTES: usize = 64 << 10;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Not at all.
    Identity,
    /// `gzip`
    Gzip,
    /// `zstd`
    Zstd,
}

impl Encoding {
    /// Reads the header `Content-Encoding`.
    pub(super) fn parse(header: Option<&str>) -> Result<Self, Refusal> {
        let name = header.map(|name| name.trim().to_ascii_lowercase());
        match name.as_deref() {
            None | Some("" | "identity") => Ok(Self::Identity),
            Some("gzip" | "x-gzip") => Ok(Self::Gzip),
            Some("zstd") => Ok(Self::Zstd),
            Some(_) => {
                let why = "Content-Encoding can be gzip or zstd, one of them";
                Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why))
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Returns a body that is said to be plain, unless it shows that it is not: its lines would all become dead letters that nobody can read.
fn plain(body: Bytes) -> Result<Bytes, Refusal> {
    let compressed =
        |name| format!("the body is compressed with {name}, which the request does not say: add the header `Content-Encoding: {name}`");
    let why = match Compression::of(&body) {
        Compression::Gzip => compressed("gzip"),
        Compression::Zstd => compressed("zstd"),
        Compression::None if body.starts_with(b"\xff\xfe") || body.starts_with(b"\xfe\xff") => "the body is UTF-16: send UTF-8".to_owned(),
        Compression::None => return Ok(body),
    };
    Err(Refusal::bad(why))
}

/// Decompresses a body to at most `bytes_max` bytes. Blocking.
pub(super) fn decompress(body: Bytes, encoding: Encoding, bytes_max: usize, held: &mut Held) -> Result<Bytes, Refusal> {
    match encoding {
        Encoding::Identity => plain(body),
        Encoding::Gzip => read(MultiGzDecoder::new(&body[..]), encoding, bytes_max, held),
        Encoding::Zstd => {
            let decoder = Decoder::with_buffer(&body[..]).and_then(|mut decoder| decoder.window_log_max(WINDOW_LOG_MAX).map(|()| decoder));
            read(decoder.map_err(|error| broken(encoding, 0, &error))?, encoding, bytes_max, held)
        }
    }
}

fn read(mut input: impl Read, encoding: Encoding, bytes_max: usize, held: &mut Held) -> Result<Bytes, Refusal> {
    let mut all = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = input.read(&mut piece).map_err(|error| broken(encoding, all.len(), &error))?;
        if read == 0 {
            return Ok(all.into());
        }
        if all.len() + read > bytes_max {
            let why = format!("the body has more than {bytes_max} bytes once it is decompressed (`source.decompressed_bytes_max`)");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        held.try_grow(read)?;
        all.extend_from_slice(&piece[..read]);
    }
}

fn broken(encoding: Encoding, read: usize, error: &io::Error) -> Refusal {
    let name = encoding.name();
    Refusal::bad(match read {
        0 => format!("the body is not {name}, as the header Content-Encoding says, or damaged at its beginning: {error}"),
        read => format!("the body is damaged {name}, or is followed by something else: {error}, after {read} decompressed bytes"),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::budget::Budget;
    use super::*;

    const TEXT: &[u8] = b"{\"id\":1}\n{\"id\":2}\n";

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn decompress_all(body: &[u8], encoding: Encoding) -> Result<Bytes, Refusal> {
        decompress(body.to_vec().into(), encoding, 1 << 20, &mut Budget::new(1 << 24).hold())
    }

    #[test]
    fn both_encodings_come_back_also_in_several_members() {
        let zstd = zstd::encode_all(TEXT, 3).unwrap();
        for (body, encoding) in [(gzip(TEXT), Encoding::Gzip), (zstd, Encoding::Zstd)] {
            assert_eq!(decompress_all(&body, encoding).unwrap(), TEXT);
            assert_eq!(decompress_all(&[&body[..], &body].concat(), encoding).unwrap(), [TEXT, TEXT].concat());
        }
    }

    #[test]
    fn a_body_cut_at_any_byte_or_with_something_behind_it_is_refused() {
        let zstd = zstd::encode_all(TEXT, 3).unwrap();
        for (body, encoding) in [(gzip(TEXT), Encoding::Gzip), (zstd, Encoding::Zstd)] {
            for length in 1..body.len() {
                let refused = decompress_all(&body[..length], encoding).unwrap_err();
                assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{encoding:?} cut at {length}");
            }
            assert!(decompress_all(&[&body[..], b"more of it"].concat(), encoding).is_err(), "{encoding:?}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeros = vec![b'\n'; 64 << 20];
        let zstd = zstd::encode_all(&zeros[..], 3).unwrap();
        for (body, encoding) in [(gzip(&zeros), Encoding::Gzip), (zstd, Encoding::Zstd)] {
            let body = Bytes::from(body);
            let mut held = Budget::new(2 << 20).hold();
            let refused = decompress(body.clone(), encoding, 1 << 20, &mut held).unwrap_err();
            assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
            let refused = decompress(body, encoding, 1 << 30, &mut Budget::new(2 << 20).hold()).unwrap_err();
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE, "and at the memory of all bodies");
        }
    }
}
