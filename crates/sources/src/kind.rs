//! A kind of source: what the program asks of it before it reads.
//!
//! Owns: the contract of a configured source, and what it is opened in.
//! Does not own: the keys, the identity and the opening of each, which are in its own file; which kinds there are (see `registry`).

use std::any::Any;
use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pintail_core::error::{Error, Result};
use pintail_core::identity::{Instance, SourceIdentity};
use pintail_core::limits::Limits;
use pintail_core::offsets::PartitionId;
use pintail_core::schema::{EventSchema, MetadataColumn};
use pintail_settings::Section;
use pintail_storage::checkpoint::store::Remember;
use pintail_storage::durable::disk_state::DiskState;

use crate::{Resume, Source};

/// A kind of source.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// `source.type`
    pub name: &'static str,
    /// Its keys, some of which other kinds have as well.
    pub keys: &'static [&'static str],
    /// Reads the keys. What is wrong with them is in the section's report.
    pub read: fn(&mut Section<'_>, Limits) -> Box<dyn Configured>,
    /// Whether instance `index` of `count` reads a partition; `None` where several instances cannot share them.
    pub owns: Option<fn(u32, u32, &PartitionId) -> bool>,
}

impl Kind {
    /// Returns whether instance `index` of `count` reads a partition.
    pub fn is_read_by(&self, (index, count): (u32, u32), id: &PartitionId) -> bool {
        count == 1 || self.owns.is_none_or(|owns| owns(index, count, id))
    }
}

/// What a source is opened in.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The dataset's directory, or the scratch of one in a bucket. What lies in it is no input.
    pub out_path: &'a Path,
    /// The dataset.
    pub dataset_id: &'a str,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The columns of the events.
    pub schema: &'a EventSchema,
    /// Bytes of a record.
    pub record_bytes_max: usize,
    /// Bytes that the line may hold.
    pub line_bytes_max: usize,
    /// Records of a batch.
    pub batch_rows: usize,
    /// Time between checkpoints.
    pub checkpoint_interval: Duration,
    /// Processors that there are.
    pub cores: usize,
    /// Says whether the disk is full.
    pub disk: &'a DiskState,
}

/// A source as it was configured.
pub trait Configured: Any + Debug + Send + Sync {
    /// Returns the kind that it is of.
    fn kind(&self) -> &'static Kind;

    /// Returns `source.type`.
    fn name(&self) -> &'static str {
        self.kind().name
    }

    /// Returns what makes offsets comparable, for a dataset made at a time. Without more than the kind, each partition carries its own identity.
    fn identity(&self, _created_at: DateTime<Utc>) -> SourceIdentity {
        SourceIdentity { kind: self.name().to_owned(), properties: Default::default() }
    }

    /// Returns how long vanished partitions are remembered.
    fn remember(&self) -> Remember {
        Remember::default()
    }

    /// Returns the same with gaps recorded, not refused.
    fn accepting_gaps(&self) -> Box<dyn Configured>;

    /// Returns which of several processes reads which partitions.
    fn instance(&self) -> Instance {
        Instance::default()
    }

    /// Returns the columns that it brings along beside the payload.
    fn metadata(&self) -> &'static [MetadataColumn] {
        &[]
    }

    /// Returns whether each record is a message of its own, of whatever bytes it has; else records are lines, or rows.
    fn gives_messages(&self) -> bool {
        false
    }

    /// Returns the bytes that what is pushed may take beside the line.
    fn pushed_bytes_max(&self) -> usize {
        0
    }

    /// Returns whether some of it can be read beside the service, which neither notices that nor loses anything by it.
    fn can_be_tried(&self) -> bool {
        false
    }

    /// Returns whether it keeps what it has acknowledged beside the dataset, because no other place was named: in a bucket it cannot.
    fn lacks_journal(&self) -> bool {
        false
    }

    /// Opens it where the dataset stands.
    ///
    /// # Errors
    /// `Config` if this program was built without it, or a setting is of no use; else what the source says.
    fn open(&self, _around: &Surroundings<'_>, _resume: &Resume<'_>) -> Result<Box<dyn Source>> {
        Err(self.absent())
    }

    /// Checks that it could be opened now where the dataset stands and read on there, and returns what was found where that is worth a line. Reads no
    /// records, and leaves nothing behind.
    ///
    /// # Errors
    /// As [`Self::open`], and what reading would end with before its first record.
    fn check(&self, _around: &Surroundings<'_>, _resume: &Resume<'_>) -> Result<Vec<String>> {
        Err(self.absent())
    }

    /// Returns what is said where the program was built without it.
    fn absent(&self) -> Error {
        let name = self.name();
        Error::config(format!("`source.type` = \"{name}\": this program was built without it; build with the feature `{name}`"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::LazyLock;

    use super::*;

    pub(crate) static DISK: LazyLock<DiskState> = LazyLock::new(DiskState::default);
    static SCHEMA: LazyLock<EventSchema> = LazyLock::new(EventSchema::simulator);

    impl<'a> Surroundings<'a> {
        /// Those of a line into a directory.
        pub(crate) fn of(out_path: &'a Path, disk: &'a DiskState) -> Self {
            Self {
                out_path,
                dataset_id: "",
                created_at: DateTime::UNIX_EPOCH,
                schema: &SCHEMA,
                record_bytes_max: 1 << 20,
                line_bytes_max: 1 << 30,
                batch_rows: 50_000,
                checkpoint_interval: Duration::from_secs(30),
                cores: 1,
                disk,
            }
        }
    }
}
