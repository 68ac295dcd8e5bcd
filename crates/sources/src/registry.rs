//! The kinds of sources: what `source.type` may be.
//!
//! Owns: the one list of them.
//! Does not own: what a kind is (see `kind`).

use crate::kind::Kind;
use crate::{file, http, kafka, nats, simulator, stdin};

/// All kinds. A new one is a file of its own and a line here.
pub const KINDS: &[Kind] = &[simulator::KIND, file::KIND, stdin::KIND, http::KIND, nats::KIND, kafka::KIND];

/// Returns the kind of a name.
pub fn find(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
    }
}
