//! Publication: the loop that brings a table up to the ledger, whatever its format.
//!
//! Owns: that each committed file is in the table once, however often a publisher is killed, repeated or run beside another.
//! Does not own: the ledger, which never waits for it; how a format says what (see [`crate::delta`] and [`crate::iceberg`]).
//!
//! How far a publisher is stands in the commit that adds the files: of each instance, the sequence number of the last record. So there is one
//! question to ask before a commit, and the answer cannot be stale: the commit takes the next version by create-if-absent, and whoever is late
//! reads the table again. Nothing is ever deleted because a commit failed: its fate may be unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use pintail_core::error::{Error, Result};
use pintail_core::quantity::counted;

use crate::audit::{Audit, View, compare};
use crate::delta::Delta;
use crate::facts::{DataFile, Dataset, Portion};
use crate::iceberg::Iceberg;
use crate::ledger::Ledger;
use crate::log::{Log, Made};

/// The property that says which dataset a table belongs to.
pub(crate) const OWNER: &str = "pintail.dataset_id";
/// Files of a commit, about: a reader takes what it says into memory at once.
const FILES_MAX: usize = 10_000;
/// Commits that others may get in before this one within a publication.
const CONFLICTS_MAX: u32 = 100;
/// How long a table tells at least that a file has left.
const TOLD: TimeDelta = TimeDelta::days(1);

/// Publishes a dataset as a table.
#[derive(Debug, Clone)]
pub struct Publisher {
    log: Arc<dyn LogOfTable>,
    format: Format,
    name: String,
}

#[derive(Debug, Clone)]
enum Format {
    Delta(Delta),
    Iceberg(Iceberg),
}

/// A directory that publishers of several threads may use.
pub trait LogOfTable: Log + Send + Sync {}

impl<T: Log + Send + Sync> LogOfTable for T {}

/// What a publication did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// The version that the table has now; `None` if there is none, for want of columns.
    pub version: Option<u64>,
    /// Commits.
    pub commits: u64,
    /// Files that joined.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
    /// Expired files that left.
    pub removed: u64,
    /// Expired files that the table does not let go.
    pub kept: u64,
    /// Commits of others that came in before.
    pub conflicts: u64,
    /// The version of the checkpoint that was written (Delta).
    pub checkpoint: Option<u64>,
    /// How far each chain is in the table, by instance.
    pub chains: BTreeMap<u32, u64>,
}

/// Whether expired files are looked for, which takes a look at each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// They stay in the table.
    Keep,
    /// Those that are gone leave it.
    Remove,
}

/// How much of a table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth<'a> {
    /// What it is, and how far its writers are.
    Head,
    /// Its files, too.
    Files,
    /// What is needed to take these files out of it.
    Leaving(&'a BTreeSet<String>),
}

impl<'a> Depth<'a> {
    /// Returns what is to be read of a table that these files leave.
    fn without(gone: &'a BTreeSet<String>) -> Self {
        if gone.is_empty() { Self::Head } else { Self::Leaving(gone) }
    }
}

/// The next commit of a table, if there is something to commit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan<C> {
    /// The commit itself.
    pub commit: Option<C>,
    /// Files that join.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
    /// Files that leave.
    pub removed: u64,
    /// Expired files that stay, since the table lets none go.
    pub kept: u64,
    /// How far each chain is after it.
    pub chains: Vec<(u32, u64)>,
}

/// A format of tables, as the steps of a publication.
pub(crate) trait Table {
    /// What was read of a table.
    type State;
    /// What is written to bring it one version further.
    type Commit;

