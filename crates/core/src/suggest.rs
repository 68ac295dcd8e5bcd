//! What somebody probably meant.
//!
//! Owns: the one measure of how far a typed name is from a known one.
//! Does not own: what is known.

use itertools::Itertools as _;

/// How many slips of the fingers are believed whatever else the name is.
const EDITS_MAX: usize = 2;
/// How many are, in a name that begins alike and is mostly the same.
const EDITS_MAX_OF_ALIKE: usize = 5;
/// From which likeness (Jaro and Winkler; 1 is the same) on a name is mostly the same.
const ALIKE: f64 = 0.92;
/// How many names are worth reading.
const NAMES_MAX: usize = 3;

/// Returns the names that `typed` was probably meant to be: those with the fewest edits between, whatever the case. One with the same letters in
/// another order, which is one slip of the fingers, comes first. Empty if nothing is near.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let typed = typed.to_lowercase();
    let letters = |name: &str| name.chars().sorted().collect::<String>();
    let measured = known.into_iter().filter_map(|name| {
        let lower = name.to_lowercase();
        let edits = strsim::damerau_levenshtein(&lower, &typed);
        let shorter = lower.chars().count().min(typed.chars().count());
        // Of a name of two letters, two edits leave nothing.
        let is_near =
            edits < shorter && (edits <= EDITS_MAX || edits <= EDITS_MAX_OF_ALIKE && strsim::jaro_winkler(&lower, &typed) > ALIKE);
        is_near.then(|| ((edits, letters(&lower) != letters(&typed)), name))
    });
    let sorted: Vec<_> = measured.sorted_by_key(|(distance, _)| *distance).collect();
    let least = sorted.first().map(|((edits, _), _)| *edits);
    sorted.into_iter().take_while(|((edits, _), _)| Some(*edits) == least).take(NAMES_MAX).map(|(_, name)| name).collect()
}

/// Asks whether one of `names` was meant. `None` if there are none.
pub fn question(names: &[&str]) -> Option<String> {
    (!names.is_empty()).then(|| format!("did you mean {}?", names.iter().map(|name| format!("`{name}`")).join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [&str; 6] = ["id", "region", "Amount", "event_time", "int16", "int64"];

    #[test]
    fn a_slip_of_the_fingers_is_recognized_whatever_the_case() {
        for (typed, meant) in
            [("reigon", "region"), ("AMUONT", "Amount"), ("event_tme", "event_time"), ("ids", "id"), ("event_timestamp", "event_time")]
        {
            assert_eq!(nearest(typed, COLUMNS), [meant], "{typed}");
        }
    }

    #[test]
    fn of_names_as_near_the_one_with_the_same_letters_comes_first() {
        assert_eq!(nearest("int46", COLUMNS), ["int64", "int16"]);
        assert_eq!(question(&nearest("int46", COLUMNS)).unwrap(), "did you mean `int64` or `int16`?");
    }

    #[test]
    fn what_shares_next_to_nothing_with_the_names_was_none_of_them() {
        for typed in ["", "x", "ax", "colour", "time"] {
            assert!(nearest(typed, COLUMNS).is_empty(), "{typed}");
        }
        assert_eq!(question(&[]), None);
    }
}
