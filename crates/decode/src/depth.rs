//! Depth: how deep objects and arrays of a record lie in each other.
//!
//! Owns: the limit and the counting.
//! Does not own: what becomes of a record beyond it.

/// Objects and arrays inside each other; `serde_json`'s limit for a parsed value. A value kept as JSON text would be parsed by recursion in
/// the SQL, whose stack is not ours to guard.
pub(super) const DEPTH_MAX: usize = 127;

/// Returns whether objects and arrays of a JSON text lie in each other more than `max` deep.
pub(super) fn exceeds(text: &str, max: usize) -> bool {
    let bytes = text.as_bytes();
    // It takes that many opening and closing brackets at least, so nearly every text is done here.
    bytes.len() > 2 * max && memchr::memchr2_iter(b'{', b'[', bytes).nth(max).is_some() && depth(bytes) > max
}

/// Returns how deep objects and arrays lie in each other, brackets in strings aside.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
