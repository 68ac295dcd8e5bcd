use std::sync::Arc;

use arrow::datatypes::TimeUnit;
use pintail_core::batch::{Batch, Chunk, OffsetUnit, Records};
use pintail_core::offsets::{OffsetRange, Partition, PartitionId};

use super::*;
use crate::{Decode as _, Ndjson};

fn inferred(sample: &str) -> Inferred {
    infer(sample.as_bytes(), usize::MAX).unwrap()
}

fn types(sample: &str) -> Vec<(String, String)> {
    inferred(sample).schema.columns.into_iter().map(|column| (column.name, column.column_type.to_string())).collect()
}

/// The type guessed for a key `v` with these values, one record each.
fn guess(values: &[&str]) -> String {
    let sample: String = values.iter().map(|value| format!("{{\"v\":{value}}}\n")).collect();
    let [(_, guess)] = types(&sample).try_into().unwrap();
    guess
}

#[test]
fn a_column_gets_the_narrowest_type_that_takes_all_its_values() {
    for (values, expected) in [
        (&["true", "false", "null"][..], "boolean"),
        (&["1", "-5"], "int64"),
        (&["1", "18446744073709551615"], "uint64"),
        (&["-1", "18446744073709551615"], "decimal(38,0)"),
        (&["1", "1.5"], "float64"),
        (&["99999999999999999999"], "decimal(38,0)"),
        (&["\"2026-01-01T00:00:00Z\"", "\"2026-01-01 00:00:00.5\""], "timestamp"),
        (&["\"2026-01-01\"", "null"], "date"),
        (&["\"2026-01-01\"", "\"2026-01-01T00:00:00Z\""], "text"),
        (&["\"a\"", "\"b\""], "text"),
        (&["[1]", "[]"], "json"),
        (&["{}"], "json"),
        (&["1", "\"1\""], "json"),
        (&["true", "1"], "json"),
        (&["{\"a\":1}", "[1]"], "json"),
        (&["null"], "json"),
        (&["1e400"], "json"),
    ] {
        assert_eq!(guess(values), expected, "{values:?}");
    }
}

#[test]
fn text_that_repeats_itself_is_a_dictionary() {
    let repeated = |distinct: usize, count: usize| {
        let values: Vec<_> = (0..count).map(|n| format!("\"v{}\"", n % distinct)).collect();
        guess(&values.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(repeated(5, 50), "dictionary");
    assert_eq!(repeated(5, 49), "text");
    assert_eq!(repeated(256, 2_560), "dictionary");
    assert_eq!(repeated(257, 26_000), "text");
}

#[test]
fn nested_objects_are_taken_apart_unless_their_keys_are_data() {
    let sample = (0..40).map(|n| format!("{{\"o\":{{\"x\":{n},\"p\":{{\"y\":true}}}},\"map\":{{\"k{n}\":1}}}}\n")).collect::<String>();
    let columns = inferred(&sample).schema.columns;
    let found: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.path.join("/"), c.column_type)).collect();
    let expected = [
        ("o_x", "o/x".to_owned(), ColumnType::Int64),
        ("o_p_y", "o/p/y".to_owned(), ColumnType::Boolean),
        ("map", "map".to_owned(), ColumnType::Json),
    ];
    assert_eq!(found, expected);
}

#[test]
fn columns_keep_the_order_of_the_keys_and_names_stay_distinct() {
    let names: Vec<_> =
        types("{\"z\":1,\"a\":{\"b\":1},\"a_b\":2}\n{\"A_B\":3,\"\":4,\"Z\":5}\n").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["z", "a_b", "a_b_2", "A_B_3", "unnamed", "Z_2"]);
}

