//! `pintail init`: a configuration for one's own data that runs as it is; nothing written where something is wrong, and never over another.

use std::fs;

use crate::common::Dataset;
use crate::common::process::{Outcome, Pintail};

const SALES: &str = concat!(
    "{\"id\":1,\"time\":\"2026-01-05T10:00:00Z\",\"shop\":\"berlin\",\"price\":10.5}\n",
    "{\"id\":2,\"time\":\"2026-01-05T10:10:00Z\",\"shop\":\"boston\",\"price\":20}\n",
);

/// Enough of the same to tell few values from many.
fn sales() -> String {
    SALES.repeat(20)
}

fn init<'a>(dataset: &'a Dataset, arguments: &[&str]) -> Pintail<'a> {
    dataset.pintail().bare().args(["init"]).args(arguments)
}

fn rows(dataset: &Dataset) -> String {
    let query = [
        "query",
        "--config",
        "pintail.toml",
        "SELECT shop, count(*) AS n, sum(price) AS sum FROM events GROUP BY ALL ORDER BY ALL",
        "--format",
        "csv",
    ];
    dataset.pintail().bare().args(query).run_ok().stdout
}

fn assert_narrow(outcome: &Outcome) {
    // What names a place of the test's is as long as that is.
    let wide = outcome.stdout.lines().find(|line| line.chars().count() > 80);
    assert_eq!(wide, None, "{}", outcome.stdout);
}

#[test]
fn a_file_of_one_s_own_is_rows_after_the_two_commands_that_init_names() {
    let dataset = Dataset::new();
    dataset.write("sales.ndjson", sales() + "no JSON\n");
    let made = init(&dataset, &["sales.ndjson"]).run_ok();
    for said in [
        "pintail.toml: 4 columns in 40 records\n",
        "1 of 41 lines are no JSON objects",
        "event time  time (--event-time)",
        "partitions  shop, 2 values (--partition-by)",
        "configuration ok",
        "Next: pintail run --config pintail.toml\n",
        "then: pintail query --config pintail.toml \\\n      'SELECT shop, count(*) FROM events GROUP BY ALL'\n",
    ] {
        assert!(made.stdout.contains(said), "{said}\n{}", made.stdout);
    }
    assert_narrow(&made);
    let text = fs::read_to_string(dataset.root().join("pintail.toml")).unwrap();
    assert!((10..=40).contains(&text.lines().count()) && text.contains("\npath = \"sales.ndjson\"\n"), "{text}");
    // Not through `OUT_PATH`: the dataset is where the file says.
    dataset.pintail().bare().args(["run", "--config", "pintail.toml", "--set", "admin.listen="]).run_ok();
    assert!(dataset.root().join("checkpoints/shop=berlin").is_dir());
    assert_eq!(rows(&dataset), "shop,n,sum\nberlin,20,210.0\nboston,20,400.0\n");
    let query = ["query", "--config", "pintail.toml", "SELECT shop, count(*) FROM events GROUP BY ALL"];
    dataset.pintail().bare().args(query).run_ok();
}

#[test]
fn what_flags_say_is_not_asked_and_not_chosen() {
    let dataset = Dataset::new();
    dataset.write("in/a.ndjson", sales());
    dataset.write("in/b.ndjson", sales());
    let sql = "SELECT id, time::DATE AS day, time, upper(shop) AS shop\nFROM events";
    let flags = ["in/*.ndjson", "-o", "own.toml", "--to", "lake", "--partition-by", "day,shop", "--event-time", "time", "--sql", sql];
    let made = init(&dataset, &flags).run_ok();
    assert!(!made.stdout.contains("event time") && !made.stdout.contains("partitions  "), "{}", made.stdout);
    let text = fs::read_to_string(dataset.root().join("own.toml")).unwrap();
    assert!(text.contains("path = \"in/*.ndjson\"\n") && text.contains(&format!("sql = '''\n{sql}'''\n")), "{text}");
    dataset.pintail().bare().args(["run", "--config", "own.toml", "--set", "admin.listen="]).run_ok();
    assert!(dataset.root().join("lake/day=2026-01-05/shop=BERLIN").is_dir());
}

