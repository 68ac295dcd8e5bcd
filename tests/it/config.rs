//! `pintail config`: a key explained, and the schema for editors.

use serde_json::Value;

use crate::common::Dataset;

#[test]
fn a_key_is_explained_with_what_it_is_set_to_here() {
    let dataset = Dataset::new();
    dataset.write("p.toml", "[sink]\ncompression = \"snappy\"\n[pipeline]\nbatch_rows = 0\n");
    let explained = dataset.pintail().bare().args(["config", "--config", "p.toml", "--explain", "sink.compression"]).run_ok().stdout;
    assert!(explained.contains("default  \"zstd(1)\"") && explained.contains("here     \"snappy\" (p.toml:2)"), "{explained}");
    assert!(explained.lines().all(|line| line.chars().count() <= 80), "{explained}");
    let unknown = dataset.pintail().bare().args(["config", "--explain", "sink.compresion"]).run();
    unknown.assert_refused(78, &["did you mean `sink.compression`?"]);
}

#[test]
fn the_schema_names_what_the_reader_knows() {
    let schema: Value = serde_json::from_str(&Dataset::new().pintail().bare().args(["config", "--schema"]).run_ok().stdout).unwrap();
    let sink = &schema["properties"]["sink"]["properties"]["partition_by"];
    assert_eq!(sink["default"], serde_json::json!(["region"]));
    assert!(sink["description"].as_str().unwrap().contains("directories"));
}
