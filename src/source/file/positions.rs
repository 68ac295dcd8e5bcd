//! Positions: where reading of each known file goes on.
//!
//! Owns: the decision, from a look at a file and what is committed, whether the file is new, goes on, or has lost data that cannot be
//! counted; and what `source.on_gap` makes of that.
//! Does not own: looking (see `identity`), finding (see `discover`), reading (see `reader`).

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tracing::warn;

use super::identity::{Identity, Inode, Observed};
use super::reader::Compression;
use crate::config::OnGap;
use crate::error::{Error, Result};
use crate::offsets::{Offsets, Partition};
use crate::source::dead_letters;

/// All files ever seen, by inode; of those that followed one another on an inode, the latest.
#[derive(Debug)]
pub(super) struct Positions {
    by_inode: HashMap<Inode, Position>,
    on_gap: OnGap,
}

/// Where reading of a file goes on.
#[derive(Debug, Clone)]
pub(super) struct Position {
    pub(super) identity: Identity,
    pub(super) partition: Arc<Partition>,
    /// Next offset, in decompressed bytes.
    pub(super) next: u64,
    /// Whether the inode may hold another file now, and nothing is missed by that.
    over: bool,
}

/// Data that was or may have been lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// The file is shorter than what was read of it.
    Truncated {
        /// Its length now, decompressed if it is compressed.
        length: u64,
    },
    /// The file has its old name and inode, but begins with other bytes.
    Replaced {
        /// Its length now.
        length: u64,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Reading goes on where it was.
    GoesOn,
    /// Another file than any known, of this generation.
    New(u32),
    Gap(Gap),
}

impl Positions {
    /// Takes up what is committed.
    pub(super) fn new(offsets: &Offsets, on_gap: OnGap) -> Result<Self> {
        let mut by_inode: HashMap<Inode, Position> = HashMap::new();
        for (id, span) in offsets.spans().filter(|(id, _)| !dead_letters::owns(id)) {
            let identity = Identity::parse(id)
                .ok_or_else(|| Error::state(format!("the commit record's partition `{id}` is no file's identity: run `pintail verify`")))?;
            let partition = Arc::new(Partition { id: id.clone(), label: span.label.clone() });
            let position = Position { identity, partition, next: span.to, over: false };
            let known = by_inode.entry(identity.inode).or_insert_with(|| position.clone());
            if known.identity.generation < identity.generation {
                *known = position;
            }
        }
        Ok(Self { by_inode, on_gap })
    }

