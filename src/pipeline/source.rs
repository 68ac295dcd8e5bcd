//! The source of a line, opened where the dataset stands.
//!
//! Owns: what a source is told of the line that it is part of; the dead letters as a source of their own.
//! Does not own: which kinds of sources there are (see [`pintail_sources::registry`]), reading.

use std::fs::File;

use chrono::Utc;
use pintail_config::Config;
use pintail_core::digest::sha256_of;
use pintail_core::error::{Error, Result};
use pintail_core::evidence::Key;
use pintail_core::invocation::command;
use pintail_core::offsets::Offsets;
use pintail_sources::dead_letters::DeadLetterSource;
use pintail_sources::kind::Surroundings;
use pintail_sources::{Resume, Source};
use pintail_storage::bucket::Local;
use pintail_storage::checkpoint::format::Format;
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::record::FileKind;
use pintail_storage::checkpoint::store::Standing;
use pintail_storage::dataset::OpenDataset;
use pintail_storage::durable::disk_state::DiskState;

use super::{Input, open_to_read};

/// Returns the configuration with which gaps are recorded.
pub(super) fn accepting_gaps(config: &Config) -> Config {
    let mut config = config.clone();
    config.source.kind = config.source.kind.accepting_gaps().into();
    config
}

/// Returns what a source of this line is told.
pub(crate) fn surroundings<'a>(config: &'a Config, local: &'a Paths, format: Option<&'a Format>, disk: &'a DiskState) -> Surroundings<'a> {
    Surroundings {
        out_path: local.root(),
        dataset_id: format.map_or("", |format| &format.dataset_id),
        created_at: format.map_or_else(Utc::now, |format| format.created_at),
        schema: &config.schema,
        record_bytes_max: config.source.record_bytes_max,
        line_bytes_max: config.pipeline.line_bytes_max,
        batch_rows: config.pipeline.batch_rows,
        checkpoint_interval: config.pipeline.checkpoint_interval,
        cores: config.limits.cores,
        disk,
    }
}

/// Opens the source of `input`, to be read from where the dataset stands.
pub(super) fn open_source(config: &Config, input: Input, store: &OpenDataset, disk: &DiskState) -> Result<Box<dyn Source>> {
    let resume = Resume { offsets: store.offsets(), key: store.key() };
    match input {
        Input::DeadLetters => {
            let dataset = open_to_read(config)?;
            let letters = checked_dead_letters(&dataset)?;
            let dir = match dataset.bucket() {
                None => config.paths().dead_letters(),
                Some(tree) => Paths::new(tree.copies()?).of_instance(config.instance().index).dead_letters(),
            };
            Ok(Box::new(DeadLetterSource::open(&dir, resume.offsets, letters)?))
        }
        Input::Source => config.source.kind.open(&surroundings(config, &config.local_paths(), Some(store.format()), disk), &resume),
    }
}

/// Returns the files of dead letters, which are there as long as they are held. Refuses those that are not what their records say: what is replayed
/// becomes rows, and nobody would look at it again.
fn checked_dead_letters(dataset: &Dataset) -> Result<Vec<Local>> {
    let mut checked = Vec::new();
    for instance in dataset.instances()? {
        for sequence in 1..=instance.last_sequence()? {
            let (record, _) = instance.record(sequence)?;
            for file in record.files.iter().filter(|file| file.kind == FileKind::DeadLetters) {
                let Some(local) = instance.local(file)? else { continue };
                let place = instance.paths().published(&file.path);
                let failed = |e| Error::io(format_args!("read `{}`", place.display()), e);
                let sha256 = sha256_of(File::open(&*local).map_err(failed)?).map_err(failed)?;
                if sha256 != file.sha256 {
                    return Err(Error::state(format!(
                        "`{}` is not what commit record {sequence} says, its SHA-256 is {sha256} and not {}: nothing was replayed. Restore it from a copy; \
                         {} names all that differs",
                        place.display(),
                        file.sha256,
                        command("verify")
                    )));
                }
                checked.push(local);
            }
        }
    }
    Ok(checked)
}

/// Checks that the configured source could be opened now and read on where the dataset stands, if there is one, and returns what was found where that is
/// worth a line. Reads no records.
pub(crate) fn check_source(config: &Config, standing: Option<&Standing>) -> Result<Vec<String>> {
    let (disk, local) = (DiskState::default(), config.local_paths());
    let (none, any) = (Offsets::default(), Key::random());
    let offsets = standing.map_or(&none, |standing| &standing.offsets);
    let key = standing.and_then(|standing| standing.key.as_ref()).unwrap_or(&any);
    let around = &surroundings(config, &local, standing.map(|standing| &standing.format), &disk);
    config.source.kind.check(around, &Resume { offsets, key })
}
