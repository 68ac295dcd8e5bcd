//! The kinds of sources: what `source.type` may be.
//!
//! Owns: the one list of them.
//! Does not own: what a kind is (see `kind`).

use pintail_core::offsets::PartitionId;

use crate::kind::Kind;
use crate::{file, http, kafka, nats, simulator, stdin};

/// All kinds. A new one is a file of its own and a line here.
pub const KINDS: &[Kind] = &[simulator::KIND, file::KIND, stdin::KIND, http::KIND, nats::KIND, kafka::KIND];

/// Returns whether instance `index` of `count` reads a partition of a source of the kind `kind`.
pub fn owns(kind: &str, (index, count): (u32, u32), id: &PartitionId) -> bool {
    let owns = KINDS.iter().find(|known| known.name == kind).and_then(|known| known.owns);
    count == 1 || owns.is_none_or(|owns| owns(index, count, id))
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