    /// Returns every known file.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Position> {
        self.by_inode.values()
    }

    /// Returns the position of the file on an inode, whatever it is.
    pub(super) fn get(&self, inode: Inode) -> Option<&Position> {
        self.by_inode.get(&inode)
    }

    /// Finds or makes the position of the file that `path` names; `None` while it is empty.
    ///
    /// # Errors
    /// `State` if data was lost and `source.on_gap` is `refuse`.
    pub(super) fn place(&mut self, path: &Path, observed: &Observed) -> Result<Option<Position>> {
        let label = path.to_string_lossy();
        self.follow_device(&label, observed);
        let mut verdict = self.judge(&label, observed);
        if let Verdict::Gap(gap) = verdict {
            self.lose(path, observed.inode, gap)?;
            verdict = self.judge(&label, observed);
        }
        let known = self.by_inode.get_mut(&observed.inode);
        match (verdict, known) {
            (Verdict::GoesOn, Some(known)) => {
                known.partition = Arc::new(Partition { id: known.partition.id.clone(), label: label.into() });
                Ok(Some(known.clone()))
            }
            (Verdict::New(generation), _) => Ok(Identity::first_sight(observed, generation).map(|identity| {
                let partition = Arc::new(Partition { id: identity.partition_id(), label: label.into() });
                let position = Position { identity, partition, next: 0, over: false };
                self.by_inode.insert(observed.inode, position.clone());
                position
            })),
            (verdict, _) => unreachable!("a file goes on only where it is known, and a gap is taken up once: {verdict:?}"),
        }
    }

    /// Finds a file again whose device has another number since the last boot or mount: same name, inode number and content.
    fn follow_device(&mut self, label: &str, observed: &Observed) {
        if self.by_inode.contains_key(&observed.inode) {
            return;
        }
        let same = |known: &&Position| {
            let moved = Observed { inode: known.identity.inode, ..observed.clone() };
            let whole = Compression::of(label) != Compression::None || observed.length >= known.next;
            let number = known.identity.inode.number == observed.inode.number;
            number && !known.over && &*known.partition.label == label && known.identity.recognizes(&moved) && whole
        };
        let old = self.iter().find(same).map(|known| known.identity.inode);
        if let Some(mut known) = old.and_then(|old| self.by_inode.remove(&old)) {
            // The partition keeps its id: offsets are filed under it.
            known.identity.inode = observed.inode;
            self.by_inode.insert(observed.inode, known);
        }
    }

    /// Takes up that data was lost: what is on the inode from now on is another file.
    ///
    /// # Errors
    /// `State` if `source.on_gap` is `refuse`.
    pub(super) fn lose(&mut self, path: &Path, inode: Inode, gap: Gap) -> Result<()> {
        let next = self.get(inode).map_or(0, |known| known.next);
        if self.on_gap == OnGap::Refuse {
            return Err(Error::state(format!(
                "`{}` {gap}, and {next} bytes of it are read already: what lay between may be lost; set `source.on_gap = \"record\"` to read it \
                 as a new file",
                path.display()
            )));
        }
        warn!(path = %path.display(), next, "the file {gap}: what lay between may be lost, it is read as a new file");
        self.end(inode);
        Ok(())
    }

    /// Finds the position of a file under a name that no pattern matches, if it is surely the one: its content goes on.
    pub(super) fn place_renamed(&self, observed: &Observed) -> Option<&Position> {
        let known = self.get(observed.inode).filter(|known| !known.over && known.identity.recognizes(observed))?;
        let compressed = Compression::of(&known.partition.label) != Compression::None;
        (compressed || observed.length >= known.next).then_some(known)
    }

    /// Moves a file's position.
    pub(super) fn advance(&mut self, inode: Inode, next: u64) {
        if let Some(known) = self.by_inode.get_mut(&inode) {
            known.next = next;
        }
    }

    /// Takes up that the file on an inode is no more: another file may take the inode.
    pub(super) fn end(&mut self, inode: Inode) {
        if let Some(known) = self.by_inode.get_mut(&inode) {
            known.over = true;
        }
    }

    fn judge(&self, label: &str, observed: &Observed) -> Verdict {
        let Some(known) = self.by_inode.get(&observed.inode) else { return Verdict::New(0) };
        let new = Verdict::New(known.identity.generation + 1);
        if known.over {
            return new;
        }
        let length = observed.length;
        let recognized = known.identity.recognizes(observed);
        // The length of a compressed file says nothing of its content.
        let shorter = Compression::of(label) == Compression::None && length < known.next;
        let cut = (observed.prefix.len() < known.identity.prefix_bytes) || shorter;
        match (recognized, self.only_name_of(known) == Some(label)) {
            (true, _) if shorter => Verdict::Gap(Gap::Truncated { length }),
            (true, _) => Verdict::GoesOn,
            (false, false) => new,
            (false, true) if cut => Verdict::Gap(Gap::Truncated { length }),
            (false, true) => Verdict::Gap(Gap::Replaced { length }),
        }
    }

    /// Returns the name of a file that no other known file had.
    ///
    /// An inode is taken again soon after its file is deleted, so other content on it is a gap only under the same name; and not if files
    /// pass the name on (rotation): the new `app.log` often gets the inode of the oldest, just deleted one.
    fn only_name_of<'a>(&self, known: &'a Position) -> Option<&'a str> {
        let label = &known.partition.label;
        let holders = self.iter().filter(|other| other.partition.label == *label).take(2).count();
        (holders == 1).then_some(label)
    }
}

