//! Every type.

use arrow::util::display::array_value_to_string;

use super::*;

const TYPES: &str = include_str!("fixtures/types.avsc");
const RECORDS: &[u8] = include_bytes!("fixtures/types.bin");
const ROWS: &str = include_str!("fixtures/types.jsonl");

fn fixtures() -> Vec<&'static [u8]> {
    let (mut left, mut records) = (RECORDS, Vec::new());
    while let Some((length, rest)) = left.split_first_chunk::<4>() {
        let (record, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        records.push(record);
        left = rest;
    }
    records
}

#[test]
fn every_type_that_fastavro_writes_has_its_value() {
    let decoded = decode_all(&mut decoder_of(TYPES, Framing::None), &fixtures());
    assert!(decoded.dead_letters.is_empty(), "{:?}", decoded.dead_letters);
    let (rows, expected) = (rows_of(&decoded), ROWS.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    assert_eq!(rows.len(), 5);
    for (at, (row, expected)) in rows.iter().zip(expected).enumerate() {
        for (column, value) in expected.as_object().unwrap() {
            let found = match column.as_str() {
                // More digits than a number of JSON keeps here.
                "wide" => array_value_to_string(decoded.batch.column_by_name("wide").unwrap(), at).unwrap().into(),
                _ => row[column].clone(),
            };
            assert_eq!(&found, value, "{column}");
        }
    }
}

#[test]
fn each_column_has_the_type_of_arrow_that_its_own_type_stands_for() {
    let format = format(TYPES, Framing::None).unwrap();
    let types: Vec<_> =
        format.columns.iter().map(|field| format!("{} {}", field.name(), pintail_core::sql_type::name(field.data_type()))).collect();
    let expected = [
        "nothing VARCHAR",
        "flag BOOLEAN",
        "small INTEGER",
        "big BIGINT",
        "single FLOAT",
        "twice DOUBLE",
        "raw BLOB",
        "word VARCHAR",
        "hash BLOB",
        "colour VARCHAR",
        "numbers BIGINT[]",
        "words VARCHAR[]",
        "colours VARCHAR[]",
        "scores MAP(VARCHAR, DOUBLE)",
        "deep MAP(VARCHAR, MAP(VARCHAR, INTEGER)[])",
        "inner STRUCT(a INTEGER, b STRUCT(c VARCHAR))",
        "again STRUCT(a INTEGER, b STRUCT(c VARCHAR))",
        "many STRUCT(c VARCHAR)[]",
        "first VARCHAR",
        "last VARCHAR",
        "either STRUCT(int INTEGER, string VARCHAR, Colour VARCHAR, Deeper STRUCT(c VARCHAR))",
        "price DECIMAL(12,2)",
        "wide DECIMAL(38,10)",
        "id VARCHAR",
        "packed VARCHAR",
        "day DATE",
        "t_ms TIME",
        "t_us TIME",
        "ts_ms TIMESTAMP_MS",
        "ts_us TIMESTAMP",
        "ts_ns TIMESTAMP_NS",
        "lts_ms TIMESTAMP_MS",
        "lts_us TIMESTAMP",
        "lts_ns TIMESTAMP_NS",
        "span INTERVAL",
    ];
    assert_eq!(types, expected);
    let nullable: Vec<_> = format.columns.iter().filter(|field| field.is_nullable()).map(|field| field.name().as_str()).collect();
    assert_eq!(nullable, ["nothing", "again", "first", "last", "either", "span"]);
}

#[test]
fn a_value_outside_of_what_its_type_means_is_refused_and_the_outermost_are_taken() {
    let long = |value: i64| Integer(value).bytes();
    let logical = |of: &str, logical: &str| json!({ "type": of, "logicalType": logical });
    for (of, good, bad) in [
        (logical("int", "date"), [-719_162, 2_932_896], [-719_163, 2_932_897]),
        (logical("int", "time-millis"), [0, 86_400_000], [-1, 86_400_001]),
        (logical("long", "time-micros"), [0, 86_400_000_000], [-1, 86_400_000_001]),
        (logical("long", "timestamp-millis"), [-62_135_596_800_000, 253_402_300_799_999], [-62_135_596_800_001, 253_402_300_800_000]),
        (logical("long", "timestamp-nanos"), [-i64::MAX + 1, i64::MAX - 1], [i64::MIN, i64::MAX]),
        (json!("int"), [i64::from(i32::MIN), i64::from(i32::MAX)], [i64::from(i32::MIN) - 1, i64::from(i32::MAX) + 1]),
    ] {
        for value in good {
            assert!(super::value(of.clone(), &long(value)).is_ok(), "{of} {value}");
        }
        for value in bad {
            let why = super::value(of.clone(), &long(value)).unwrap_err();
            assert!(why.starts_with(&format!("column `v`: {value} ")), "{of}: {why}");
        }
    }
}

#[test]
fn a_decimal_has_as_many_bytes_as_its_writer_likes_and_no_more_digits_than_it_may() {
    let decimal = json!({ "type": "bytes", "logicalType": "decimal", "precision": 3, "scale": 1 });
    let of = |bytes: &[u8]| value(decimal.clone(), &Sized(bytes.to_vec()).bytes()).map(|value| value.to_string());
    assert_eq!(of(&[0x00]).unwrap(), of(&[0; 40]).unwrap());
    assert_eq!(of(&[0x03, 0xe7]).unwrap(), "99.9");
    assert_eq!(of(&[0xfc, 0x19]).unwrap(), "-99.9");
    assert_eq!(of(&[[0xff; 20].as_slice(), &[0xfc, 0x19]].concat()).unwrap(), "-99.9");
    for bad in [&[0x03, 0xe8][..], &[0xfc, 0x18], &[0x7f; 17], &[0x80; 17], &[0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(of(bad).unwrap_err(), "column `v`: a decimal of more than 3 digits", "{bad:?}");
    }
    assert_eq!(of(&[]).unwrap_err(), "column `v`: a decimal of no bytes");
}

#[test]
fn a_logical_type_that_is_unknown_or_does_not_fit_is_passed_over() {
    for (of, expected) in [
        (json!({ "type": "int", "logicalType": "of tomorrow" }), "INTEGER"),
        (json!({ "type": "int", "logicalType": "timestamp-millis" }), "INTEGER"),
        (json!({ "type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 3 }), "BLOB"),
        (json!({ "type": "bytes", "logicalType": "decimal" }), "BLOB"),
        (json!({ "type": { "type": "long", "logicalType": "timestamp-micros" } }), "TIMESTAMP"),
    ] {
        let format = format(&record(json!([{ "name": "v", "type": of }])), Framing::None).unwrap();
        assert_eq!(pintail_core::sql_type::name(format.columns[0].data_type()), expected, "{of}");
    }
}
