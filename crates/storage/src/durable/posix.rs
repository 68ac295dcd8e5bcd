//! The disk: `Fs` by system calls.
//!
//! Owns: every rename, link and fsync of the process, and the retry in place of an operation that finds the disk full or no descriptor free.
//! Does not own: the order of operations (see `checkpoint::store`), how long that is waited for (see `durable::disk_state`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::disk_state::DiskState;
use super::fs::{Entry, EntryKind, FileIdentity, Fs, FsFile, ReadFs};

/// The file system of the operating system.
#[derive(Debug, Default)]
pub struct Posix {
    disk: DiskState,
    /// Set once the file system refused `RENAME_NOREPLACE` (NFS, some FUSE): from then on it is `link` and `unlink`.
    links: AtomicBool,
}

impl Posix {
    /// Makes a handle whose operations wait for room as `disk` says.
    pub fn new(disk: DiskState) -> Self {
        Self { disk, links: AtomicBool::new(false) }
    }

    /// Makes a handle whose operations do not wait for room: for one who can tell somebody that the disk is full.
    pub fn unwaiting() -> Self {
        let disk = DiskState::default();
        disk.give_up();
        Self::new(disk)
    }
}

/// Writes a file whole or not at all for whoever reads it meanwhile, over one of that name. Not durable, and it waits for no room: for what
/// tells another process something, and is no part of a dataset.
#[expect(clippy::disallowed_methods, reason = "what was said before is to be replaced")]
pub fn tell(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)?;
    fs::rename(&new, path)
}

