//! Chunks: the journal read for the line.
//!
//! Owns: the cut of a request that was read in part before a restart, records that are too long, joining small requests, and what a chunk
//! says of the journal (its evidence, and what was given up).
//! Does not own: waiting for what is durable (see `journal::reader`), decoding.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use memchr::{memchr, memchr_iter};
use pintail_core::batch::{Chunk, OffsetUnit, Records};
use pintail_core::error::{Error, Result};
use pintail_core::evidence::{Evidence, Key};
use pintail_core::messages::{Message, PayloadsBuilder};
use pintail_core::offsets::{Note, NoteKind, OffsetRange, Partition};
use pintail_core::schema::EventSchema;
use pintail_storage::journal::reader::{Reader, Recorded};
use pintail_storage::journal::segment::Lost;
use pintail_storage::journal::{Form, payloads};
use tracing::warn;

use super::rows::{self, Run};
use crate::lines::{HEAD_BYTES_MAX, whole_lines};
use crate::resume::carried;
use crate::thread::{ChunkSender, Exit};

/// Bytes of a chunk. Each chunk wakes two stages, which smaller ones would do too often.
const CHUNK_BYTES: usize = 512 << 10;

/// A request below this is joined with its neighbours, if they are there already.
const SMALL_BYTES: usize = 64 << 10;

/// How long the thread waits before it looks whether it is still wanted.
const WAIT: Duration = Duration::from_millis(100);

/// Reads the journal.
#[derive(Debug)]
pub(super) struct Chunks {
    reader: Reader,
    partition: Arc<Partition>,
    record_bytes_max: usize,
    schema: EventSchema,
    key: Key,
    /// What stands behind what was read.
    evidence: Option<Arc<Evidence>>,
    /// What is handed on together, and the offset of the first record.
    small: Gathered,
    small_from: u64,
    /// Where the requests begin that it is from.
    small_requests: Vec<u64>,
}

/// Records of one form.
#[derive(Debug)]
enum Gathered {
    /// Small requests of lines.
    Lines(Vec<u8>),
    /// Payloads of requests of any size.
    Payloads(Box<PayloadsBuilder>),
}

impl Default for Gathered {
    fn default() -> Self {
        Self::Lines(Vec::new())
    }
}

impl Gathered {
    fn is_empty(&self) -> bool {
        match self {
            Self::Lines(lines) => lines.is_empty(),
            Self::Payloads(payloads) => payloads.is_empty(),
        }
    }
}

impl Chunks {
    /// Takes a reader that stands where the last commit record ends.
    pub(super) fn new(reader: Reader, partition: Arc<Partition>, record_bytes_max: usize, schema: EventSchema, key: Key) -> Self {
        Self {
            reader,
            partition,
            record_bytes_max,
            schema,
            key,
            evidence: None,
            small: Gathered::default(),
            small_from: 0,
            small_requests: Vec::new(),
        }
    }

    /// Returns a chunk that says what stands before `next`, for a commit record that does not say it yet.
    pub(super) fn accepted(&self, next: u64) -> Chunk {
        let text = format!("the journal is taken over at offset {next}, from a commit record of version 1");
        let note = Note { kind: NoteKind::Accepted, text, lost: None };
        let evidence = Arc::new(self.reader.evidence_at_start(&self.key));
        carried(self.partition.clone(), (next, next), OffsetUnit::Records, Some(evidence), vec![note])
    }

    /// Reads until nobody wants more.
    pub(super) fn run(mut self, sender: &ChunkSender) -> Result<(), Exit> {
        loop {
            sender.check_stop()?;
            match self.reader.read(Duration::ZERO)? {
                Some(recorded) => self.take(recorded, &mut |chunk| sender.send(chunk))?,
                None => {
                    self.hand_on_small(&mut |chunk| sender.send(chunk))?;
                    sender.at_rest(|| self.reader.wait(WAIT))?;
                }
            }
        }
    }

