//! Discovery: which files there are.
//!
//! Owns: the configured names and globs, the order of files, the search for a renamed file.
//! Does not own: what is known of a file (see `positions`).
//!
//! Globs are those of a shell: `*` does not match a leading dot, so an editor's or a copy tool's hidden file is not read half written.
//! `**` crosses directories (see `walk`). The order is that of the paths' bytes. What cannot be looked at is named beside what was found.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::mem;
use std::os::unix::fs::{DirEntryExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pintail_core::error::{Error, Result};
use pintail_storage::durable::disk_state::DiskState;
use rustix::fs::{FsWord, OFlags};

use super::identity::{Inode, Place};
use super::names;
use super::walk::{Glob, Own, Walked};

/// File systems without stored files, of which some block a reader and call themselves regular: proc, sysfs, debugfs, tracefs, securityfs, cgroup, cgroup2.
const KERNEL_FILE_SYSTEMS: [FsWord; 7] = [0x9fa0, 0x6265_6572, 0x6462_6720, 0x7472_6163, 0x7363_6673, 0x0027_e0eb, 0x6367_7270];

/// The configured names and globs.
#[derive(Debug)]
pub(super) struct Patterns {
    patterns: Vec<Pattern>,
    files_max: usize,
    own: Own,
    pub(super) disk: DiskState,
}

/// A configured name or glob.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    Name(PathBuf),
    Glob(Glob),
}

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Regular files with what the file system says of them, in order; each file once.
    pub(super) files: Vec<(PathBuf, Metadata)>,
    /// Names that do not exist and globs that match nothing.
    pub(super) unmatched: Vec<Pattern>,
    /// Paths that cannot be looked at, and names of what is no file; the first of them as the walk met them.
    pub(super) failed: Vec<(PathBuf, Error)>,
    /// Symbolic links that match and lead to nothing.
    pub(super) dangling: Vec<PathBuf>,
    /// Directories of names, and those before the first wildcard of globs, that are not there.
    pub(super) missing: Vec<PathBuf>,
    /// Whether the directory of the dataset lies among them: it is passed over.
    pub(super) met_own: bool,
}

impl Found {
    /// Returns where the files lie. An inode may be that of another file than before.
    pub(super) fn places(&self) -> HashMap<Inode, Place> {
        self.files.iter().map(|(_, metadata)| (Inode::of(metadata), Place::of(metadata))).collect()
    }
}

impl Patterns {
    /// Parses. A path that exists is a name, also with glob characters in it.
    pub(super) fn parse(paths: &[String], files_max: usize, own: &Path, disk: DiskState) -> Result<Self> {
        if paths.is_empty() {
            return Err(Error::config("`source.path` names no file: give names or globs, e.g. \"events/*.ndjson\""));
        }
        let parse = |path: &String| {
            if !path.contains(['*', '?', '[']) || Path::new(path).exists() {
                return Ok(Pattern::Name(PathBuf::from(path)));
            }
            let glob = Glob::parse(path);
            glob.map(Pattern::Glob).map_err(|e| Error::config(format!("`source.path`: `{path}` is no glob: {e}")))
        };
        Ok(Self { patterns: paths.iter().map(parse).collect::<Result<_>>()?, files_max, own: Own::new(own), disk })
    }

    /// Lists the files that match now. Of several names of one file (links) it is one that `is_known`, if there is one, and else the first.
    ///
    /// # Errors
    /// `Config` if more than `files_max` files match.
    pub(super) fn find(&self, is_known: impl Fn(&Path) -> bool) -> Result<Found> {
        let mut found = Found::default();
        for pattern in &self.patterns {
            let before = found.files.len();
            match pattern {
                Pattern::Name(path) => self.look_at(path, &mut found),
                Pattern::Glob(glob) => self.look_for(glob, &mut found),
            }
            if found.files.len() == before {
                found.unmatched.push(pattern.clone());
            }
        }
        found.files.sort_by(|(a, _), (b, _)| a.as_os_str().cmp(b.as_os_str()));
        let mut at: HashMap<Inode, usize> = HashMap::with_capacity(found.files.len());
        for (path, metadata) in mem::take(&mut found.files) {
            match at.entry(Inode::of(&metadata)) {
                Entry::Vacant(entry) => {
                    entry.insert(found.files.len());
                    found.files.push((path, metadata));
                }
                Entry::Occupied(entry) => {
                    let kept = &mut found.files[*entry.get()].0;
                    if is_known(&path) && !is_known(kept) {
                        *kept = path;
                    }
                }
            }
        }
        self.check_count(found.files.len() + found.failed.len() + found.dangling.len())?;
        Ok(found)
    }

