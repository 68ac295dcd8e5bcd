//! The source of a line, opened where the dataset stands.
//!
//! Owns: what a source is told of the line that it is part of; the dead letters as a source of their own.
//! Does not own: which kinds of sources there are (see [`pintail_sources::kind`]), reading.

use chrono::Utc;
use pintail_config::Config;
use pintail_core::error::Result;
use pintail_sources::dead_letters::DeadLetterSource;
use pintail_sources::kind::Surroundings;
use pintail_sources::{Resume, Source};
use pintail_storage::checkpoint::store::Store;
use pintail_storage::durable::disk_state::DiskState;

use super::Input;

/// Returns the configuration with which gaps are recorded.
pub(super) fn accepting_gaps(config: &Config) -> Config {
    let mut config = config.clone();
    config.source.kind = config.source.kind.accepting_gaps().into();
    config
}

/// Returns what a source of this line is told.
pub(crate) fn surroundings<'a>(config: &'a Config, store: Option<&'a Store>, disk: &'a DiskState) -> Surroundings<'a> {
    let format = store.map(Store::format);
    Surroundings {
        out_path: &config.pipeline.out_path,
        dataset_id: format.map_or("", |format| &format.dataset_id),
        created_at: format.map_or_else(Utc::now, |format| format.created_at),
        schema: &config.schema,
        record_bytes_max: config.source.record_bytes_max,
        batch_rows: config.pipeline.batch_rows,
        checkpoint_interval: config.pipeline.checkpoint_interval,
        cores: config.limits.cores,
        disk,
    }
}

/// Opens the source of `input`, to be read from where the dataset stands.
pub(super) fn open_source(config: &Config, input: Input, store: &Store, disk: &DiskState) -> Result<Box<dyn Source>> {
    let resume = Resume { offsets: store.offsets(), key: store.key() };
    match input {
        Input::DeadLetters => Ok(Box::new(DeadLetterSource::open(&config.paths().dead_letters(), resume.offsets)?)),
        Input::Source => config.source.kind.open(&surroundings(config, Some(store), disk), &resume),
    }
}

/// Checks that the configured source could be opened now, and returns what was found where that is worth a line. Reads no records.
pub(crate) fn check_source(config: &Config) -> Result<Vec<String>> {
    config.source.kind.check(&surroundings(config, None, &DiskState::default()))
}
