//! `pintail infer FILE`: prints a schema guessed from a sample, or a whole configuration.
//!
//! Owns: opening samples, also compressed ones, and keeping what was taken off standard input for one; the settings beside the schema that make a
//! configuration of it.
//! Does not own: the guess and its looks (see `pintail_decode::infer`), telling what is no NDJSON (see `sample`), choosing columns (see `commands::draft`).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use arrow::datatypes::DataType;
use flate2::bufread::MultiGzDecoder;
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::schema::{Column, EventSchema};
use pintail_decode::infer::{Inferred, Quoted, infer};
use pintail_sources::compression::Compression;
use pintail_sources::repeated::HEAD_BYTES;
use pintail_storage::checkpoint::permission;

use sample::Shape;

pub(super) mod sample;

/// Standard input, as an argument.
pub(crate) const STDIN: &str = "-";
/// Files that a sample is taken of, where there are many: spread over all of them.
const FILES_MAX: usize = 10;

/// Prints the schema that the first `records_max` records of `path` suggest, as TOML for the configuration. `-` is standard input;
/// gzip and zstd are decompressed. A `complete` configuration comes with everything else that it takes to run on the same file.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Io`] if `path` cannot be read or `to` not be written; [`pintail_core::error::ErrorKind::Config`] if there is no JSON object in it,
/// or it is no NDJSON.
pub(crate) fn run(path: &Path, records_max: usize, complete: bool, to: &mut dyn Write) -> Result<()> {
    let inferred = look_into(open(path)?, path, records_max)?;
    let beside = if complete { settings(path, &inferred.schema)? } else { String::new() };
    write!(to, "{beside}{inferred}").and_then(|()| to.flush()).map_err(|e| Error::io("print the schema", e))
}

/// Infers a schema from some records of each of several files, of which there is one at least.
///
/// # Errors
/// As [`run`].
pub(crate) fn look_at_files(files: &[PathBuf], records_max: usize) -> Result<Inferred> {
    if let [file] = files {
        return look_into(open(file)?, file, records_max);
    }
    let step = files.len().div_ceil(FILES_MAX);
    let each = records_max.div_ceil(files.len().div_ceil(step));
    let mut all: Box<dyn BufRead> = Box::new(io::empty());
    for file in files.iter().step_by(step) {
        let mut sample = open(file)?;
        let shape = shape_of(&mut *sample)?;
        if let Some(reason) = shape.explained(file).filter(|_| !matches!(shape, Shape::Empty | Shape::Separated)) {
            return Err(Error::config(reason));
        }
        // A last line without an end is no beginning of another file's first.
        all = Box::new(all.chain(FirstLines { inner: sample, left: each }).chain(&b"\n"[..]));
    }
    look_into(all, &files[0], records_max)
}

/// Infers a schema from standard input. With it returns what was taken off that, which has [`HEAD_BYTES`] at least, or all.
///
/// # Errors
/// As [`run`].
pub(crate) fn look_at_stdin(records_max: usize) -> Result<(Inferred, Vec<u8>)> {
    // Not std's handle, which would keep what it has read ahead.
    let input = rustix::stdio::stdin().try_clone_to_owned().map_err(|e| Error::io("open standard input", e))?;
    let mut sample = Kept { inner: BufReader::new(File::from(input)), kept: Vec::new() };
    let inferred = look_into(&mut sample, Path::new(STDIN), records_max)?;
    while sample.kept.len() < HEAD_BYTES {
        let more = sample.fill_buf().map_err(|e| Error::io("read the sample", e))?.len();
        if more == 0 {
            break;
        }
        sample.consume(more);
    }
    let Kept { inner, mut kept } = sample;
    kept.extend_from_slice(inner.buffer());
    Ok((inferred, kept))
}

fn look_into(mut sample: impl BufRead, path: &Path, records_max: usize) -> Result<Inferred> {
    let shape = shape_of(&mut sample)?;
    let inferred = infer(sample, records_max).map_err(|error| match shape.explained(path) {
        None => error,
        // Zeros or a line of any length may be all that is known of it.
        Some(reason) if shape == Shape::Binary => Error::config(format!("{reason}: {error}")),
        Some(reason) => Error::config(reason),
    })?;
    // Lines of a larger value that happen to be objects.
    if matches!(shape, Shape::Array | Shape::SeveralLines)
        && let Some(reason) = shape.explained(path)
    {
        return Err(Error::config(reason));
    }
    Ok(inferred)
}