    fn look_at(&self, path: &Path, found: &mut Found) {
        let shown = names::label_of(path);
        match gone_is_none(fs::metadata(path)) {
            Ok(None) if path.is_symlink() => found.dangling.push(path.to_owned()),
            Ok(None) => found.missing.extend(Some(directory_of(path)).filter(|directory| is_missing(directory))),
            Ok(Some(_)) if self.own.holds(path) => found.failed.push((path.to_owned(), self.is_own(&shown))),
            Ok(Some(metadata)) if metadata.is_file() => found.files.push((path.to_owned(), metadata)),
            Ok(Some(_)) => {
                let error = Error::config(format!(
                    "`source.path`: `{shown}` is no regular file; a directory is read by a glob such as \"{shown}/*.ndjson\", a pipe with \
                     `source.type = \"stdin\"`"
                ));
                found.failed.push((path.to_owned(), error));
            }
            Err(error) => found.failed.push((path.to_owned(), Error::io(format_args!("look at `{shown}`"), error))),
        }
    }

    fn look_for(&self, glob: &Glob, found: &mut Found) {
        if self.own.holds(glob.base()) {
            return found.failed.push((glob.base().to_owned(), self.is_own(glob.as_str())));
        }
        let Walked { files, failed, dangling, met_own } = glob.walk(&self.own, &self.disk);
        if files.is_empty() && is_missing(glob.base()) {
            found.missing.push(glob.base().to_owned());
        }
        found.files.extend(files);
        found.dangling.extend(dangling);
        found.met_own |= met_own;
        found.failed.extend(failed.into_iter().map(|(path, error)| {
            let error = Error::io(format_args!("look at `{}`", names::label_of(&path)), error);
            (path, error)
        }));
    }

    fn is_own(&self, what: &str) -> Error {
        Error::config(format!(
            "`source.path`: `{what}` lies in `{}`, where the dataset is written (`pipeline.out_path`), and nothing there is ever input: keep both apart",
            self.own.path().display()
        ))
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
        let mut directories = BTreeSet::new();
        let mut named = Vec::new();
        for pattern in &self.patterns {
            match pattern {
                Pattern::Name(path) => named.push(path.as_path()),
                Pattern::Glob(glob) => {
                    directories.insert(glob.base().to_owned());
                }
            }
        }
        for path in named.into_iter().chain(paths) {
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
            Self::Name(name) => names::are_related(&names::label_of(name), label),
            Self::Glob(glob) => glob.matches(label),
        }
    }

