//! Subjects: whether any could be meant by two patterns at once.
//!
//! Owns: `*` and `>` of NATS.
//! Does not own: what is a subject at all (see `pintail_config`).

/// Returns whether some subject matches both. `*` stands for one token, `>` at the end for one or more.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_where_a_subject_matches_both() {
        for (one, other) in [("a", "a"), ("a.>", "a.b.c"), ("a.*", "a.b"), ("*.b", "a.*"), (">", "a"), ("a.*.c", "a.>"), ("a.>", "*.b")] {
            assert!(overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in [("a", "b"), ("a.>", "a"), ("a.*", "a.b.c"), ("a.b", "a.*.c"), ("*", "a.b"), ("b.>", "a.>"), ("A", "a")] {
            assert!(!overlap(one, other) && !overlap(other, one), "{one} {other}");
        }
    }
}
