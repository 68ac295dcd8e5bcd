//! Tables: brings them up to the ledger behind the line.
//!
//! Owns: when a table of the configuration is published, by a task of its own that the line never waits for, and what is logged of it.
//! Does not own: publishing (see [`pintail_tables`]), `pintail publish` and what `pintail verify` says of a table (see `commands`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::Utc;
use pintail_config::{TableConfig, TableFormat};
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_sink::layout::OutputLayout;
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::durable::posix::Posix;
use pintail_tables::audit::Audit;
use pintail_tables::facts::{self, Column, Settled};
use pintail_tables::ledger::{Ledger, OnDisk};
use pintail_tables::log::OnDisk as Directory;
use pintail_tables::publisher::{Expired, Publisher};
use pintail_tables::{delta, iceberg};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::{debug, error, info, warn};

use crate::stages::blocking;

/// Publications after which expired files are looked for again, which takes a look at each of them.
const EXPIRED_EVERY: u64 = 60;

/// Checks that the output of the SQL can be all the tables. The dataset at `out`, if there is one, has some of the columns already.
///
/// # Errors
/// [`ErrorKind::Config`]: every column that a table cannot have, with the cast to write.
pub(crate) fn check_columns(tables: &[TableConfig], layout: &OutputLayout, out: &Path) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    // What is wrong with the dataset itself is told by whoever opens it.
    let written = OnDisk::open(out.to_owned(), None).map(|ledger| ledger.dataset().columns.clone()).unwrap_or_default();
    let column = |field: &Arc<arrow::datatypes::Field>| {
        let (name, data_type) = (field.name().clone(), field.data_type().clone());
        let is_in_files = written.iter().any(|column| column.name == name);
        Column { id: 0, name, data_type, settled: if is_in_files { Settled::InFiles } else { Settled::InSqlAlone } }
    };
    let columns: Vec<Column> = layout.output_schema().fields().iter().map(column).collect();
    let partition_by: Vec<String> = layout.partition_columns().into_iter().map(|(name, _)| name).collect();
    let mut faults = Vec::new();
    for table in tables {
        let found = match table.format {
            TableFormat::Delta => delta::faults(&columns, &partition_by),
            TableFormat::Iceberg => iceberg::faults(&columns, &partition_by),
        };
        faults.extend(found.into_iter().map(|fault| format!("table `{}`: {fault}", table.name)));
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::config(faults.join("\n"))) }
}

/// Checks that the tables that there are belong to the dataset at `out`, and ask for nothing that is not known.
///
/// # Errors
/// [`ErrorKind::Config`], naming the log and the way out; [`ErrorKind::State`] if it cannot be read.
pub(crate) fn check(tables: &[TableConfig], out: &Path) -> Result<()> {
    if out.is_dir() && !Paths::from(out).format().exists() {
        return tables.iter().try_for_each(|table| publisher(out, table.format, &table.name)?.check_free());
    }
    // Whoever opens it says what is wrong with it.
    let Ok(dataset) = Dataset::open(out) else { return Ok(()) };
    let format = dataset.format();
    let partition_by = format.partition_by.iter().map(|column| column.name.clone()).collect();
    let dataset = facts::Dataset { id: format.dataset_id.clone(), partition_by, columns: Vec::new(), clash: None };
    tables.iter().try_for_each(|table| publisher(out, table.format, &table.name)?.check(&dataset))
}

/// What `pintail verify` finds in a table of a dataset.
pub(crate) enum Found {
    /// There is none.
    Nothing,
    /// It cannot be published: why.
    Refused(String),
    /// It was held against the ledger.
    Audited(Audit),
}

/// The formats of tables that a dataset may have, as people call them, with the directory that holds the table.
pub(crate) const FORMATS: [(TableFormat, &str, &str); 2] =
    [(TableFormat::Delta, "Delta", delta::log::DIR), (TableFormat::Iceberg, "Iceberg", iceberg::TABLE_DIR)];

