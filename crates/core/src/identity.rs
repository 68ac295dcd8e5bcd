//! Who reads what: the identity of a source, and which of several instances this process is.
//!
//! Owns: what makes offsets comparable between two starts.
//! Does not own: the partitions of a source (see [`crate::offsets`]), how instances share them (see `pintail_storage::checkpoint::take_over`).

use std::collections::BTreeMap;

/// What makes offsets comparable between two starts: kept in FORMAT, compared at each start.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SourceIdentity {
    /// `simulator`, `file`, `stdin`, …
    pub kind: String,
    /// What must not change, by name: the simulator's seed and start time, a topic and its id. Empty for files, whose
    /// partitions carry their own identity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

/// `[source.instance]`: several processes share the partitions of one dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// Which one this is, from 0.
    pub index: u32,
    /// How many there are.
    pub count: u32,
    /// Whether they may share a dataset on a network file system.
    pub network_file_system: bool,
}

impl Default for Instance {
    /// The only one.
    fn default() -> Self {
        Self { index: 0, count: 1, network_file_system: false }
    }
}
