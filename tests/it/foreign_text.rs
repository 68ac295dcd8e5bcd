//! Text that others chose, on its way to a terminal.

use serde_json::Value;

use crate::common::Dataset;

/// What a hostile record may hold: a title of the terminal, a cleared screen, a turned line, C1 control characters, a bell.
const HOSTILE: &str = "\u{1b}]0;PWNED\u{7}\u{1b}[2J\u{202e}\u{9b}31m\u{7f}\rx";

#[track_caller]
fn assert_harmless(text: &str, what: &str) {
    let odd = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert_eq!(text.chars().find(|c| odd(*c)), None, "{what}: {text:?}");
}

#[test]
fn no_command_and_no_log_lets_text_from_outside_move_the_cursor() {
    for format in ["text", "json"] {
        let dataset = Dataset::new();
        run(&dataset, format);
        if format == "text" {
            ask(&dataset);
        }
    }
}

/// Runs the line over a file with a hostile name, and a good and three bad records.
fn run(dataset: &Dataset, format: &str) {
    let good = serde_json::json!({ "id": 1, "time": "2026-01-05T10:00:00Z", "text": format!("a\n{HOSTILE}") });
    // A key that is none, a value of the wrong type, no JSON at all.
    let bad = [
        serde_json::json!({ "id": HOSTILE, "time": "2026-01-05T10:00:00Z", "text": "b" }).to_string(),
        format!("{HOSTILE}{{"),
        serde_json::json!({ "id": 2, "time": HOSTILE }).to_string(),
    ];
    let name = format!("events{HOSTILE}.ndjson");
    dataset.write(&name, format!("{good}\n{}\n", bad.join("\n")));
    let columns = "\n[[schema.columns]]\nname = \"id\"\ntype = \"int64\"\n[[schema.columns]]\nname = \"time\"\ntype = \"timestamp\"\n\
                   [[schema.columns]]\nname = \"text\"\ntype = \"text\"\n";
    let run = dataset.pintail().set("source.type", "file").set("source.path", "*.ndjson").set("transform.sql", "SELECT * FROM events");
    let run = run.set("sink.event_time", "time").set("sink.partition_by", Value::Array(Vec::new())).tables(columns);
    let outcome = run.set("dead_letters.ratio_max", 1.0).set("log.format", format).run_ok();
    assert!(outcome.stderr.contains("checkpoint committed"), "{}", outcome.stderr);
    assert_harmless(&outcome.stderr, format);
}

/// Asks for what was committed and rejected, in every form.
fn ask(dataset: &Dataset) {
    let run = |args: &[&str]| dataset.pintail().args(args).run();
    let letters = run(&["dead-letters"]);
    assert!(letters.stdout.contains("3 dead letters"), "{}", letters.stdout);
    assert_harmless(&letters.stdout, "dead-letters");
    let sql = "SELECT id, text AS \"t\u{1b}[2J\" FROM events";
    for format in ["table", "csv", "json"] {
        let answer = run(&["query", sql, "--format", format]);
        answer.assert_code(0);
        let shown = if format == "csv" { answer.stdout.replace('\r', "") } else { answer.stdout.clone() };
        assert_harmless(&shown, format);
        assert!(answer.stdout.contains("PWNED"), "{format}: {}", answer.stdout);
        if format == "json" {
            let row: Value = serde_json::from_str(&answer.stdout).unwrap();
            assert_eq!(row["t\u{1b}[2J"], format!("a\n{HOSTILE}"), "as JSON it is exact");
        }
    }
    let failed = run(&["query", &format!("SELECT '{HOSTILE}'::INT FROM events")]);
    failed.assert_code(78);
    assert_harmless(&failed.stderr, "an error");
    assert_harmless(&run(&["verify"]).stdout, "verify");
}