impl fmt::Display for Gap {
    /// Completes a sentence that begins with the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { length } => write!(f, "was truncated to {length} bytes"),
            Self::Replaced { length } => write!(f, "was replaced by other content of {length} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::offsets::{OffsetRange, PartitionId};

    const INODE: Inode = Inode { device: 1, number: 2 };

    fn look(content: &str) -> Observed {
        Observed { inode: INODE, length: content.len() as u64, prefix: content.as_bytes().to_vec() }
    }

    /// Positions after `content` was read as `a` and committed.
    fn committed(content: &str, on_gap: OnGap) -> Positions {
        let identity = Identity::first_sight(&look(content), 0).unwrap();
        let partition = Arc::new(Partition { id: identity.partition_id(), label: "a".into() });
        let mut offsets = Offsets::default();
        offsets.extend(&OffsetRange::new(partition, 0, content.len() as u64)).unwrap();
        Positions::new(&offsets.committed(), on_gap).unwrap()
    }

    fn judge(name: &str, content: &str) -> Verdict {
        committed("1\n2\n", OnGap::Refuse).judge(name, &look(content))
    }

    #[test]
    fn what_is_found_on_a_known_inode_is_judged_by_content_length_and_name() {
        assert_eq!(judge("a", "1\n2\n3\n"), Verdict::GoesOn);
        assert_eq!(judge("renamed", "1\n2\n3\n"), Verdict::GoesOn);
        assert_eq!(judge("a", "1\n"), Verdict::Gap(Gap::Truncated { length: 2 }));
        assert_eq!(judge("a", ""), Verdict::Gap(Gap::Truncated { length: 0 }));
        assert_eq!(judge("a", "7\n8\n9\n"), Verdict::Gap(Gap::Replaced { length: 6 }));
        assert_eq!(judge("another", "7\n8\n9\n"), Verdict::New(1));
        assert_eq!(judge("another", ""), Verdict::New(1));
    }

    #[test]
    fn a_file_whose_device_was_numbered_anew_goes_on_under_its_old_partition() {
        let elsewhere = |content: &str| Observed { inode: Inode { device: 9, ..INODE }, ..look(content) };
        let mut positions = committed("1\n2\n", OnGap::Refuse);
        let first = Identity::first_sight(&look("1\n2\n"), 0).unwrap().partition_id();
        let known = positions.place(Path::new("a"), &elsewhere("1\n2\n3\n")).unwrap().unwrap();
        assert_eq!((known.next, &known.partition.id), (4, &first));
        for (name, content) in [("a", "7\n8\n9\n"), ("a", "1\n"), ("b", "1\n2\n3\n")] {
            let other = committed("1\n2\n", OnGap::Refuse).place(Path::new(name), &elsewhere(content)).unwrap().unwrap();
            assert_eq!(other.next, 0, "{name} {content:?}");
            assert_ne!(other.partition.id, first);
        }
    }

    #[test]
    fn an_inode_taken_again_under_a_name_that_files_pass_on_is_a_new_file() {
        let mut positions = committed("1\n2\n", OnGap::Refuse);
        let rotated_in = Observed { inode: Inode { device: 1, number: 3 }, ..look("3\n") };
        positions.place(Path::new("a"), &rotated_in).unwrap();
        assert_eq!(positions.judge("a", &look("4\n")), Verdict::New(1));
    }

    #[test]
    fn a_refused_gap_names_the_file_both_sizes_and_the_way_out() {
        let error = committed("1\n2\n", OnGap::Refuse).place(Path::new("a"), &look("1\n")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        let text = error.to_string();
        for part in ["`a`", "truncated to 2 bytes", "4 bytes", "source.on_gap = \"record\""] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
    }

    #[test]
    fn a_recorded_gap_makes_a_partition_of_its_own_even_for_the_same_first_bytes() {
        let mut positions = committed("1\n2\n", OnGap::Record);
        assert!(positions.place(Path::new("a"), &look("")).unwrap().is_none());
        let second = positions.place(Path::new("a"), &look("1\n2\n")).unwrap().unwrap();
        assert_eq!((second.next, second.identity.generation), (0, 1));
        let first = Identity::first_sight(&look("1\n2\n"), 0).unwrap();
        assert_ne!(second.partition.id, first.partition_id());
    }

    #[test]
    fn a_restart_goes_on_with_the_latest_file_of_an_inode() {
        let mut offsets = Offsets::default();
        for (generation, to) in [(0, 100), (10, 4), (9, 50)] {
            let id = Identity::first_sight(&look("1\n2\n"), generation).unwrap().partition_id();
            offsets.extend(&OffsetRange::new(Arc::new(Partition { id, label: "a".into() }), 0, to)).unwrap();
        }
        let mut positions = Positions::new(&offsets, OnGap::Refuse).unwrap();
        let position = positions.place(Path::new("a"), &look("1\n2\n3\n")).unwrap().unwrap();
        assert_eq!((position.next, position.identity.generation), (4, 10));
    }

    #[test]
    fn offsets_of_replayed_dead_letters_are_left_alone_and_of_anything_else_refused() {
        let offsets = |id: &str| {
            let mut offsets = Offsets::default();
            let partition = Arc::new(Partition { id: PartitionId::new(id), label: "x".into() });
            offsets.extend(&OffsetRange::new(partition, 0, 1)).unwrap();
            offsets
        };
        assert_eq!(Positions::new(&offsets("dead_letters/0000000042"), OnGap::Refuse).unwrap().iter().count(), 0);
        assert_eq!(Positions::new(&offsets("topic-1"), OnGap::Refuse).unwrap_err().kind(), ErrorKind::State);
    }
}
