//! Schemas and payloads that mean harm: each meets a limit that names it, before memory is taken.

use super::*;

fn refused(schema: &str) -> String {
    format(schema, Framing::None).unwrap_err()
}

fn field(name: &str, of: Value) -> Value {
    json!({ "name": name, "type": of })
}

#[test]
fn what_is_no_schema_of_a_record_is_refused_by_what_is_wrong() {
    for (schema, expected) in [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("7", "expected a type, got 7"),
        ("{}", "an object without `type`"),
        ("\"string\"", "a schema of type `string`: expected one of a record"),
        ("[\"null\"]", "a schema of type `union`"),
        (r#"{"type":"record","fields":[]}"#, "without `name`"),
        (r#"{"type":"record","name":"R"}"#, "the record `R` has no `fields`"),
        (r#"{"type":"record","name":"R","fields":[]}"#, "the record `R` has no fields, and so no columns"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#, "the field `a` has no `type` (in the record `R`)"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a","type":"Gone"}]}"#, "the type `Gone` is declared nowhere before it is used"),
        (r#"{"type":"record","name":"a.R","fields":[{"name":"a","type":"Gone"}]}"#, "the type `a.Gone` is declared nowhere"),
        (r#"{"type":"record","name":"R","fields":[{"name":"","type":"int"}]}"#, "name is empty"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a\u0000","type":"int"}]}"#, "a control character"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#, "has the field `a` twice"),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"A","type":"int"}]}"#,
            "`a` and `A` are one name in SQL",
        ),
        (r#"{"type":"record","name":"R","fields":[{"name":"a","type":["int","int"]}]}"#, "a union with `int` twice"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a","type":[["int"],"null"]}]}"#, "a union directly in a union"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a","type":[]}]}"#, "a union without branches"),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"fixed","name":"F","size":-1}}]}"#,
            "the fixed `F` needs a `size`",
        ),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"enum","name":"E","symbols":["x","x"]}}]}"#,
            "the symbol `x` twice",
        ),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"enum","name":"R","symbols":["x"]}}]}"#,
            "`R` is declared twice",
        ),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"bytes","logicalType":"decimal","precision":39}}]}"#,
            "a decimal of 39 digits at `a`: at most 38 are taken; without the `logicalType` it is read as bytes",
        ),
    ] {
        let why = refused(schema);
        assert!(why.contains(expected), "{schema}: {why}");
    }
}

#[test]
fn a_record_that_holds_itself_is_refused_by_its_name_and_place() {
    let node = json!({ "type": "record", "name": "Node", "fields": [field("n", json!("int")), field("next", json!(["null", "Node"]))] });
    assert!(refused(&node.to_string()).starts_with("the record `Node` holds itself at `next`: a column cannot"));
    let through = record(json!([field("tree", json!({ "type": "map", "values": { "type": "array", "items": "R" } }))]));
    assert!(refused(&through).starts_with("the record `R` holds itself at `tree`"), "{}", refused(&through));
}

#[test]
fn ten_thousand_fields_and_types_that_multiply_are_refused_at_once() {
    let many: Vec<_> = (0..10_000).map(|n| field(&format!("f{n}"), json!("int"))).collect();
    assert_eq!(refused(&record(many.into())), "more than 4096 columns, those in structs counted");
    // Each has the one before twice: a billion columns in 30 lines.
    let mut fields = vec![field("a0", json!({ "type": "record", "name": "A0", "fields": [field("x", json!("int"))] }))];
    for n in 1..30 {
        let before = format!("A{}", n - 1);
        let twice = json!({ "type": "record", "name": format!("A{n}"), "fields": [field("l", json!(before)), field("r", json!(before))] });
        fields.push(field(&format!("a{n}"), twice));
    }
    assert_eq!(refused(&record(fields.into())), "more than 4096 columns, those in structs counted");
    let branches: Vec<_> = (0..10_000).map(|n| json!({ "type": "fixed", "name": format!("F{n}"), "size": 1 })).collect();
    assert_eq!(refused(&record(json!([field("u", branches.into())]))), "more than 4096 columns, those in structs counted");
    assert!(refused(&" ".repeat(SCHEMA_BYTES_MAX + 1)).contains("at most 1048576 are taken"));
}