    fn take(&mut self, recorded: Recorded, send: &mut impl FnMut(Chunk) -> Result<(), Exit>) -> Result<(), Exit> {
        let from = recorded.offset + recorded.skip;
        // Each part of a request that is cut says what stands behind the whole of it: all of it is durable.
        self.evidence = Some(Arc::new(self.reader.evidence(&recorded, &self.key)));
        if let Some(lost) = recorded.lost {
            self.hand_on_small(send)?;
            return self.send_lost(lost, from, send);
        }
        match recorded.form {
            Form::Lines => {
                let lines = without(recorded.body, recorded.skip);
                if lines.len() > SMALL_BYTES {
                    self.hand_on_small(send)?;
                    return self.send_lines(lines, from, &[recorded.offset].into(), send);
                }
                self.take_small(&lines, recorded.offset, from, send)
            }
            Form::Payloads => self.take_payloads(&recorded, send),
            Form::Arrow => {
                self.hand_on_small(send)?;
                self.send_rows(recorded, from, send)
            }
        }
    }

    fn take_small(&mut self, lines: &[u8], request: u64, from: u64, send: &mut impl FnMut(Chunk) -> Result<(), Exit>) -> Result<(), Exit> {
        if !matches!(self.small, Gathered::Lines(_)) {
            self.hand_on_small(send)?;
        }
        self.note_place(request, from);
        let Gathered::Lines(small) = &mut self.small else { unreachable!("what was gathered is handed on") };
        small.extend_from_slice(lines);
        if small.len() > CHUNK_BYTES - SMALL_BYTES { self.hand_on_small(send) } else { Ok(()) }
    }

    fn take_payloads(&mut self, recorded: &Recorded, send: &mut impl FnMut(Chunk) -> Result<(), Exit>) -> Result<(), Exit> {
        let skip = usize::try_from(recorded.skip).expect("a request has fewer records than bytes of memory");
        for (offset, payload) in (recorded.offset..).zip(payloads::each(&recorded.body)).skip(skip) {
            if payload.len() > self.record_bytes_max {
                self.hand_on_small(send)?;
                let head = Bytes::copy_from_slice(&payload[..payload.len().min(HEAD_BYTES_MAX)]);
                let records = Records::TooLong { head, length: payload.len() as u64, message: None };
                self.send(records, offset, offset + 1, &[recorded.offset].into(), send)?;
                continue;
            }
            if !matches!(self.small, Gathered::Payloads(_)) {
                self.hand_on_small(send)?;
                self.small = Gathered::Payloads(Box::default());
            }
            self.note_place(recorded.offset, offset);
            let Gathered::Payloads(small) = &mut self.small else { unreachable!("payloads are gathered") };
            small.push(offset, &Message { payload: Some(payload), ..Message::default() });
            if small.bytes() >= CHUNK_BYTES {
                self.hand_on_small(send)?;
            }
        }
        Ok(())
    }

    /// Records that a record of `request` is gathered next, which stands at `offset`.
    fn note_place(&mut self, request: u64, offset: u64) {
        if self.small.is_empty() {
            self.small_from = offset;
        }
        if self.small_requests.last() != Some(&request) {
            self.small_requests.push(request);
        }
    }

    fn hand_on_small(&mut self, send: &mut impl FnMut(Chunk) -> Result<(), Exit>) -> Result<(), Exit> {
        let requests = std::mem::take(&mut self.small_requests).into();
        let from = self.small_from;
        match std::mem::take(&mut self.small) {
            Gathered::Lines(lines) => self.send_lines(lines.into(), from, &requests, send),
            Gathered::Payloads(payloads) if payloads.is_empty() => Ok(()),
            Gathered::Payloads(mut payloads) => {
                let to = from + payloads.len() as u64;
                self.send(Records::Payloads(payloads.finish()), from, to, &requests, send)
            }
        }
    }

