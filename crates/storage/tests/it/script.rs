//! A small scripted dataset: what a writer does, the same at each run, so that any prefix of it is known exactly.
//!
//! Owns: the commits of the script, and the oracle that holds a directory against them.
//! Does not own: where the script is interrupted (see `crash_points`, `recovery`).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use chrono::DateTime;
use pintail_core::batch::{Counts, DeadLetter, DeadLetterCounts, LetterForm, Phase};
use pintail_core::error::{Error, Result};
use pintail_core::identity::SourceIdentity;
use pintail_core::offsets::PartitionId;
use pintail_storage::checkpoint::dead_letters::DeadLetterFile;
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::process::Process;
use pintail_storage::checkpoint::record::{CommitRecord, FileKind, Replaced, Rewrite};
use pintail_storage::checkpoint::staging::Staging;
use pintail_storage::checkpoint::store::{Expected, NewFile, Rewriting, Store};
use pintail_storage::durable::fs::{EntryKind, Fs};
use pintail_storage::samples::{draft_behind, expected};

/// Checkpoints of the whole script.
pub(crate) const CHECKPOINTS: u64 = 5;
/// The checkpoints and, behind the last but one, a rewrite.
pub(crate) const STEPS: u64 = CHECKPOINTS + 1;
/// The step that is the rewrite.
const REWRITE: u64 = CHECKPOINTS;
/// The checkpoint after which another process goes on with the script.
const SECOND_PROCESS: u64 = 3;
/// Records of each checkpoint.
const RECORDS: u64 = 10;

/// The files that each checkpoint publishes: new directories, nested ones, old ones again, dead letters, and nothing at all.
fn files_of(checkpoint: u64) -> Vec<String> {
    let dirs: &[&str] = match checkpoint {
        1 => &["region=us", "region=eu"],
        2 => &[],
        3 => &["region=us", "region=apac/day=2026-01-01"],
        4 => &["region=us", "region=apac/day=2026-01-01"],
        _ => &["region=apac/day=2026-01-01"],
    };
    dirs.iter().map(|dir| format!("{dir}/events-{checkpoint}.parquet")).collect()
}

/// The files that the rewrite replaces, and the one that it puts in their place. One beside them stays.
const REPLACED: [&str; 2] = ["region=us/events-1.parquet", "region=us/events-3.parquet"];
const MERGED: &str = "region=us/events-1-3.parquet";

/// Large enough for a write to be torn, different for every file.
fn content(path: &str) -> String {
    format!("{path}\n").repeat(50)
}

fn has_dead_letter(checkpoint: u64) -> bool {
    checkpoint == 3
}

/// Returns a directory in memory where there is one. A killed process leaves the same there as on a disk, and hundreds of them take
/// seconds instead of minutes.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Records between two snapshots.
const RECORDS_MAX: u64 = 3;

/// Returns a process that no file is named after yet, the same on the same disk.
fn process(fs: &dyn Fs, root: &Path) -> Process {
    let names: Vec<String> = tree(fs, root).into_keys().map(|path| path.to_string_lossy().into_owned()).collect();
    let unused = |nonce: &String| names.iter().all(|name| !name.contains(nonce.as_str()));
    let nonce = (1_u64..).map(|number| format!("{number:016x}")).find(unused).expect("there are more numbers than files");
    named(&nonce)
}

/// Returns the process of a nonce.
pub(crate) fn named(nonce: &str) -> Process {
    Process { host: "host".into(), boot_id: None, pid: 1, started: None, user: "user".into(), nonce: nonce.into() }
}

/// Returns how many records of the source are committed in a dataset that is open.
pub(crate) fn committed(store: &Store) -> u64 {
    store.offsets().next_offset(&PartitionId::new("events")).unwrap_or(0)
}

fn checkpoints(store: &Store) -> u64 {
    committed(store) / RECORDS
}

fn steps(store: &Store) -> u64 {
    checkpoints(store) + store.state().rest().rewrites
}