fn shape_of(sample: &mut (impl BufRead + ?Sized)) -> Result<Shape> {
    sample.fill_buf().map(Shape::of).map_err(|e| Error::io("read the sample", e))
}

/// A reader whose errors name its file: what is wrong may come behind its first bytes, and when other files were read.
struct Named<R> {
    inner: R,
    name: String,
}

impl<R> Named<R> {
    fn new(inner: R, path: &Path) -> Self {
        Self { inner, name: format!("`{}`", path.display()) }
    }

    fn named<T>(result: io::Result<T>, name: &str) -> io::Result<T> {
        result.map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))
    }
}

impl<R: BufRead> Read for Named<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        Self::named(self.inner.read(to), &self.name)
    }
}

impl<R: BufRead> BufRead for Named<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Self::named(self.inner.fill_buf(), &self.name)
    }

    fn consume(&mut self, bytes: usize) {
        self.inner.consume(bytes);
    }
}

/// The first lines of a reader.
struct FirstLines<R> {
    inner: R,
    left: usize,
}

impl<R: BufRead> Read for FirstLines<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let read = from.len().min(to.len());
        to[..read].copy_from_slice(&from[..read]);
        self.consume(read);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for FirstLines<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let Some(last) = self.left.checked_sub(1) else { return Ok(&[]) };
        let buffer = self.inner.fill_buf()?;
        let ends = buffer.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        Ok(&buffer[..ends.clone().nth(last).unwrap_or(buffer.len())])
    }

    fn consume(&mut self, bytes: usize) {
        let ended = self.inner.fill_buf().map_or(0, |buffer| buffer[..bytes].iter().filter(|byte| **byte == b'\n').count());
        self.left -= ended;
        self.inner.consume(bytes);
    }
}

/// A reader that keeps what is taken off it.
struct Kept<R> {
    inner: BufReader<R>,
    kept: Vec<u8>,
}

impl<R: Read> Read for Kept<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(to)?;
        self.kept.extend_from_slice(&to[..read]);
        Ok(read)
    }
}

impl<R: Read> BufRead for Kept<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.kept.extend_from_slice(&self.inner.buffer()[..bytes]);
        self.inner.consume(bytes);
    }
}

/// Returns the settings beside the schema: the defaults are made for the simulator.
fn settings(path: &Path, schema: &EventSchema) -> Result<String> {
    let path = path.to_str().ok_or_else(|| Error::config(format!("`{}` is no UTF-8, which a configuration needs", path.display())))?;
    let source = match path {
        "-" => "source.type = \"stdin\"".to_owned(),
        path => format!("source.type = \"file\"\nsource.path = {}\n# Goes on waiting for lines: source.follow = true", Quoted(path)),
    };
    let is_time = |column: &&Column| matches!(column.column_type.arrow(), DataType::Timestamp(..));
    let event_time = schema.columns.iter().find(is_time).map_or("", |column| column.name.as_str());
    Ok(format!(
        "{source}\n\ntransform.sql = \"SELECT * FROM events\"\n\n# Columns of few distinct values that become directories, such as [\"region\"].\n\
         sink.partition_by = []\n# The time that gives a file its hour.\nsink.event_time = {}\n\n",
        Quoted(event_time)
    ))
}

fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    if path == Path::new(STDIN) {
        return Ok(Box::new(io::stdin().lock()));
    }
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::PermissionDenied => {
            Error::new(ErrorKind::Io, format!("cannot open `{}`: {}", path.display(), permission::to_read(path)))
        }
        _ => Error::io(format_args!("open `{}`", path.display()), e),
    };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let head = match file.fill_buf() {
        Err(error) if sample::is_directory(&error) => return Err(sample::directory(path)),
        head => head.map_err(failed)?,
    };
    // Told by the bytes, as the source does.
    Ok(match Compression::of(head) {
        Compression::Gzip => Box::new(Named::new(BufReader::new(MultiGzDecoder::new(file)), path)),
        Compression::Zstd => Box::new(Named::new(BufReader::new(zstd::Decoder::with_buffer(file).map_err(failed)?), path)),
        Compression::None => Box::new(Named::new(file, path)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = b"{\"a\":1}\n{\"a\":2.5}\n";

    fn printed(name: &str, content: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mut to = Vec::new();
        run(&path, 10, false, &mut to).unwrap();
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn a_compressed_sample_gives_the_same_schema_as_a_plain_one() {
        let plain = printed("sample.ndjson", SAMPLE);
        assert!(plain.contains("name = \"a\"\ntype = \"float64\"\n"), "{plain}");
        // Two members, one behind the other: log rotation makes such files.
        let mut gz = Vec::new();
        for part in SAMPLE.split_inclusive(|byte| *byte == b'\n') {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(part).unwrap();
            gz.extend(encoder.finish().unwrap());
        }
        assert_eq!(printed("sample.ndjson.gz", &gz), plain);
        assert_eq!(printed("sample.ndjson.zst", &zstd::encode_all(SAMPLE, 1).unwrap()), plain);
        assert_eq!(printed("sample.log", &gz), plain, "the source tells it by its bytes, too");
    }

    #[test]
    fn what_is_no_ndjson_is_said_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |name: &str, content: &str| {
            std::fs::write(dir.path().join(name), content).unwrap();
            run(&dir.path().join(name), 10, false, &mut Vec::new()).unwrap_err().to_string()
        };
        for (name, content, way_out) in [
            ("empty", "", "is empty"),
            ("array.json", "[\n{\"a\":1},\n{\"a\":2}\n]\n", "jq -c '.[]'"),
            ("long.json", "{\n\"a\": {\n\"b\": 1\n}\n}\n", "jq -c . "),
            ("a.csv", "a,b\n1,2\n", "read_csv"),
        ] {
            let error = refused(name, content);
            assert!(error.contains(way_out) && error.contains(name), "{error}");
        }
        std::fs::create_dir(dir.path().join("logs")).unwrap();
        std::fs::write(dir.path().join("logs/b.log"), SAMPLE).unwrap();
        let error = run(&dir.path().join("logs"), 10, false, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("logs/b.log`") && error.contains("logs/*.log'"), "{error}");
    }

    #[test]
    fn a_sample_of_many_files_has_some_records_of_each_part_of_them_whole() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = (0..25).map(|n| dir.path().join(format!("{n:02}.ndjson"))).collect();
        for (n, file) in files.iter().enumerate() {
            // The first one has nothing, and no last line has an end.
            let lines: Vec<String> = (0..if n == 0 { 0 } else { 100 }).map(|line| format!("{{\"k{n}\":{line}}}")).collect();
            std::fs::write(file, lines.join("\n")).unwrap();
        }
        let inferred = look_at_files(&files, 90).unwrap();
        let names: Vec<&str> = inferred.schema.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["k3", "k6", "k9", "k12", "k15", "k18", "k21", "k24"]);
        assert_eq!((inferred.records, inferred.skipped), (80, 0));
        std::fs::write(&files[3], "[1]\n").unwrap();
        let error = look_at_files(&files, 90).unwrap_err().to_string();
        assert!(error.contains("03.ndjson` is a JSON array"), "{error}");
    }

    #[test]
    fn a_sample_that_is_damaged_is_named_wherever_the_damage_is_and_among_others() {
        let dir = tempfile::tempdir().unwrap();
        let lines: String = (0..100_000).map(|n| format!("{{\"id\":{n},\"x\":\"{}\"}}\n", n * 7_919 % 10_007)).collect();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(lines.as_bytes()).unwrap();
        let sound = encoder.finish().unwrap();
        for (name, at) in [("begin.ndjson.gz", 20), ("middle.ndjson.gz", sound.len() / 2)] {
            let mut damaged = sound.clone();
            damaged[at..at + 100].fill(0xff);
            let files = [name, "sound.ndjson.gz"].map(|name| dir.path().join(name));
            std::fs::write(&files[0], damaged).unwrap();
            std::fs::write(&files[1], &sound).unwrap();
            for files in [&files[..1], &files[..]] {
                let error = look_at_files(files, 1_000_000).unwrap_err().to_string();
                assert!(error.starts_with("cannot read the sample: `") && error.contains(&format!("{name}`: ")), "{error}");
            }
        }
    }

    #[test]
    fn a_missing_sample_is_named() {
        let error = run(Path::new("no/such.ndjson"), 10, false, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("cannot open `no/such.ndjson`: "), "{error}");
    }
}
