//! What the metadata of a table says.
//!
//! Owns: finding the newest version, the manifests of its current snapshot, and as much of what those say as is asked for.
//! Does not own: the form of manifests (see `manifest`), what becomes of them (see `plan`).

use std::collections::BTreeMap;

use pintail_core::error::{Error, Result};
use serde_json::Value as Json;

use super::avro::{self, Record};
use super::manifest::{self, DELETED, entry, listed, long, text};
use super::names::{self, Kind};
use super::{Iceberg, file_name};
use crate::audit::Told;
use crate::log::{Entry, Log, unreadable};
use crate::publisher::Depth;

/// A table at one of its versions.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// The last version; `None` if there is no table.
    pub version: Option<u64>,
    /// The newest version that another writer compressed.
    pub compressed: Option<u64>,
    /// What lies there, with when it was written.
    pub entries: Vec<Entry>,
    /// The metadata of the version.
    pub metadata: Json,
    /// What the list of the current snapshot says of its manifests.
    pub manifests: Vec<Record>,
    /// Manifests that the next commit writes anew, by their places in the list: their entries.
    pub opened: BTreeMap<usize, Vec<Record>>,
    /// The files, with [`Depth::Files`].
    pub files: Vec<(String, Told)>,
}

impl State {
    /// Reads the table.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`] if something is missing or cannot be read.
    pub(super) fn read(of: &Iceberg, log: &dyn Log, depth: Depth<'_>) -> Result<Self> {
        // Somebody may clean up between the listing and the reading.
        let mut last = None;
        for _ in 0..3 {
            match Self::try_read(of, log, depth)? {
                Ok(state) => return Ok(state),
                Err(missing) => last = Some(missing),
            }
        }
        let missing = last.unwrap_or_default();
        Err(Error::state(format!(
            "`{}` has no `{missing}`, which its newest metadata names: the table cannot be read; a table is made anew from the dataset once the \
             directory is moved away",
            log.place()
        )))
    }

    /// Returns the name of a file that is missing instead, if one is.
    fn try_read(of: &Iceberg, log: &dyn Log, depth: Depth<'_>) -> Result<std::result::Result<Self, String>> {
        let entries = log.list()?;
        let newest = |is: fn(Kind) -> Option<u64>| entries.iter().filter_map(|entry| is(names::kind(&entry.name))).max();
        let version = newest(|kind| if let Kind::Metadata(version) = kind { Some(version) } else { None });
        let compressed = newest(|kind| if let Kind::Compressed(version) = kind { Some(version) } else { None });
        let mut state = Self { version, compressed, ..Self::default() };
        let Some(version) = version else { return Ok(Ok(Self { entries, ..state })) };
        let name = names::metadata(version);
        let Some(bytes) = log.read(&name)? else { return Ok(Err(name)) };
        let cannot = |name: &str, why: &str| unreadable(name, log, why);
        state.metadata = serde_json::from_slice(&bytes).map_err(|e| cannot(&name, &e.to_string()))?;
        state.entries = entries;
        // What another format or another place has is not read: the table is refused (see `plan::check`).
        if state.metadata["format-version"].as_i64() != Some(2) || state.metadata["location"] != of.location() {
            return Ok(Ok(state));
        }
        let Some(list) = state.current().and_then(|snapshot| snapshot["manifest-list"].as_str()) else { return Ok(Ok(state)) };
        let read = |path: &str| -> Result<std::result::Result<Vec<Record>, String>> {
            let Some(name) = file_name(&of.root, path) else { return Err(cannot(path, "it lies elsewhere")) };
            let Some(bytes) = log.read(name)? else { return Ok(Err(name.to_owned())) };
            avro::read(&bytes).map(|file| Ok(file.records)).map_err(|why| cannot(name, &why))
        };
        match read(list)? {
            Ok(manifests) => state.manifests = manifests,
            Err(missing) => return Ok(Err(missing)),
        }
        let merged = of.merged(&state);
        for (place, manifest) in state.manifests.clone().iter().enumerate() {
            let is_data = long(manifest, listed::CONTENT).unwrap_or(0) == 0;
            let is_wanted = match depth {
                Depth::Head => merged.contains(&place),
                Depth::Files | Depth::Leaving(_) => is_data,
            };
            let path = text(manifest, listed::PATH).unwrap_or_default();
            if !is_wanted {
                continue;
            }
            let entries = match read(path)? {
                Ok(entries) => entries,
                Err(missing) => return Ok(Err(missing)),
            };
            match depth {
                Depth::Files => state.files.extend(entries.iter().filter_map(|entry| told(of, entry))),
                Depth::Leaving(gone) => {
                    let leaves = |entry: &Record| told(of, entry).is_some_and(|(path, _)| gone.contains(&path));
                    if (merged.contains(&place) || entries.iter().any(leaves)) && of.is_our_spec(&state, manifest) {
                        state.opened.insert(place, manifest::carried(entries, manifest));
                    }
                }
                Depth::Head => _ = state.opened.insert(place, manifest::carried(entries, manifest)),
            }
        }
        Ok(Ok(state))
    }

    /// Returns the current snapshot, if there is one.
    pub(super) fn current(&self) -> Option<&Json> {
        let id = self.metadata["current-snapshot-id"].as_i64()?;
        self.metadata["snapshots"].as_array()?.iter().find(|snapshot| snapshot["snapshot-id"].as_i64() == Some(id))
    }

    /// Returns the current schema.
    pub(super) fn schema(&self) -> Option<&Json> {
        let id = self.metadata["current-schema-id"].as_i64()?;
        self.metadata["schemas"].as_array()?.iter().find(|schema| schema["schema-id"].as_i64() == Some(id))
    }

    /// Returns the specification of the partitioning.
    pub(super) fn spec(&self) -> Option<&Json> {
        let id = self.metadata["default-spec-id"].as_i64()?;
        self.metadata["partition-specs"].as_array()?.iter().find(|spec| spec["spec-id"].as_i64() == Some(id))
    }

    /// Returns a property of the table.
    pub(super) fn property(&self, name: &str) -> Option<&str> {
        self.metadata["properties"][name].as_str()
    }
}

/// Returns what an entry says of its file, if that is in the table: its place below the dataset, and what is known of it.
pub(super) fn told(of: &Iceberg, entry: &Record) -> Option<(String, Told)> {
    if long(entry, entry::STATUS) == Some(DELETED) {
        return None;
    }
    let path = manifest::path(entry)?;
    let below = path.strip_prefix(of.root.as_str()).and_then(|path| path.strip_prefix('/')).unwrap_or(path);
    let file = manifest::data_file(entry)?;
    let rows = long(file, entry::ROWS).and_then(|rows| u64::try_from(rows).ok());
    Some((below.to_owned(), Told { bytes: long(file, entry::BYTES).unwrap_or(-1), rows }))
}
