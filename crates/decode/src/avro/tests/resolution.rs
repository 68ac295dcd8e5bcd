//! What one schema has written, read by another.

use super::*;
use crate::avro::plan::resolve;
use crate::avro::rows::Rows;

/// Reads what a writer has written by another schema: the row, or why there is none; `Err(Err(…))` if nothing of that writer can be read.
fn read(writer: &str, reader: &str, payload: &[u8]) -> Result<Value, Result<String, String>> {
    let (written, reader) = (Schema::parse(writer, &[]).unwrap(), Schema::parse(reader, &[]).unwrap());
    let columns = target::columns(&reader).unwrap();
    let resolved = resolve(&written, &reader, &columns).map_err(Err)?;
    let schema = arrow::datatypes::Schema::new(target::fields(&columns));
    let mut rows = Rows::new(&columns, schema.into());
    rows.push(&resolved, payload).map_err(Ok)?;
    Ok(serde_json::from_slice(&json_rows::lines(&rows.finish().unwrap()).unwrap()).unwrap())
}

/// As [`read`], of one column.
fn change(from: Value, to: Value, written: Written) -> Result<Value, Result<String, String>> {
    let of = |of: Value| record(json!([{ "name": "v", "type": of }]));
    read(&of(from), &of(to), &written.bytes()).map(|row| row["v"].clone())
}

#[test]
fn numbers_become_wider_and_text_becomes_bytes_and_back() {
    for (from, to, written, expected) in [
        ("int", "long", Integer(-5), json!(-5)),
        ("int", "float", Integer(3), json!(3.0)),
        ("int", "double", Integer(3), json!(3.0)),
        ("long", "float", Integer(1 << 20), json!(1048576.0)),
        ("long", "double", Integer(1 << 40), json!(1099511627776.0)),
        ("float", "double", Float(1.5f32.to_bits()), json!(1.5)),
        ("string", "bytes", text("é"), json!("c3a9")),
        ("bytes", "string", text("é"), json!("é")),
    ] {
        assert_eq!(change(json!(from), json!(to), written).unwrap(), expected, "{from} to {to}");
    }
    for (from, to) in [("long", "int"), ("double", "float"), ("double", "long"), ("boolean", "int"), ("string", "int"), ("int", "string")] {
        let why = change(json!(from), json!(to), Integer(0)).unwrap_err().unwrap_err();
        assert_eq!(why, format!("`v`: `{from}` is written, `{to}` expected"));
    }
}

#[test]
fn fields_are_found_by_name_or_alias_and_what_is_not_wanted_is_passed_over() {
    let nested = json!({ "type": "record", "name": "N", "fields": [{ "name": "m", "type": { "type": "map", "values": "N" } }] });
    let writer = record(json!([
        { "name": "gone", "type": nested },
        { "name": "b", "type": "string" },
        { "name": "list", "type": { "type": "array", "items": ["null", "N", "long", { "type": "fixed", "name": "F", "size": 3 }] } },
        { "name": "flags", "type": { "type": "array", "items": "boolean" } },
        { "name": "old", "type": "int" },
    ]));
    let reader = record(json!([
        { "name": "new", "aliases": ["older", "old"], "type": "long" },
        { "name": "b", "type": ["null", "string"] },
    ]));
    let node = |pairs: Vec<(String, Written)>| Record(vec![Map(pairs)]);
    let list = Array(vec![some(0, Null), some(1, node(vec![])), some(2, Integer(7)), some(3, Fixed(vec![1, 2, 3]))]);
    let written = Record(vec![
        node(vec![("k".to_owned(), node(vec![("l".to_owned(), node(vec![]))]))]),
        text("x"),
        list,
        Array(vec![Boolean(true); 9]),
        Integer(4),
    ]);
    let expected = json!({ "new": 4, "b": "x" });
    for blocks in [PLAIN, Blocks { items: 2, are_sized: true }, Blocks { items: 1, are_sized: false }] {
        let mut bytes = Vec::new();
        written.encode(blocks, &mut bytes);
        assert_eq!(read(&writer, &reader, &bytes).unwrap(), expected, "{blocks:?}");
    }
}

