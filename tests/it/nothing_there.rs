//! Commands that look at a dataset, or do something to one, where there is none: each names the place and makes nothing.

use std::fs;
use std::process::{Child, Command, Output, Stdio};

use crate::common::{Dataset, wait_until};

/// Commands that need a dataset, with their exit codes where there is none.
const COMMANDS: [(&[&str], i32); 11] = [
    (&["query", "SELECT 1"], 78),
    (&["verify"], 78),
    (&["verify", "--fast"], 78),
    (&["adopt"], 78),
    (&["expire", "--before", "2020-01-01"], 78),
    (&["dead-letters"], 78),
    (&["dead-letters", "--accept"], 78),
    (&["dead-letters", "--replay"], 78),
    (&["repair", "--key"], 78),
    (&["repair", "--snapshot"], 78),
    (&["health"], 75),
];

#[test]
fn a_command_on_a_place_without_a_dataset_names_it_and_makes_nothing() {
    let dataset = Dataset::new();
    let path = dataset.out().to_str().unwrap().to_owned();
    for (arguments, code) in COMMANDS {
        dataset.simulator(1000).args(arguments).run().assert_refused(code, &[&path]);
        assert!(!dataset.out().exists(), "{arguments:?} made something");
    }
    fs::write(dataset.out(), "a file").unwrap();
    for (arguments, code) in COMMANDS.iter().filter(|(arguments, _)| !arguments.contains(&"adopt")) {
        dataset.simulator(1000).args(*arguments).run().assert_refused(*code, &[&path]);
    }
    fs::remove_file(dataset.out()).unwrap();
    fs::create_dir(dataset.out()).unwrap();
    for (arguments, code) in COMMANDS {
        dataset.simulator(1000).args(arguments).run().assert_refused(code, &[&path]);
        assert_eq!(fs::read_dir(dataset.out()).unwrap().count(), 0, "{arguments:?} made something");
    }
}

#[test]
fn a_table_ends_where_it_would_not_fit_and_the_other_formats_have_every_row() {
    let dataset = Dataset::new();
    dataset.simulator(10_003).run_ok();
    let asked = |format| dataset.pintail().args(["query", "SELECT amount FROM events", "--format", format]).run_ok().stdout;
    let table = asked("table");
    assert_eq!(table.lines().filter(|line| line.starts_with('|')).count(), 10_001);
    assert!(table.contains("the first 10,000 rows"), "{}", &table[table.len() - 200..]);
    assert_eq!((asked("csv").lines().count(), asked("json").lines().count()), (10_004, 10_003));
}

#[test]
fn a_query_of_a_dataset_without_rows_says_why_there_are_none() {
    let asked = |dataset: &Dataset, code, words: &[&str]| dataset.pintail().args(["query", "SELECT 1"]).run().assert_refused(code, words);
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    for file in dataset.data_files() {
        fs::remove_file(dataset.out().join(file)).unwrap();
    }
    asked(&dataset, 65, &["missing"]);
    dataset.simulator(1000).args(["expire", "--before", "2100-01-01", "--force"]).run_ok();
    asked(&dataset, 75, &["files were declared expired", "expire --take-back"]);

    let dataset = Dataset::new();
    let filtered =
        || dataset.simulator(1000).set("transform.sql", "SELECT epoch_ms(timestamp) AS ts, amount, region FROM events WHERE amount < 0");
    filtered().run_ok();
    asked(&dataset, 75, &["1,000 records are committed", "1000 left out by the SQL"]);

    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    fs::remove_dir_all(dataset.internal("commits")).unwrap();
    asked(&dataset, 65, &["the ledger is older than the files", "adopt"]);
}

/// Runs the binary without a configuration file.
fn without_config(dataset: &Dataset, arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_pintail");
    Command::new(binary).env_clear().current_dir(dataset.root()).args(arguments).output().unwrap()
}

#[test]
fn a_command_that_finds_nothing_asks_whether_the_configuration_was_forgotten() {
    let dataset = Dataset::new();
    let asks = |arguments: &[&str]| {
        let output = without_config(&dataset, arguments);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        said.contains("was `--config` forgotten?")
    };
    for arguments in [&["verify"][..], &["query", "SELECT 1"], &["dead-letters"], &["dead-letters", "--replay"], &["repair", "--journal"]] {
        assert!(asks(arguments), "{arguments:?}");
    }
    assert!(!asks(&["verify", "elsewhere"]), "the place was named");
    assert!(!asks(&["verify", "--set", "pipeline.out_path=elsewhere"]), "the place was named");

    // A dataset of another source in the default place.
    dataset.write("logs/a.ndjson", crate::common::lines::lines(0..10));
    let checkpoints = dataset.root().join("checkpoints");
    dataset.file("logs/*.ndjson").set("pipeline.out_path", checkpoints.to_str().unwrap()).run_ok();
    for arguments in [&["dead-letters"][..], &["dead-letters", "--accept"], &["run", "--set", "admin.listen="]] {
        assert!(asks(arguments), "{arguments:?}");
    }
    let expired = without_config(&dataset, &["expire", "--before", "2020-01-01"]);
    assert!(expired.status.success(), "that is about the dataset alone");
}

#[test]
fn adopting_where_every_file_is_named_changes_nothing() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    let records = dataset.records().len();
    let told = dataset.simulator(1000).args(["adopt"]).run_ok().stdout;
    assert!(told.contains("nothing to adopt"), "{told}");
    assert_eq!(dataset.records().len(), records);
}

/// Ends with the test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn health_that_is_told_nothing_looks_at_the_one_service_of_its_program_however_that_was_started() {
    let dataset = Dataset::new();
    // A program of its own: others run the usual one at this moment.
    let program = dataset.root().join("program");
    fs::copy(env!("CARGO_BIN_EXE_pintail"), &program).unwrap();
    dataset.write("etc/service.toml", "[source]\nrate = 1000\n[admin]\nlisten = \"\"\n[pipeline]\nout_path = \"lake\"\n");
    let serve = |place: &str| {
        fs::create_dir_all(dataset.root().join(place)).unwrap();
        let mut command = Command::new(&program);
        command.env_clear().current_dir(dataset.root().join(place)).args(["--config", "../etc/service.toml"]);
        Service(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let health = |arguments: &[&str]| {
        let output = Command::new(&program).env_clear().current_dir("/").args(["health"]).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = health(&[]);
    assert!(code == Some(75) && said.contains("was `--config` forgotten?"), "{said}");
    let service = serve("one");
    wait_until("the service", || health(&[]).0 == Some(0));
    assert_eq!(health(&["--set", "pipeline.out_path=/nowhere"]).0, Some(75), "another dataset was asked for");
    let other = serve("two");
    wait_until("the other service", || dataset.root().join("two/lake/_pintail").exists());
    assert_eq!(health(&[]).0, Some(75), "it cannot know which is meant");
    drop(service);
    wait_until("the one that is left", || health(&[]).0 == Some(0));
    drop(other);
    assert_eq!(health(&[]).0, Some(75));
}
