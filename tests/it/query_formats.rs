//! What `pintail query` writes: each value of each type in each format.

use serde_json::{Value, json};

use crate::common::Dataset;

/// Expressions with their values as JSON, and as cells where those are not that JSON's own text.
fn values() -> Vec<(&'static str, Value, Option<&'static str>)> {
    vec![
        ("[1, NULL]", json!([1, null]), None),
        ("{'a': 1, 'b': [NULL, 'x']}", json!({"a": 1, "b": [null, "x"]}), None),
        ("MAP {'k': 1}", json!({"k": 1}), None),
        ("MAP {1: NULL, 2: 'b'}", json!({"1": null, "2": "b"}), None),
        ("MAP {[1]: {'x': 2}}", json!({"[1]": {"x": 2}}), None),
        ("[1, 2]::INTEGER[2]", json!([1, 2]), None),
        ("union_value(n := 1)", json!({"n": 1}), None),
        ("[union_value(n := DATE 'infinity')]", json!([{"n": "infinity"}]), None),
        ("[[]]::INTEGER[][]", json!([[]]), None),
        ("['a\"b,c']", json!(["a\"b,c"]), None),
        ("[TIMESTAMPTZ '2020-01-01 00:00:00+00']", json!(["2020-01-01T00:00:00Z"]), None),
        ("[INTERVAL 3 DAYS]", json!(["3 days"]), None),
        ("['nan'::FLOAT, 'inf', 0.1]", json!(["NaN", "inf", 0.1]), None),
        ("'nan'::DOUBLE", json!("NaN"), Some("NaN")),
        ("'-inf'::DOUBLE", json!("-inf"), Some("-inf")),
        ("1.5::DOUBLE", json!(1.5), Some("1.5")),
        ("'10101'::BIT", json!("10101"), Some("10101")),
        ("[1::UHUGEINT]", json!("[1]"), Some("[1]")),
        ("'12:00:00+02'::TIMETZ", json!("12:00:00+02"), Some("12:00:00+02")),
        ("DATE 'infinity'", json!("infinity"), Some("infinity")),
    ]
}

#[test]
fn each_value_of_a_nested_or_odd_type_is_shown_in_each_format() {
    let dataset = Dataset::new();
    dataset.simulator(10).run_ok();
    let columns: Vec<String> = values().iter().enumerate().map(|(index, (sql, ..))| format!("{sql} AS c{index}")).collect();
    let sql = format!("SELECT {} FROM events LIMIT 1", columns.join(", "));
    let run = |format: &str| dataset.pintail().args(["query", &sql, "--format", format]).run_ok().stdout;

    let shown: Value = serde_json::from_str(&run("json")).unwrap();
    let (csv, table) = (run("csv"), run("table"));
    let cells = csv.lines().nth(1).unwrap();
    for (index, (sql, value, cell)) in values().into_iter().enumerate() {
        assert_eq!(shown[format!("c{index}")], value, "{sql}");
        let cell = cell.map_or_else(|| value.to_string(), str::to_owned);
        assert!(table.contains(&format!("| {cell} ")), "{sql}: {table}");
        let quoted = if cell.contains(['"', ',']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell };
        assert!(format!(",{cells},").contains(&format!(",{quoted},")), "{sql}: {cells}");
    }
}
