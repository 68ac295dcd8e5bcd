//! A pipe that may be a repeat: whoever types a command again pipes the same bytes again, and what of them is committed is passed over.
//!
//! Owns: telling a repeat by its first KiB, passing over what is committed, and comparing all of it.
//! Does not own: a pipe that goes on (see `stdin`): there, what comes is always new.
//!
//! Contents that begin with different KiB are partitions of their own; offsets are bytes. So a second file piped into the same dataset is read whole,
//! and one that has grown is read from where it had ended. What begins alike and then differs is refused before anything of it is handed on.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pintail_core::batch::{Chunk, OffsetUnit};
use pintail_core::error::{Error, Result};
use pintail_core::evidence::{Body, Evidence, Key};
use pintail_core::offsets::{OffsetRange, Partition, PartitionId};

use super::file::trail::Trail;
use super::lines::{LineReader, TAIL_BYTES_MAX, keep_last};
use super::stdin::{RETRY, next_piece};
use super::thread::{ChunkSender, Exit, ReadThread};
use super::{Resume, Source, stdin};
use crate::kind::{Configured, Kind, Surroundings};

/// Bytes that tell contents apart.
pub const HEAD_BYTES: usize = TAIL_BYTES_MAX;

/// What messages call it, and the kind in the identity: that of `stdin`.
const NAME: &str = "stdin";

/// Bytes of a read of what is passed over.
const BLOCK_BYTES: usize = 256 << 10;

/// `source.type = "stdin"`, of which each content is read once.
#[derive(Debug, Clone)]
pub struct Repeated {
    /// What was taken off standard input to look at it: the first [`HEAD_BYTES`] at least, or all.
    pub begun: Bytes,
}

impl Configured for Repeated {
    fn kind(&self) -> &'static Kind {
        &stdin::KIND
    }

    fn accepting_gaps(&self) -> Box<dyn Configured> {
        Box::new(self.clone())
    }

    fn open(&self, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Box<dyn Source>> {
        Ok(Box::new(RepeatedPipe::open(self.begun.clone(), around.record_bytes_max, resume)?))
    }

    fn check(&self, _around: &Surroundings<'_>, _resume: &Resume<'_>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Lines of standard input, each content once.
#[derive(Debug)]
struct RepeatedPipe {
    thread: ReadThread,
}

impl RepeatedPipe {
    /// Begins to read: first `begun`, which was taken off standard input to look at it, then the rest. `begun` has the first [`HEAD_BYTES`], or all.
    ///
    /// # Errors
    /// `Io` if standard input is closed. What contradicts the dataset comes with the first read.
    fn open(begun: Bytes, record_bytes_max: usize, resume: &Resume<'_>) -> Result<Self> {
        let rest = rustix::stdio::stdin().try_clone_to_owned().map_err(|e| Error::io("open standard input", e))?;
        Self::over(begun, File::from(rest), record_bytes_max, resume)
    }

    fn over(begun: Bytes, rest: impl Read + Send + 'static, record_bytes_max: usize, resume: &Resume<'_>) -> Result<Self> {
        let head = &begun[..begun.len().min(HEAD_BYTES)];
        let id = PartitionId::new(format!("{NAME}:{}", resume.key.mark(&[head])));
        let next = resume.offsets.next_offset(&id).unwrap_or(0);
        let read = Reading {
            evidence: resume.offsets.evidence(&id).cloned(),
            partition: Arc::new(Partition { id, label: NAME.into() }),
            key: resume.key.clone(),
            next,
            record_bytes_max,
        };
        let input = io::Cursor::new(begun).chain(rest);
        Ok(Self { thread: ReadThread::spawn(NAME, move |sender| read.run(input, sender))? })
    }
}

#[async_trait]
impl Source for RepeatedPipe {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        self.thread.recv().await
    }

    fn unit(&self) -> OffsetUnit {
        OffsetUnit::Bytes
    }
}

/// Where reading begins.
struct Reading {
    partition: Arc<Partition>,
    evidence: Option<Arc<Evidence>>,
    key: Key,
    next: u64,
    record_bytes_max: usize,
}

impl Reading {
    fn run(mut self, mut input: impl Read, sender: &ChunkSender) -> Result<(), Exit> {
        let (mut trail, body) = self.pass_over(&mut input, sender)?;
        let mut lines = LineReader::new(input, self.record_bytes_max);
        lines.watch(body);
        while let Some(piece) = next_piece(&mut lines, sender, || format!("byte {}", self.next))? {
            trail.push(&piece);
            trail.take_body(lines.body());
            let from = self.next;
            self.next += piece.bytes;
            let range = OffsetRange::new(self.partition.clone(), from, self.next).with_evidence(Arc::new(trail.evidence(NAME, None)));
            sender.send(Chunk::new(piece.records, range, OffsetUnit::Bytes))?;
        }
        Ok(())
    }

    /// Reads what is committed, and compares it with what was read then.
    fn pass_over(&self, input: &mut impl Read, sender: &ChunkSender) -> Result<(Trail, Body), Exit> {
        let (mut head, mut tail, mut body) = (Vec::new(), Vec::new(), Body::new(&self.key));
        let mut block = vec![0; BLOCK_BYTES];
        while body.length() < self.next {
            sender.check_stop()?;
            let wanted = usize::try_from(self.next - body.length()).unwrap_or(usize::MAX).min(block.len());
            let read = match input.read(&mut block[..wanted]) {
                Ok(0) => return Err(self.shorter(body.length()).into()),
                Ok(read) => &block[..read],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    sender.sleep(RETRY)?;
                    continue;
                }
                Err(e) => return Err(Error::io(format_args!("read standard input after byte {}", body.length()), e).into()),
            };
            head.extend_from_slice(&read[..read.len().min(HEAD_BYTES - head.len())]);
            keep_last(&mut tail, read);
            body.push(read);
        }
        let mut trail = Trail::new(&self.key, head, tail, self.next);
        trail.take_body(Some(&body));
        let stands = trail.evidence(NAME, None);
        let is_same = self.evidence.as_ref().is_none_or(|was| was.witnesses == stands.witnesses && was.body == stands.body);
        if is_same { Ok((trail, body)) } else { Err(self.differs().into()) }
    }

    fn shorter(&self, length: u64) -> Error {
        Error::state(format!(
            "standard input begins as what was loaded before, and ends after {length} bytes, where {} were loaded: nothing of it is new. If it is \
             something else, put an empty line before it",
            self.next
        ))
    }

    fn differs(&self) -> Error {
        Error::state(format!(
            "standard input begins as what was loaded before, and differs from it within the {} bytes that were: nothing was loaded. If it is something \
             else, put an empty line before it",
            self.next
        ))
    }
}

