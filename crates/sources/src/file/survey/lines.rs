//! Lines in common: whether a file holds most of the lines that were read, so that it was edited, and not begun anew.
//!
//! Owns: comparing the lines of two files by a sample of bounded size.
//! Does not own: which files are compared (see `beside`), what follows (see `plan`).
//!
//! A log that is begun anew may begin with the header of the one before, and end as it did. Who edits a file leaves most of it, or changes what stands
//! before its last line. A file of few lines, of which most are a header, cannot be told from an edited one: that is a gap.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};

use pintail_core::error::{Error, Result};

use super::Facts;
use crate::compression::Compression;
use crate::file::input::Input;
use crate::file::plan::Edited;

/// Lines of a file that are compared: those with the least hashes, whatever they are.
const SAMPLE_MAX: usize = 4096;

/// Different lines of which most must be there again where that alone tells: a few may come again.
const DIFFERENT_MIN: usize = 8;

/// Lines that follow each other and are compared as one where a file shares neither of its ends: in a log without times any line may come again.
const RUN_LINES: usize = 4;

const BUFFER_BYTES: usize = 64 << 10;

impl Facts {
    /// Finds out whether this is a file, edited, of which all that was read before an offset stands in another one. `shares` says whether a KiB at one of
    /// its ends is still there.
    pub(super) fn compare_lines(&self, read: &Self, next: u64, shares: bool) -> Result<Edited> {
        if !self.may_be_edited(next, shares) {
            return Ok(Edited::No);
        }
        let open = |facts: &Self| facts.with_file(File::try_clone);
        let edited = compare((&open(self)?, self.compression), (&open(read)?, read.compression), next, shares);
        edited.map_err(|e| Error::io(format_args!("compare `{}` with `{}`", self.path.display(), read.path.display()), e))
    }

    /// Returns whether that is to be found out. A log that was begun anew is short when it is seen first: for that, the old one need not be read again.
    pub(super) fn may_be_edited(&self, next: u64, shares: bool) -> bool {
        shares || self.compression != Compression::None || self.length >= next / 2
    }
}

/// Looks in a file for the lines up to an offset of one that holds what was read: for most, or for the last of them.
fn compare(file: (&File, Compression), read: (&File, Compression), next: u64, shares: bool) -> io::Result<Edited> {
    let hashes = RandomState::new();
    let run_lines = if shares { 1 } else { RUN_LINES };
    let (mut sample, mut last) = (BTreeSet::new(), None);
    each_run(read, next, run_lines, &hashes, |line| {
        last = Some(line);
        if sample.len() < SAMPLE_MAX || sample.last().is_some_and(|greatest| line < *greatest) {
            sample.insert(line);
        }
        if sample.len() > SAMPLE_MAX {
            sample.pop_last();
        }
    })?;
    let (mut missing, mut has_last) = (sample.clone(), false);
    each_run(file, u64::MAX, run_lines, &hashes, |line| {
        missing.remove(&line);
        has_last |= last == Some(line);
    })?;
    let has_most = (sample.len() - missing.len()) * 2 > sample.len();
    // Who compresses mostly does not edit.
    let is_beside = shares && read.1 == Compression::None;
    Ok(match is_beside {
        _ if has_most && (is_beside || sample.len() >= DIFFERENT_MIN) => Edited::Yes,
        true if has_last => Edited::Maybe,
        _ => Edited::No,
    })
}

/// Gives a hash of each so many whole lines that follow each other before an offset.
fn each_run(file: (&File, Compression), to: u64, lines: usize, hashes: &RandomState, mut take: impl FnMut(u64)) -> io::Result<()> {
    let mut run = VecDeque::with_capacity(lines);
    each_line(file, to, hashes, |line| {
        run.push_back(line);
        if run.len() == lines {
            take(if lines == 1 { line } else { hashes.hash_one(&run) });
            run.pop_front();
        }
    })
}

/// Gives the hash of each whole line before an offset, however long it is.
fn each_line((file, compression): (&File, Compression), to: u64, hashes: &RandomState, mut take: impl FnMut(u64)) -> io::Result<()> {
    let mut input = Input::open(file.try_clone()?, compression)?.take(to);
    let (mut buffer, mut line) = (vec![0; BUFFER_BYTES], hashes.build_hasher());
    loop {
        let read = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', &buffer[..read]) {
            line.write(&buffer[from..end]);
            take(line.finish());
            (line, from) = (hashes.build_hasher(), end + 1);
        }
        line.write(&buffer[from..read]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn edited(read: &str, now: &str) -> bool {
        is_it_edited(read, now, true)
    }

    fn is_it_edited(read: &str, now: &str, shares: bool) -> bool {
        let file = |content: &str| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(content.as_bytes()).unwrap();
            file
        };
        compare((&file(now), Compression::None), (&file(read), Compression::None), read.len() as u64, shares).unwrap() != Edited::No
    }

    fn lines(numbers: std::ops::Range<usize>) -> String {
        numbers.map(|n| format!("{n} {}\n", "x".repeat(n % 100))).collect()
    }

    #[test]
    fn most_lines_or_the_last_one_tell_an_edited_file_however_long_it_is() {
        for size in [10, 100, 100_000] {
            let read = lines(0..size);
            assert!(edited(&read, &lines(size / 3..size)), "its first lines taken");
            assert!(edited(&read, &(lines(0..size * 2 / 3) + "another\n")), "its last lines changed");
            assert!(edited(&read, &("another\n".to_owned() + &lines(size - 2..size + 50))), "few are left, with the last one");
            assert!(!edited(&read, &(lines(0..size / 3) + &lines(size..size * 2))), "a header");
        }
    }

    #[test]
    fn a_file_that_shares_no_end_is_edited_where_most_runs_of_lines_are_there_and_not_where_only_lines_are() {
        let read = lines(0..100);
        assert!(is_it_edited(&read, &("another\n".to_owned() + &lines(0..95)), false));
        assert!(!is_it_edited(&read, &(0..100).rev().map(|n| lines(n..n + 1)).collect::<String>(), false), "each line comes again");
        assert!(!is_it_edited(&lines(0..10), &lines(0..10), false), "too few to tell");
    }

    #[test]
    fn lines_longer_than_the_buffer_are_compared_as_a_whole() {
        let line = |n: usize| format!("{}{n}{}\n", "x".repeat(70_000), "y".repeat(70_000));
        assert!(!edited(&line(1), &line(2)));
        assert!(edited(&(line(1) + &line(2)), &(line(3) + &line(2))));
    }
}
