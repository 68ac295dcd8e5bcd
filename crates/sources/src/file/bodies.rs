//! Bodies: the bodies of plain files that may hold what was read elsewhere.
//!
//! Owns: reading such a file up to the offsets in question, in steps, and keeping what came out: a file that grows is read on, not again.
//! Does not own: which files are compared with what (see `survey`), the body of what is read as input (see `reader`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;

use pintail_core::evidence::{BLOCK_BYTES, Body, Key, Mark};

use super::identity::{Inode, Place};
use super::input::read_range;
use super::trail::EDGE_BYTES;
use crate::lines::keep_last;

/// Bytes read at a time.
const STEP_BYTES: u64 = 1 << 20;

/// Files that are kept at the same time, each with a few KiB.
const FILES_MAX: usize = 1000;
/// Marks that are kept of a file. Many positions may begin alike.
const MARKS_MAX: usize = 1000;

/// The bodies of files by their places.
#[derive(Debug)]
pub(super) struct Bodies {
    key: Key,
    files: HashMap<Inode, Summed>,
    /// Bytes that may still be read before others have their turns.
    left: u64,
}

/// What was found out about one file.
#[derive(Debug)]
struct Summed {
    place: Place,
    body: Body,
    /// The bytes before the end of the body, to notice that the file was rewritten.
    last: Vec<u8>,
    /// By offset.
    marks: BTreeMap<u64, Mark>,
}

/// How much of a file may be read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// What is left of the allowance (see [`Bodies::allow`]).
    Step,
    All,
}

/// What stands before some offsets, by offset: nothing where the file is shorter.
pub(super) type Marks = BTreeMap<u64, Mark>;

/// Returns the end of the last whole block before an offset: the end of its body.
pub(super) fn end_of_body(offset: u64) -> u64 {
    offset - offset % BLOCK_BYTES as u64
}

impl Bodies {
    pub(super) fn new(key: &Key) -> Self {
        Self { key: key.clone(), files: HashMap::new(), left: u64::MAX }
    }

    /// Says how many bytes may be read until this is said again.
    pub(super) fn allow(&mut self, bytes: u64) {
        self.left = bytes;
    }

    /// Forgets what was read of a file that was written since.
    pub(super) fn forget(&mut self, inode: &Inode) {
        self.files.remove(inode);
    }

    /// Returns the bodies of a file before these offsets; `None` if that takes more than may be read now.
    pub(super) fn before(&mut self, file: &File, place: Place, offsets: &BTreeSet<u64>, patience: Patience) -> io::Result<Option<Marks>> {
        let offsets: BTreeSet<u64> = offsets.iter().map(|offset| end_of_body(*offset)).filter(|offset| *offset > 0).collect();
        if offsets.is_empty() {
            return Ok(Some(Marks::new()));
        }
        let kept = self.files.remove(&place.inode).filter(|summed| summed.place == place);
        let kept = kept.filter(|summed| offsets.iter().all(|offset| *offset >= summed.body.length() || summed.marks.contains_key(offset)));
        let mut summed = match kept {
            Some(summed) if summed.is_still_in(file)? => summed,
            _ => Summed { place, body: Body::new(&self.key), last: Vec::new(), marks: Marks::new() },
        };
        let mut left = if patience == Patience::All { u64::MAX } else { self.left };
        let whole = summed.read(file, &offsets, &mut left)?;
        if patience == Patience::Step {
            self.left = left;
        }
        let marks = offsets.iter().filter_map(|offset| Some((*offset, *summed.marks.get(offset)?))).collect();
        if self.files.len() >= FILES_MAX {
            self.files.clear();
        }
        self.files.insert(place.inode, summed);
        Ok(whole.then_some(marks))
    }
}

impl Summed {
    /// Returns whether a file still holds what was summed up, as far as its end tells: the same as for what was read as input.
    fn is_still_in(&self, file: &File) -> io::Result<bool> {
        let end = self.body.length();
        Ok(read_range(file, end.saturating_sub(EDGE_BYTES), end)? == self.last)
    }

    /// Reads on to these offsets. Returns whether that was possible with what is left.
    fn read(&mut self, file: &File, offsets: &BTreeSet<u64>, left: &mut u64) -> io::Result<bool> {
        for offset in offsets {
            while self.body.length() < *offset {
                if *left == 0 {
                    return Ok(false);
                }
                let from = self.body.length();
                let bytes = read_range(file, from, (*offset).min(from + STEP_BYTES))?;
                if bytes.is_empty() {
                    return Ok(true);
                }
                self.body.push(&bytes);
                keep_last(&mut self.last, &bytes);
                *left = left.saturating_sub(bytes.len() as u64);
            }
            if self.body.length() == *offset {
                if self.marks.len() >= MARKS_MAX {
                    self.marks.pop_first();
                }
                self.marks.extend(self.body.mark().map(|mark| (*offset, mark)));
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn before(bodies: &mut Bodies, path: &std::path::Path, offsets: &[u64], patience: Patience) -> Option<Vec<(u64, Mark)>> {
        let file = File::open(path).unwrap();
        let place = Place::of(&file.metadata().unwrap());
        let marks = bodies.before(&file, place, &offsets.iter().copied().collect(), patience).unwrap();
        marks.map(|marks| marks.into_iter().collect())
    }

    fn body(content: &[u8]) -> Mark {
        let mut body = Body::new(&Key::new([7; 32]));
        body.push(content);
        body.mark().unwrap()
    }

    #[test]
    fn a_large_file_is_read_in_steps_and_one_that_grew_is_read_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let content: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
        fs::write(&path, &content[..4_000_000]).unwrap();
        let mut bodies = Bodies::new(&Key::new([7; 32]));
        let (mut looks, offsets) = (1, [3_000_000, 3_999_999]);
        let marks = loop {
            bodies.allow(2_000_000);
            match before(&mut bodies, &path, &offsets, Patience::Step) {
                Some(marks) => break marks,
                None => looks += 1,
            }
        };
        let ends = offsets.map(|offset| usize::try_from(end_of_body(offset)).unwrap());
        assert_eq!(marks, ends.map(|end| (end as u64, body(&content[..end]))));
        assert_eq!(looks, 2);
        fs::write(&path, &content).unwrap();
        bodies.allow(1_100_000);
        assert_eq!(before(&mut bodies, &path, &[5_000_000], Patience::Step), Some(vec![(4_999_168, body(&content[..4_999_168]))]));
        bodies.allow(0);
        assert_eq!(before(&mut bodies, &path, &[2048], Patience::Step), None, "what was not asked for is not known");
        assert_eq!(before(&mut bodies, &path, &[2048, 9_000_000], Patience::All), Some(vec![(2048, body(&content[..2048]))]));
    }

    #[test]
    fn a_file_that_was_rewritten_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut bodies = Bodies::new(&Key::new([7; 32]));
        for content in [[1; 4096], [2; 4096]] {
            fs::write(&path, content).unwrap();
            assert_eq!(before(&mut bodies, &path, &[4096], Patience::All), Some(vec![(4096, body(&content))]));
        }
    }
}
