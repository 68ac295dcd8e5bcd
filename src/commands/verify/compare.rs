//! Compare: a file held against what its record says of it.
//!
//! Owns: how closely it is looked at, what must be the same, and saying what is not.
//! Does not own: which files are compared, and what follows from a difference (see [`super`]).

use std::fs::File;
use std::io;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use pintail_core::digest::sha256_of;
use pintail_storage::checkpoint::dead_letters;
use pintail_storage::checkpoint::record::{FileEntry, FileKind};

/// How closely files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Whether they are there, with their length.
    Length,
    /// Their hash and their rows as well.
    Content,
}

/// Why a file is not known to be what its record says.
pub(super) enum Fault {
    Unread(io::Error),
    /// What differs, in words.
    Differs(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Unread(error)
    }
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Differs(why)
    }
}

/// Compares a length with that of the record.
pub(super) fn same_length(bytes: u64, file: &FileEntry) -> Result<(), Fault> {
    if bytes != file.bytes { Err(format!("it has {bytes} bytes, not {}", file.bytes).into()) } else { Ok(()) }
}

/// Holds a file against its record.
pub(super) fn compare(place: &Path, file: &FileEntry, depth: Depth) -> Result<(), Fault> {
    let open = || File::open(place);
    same_length(open()?.metadata()?.len(), file)?;
    if depth == Depth::Length {
        return Ok(());
    }
    let sha256 = sha256_of(open()?)?;
    if sha256 != file.sha256 {
        return Err(format!("its SHA-256 is {sha256}, not {}", file.sha256).into());
    }
    let rows = match file.kind {
        FileKind::Parquet => parquet_rows(open()?)?,
        FileKind::DeadLetters => letters(place)?,
    };
    if rows != file.rows { Err(format!("it has {rows} rows, not {}", file.rows).into()) } else { Ok(()) }
}

fn parquet_rows(file: File) -> Result<u64, String> {
    let reader = SerializedFileReader::new(file).map_err(|e| format!("it is no Parquet file: {e}"))?;
    u64::try_from(reader.metadata().file_metadata().num_rows()).map_err(|_| "its number of rows is negative".into())
}

fn letters(place: &Path) -> Result<u64, String> {
    let mut letters = dead_letters::read(place).map_err(|e| e.to_string())?;
    letters.try_fold(0, |rows, letter| letter.map(|_| rows + 1)).map_err(|e| e.to_string())
}
