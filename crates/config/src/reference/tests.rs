use pintail_sources::registry::KINDS;

use super::*;

fn reference() -> Reference {
    Reference::new(KINDS)
}

fn explained(name: &str) -> String {
    reference().explain(name, |_| None).unwrap()
}

#[test]
fn every_key_has_words_and_every_default_is_written_where_the_words_are() {
    for (name, takes, default, _, words) in reference().keys() {
        let has_default = reference().keys[name].described.has_default;
        assert!(!words.is_empty(), "`{name}`: nothing is said of it");
        assert!(!words.contains("With type ="), "`{name}`: the heading is no word for it: {words}");
        assert_eq!(default.is_some(), has_default, "`{name}`, {takes}");
        assert!(default.is_none_or(|default| words::json(default).is_some()), "`{name}` = {default:?}");
    }
}

#[test]
fn a_key_is_explained_with_its_bounds_its_default_and_the_sources_that_have_it() {
    let text = reference().explain("source.poll_interval", |key| Some(format!("{key} is 1s"))).unwrap();
    for part in [
        "a duration from",
        "default  \"250ms\"",
        "source.type = \"file\"\n",
        "PINTAIL_SOURCE__POLL_INTERVAL",
        "here     source.poll_interval is 1s",
        "\n\nTime between two looks at the files while following.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(explained("source.on_gap").contains("one of \"refuse\", \"record\"") && explained("source.on_gap").contains("\"kafka\""));
    assert!(explained("source.stream").contains("none: it must be given"));
    assert!(explained("admin.query_token").contains("never shown"));
    assert!(explained("source.instance.index").contains("Several instances share"), "the words for its table");
}

#[test]
fn a_section_is_listed_and_what_is_none_is_refused_with_what_was_meant() {
    let sink = explained("sink");
    assert!(sink.contains("  sink.compression ") && sink.contains("= \"zstd(1)\"") && !sink.contains("source"), "{sink}");
    let why = |name: &str| reference().explain(name, |_| None).unwrap_err().to_string();
    assert!(why("sink.compresion").contains("did you mean `sink.compression`?"), "{}", why("sink.compresion"));
    assert!(why("pipeline.partition_by").contains("did you mean `sink.partition_by`?"), "{}", why("pipeline.partition_by"));
    assert!(why("zzz").contains("the sections are "), "{}", why("zzz"));
}

#[test]
fn the_schema_has_a_form_for_each_kind_of_source_and_no_key_beside_those_that_there_are() {
    let schema = reference().schema();
    assert_eq!(schema["additionalProperties"], false);
    let kinds = schema["properties"]["source"]["oneOf"].as_array().unwrap();
    assert_eq!(kinds.len(), KINDS.len());
    let of = |name: &str| kinds.iter().find(|kind| kind["title"] == name).unwrap();
    assert!(of("file")["properties"]["follow"].is_object() && of("http")["properties"]["follow"].is_null());
    assert_eq!(of("file")["required"], json!(["path", "type"]));
    assert_eq!(of("simulator")["required"], json!([]), "it is meant where no type is named");
    assert_eq!(of("kafka")["properties"]["instance"]["properties"]["count"]["type"], "integer");
    let pipeline = &schema["properties"]["pipeline"]["properties"];
    assert_eq!(pipeline["batch_rows"]["default"], 50_000);
    assert_eq!(pipeline["batch_rows"]["maximum"], 10_000_000);
    assert_eq!(pipeline["checkpoint_interval"]["default"], "30s");
    let columns = &schema["properties"]["schema"]["properties"]["columns"]["items"];
    assert_eq!(columns["required"], json!(["name", "type"]));
    let table = &schema["properties"]["table"];
    assert_eq!((&table["type"], &table["items"]["required"]), (&json!("array"), &json!(["format", "name"])));
    assert_eq!(schema["properties"]["transform"]["properties"]["lookup"]["items"]["additionalProperties"], false);
}
