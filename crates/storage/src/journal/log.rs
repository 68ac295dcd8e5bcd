//! The log: what is written to the segments and when, and which may go.
//!
//! Owns: the order of writes, fsyncs and removals, so that what was answered survives and what was not leaves no trace.
//! Does not own: who asks (see `writer`), what happens at start (see `open`), reading (see `reader`).
//!
//! Blocking, and without a thread of its own.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use pintail_core::error::{Error, Result};
use tracing::{debug, warn};

use super::frame::{Fingerprint, HEADER, Head, Kind, Mark};
use super::keys::{Keys, Known};
use super::new_segment::NewSegment;
use super::opening::Opening;
use super::reader::Reader;
use super::running::Running;
use super::segment::{self, Header, Previous};
use super::shared::{Extent, Shared};
use super::tail::Zeros;
use super::time::Stamp;
use super::{AppendError, Committed, Receipt, Request, Settings};
use crate::durable::disk_state::is_full;
use crate::durable::fs::{Fs, FsFile};

/// Bytes of frames that are collected before they are handed to the disk.
const WRITE_BYTES: usize = 4 << 20;

/// Keys that are carried in one group.
const CARRIED_TOGETHER: usize = 20_000;

/// A journal open for writing.
#[derive(Debug)]
pub struct Log {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) settings: Settings,
    pub(super) shared: Arc<Shared>,
    pub(super) file: Box<dyn FsFile>,
    pub(super) mark: Mark,
    /// A write to the newest segment failed: it must not be written again.
    pub(super) broken: bool,
    /// Length of the newest segment when it got its name.
    pub(super) named_with: u64,
    /// The moment that was kept last.
    pub(super) stamp: Stamp,
    pub(super) keys: Keys,
    /// Everything before it is committed and published.
    pub(super) released: u64,
}

/// What a request comes to, as far as it is known before the write.
enum Planned {
    Answered(Result<Receipt, AppendError>),
    /// As the frame of this number, if its body is this one.
    Frame(usize, Fingerprint),
}

impl Log {
    /// Opens the journal, makes it if there is none, and cuts off what was never answered.
    ///
    /// # Errors
    /// `State` if it contradicts itself or what is committed, `Config` if its limits do.
    pub fn open(fs: Arc<dyn Fs>, settings: Settings, committed: impl Into<Committed>) -> Result<Self> {
        super::open::open(fs, settings, &committed.into())
    }

    /// Begins to read at `from`, which is not before the last release.
    pub fn reader(&self, from: u64) -> Reader {
        Reader::new(self.shared(), from)
    }

    /// Returns what readers look at.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Appends requests as one group, with one fsync. Returns what became of each, in their order.
    pub fn append(&mut self, requests: &[Request]) -> Vec<Result<Receipt, AppendError>> {
        if self.shared.stopped().is_some() {
            return vec![Err(AppendError::Stopped); requests.len()];
        }
        let (plan, frames) = self.plan(requests);
        let written = if frames.is_empty() { Ok(()) } else { self.write_records(&frames) };
        let answer = |planned| match planned {
            Planned::Answered(answer) => answer,
            Planned::Frame(at, digest) => written.and_then(|()| {
                let (head, _): &(Head, Bytes) = &frames[at];
                if head.digest == digest { Ok(receipt(head)) } else { Err(AppendError::Conflict) }
            }),
        };
        plan.into_iter().map(answer).collect()
    }

    /// Records that everything before `committed` is committed and published: removes the segments that hold nothing else, oldest
    /// first, their live keys carried on before. Where something is in the way, the next release tries again.
    pub fn release(&mut self, committed: u64) {
        self.released = self.released.max(committed);
        if self.shared.stopped().is_none() {
            self.remove_released();
        }
    }