    fn read(&self, log: &dyn Log, depth: Depth<'_>) -> Result<Self::State>;

    /// The version that was read; `None` if there is no table.
    fn version(state: &Self::State) -> Option<u64>;

    /// Checks that this dataset may write to the table.
    fn check(&self, state: &Self::State, dataset: &Dataset, place: &str) -> Result<()>;

    /// Decides the next commit, from what the table and the ledger say.
    fn plan(
        &self,
        state: &Self::State,
        ledger: &dyn Ledger,
        gone: &BTreeSet<String>,
        files_max: usize,
        now: DateTime<Utc>,
    ) -> Result<Plan<Self::Commit>>;

    /// Commits, if the version is not taken.
    fn commit(&self, log: &dyn Log, commit: &Self::Commit) -> Result<Made>;

    /// Keeps the directory small, and what points to the last version right.
    fn keep(&self, log: &dyn Log, state: &Self::State, published: &mut Published, now: DateTime<Utc>) -> Result<()>;

    /// Returns what a table that was read with its files says of them.
    fn view(&self, state: &Self::State, dataset: &Dataset) -> View;
}

impl Published {
    /// Returns what the table at `place` does not let this publication do.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if files that are gone had to stay in it.
    pub fn check_kept(&self, place: &str) -> Result<()> {
        if self.kept == 0 {
            return Ok(());
        }
        Err(Error::config(format!(
            "{} declared expired and gone had to stay in `{place}`, and readers of the table fail on that: it has the property `delta.appendOnly`; \
             set that to false and publish again, or move the directory away, and it is made anew",
            counted(self.kept, "file", "files")
        )))
    }
}

impl Publisher {
    /// Publishes to the log of a Delta table `name`, which is what catalogs and people call it.
    pub fn delta(log: Arc<dyn LogOfTable>, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { log, format: Format::Delta(Delta { name: name.clone() }), name }
    }

    /// Publishes to the metadata of an Iceberg table over the dataset in the directory `root`: an absolute path, which the table names its files by.
    pub fn iceberg(log: Arc<dyn LogOfTable>, root: impl Into<String>, name: impl Into<String>) -> Self {
        Self { log, format: Format::Iceberg(Iceberg::new(root.into())), name: name.into() }
    }

    #[cfg(test)]
    pub(crate) fn of_iceberg(log: Arc<dyn LogOfTable>, iceberg: Iceberg) -> Self {
        Self { log, format: Format::Iceberg(iceberg), name: "events".into() }
    }

    /// Returns the name of the table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks that a dataset may write to the table, if there is one.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn check(&self, dataset: &Dataset) -> Result<()> {
        match &self.format {
            Format::Delta(of) => of.check(&of.read(&*self.log, Depth::Head)?, dataset, &self.log.place()),
            Format::Iceberg(of) => of.check(&of.read(&*self.log, Depth::Head)?, dataset, &self.log.place()),
        }
    }

    /// Returns where the table's log or metadata is.
    pub fn place(&self) -> String {
        self.log.place()
    }

    /// Brings the table up to the ledger as it is. May be repeated, by any number of processes.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if the dataset cannot be such a table, or the table belongs to another or asks for what is not
    /// known here; [`pintail_core::error::ErrorKind::TryAgain`] if others committed all the time. After any error the next publication
    /// decides anew; nothing is ever doubled.
    pub fn publish(&self, ledger: &dyn Ledger, expired: Expired, now: DateTime<Utc>) -> Result<Published> {
        match &self.format {
            Format::Delta(of) => publish(of, &*self.log, ledger, expired, now),
            Format::Iceberg(of) => publish(of, &*self.log, ledger, expired, now),
        }
    }

    /// Checks that the last records that the table has are those of this ledger. A dataset that was put back to an older copy goes on under the same
    /// numbers with other records, which would be taken for published. Reads all of the table. Returns the files of published records that the table
    /// has not got any more, though they are there: another writer took them out.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`] if a file of such a record is another in the table, or was never in it; else as [`Self::check`].
    pub fn check_history(&self, ledger: &dyn Ledger, now: DateTime<Utc>) -> Result<BTreeSet<String>> {
        match &self.format {
            Format::Delta(of) => check_history(of, &*self.log, ledger, now),
            Format::Iceberg(of) => check_history(of, &*self.log, ledger, now),
        }
    }

