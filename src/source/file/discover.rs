//! Discovery: which files there are.
//!
//! Owns: the configured names and globs, the order of files, the search for a renamed file.
//! Does not own: what is known of a file (see `positions`).
//!
//! Globs are those of a shell: `*` does not match a leading dot, so an editor's or a copy tool's hidden file is not read half written.
//! `**` crosses directories. The order is that of the paths' bytes.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, glob_with};

use super::identity::Inode;
use super::names;
use crate::durable::disk_state::DiskState;
use crate::error::{Error, Result};

const SHELL: MatchOptions = MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The configured names and globs.
#[derive(Debug)]
pub(super) struct Patterns {
    patterns: Vec<Pattern>,
    files_max: usize,
}

/// A configured name or glob.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    Name(PathBuf),
    Glob(glob::Pattern),
}

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Regular files with what the file system says of them, in order; each file once.
    pub(super) files: Vec<(PathBuf, Metadata)>,
    /// Names that do not exist and globs that match nothing.
    pub(super) unmatched: Vec<Pattern>,
}

impl Patterns {
    /// Parses. A path that exists is a name, also with glob characters in it.
    pub(super) fn parse(paths: &[String], files_max: usize) -> Result<Self> {
        if paths.is_empty() {
            return Err(Error::config("`source.path` names no file: give names or globs, e.g. \"events/*.ndjson\""));
        }
        let parse = |path: &String| {
            if !path.contains(['*', '?', '[']) || Path::new(path).exists() {
                return Ok(Pattern::Name(PathBuf::from(path)));
            }
            let glob = glob::Pattern::new(path);
            glob.map(Pattern::Glob).map_err(|e| Error::config(format!("`source.path`: `{path}` is no glob: {e}")))
        };
        Ok(Self { patterns: paths.iter().map(parse).collect::<Result<_>>()?, files_max })
    }

    /// Lists the files that match now.
    ///
    /// # Errors
    /// `Config` if a name is not a regular file, or more than `files_max` files match; `Io` if a directory cannot be read.
    pub(super) fn find(&self) -> Result<Found> {
        let mut found = Found::default();
        for pattern in &self.patterns {
            let before = found.files.len();
            match pattern {
                Pattern::Name(path) => found.files.extend(named(path)?),
                Pattern::Glob(glob) => matching(glob, &mut found.files)?,
            }
            if found.files.len() == before {
                found.unmatched.push(pattern.clone());
            }
        }
        found.files.sort_by(|(a, _), (b, _)| a.as_os_str().cmp(b.as_os_str()));
        // A file with two names (a link) is one file.
        let mut inodes = HashSet::new();
        found.files.retain(|(_, metadata)| inodes.insert(Inode::of(metadata)));
        self.check_count(found.files.len())?;
        Ok(found)
    }

    /// Checks that `files` may be known at the same time.
    pub(super) fn check_count(&self, files: usize) -> Result<()> {
        if files <= self.files_max {
            return Ok(());
        }
        Err(Error::config(format!(
            "{files} files are to be read and `source.files_max` is {}: raise it, or narrow `source.path`",
            self.files_max
        )))
    }

    /// Returns the directories in which a file may be found under a name that does not match: those of the names and of the globs up to
    /// their first wildcard, and of `paths`.
    pub(super) fn directories<'a>(&'a self, paths: impl Iterator<Item = &'a Path>) -> BTreeSet<PathBuf> {
        let own = self.patterns.iter().map(|pattern| match pattern {
            Pattern::Name(path) => path.as_path(),
            Pattern::Glob(glob) => {
                let text = glob.as_str();
                Path::new(&text[..text.find(['*', '?', '[']).unwrap_or(text.len())])
            }
        });
        let mut directories = BTreeSet::new();
        for path in own.chain(paths) {
            // A link's target is rotated beside the target.
            directories.extend(target_of(path).as_deref().map(directory_of));
            directories.insert(directory_of(path));
        }
        directories
    }
}

impl Pattern {
    /// Returns whether a file that is called so now matched, or may have before it was rotated.
    pub(super) fn may_match(&self, label: &str) -> bool {
        match self {
            Self::Name(name) => names::are_related(&name.to_string_lossy(), label),
            Self::Glob(glob) => glob.matches_path_with(Path::new(label), SHELL),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(path) => path.display().fmt(f),
            Self::Glob(glob) => f.write_str(glob.as_str()),
        }
    }
}