/// Opens the dataset: this is where recovery happens.
pub(crate) fn open(fs: Arc<dyn Fs>, root: &Path) -> Result<Store> {
    let process = process(&*fs, root);
    open_as(process, fs, root, RECORDS_MAX)
}

/// Opens the dataset as a process, with so many records between two snapshots.
pub(crate) fn open_as(process: Process, fs: Arc<dyn Fs>, root: &Path, records_max: u64) -> Result<Store> {
    open_by(process, fs, root, records_max, &["region"])
}

/// Opens the dataset with these partition columns, which are texts.
pub(crate) fn open_by(process: Process, fs: Arc<dyn Fs>, root: &Path, records_max: u64, partition_by: &[&str]) -> Result<Store> {
    let source = |_| SourceIdentity { kind: "stdin".into(), properties: BTreeMap::new() };
    let expected = Expected {
        source: &source,
        partition_by: partition_by.iter().map(|column| ((*column).to_owned(), "Utf8".to_owned())).collect(),
        schema: Some(schema()),
        now: DateTime::UNIX_EPOCH,
        process,
        records_max,
        ..expected()
    };
    Store::open(fs, root, &expected)
}

/// Goes on with the script from wherever the dataset stands, to its end. Tells `announce` the steps that a process may have
/// acknowledged to its source: what it found when it opened the dataset, then each commit that returned.
pub(crate) fn run(fs: &Arc<dyn Fs>, root: &Path, announce: &mut dyn FnMut(u64)) -> Result<()> {
    let store = open(fs.clone(), root)?;
    go_on(store, fs, root, announce)
}

/// Goes on with a dataset that is open. A second process takes over in the middle.
pub(crate) fn go_on(mut store: Store, fs: &Arc<dyn Fs>, root: &Path, announce: &mut dyn FnMut(u64)) -> Result<()> {
    announce(steps(&store));
    while steps(&store) < STEPS {
        if steps(&store) + 1 == REWRITE {
            rewrite(&mut store)?;
        } else {
            commit(&mut store)?;
        }
        announce(steps(&store));
        if steps(&store) == SECOND_PROCESS {
            store = open(fs.clone(), root)?;
            announce(steps(&store));
        }
    }
    Ok(())
}

fn rewrite(store: &mut Store) -> Result<()> {
    let mut staging = store.staging();
    let merged = NewFile { rows: REPLACED.len() as u64, ..stage(&mut staging, MERGED.into(), content(MERGED).as_bytes())? };
    let replaces = REPLACED.iter().map(|path| Replaced { path: (*path).into(), rows: 1 }).collect();
    let rewrite = Rewrite { generation: 1, replaces };
    store.rewrite(staging, Rewriting { rewrite, files: vec![merged], time: DateTime::UNIX_EPOCH }).map(|_| ())
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![Field::new("amount", DataType::Int64, true)]))
}

fn commit(store: &mut Store) -> Result<()> {
    let (checkpoint, mut staging) = (checkpoints(store) + 1, store.staging());
    let mut files = Vec::new();
    for path in files_of(checkpoint) {
        let content = content(&path);
        files.push(stage(&mut staging, path, content.as_bytes())?);
    }
    let mut dead_letters = DeadLetterCounts::default();
    if has_dead_letter(checkpoint) {
        let mut file = DeadLetterFile::create(&mut staging, Paths::new("").dead_letters_of(checkpoint))?;
        file.write(&dead_letter(), None)?;
        files.push(file.finish()?);
        dead_letters.decode = 1;
    }
    commit_files(store, staging, files, dead_letters)
}

/// Stages a file of one row.
pub(crate) fn stage(staging: &mut Staging, path: String, content: &[u8]) -> Result<NewFile> {
    let mut staged = staging.create()?;
    staged.write_all(content).map_err(|error| Error::io("write", error))?;
    Ok(NewFile { staged: staged.finish()?, path, kind: FileKind::Parquet, rows: 1, event_time: None, columns: vec![] })
}

