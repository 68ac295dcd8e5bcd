//! Walk: the files that a glob matches.
//!
//! Owns: which directories are entered. Each is entered once below `**`, so that links among directories end; one that cannot be listed is named and
//! the others are listed; that of the dataset is never entered, whatever leads to it.
//! Does not own: what a name must look like ([`glob::Pattern`], of which only the matching is used: its own walk ends at such names and directories).
//!
//! A link to a directory is followed, after all that is reached without one: a file is found under a name without links if it has one that matches.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern, PatternError};
use pintail_storage::durable::disk_state::DiskState;

use super::identity::Inode;
use super::names;

const SHELL: MatchOptions = MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// A glob, part by part.
#[derive(Debug, Clone)]
pub(super) struct Glob {
    whole: Pattern,
    /// The directory before the first wildcard.
    base: PathBuf,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Name(String),
    Wild(Pattern),
    /// `**`: any number of directories.
    Deep,
}

/// The directory of the dataset, which is never input.
#[derive(Debug, Clone)]
pub(super) struct Own {
    path: PathBuf,
}

/// What a walk has found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) files: Vec<(PathBuf, Metadata)>,
    pub(super) failed: Vec<(PathBuf, io::Error)>,
    /// Links of which the last part matches and that lead to nothing.
    pub(super) dangling: Vec<PathBuf>,
    /// Whether the directory of the dataset lies there.
    pub(super) met_own: bool,
}

impl Glob {
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let whole = Pattern::new(text)?;
        let mut parts = Vec::new();
        let mut base = PathBuf::from(if text.starts_with('/') { "/" } else { "" });
        for part in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
            match part {
                "**" if matches!(parts.last(), Some(Part::Deep)) => {}
                "**" => parts.push(Part::Deep),
                part if part.contains(['*', '?', '[']) => parts.push(Part::Wild(Pattern::new(part)?)),
                part if parts.is_empty() => base.push(part),
                part => parts.push(Part::Name(part.to_owned())),
            }
        }
        // Everything below, as in a shell. Behind it a slash would mean directories only, and no file is one.
        match (text.ends_with('/'), parts.last()) {
            (true, _) => parts.push(Part::Deep),
            (false, Some(Part::Deep)) => parts.push(Part::Wild(Pattern::new("*")?)),
            (false, _) => {}
        }
        Ok(Self { whole, base, parts })
    }

    pub(super) fn as_str(&self) -> &str {
        self.whole.as_str()
    }

    /// Returns the directory before the first wildcard.
    pub(super) fn base(&self) -> &Path {
        if self.base.as_os_str().is_empty() { Path::new(".") } else { &self.base }
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        self.whole.matches_with(path, SHELL)
    }

    /// Looks for the files.
    pub(super) fn walk(&self, own: &Own, disk: &DiskState) -> Walked {
        let own_inode = own.inode();
        let mut walk = Walk {
            parts: &self.parts,
            own_inode,
            disk,
            walked: Walked::default(),
            entered: HashSet::new(),
            todo: Vec::new(),
            links: BTreeSet::new(),
        };
        walk.enter(&self.base, 0, true);
        walk.run();
        walk.walked
    }
}

impl Own {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn inode(&self) -> Option<Inode> {
        fs::metadata(&self.path).ok().as_ref().map(Inode::of)
    }

    /// Returns whether a path leads to it or into it.
    pub(super) fn holds(&self, path: &Path) -> bool {
        self.inode().is_some_and(|own| lies_in(path, own))
    }
}

fn lies_in(path: &Path, own: Inode) -> bool {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let Ok(path) = fs::canonicalize(path) else { return false };
    path.ancestors().any(|ancestor| fs::metadata(ancestor).is_ok_and(|metadata| Inode::of(&metadata) == own))
}

struct Walk<'a> {
    parts: &'a [Part],
    own_inode: Option<Inode>,
    disk: &'a DiskState,
    walked: Walked,
    /// Directories below `**`, by the part that is looked for in them.
    entered: HashSet<(Inode, usize)>,
    /// Directories to be listed, and which part is looked for in them.
    todo: Vec<(PathBuf, usize)>,
    /// Links to be followed when there is nothing else to be done.
    links: BTreeSet<(PathBuf, usize)>,
}

