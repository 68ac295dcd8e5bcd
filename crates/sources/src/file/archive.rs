//! Archive: the content of a compressed file.
//!
//! Owns: members of gzip and frames of zstd one behind another, what may stand behind the last (nothing, or zeros, which pad it), and saying what cannot be
//! read although it is sound.
//! Does not own: how a file is compressed (see [`Compression`]), what becomes of a damaged one (see `aside`).

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use flate2::bufread::GzDecoder;

use super::input::{At, COMPRESSED_BUFFER_BYTES};
use crate::compression::{Compression, ZSTD};

/// Bytes that a frame of zstd may look back, which is how much memory it takes to read: as much as the `zstd` command takes unasked.
const WINDOW_BYTES_MAX: u64 = 128 << 20;

/// Bytes of the header of a frame that tell its window.
const FRAME_HEAD_BYTES: usize = 14;

/// The content of a compressed file.
pub(super) struct Archive {
    compression: Compression,
    file: Arc<File>,
    /// `None` only while one part takes the place of another, and for good if that failed.
    part: Option<Part>,
}

enum Part {
    /// Before the first member, or behind one.
    Between {
        file: BufReader<At>,
        first: bool,
    },
    Gzip(Box<GzDecoder<BufReader<At>>>),
    Zstd(zstd::Decoder<'static, BufReader<At>>),
    End,
}

impl Archive {
    pub(super) fn new(file: BufReader<At>, compression: Compression) -> Self {
        Self { compression, file: file.get_ref().file.clone(), part: Some(Part::Between { file, first: true }) }
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
                Part::Between { file, first } => {
                    let is_over = is_over(file)?;
                    if !is_over {
                        check_begin(file, self.compression, *first)?;
                    }
                    let Some(Part::Between { file, .. }) = self.part.take() else { unreachable!("matched just now") };
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
            Self::Gzip(decoder) => Self::Between { file: decoder.into_inner(), first: false },
            Self::Zstd(decoder) => Self::Between { file: decoder.finish(), first: false },
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

/// Checks that a further member or frame begins here, and one that may be read.
fn check_begin(file: &BufReader<At>, compression: Compression, is_first: bool) -> io::Result<()> {
    let mut head = Vec::with_capacity(FRAME_HEAD_BYTES);
    file.get_ref().clone_at(file.buffer().len()).take(FRAME_HEAD_BYTES as u64).read_to_end(&mut head)?;
    if !is_first && !compression.may_begin(&head) {
        return Err(unreadable(
            "something stands behind its last whole part that is not compressed: remove that, or compress the content anew",
        ));
    }
    match window_of(&head).filter(|window| compression == Compression::Zstd && *window > WINDOW_BYTES_MAX) {
        None => Ok(()),
        Some(window) => Err(unreadable(format!(
            "reading it would take {} MiB at once, and at most {} are taken: compress the content anew, without `--long` or with at most `--long=27`",
            window >> 20,
            WINDOW_BYTES_MAX >> 20
        ))),
    }
}

/// Returns the window of a frame of zstd (RFC 8878, 3.1.1.1); `None` of anything else.
fn window_of(head: &[u8]) -> Option<u64> {
    let [descriptor, rest @ ..] = head.strip_prefix(&ZSTD)? else { return None };
    let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 3)];
    if descriptor & 0x20 == 0 {
        let window = rest.first()?;
        let base = 1 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // Of one segment: all of its content is the window.
    let (size, base) = [(1, 0), (2, 256), (4, 0), (8, 0)][usize::from(descriptor >> 6)];
    let size = rest.get(dictionary_bytes..dictionary_bytes + size)?;
    Some(base + size.iter().rev().fold(0, |size, byte| size << 8 | u64::from(*byte)))
}

/// Why a compressed file is not read that need not be damaged.
#[derive(Debug)]
struct Unreadable(String);

fn unreadable(why: impl Into<String>) -> io::Error {
    io::Error::other(Unreadable(why.into()))
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

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
            Err(error) if error.raw_os_error().is_some() || error.get_ref().is_some_and(|error| error.is::<Unreadable>()) => {
                return Err(error.into());
            }
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
    use std::io::Write;

    use super::super::input::Input;
    use super::*;

    fn why(content: &[u8], compression: Compression) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let checked: io::Result<u64> = check(Input::open(file, compression).unwrap(), || Ok(()));
        checked.unwrap_err().to_string()
    }

    #[test]
    fn a_window_that_is_too_large_and_what_stands_behind_the_last_part_are_no_damage() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.write_all(b"1\n").unwrap();
        let large = encoder.finish().unwrap();
        assert!(why(&large, Compression::Zstd).contains("256 MiB"), "{}", why(&large, Compression::Zstd));
        let gzip = |content: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        };
        let (member, frame) = (gzip(b"1\n"), zstd::encode_all(&b"1\n"[..], 1).unwrap());
        for (part, compression) in [(&member, Compression::Gzip), (&frame, Compression::Zstd)] {
            let behind = why(&[&part[..], b"garbage"].concat(), compression);
            assert!(behind.contains("behind its last whole part") && !behind.contains("damaged"), "{behind}");
            let cut = why(&[&part[..], &part[..9]].concat(), compression);
            assert!(cut.contains("damaged or not whole"), "{cut}");
        }
    }

    #[test]
    fn the_window_of_a_frame_is_read_as_the_format_says() {
        for (head, window) in [
            (&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88][..], Some(128 << 20)),
            (&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x89], Some((128 << 20) + (16 << 20))),
            (&[0x28, 0xb5, 0x2f, 0xfd, 0x20, 7], Some(7)),
            (&[0x28, 0xb5, 0x2f, 0xfd, 0x61, 9, 1, 1], Some(256 + 257)),
            (&[0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 16], Some(256 << 20)),
            (&[0x28, 0xb5, 0x2f, 0xfd, 0x00], None),
            (&[0x50, 0x2a, 0x4d, 0x18, 0x00, 0xff], None),
        ] {
            assert_eq!(window_of(head), window, "{head:x?}");
        }
    }

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