    /// Finds for each request the frame that it becomes, or its answer.
    fn plan(&mut self, requests: &[Request]) -> (Vec<Planned>, Vec<(Head, Bytes)>) {
        let (mut plan, mut frames, mut in_group) = (Vec::new(), Vec::<(Head, Bytes)>::new(), HashMap::new());
        let (mut offset, mut bytes) = (self.shared.end(), 0);
        self.stamp = self.stamp.then(self.settings.clocks.read());
        let at_ms = self.stamp.at_ms;
        self.keys.expire(at_ms);
        for request in requests {
            if let Some(known) = request.key.and_then(|key| self.keys.get(key)) {
                let same = known.digest == request.digest || Some(known.digest) == request.former;
                plan.push(Planned::Answered(if same { Ok(known.receipt) } else { Err(AppendError::Conflict) }));
                continue;
            }
            if let Some(at) = request.key.and_then(|key| in_group.get(&key)) {
                plan.push(Planned::Frame(*at, request.digest));
                continue;
            }
            let length = request.body.len() as u64;
            if let Err(refused) = self.check_limit(bytes + 2 * HEADER as u64 + length) {
                plan.push(Planned::Answered(Err(refused)));
                continue;
            }
            let (kind, records, key, digest) = (Kind::Records(request.form), request.records, request.key, request.digest);
            let head = Head { group: 0, left: 0, kind, offset, records, at_ms, key, digest, length };
            offset += records;
            bytes += head.frame_bytes();
            in_group.extend(key.map(|key| (key, frames.len())));
            plan.push(Planned::Frame(frames.len(), digest));
            frames.push((head, request.body.clone()));
        }
        (plan, frames)
    }

    /// Returns whether so many bytes may be added.
    fn check_limit(&mut self, bytes: u64) -> Result<(), AppendError> {
        let fits = |log: &Self| {
            let header = if log.is_segment_due() { segment::HEADER_BYTES + HEADER as u64 } else { 0 };
            log.shared.bytes() + header + bytes <= log.settings.bytes_max
        };
        if fits(self) {
            return Ok(());
        }
        // An idle line releases nothing more: what is released already must be able to go now.
        self.remove_released();
        if fits(self) { Ok(()) } else { Err(AppendError::Full) }
    }

    fn write_records(&mut self, frames: &[(Head, Bytes)]) -> Result<(), AppendError> {
        if self.shared.stopped().is_some() {
            return Err(AppendError::Stopped);
        }
        if self.is_segment_due() {
            self.roll()?;
        }
        let bytes = self.write_group(frames)?;
        self.check_own()?;
        let newest = self.shared.newest().segment;
        frames.iter().for_each(|(head, _)| self.keys.insert(head, newest));
        let (last, _) = frames.last().expect("a group has a frame");
        let running = frames.iter().fold(self.shared.durable().running, |running, (head, _)| running.behind(head));
        self.shared.grow(bytes, (last.offset + last.records, running));
        Ok(())
    }

    /// Returns whether the newest segment is full, or must not be written.
    fn is_segment_due(&self) -> bool {
        self.broken || self.shared.newest().end >= self.settings.segment_bytes
    }

    /// Ends the newest segment: what it holds is then known to be durable by the header of the next one, whatever becomes of it at rest.
    /// For an orderly end; more may be appended.
    pub fn close(&mut self) {
        let wanted = self.shared.stopped().is_none() && (self.broken || self.shared.newest().end > self.named_with);
        // Where there is no room, the end is as after a kill.
        if wanted && self.roll().is_ok() {
            debug!("journal closed");
        }
    }