#[test]
fn what_lies_too_deep_in_each_other_is_refused() {
    let nested = |depth: usize| (0..depth).fold(json!("int"), |of, _| json!({ "type": "array", "items": of }));
    assert!(format(&record(json!([field("a", nested(32))])), Framing::None).is_ok());
    assert!(
        refused(&record(json!([field("a", nested(33))]))).starts_with("structs, lists and maps more than 32 deep in each other at `a`")
    );
    let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(refused(&text).contains("not JSON: recursion limit"));
}

#[test]
fn a_length_that_lies_is_refused_before_memory_is_taken_for_it() {
    let long = |value: i64| Integer(value).bytes();
    let lie = |of: Value, bytes: &[&[u8]]| value(of, &bytes.concat()).unwrap_err();
    for length in [-1, 5, i64::MAX, i64::MIN] {
        let why = lie(json!("string"), &[&long(length), b"abcd"]);
        assert_eq!(why, format!("column `v`: a length of {length} bytes, where 4 are left"));
    }
    let array = |items: Value| json!({ "type": "array", "items": items });
    let over = "takes more than 32 times the bytes of the payload";
    for count in [1 << 20, i64::MAX, i64::MIN] {
        let size: &[u8] = if count < 0 { &[0] } else { &[] };
        for items in [json!("null"), json!("long"), json!({ "type": "fixed", "name": "F", "size": 0 })] {
            let why = lie(array(items), &[&long(count), size, &[0; 20]]);
            assert!(why.contains(over), "{count}: {why}");
        }
        let why = lie(json!({ "type": "map", "values": "null" }), &[&long(count), size, &[0; 20]]);
        assert!(why.contains(over), "{count}: {why}");
    }
    let why = lie(array(json!("int")), &[&long(-1), &long(7), &long(1), &[0]]);
    assert_eq!(why, "column `v`: a block of 7 bytes, where 2 are left");
    let why = lie(array(json!("int")), &[&long(-1), &long(2), &long(1), &[0]]);
    assert_eq!(why, "column `v`: a block that is not as long as it says");
    assert_eq!(lie(json!("long"), &[&[0xff; 11]]), "column `v`: an integer of more than 64 bits");
    assert_eq!(lie(json!("long"), &[&[0xff; 9], &[0x02]]), "column `v`: an integer of more than 64 bits");
    assert_eq!(lie(json!("boolean"), &[&[2]]), "column `v`: 2 is no boolean, which is 0 or 1");
}

#[test]
fn nulls_of_one_byte_in_place_of_wide_structs_are_paid_from_the_payload() {
    let fields: Vec<_> = (0..1_000).map(|n| field(&format!("f{n}"), json!(["null", "long"]))).collect();
    let wide = json!({ "type": "record", "name": "Wide", "fields": fields });
    let of = json!({ "type": "array", "items": ["null", wide] });
    let nulls = Array(vec![some(0, Null); 100_000]).bytes();
    assert!(value(of, &nulls).unwrap_err().contains("takes more than 32 times the bytes of the payload"));
}

#[test]
fn an_array_of_what_takes_little_is_taken_in_full() {
    let decimal = json!({ "type": "bytes", "logicalType": "decimal", "precision": 38 });
    for (items, written) in [
        (json!("long"), Integer(0)),
        (json!("boolean"), Boolean(true)),
        (json!("string"), text("")),
        (json!(["null", decimal]), some(0, Null)),
        (json!({ "type": "array", "items": "int" }), Array(vec![])),
    ] {
        let taken = value(json!({ "type": "array", "items": items }), &Array(vec![written; 10_000]).bytes()).unwrap();
        assert_eq!(taken.as_array().unwrap().len(), 10_000, "{items}");
    }
}

#[test]
fn a_key_that_occurs_twice_is_refused_among_few_and_among_many() {
    for count in [2, 100] {
        let mut pairs: Vec<_> = (0..count).map(|n| (format!("k{n}"), Integer(n))).collect();
        assert!(value(json!({ "type": "map", "values": "int" }), &Map(pairs.clone()).bytes()).is_ok());
        pairs.push(("k1".to_owned(), Integer(0)));
        let why = value(json!({ "type": "map", "values": "int" }), &Map(pairs).bytes()).unwrap_err();
        assert_eq!(why, "column `v`: the key `k1` twice in a map");
    }
}
