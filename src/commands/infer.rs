//! `pintail infer FILE`: prints a schema guessed from a sample, or a whole configuration.
//!
//! Owns: opening the sample, also a compressed one; the settings beside the schema that make a configuration of it.
//! Does not own: the guess and its looks (see `pintail_decode::infer`).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use arrow::datatypes::DataType;
use flate2::bufread::MultiGzDecoder;
use pintail_core::error::{Error, Result};
use pintail_core::schema::{Column, EventSchema};
use pintail_decode::infer::{Quoted, infer};

/// Prints the schema that the first `records_max` records of `path` suggest, as TOML for the configuration. `-` is standard input;
/// `.gz` and `.zst` are decompressed. A `complete` configuration comes with everything else that it takes to run on the same file.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Io`] if `path` cannot be read or `to` not be written; [`pintail_core::error::ErrorKind::Config`] if there is no JSON object in it.
pub fn run(path: &Path, records_max: usize, complete: bool, to: &mut dyn Write) -> Result<()> {
    let inferred = infer(open(path)?, records_max)?;
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
    let file = BufReader::new(File::open(path).map_err(failed)?);
    Ok(match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        Some("zst") => Box::new(BufReader::new(zstd::Decoder::with_buffer(file).map_err(failed)?)),
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
    }

    #[test]
    fn a_missing_sample_is_named() {
        let error = run(Path::new("no/such.ndjson"), 10, false, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("cannot open `no/such.ndjson`: "), "{error}");
    }
}
