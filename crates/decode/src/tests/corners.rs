//! Single records in the corners of JSON and of the types.

use super::*;

fn ok(column_type: &str, json: &str, expected: &str) {
    assert_eq!(one(column_type, json), Ok(Some(expected.into())), "{column_type} from {json}");
}

fn refused(column_type: &str, json: &str) {
    let reason = one(column_type, json).expect_err(json);
    assert!(reason.starts_with(&format!("column `v`: expected {column_type}")), "{reason}");
    assert!(reason.ends_with(&format!("got {json}")), "{reason}");
}

/// The reason why a line of one int64 column `v` and an unknown rest is a dead letter.
fn reason(line: impl Into<Bytes>) -> String {
    let mut decoded = decode(&[("v", "int64")], line);
    assert_eq!((decoded.batch.num_rows(), decoded.dead_letters.len()), (0, 1));
    decoded.dead_letters.remove(0).reason.to_string()
}

#[test]
fn integers_are_judged_by_their_value_and_not_by_their_spelling() {
    for (spelling, value) in [("5.0", "5"), ("1e2", "100"), ("-0", "0"), ("-0.0", "0"), ("120e-1", "12"), ("1.20e1", "12")] {
        ok("int8", spelling, value);
    }
    ok("int64", "9007199254740993.0", "9007199254740993");
    ok("uint64", "1.8446744073709551615e19", "18446744073709551615");
    for bad in ["128", "5.5", "1e3", "5.00000000000000000001", "1e400", "1e-400", "\"5\"", "true", "[5]", "{}"] {
        refused("int8", bad);
    }
    for (column_type, below, least, most, above) in [
        ("int16", "-32769", "-32768", "32767", "32768"),
        ("int32", "-2147483649", "-2147483648", "2147483647", "2147483648"),
        ("int64", "-9223372036854775809", "-9223372036854775808", "9223372036854775807", "9223372036854775808"),
        ("uint8", "-1", "0", "255", "256"),
        ("uint16", "-1", "0", "65535", "65536"),
        ("uint32", "-1", "0", "4294967295", "4294967296"),
        ("uint64", "-1", "0", "18446744073709551615", "18446744073709551616"),
    ] {
        ok(column_type, least, least);
        ok(column_type, most, most);
        refused(column_type, below);
        refused(column_type, above);
    }
}

#[test]
fn floats_are_the_nearest_and_finite() {
    ok("float64", "9007199254740993", "9007199254740992.0");
    // `serde_json` reads this one unit in the last place too low or high.
    ok("float64", "8.533e+68", "8.533e68");
    ok("float64", "-0", "-0.0");
    ok("float32", "0.1", "0.1");
    ok("float64", "1e-400", "0.0");
    for bad in ["1e400", "-1e400", "\"1.5\"", "\"NaN\"", "false", "[]"] {
        refused("float64", bad);
    }
    refused("float32", "3.5e38");
}