impl Walk<'_> {
    fn run(&mut self) {
        loop {
            if let Some((directory, at)) = self.todo.pop() {
                self.list(&directory, at);
            } else if let Some((link, at)) = self.links.pop_first() {
                self.enter(&link, at, true);
            } else {
                return;
            }
        }
    }

    /// Takes a path in which a part is looked for, if it is a directory.
    fn enter(&mut self, path: &Path, at: usize, linked: bool) {
        let metadata = match fs::metadata(or_here(path)) {
            Ok(metadata) if metadata.is_dir() => metadata,
            Ok(_) => return,
            Err(error) => return self.fail(path, error),
        };
        let inode = Inode::of(&metadata);
        let Some(own) = self.own_inode else { return self.take(path, at, inode) };
        if own == inode || (linked && lies_in(path, own)) {
            self.walked.met_own = true;
        } else {
            self.take(path, at, inode);
        }
    }

    fn take(&mut self, path: &Path, at: usize, inode: Inode) {
        let is_deep = matches!(self.parts.get(at), Some(Part::Deep));
        if !is_deep || self.entered.insert((inode, at)) {
            self.todo.push((path.to_owned(), at));
        }
    }

    /// Looks for a part in a directory.
    fn list(&mut self, directory: &Path, at: usize) {
        let parts = self.parts;
        match &parts[at..] {
            [] | [Part::Deep] => {}
            [Part::Name(name)] => self.file(&directory.join(name), true),
            [Part::Name(name), ..] => self.enter(&directory.join(name), at + 1, true),
            [Part::Wild(pattern), rest @ ..] => self.entries(directory, |walk, path, entry| {
                if matches(pattern, &entry.file_name()) {
                    walk.matched(path, entry, at + 1, rest.is_empty());
                }
            }),
            [Part::Deep, Part::Wild(pattern), rest @ ..] => self.entries(directory, |walk, path, entry| {
                if !is_hidden(&entry.file_name()) {
                    walk.matched(path.clone(), entry, at, false);
                }
                if matches(pattern, &entry.file_name()) {
                    walk.matched(path, entry, at + 2, rest.is_empty());
                }
            }),
            [Part::Deep, ..] => {
                self.todo.push((directory.to_owned(), at + 1));
                self.entries(directory, |walk, path, entry| {
                    if !is_hidden(&entry.file_name()) {
                        walk.matched(path, entry, at, false);
                    }
                });
            }
        }
    }

    fn entries(&mut self, directory: &Path, mut each: impl FnMut(&mut Self, PathBuf, &DirEntry)) {
        match self.disk.wait_for_room("list a directory of inputs", || fs::read_dir(or_here(directory))) {
            Ok(entries) => {
                for entry in entries {
                    match entry {
                        Ok(entry) => each(self, directory.join(entry.file_name()), &entry),
                        Err(error) => return self.fail(directory, error),
                    }
                }
            }
            Err(error) => self.fail(directory, error),
        }
    }

    /// Takes an entry that a part matches.
    fn matched(&mut self, path: PathBuf, entry: &DirEntry, at: usize, is_last: bool) {
        // Without one, only a look at the file tells.
        let kind = entry.file_type().ok();
        let is_link = kind.is_none_or(|kind| kind.is_symlink());
        match kind {
            Some(kind) if is_last && (kind.is_file() || is_link) => self.file(&path, is_link),
            Some(kind) if !is_last && kind.is_dir() => self.enter(&path, at, false),
            _ if !is_last && is_link => {
                self.links.insert((path, at));
            }
            None => self.file(&path, true),
            Some(_) => {}
        }
    }

    fn file(&mut self, path: &Path, linked: bool) {
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => {}
            Ok(_) if linked && self.own_inode.is_some_and(|own| lies_in(path, own)) => self.walked.met_own = true,
            Ok(metadata) => self.walked.files.push((path.to_owned(), metadata)),
            Err(error) if is_missing(&error) && path.is_symlink() => self.walked.dangling.push(path.to_owned()),
            Err(error) => self.fail(path, error),
        }
    }

    /// Records that a path cannot be looked at. What is not there, or stands below something that is no directory, does not match.
    fn fail(&mut self, path: &Path, error: io::Error) {
        if !is_missing(&error) {
            self.walked.failed.push((or_here(path).to_owned(), error));
        }
    }
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn matches(pattern: &Pattern, name: &OsStr) -> bool {
    pattern.matches_with(&names::label_of(Path::new(name)), SHELL)
}