    /// Holds the table against a ledger.
    ///
    /// # Errors
    /// Those of the ledger and the table; [`pintail_core::error::ErrorKind::Config`] if the table is another dataset's.
    pub fn audit(&self, ledger: &dyn Ledger) -> Result<Audit> {
        match &self.format {
            Format::Delta(of) => audit(of, &*self.log, ledger),
            Format::Iceberg(of) => audit(of, &*self.log, ledger),
        }
    }

    /// Checks that the next publication would be none that is refused. Reads all of the table, and changes nothing.
    ///
    /// # Errors
    /// What [`Self::check_history`] or [`Self::publish`] would end with.
    pub fn rehearse(&self, ledger: &dyn Ledger, now: DateTime<Utc>) -> Result<()> {
        match &self.format {
            Format::Delta(of) => rehearse(of, &*self.log, ledger, now),
            Format::Iceberg(of) => rehearse(of, &*self.log, ledger, now),
        }
    }

    /// Checks that there is no table, before there is a dataset that it could belong to.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if there is one.
    pub fn check_free(&self) -> Result<()> {
        let version = match &self.format {
            Format::Delta(of) => Delta::version(&of.read(&*self.log, Depth::Head)?),
            Format::Iceberg(of) => Iceberg::version(&of.read(&*self.log, Depth::Head)?),
        };
        version.map_or(Ok(()), |_| {
            let place = self.log.place();
            Err(Error::config(format!(
                "`{place}` is there before its dataset: the table is another's; move it away, or set another `pipeline.out_path`"
            )))
        })
    }
}

fn publish<T: Table>(of: &T, log: &dyn Log, ledger: &dyn Ledger, expired: Expired, now: DateTime<Utc>) -> Result<Published> {
    let mut published = Published::default();
    let gone = if expired == Expired::Remove { ledger.expired()? } else { Default::default() };
    loop {
        let table = of.read(log, Depth::without(&gone))?;
        of.check(&table, ledger.dataset(), &log.place())?;
        let plan = of.plan(&table, ledger, &gone, FILES_MAX, now)?;
        published.chains = plan.chains.iter().copied().collect();
        published.kept = plan.kept;
        let Some(commit) = plan.commit else {
            published.version = T::version(&table);
            of.keep(log, &table, &mut published, now)?;
            return Ok(published);
        };
        match of.commit(log, &commit)? {
            Made::Now => {
                published.commits += 1;
                published.files += plan.files;
                published.rows += plan.rows;
                published.removed += plan.removed;
            }
            Made::Taken => {
                published.conflicts += 1;
                if published.conflicts > u64::from(CONFLICTS_MAX) {
                    return Err(Error::try_again(format!("others commit to `{}` all the time: publish later", log.place())));
                }
            }
        }
    }
}

/// Checks that a table is this dataset's, given what it says of its owner.
pub(crate) fn check_owner(owner: Option<&str>, dataset: &Dataset, place: &str) -> Result<()> {
    match owner {
        Some(owner) if owner == dataset.id => Ok(()),
        Some(owner) => Err(Error::config(format!(
            "`{place}` belongs to the dataset {owner}, and this is {}: a table belongs to one dataset; move the directory away, and it is made anew",
            dataset.id
        ))),
        None => Err(Error::config(format!("`{place}` was not made by pintail: move it away, or publish another directory"))),
    }
}

