//! Archive: the content of a compressed file.
//!
//! Owns: members of gzip and frames of zstd one behind another, and what may stand behind the last: nothing, or zeros, which pad it.
//! Does not own: how a file is compressed (see [`Compression::tell`]), what becomes of a damaged one (see `aside`).

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use flate2::bufread::GzDecoder;

use super::input::{At, COMPRESSED_BUFFER_BYTES, Compression};

/// The content of a compressed file.
pub(super) struct Archive {
    compression: Compression,
    file: Arc<File>,
    /// `None` only while one part takes the place of another, and for good if that failed.
    part: Option<Part>,
}

enum Part {
    /// Before the first member, or behind one.
    Between(BufReader<At>),
    Gzip(Box<GzDecoder<BufReader<At>>>),
    Zstd(zstd::Decoder<'static, BufReader<At>>),
    End,
}

impl Archive {
    pub(super) fn new(file: BufReader<At>, compression: Compression) -> Self {
        Self { compression, file: file.get_ref().file.clone(), part: Some(Part::Between(file)) }
    }

    /// Returns the file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(part) = self.part.as_mut() else { return Err(io::Error::other("its decoder could not be made")) };
            let read = match part {
                Part::Between(file) => {
                    let is_over = is_over(file)?;
                    let Some(Part::Between(file)) = self.part.take() else { unreachable!("matched just now") };
                    self.part = Some(if is_over { Part::End } else { Part::begin(file, self.compression)? });
                    continue;
                }
                Part::End => return Ok(0),
                Part::Gzip(decoder) => decoder.read(buffer)?,
                Part::Zstd(decoder) => decoder.read(buffer)?,
            };
            if read > 0 {
                return Ok(read);
            }
            self.part = self.part.take().map(Part::end);
        }
    }
}

impl Part {
    fn begin(file: BufReader<At>, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::Zstd => Self::Zstd(zstd::Decoder::with_buffer(file)?.single_frame()),
            Compression::Gzip | Compression::None => Self::Gzip(Box::new(GzDecoder::new(file))),
        })
    }

    fn end(self) -> Self {
        match self {
            Self::Gzip(decoder) => Self::Between(decoder.into_inner()),
            Self::Zstd(decoder) => Self::Between(decoder.finish()),
            part => part,
        }
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("compression", &self.compression).finish_non_exhaustive()
    }
}

/// Returns whether nothing more is compressed in a file: it ends here, or all the rest is zeros. What else stands there is another member, or damage,
/// which its decoder says.
fn is_over(file: &mut BufReader<At>) -> io::Result<bool> {
    let next = file.fill_buf()?;
    if next.first().is_some_and(|byte| *byte != 0) {
        return Ok(false);
    }
    let mut at = file.get_ref().clone_at(file.buffer().len());
    let mut bytes = vec![0; COMPRESSED_BUFFER_BYTES];
    loop {
        match at.read(&mut bytes) {
            Ok(0) => return Ok(true),
            Ok(read) if bytes[..read].iter().all(|byte| *byte == 0) => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads all of a compressed file, and says of what it decompresses how much that is. `go_on` is asked again and again.
///
/// # Errors
/// What is wrong with it: damaged, or not whole. And what `go_on` returns.
pub(super) fn check<E: From<io::Error>>(mut archive: impl Read, mut go_on: impl FnMut() -> Result<(), E>) -> Result<u64, E> {
    let (mut bytes, mut length) = (vec![0; COMPRESSED_BUFFER_BYTES], 0);
    loop {
        go_on()?;
        match archive.read(&mut bytes) {
            Ok(0) => return Ok(length),
            Ok(read) => length += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The disk's own error says nothing of the content.
            Err(error) if error.raw_os_error().is_some() => return Err(error.into()),
            Err(error) => {
                return Err(
                    io::Error::new(error.kind(), format!("damaged or not whole behind byte {length} of its content: {error}")).into()
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(fn() -> io::Error);

    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(self.0())
        }
    }

    #[test]
    fn an_error_of_the_disk_is_not_taken_for_damage_of_the_content() {
        let check = |error| check::<io::Error>(Failing(error), || Ok(())).unwrap_err().raw_os_error();
        assert_eq!(check(|| io::Error::from_raw_os_error(5)), Some(5));
        assert_eq!(check(|| io::Error::other("corrupt")), None);
    }
}
