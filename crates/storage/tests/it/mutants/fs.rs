//! A file system that does one call of the protocol wrongly.
//!
//! Owns: which call, and what is done in its place.
//! Does not own: whether anything notices (see `mutants`).

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use pintail_storage::durable::fs::{Entry, EntryKind, FileIdentity, Fs, FsFile, ReadFs};

use crate::model::{Model, ModelFile, Step};

/// What is done in the place of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mutation {
    /// Nothing; it succeeds.
    Skip,
    /// The next one, and then it.
    Swap,
    /// Somebody else takes the name just before it. No mutation: a rename must refuse.
    Intrude,
    /// Somebody else takes the name just before it, and the rename replaces that.
    IntrudeAndReplace,
}

/// What somebody else wrote.
pub(crate) const THEIRS: &[u8] = b"theirs";

type Call = Box<dyn FnOnce() -> io::Result<()> + Send>;

#[derive(Default)]
struct Progress {
    calls: usize,
    put_off: Option<Call>,
    /// The mutated calls, as far as they came.
    hit: Vec<(Step, PathBuf)>,
}

/// The file system. Only calls that change the disk, or make changes durable, are counted, from 1.
#[derive(Clone)]
pub(crate) struct Mutant {
    model: Model,
    at: usize,
    mutation: Mutation,
    progress: Arc<Mutex<Progress>>,
}

impl Mutant {
    pub(crate) fn over(model: &Model, mutation: Mutation, at: usize) -> Self {
        Self { model: model.clone(), at, mutation, progress: Arc::default() }
    }

    /// Returns the calls that were mutated: none if the run was over before, two if they were swapped.
    pub(crate) fn hit(&self) -> Vec<(Step, PathBuf)> {
        self.progress.lock().unwrap().hit.clone()
    }

    fn call(&self, step: Step, path: &Path, call: Call) -> io::Result<()> {
        let mut progress = self.progress.lock().unwrap();
        progress.calls += 1;
        let (hit, partner) = (progress.calls == self.at, progress.put_off.take());
        if hit || partner.is_some() {
            progress.hit.push((step, path.to_path_buf()));
        }
        match (hit, self.mutation) {
            (true, Mutation::Skip) => Ok(()),
            (true, Mutation::Swap) => {
                progress.put_off = Some(call);
                Ok(())
            }
            _ => {
                call()?;
                partner.map_or(Ok(()), |partner| partner())
            }
        }
    }

    fn is_next(&self) -> bool {
        self.progress.lock().unwrap().calls + 1 == self.at
    }

    fn intrude(&self, path: &Path) -> io::Result<()> {
        let mut file = self.model.create_new(path)?;
        file.write_all(THEIRS)?;
        file.sync()?;
        self.model.sync_dir(path.parent().expect("a file lies in a directory"))
    }
}

impl std::fmt::Debug for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of call {}", self.mutation, self.at)
    }
}

impl ReadFs for Mutant {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        self.model.open(path)
    }

    fn entry(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        self.model.entry(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.model.list(dir)
    }
}

impl Fs for Mutant {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = self.model.unnamed_file(path);
        let (model, name, node) = (self.model.clone(), path.to_path_buf(), file.node);
        self.call(Step::Create, path, Box::new(move || model.name(&name, node)))?;
        Ok(Box::new(MutantFile { mutant: self.clone(), path: path.to_path_buf(), file: Arc::new(Mutex::new(file)) }))
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        self.model.identity(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (model, name) = (self.model.clone(), path.to_path_buf());
        self.call(Step::Mkdir, path, Box::new(move || model.create_dir(&name)))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let (model, name) = (self.model.clone(), path.to_path_buf());
        self.call(Step::SyncFile, path, Box::new(move || model.sync_file(&name)))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let (model, name) = (self.model.clone(), dir.to_path_buf());
        self.call(Step::SyncDir, dir, Box::new(move || model.sync_dir(&name)))
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (model, from, target) = (self.model.clone(), from.to_path_buf(), to.to_path_buf());
        let intruded = matches!(self.mutation, Mutation::Intrude | Mutation::IntrudeAndReplace) && self.is_next();
        if intruded {
            self.intrude(to)?;
        }
        let rename: Call = match intruded && self.mutation == Mutation::IntrudeAndReplace {
            true => Box::new(move || model.rename_replacing(&from, &target)),
            false => Box::new(move || model.rename_noreplace(&from, &target)),
        };
        self.call(Step::Rename, to, rename)
    }

    fn create_dir_like(&self, path: &Path, _like: &Path) -> io::Result<()> {
        self.create_dir(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (model, from, name) = (self.model.clone(), from.to_path_buf(), to.to_path_buf());
        self.call(Step::Link, to, Box::new(move || model.link(&from, &name)))
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        let (model, name, other) = (self.model.clone(), one.to_path_buf(), other.to_path_buf());
        self.call(Step::Exchange, one, Box::new(move || model.exchange(&name, &other)))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (model, name) = (self.model.clone(), path.to_path_buf());
        self.call(Step::Remove, path, Box::new(move || model.remove_file(&name)))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let (model, name) = (self.model.clone(), path.to_path_buf());
        self.call(Step::Rmdir, path, Box::new(move || model.remove_dir(&name)))
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        self.model.device(path)
    }
}

#[derive(Debug)]
struct MutantFile {
    mutant: Mutant,
    path: PathBuf,
    file: Arc<Mutex<ModelFile>>,
}

impl Write for MutantFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let (file, bytes) = (self.file.clone(), buf.to_vec());
        self.mutant.call(Step::Write, &self.path, Box::new(move || file.lock().unwrap().write_all(&bytes)))?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FsFile for MutantFile {
    fn sync(&mut self) -> io::Result<()> {
        let file = self.file.clone();
        self.mutant.call(Step::Sync, &self.path, Box::new(move || file.lock().unwrap().sync()))
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        self.file.lock().unwrap().identity()
    }
}
