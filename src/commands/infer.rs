//! `pintail infer FILE`: prints a schema guessed from a sample, or a whole configuration.
//!
//! Owns: opening the sample, also a compressed one; the settings beside the schema that make a configuration of it.
//! Does not own: the guess and its looks (see `pintail_decode::infer`), telling what is no NDJSON (see `sample`).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use arrow::datatypes::DataType;
use flate2::bufread::MultiGzDecoder;
use pintail_core::error::{Error, Result};
use pintail_core::schema::{Column, EventSchema};
use pintail_decode::infer::{Quoted, infer};

use sample::Shape;

mod sample;

/// The first bytes of gzip and zstd.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Prints the schema that the first `records_max` records of `path` suggest, as TOML for the configuration. `-` is standard input;
/// gzip and zstd are decompressed. A `complete` configuration comes with everything else that it takes to run on the same file.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Io`] if `path` cannot be read or `to` not be written; [`pintail_core::error::ErrorKind::Config`] if there is no JSON object in it,
/// or it is no NDJSON.
pub(crate) fn run(path: &Path, records_max: usize, complete: bool, to: &mut dyn Write) -> Result<()> {
    let mut sample = open(path)?;
    let shape = sample.fill_buf().map(Shape::of).map_err(|e| Error::io(format_args!("read `{}`", path.display()), e))?;
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
    let beside = if complete { settings(path, &inferred.schema)? } else { String::new() };
    write!(to, "{beside}{inferred}").and_then(|()| to.flush()).map_err(|e| Error::io("print the schema", e))
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
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let failed = |e| Error::io(format_args!("open `{}`", path.display()), e);
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let head = match file.fill_buf() {
        Err(error) if sample::is_directory(&error) => return Err(sample::directory(path)),
        head => head.map_err(failed)?,
    };
    // Told by the bytes, as the source does.
    let (is_gzip, is_zstd) = (head.starts_with(&GZIP), head.starts_with(&ZSTD));
    Ok(match (is_gzip, is_zstd) {
        (true, _) => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        (_, true) => Box::new(BufReader::new(zstd::Decoder::with_buffer(file).map_err(failed)?)),
        _ => Box::new(file),
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
        assert!(error.contains("logs/b.log`") && error.contains("logs/*.log\"`"), "{error}");
    }

    #[test]
    fn a_missing_sample_is_named() {
        let error = run(Path::new("no/such.ndjson"), 10, false, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("cannot open `no/such.ndjson`: "), "{error}");
    }
}