fn check_history<T: Table>(of: &T, log: &dyn Log, ledger: &dyn Ledger, now: DateTime<Utc>) -> Result<BTreeSet<String>> {
    let table = of.read(log, Depth::Files)?;
    if T::version(&table).is_none() {
        return Ok(BTreeSet::new());
    }
    of.check(&table, ledger.dataset(), &log.place())?;
    let (view, expired) = (of.view(&table, ledger.dataset()), ledger.expired()?);
    for chain in ledger.chains() {
        let standing = view.standing.get(&chain.instance).copied().unwrap_or(0);
        if standing == 0 || standing > chain.last {
            continue;
        }
        let files = ledger.after(chain.instance, standing - 1, standing, FILES_MAX)?.files;
        let is_another = |file: &&DataFile| match view.live.get(&file.path) {
            Some(told) => u64::try_from(told.bytes) != Ok(file.bytes),
            // That it has left is told for a while.
            None => !view.removed.contains(&file.path) && !expired.contains(&file.path) && now - file.committed < TOLD,
        };
        if let Some(file) = files.iter().find(is_another) {
            let (why, by_others) = match view.live.contains_key(&file.path) {
                true => ("has another", ""),
                false => ("has not", "another writer took it out, or "),
            };
            return Err(Error::state(format!(
                "`{}` says that record {standing} of instance {} is published, and {why} `{}`: {by_others}the dataset was put back to an older copy \
                 and went on; move the table's directory away, and it is made anew from the dataset",
                log.place(),
                chain.instance,
                file.path
            )));
        }
    }
    ledger.lacking(&view.standing, &|path| view.live.contains_key(path))
}

fn audit<T: Table>(of: &T, log: &dyn Log, ledger: &dyn Ledger) -> Result<Audit> {
    let table = of.read(log, Depth::Files)?;
    of.check(&table, ledger.dataset(), &log.place())?;
    let Some(version) = T::version(&table) else { return Ok(Audit::default()) };
    compare(version, of.view(&table, ledger.dataset()), ledger)
}

fn rehearse<T: Table>(of: &T, log: &dyn Log, ledger: &dyn Ledger, now: DateTime<Utc>) -> Result<()> {
    check_history(of, log, ledger, now)?;
    let gone = ledger.expired()?;
    let table = of.read(log, Depth::without(&gone))?;
    of.plan(&table, ledger, &gone, FILES_MAX, now).map(drop)
}

/// What of a ledger a table has not got.
#[derive(Debug, Default)]
pub(crate) struct Joining {
    /// How far each chain is once it has.
    pub chains: Vec<(u32, u64)>,
    /// By instance, with the last record taken in: the files. Records without files are passed over with the next that have some.
    pub portions: Vec<(u32, Portion)>,
}

impl Joining {
    /// Takes about as many files as have room in a commit. `standing` is how far the table is with an instance.
    pub(crate) fn of(ledger: &dyn Ledger, standing: impl Fn(u32) -> u64, files_max: usize) -> Result<Self> {
        let (mut joining, mut files) = (Self::default(), 0);
        for chain in ledger.chains() {
            let from = standing(chain.instance);
            let room = files_max.saturating_sub(files);
            if room == 0 || from >= chain.last {
                joining.chains.push((chain.instance, from));
                continue;
            }
            let portion = ledger.after(chain.instance, from, chain.last, room)?;
            joining.chains.push((chain.instance, portion.to));
            files += portion.files.len();
            if !portion.files.is_empty() {
                joining.portions.push((chain.instance, portion));
            }
        }
        Ok(joining)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &DataFile> {
        self.portions.iter().flat_map(|(_, portion)| &portion.files)
    }

    pub(crate) fn rows(&self) -> u64 {
        self.files().map(|file| file.rows).sum()
    }
}

/// Returns the name that a chain of a dataset has in a table.
pub fn app_id(dataset_id: &str, instance: u32) -> String {
    format!("pintail.{dataset_id}.{instance}")
}

/// Returns the id of the dataset in the form that a table's has: whoever makes the table makes the same.
pub(crate) fn uuid(dataset_id: &str) -> String {
    let digits: String = dataset_id.chars().filter(char::is_ascii_hexdigit).chain(std::iter::repeat('0')).take(32).collect();
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}
