//! Names: what rotation makes of a file's name.
//!
//! Owns: which names may be those of one file. It decides only for content below 1 KiB, which several files may hold by chance, and for where to
//! look for a file that lost its name. And the text of a path in commit records: a byte that is no UTF-8 is `\\x` and two digits there.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::hash::Hash;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Endings that say how a file is compressed.
const COMPRESSED: [&str; 2] = [".gz", ".zst"];

/// Endings that people and tools give to the older of two files.
const OLDER: [&str; 5] = ["old", "bak", "orig", "save", "prev"];

/// Returns the text that stands for a path.
pub(super) fn label_of(path: &Path) -> Cow<'_, str> {
    if let Some(text) = path.to_str() {
        return Cow::Borrowed(text);
    }
    let mut label = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        label.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| label.push_str(&format!("\\x{byte:02x}")));
    }
    Cow::Owned(label)
}

/// Returns the path that a text stands for. One that is there as it is written is meant so.
pub(super) fn path_of(label: &str) -> PathBuf {
    let literal = PathBuf::from(label);
    if !label.contains("\\x") || literal.symlink_metadata().is_ok() {
        return literal;
    }
    let mut bytes = Vec::with_capacity(label.len());
    let mut rest = label;
    while let Some((before, behind)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        match behind.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|byte| !byte.is_ascii()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = behind;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    PathBuf::from(OsStr::from_bytes(&bytes))
}

/// Returns whether two paths may be names of one file before and after a rotation, compression or copy: `app.log`, `app.log.1`,
/// `app.log-20260101.gz`, `app-20260101.log`, `backup/app.log`.
pub(super) fn are_related(a: &str, b: &str) -> bool {
    let (a, b) = (stem(a), stem(b));
    a == b || undated(a).is_some_and(|a| a == b) || undated(b).is_some_and(|b| a == b)
}

/// A set of names: two paths are related if one is in it, and it is one of those that are related to the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Group {
    /// Those that rotation and compression make of one name.
    Stem(String),
    /// Those with a date in them, by the name without it.
    Undated(String),
}

/// Returns the groups that a path is in.
pub(super) fn groups_of(path: &str) -> impl Iterator<Item = Group> + use<> {
    let stem = stem(path);
    [Some(Group::Stem(stem.to_owned())), undated(stem).map(Group::Undated)].into_iter().flatten()
}

/// Returns the groups of the paths that are related to one.
pub(super) fn groups_related_to(path: &str) -> impl Iterator<Item = Group> + use<> {
    let stem = stem(path);
    [Some(Group::Stem(stem.to_owned())), Some(Group::Undated(stem.to_owned())), undated(stem).map(Group::Stem)].into_iter().flatten()
}

/// Things by names of files, to look up those whose names are related to another.
#[derive(Debug)]
pub(super) struct Related<T>(HashMap<Group, HashSet<T>>);

impl<T> Default for Related<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone + Eq + Hash> Related<T> {
    pub(super) fn add(&mut self, path: &str, thing: T) {
        for group in groups_of(path) {
            self.0.entry(group).or_default().insert(thing.clone());
        }
    }

    pub(super) fn remove(&mut self, path: &str, thing: &T) {
        for group in groups_of(path) {
            if let Some(things) = self.0.get_mut(&group) {
                things.remove(thing);
                if things.is_empty() {
                    self.0.remove(&group);
                }
            }
        }
    }

    /// Returns those in one group.
    pub(super) fn within(&self, group: &Group) -> Option<&HashSet<T>> {
        self.0.get(group)
    }

    /// Returns whether there is one for whose name and `path` [`are_related`] holds.
    pub(super) fn has_any_to(&self, path: &str) -> bool {
        groups_related_to(path).any(|group| self.0.contains_key(&group))
    }
}

/// Returns the name without its directory and without what rotation and compression append.
fn stem(path: &str) -> &str {
    let mut name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path);
    for ending in COMPRESSED {
        name = name.strip_suffix(ending).unwrap_or(name);
    }
    loop {
        let whole = name;
        name = name.trim_end_matches('~');
        if let Some((front, last)) = name.rsplit_once(['.', '-', '_'])
            && !front.is_empty()
            && (OLDER.contains(&last) || last.bytes().all(|byte| byte.is_ascii_digit()))
        {
            name = front;
        }
        if name == whole {
            return name;
        }
    }
}

/// Returns `app.log` for `app-20260101.log`; `None` for a name without a number before its extension.
fn undated(name: &str) -> Option<String> {
    let (front, extension) = name.rsplit_once('.')?;
    let bare = stem(front);
    (bare.len() < front.len() && !bare.is_empty()).then(|| format!("{bare}.{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_bytes_has_a_text_that_leads_back_to_it() {
        for name in [&b"in/\xff.ndjson"[..], b"\xc3\xa4\xc3/a\\x.log", b"a\\xff", b"\xe2\x82", "ä\\x20".as_bytes()] {
            let path = Path::new(OsStr::from_bytes(name));
            // The third could be meant either way: what is there decides, and it is not.
            if name != b"a\\xff" {
                assert_eq!(path_of(&label_of(path)), path);
            }
        }
        assert_eq!(label_of(Path::new(OsStr::from_bytes(b"a\xff\xfe.log"))), "a\\xff\\xfe.log");
    }

    fn among(name: &str, other: &str) -> bool {
        let mut others = Related::default();
        others.add(other, 1);
        let found = others.has_any_to(name);
        others.remove(other, &1);
        assert!(others.0.is_empty());
        found
    }

    #[test]
    fn names_that_rotation_compression_and_copying_make_are_related() {
        for name in [
            "app.log",
            "app.log.1",
            "app.log.12.gz",
            "app.log-20260101",
            "app.log-20260101-1767225600.zst",
            "app.log.2026-01-05",
            "app-20260101.log",
            "app-20260101.log.gz",
            "app.log.old",
            "app.log~",
            "old/app.log",
        ] {
            assert!(are_related("in/app.log", name) && are_related(name, "in/app.log"), "{name}");
            assert!(among(name, "in/app.log") && among("in/app.log", name), "{name}");
        }
        assert!(are_related("app.log.1", "app.log.2.gz"));
    }

    #[test]
    fn names_of_a_batch_and_of_other_files_are_not_related() {
        for (a, b) in
            [("batch-1.json", "batch-2.json"), ("a.ndjson", "b.ndjson"), ("app.log", "app.err"), ("app.log", "webapp.log"), ("1", "2")]
        {
            assert!(!are_related(a, b) && !among(a, b) && !among(b, a), "{a} {b}");
        }
    }
}
