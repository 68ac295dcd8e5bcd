//! Ranges and defaults that keys of several sections share, and secrets that a key or a file holds.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;

use crate::raw::read_text;
use crate::reader::Section;
use crate::values;

/// TOML has no larger integer.
pub const INTEGER_MAX: u64 = i64::MAX as u64;

/// The shortest time that a key may be given.
pub const MILLISECOND: Duration = Duration::from_millis(1);

/// An hour.
pub const HOUR: Duration = Duration::from_secs(3600);

/// A day.
pub const DAY: Duration = Duration::from_secs(86_400);

/// Returns the range of a size.
pub fn sizes(from: ByteSize, to: ByteSize) -> RangeInclusive<ByteSize> {
    from..=to
}

/// Sizes that are `usize` in the line. The ranges of those keys end at 1 TiB, far below it.
pub fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).expect("pintail runs on 64-bit machines")
}

/// A size whose default keeps to the memory there is. What was typed holds as it was typed.
pub fn bounded(
    section: &mut Section<'_>,
    key: &str,
    default: ByteSize,
    range: RangeInclusive<ByteSize>,
    bound: impl FnOnce(u64) -> u64,
) -> u64 {
    let given = section.has(key);
    let size = section.size(key, default, range);
    if given { size } else { bound(size) }
}

/// Takes what is not to be seen from the one key, or from the file that the other names. Returns it with the key that it came from.
pub fn secret_or_file(section: &mut Section<'_>, key: &'static str, file_key: &'static str) -> Option<(&'static str, String)> {
    let read = |text: &str| {
        let path = values::path(text)?;
        let text = read_text(&path, values::SECRET_BYTES_MAX).map_err(|e| format!("cannot read it: {e}"))?;
        Ok(text.trim_end_matches(['\n', '\r']).to_owned())
    };
    let file = section.optional_text(file_key, read);
    match (section.secret(key), file) {
        (Some(_), Some(_)) => {
            let other = section.key(key);
            section.fault(file_key, format_args!("given together with `{other}`: leave one of them out"));
            None
        }
        (Some(secret), None) => Some((key, secret)),
        (None, Some(secret)) => Some((file_key, secret)),
        (None, None) => None,
    }
}
