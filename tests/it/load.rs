//! `pintail load`: files and pipes into a dataset in one line, each record once, whatever ends the process and however often the line is typed.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::lines::{gzip, ids, lines};
use crate::common::process::Pintail;

fn load<'a>(dataset: &'a Dataset, arguments: &[&str]) -> Pintail<'a> {
    dataset.pintail().bare().args(["load"]).args(arguments).args(["--to", "out"])
}

/// Returns the values of the only hive partition column of each file.
fn partitions(dataset: &Dataset) -> Vec<String> {
    let mut dirs: Vec<String> = dataset.data_files().iter().map(|file| file.parent().unwrap().display().to_string()).collect();
    dirs.sort();
    dirs.dedup();
    dirs
}

#[test]
fn files_of_every_kind_are_rows_after_one_line_and_the_same_line_loads_nothing_twice() {
    let dataset = Dataset::new();
    dataset.write("in/a.ndjson", lines(0..1_000));
    dataset.write("in/b.ndjson.gz", gzip(lines(1_000..2_000)));
    dataset.write("in/c.ndjson.zst", zstd::encode_all(lines(2_000..3_000).as_bytes(), 1).unwrap());
    let loaded = load(&dataset, &["in/*.ndjson*"]).run_ok();
    assert!(loaded.stdout.starts_with("3,000 rows in 2 new files of `out`\n0 dead letters · "), "{}", loaded.stdout);
    // Nobody reads the advice, and nothing is drawn.
    assert!(
        !loaded.stdout.contains("Next") && !loaded.stdout.contains('\x1b') && loaded.stderr.contains("partitions  region, 2 values"),
        "{}{}",
        loaded.stdout,
        loaded.stderr
    );
    assert_eq!(partitions(&dataset), ["region=eu", "region=us"]);
    assert_eq!(dataset.ids(), ids(0..3_000));
    // The hour is that of the integers called `ts`.
    assert!(dataset.data_files().iter().all(|file| file.to_str().unwrap().contains("events-2026-01-01-00-")));
    let again = load(&dataset, &["in/*.ndjson*"]).run_ok();
    assert_eq!(again.stdout, "nothing new: `out` has all of it\n");
    dataset.append("in/a.ndjson", lines(3_000..3_010));
    dataset.write("in/d.ndjson", lines(3_010..3_020));
    let more = load(&dataset, &["in/a.ndjson", "in/d.ndjson"]).run_ok();
    assert!(more.stdout.starts_with("20 rows in 2 new files"), "{}", more.stdout);
    assert_eq!(dataset.ids(), ids(0..3_020));
    dataset.assert_clean();
}

#[test]
fn a_load_that_is_killed_goes_on_where_it_has_committed() {
    let dataset = Dataset::new();
    let count = 400_000;
    dataset.write("a.ndjson", lines(0..count));
    let arguments =
        ["a.ndjson", "--partition-by", "region", "--set", "pipeline.checkpoint_interval=20ms", "--set", "pipeline.batch_rows=2000"];
    let mut kills = 0;
    while kills < 2 {
        let before = dataset.commits_len();
        let mut process = load(&dataset, &arguments).spawn();
        process.wait_until("a commit", |dataset| dataset.commits_len() > before);
        process.kill().assert_code(137);
        kills += 1;
    }
    assert!(dataset.rows_len() < count as usize, "killed too late");
    load(&dataset, &arguments).run_ok();
    assert_eq!(dataset.ids(), ids(0..count));
    dataset.assert_clean();
}

#[test]
fn a_signal_commits_what_was_read_and_the_exit_code_says_that_there_is_more() {
    let dataset = Dataset::new();
    let count = 400_000;
    dataset.write("a.ndjson", lines(0..count));
    let arguments = ["a.ndjson", "--set", "pipeline.checkpoint_interval=20ms", "--set", "pipeline.batch_rows=2000"];
    let mut process = load(&dataset, &arguments).spawn();
    process.wait_for_commits(1);
    let stopped = process.stop(Signal::INT);
    stopped.assert_refused(75, &["stopped before the end", "the same command goes on"]);
    assert!(stopped.stdout.contains(" rows in "), "{}", stopped.stdout);
    assert!(dataset.rows_len() < count as usize, "stopped too late");
    load(&dataset, &arguments).run_ok();
    assert_eq!(dataset.ids(), ids(0..count));
}

