//! A disk that is full for a while, and one whose fsync fails.
//!
//! Owns: the disk, which counts what is asked of it.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::durable::fs::{Entry, EntryKind, FileIdentity, FsFile, ReadFs};

/// The disk below, with so many bytes left to write, and an fsync that fails when told to.
#[derive(Debug)]
pub(super) struct Disk {
    below: Posix,
    room: Arc<AtomicU64>,
    sync_fails: Arc<AtomicBool>,
    pub syncs: Arc<AtomicU64>,
    pub sync_takes_ms: Arc<AtomicU64>,
    /// A directory in which nothing can be made.
    pub read_only: Option<PathBuf>,
}

impl Disk {
    pub(super) fn new() -> Arc<Self> {
        let room = Arc::new(AtomicU64::new(u64::MAX));
        let (sync_fails, syncs, sync_takes_ms) = (Arc::default(), Arc::default(), Arc::default());
        Arc::new(Self { below: Posix::unwaiting(), room, sync_fails, syncs, sync_takes_ms, read_only: None })
    }
}

#[derive(Debug)]
struct DiskFile {
    below: Box<dyn FsFile>,
    room: Arc<AtomicU64>,
    sync_fails: Arc<AtomicBool>,
    syncs: Arc<AtomicU64>,
    sync_takes_ms: Arc<AtomicU64>,
}

impl Write for DiskFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let room = usize::try_from(self.room.load(Ordering::SeqCst)).unwrap().min(buf.len());
        if room == 0 && !buf.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.below.write(&buf[..room])?;
        self.room.fetch_sub(written as u64, Ordering::SeqCst);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FsFile for DiskFile {
    fn sync(&mut self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(self.sync_takes_ms.load(Ordering::SeqCst)));
        if self.sync_fails.load(Ordering::SeqCst) { Err(io::Error::from_raw_os_error(5)) } else { self.below.sync() }
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        self.below.identity()
    }
}

impl ReadFs for Disk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        self.below.open(path)
    }

    fn entry(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        self.below.entry(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.below.list(dir)
    }
}

impl Fs for Disk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        if path.parent() == self.read_only.as_deref() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let below = self.below.create_new(path)?;
        let (room, sync_fails) = (self.room.clone(), self.sync_fails.clone());
        let (syncs, sync_takes_ms) = (self.syncs.clone(), self.sync_takes_ms.clone());
        Ok(Box::new(DiskFile { below, room, sync_fails, syncs, sync_takes_ms }))
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        self.below.identity(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.below.create_dir(path)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.below.sync_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.below.sync_dir(dir)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.below.rename_noreplace(from, to)
    }

    fn create_dir_like(&self, path: &Path, like: &Path) -> io::Result<()> {
        self.below.create_dir_like(path, like)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.below.link(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.below.exchange(one, other)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.below.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.below.remove_dir(path)
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        self.below.device(path)
    }
}

#[test]
fn a_disk_that_fills_at_any_byte_leaves_no_trace_of_the_request_and_later_ones_stand_behind_good_ones() {
    for room in 0..700 {
        let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::new());
        let mut log = Log::open(disk.clone(), settings(dir.path()), None).unwrap();
        append(&mut log, "a", 1, Some("a")).unwrap();
        disk.room.store(room, Ordering::SeqCst);
        let mut accepted = vec!["a.0".to_owned()];
        for n in 0..4 {
            let group = [request(&format!("x{n}"), 1, Some(&format!("x{n}"))), request(&format!("y{n}"), 2, None)];
            match &log.append(&group)[..] {
                [Ok(_), Ok(_)] => accepted.extend([format!("x{n}.0"), format!("y{n}.0"), format!("y{n}.1")]),
                answers => assert_eq!(answers, [Err(AppendError::NoRoom); 2], "{room} bytes left"),
            }
        }
        // Killed while it is full: nothing of what was refused comes back.
        disk.room.store(u64::MAX, Ordering::SeqCst);
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("journal")).unwrap();
        for path in segments(dir.path()) {
            fs::copy(&path, copy.path().join("journal").join(path.file_name().unwrap())).unwrap();
        }
        assert_eq!(lines(&open(copy.path(), 0), 0), accepted, "{room} bytes left");
        // Or room is made, and the same process goes on.
        let end = accepted.len() as u64;
        assert_eq!(append(&mut log, "z", 1, Some("x9")), receipt(end, 1));
        accepted.push("z.0".into());
        assert_eq!(lines(&log, 0), accepted);
        drop(log);
        assert_eq!(lines(&open(dir.path(), 0), 0), accepted, "{room} bytes left");
    }
}

#[test]
fn after_a_failed_fsync_nothing_is_written_or_synced_any_more_and_the_reader_learns_why() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::new());
    let mut log = Log::open(disk.clone(), settings(dir.path()), None).unwrap();
    append(&mut log, "a", 1, None).unwrap();
    disk.sync_fails.store(true, Ordering::SeqCst);
    assert_eq!(append(&mut log, "b", 1, Some("b")), Err(AppendError::Stopped));
    disk.sync_fails.store(false, Ordering::SeqCst);
    let (syncs, bytes) = (disk.syncs.load(Ordering::SeqCst), fs::read(&segments(dir.path())[0]).unwrap());
    assert_eq!(append(&mut log, "b", 1, Some("b")), Err(AppendError::Stopped));
    log.release(1);
    assert_eq!((disk.syncs.load(Ordering::SeqCst), fs::read(&segments(dir.path())[0]).unwrap()), (syncs, bytes));
    let error = log.reader(1).read(Duration::from_secs(10)).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.to_string().contains("fsync the journal"), "{error}");
    drop(log);
    // What was in doubt is there once, whether the first try or the second one wrote it.
    let mut log = open(dir.path(), 0);
    assert_eq!(append(&mut log, "b", 1, Some("b")), receipt(1, 1));
    assert_eq!(lines(&log, 0), ["a.0", "b.0"]);
}

#[test]
fn a_full_disk_does_not_keep_segments_without_live_keys_from_going() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::new());
    let mut log = Log::open(disk.clone(), settings(dir.path()), None).unwrap();
    for n in 0..20 {
        append(&mut log, &format!("r{n}"), 1, (n > 10).then(|| format!("k{n}")).as_deref()).unwrap();
    }
    let before = segments(dir.path()).len();
    disk.room.store(0, Ordering::SeqCst);
    log.release(20);
    let kept = segments(dir.path()).len();
    assert!(1 < kept && kept < before, "{kept} of {before}");
    disk.room.store(u64::MAX, Ordering::SeqCst);
    log.release(20);
    assert_eq!(append(&mut log, "r15", 1, Some("k15")), receipt(15, 1));
    assert!(segments(dir.path()).len() <= 2, "{:?}", segments(dir.path()));
    drop(log);
    assert_eq!(append(&mut open(dir.path(), 20), "r11", 1, Some("k11")), receipt(11, 1));
}