#[test]
fn what_a_person_may_know_better_is_said_in_a_comment() {
    let text = inferred("{\"created\":1767225600123,\"whole\":1.0,\"n\":1767225600}\n{\"created\":1767225600124,\"whole\":2.0}\nnope\n")
        .to_string();
    for expected in [
        "# Inferred from 2 records.\n",
        "# Lines that are no JSON objects, and would be dead letters: 1.\n",
        "type = \"int64\" # perhaps a time: then `timestamp_ms`\n",
        "type = \"float64\" # only whole numbers in the sample",
        "type = \"int64\" # null or missing in 1 of 2 records\n",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn only_so_many_records_are_looked_at() {
    let inferred = infer("{\"a\":1}\n\n{\"a\":2}\n{\"a\":\"x\"}\n".as_bytes(), 2).unwrap();
    assert_eq!((inferred.records, inferred.schema.columns[0].column_type), (2, ColumnType::Int64));
}

#[test]
fn a_sample_without_objects_is_refused_with_its_first_line() {
    let error = infer("[\n  {\"a\": 1}\n".as_bytes(), 1).unwrap_err().to_string();
    assert_eq!(error, "no JSON object with a key in the sample, which should have one a line: the first line is [");
    assert!(infer("".as_bytes(), 10).is_err());
    assert!(infer("{}\n".as_bytes(), 10).is_err());
}

#[test]
fn a_file_without_line_ends_is_not_read_into_memory() {
    let endless = std::io::BufReader::new(std::io::repeat(b'x'));
    let error = infer(endless, 10).unwrap_err().to_string();
    assert!(error.starts_with("a line of the sample is longer than"), "{error}");
}

#[test]
fn the_inferred_schema_decodes_every_record_of_its_sample() {
    let sample = concat!(
        "\u{feff}{\"a\":1,\"b\":{\"c\":1.0,\"d\":[1]},\"t\":\"2026-01-01T00:00:00+01:00\",\"m\":1}\r\n",
        "\n",
        "{\"a\":-0,\"b\":null,\"t\":null,\"m\":\"x\",\"big\":18446744073709551615}\n",
        "{\"b\":{\"c\":5e-1,\"d\":{\"x\":1}},\"d\":\"2026-02-28\",\"u\":\"\\u00e9\",\"huge\":1e400}\n",
    );
    let schema = inferred(sample).schema;
    let partition = Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() });
    let range = OffsetRange::new(partition, 0, sample.len() as u64);
    let chunk = Chunk::new(Records::Lines(sample.into()), range, OffsetUnit::Bytes);
    let decoded = Ndjson::new(&schema).decode(&Batch::new(vec![chunk])).unwrap();
    assert_eq!((decoded.batch.num_rows(), decoded.dead_letters), (3, vec![]));
}