    /// Returns whether what is meant may lie at a path that cannot be looked at, or below it.
    pub(super) fn may_lie_at(&self, failed: &Path) -> bool {
        match self {
            Self::Name(name) => name == failed,
            Self::Glob(glob) => glob.base() == Path::new(".") || failed.starts_with(glob.base()),
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

/// What a search wants.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) numbers: HashSet<u64>,
    /// Those to which others may be related.
    pub(super) names: names::Related<()>,
    /// Not these: they were seen.
    pub(super) seen: HashSet<Inode>,
}

/// What a search has found.
#[derive(Debug, Default)]
pub(super) struct Searched {
    /// Each file once, in the order of their paths.
    pub(super) files: Vec<(PathBuf, Metadata)>,
    /// Directories that cannot be searched.
    pub(super) failed: Vec<(PathBuf, Error)>,
}

/// Searches directories (not those below) for regular files that have one of the inode numbers or a name that is related to a wanted one.
pub(super) fn search(directories: &BTreeSet<PathBuf>, wanted: &Wanted, disk: &DiskState) -> Searched {
    let mut searched = Searched::default();
    let mut seen = wanted.seen.clone();
    for directory in directories {
        if let Err(error) = search_one(directory, wanted, &mut seen, disk, &mut searched.files) {
            let error = Error::io(format_args!("search `{}`", names::label_of(directory)), error);
            searched.failed.push((directory.clone(), error));
        }
    }
    searched.files.sort_by(|(a, _), (b, _)| a.cmp(b));
    searched
}

fn search_one(
    directory: &Path,
    wanted: &Wanted,
    seen: &mut HashSet<Inode>,
    disk: &DiskState,
    files: &mut Vec<(PathBuf, Metadata)>,
) -> io::Result<()> {
    let entries = disk.wait_for_room("search for an input", || fs::read_dir(directory));
    let entries = match entries {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let related = || wanted.names.has_any_to(&names::label_of(Path::new(&entry.file_name())));
        if !wanted.numbers.contains(&entry.ino()) && !related() {
            continue;
        }
        let Some(metadata) = gone_is_none(entry.metadata())? else { continue };
        if metadata.is_file() && seen.insert(Inode::of(&metadata)) {
            files.push((entry.path(), metadata));
        }
    }
    Ok(())
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

fn is_missing(directory: &Path) -> bool {
    matches!(fs::metadata(directory).map_err(|e| e.kind()), Err(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
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

/// Opens a regular file, and waits for a descriptor while there is none. What is no file, or only looks like one, is never read: it could block for ever.
pub(super) fn open(path: &Path, disk: &DiskState) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let open = || File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = disk.wait_for_room("open an input", open)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if KERNEL_FILE_SYSTEMS.contains(&rustix::fs::fstatfs(&file)?.f_type) {
        return Err(io::Error::other("it is no stored file: the kernel makes what is read there"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use pintail_core::error::ErrorKind;

    use super::*;

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
        Patterns::parse(&paths, 100, &directory.join("out"), DiskState::default()).unwrap()
    }

    fn names(directory: &Path, found: &Found) -> Vec<String> {
        found.files.iter().map(|(path, _)| path.strip_prefix(directory).unwrap().display().to_string()).collect()
    }

    #[test]
    fn files_are_listed_once_in_the_order_of_their_names_over_all_patterns() {
        let dir = directory(&["b.ndjson", "a10.ndjson", "a9.ndjson", ".hidden.ndjson", "other.txt", "deep/er/c.ndjson"]);
        let dir = dir.path();
        fs::create_dir(dir.join("d.ndjson")).unwrap();
        let found = patterns(dir, &["b.ndjson", "*.ndjson", "[xyz]*"]).find(|_| false).unwrap();
        assert_eq!(names(dir, &found), ["a10.ndjson", "a9.ndjson", "b.ndjson"]);
        assert_eq!(found.unmatched.len(), 1);
        assert_eq!(found.unmatched[0].to_string(), format!("{}/[xyz]*", dir.display()));
        assert_eq!(names(dir, &patterns(dir, &["**/c.ndjson"]).find(|_| false).unwrap()), ["deep/er/c.ndjson"]);
    }

    #[test]
    fn two_asterisks_at_the_end_mean_everything_below() {
        let dir = directory(&["a", "x/b", "x/y/c", ".hidden", "x/.hidden/d"]);
        let patterns = patterns(dir.path(), &["**"]);
        assert_eq!(names(dir.path(), &patterns.find(|_| false).unwrap()), ["a", "x/b", "x/y/c"]);
        let label = format!("{}/x/gone", dir.path().display());
        assert!(patterns.patterns[0].may_match(&label));
    }

    #[test]
    fn what_cannot_be_looked_at_counts_as_well() {
        let dir = directory(&["a"]);
        for n in 0..10 {
            std::os::unix::fs::symlink(format!("loop{n}"), dir.path().join(format!("loop{n}"))).unwrap();
        }
        let path = format!("{}/*", dir.path().display());
        let find = |files_max| {
            Patterns::parse(std::slice::from_ref(&path), files_max, Path::new("out"), DiskState::default()).unwrap().find(|_| false)
        };
        assert_eq!(find(10).unwrap_err().kind(), ErrorKind::Config);
        assert_eq!(find(11).unwrap().failed.len(), 10);
    }

    #[test]
    fn a_name_with_glob_characters_that_exists_is_taken_as_it_is() {
        let dir = directory(&["data[1].ndjson", "data1.ndjson"]);
        assert_eq!(names(dir.path(), &patterns(dir.path(), &["data[1].ndjson"]).find(|_| false).unwrap()), ["data[1].ndjson"]);
    }

    #[test]
    fn a_directory_named_as_a_file_and_too_many_files_are_configuration_errors() {
        let dir = directory(&["x/a", "x/b"]);
        let found = patterns(dir.path(), &["x"]).find(|_| false).unwrap();
        let (_, error) = &found.failed[0];
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("/x/*.ndjson"), "{error}");
        let few = Patterns::parse(&[format!("{}/x/*", dir.path().display())], 1, Path::new("out"), DiskState::default()).unwrap();
        let error = few.find(|_| false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("2 files") && error.to_string().contains("source.files_max"), "{error}");
    }

    #[test]
    fn a_file_that_lost_its_name_is_found_by_inode_or_by_a_related_name() {
        let dir = directory(&["logs/app.log", "logs/app.log.2.gz", "logs/other"]);
        let dir = dir.path();
        let metadata = fs::metadata(dir.join("logs/app.log")).unwrap();
        fs::rename(dir.join("logs/app.log"), dir.join("logs/renamed")).unwrap();
        for pattern in ["logs/app.log", "logs/app.lo*"] {
            let directories = patterns(dir, &[pattern]).directories(std::iter::empty());
            let look = |numbers: &[u64], related: bool, seen: &[Inode]| -> Vec<PathBuf> {
                let (numbers, seen) = (numbers.iter().copied().collect(), seen.iter().copied().collect());
                let mut wanted = Wanted { numbers, seen, ..Wanted::default() };
                if related {
                    wanted.names.add("logs/app.log", ());
                }
                search(&directories, &wanted, &DiskState::default()).files.into_iter().map(|(path, _)| path).collect()
            };
            assert_eq!(look(&[metadata.ino()], false, &[]), [dir.join("logs/renamed")], "{pattern}");
            assert_eq!(look(&[metadata.ino()], true, &[]), [dir.join("logs/app.log.2.gz"), dir.join("logs/renamed")]);
            assert!(look(&[metadata.ino()], false, &[Inode::of(&metadata)]).is_empty());
        }
        let wanted = Wanted { numbers: [1].into(), ..Wanted::default() };
        let searched = search(&[dir.join("no")].into(), &wanted, &DiskState::default());
        assert!(searched.files.is_empty() && searched.failed.is_empty());
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
