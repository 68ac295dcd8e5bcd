//! `source.type = "kafka"`: its settings, as they may be used, and the columns that this source brings along.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::TimeUnit;
use pintail_core::identity::Instance;
use pintail_core::schema::{ColumnType, MetadataColumn};
use pintail_core::secret::Secret;

use crate::OnGap;

/// `source.type = "kafka"`
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// Brokers of one cluster to begin with, `host:port`.
    pub brokers: Vec<String>,
    /// The topics.
    pub topics: Vec<String>,
    /// The consumer group that is told what is committed, for tools that show its lag.
    pub group: String,
    /// What to do when messages that were not read are gone, or what was read is not what the log holds there.
    pub on_gap: OnGap,
    /// `sasl.password`
    pub password: Option<Secret>,
    /// Settings for librdkafka as they are, such as those of TLS and SASL.
    pub properties: BTreeMap<String, String>,
    /// Time between two looks at the number of partitions.
    pub partitions_interval: Duration,
    /// Which of the partitions are read.
    pub instance: Instance,
}

/// What the source `kafka` says of each message.
pub const METADATA: [MetadataColumn; 6] = [
    MetadataColumn { name: "_topic", column_type: ColumnType::Dictionary },
    MetadataColumn { name: "_partition", column_type: ColumnType::Int32 },
    MetadataColumn { name: "_offset", column_type: ColumnType::Int64 },
    MetadataColumn { name: "_timestamp", column_type: ColumnType::Timestamp(TimeUnit::Millisecond) },
    MetadataColumn { name: "_key", column_type: ColumnType::Text },
    MetadataColumn { name: "_headers", column_type: ColumnType::Json },
];