    fn roll(&mut self) -> Result<(), AppendError> {
        let (newest, durable) = (self.shared.newest(), self.shared.durable());
        self.stamp = self.stamp.then(self.settings.clocks.read());
        let previous = Previous { segment: newest.segment, bytes: newest.end };
        let header =
            Header::new(&self.settings.dataset_id, newest.segment + 1, durable.offset, Some(previous), durable.running, self.stamp);
        let begun = NewSegment::begin(&*self.fs, &self.settings.dir, &header).and_then(NewSegment::sync);
        let segment = begun.map_err(|error| self.refuse("begin a segment of the journal", error))?;
        // The name is in doubt after an error here: nothing can be built on it.
        let (file, end) = segment.name().map_err(|error| self.stop("name a segment of the journal", error))?;
        let ended = self.end_newest(&durable.running);
        let (segment, begin) = (header.segment, header.begin());
        self.shared.push(Extent { segment, begin, first_offset: header.first_offset, end, bytes: end });
        (self.file, self.mark, self.broken, self.named_with) = (file, header.mark(), false, end);
        debug!(segment, first_offset = header.first_offset, "journal segment begun");
        ended
    }

    /// Writes into the newest segment, behind what counts, that it is followed: without the next one, no start is possible. In a segment that
    /// must not be written, or cannot, it is left out.
    fn end_newest(&mut self, running: &Running) -> Result<(), AppendError> {
        if self.broken {
            return Ok(());
        }
        let group = self.shared.newest().end;
        let end = Opening { group, frames: 0, length: 0, zeros: 0, running: *running, stamp: self.stamp };
        self.shared.waste(HEADER as u64);
        match self.file.write_all(&end.encode(self.mark)) {
            Ok(()) => self.file.sync().map_err(|error| self.stop("fsync the journal", error)),
            Err(error) if is_full(&error) => Ok(()),
            Err(error) => Err(self.stop("write to the journal", error)),
        }
    }

    /// Writes a group behind the newest segment's durable end and makes it durable. Returns its length.
    ///
    /// A group that is not whole is none: if the write ends halfway, nothing of it is left, at no start.
    fn write_group(&mut self, frames: &[(Head, Bytes)]) -> Result<u64, AppendError> {
        assert!(!self.broken, "a segment is not written after a failed write");
        let opening = self.opening(frames);
        let bytes = HEADER as u64 + opening.length;
        let mut buffer = Vec::with_capacity(usize::try_from(bytes).unwrap_or(WRITE_BYTES).min(2 * WRITE_BYTES));
        buffer.extend_from_slice(&opening.encode(self.mark));
        let mut written = Ok(());
        for (head, body) in placed(frames, opening.group) {
            buffer.extend_from_slice(&head.encode(self.mark));
            buffer.extend_from_slice(body);
            if buffer.len() >= WRITE_BYTES || head.left == 0 {
                written = written.and_then(|()| self.file.write_all(&buffer));
                buffer.clear();
            }
        }
        if let Err(error) = written {
            self.broken = true;
            self.shared.waste(bytes);
            return Err(self.refuse("write to the journal", error));
        }
        // Never twice on the same file, and not on another one either: whether the disk still keeps its word, a person must see.
        self.file.sync().map_err(|error| self.stop("fsync the journal", error))?;
        Ok(bytes)
    }

    /// Checks that what was written is where a start looks for it. Until the next commit nothing else tells that another process has taken over.
    fn check_own(&self) -> Result<(), AppendError> {
        let newest = self.shared.newest().segment;
        let path = segment::path(&self.settings.dir, newest);
        let looked = self.file.identity().and_then(|own| Ok((own, self.fs.identity(&path)?)));
        let (own, there) = looked.map_err(|error| self.stop("look at a segment", error))?;
        if there.is_some_and(|there| (there.device, there.inode) == (own.device, own.inode)) {
            return Ok(());
        }
        let next = self.fs.entry(&segment::path(&self.settings.dir, newest + 1)).ok().flatten();
        let path = path.display();
        Err(self.stop_for(match next {
            Some(_) => Error::try_again(format!(
                "another process has opened the journal and goes on behind `{path}`: this one accepts nothing more; run one process on a dataset"
            )),
            None => Error::state(format!(
                "`{path}` is not the file any more that this process writes: somebody removed it, or put another in its place; nothing more is \
                 accepted; what was accepted since is in no file: stop the service before the journal is touched"
            )),
        }))
    }