impl ReadFs for Posix {
    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        Ok(Box::new(self.disk.wait_for_room("open", || File::open(path))?))
    }

    fn entry(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(kind(&metadata))),
            // A file where a directory is expected: there is nothing at that path either.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<(PathBuf, bool)>> {
        let name = |entry: io::Result<fs::DirEntry>| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?.is_dir())));
        self.disk.wait_for_room("list", || fs::read_dir(dir))?.map(name).collect()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in self.disk.wait_for_room("list", || fs::read_dir(dir))? {
            let path = entry?.path();
            match fs::symlink_metadata(&path) {
                Ok(metadata) => entries.push(Entry { path, kind: kind(&metadata) }),
                // Removed since: a reader without the lock sees the service at work.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }
}

impl Fs for Posix {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = self.disk.wait_for_room("create", || File::create_new(path))?;
        Ok(Box::new(PosixFile { file, disk: self.disk.clone() }))
    }

    fn create_new_private(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let create = || File::options().write(true).create_new(true).mode(0o600).open(path);
        let file = self.disk.wait_for_room("create", create)?;
        Ok(Box::new(PosixFile { file, disk: self.disk.clone() }))
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(identity(&metadata))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.wait_for_room("mkdir", || fs::create_dir(path))
    }

    fn create_dir_like(&self, path: &Path, like: &Path) -> io::Result<()> {
        let of = fs::metadata(like)?;
        self.create_dir(path)?;
        let made = fs::metadata(path)?;
        if (made.uid(), made.gid()) != (of.uid(), of.gid()) {
            std::os::unix::fs::chown(path, Some(of.uid()), Some(of.gid()))?;
        }
        fs::set_permissions(path, of.permissions())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        // Only the opening may be tried again.
        self.disk.wait_for_room("open", || File::open(path))?.sync_all()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // Names, unlike pages, are not forgotten by a refused fsync for want of room: the journal holds them.
        self.disk.wait_for_room("fsync of a directory", || File::open(dir)?.sync_all())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.links.load(Ordering::Relaxed) {
            let rename = || Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?);
            match self.disk.wait_for_room("rename", rename) {
                Err(error) if is_unknown(&error) => self.links.store(true, Ordering::Relaxed),
                done => return done,
            }
        }
        // Not one step: a kill between the two leaves both names, which recovery knows as right/right. A power cut must not leave
        // neither, so the new name is durable before the old one goes. Each waits for room on its own: no link can be made twice.
        self.disk.wait_for_room("link", || fs::hard_link(from, to))?;
        self.sync_dir(to.parent().expect("a link was made in a directory"))?;
        self.remove_file(from)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.wait_for_room("link", || fs::hard_link(from, to))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.disk.wait_for_room("rename", || Ok(rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        // A file system that copies on write needs room to remove.
        self.disk.wait_for_room("unlink", || fs::remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.wait_for_room("rmdir", || fs::remove_dir(path))
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.dev())
    }
}

/// Returns whether the file system does not know `RENAME_NOREPLACE`.
fn is_unknown(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

fn kind(metadata: &fs::Metadata) -> EntryKind {
    match metadata.file_type() {
        t if t.is_file() => EntryKind::File(metadata.len()),
        t if t.is_dir() => EntryKind::Dir,
        _ => EntryKind::Other,
    }
}

fn identity(metadata: &fs::Metadata) -> FileIdentity {
    FileIdentity { device: metadata.dev(), inode: metadata.ino(), bytes: metadata.len() }
}

/// A file open for writing.
#[derive(Debug)]
struct PosixFile {
    file: File,
    disk: DiskState,
}

impl io::Write for PosixFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // A short write says how much went out; only the rest, which had no room, is offered again.
        self.disk.wait_for_room("write", || self.file.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FsFile for PosixFile {
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        Ok(identity(&self.file.metadata()?))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn content(fs: &Posix, path: &Path) -> String {
        let mut text = String::new();
        fs.open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn write(fs: &Posix, path: &Path, text: &str) {
        let mut file = fs.create_new(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.sync().unwrap();
    }

    fn a_rename_keeps_the_bytes_and_never_replaces(fs: &Posix) {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        write(fs, &a, "first");
        fs.rename_noreplace(&a, &b).unwrap();
        assert_eq!((fs.entry(&a).unwrap(), content(fs, &b)), (None, "first".into()));
        write(fs, &a, "second");
        assert_eq!(fs.rename_noreplace(&a, &b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((content(fs, &a), content(fs, &b)), ("second".into(), "first".into()));
    }

    #[test]
    fn a_rename_in_one_step_never_replaces() {
        a_rename_keeps_the_bytes_and_never_replaces(&Posix::default());
    }

    #[test]
    fn a_rename_by_link_and_unlink_never_replaces() {
        a_rename_keeps_the_bytes_and_never_replaces(&Posix { disk: DiskState::default(), links: AtomicBool::new(true) });
    }

    #[test]
    fn an_exchange_leaves_both_and_a_link_never_replaces() {
        let (fs, dir) = (Posix::default(), tempfile::tempdir().unwrap());
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs.create_dir(&a).unwrap();
        assert_eq!(fs.exchange(&a, &b).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::set_permissions(&a, std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
        fs.create_dir_like(&b, &a).unwrap();
        assert_eq!(fs::metadata(&b).unwrap().permissions(), fs::metadata(&a).unwrap().permissions());
        write(&fs, &a.join("x"), "first");
        fs.exchange(&a, &b).unwrap();
        fs.link(&b.join("x"), &a.join("y")).unwrap();
        assert_eq!((content(&fs, &b.join("x")), content(&fs, &a.join("y"))), ("first".into(), "first".into()));
        assert_eq!(fs.link(&b.join("x"), &a.join("y")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_file_is_made_only_where_none_is() {
        let (fs, dir) = (Posix::default(), tempfile::tempdir().unwrap());
        let path = dir.path().join("a");
        write(&fs, &path, "first");
        assert_eq!(fs.create_new(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs.create_dir(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_listing_is_in_the_order_of_names_and_says_what_is_what() {
        let (fs, dir) = (Posix::default(), tempfile::tempdir().unwrap());
        write(&fs, &dir.path().join("b"), "four");
        fs.create_dir(&dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("c")).unwrap();
        let listed = fs.list(dir.path()).unwrap();
        let names: Vec<_> = listed.iter().map(|e| e.path.file_name().unwrap().to_str().unwrap()).collect();
        let kinds: Vec<_> = listed.iter().map(|e| e.kind).collect();
        assert_eq!((names, kinds), (vec!["a", "b", "c"], vec![EntryKind::Dir, EntryKind::File(4), EntryKind::Other]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_write_to_a_full_disk_waits_until_it_is_given_up() {
        let disk = DiskState::default();
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut file = PosixFile { file, disk: disk.clone() };
        let writer = std::thread::spawn(move || file.write_all(b"x"));
        while !disk.full() {
            std::thread::yield_now();
        }
        disk.give_up();
        assert_eq!(writer.join().unwrap().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
