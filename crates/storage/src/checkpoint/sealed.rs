//! Sealed JSON: what FORMAT and the commit records are written as.
//!
//! Owns: the two lines. The first is the JSON, the second `{"sha256":"…"}` of the first line's bytes without its line end.
//! Does not own: what the JSON says (see `format`, `record`).

use pintail_core::digest::sha256_hex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Seal {
    sha256: String,
}

/// Writes `value` as two lines. Returns them with the checksum.
pub fn seal(value: &impl Serialize) -> (Vec<u8>, String) {
    let mut bytes = serde_json::to_vec(value).expect("our own structs have text keys and no failing serializer");
    let sha256 = sha256_hex(&bytes);
    bytes.push(b'\n');
    serde_json::to_writer(&mut bytes, &Seal { sha256: sha256.clone() }).expect("a vector takes all bytes");
    bytes.push(b'\n');
    (bytes, sha256)
}

/// Reads what [`seal`] wrote. Returns it with the checksum.
///
/// # Errors
/// Says in words what is wrong with the bytes; the caller names the file.
pub fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, String), String> {
    let bytes = bytes.strip_suffix(b"\n").ok_or("it is cut off: the last line has no end")?;
    let split = bytes.iter().position(|&b| b == b'\n').ok_or("it is cut off: the line with the checksum is missing")?;
    let (json, seal) = (&bytes[..split], &bytes[split + 1..]);
    let seal: Seal = serde_json::from_slice(seal).map_err(|e| format!("the line with the checksum is not JSON: {e}"))?;
    let actual = sha256_hex(json);
    if actual != seal.sha256 {
        return Err(format!("its checksum says {}, its content has {actual}", seal.sha256));
    }
    let value = serde_json::from_slice(json).map_err(|e| format!("it does not read as what it should be: {e}"))?;
    Ok((value, actual))
}

/// Reads and writes times as RFC 3339 with all their digits: `#[serde(with = "rfc3339")]`.
pub mod rfc3339 {
    use chrono::{DateTime, SecondsFormat, Utc};
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes the time, in UTC.
    pub fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }

    /// Reads the time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        let text = String::deserialize(deserializer)?;
        DateTime::parse_from_rfc3339(&text).map(|time| time.to_utc()).map_err(de::Error::custom)
    }
}

/// As [`rfc3339`], of a time that may be missing: `#[serde(default, with = "rfc3339_optional")]`.
pub mod rfc3339_optional {
    use chrono::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Time(#[serde(with = "super::rfc3339")] DateTime<Utc>);

    /// Writes the time, in UTC.
    pub fn serialize<S: Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(Time).serialize(serializer)
    }

    /// Reads the time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
        Ok(Option::<Time>::deserialize(deserializer)?.map(|time| time.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_reads_back_and_the_first_line_is_plain_json() {
        let (bytes, sha256) = seal(&vec!["a", "ü"]);
        assert_eq!(bytes, format!("[\"a\",\"ü\"]\n{{\"sha256\":\"{sha256}\"}}\n").into_bytes());
        assert_eq!(unseal::<Vec<String>>(&bytes), Ok((vec!["a".into(), "ü".into()], sha256)));
    }

    #[test]
    fn a_flipped_bit_anywhere_and_a_cut_anywhere_are_noticed() {
        let (bytes, _) = seal(&vec![1, 2, 3]);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(unseal::<Vec<u8>>(&flipped).is_err(), "bit flipped at {at}");
            assert!(unseal::<Vec<u8>>(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