    /// Sends lines, each with its end, in chunks.
    fn send_lines(
        &self,
        mut lines: Bytes,
        mut from: u64,
        requests: &Arc<[u64]>,
        send: &mut impl FnMut(Chunk) -> Result<(), Exit>,
    ) -> Result<(), Exit> {
        while !lines.is_empty() {
            let window = lines.len().min(CHUNK_BYTES.max(self.record_bytes_max + 1));
            let (records, count) = match whole_lines(&lines[..window], self.record_bytes_max) {
                0 => {
                    let end = memchr(b'\n', &lines).expect("each line in the journal has its end");
                    let line = lines.split_to(end + 1);
                    (Records::TooLong { head: line.slice(..end.min(HEAD_BYTES_MAX)), length: end as u64, message: None }, 1)
                }
                whole => {
                    let lines = lines.split_to(whole);
                    let count = memchr_iter(b'\n', &lines).count() as u64;
                    (Records::Lines(lines), count)
                }
            };
            self.send(records, from, from + count, requests, send)?;
            from += count;
        }
        Ok(())
    }

    fn send_rows(&self, recorded: Recorded, mut from: u64, send: &mut impl FnMut(Chunk) -> Result<(), Exit>) -> Result<(), Exit> {
        let offset = recorded.offset;
        let failed = |e| Error::internal(format!("the Arrow stream at offset {offset} of the journal cannot be read again")).with_source(e);
        let requests = [offset].into();
        let mut skip = usize::try_from(recorded.skip).expect("a request has fewer rows than bytes of memory");
        for batch in rows::read(recorded.body).map_err(failed)? {
            let batch = batch.map_err(failed)?;
            let skipped = skip.min(batch.num_rows());
            skip -= skipped;
            let batch = batch.slice(skipped, batch.num_rows() - skipped);
            for run in rows::runs(&batch, &self.schema).map_err(failed)? {
                match run {
                    Run::Rows(rows) => {
                        let to = from + rows.num_rows() as u64;
                        self.send(Records::Arrow(rows), from, to, &requests, send)?;
                        from = to;
                    }
                    Run::Lines(lines) => {
                        let count = memchr_iter(b'\n', &lines).count() as u64;
                        self.send_lines(lines, from, &requests, send)?;
                        from += count;
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends a chunk without records over offsets that a repair of the journal gave up.
    fn send_lost(&self, lost: Lost, from: u64, send: &mut impl FnMut(Chunk) -> Result<(), Exit>) -> Result<(), Exit> {
        let to = lost.to;
        let text = format!("the journal lost the accepted records of offsets {from} to {to}, as its repair says");
        warn!(from, to, counted = lost.counted, "accepted records are lost: the journal was repaired");
        let note = Note { kind: NoteKind::Gap, text, lost: lost.counted.then_some(to - from) };
        send(carried(self.partition.clone(), (from, to), OffsetUnit::Records, self.evidence.clone(), vec![note]))
    }

    fn range(&self, from: u64, to: u64) -> OffsetRange {
        OffsetRange { evidence: self.evidence.clone(), ..OffsetRange::new(self.partition.clone(), from, to) }
    }

    fn send(
        &self,
        records: Records,
        from: u64,
        to: u64,
        requests: &Arc<[u64]>,
        send: &mut impl FnMut(Chunk) -> Result<(), Exit>,
    ) -> Result<(), Exit> {
        send(Chunk { requests: Some(requests.clone()), ..Chunk::new(records, self.range(from, to), OffsetUnit::Records) })
    }
}

/// Takes lines off the front.
fn without(mut lines: Bytes, skip: u64) -> Bytes {
    if skip > 0 {
        let last = usize::try_from(skip - 1).expect("a request has fewer lines than bytes of memory");
        let end = memchr_iter(b'\n', &lines).nth(last).expect("the request has more lines than were read before");
        drop(lines.split_to(end + 1));
    }
    lines
}

#[cfg(test)]
mod tests;