/// Holds a table of the dataset at `out`, if it has one, against the ledger, and looks whether it can be published.
///
/// # Errors
/// Those of the ledger.
pub(crate) fn audit(out: &Path, format: TableFormat) -> Result<Found> {
    let audited = held_against(out, format).and_then(|held| {
        let Some((publisher, ledger, audit)) = held else { return Ok(None) };
        // Where something contradicts the ledger, there is enough to say.
        if audit.faults.is_empty() {
            publisher.rehearse(&ledger, Utc::now())?;
        }
        Ok(Some(audit))
    });
    match audited {
        Ok(None) => Ok(Found::Nothing),
        Ok(Some(audit)) => Ok(Found::Audited(audit)),
        Err(error) if error.kind() == ErrorKind::Config => Ok(Found::Refused(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Holds a table against the ledger; `None` if there is none.
fn held_against(out: &Path, format: TableFormat) -> Result<Option<(Publisher, OnDisk, Audit)>> {
    let is_there = FORMATS.iter().any(|(of, _, dir)| *of == format && out.join(dir).is_dir());
    if !is_there {
        return Ok(None);
    }
    let (ledger, publisher) = (OnDisk::open(out.to_owned(), None)?, publisher(out, format, "")?);
    let audit = publisher.audit(&ledger)?;
    Ok(audit.version.is_some().then_some((publisher, ledger, audit)))
}

/// Returns the files that other writers have added to the tables of the dataset at `out`; of a table that cannot be read, none.
pub(crate) fn of_others(out: &Path) -> BTreeSet<PathBuf> {
    let held = FORMATS.iter().filter_map(|(format, ..)| held_against(out, *format).ok().flatten());
    held.flat_map(|(_, _, audit)| audit.foreign).map(|path| out.join(path)).collect()
}

/// Returns what publishes a dataset as a table.
///
/// # Errors
/// [`ErrorKind::Config`] if the dataset has no path that an Iceberg table can name its files by.
pub(crate) fn publisher(root: &Path, format: TableFormat, name: &str) -> Result<Publisher> {
    let directory = |dir: &str| Arc::new(Directory::new(Arc::new(Posix::unwaiting()), root, dir));
    Ok(match format {
        TableFormat::Delta => Publisher::delta(directory(delta::log::DIR), name),
        TableFormat::Iceberg => {
            // The same for everybody, whatever links lead there.
            let whole = root.canonicalize().map_err(|e| Error::io(format_args!("look at `{}`", root.display()), e))?;
            let text = whole.to_str().ok_or_else(|| {
                Error::config(format!(
                    "the path of the dataset is not UTF-8, and an Iceberg table names its files by it: `{}`",
                    whole.display()
                ))
            })?;
            Publisher::iceberg(directory(iceberg::DIR), text, name)
        }
    })
}

/// The tables that follow a running line, each in a task of its own.
pub(crate) struct Following {
    tasks: JoinSet<()>,
    ended: watch::Sender<bool>,
}

impl Following {
    /// Begins to publish what this instance commits.
    pub(crate) fn start(paths: &Paths, tables: Vec<TableConfig>) -> Self {
        let (ended, until) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for table in tables {
            tasks.spawn(follow(paths.clone(), table, until.clone()));
        }
        Self { tasks, ended }
    }

    /// Publishes what was committed last, and ends.
    pub(crate) async fn finish(mut self) {
        self.ended.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn follow(paths: Paths, table: TableConfig, mut ended: watch::Receiver<bool>) {
    let publisher = match publisher(paths.root(), table.format, &table.name) {
        Ok(publisher) => publisher,
        Err(error) => return error!(table = table.name, "not published: {error}"),
    };
    let mut follower = Follower { publisher, paths, ledger: None, rounds: 0 };
    let mut ticks = tokio::time::interval(table.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = async { _ = ended.wait_for(|ended| *ended).await } => {}
        }
        let is_last = *ended.borrow();
        let published = blocking("table", move || {
            let published = follower.publish();
            Ok((follower, published))
        });
        let result = match published.await {
            Ok((back, result)) => {
                follower = back;
                result
            }
            // It is gone with what it knew; the table is as it was.
            Err(error) => return error!(table = table.name, "{error}; the table is not published any more until the next start"),
        };
        match result {
            Ok(()) => told.clear(),
            Err(error) => {
                let text = error.to_string();
                // The same in every interval would fill the log.
                match (text == told, error.kind()) {
                    (true, _) => debug!(table = table.name, "not published: {text}"),
                    (false, ErrorKind::Config | ErrorKind::State) => error!(table = table.name, "not published: {text}"),
                    (false, _) => warn!(table = table.name, "not published: {text}"),
                }
                told = text;
            }
        }
        if is_last {
            return;
        }
    }
}

/// Publishes one table time and again.
struct Follower {
    publisher: Publisher,
    paths: Paths,
    ledger: Option<OnDisk>,
    rounds: u64,
}

impl Follower {
    fn publish(&mut self) -> Result<()> {
        let mut ledger = match self.ledger.take() {
            Some(ledger) => ledger,
            None => OnDisk::open(self.paths.root().to_owned(), Some(self.paths.instance()))?,
        };
        // After an error it is opened anew.
        ledger.refresh()?;
        if self.rounds == 0 {
            let lacking = self.publisher.check_history(&ledger, Utc::now())?;
            if let Some(first) = lacking.first() {
                warn!(
                    table = self.publisher.name(),
                    files = lacking.len(),
                    first,
                    "another writer took files of the dataset out of the table"
                );
            }
        }
        let expired = if ledger.may_expire() && self.rounds.is_multiple_of(EXPIRED_EVERY) { Expired::Remove } else { Expired::Keep };
        let published = self.publisher.publish(&ledger, expired, Utc::now())?;
        self.rounds += 1;
        if published.commits > 0 || published.checkpoint.is_some() {
            info!(
                table = self.publisher.name(),
                version = published.version,
                files = published.files,
                rows = published.rows,
                removed = published.removed,
                conflicts = published.conflicts,
                checkpoint = published.checkpoint,
                "table published"
            );
        }
        self.ledger = Some(ledger);
        published.check_kept(&self.publisher.place())
    }
}