/// Commits the next records of the source with what became of them.
pub(crate) fn commit_files(store: &mut Store, staging: Staging, files: Vec<NewFile>, dead_letters: DeadLetterCounts) -> Result<()> {
    let rows_out = files.iter().filter(|file| file.kind == FileKind::Parquet).count() as u64;
    let filtered = RECORDS - rows_out - dead_letters.total();
    let counts = Counts { records_in: RECORDS, rows_out, filtered, expanded: 0, dead_letters };
    let draft = draft_behind(store.offsets(), counts, schema(), files);
    store.commit(staging, draft).map(|_| ())
}

/// What the dead letter of [`dead_letter`] is on the disk.
const DEAD_LETTER_LINE: &str =
    concat!(r#"{"phase":"decode","reason":"bad","partition":"events","offset":0,"length":3,"record":"bad"}"#, "\n");

fn dead_letter() -> DeadLetter {
    let bytes = Bytes::from_static(b"bad");
    DeadLetter {
        phase: Phase::Decode,
        reason: "bad".into(),
        partition: PartitionId::new("events"),
        offset: 0,
        form: LetterForm::Record,
        bytes,
        length: 3,
        message: None,
    }
}

/// Returns all files below `dir` with their content. A directory that is not there has none.
pub(crate) fn tree(fs: &dyn Fs, dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs.list(&dir).unwrap_or_default() {
            match entry.kind {
                EntryKind::Dir => dirs.push(entry.path),
                _ => {
                    // Another process may remove it meanwhile.
                    let Ok(mut file) = fs.open(&entry.path) else { continue };
                    let mut bytes = Vec::new();
                    file.read_to_end(&mut bytes).unwrap();
                    files.insert(entry.path, bytes);
                }
            }
        }
    }
    files
}

/// The published files after so many steps: what any reader's glob must find, and the dead letters.
pub(crate) fn expected_files(root: &Path, steps: u64) -> BTreeMap<PathBuf, Vec<u8>> {
    let is_rewritten = steps >= REWRITE;
    let checkpoints = steps - u64::from(is_rewritten);
    let paths = (1..=checkpoints).flat_map(files_of).filter(|path| !is_rewritten || !REPLACED.contains(&path.as_str()));
    let paths = paths.chain(is_rewritten.then(|| MERGED.to_owned()));
    let data = paths.map(|path| (root.join(&path), content(&path).into_bytes()));
    let letters = (1..=checkpoints).filter(|checkpoint| has_dead_letter(*checkpoint));
    let letters = letters.map(|checkpoint| (root.join(Paths::new("").dead_letters_of(checkpoint)), DEAD_LETTER_LINE.into()));
    data.chain(letters).collect()
}

fn is_published(root: &Path, path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "parquet") || path.starts_with(Paths::new(root).dead_letters())
}

/// What is wrong, in words. The checks return it: a mutant is caught by it, everything else fails its test by unwrapping it.
pub(crate) type Checked<T> = std::result::Result<T, String>;

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Checked<()> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

/// Reads the records of checkpoints that lie at `root`, in their order: each is whole.
pub(crate) fn records(fs: &dyn Fs, root: &Path) -> Checked<Vec<CommitRecord>> {
    Ok(step_records(fs, root)?.into_iter().filter(|record| record.trigger.is_some()).collect())
}

/// As [`records`], with that of the rewrite.
fn step_records(fs: &dyn Fs, root: &Path) -> Checked<Vec<CommitRecord>> {
    let files = tree(fs, &root.join("_pintail/commits"));
    let files = files.iter().filter(|(path, _)| path.extension().unwrap() == "json");
    let read = |(path, bytes): (&PathBuf, &Vec<u8>)| {
        let sequence = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let record = CommitRecord::parse(bytes, sequence).map_err(|why| format!("{} is torn: {why}", path.display()))?;
        Ok(record.0)
    };
    let records: Vec<_> = files.map(read).collect::<Checked<_>>()?;
    Ok(records.into_iter().filter(|record| record.trigger.is_some() || record.rewrite.is_some()).collect())
}

