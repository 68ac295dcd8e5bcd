//! The source of a line: the one place that tells the configured kinds of sources apart.
//!
//! Owns: opening it where the dataset stands, checking that it could be opened, what identifies it.
//! Does not own: reading (see [`pintail_sources`]).

use chrono::{DateTime, TimeDelta, Utc};
use pintail_config::{Config, SourceKind};
use pintail_core::error::Result;
use pintail_core::evidence::Key;
use pintail_core::identity::SourceIdentity;
use pintail_core::offsets::Offsets;
use pintail_sources::dead_letters::DeadLetterSource;
use pintail_sources::file::{FileSource, Surroundings};
use pintail_sources::http::{HttpSource, Opening};
use pintail_sources::kafka::KafkaSource;
use pintail_sources::nats::NatsSource;
use pintail_sources::simulator::Simulator;
use pintail_sources::stdin::Stdin;
use pintail_sources::{OnGap, Resume, Source};
use pintail_storage::checkpoint::store::{Remember, Store};
use pintail_storage::durable::disk_state::DiskState;

use super::Input;

/// Returns what makes the configured source's offsets comparable.
pub(super) fn identity(config: &Config, created_at: DateTime<Utc>) -> SourceIdentity {
    match &config.source.kind {
        SourceKind::Simulator(simulator) => Simulator::identity(simulator, created_at),
        SourceKind::File(_) => FileSource::identity(),
        SourceKind::Stdin => Stdin::identity(),
        SourceKind::Http(_) => HttpSource::identity(),
        SourceKind::Nats(nats) => NatsSource::identity(nats),
        SourceKind::Kafka(_) => KafkaSource::identity(),
    }
}

/// Returns how long the configured source wants vanished partitions remembered.
pub(super) fn remember(config: &Config) -> Remember {
    match &config.source.kind {
        SourceKind::File(file) => {
            let longest = TimeDelta::from_std(file.remember).unwrap_or(TimeDelta::MAX);
            Remember { longest, most: file.remember_max }
        }
        _ => Remember::default(),
    }
}

/// Returns the configuration with which gaps are recorded.
pub(super) fn accepting_gaps(config: &Config) -> Config {
    let mut config = config.clone();
    match &mut config.source.kind {
        SourceKind::File(file) => file.on_gap = OnGap::Record,
        SourceKind::Nats(nats) => nats.on_gap = OnGap::Record,
        SourceKind::Kafka(kafka) => kafka.on_gap = OnGap::Record,
        SourceKind::Simulator(_) | SourceKind::Stdin | SourceKind::Http(_) => {}
    }
    config
}

/// Opens the source of `input`, to be read from where the dataset stands.
pub(super) fn open_source(config: &Config, input: Input, store: &Store, disk: &DiskState) -> Result<Box<dyn Source>> {
    let resume = Resume { offsets: store.offsets(), key: store.key() };
    let record_bytes_max = config.source.record_bytes_max;
    if input == Input::DeadLetters {
        return Ok(Box::new(DeadLetterSource::open(&config.paths().dead_letters(), resume.offsets)?));
    }
    Ok(match &config.source.kind {
        SourceKind::Simulator(simulator) => {
            let start_time = simulator.start_time.unwrap_or(store.format().created_at);
            Box::new(Simulator::open(simulator, start_time, config.pipeline.batch_rows, resume.offsets)?)
        }
        SourceKind::File(file) => {
            Box::new(FileSource::open(file, &Surroundings { record_bytes_max, out_path: &config.pipeline.out_path, disk }, &resume)?)
        }
        SourceKind::Stdin => Box::new(Stdin::open(record_bytes_max, resume.offsets)?),
        SourceKind::Http(http) => {
            let dataset_id = &store.format().dataset_id;
            let opening = Opening {
                http,
                out_path: &config.pipeline.out_path,
                dataset_id,
                schema: &config.schema,
                record_bytes_max,
                cores: config.limits.cores,
                checkpoint_interval: config.pipeline.checkpoint_interval,
            };
            Box::new(HttpSource::open(&opening, &resume)?)
        }
        SourceKind::Nats(nats) => Box::new(NatsSource::open(nats, config.pipeline.checkpoint_interval, record_bytes_max, &resume)?),
        SourceKind::Kafka(kafka) => Box::new(KafkaSource::open(kafka, record_bytes_max, &resume)?),
    })
}

/// Checks that the configured source could be opened now, and returns what was found where that is worth a line. Reads no records.
pub fn check_source(config: &Config) -> Result<Vec<String>> {
    match &config.source.kind {
        SourceKind::Simulator(_) | SourceKind::Stdin => Ok(Vec::new()),
        SourceKind::File(file) => {
            let resume = Resume { offsets: &Offsets::default(), key: &Key::random() };
            let around = Surroundings {
                record_bytes_max: config.source.record_bytes_max,
                out_path: &config.pipeline.out_path,
                disk: &DiskState::default(),
            };
            FileSource::check(file, &around, &resume)
        }
        SourceKind::Http(http) => HttpSource::check(http, &config.pipeline.out_path).map(|()| Vec::new()),
        SourceKind::Nats(nats) => NatsSource::probe(nats).map(|found| vec![found]),
        SourceKind::Kafka(kafka) => KafkaSource::probe(kafka).map(|found| vec![found]),
    }
}