#[test]
fn a_pipe_is_loaded_once_however_often_it_comes_also_after_a_kill() {
    let dataset = Dataset::new();
    let (first, other) = (lines(0..200_000), lines(200_000..200_100));
    let arguments = ["-", "--set", "pipeline.checkpoint_interval=20ms", "--set", "pipeline.batch_rows=2000"];
    let mut process = load(&dataset, &arguments).stdin(first.clone()).spawn();
    process.wait_for_commits(1);
    process.kill().assert_code(137);
    assert!(dataset.rows_len() < 200_000, "killed too late");
    load(&dataset, &arguments).stdin(first.clone()).run_ok();
    assert_eq!(dataset.ids(), ids(0..200_000));
    let again = load(&dataset, &arguments).stdin(first).run_ok();
    assert_eq!(again.stdout, "nothing new: `out` has all of it\n");
    load(&dataset, &arguments).stdin(other).run_ok();
    assert_eq!(dataset.ids(), ids(0..200_100));
    let differs = lines(0..1_000) + &lines(7..1_000);
    load(&dataset, &arguments).stdin(differs).run().assert_refused(65, &["begins as what was loaded before", "an empty line"]);
    assert_eq!(dataset.ids(), ids(0..200_100));
    dataset.assert_clean();
}

#[test]
fn sql_of_one_s_own_makes_the_rows_and_its_faults_name_themselves() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..100));
    let sql = "SELECT id, upper(region) AS area, ts FROM events WHERE id >= 10";
    let wrong = load(&dataset, &["a.ndjson", "--sql", "SELECT idd FROM events"]).run();
    wrong.assert_refused(78, &["--sql", "idd"]);
    assert!(!dataset.out().exists());
    let loaded = load(&dataset, &["a.ndjson", "--sql", sql, "--partition-by", "area", "--event-time", ""]).run_ok();
    assert!(loaded.stdout.starts_with("90 rows in 2 new files of `out`\n0 dead letters · 10 filtered by the SQL · "), "{}", loaded.stdout);
    assert_eq!(partitions(&dataset), ["area=EU", "area=US"]);
}

#[test]
fn dead_letters_are_counted_and_are_an_error_only_where_that_is_asked_for() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..100) + "no JSON\n" + &lines(100..200));
    let loaded = load(&dataset, &["a.ndjson"]).run_ok();
    assert!(loaded.stdout.contains("200 rows") && loaded.stdout.contains("1 dead letter · "), "{}", loaded.stdout);
    assert!(loaded.stdout.contains("`pintail dead-letters --set pipeline.out_path=out` shows"), "{}", loaded.stdout);
    let strict = Dataset::new();
    strict.write("a.ndjson", lines(0..100) + "no JSON\n" + &lines(100..200));
    let refused = load(&strict, &["a.ndjson", "--fail-on-dead-letters"]).run();
    refused.assert_refused(65, &["1 record became dead letters", "pintail dead-letters"]);
    assert_eq!(strict.ids(), ids(0..200));
}

#[test]
fn the_command_that_lets_rejected_records_pass_can_be_pasted() {
    let dataset = Dataset::new();
    let others = "{\"id\":\"none\",\"region\":\"eu\"}\n".repeat(2_000);
    dataset.write("a b.ndjson", lines(0..2_000) + &others);
    let arguments = ["a b.ndjson", "--records", "100", "--partition-by", "region"];
    let refused = load(&dataset, &arguments).run();
    let passed = "pintail load 'a b.ndjson' --to out --partition-by region --set dead_letters.ratio_max=1";
    refused.assert_refused(65, &["2000 of 4000 records were rejected", passed]);
    load(&dataset, &[&arguments[..], &["--set", "dead_letters.ratio_max=1"]].concat()).run_ok();
    assert_eq!(dataset.ids(), ids(0..2_000));
}

#[test]
fn what_only_records_behind_the_sample_have_is_told_to_be_left_out() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..1_500) + "{\"id\":1500,\"more\":1}\n");
    let loaded = load(&dataset, &["a.ndjson", "--records", "1000"]).run_ok();
    let note = "note        the columns are those of 1,000 of the 1,501 records: fields that only others have are left out (--records N)";
    assert!(loaded.stderr.contains(note), "{}", loaded.stderr);
    dataset.write("b.ndjson", lines(2_000..2_010));
    let whole = load(&dataset, &["b.ndjson"]).run_ok();
    assert!(!whole.stderr.contains("the columns are those of"), "{}", whole.stderr);
}

