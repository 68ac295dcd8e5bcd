//! The directory `_iceberg/metadata`: the names in it.
//!
//! Owns: what each file is, by its name; that ours are told from those of other writers.
//! Does not own: how files are made and read (see [`crate::log`]), what is in them.

use crate::log::is_unfinished;

/// The file that names the last version.
pub(super) const HINT: &str = "version-hint.text";

/// What a file is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The metadata of a version.
    Metadata(u64),
    /// The metadata of a version as another writer compresses it.
    Compressed(u64),
    /// A manifest of ours, or a list of them.
    Manifest,
    /// What a publisher of ours has not finished.
    Unfinished,
    /// Anything else.
    Other,
}

/// Returns the name of the metadata of a version.
pub(super) fn metadata(version: u64) -> String {
    format!("v{version}.metadata.json")
}

/// Returns the name of the list of manifests of a snapshot. Nobody else takes it: it has 64 random bits.
pub(super) fn list(snapshot_id: i64, nonce: u64) -> String {
    format!("snap-{snapshot_id}-pintail-{nonce:016x}.avro")
}

/// Returns the name of a manifest.
pub(super) fn manifest(nonce: u64, number: usize) -> String {
    format!("pintail-{nonce:016x}-m{number}.avro")
}

/// Reads a name.
pub(super) fn kind(name: &str) -> Kind {
    if is_unfinished(name) {
        return Kind::Unfinished;
    }
    if let Some((version, ending)) = name.strip_prefix('v').and_then(|rest| rest.split_once('.'))
        && let Ok(number) = version.parse::<u64>()
        && number.to_string() == version
    {
        return match ending {
            "metadata.json" => Kind::Metadata(number),
            "gz.metadata.json" | "metadata.json.gz" => Kind::Compressed(number),
            _ => Kind::Other,
        };
    }
    let is_ours = name.starts_with("pintail-") || (name.starts_with("snap-") && name.contains("-pintail-"));
    if is_ours && name.ends_with(".avro") { Kind::Manifest } else { Kind::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_is_ours_from_everything_else() {
        assert_eq!(kind(&metadata(7)), Kind::Metadata(7));
        assert_eq!(kind("v7.gz.metadata.json"), Kind::Compressed(7));
        assert_eq!(kind(&list(5, 1)), Kind::Manifest);
        assert_eq!(kind(&manifest(1, 0)), Kind::Manifest);
        assert_eq!(kind(&format!(".{}.0123.pintail.tmp", metadata(7))), Kind::Unfinished);
        for other in [
            HINT,
            "v07.metadata.json",
            "v.metadata.json",
            "00001-0a.metadata.json",
            "snap-5-1-0a.avro",
            "0a-m0.avro",
            "v7.metadata.json.crc",
        ] {
            assert_eq!(kind(other), Kind::Other, "{other}");
        }
    }
}