#[test]
fn times_among_a_few_other_texts_nanoseconds_and_kinds_are_told() {
    let times = "{\"t\":\"2026-01-01T00:00:00Z\",\"d\":\"2026-01-01\",\"n\":1,\"ns\":\"2026-01-01T00:00:00.123456789Z\"}\n".repeat(40);
    let sample = format!("{times}{{\"t\":\"n/a\",\"d\":\"\",\"n\":\"-\",\"ns\":\"2026-01-01T00:00:00.123456000Z\"}}\n");
    let text = inferred(&sample).to_string();
    for expected in [
        "# 40 of 41 are times: `timestamp` takes them and rejects the other 1, as \"n/a\"",
        "# 40 of 41 are dates: `date` takes them and rejects the other 1, as \"\"",
        "# values of different kinds: numbers in 40, texts in 1",
        "type = \"timestamp\" # nanoseconds in 40: `timestamp` cuts them to microseconds, `text` keeps them",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let words = "{\"t\":\"a\"}\n".repeat(5);
    assert!(!inferred(&format!("{words}{{\"t\":\"2026-01-01T00:00:00Z\"}}\n")).to_string().contains("are times"));
}

#[test]
fn a_column_that_may_divide_the_rows_or_say_their_time_is_known_by_its_values() {
    let sample: String =
        (0..40).map(|n| format!("{{\"ts\":{},\"shop\":\"s{}\",\"id\":{n},\"x\":null}}\n", 1_767_225_600_000_i64 + n, n % 3)).collect();
    let mut inferred = inferred(&sample);
    let hint = |present, values, time| Hint { present, values, time };
    let time = ColumnType::Timestamp(TimeUnit::Millisecond);
    assert_eq!(inferred.hints, [hint(40, None, Some(time)), hint(40, Some(3), None), hint(40, None, None), hint(0, None, None)]);
    assert_eq!(inferred.entry(0), "{ name = \"ts\", type = \"int64\" }");
    assert_eq!(inferred.note(0), "perhaps a time: then `timestamp_ms`");
    inferred.take_for_time(0);
    inferred.take_for_time(2);
    assert_eq!((inferred.entry(0), inferred.note(0)), ("{ name = \"ts\", type = \"timestamp_ms\" }".to_owned(), String::new()));
    assert_eq!(inferred.schema.columns[2].column_type, ColumnType::Int64);
    let nested = infer(&b"{\"a.b\":{\"c\":1}}\n"[..], 10).unwrap();
    assert_eq!(nested.entry(0), r#"{ name = "a.b_c", path = "\"a.b\".c", type = "int64" }"#);
}

#[test]
fn columns_that_are_known_stay_and_those_that_are_new_come_behind_them() {
    let known = |name: &str, column_type| Column { name: name.into(), path: vec![name.into()], column_type, required: false };
    let known = [known("gone", ColumnType::Text), known("n", ColumnType::Float64)];
    let both = inferred("{\"new\":true,\"n\":1}\n").beside(&known);
    let columns: Vec<_> = both.schema.columns.iter().map(|column| (column.name.as_str(), column.column_type)).collect();
    assert_eq!(columns, [("gone", ColumnType::Text), ("n", ColumnType::Float64), ("new", ColumnType::Boolean)]);
    assert_eq!(both.hints.iter().map(|hint| hint.present).collect::<Vec<_>>(), [0, 1, 1]);
    assert_eq!(both.note(1), "");
}

#[test]
fn a_few_values_that_are_no_numbers_make_no_text_of_the_others_and_are_told() {
    let numbers: String = (0..990).map(|n| format!("{{\"id\":{n}}}\n")).collect();
    let few = inferred(&format!("{numbers}{{\"id\":\"x5\"}}\n{{\"id\":[1]}}\n"));
    assert_eq!(few.schema.columns[0].column_type, ColumnType::Int64);
    assert_eq!(few.warnings().collect::<Vec<_>>(), [("id", "rejects the values that are no numbers: texts in 1, arrays in 1")]);
    let more = inferred(&format!("{numbers}{}", "{\"id\":\"x5\"}\n".repeat(11)));
    assert_eq!(more.schema.columns[0].column_type, ColumnType::Json);
    assert_eq!(more.warnings().collect::<Vec<_>>(), [("id", "values of different kinds: numbers in 990, texts in 11")]);
}

#[test]
fn integers_of_more_than_64_bits_are_decimals_that_keep_each_digit() {
    for (values, of) in [
        (["20000000000000001999", "1"], "decimal(38,0)"),
        (["-9223372036854775809", "1"], "decimal(38,0)"),
        (["18446744073709551615", "-1"], "decimal(38,0)"),
        (["18446744073709551615", "1"], "uint64"),
        (["99999999999999999999999999999999999999", "1"], "decimal(38,0)"),
        (["20000000000000001999", "0.5"], "float64"),
        (["1000000000000000000000000000000000000000", "1"], "float64"),
    ] {
        let found = inferred(&values.map(|value| format!("{{\"a\":{value}}}\n")).concat());
        assert_eq!(found.schema.columns[0].column_type.to_string(), of, "{values:?}");
        assert_eq!(found.warnings().count(), usize::from(of == "float64"), "{values:?}: {found}");
    }
}

#[test]
fn integers_that_a_double_cuts_are_told() {
    let cut = inferred("{\"a\":9007199254740993}\n{\"a\":0.5}\n");
    assert!(cut.warnings().any(|(column, note)| column == "a" && note.contains("2^53")), "{cut}");
    assert_eq!(inferred("{\"a\":9007199254740992}\n{\"a\":0.5}\n").warnings().count(), 0);
}