#[test]
fn decimals_keep_every_digit() {
    ok("decimal(38,0)", &"9".repeat(38), &"9".repeat(38));
    ok("decimal(38,10)", "1234567890123456789012345678.0123456789", "12345678901234567890123456780123456789");
    ok("decimal(5,2)", "\"-1.5\"", "-150");
    ok("decimal(5,2)", r#""\u0031.50""#, "150");
    for bad in ["1.234", "1000", "\"\"", "\"1,5\"", "\" 1\"", "true", "[1]", "{\"a\":1}", "1e400"] {
        let reason = one("decimal(5,2)", bad).unwrap_err();
        assert!(reason.starts_with("column `v`: expected decimal(5,2) (no digit may be lost), got "), "{reason}");
    }
}

#[test]
fn text_is_taken_from_text_only() {
    ok("text", r#""\u00e9\ud83d\ude00\n\u0000""#, "é😀\n\0");
    ok("dictionary", "\"\"", "");
    let reason = one("text", "5").unwrap_err();
    assert_eq!(reason, "column `v`: expected text (declare the column as `json` to take any value), got 5");
    for bad in ["true", "[\"a\"]", "{}"] {
        refused("dictionary", bad);
    }
}

#[test]
fn json_is_any_value_as_it_is_written() {
    for value in ["1e400", r#"{"b": [1, {"a": "\u00e9"}]}"#, "\"x\"", "0.10", "false", "[]"] {
        ok("json", value, value);
    }
    assert_eq!(one("json", "null"), Ok(None));
    refused("json", r#"{"a":"\ud800"}"#);
}

#[test]
fn nothing_goes_past_the_end_of_its_line() {
    for (first, second) in [
        (r#"{"v":[1,"#, r#"2]}"#),
        (r#"{"v":"#, r#"1}"#),
        (r#"{"v""#, r#":1}"#),
        (r#"{"v":1"#, r#","w":2}"#),
        (r#"{"v":1,"#, r#""w":2}"#),
        (r#"{"#, r#""v":1}"#),
        (r#"{"w":["#, r#"],"v":1}"#),
        (r#"{"v":"a"#, r#"b"}"#),
    ] {
        let decoded = decode(&[("v", "json")], format!("{first}\n{second}\n{{\"v\":7}}\n"));
        assert_eq!(cells(&decoded.batch), [[Some("7".to_owned())]], "{first}");
        let letters: Vec<_> = decoded.dead_letters.iter().map(|letter| std::str::from_utf8(&letter.bytes).unwrap()).collect();
        assert_eq!(letters, [first, second]);
    }
}

#[test]
fn null_and_missing_are_null_and_refused_where_required() {
    for column_type in
        ["boolean", "int8", "uint64", "float64", "decimal(5,2)", "text", "dictionary", "timestamp_ms", "timestamp", "date", "json"]
    {
        assert_eq!(one(column_type, "null"), Ok(None), "{column_type}");
        let required = format!("{column_type}!");
        let reason = one(&required, "null").unwrap_err();
        assert_eq!(reason, format!("column `v`: the value is null, and the column is required ({column_type})"));
        assert_eq!(cells(&decode(&[("v", column_type)], "{}\n").batch), [[None]], "{column_type}");
        let missing = decode(&[("v", &required)], "{}\n").dead_letters;
        assert_eq!(&*missing[0].reason, format!("column `v`: the value is missing, and the column is required ({column_type})").as_str());
    }
}

#[test]
fn timestamps_in_the_wrong_unit_are_refused() {
    ok("timestamp_s", "1767225600", "1767225600");
    ok("timestamp_us", "-1", "-1");
    ok("timestamp_ns", "1767225600123456789", "1767225600123456789");
    for (column_type, value) in [("timestamp_s", "1767225600123"), ("timestamp_ms", "1767225600123456"), ("timestamp_us", "1e18")] {
        refused(column_type, value);
    }
    refused("timestamp_ms", "\"2026-01-01T00:00:00Z\"");
    refused("timestamp", "1767225600123");
    refused("timestamp", "\"2026-01-01\"");
    refused("date", "\"2026-01-01T00:00:00Z\"");
    refused("date", "20454");
}

#[test]
fn the_last_of_a_repeated_key_counts_even_if_an_earlier_one_does_not_fit() {
    let columns = [("v", "int64"), ("o.a", "int64"), ("o.b", "int64")];
    let text = concat!(
        r#"{"v":"x","v":1}"#,
        "\n",
        r#"{"v":1,"v":null}"#,
        "\n",
        r#"{"o":{"a":1},"o":{"b":2}}"#,
        "\n",
        r#"{"v":1,"v":"x"}"#,
        "\n",
        r#"{"v":3}"#,
        "\n",
    );
    let decoded = decode(&columns, text);
    let some = |n: u8| Some(n.to_string());
    assert_eq!(cells(&decoded.batch), [[some(1), None, None], [None, None, None], [None, None, some(2)], [some(3), None, None]]);
    assert_eq!(&*decoded.dead_letters[0].reason, "column `v`: expected int64, got \"x\"");
}

#[test]
fn a_path_goes_through_objects_and_null_but_through_nothing_else() {
    let columns = [("a.b.c", "int64"), ("a.b.d", "text"), ("a", "json")];
    let decoded =
        decode(&columns, "{\"a\":{\"b\":{\"d\":\"x\",\"c\":1}}}\n{\"a\":{\"b\":null}}\n{\"a\":null}\n{\"a\":{\"b\":7}}\n{\"a\":[]}\n");
    assert_eq!(cells(&decoded.batch)[0], [Some("1".into()), Some("x".into()), Some(r#"{"b":{"d":"x","c":1}}"#.into())]);
    assert_eq!(cells(&decoded.batch)[1..], [[None, None, Some("{\"b\":null}".into())], [None, None, None]]);
    let reasons: Vec<_> = decoded.dead_letters.iter().map(|letter| &*letter.reason).collect();
    assert_eq!(reasons, ["column `a_b_c`: expected an object at `a.b`, got 7", "column `a_b_c`: expected an object at `a`, got []"]);
}

#[test]
fn an_object_on_the_way_with_half_of_a_surrogate_pair_in_a_key_is_refused_and_not_taken_for_an_empty_one() {
    let decoded = decode(&[("a.b", "int64")], concat!(r#"{"a":{"b":1,"\ud800":2}}"#, "\n", r#"{"a":{"b":3},"c":{"\ud800":4}}"#, "\n"));
    assert_eq!(cells(&decoded.batch), [[Some("3".into())]]);
    let reason = &decoded.dead_letters[0].reason;
    let expected = "column `a_b`: expected an object at `a` (half of a surrogate pair is no character of a key), got {";
    assert!(reason.starts_with(expected), "{reason}");
}

#[test]
fn two_columns_may_read_the_same_value() {
    let schema = EventSchema::new(vec![column("v", "int64"), Column { name: "w".into(), ..column("v", "float64") }]);
    let decoded = Ndjson::new(&schema).decode(&lines("{\"v\":5}\n{}\n")).unwrap();
    assert_eq!(cells(&decoded.batch), [[Some("5".into()), Some("5.0".into())], [None, None]]);
}

#[test]
fn what_is_not_one_json_object_is_a_dead_letter_that_says_so() {
    for line in ["[{\"v\":1}]", "5", "\"{}\"", "null", "true"] {
        assert_eq!(reason(line), format!("expected a JSON object, got {line}"));
    }
    for line in [
        "{",
        "{\"v\":1",
        "{\"v\":1,}",
        "{,}",
        "{\"v\" 1}",
        "{\"v\":}",
        "{v:1}",
        "{'v':1}",
        "{\"v\":1}{\"v\":2}",
        "{\"v\":1} x",
        "{\"v\":01}",
        "{\"v\":1.}",
        "{\"v\":.5}",
        "{\"v\":+1}",
        "{\"v\":0x1}",
        "{\"v\":NaN}",
        "{\"v\":-}",
        "{\"v\":1 2}",
        "{\"v\":tru}",
        "{\"u\":[1,}",
        "{\"u\":\"a\tb\"}",
        "{\"u\":\"\\x\"}",
        "{\"u\":\"\\u12\"}",
        "x",
        "{}}",
        "{\"v\":1}\u{feff}",
        "\u{feff}\u{feff}{}",
        "\u{c}{}",
        "//{}",
    ] {
        let reason = reason(line);
        assert!(reason.starts_with("not a JSON object: ") || reason.starts_with("expected a JSON object, got"), "{line}: {reason}");
    }
    assert_eq!(reason("{\"v\":1} x"), "not a JSON object: trailing characters at byte 9: {\"v\":1} x");
}

#[test]
fn half_a_surrogate_pair_is_refused_where_it_is_read_and_passed_over_where_it_is_not() {
    refused("text", r#""\ud800""#);
    refused("text", r#""\udc00\ud800""#);
    let decoded = decode(&[("v", "int64")], r#"{"v":1,"unknown":"\ud800","big":1e400}"#);
    assert_eq!(cells(&decoded.batch), [[Some("1".into())]]);
}

#[test]
fn nesting_of_a_million_is_a_dead_letter_and_no_stack_overflow() {
    for column_type in ["json", "int64", "text", "decimal(5,2)"] {
        for (open, close) in [("[", "]"), ("{\"v\":", "}")] {
            for key in ["v", "unknown"] {
                let deep = format!("{{\"{key}\":{}1{}}}", open.repeat(1_000_000), close.repeat(1_000_000));
                let decoded = decode(&[("v", column_type)], deep.clone());
                assert_eq!(&*decoded.dead_letters[0].reason, "nested deeper than 127 objects and arrays");
                assert_eq!(decoded.dead_letters[0].bytes, deep);
            }
        }
    }
}

#[test]
fn nesting_ends_where_serde_json_ends_it() {
    for (depth, good) in [(126, true), (127, false)] {
        let line = format!("{{\"v\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), good);
        assert_eq!(decode(&[("v", "json")], line).dead_letters.is_empty(), good);
    }
    let brackets_in_text = format!("{{\"v\":\"\\\"{}\"}}", "[{".repeat(1_000));
    assert_eq!(decode(&[("v", "json")], brackets_in_text).batch.num_rows(), 1);
}

#[test]
fn a_long_value_is_shortened_in_the_reason() {
    let reason = one("int64", &format!("\"{}\"", "é".repeat(1_000))).unwrap_err();
    assert!(reason.len() < 200 && reason.ends_with("éé…"), "{reason}");
}

#[test]
fn blank_lines_are_no_records_and_marks_and_carriage_returns_are_passed_over() {
    let decoded = decode(&[("v", "int64")], "\u{feff}{\"v\":1}\r\n\r\n \t\n\u{feff}\n\n{\"v\":2}\r\n{\"v\":3}");
    assert_eq!(cells(&decoded.batch).concat(), ["1", "2", "3"].map(|v| Some(v.to_string())));
    assert_eq!((decoded.records_in, decoded.dead_letters.len()), (3, 0));
}

#[test]
fn a_line_that_is_not_utf8_is_a_dead_letter_between_good_neighbours() {
    let decoded = decode(&[("v", "int64")], &b"{\"v\":1}\n{\"v\":2,\"u\":\"\xff\"}\n{\"v\":3}\n"[..]);
    assert_eq!(cells(&decoded.batch).concat(), ["1", "3"].map(|v| Some(v.to_string())));
    assert_eq!(&*decoded.dead_letters[0].reason, "not valid UTF-8 at byte 13");
    assert_eq!(decoded.dead_letters[0].bytes, &b"{\"v\":2,\"u\":\"\xff\"}"[..]);
    assert_eq!(decoded.dead_letters[0].offset, 8);
}

#[test]
fn a_key_with_quotes_in_it_is_found_only_where_they_are_escaped() {
    let decoded = decode(&[(r#"a"b\c"#, "int64")], concat!(r#"{"a\"b\\c":1}"#, "\n", r#"{"a"b\c":2}"#, "\n", r#"{"a\u0022b\\c":3}"#));
    assert_eq!(cells(&decoded.batch).concat(), ["1", "3"].map(|v| Some(v.to_string())));
    assert_eq!(decoded.dead_letters.len(), 1);
}

#[test]
fn thousands_of_unknown_keys_are_passed_over() {
    let line = |n: usize| {
        let unknown: Vec<_> = (0..2_000).map(|i| format!("\"{}{i}\":{i}", "k".repeat((i + n) % 100))).collect();
        format!("{{{},\"v\":{n},\"{}\":1}}\n", unknown.join(","), "long".repeat(100))
    };
    let decoded = decode(&[("v", "int64")], (0..5).map(line).collect::<String>());
    assert_eq!(cells(&decoded.batch).concat(), ["0", "1", "2", "3", "4"].map(|v| Some(v.to_string())));
}
