//! Where a dataset lies: `pipeline.out_path` as a path or as the URL of a bucket, and `[storage]`.
//!
//! Owns: telling the two apart, and the scratch of a dataset in a bucket.
//! Does not own: the syntax of URLs and the keys of `[storage]` (see `pintail_bucket`).

use std::path::PathBuf;

#[cfg(feature = "bucket")]
pub use of_bucket::Lake;
#[cfg(feature = "bucket")]
pub(crate) use of_bucket::read;

use pintail_settings::values;

/// Parses `pipeline.out_path`.
pub(super) fn out_path(text: &str) -> Result<PathBuf, String> {
    if let Some(rest) = text.strip_prefix("file://") {
        // Of another host nothing can be reached by a path.
        return if rest.starts_with('/') { values::path(rest) } else { Err("expected \"file:///\" and a path from the root on".into()) };
    }
    #[cfg(feature = "bucket")]
    if let Some(location) = pintail_bucket::Location::parse(text) {
        return location.map(|location| PathBuf::from(location.as_str()));
    }
    #[cfg(not(feature = "bucket"))]
    if text.contains("://") {
        return Err("this program was built without buckets (its feature `bucket`): expected a path".into());
    }
    values::path(text)
}

#[cfg(feature = "bucket")]
mod of_bucket {
    use std::path::{Path, PathBuf};

    use pintail_bucket::{Location, StorageConfig};
    use pintail_core::digest::sha256_hex;
    use pintail_settings::Section;

    /// Characters of a URL's hash that tell the scratch of one dataset from that of another.
    const HASH_CHARACTERS: usize = 8;

    /// The bucket of a dataset.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Lake {
        /// Where the dataset is.
        pub location: Location,
        /// `[storage]`
        pub storage: StorageConfig,
    }

    impl Lake {
        /// Returns the local directory of what is on its way to this bucket: each dataset has its own below `storage.scratch`.
        pub fn scratch(&self) -> PathBuf {
            let url = self.location.as_str();
            let readable: String = url.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
            self.storage.scratch.join(format!("{readable}-{}", &sha256_hex(url.as_bytes())[..HASH_CHARACTERS]))
        }
    }

    /// Reads `[storage]`; `None` if the dataset is on a disk. Where `pipeline` is not sound, nobody knows which it was to be.
    pub(crate) fn read(section: &mut Section<'_>, out_path: &Path, is_sound: bool) -> Option<Lake> {
        let parse = |text: &str| Location::parse(text).and_then(Result::ok);
        let location = out_path.to_str().and_then(parse);
        let any = || parse("s3://lake").filter(|_| !is_sound);
        let storage = StorageConfig::read(section, location.clone().or_else(any).as_ref());
        Some(Lake { location: location?, storage })
    }
}