    /// Makes the opening of a group at the newest segment's end.
    fn opening(&self, frames: &[(Head, Bytes)]) -> Opening {
        let durable = self.shared.durable();
        let mut zeros = Zeros::behind(durable.bytes + HEADER as u64);
        for (head, body) in placed(frames, durable.bytes) {
            zeros.take(&head.encode(self.mark));
            zeros.take(body);
        }
        let length = frames.iter().map(|(head, _)| head.frame_bytes()).sum();
        let frames = u32::try_from(frames.len()).expect("the writer bounds a group");
        Opening { group: durable.bytes, frames, length, zeros: zeros.count(), running: durable.running, stamp: self.stamp }
    }

    /// Removes what is released, as long as nothing is in the way.
    fn remove_released(&mut self) {
        // What is carried now does not go now, or keys that fill a segment would be carried in circles.
        for _ in 1..self.shared.segments() {
            let Some((oldest, next)) = self.shared.oldest_two() else { return };
            if next.begin > self.released || self.remove_oldest(&oldest).is_err() {
                return;
            }
        }
    }

    fn remove_oldest(&mut self, oldest: &Extent) -> Result<(), AppendError> {
        for keys in self.keys.of_segment(oldest.segment).chunks(CARRIED_TOGETHER) {
            self.carry(keys)?;
        }
        let path = segment::path(&self.settings.dir, oldest.segment);
        self.fs.remove_file(&path).map_err(|error| self.refuse("remove a segment of the journal", error))?;
        // Durable before the next one goes: a younger segment must not be gone while this one comes back.
        self.fs.sync_dir(&self.settings.dir).map_err(|error| self.stop("fsync the directory of the journal", error))?;
        self.shared.pop_oldest();
        debug!(segment = oldest.segment, "journal segment removed");
        Ok(())
    }

    fn carry(&mut self, keys: &[(Fingerprint, Known)]) -> Result<(), AppendError> {
        if self.broken {
            self.roll()?;
        }
        let frames: Vec<_> = keys.iter().map(|(key, known)| (carried(*key, known), Bytes::new())).collect();
        let bytes = self.write_group(&frames)?;
        self.keys.moved(keys, self.shared.newest().segment);
        let durable = self.shared.durable();
        self.shared.grow(bytes, (durable.offset, durable.running));
        Ok(())
    }

    /// Makes of an error what it means: a full disk is waited out by the clients, everything else stops the journal.
    fn refuse(&self, doing: &str, error: io::Error) -> AppendError {
        if !is_full(&error) {
            return self.stop(doing, error);
        }
        warn!(doing, %error, "no room for the journal");
        AppendError::NoRoom
    }

    fn stop(&self, doing: &str, error: io::Error) -> AppendError {
        self.stop_for(Error::io(format_args!("{doing} in `{}`", self.settings.dir.display()), error))
    }

    fn stop_for(&self, error: Error) -> AppendError {
        tracing::error!(%error, "the journal has stopped");
        self.shared.stop(&error);
        AppendError::Stopped
    }
}

/// Returns the frames of a group with their places in it.
fn placed(frames: &[(Head, Bytes)], group: u64) -> impl Iterator<Item = (Head, &Bytes)> {
    let last = u32::try_from(frames.len()).expect("the writer bounds a group") - 1;
    (0..=last).rev().zip(frames).map(move |(left, (head, body))| (Head { group, left, ..*head }, body))
}

fn receipt(head: &Head) -> Receipt {
    Receipt { offset: head.offset, records: head.records }
}

fn carried(key: Fingerprint, known: &Known) -> Head {
    let Receipt { offset, records } = known.receipt;
    let (kind, at_ms, digest) = (Kind::CarriedKey, known.at_ms, known.digest);
    Head { group: 0, left: 0, kind, offset, records, at_ms, key: Some(key), digest, length: 0 }
}
