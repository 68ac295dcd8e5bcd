//! What is guessed from a sample is a configuration that loads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use pintail_config::Config;
use pintail_decode::infer::infer;

#[test]
fn the_toml_parses_and_says_the_same_whatever_the_keys_are() {
    let sample = r##"{"plain":1,"q\"uo\\te":1,"new\nline\u007f":1,"dot.ted":1,"o":{"a.b":1,"":2,"é # x":3},"PLAIN":2}"##;
    let inferred = infer(sample.as_bytes(), usize::MAX).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), inferred.to_string()).unwrap();
    let config = Config::load(Some(file.path()), std::iter::empty(), &[]).unwrap();
    assert_eq!(config.schema, inferred.schema);
}