#[test]
fn what_is_not_written_has_its_default_of_any_type() {
    let defaults = [
        ("null", json!("null"), json!(null), json!(null)),
        ("flag", json!("boolean"), json!(true), json!(true)),
        ("int", json!("int"), json!(-1), json!(-1)),
        ("long", json!("long"), json!(i64::MIN), json!(i64::MIN)),
        ("float", json!("float"), json!(1.5), json!(1.5)),
        ("double", json!("double"), json!(2), json!(2.0)),
        ("bytes", json!("bytes"), json!("\u{0}\u{ff}"), json!("00ff")),
        ("text", json!("string"), json!("é"), json!("é")),
        ("fixed", json!({ "type": "fixed", "name": "F", "size": 2 }), json!("\u{1}\u{fe}"), json!("01fe")),
        ("enum", json!({ "type": "enum", "name": "E", "symbols": ["A", "B"] }), json!("B"), json!("B")),
        ("list", json!({ "type": "array", "items": "int" }), json!([1, 2]), json!([1, 2])),
        ("map", json!({ "type": "map", "values": "int" }), json!({ "k": 1 }), json!({ "k": 1 })),
        ("first", json!(["null", "int"]), json!(null), json!(null)),
        ("later", json!(["null", "int"]), json!(7), json!(7)),
        ("day", json!({ "type": "int", "logicalType": "date" }), json!(1), json!("1970-01-02")),
        (
            "inner",
            json!({ "type": "record", "name": "I", "fields": [{ "name": "a", "type": "int" }, { "name": "b", "type": "int", "default": 9 }] }),
            json!({ "a": 8 }),
            json!({ "a": 8, "b": 9 }),
        ),
    ];
    let mut fields = vec![json!({ "name": "x", "type": "int" })];
    fields.extend(defaults.iter().map(|(name, of, default, _)| json!({ "name": name, "type": of, "default": default })));
    let row = read(&record(json!([{ "name": "x", "type": "int" }])), &record(fields.into()), &Integer(1).bytes()).unwrap();
    for (name, _, _, expected) in defaults {
        assert_eq!(row[name], expected, "{name}");
    }
}

#[test]
fn a_default_that_is_none_is_told_and_one_that_is_needed_is_named() {
    let writer = record(json!([{ "name": "x", "type": "int" }]));
    let with = |more: Value| record(json!([{ "name": "x", "type": "int" }, more]));
    for (field, expected) in [
        (json!({ "name": "y", "type": "int" }), "`y` is not written, and has no default"),
        (json!({ "name": "y", "type": "int", "default": "a" }), "the default of `y`: expected a value of type `int`, got \"a\""),
        (json!({ "name": "y", "type": "int", "default": 1u64 << 40 }), "the default of `y`: expected a value of type `int`"),
        (json!({ "name": "y", "type": "string", "default": "x".repeat(5000) }), "the default of `y`: more than 4096 bytes"),
        (json!({ "name": "y", "type": "bytes", "default": "→" }), "the default of `y`: expected a value of type `bytes`"),
    ] {
        let why = read(&writer, &with(field), &Integer(1).bytes()).unwrap_err().unwrap_err();
        assert!(why.starts_with(expected), "{why}");
    }
}