#[test]
fn commands_that_name_a_loaded_dataset_go_by_what_load_has_inferred() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..100) + "{\"id\":\"none\"}\n" + &lines(100..200));
    let bare = |arguments: &[&str]| dataset.pintail().bare().args(arguments.iter().copied()).args(["--set", "pipeline.out_path=out"]);
    load(&dataset, &["a.ndjson", "--partition-by", "region"]).run_ok();
    bare(&["dead-letters", "--replay"]).run_ok();
    dataset.write("a.ndjson", lines(0..50));
    let refused = load(&dataset, &["a.ndjson", "--partition-by", "region"]).run();
    refused.assert_refused(65, &["a.ndjson", "pintail run --accept --set pipeline.out_path=out"]);
    bare(&["run", "--accept"]).run_ok();
    load(&dataset, &["a.ndjson", "--partition-by", "region"]).run_ok();
    dataset.assert_clean();
}

#[test]
fn what_a_sample_says_of_values_that_do_not_fit_is_told_where_nobody_reads_the_schema() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..990) + "{\"id\":\"x5\",\"region\":\"eu\",\"ts\":1}\n");
    let loaded = load(&dataset, &["a.ndjson"]).run_ok();
    assert!(loaded.stderr.contains("note        id: rejects the values that are no numbers: texts in 1"), "{}", loaded.stderr);
    dataset.write("b.ndjson", "{\"other\":1}\n".repeat(10));
    let other = load(&dataset, &["b.ndjson"]).run_ok();
    assert!(other.stderr.contains("1 new column: other"), "{}", other.stderr);
    assert!(other.stderr.contains("`region`, which lays out the files, is in no record of the sample"), "{}", other.stderr);
}

#[test]
fn what_cannot_be_loaded_is_named_with_the_way_out_and_leaves_nothing() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..10));
    dataset.write("empty.ndjson", "");
    dataset.write("a.csv", "a,b\n1,2\n");
    dataset.write("logs/a.ndjson", lines(0..10));
    dataset.write("huge.ndjson", vec![b'x'; 17 << 20]);
    for (arguments, code, words) in [
        (&["nowhere.ndjson"][..], 78, &["no file matches `nowhere.ndjson`"][..]),
        (&["empty.ndjson"], 78, &["`empty.ndjson` is empty"]),
        (&["a.csv"], 78, &["looks like CSV"]),
        (&["logs"], 78, &["`logs` is a directory", "logs/*.ndjson"]),
        (&["huge.ndjson"], 78, &["a line of the sample is longer"]),
        (&["a.ndjson", "-"], 78, &["`-`", "alone"]),
        (&["a.ndjson", "--partition-by", "regoin"], 78, &["did you mean `region`?"]),
        (&["a.ndjson", "--config", "x.toml"], 78, &["takes no configuration"]),
        (&["a.ndjson", "--partiton-by", "region"], 78, &["--partition-by"]),
    ] {
        load(&dataset, arguments).run().assert_refused(code, words);
        assert!(!dataset.out().exists(), "{arguments:?}");
    }
    // Where a setting of a configuration is meant, its flag is named.
    dataset.write("file", "");
    for (arguments, words) in [
        (&["a.ndjson", "--to", "file"][..], &["`file` is no directory", "`--to`"][..]),
        (&["a.ndjson", "--to", "out", "--sql", "SELEC"], &["`--sql` cannot be parsed"]),
        (&["a.ndjson", "--to", "out", "--sql", "SELECT id, regoin FROM events"], &["--sql", "region"]),
    ] {
        let refused = dataset.pintail().bare().args(["load"]).args(arguments).run();
        refused.assert_refused(78, words);
        assert!(!refused.stderr.contains("pipeline.out_path") && !refused.stderr.contains("transform.sql"), "{}", refused.stderr);
    }
    for arguments in [&["-"][..], &[]] {
        load(&dataset, arguments).stdin("").run().assert_refused(78, &["standard input is empty"]);
    }
}

