//! Visible: which files in the directory of a dataset readers take for data.
//!
//! Owns: the one rule for it, by names alone, on a disk and in a bucket; walking a directory by it.
//! Does not own: which of the files a record names, and what is said of those that none names (see [`super::store`], [`super::reader`]).
//!
//! Readers differ: Spark and pyarrow pass over directories that begin with `_` or `.`, unless they are hive partitions; DuckDB's `**` and Polars do
//! not. So there are two questions. Before a ledger goes on among files, what counts is that every reader takes them for data: a directory that the
//! user has put aside must not stop a start. Whoever looks for rows that no record names must find what any reader counts.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use pintail_core::error::{Error, Result};

use crate::durable::fs::ReadFs;
use crate::durable::posix::Posix;

/// The log of a Delta table, in the directory of its data. Its checkpoints are Parquet files, and no data to anyone.
pub const DELTA_LOG: &str = "_delta_log";

/// The readers that take a file for data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readers {
    /// None of them.
    None,
    /// Those that look into every directory.
    Some,
    /// All of them.
    All,
}

impl Readers {
    /// Tells who takes a file for data, by its path below the dataset's directory.
    pub fn of(file: &Path) -> Self {
        let is_parquet = file.extension().is_some_and(|ending| ending == "parquet");
        if is_parquet { Self::within(file.parent().unwrap_or(Path::new(""))) } else { Self::None }
    }

    /// Tells who looks for data in a directory, by its path below that of the dataset.
    fn within(dir: &Path) -> Self {
        let mut names = dir.components().map(Component::as_os_str);
        if names.clone().next().is_some_and(|first| first == DELTA_LOG) {
            return Self::None;
        }
        if names.any(is_passed_over) { Self::Some } else { Self::All }
    }
}

/// Returns whether some readers do not look into a directory of this name.
fn is_passed_over(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") || (name.starts_with(b"_") && !name.contains(&b'='))
}

/// Visits each file below `root` that at least these readers take for data, in any order. What is removed meanwhile is passed over.
///
/// # Errors
/// The directory that cannot be listed, and why.
pub(super) fn each(
    fs: &dyn ReadFs,
    root: &Path,
    at_least: Readers,
    visit: &mut dyn FnMut(PathBuf),
) -> std::result::Result<(), (PathBuf, io::Error)> {
    let below = |path: &Path| path.strip_prefix(root).map(Path::to_path_buf).expect("a directory is listed by what lies below it");
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let listed = match fs.names(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err((dir, error)),
            Ok(listed) => listed,
        };
        for (path, is_dir) in listed {
            if is_dir && Readers::within(&below(&path)) >= at_least {
                dirs.push(path);
            } else if !is_dir && Readers::of(&below(&path)) >= at_least {
                visit(path);
            }
        }
    }
    Ok(())
}

/// Lists the files in a directory that any reader takes for data.
///
/// # Errors
/// If it cannot be listed.
pub fn list(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let listed = each(&Posix::default(), root, Readers::Some, &mut |path| _ = found.insert(path));
    listed.map_err(|(dir, e)| Error::io(format_args!("list `{}`", dir.display()), e))?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files, and who takes them for data.
    const FILES: [(&str, Readers); 14] = [
        ("a.parquet", Readers::All),
        ("region=us/a.parquet", Readers::All),
        ("2026/01/a.parquet", Readers::All),
        ("_region=us/a.parquet", Readers::All),
        ("region=us/a.parquet.tmp", Readers::None),
        ("region=us/a.json", Readers::None),
        ("_archive/a.parquet", Readers::Some),
        ("region=us/_archive/b/a.parquet", Readers::Some),
        (".trash/region=us/a.parquet", Readers::Some),
        ("_pintail/a.parquet", Readers::Some),
        ("_iceberg/metadata/a.parquet", Readers::Some),
        ("_delta_log/00000000000000000010.checkpoint.parquet", Readers::None),
        ("_delta_log/_sidecars/a.parquet", Readers::None),
        ("region=us/_delta_log/a.parquet", Readers::Some),
    ];

    #[test]
    fn a_file_is_data_to_all_readers_to_those_that_look_everywhere_or_to_none() {
        for (file, readers) in FILES {
            assert_eq!(Readers::of(Path::new(file)), readers, "{file}");
        }
    }

    #[test]
    fn a_walk_finds_what_the_names_say_and_lists_no_directory_without_need() {
        let dir = tempfile::tempdir().unwrap();
        for (file, _) in FILES {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        for at_least in [Readers::Some, Readers::All] {
            let mut found = Vec::new();
            each(&Posix::default(), dir.path(), at_least, &mut |path| found.push(path)).unwrap();
            found.sort();
            let mut wanted: Vec<_> =
                FILES.iter().filter(|(_, readers)| *readers >= at_least).map(|(file, _)| dir.path().join(file)).collect();
            wanted.sort();
            assert_eq!(found, wanted);
        }
        each(&Posix::default(), &dir.path().join("nowhere"), Readers::All, &mut |path| panic!("{path:?}")).unwrap();
    }
}