#[test]
fn a_union_may_stand_on_either_side() {
    assert_eq!(change(json!("int"), json!(["null", "long"]), Integer(3)).unwrap(), 3);
    assert_eq!(change(json!("null"), json!(["null", "long"]), Null).unwrap(), Value::Null);
    assert_eq!(change(json!(["null", "int"]), json!("long"), some(1, Integer(3))).unwrap(), 3);
    let why = change(json!(["null", "int"]), json!("long"), some(0, Null)).unwrap_err().unwrap();
    assert_eq!(why, "column `v`: the value is null, and the column is required");
    let of_three = json!(["int", "null", "string"]);
    assert_eq!(change(of_three.clone(), json!(["null", "string"]), some(2, text("x"))).unwrap(), "x");
    assert_eq!(change(of_three.clone(), json!(["null", "string"]), some(1, Null)).unwrap(), Value::Null);
    let why = change(of_three.clone(), json!(["null", "string"]), some(0, Integer(1))).unwrap_err().unwrap();
    assert_eq!(why, "column `v`: `int` is written, `string` expected");
    let why = change(json!(["null", "boolean"]), json!("string"), Null).unwrap_err().unwrap_err();
    assert!(why.starts_with("`v`: the value is null"), "{why}");
    // The branch of the same type, before one that the value would fit as well.
    let to = json!(["double", "null", "long", { "type": "enum", "name": "E", "symbols": ["A"] }]);
    let row = |long: Value, double: Value| json!({ "double": double, "long": long, "E": null });
    assert_eq!(change(json!("long"), to.clone(), Integer(5)).unwrap(), row(json!(5), Value::Null));
    assert_eq!(change(json!("float"), to.clone(), Float(1.5f32.to_bits())).unwrap(), row(Value::Null, json!(1.5)));
    assert_eq!(change(json!(["null", "int"]), to, some(1, Integer(6))).unwrap(), row(Value::Null, json!(6.0)));
}

#[test]
fn symbols_are_found_by_name_and_one_that_is_unknown_has_the_default_if_there_is_one() {
    let of = |symbols: &[&str], default: Option<&str>| json!({ "type": "enum", "name": "E", "symbols": symbols, "default": default });
    let from = of(&["A", "B", "C"], None);
    assert_eq!(change(from.clone(), of(&["C", "A"], None), Integer(2)).unwrap(), "C");
    assert_eq!(change(from.clone(), of(&["C", "A"], Some("A")), Integer(1)).unwrap(), "A");
    let why = change(from.clone(), of(&["C", "A"], None), Integer(1)).unwrap_err().unwrap();
    assert_eq!(why, "column `v`: symbol 1 of the writer's enum is none of the reader's");
    assert_eq!(change(from, of(&["C", "A"], None), Integer(3)).unwrap_err().unwrap(), "column `v`: symbol 3 of an enum of 3");
}

#[test]
fn a_value_that_would_mean_something_else_is_refused() {
    let logical = |of: &str, logical: &str| json!({ "type": of, "logicalType": logical });
    let decimal = |scale: u64| json!({ "type": "bytes", "logicalType": "decimal", "precision": 9, "scale": scale });
    for (from, to, expected) in [
        (
            logical("long", "timestamp-millis"),
            logical("long", "timestamp-micros"),
            "`v`: a timestamp in ms is written, a timestamp in µs expected",
        ),
        (decimal(2), decimal(3), "`v`: a decimal of 2 digits behind the point is written, a decimal of 3 digits behind the point expected"),
        (
            json!({ "type": "fixed", "name": "F", "size": 2 }),
            json!({ "type": "fixed", "name": "F", "size": 3 }),
            "`v`: 2 bytes are written, 3 expected",
        ),
    ] {
        assert_eq!(change(from, to, Integer(0)).unwrap_err().unwrap_err(), expected);
    }
    assert_eq!(change(json!("long"), logical("long", "timestamp-millis"), Integer(0)).unwrap(), "1970-01-01T00:00:00");
    assert_eq!(
        change(logical("long", "local-timestamp-millis"), logical("long", "timestamp-millis"), Integer(0)).unwrap(),
        "1970-01-01T00:00:00"
    );
    assert_eq!(change(logical("int", "date"), json!("int"), Integer(7)).unwrap(), 7);
}