/// Holds what lies at `root` right after a crash against the script: each visible file is whole, and each row is in one. Returns the steps seen.
pub(crate) fn check_crashed(fs: &dyn Fs, root: &Path) -> Checked<u64> {
    let files = tree(fs, root);
    let steps = step_records(fs, root)?.len() as u64;
    let dir = root.join("region=us");
    let in_dir = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().filter(|path| path.starts_with(&dir)).cloned().collect::<Vec<_>>();
    let mut committed = expected_files(root, steps);
    if steps == REWRITE && in_dir(&files) != in_dir(&committed) {
        // Its record is there, and the exchange is still to come.
        committed = expected_files(root, steps - 1);
    }
    if steps >= REWRITE {
        same("the files of the hive partition that is rewritten", in_dir(&files), in_dir(&committed))?;
    }
    for (path, bytes) in files.iter().filter(|(path, _)| is_published(root, path)) {
        match committed.get(path) {
            Some(whole) if whole == bytes => {}
            Some(_) => return Err(format!("{} is torn", path.display())),
            None => return Err(format!("{} is visible before its commit", path.display())),
        }
    }
    Ok(steps)
}

/// Checks that nothing is staged for a checkpoint that was acknowledged. If its staging came back with the power after somebody's
/// retention had removed one of its files, that file would be missing in both places, and no start possible.
pub(crate) fn check_acknowledged(fs: &dyn Fs, root: &Path, acknowledged: u64) -> Checked<()> {
    let (paths, records) = (Paths::new(root), step_records(fs, root)?);
    let acknowledged = records.iter().take(usize::try_from(acknowledged).unwrap());
    let left = acknowledged.map(CommitRecord::staged_by).find(|staged| !matches!(fs.entry(&paths.staging_of(*staged)), Ok(None)));
    same("staging of an acknowledged checkpoint", left, None)
}

/// Opens the dataset after a crash and holds it against the script. Returns the number of steps.
pub(crate) fn check_recovered(fs: &Arc<dyn Fs>, root: &Path) -> Checked<u64> {
    let opened = open(fs.clone(), root);
    let store = opened.map_err(|error| format!("a crash must not keep the next start from opening: {error}"))?;
    check_open(&store, fs, root)
}

/// Holds a dataset that was just opened against the script: exactly the committed checkpoints, each file once and whole, offsets without
/// a gap, nothing left over. Returns the number of steps.
pub(crate) fn check_open(store: &Store, fs: &Arc<dyn Fs>, root: &Path) -> Checked<u64> {
    same("missing", store.missing(), None)?;
    let steps = steps(store);
    same("checkpoints and rewrites with a record", step_records(&**fs, root)?.len() as u64, steps)?;
    let workspace = Paths::new(root).workspace().unwrap();
    same("left over beside the dataset", fs.list(&workspace).unwrap_or_default(), vec![])?;
    let mut files = tree(&**fs, root);
    let left_over = files.keys().find(|path| path.extension().is_some_and(|ending| ending == "inprogress"));
    same("left over", left_over, None)?;
    files.retain(|path, _| is_published(root, path));
    let expected = expected_files(root, steps);
    same("the published files", files.keys().collect::<Vec<_>>(), expected.keys().collect())?;
    let torn = files.iter().find(|(path, bytes)| expected[*path] != **bytes);
    same("torn", torn.map(|(path, _)| path), None)?;
    Ok(steps)
}

/// Goes on after a crash to the end of the script and checks that everything is there once.
pub(crate) fn check_completes(fs: &Arc<dyn Fs>, root: &Path) -> Checked<()> {
    run(fs, root, &mut |_| ()).map_err(|error| format!("the script does not go on: {error}"))?;
    same("steps at the end", check_recovered(fs, root)?, STEPS)
}