#[test]
fn columns_keep_their_types_whatever_another_file_has_and_new_ones_come_along() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..100));
    load(&dataset, &["a.ndjson", "--partition-by", ""]).run_ok();
    // No time, the id a text where it is one, and a column of its own.
    let more = |id: i64| match id {
        150 => "{\"id\":\"none\",\"tip\":1}\n".to_owned(),
        id => format!("{{\"id\":{id}.0,\"region\":\"eu\",\"tip\":0.5}}\n"),
    };
    dataset.write("b.ndjson", (100..200).map(more).collect::<String>());
    let loaded = load(&dataset, &["b.ndjson"]).run_ok();
    assert!(loaded.stdout.starts_with("99 rows in ") && loaded.stdout.contains("\n1 dead letter · "), "{}", loaded.stdout);
    let expected: Vec<i64> = (0..200).filter(|id| *id != 150).collect();
    assert_eq!(dataset.ids(), expected);
    assert_eq!(dataset.rows().iter().filter(|row| row.get("tip").is_some()).count(), 99);
    assert_eq!(dataset.counts().decode, 1);
    let refused = load(&dataset, &["b.ndjson", "--partition-by", "region"]).run();
    refused.assert_refused(78, &["partition"]);
}

#[test]
fn on_a_terminal_of_80_columns_no_line_of_words_is_wider_and_commands_stay_whole() {
    let dataset = Dataset::new();
    let line =
        |n: u64| format!("{{\"id\":{n},\"at\":\"2026-01-05T10:00:00.1234567{n:02}Z\",\"big\":{},\"half\":0.5}}\n", (1_u64 << 54) + n);
    let lines: String = (1..50).map(line).collect();
    dataset.write("a.ndjson", format!("{lines}no record at all, and a few words more of it than a terminal has room for on one line\n"));
    dataset.write("b.ndjson", "{\"id\":60,\"at\":\"2026-01-05T10:00:00Z\",\"big\":1,\"half\":1}\n");
    let terminal = |arguments: &str| {
        let command = format!("stty cols 80; {} {arguments}", env!("CARGO_BIN_EXE_pintail"));
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &command, "/dev/null"]).current_dir(dataset.root()).env("TERM", "dumb").stdin(Stdio::null());
        let output = terminal.output().expect("`script` is there: it belongs to util-linux (Debian: apt-get install bsdutils)");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).unwrap().replace('\r', "")
    };
    let out = "--set pipeline.out_path=out";
    for arguments in [
        "load a.ndjson b.ndjson --to out --partition-by id 2>/dev/null".to_owned(),
        "init a.ndjson --event-time at".to_owned(),
        format!("verify {out}"),
        format!("expire {out} --before 2026-06-01 --force"),
        format!("verify {out}"),
        format!("dead-letters {out}"),
        format!("expire {out} --take-back"),
    ] {
        let text = terminal(&arguments);
        // What is to be typed is one line to the shell.
        let words = text.lines().filter(|line| !["Next: ", "then: ", "      '"].iter().any(|begin| line.starts_with(begin)));
        let wide: Vec<_> = words.filter(|line| line.chars().count() > 80 && line.trim().contains(' ')).collect();
        assert!(wide.is_empty(), "{arguments}: {wide:#?}");
        assert!(text.lines().any(|line| line.len() > 20), "{arguments}: {text}");
    }
}

#[test]
fn on_a_terminal_it_says_how_far_it_is_and_what_to_do_next() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..300_000));
    // `script` gives it a terminal.
    let command = format!("stty cols 80; {} load a.ndjson --to out", env!("CARGO_BIN_EXE_pintail"));
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &command, "/dev/null"]).current_dir(dataset.root()).env("TERM", "xterm").stdin(Stdio::null());
    let output = terminal.output().expect("`script` is there: it belongs to util-linux (Debian: apt-get install bsdutils)");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains(" records/s"), "{text}");
    assert!(text.contains("partitions  region, 2 values (--partition-by)"), "{text}");
    assert!(text.contains("Next: pintail query --set pipeline.out_path=out \\"), "{text}");
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap();
    assert!(last.contains("SELECT region, count(*) FROM events GROUP BY ALL"), "{text}");
    assert!(fs::metadata(dataset.internal("FORMAT")).is_ok());
}