#[test]
fn a_writer_whose_types_have_no_end_is_read_as_far_as_is_wanted() {
    let node = json!({ "type": "record", "name": "Node", "fields": [
        { "name": "n", "type": "int" }, { "name": "next", "type": ["null", "Node"] }, { "name": "m", "type": "int" }] });
    let reader = record(json!([{ "name": "n", "type": "int" }, { "name": "m", "type": "int" }]));
    let chain = |length: i64| (0..length).fold(some(0, Null), |next, n| some(1, Record(vec![Integer(n), next, Integer(-n)])));
    let written = |length| Record(vec![Integer(1), chain(length), Integer(2)]).bytes();
    assert_eq!(read(&node.to_string(), &reader, &written(100)).unwrap(), json!({ "n": 1, "m": 2 }));
    let why = read(&node.to_string(), &reader, &written(1_000)).unwrap_err().unwrap();
    assert_eq!(why, "column `next`: records more than 128 deep in each other");
    // Without a byte that could end it.
    let endless = json!({ "type": "record", "name": "Node", "fields": [{ "name": "l", "type": "Node" }, { "name": "r", "type": "Node" }] });
    let reader = record(json!([{ "name": "n", "type": "int", "default": 0 }]));
    let why = read(&endless.to_string(), &reader, b"").unwrap_err().unwrap();
    assert_eq!(why, "column `l`: records more than 128 deep in each other");
}

#[test]
fn a_writer_of_billions_of_fields_that_take_no_bytes_costs_nothing() {
    let mut fields = vec![json!({ "name": "a0", "type": { "type": "record", "name": "A0", "fields": [{ "name": "x", "type": "null" }] } })];
    for n in 1..40 {
        let before = format!("A{}", n - 1);
        let of = json!({ "type": "record", "name": format!("A{n}"), "fields": [{ "name": "l", "type": before }, { "name": "r", "type": before }] });
        fields.push(json!({ "name": format!("a{n}"), "type": of }));
    }
    fields.push(json!({ "name": "list", "type": { "type": "array", "items": "A39" } }));
    fields.push(json!({ "name": "v", "type": "int" }));
    let reader = record(json!([{ "name": "v", "type": "int" }]));
    let written = [&Integer(i64::MAX).bytes()[..], &[0], &Integer(5).bytes()].concat();
    assert_eq!(read(&record(fields.into()), &reader, &written).unwrap(), json!({ "v": 5 }));
}

#[test]
fn defaults_in_the_items_of_a_list_are_paid_from_the_payload() {
    let items = |more: Value| {
        let mut fields = vec![json!({ "name": "x", "type": "boolean" })];
        fields.extend(more.as_array().unwrap().clone());
        record(json!([{ "name": "l", "type": { "type": "array", "items": { "type": "record", "name": "I", "fields": fields } } }]))
    };
    let written = Array(vec![Record(vec![Boolean(true)]); 10_000]).bytes();
    let short = json!([{ "name": "y", "type": "string", "default": "" }]);
    assert!(read(&items(json!([])), &items(short), &written).is_ok());
    let long = json!([{ "name": "y", "type": "string", "default": "y".repeat(4_000) }]);
    let why = read(&items(json!([])), &items(long), &written).unwrap_err().unwrap();
    assert!(why.contains("takes more than 32 times the bytes of the payload"), "{why}");
}

#[test]
fn types_of_other_schemas_are_found_by_name() {
    let key = r#"{"type":"enum","name":"of.other.Key","symbols":["A","B"]}"#;
    let item = r#"{"type":"record","name":"of.other.Item","fields":[{"name":"k","type":"Key"}]}"#;
    let all = record(json!([{ "name": "i", "type": "of.other.Item" }]));
    let schema = Schema::parse(&all, &[key, item]).unwrap();
    assert_eq!(pintail_core::sql_type::name(&target::columns(&schema).unwrap()[0].1.data_type()), "STRUCT(k VARCHAR)");
    assert!(Schema::parse(&all, &[item]).unwrap_err().contains("`of.other.Key` is declared nowhere before it is used"));
}