#[cfg(test)]
mod tests {
    use pintail_core::batch::Records;
    use pintail_core::error::ErrorKind;
    use pintail_core::offsets::Offsets;

    use super::*;

    fn lines(numbers: std::ops::Range<u32>) -> Vec<u8> {
        numbers.flat_map(|number| format!("{{\"n\":{number}}}\n").into_bytes()).collect()
    }

    /// Pipes a content, of which so many bytes are looked at before; returns what is read, and takes it up as committed.
    async fn pipe(content: &[u8], begun: usize, offsets: &mut Offsets) -> Result<Vec<u8>> {
        let key = Key::new([7; 32]);
        let rest = io::Cursor::new(content[begun..].to_vec());
        let mut source = RepeatedPipe::over(Bytes::copy_from_slice(&content[..begun]), rest, 100, &Resume { offsets, key: &key })?;
        let (mut read, mut ranges) = (Vec::new(), Vec::new());
        while let Some(chunk) = source.read().await? {
            let Records::Lines(lines) = chunk.records else { panic!("{chunk:?}") };
            read.extend_from_slice(&lines);
            ranges.push(chunk.range);
        }
        ranges.iter().for_each(|range| offsets.extend(range).unwrap());
        *offsets = offsets.committed();
        Ok(read)
    }

    #[tokio::test]
    async fn what_is_piped_again_is_read_once_and_what_was_added_to_it_is_read() {
        let (mut offsets, short, long) = (Offsets::default(), lines(0..20_000), lines(0..20_100));
        assert_eq!(pipe(&short, 2_000, &mut offsets).await.unwrap(), short);
        assert_eq!(pipe(&short, 5_000, &mut offsets).await.unwrap(), b"");
        assert_eq!(pipe(&long, 2_000, &mut offsets).await.unwrap(), long[short.len()..]);
        assert_eq!(offsets.spans().len(), 1);
    }

    #[tokio::test]
    async fn contents_that_begin_with_other_bytes_are_read_whole() {
        let mut offsets = Offsets::default();
        for content in [lines(0..3), lines(1..4), lines(0..500), lines(1..500)] {
            let begun = content.len().min(HEAD_BYTES);
            assert_eq!(pipe(&content, begun, &mut offsets).await.unwrap(), content);
            assert_eq!(pipe(&content, begun, &mut offsets).await.unwrap(), b"");
        }
        assert_eq!(offsets.spans().len(), 4);
    }

    #[tokio::test]
    async fn what_begins_alike_and_differs_or_is_shorter_is_refused() {
        let (mut offsets, content) = (Offsets::default(), lines(0..20_000));
        pipe(&content, 2_000, &mut offsets).await.unwrap();
        for at in [1_024, 100_000, content.len() - 2] {
            let mut changed = content.clone();
            changed[at] ^= 1;
            let refused = pipe(&changed, 2_000, &mut offsets).await.unwrap_err();
            assert!(refused.kind() == ErrorKind::State && refused.to_string().contains("an empty line"), "{refused}");
        }
        let refused = pipe(&content[..50_000], 2_000, &mut offsets).await.unwrap_err().to_string();
        assert!(refused.contains("ends after 50000 bytes"), "{refused}");
        let other = [b"\n", &content[..]].concat();
        assert_eq!(pipe(&other, 2_000, &mut offsets).await.unwrap(), other);
    }
}