/// Searches directories (not those below) for regular files that have one of the inode numbers or a name that is related to a wanted one, but for
/// those that were seen. Returns each file once, in the order of their paths.
pub(super) fn search(
    directories: &BTreeSet<PathBuf>,
    numbers: &HashSet<u64>,
    keys: &HashSet<String>,
    seen: &HashSet<Inode>,
) -> Result<Vec<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut inodes = seen.clone();
    for directory in directories {
        let failed = |e| Error::io(format_args!("search `{}`", directory.display()), e);
        let Some(entries) = gone_is_none(with_descriptor(|| fs::read_dir(directory))).map_err(failed)? else { continue };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let related = || names::keys(&entry.file_name().to_string_lossy()).iter().any(|key| keys.contains(key));
            if !numbers.contains(&entry.ino()) && !related() {
                continue;
            }
            let Some(metadata) = gone_is_none(entry.metadata()).map_err(failed)? else { continue };
            if metadata.is_file() && inodes.insert(Inode::of(&metadata)) {
                found.insert(entry.path());
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// Returns which of `wanted` lie in the directories, under whatever name.
pub(super) fn present(directories: &BTreeSet<PathBuf>, wanted: HashSet<Inode>) -> Result<HashSet<Inode>> {
    let numbers = wanted.iter().map(|inode| inode.number).collect();
    let mut present = HashSet::new();
    for path in search(directories, &numbers, &HashSet::new(), &HashSet::new())? {
        let metadata = gone_is_none(fs::metadata(&path)).map_err(|e| Error::io(format_args!("look at `{}`", path.display()), e))?;
        present.extend(metadata.map(|metadata| Inode::of(&metadata)).filter(|inode| wanted.contains(inode)));
    }
    Ok(present)
}

/// Makes `None` of an error that says the file is not there (any more).
pub(super) fn gone_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Returns where a symbolic link leads, also if nothing is there; `None` of anything else.
fn target_of(path: &Path) -> Option<PathBuf> {
    let target = fs::read_link(path).ok()?;
    Some(fs::canonicalize(path).unwrap_or_else(|_| directory_of(path).join(target)))
}

fn directory_of(path: &Path) -> PathBuf {
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return path.to_owned();
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn named(path: &Path) -> Result<Option<(PathBuf, Metadata)>> {
    let metadata = gone_is_none(fs::metadata(path)).map_err(|e| Error::io(format_args!("look at `{}`", path.display()), e))?;
    let Some(metadata) = metadata else { return Ok(None) };
    if !metadata.is_file() {
        let path = path.display();
        return Err(Error::config(format!(
            "`source.path`: `{path}` is no regular file; a directory is read by a glob such as \"{path}/*.ndjson\", a pipe with \
             `source.type = \"stdin\"`"
        )));
    }
    Ok(Some((path.to_owned(), metadata)))
}

fn matching(pattern: &glob::Pattern, files: &mut Vec<(PathBuf, Metadata)>) -> Result<()> {
    let look = || {
        let paths = glob_with(pattern.as_str(), SHELL).expect("the pattern was parsed before");
        let looked = paths.map(|path| {
            gone_is_none(path.map_err(io::Error::from).and_then(|path| {
                let metadata = fs::metadata(&path)?;
                Ok((path, metadata))
            }))
        });
        looked.filter_map(Result::transpose).collect::<io::Result<Vec<_>>>()
    };
    let looked = with_descriptor(look).map_err(|e| Error::io(format_args!("look for `{pattern}`"), e))?;
    files.extend(looked.into_iter().filter(|(_, metadata)| metadata.is_file()));
    Ok(())
}

/// Opens a file, and waits for a descriptor while there is none.
pub(super) fn open(path: &Path) -> io::Result<File> {
    with_descriptor(|| File::open(path))
}

/// Repeats what finds no free descriptor. The reading thread waits, which holds nobody up but the intake.
fn with_descriptor<T>(operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    DiskState::default().wait_for_room("open an input", operation)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::error::ErrorKind;

    fn directory(names: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        directory
    }

    fn patterns(directory: &Path, patterns: &[&str]) -> Patterns {
        let paths: Vec<String> = patterns.iter().map(|pattern| format!("{}/{pattern}", directory.display())).collect();
        Patterns::parse(&paths, 100).unwrap()
    }

    fn names(directory: &Path, found: &Found) -> Vec<String> {
        found.files.iter().map(|(path, _)| path.strip_prefix(directory).unwrap().display().to_string()).collect()
    }

    #[test]
    fn files_are_listed_once_in_the_order_of_their_names_over_all_patterns() {
        let dir = directory(&["b.ndjson", "a10.ndjson", "a9.ndjson", ".hidden.ndjson", "other.txt", "deep/er/c.ndjson"]);
        let dir = dir.path();
        fs::create_dir(dir.join("d.ndjson")).unwrap();
        let found = patterns(dir, &["b.ndjson", "*.ndjson", "[xyz]*"]).find().unwrap();
        assert_eq!(names(dir, &found), ["a10.ndjson", "a9.ndjson", "b.ndjson"]);
        assert_eq!(found.unmatched.len(), 1);
        assert_eq!(found.unmatched[0].to_string(), format!("{}/[xyz]*", dir.display()));
        assert_eq!(names(dir, &patterns(dir, &["**/c.ndjson"]).find().unwrap()), ["deep/er/c.ndjson"]);
    }

    #[test]
    fn a_name_with_glob_characters_that_exists_is_taken_as_it_is() {
        let dir = directory(&["data[1].ndjson", "data1.ndjson"]);
        assert_eq!(names(dir.path(), &patterns(dir.path(), &["data[1].ndjson"]).find().unwrap()), ["data[1].ndjson"]);
    }

    #[test]
    fn a_directory_named_as_a_file_and_too_many_files_are_configuration_errors() {
        let dir = directory(&["x/a", "x/b"]);
        let error = patterns(dir.path(), &["x"]).find().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("/x/*.ndjson"), "{error}");
        let few = Patterns::parse(&[format!("{}/x/*", dir.path().display())], 1).unwrap();
        let error = few.find().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("2 files") && error.to_string().contains("source.files_max"), "{error}");
    }

    #[test]
    fn a_file_that_lost_its_name_is_found_by_inode_or_by_a_related_name() {
        let dir = directory(&["logs/app.log", "logs/app.log.2.gz", "logs/other"]);
        let dir = dir.path();
        let metadata = fs::metadata(dir.join("logs/app.log")).unwrap();
        fs::rename(dir.join("logs/app.log"), dir.join("logs/renamed")).unwrap();
        let keys: HashSet<String> = names::keys("logs/app.log").into_iter().collect();
        for pattern in ["logs/app.log", "logs/app.lo*"] {
            let directories = patterns(dir, &[pattern]).directories(std::iter::empty());
            let look = |numbers: &[u64], keys, seen: &[Inode]| {
                search(&directories, &numbers.iter().copied().collect(), keys, &seen.iter().copied().collect()).unwrap()
            };
            let none = HashSet::new();
            assert_eq!(look(&[metadata.ino()], &none, &[]), [dir.join("logs/renamed")], "{pattern}");
            assert_eq!(look(&[metadata.ino()], &keys, &[]), [dir.join("logs/app.log.2.gz"), dir.join("logs/renamed")]);
            assert!(look(&[metadata.ino()], &none, &[Inode::of(&metadata)]).is_empty());
        }
        assert!(search(&[dir.join("no")].into(), &[1].into(), &keys, &HashSet::new()).unwrap().is_empty());
    }

    #[test]
    fn what_a_link_leads_to_is_searched_for_beside_its_target() {
        let dir = directory(&["store/app.log"]);
        let dir = dir.path();
        std::os::unix::fs::symlink("store/app.log", dir.join("app.log")).unwrap();
        let directories = |dir: &Path| patterns(dir, &["app.log"]).directories(std::iter::empty());
        assert!(directories(dir).contains(&dir.canonicalize().unwrap().join("store")));
        fs::remove_file(dir.join("store/app.log")).unwrap();
        assert!(directories(dir).contains(&dir.join("store")));
    }

    #[test]
    fn a_path_without_a_directory_lies_in_the_current_one() {
        assert_eq!(directory_of(Path::new("app.log")), Path::new("."));
        assert_eq!(directory_of(Path::new("logs/")), Path::new("logs/"));
        assert_eq!(directory_of(Path::new("/app.log")), Path::new("/"));
    }
}
