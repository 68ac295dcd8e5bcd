//! Standard input: NDJSON from a pipe.
//!
//! Owns: reading promptly (what has arrived is handed on, no buffer is waited for), counting lines.
//! Does not own: replay. A pipe cannot be read twice: what was committed is in the dataset once, what the pipe of a dead process held
//! is gone.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pintail_core::batch::{Chunk, OffsetUnit};
use pintail_core::error::{Error, Result};
use pintail_core::offsets::{OffsetRange, Offsets, Partition, PartitionId};

use super::Source;
use super::lines::{LineReader, Piece, Unterminated};
use super::thread::{ChunkSender, Exit, ReadThread};
use crate::Resume;
use crate::kind::{Configured, Kind, Surroundings};

/// The only partition, and the kind in the identity.
const NAME: &str = "stdin";

/// Time between two tries when the shell gave us a pipe that does not block.
pub(crate) const RETRY: Duration = Duration::from_millis(10);

/// The kind.
pub(crate) const KIND: Kind = Kind { name: NAME, keys: &[], read: |_, _| Box::new(StdinConfig), owns: None };

/// `source.type = "stdin"`: it has no settings.
#[derive(Debug, Clone, Copy)]
pub struct StdinConfig;

impl Configured for StdinConfig {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn accepting_gaps(&self) -> Box<dyn Configured> {
        Box::new(*self)
    }

    fn open(&self, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Box<dyn Source>> {
        Ok(Box::new(Stdin::open(around.record_bytes_max, resume.offsets)?))
    }

    fn check(&self, _around: &Surroundings<'_>, _resume: &Resume<'_>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Lines of standard input, numbered on from the committed offset. Read on a plain thread, which is left behind when the process leaves:
/// a blocked `read` cannot hold up a stop.
#[derive(Debug)]
pub struct Stdin {
    thread: ReadThread,
}

impl Stdin {
    /// Begins to read.
    pub fn open(record_bytes_max: usize, offsets: &Offsets) -> Result<Self> {
        // A descriptor of our own: std's handle has a lock and a small buffer between.
        let input = rustix::stdio::stdin().try_clone_to_owned().map_err(|e| Error::io("open standard input", e))?;
        Self::over(File::from(input), record_bytes_max, offsets)
    }

    fn over(input: impl Read + Send + 'static, record_bytes_max: usize, offsets: &Offsets) -> Result<Self> {
        let partition = Arc::new(Partition { id: PartitionId::new(NAME), label: NAME.into() });
        let next = offsets.next_offset(&partition.id).unwrap_or(0);
        let lines = LineReader::new(input, record_bytes_max);
        let thread = ReadThread::spawn(NAME, move |sender| read_lines(lines, &partition, next, sender))?;
        Ok(Self { thread })
    }
}

#[async_trait]
impl Source for Stdin {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        self.thread.recv().await
    }

    fn reads_again(&self) -> bool {
        false
    }

    async fn stop(&mut self) -> Result<Vec<Chunk>> {
        self.thread.drain().await
    }
}

/// Reads the next piece of standard input, and waits where that has nothing yet. `place` says behind what it was read, where it cannot be; `None` at the end.
pub(crate) fn next_piece(
    lines: &mut LineReader<impl Read>,
    sender: &ChunkSender,
    place: impl FnOnce() -> String,
) -> Result<Option<Piece>, Exit> {
    loop {
        sender.check_stop()?;
        match lines.next(Unterminated::Record) {
            Ok(piece) => return Ok(piece),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => sender.sleep(RETRY)?,
            Err(e) => return Err(Error::io(format_args!("read standard input after {}", place()), e).into()),
        }
    }
}

fn read_lines(mut lines: LineReader<impl Read>, partition: &Arc<Partition>, from: u64, sender: &ChunkSender) -> Result<(), Exit> {
    let mut from = from;
    while let Some(piece) = next_piece(&mut lines, sender, || format!("line {from}"))? {
        if piece.is_padding() {
            continue;
        }
        let to = from + piece.lines();
        let range = OffsetRange::new(partition.clone(), from, to);
        sender.send(Chunk::new(piece.records, range, OffsetUnit::Records))?;
        from = to;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use bytes::Bytes;
    use pintail_core::batch::Records;
    use pintail_core::error::ErrorKind;
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn next(source: &mut Stdin) -> Option<(Bytes, u64, u64)> {
        let chunk = timeout(PATIENCE, source.read()).await.expect("nothing came").unwrap()?;
        let Records::Lines(lines) = chunk.records else { panic!("not lines: {chunk:?}") };
        Some((lines, chunk.range.from, chunk.range.to))
    }

    #[tokio::test]
    async fn a_line_in_a_slow_pipe_comes_at_once_and_the_end_brings_the_unfinished_one() {
        let (input, mut writer) = io::pipe().unwrap();
        let mut source = Stdin::over(input, 100, &Offsets::default()).unwrap();
        writer.write_all(b"{\"a\":1}\n{\"a\"").unwrap();
        assert_eq!(next(&mut source).await.unwrap(), (Bytes::from("{\"a\":1}\n"), 0, 1));
        writer.write_all(b":2}\n\n{\"a\":3}").unwrap();
        assert_eq!(next(&mut source).await.unwrap(), (Bytes::from("{\"a\":2}\n\n"), 1, 3));
        drop(writer);
        assert_eq!(next(&mut source).await.unwrap(), (Bytes::from("{\"a\":3}"), 3, 4));
        assert_eq!(next(&mut source).await, None);
    }

    #[tokio::test]
    async fn counting_goes_on_at_the_committed_offset() {
        let mut offsets = Offsets::default();
        let partition = Arc::new(Partition { id: PartitionId::new(NAME), label: NAME.into() });
        offsets.extend(&OffsetRange::new(partition, 0, 41)).unwrap();
        let mut source = Stdin::over(&b"a\nb\n"[..], 100, &offsets).unwrap();
        assert_eq!(next(&mut source).await.unwrap(), (Bytes::from("a\nb\n"), 41, 43));
    }

    #[tokio::test]
    async fn zeros_before_a_line_are_no_line() {
        let input = [&b"a\n"[..], &[0; 200_000], b"b\n", &[0; 7]].concat();
        let mut source = Stdin::over(io::Cursor::new(input), 100, &Offsets::default()).unwrap();
        let mut read = Vec::new();
        while let Some((lines, from, to)) = next(&mut source).await {
            read.push((lines, from, to));
        }
        assert_eq!(read, [(Bytes::from("a\n"), 0, 1), (Bytes::from("b\n"), 1, 2)]);
    }

    #[tokio::test]
    async fn a_pipe_that_does_not_block_is_waited_for() {
        let (input, mut writer) = UnixStream::pair().unwrap();
        input.set_nonblocking(true).unwrap();
        let mut source = Stdin::over(input, 100, &Offsets::default()).unwrap();
        assert!(timeout(Duration::from_millis(50), source.read()).await.is_err());
        writer.write_all(b"a\n").unwrap();
        assert_eq!(next(&mut source).await.unwrap().0, "a\n");
    }

    #[tokio::test]
    async fn a_failing_pipe_is_an_io_error_and_no_end() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let mut source = Stdin::over(Broken, 100, &Offsets::default()).unwrap();
        assert_eq!(source.read().await.unwrap_err().kind(), ErrorKind::Io);
    }
}