#[test]
fn standard_input_is_a_sample_and_a_configuration_can_be_printed() {
    let dataset = Dataset::new();
    let printed = init(&dataset, &["-", "-o", "-"]).stdin(sales()).run_ok();
    assert!(printed.stdout.contains("type = \"stdin\"\n") && !printed.stdout.contains("Next"), "{}", printed.stdout);
    init(&dataset, &["-", "--partition-by", ""]).stdin(sales()).run_ok();
    let run = dataset.pintail().bare().args(["run", "--config", "pintail.toml", "--set", "admin.listen="]);
    run.stdin(sales()).run_ok();
    assert_eq!(rows(&dataset), "shop,n,sum\nberlin,20,210.0\nboston,20,400.0\n");
}

#[test]
fn a_configuration_that_is_there_is_replaced_only_if_that_is_said() {
    let dataset = Dataset::new();
    dataset.write("sales.ndjson", sales());
    dataset.write("pintail.toml", "# mine\n");
    init(&dataset, &["sales.ndjson"]).run().assert_refused(78, &["`pintail.toml` exists", "--force", "--output"]);
    // Also before a pipe is read, which could not be read again.
    init(&dataset, &["-"]).stdin_open().run().assert_refused(78, &["`pintail.toml` exists"]);
    assert_eq!(fs::read_to_string(dataset.root().join("pintail.toml")).unwrap(), "# mine\n");
    init(&dataset, &["sales.ndjson", "--force"]).run_ok();
    assert!(fs::read_to_string(dataset.root().join("pintail.toml")).unwrap().contains("sales.ndjson"));
}

#[test]
fn where_something_is_wrong_it_is_named_with_the_way_out_and_nothing_is_written() {
    let dataset = Dataset::new();
    dataset.write("sales.ndjson", sales());
    dataset.write("empty.ndjson", "");
    dataset.write("a.csv", "a,b\n1,2\n");
    dataset.write("array.json", "[{\"a\":1}]\n");
    dataset.write("logs/a.ndjson", sales());
    dataset.write("huge.ndjson", vec![b'x'; 17 << 20]);
    for (arguments, code, words) in [
        (&["nowhere.ndjson"][..], 78, &["no file matches `nowhere.ndjson`"][..]),
        (&["nowhere/*.ndjson"], 78, &["no file matches `nowhere/*.ndjson`"]),
        (&["empty.ndjson"], 78, &["`empty.ndjson` is empty"]),
        (&["a.csv"], 78, &["looks like CSV", "read_csv"]),
        (&["array.json"], 78, &["JSON array", "jq -c"]),
        (&["logs"], 78, &["`logs` is a directory", "logs/a.ndjson", "logs/*.ndjson"]),
        (&["huge.ndjson"], 78, &["a line of the sample is longer"]),
        (&["sales.ndjson", "--partition-by", "shpo"], 78, &["--partition-by", "`shpo`", "did you mean `shop`?"]),
        (&["sales.ndjson", "--event-time", "shop"], 78, &["sink.event_time", "`shop`", "not a time"]),
        (&["sales.ndjson", "--sql", "SELECT idd FROM events"], 78, &["transform.sql", "idd"]),
        (&["sales.ndjson", "--to", "a.csv"], 78, &["`a.csv` is no directory"]),
        (&["sales.ndjson", "--partion-by", "shop"], 78, &["--partition-by"]),
        (&["sales.ndjson", "-o", "nowhere/pintail.toml"], 74, &["nowhere/pintail.toml"]),
    ] {
        let refused = init(&dataset, arguments).run();
        refused.assert_refused(code, words);
        assert!(!dataset.root().join("pintail.toml").exists(), "{arguments:?}");
    }
}
