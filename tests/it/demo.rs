//! `pintail demo`: what it says is so, nothing stays behind, and it can be stopped.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Dataset, wait_until};

/// A demonstration that takes a few seconds, whose temporary files are below `directory`.
fn demo(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pintail"));
    // What stands in the environment is for other runs.
    command.env("TMPDIR", directory).env("PINTAIL_SOURCE__LIMIT", "7").env("OUT_PATH", "/nowhere");
    command.args(["demo", "--events", "60000", "--seconds", "3"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn a_demonstration_kills_twice_loses_nothing_and_leaves_nothing_behind() {
    let dataset = Dataset::new();
    let output = demo(dataset.root()).output().unwrap();
    let (said, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("60,000 in · 60,000 out · 0 lost · 0 doubled · 2 kills\n"), "{said}");
    assert_eq!(said.matches("SIGKILL").count(), 2, "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 80) && !said.contains('\x1b'), "{said}");
    assert_eq!(errors, "");
    assert!(is_empty(dataset.root()));
}

#[test]
fn what_is_kept_can_be_queried_and_is_not_written_into_something_else() {
    let dataset = Dataset::new();
    let kept = dataset.root().join("kept");
    let made = demo(dataset.root()).arg("--keep").arg(&kept).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for name in ["lake", "undisturbed"] {
        let counted = dataset
            .pintail()
            .set("pipeline.out_path", kept.join(name).display().to_string())
            .args(["query", "SELECT count(*) FROM events"])
            .run_ok();
        assert!(counted.stdout.contains("60000"), "{}", counted.stdout);
    }
    let again = demo(dataset.root()).arg("--keep").arg(&kept).output().unwrap();
    assert_eq!(again.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"));
}

/// Returns the processes whose arguments name a path.
fn processes_with(path: &Path) -> usize {
    let arguments = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    arguments.filter(|line| String::from_utf8_lossy(line).contains(path.to_str().unwrap())).count()
}

#[test]
fn a_demonstration_that_is_killed_takes_its_service_along() {
    let dataset = Dataset::new();
    let mut child = demo(dataset.root()).spawn().unwrap();
    wait_until("the service of the demonstration", || processes_with(dataset.root()) > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the end of the service", || processes_with(dataset.root()) == 0);
}

#[test]
fn a_signal_ends_a_demonstration_and_takes_its_service_and_its_files_along() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let dataset = Dataset::new();
        let mut child = demo(dataset.root()).spawn().unwrap();
        wait_until("files of the demonstration", || !is_empty(dataset.root()));
        std::thread::sleep(Duration::from_millis(500));
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(is_empty(dataset.root()));
    }
}

#[test]
fn on_a_terminal_the_live_table_of_its_service_is_shown() {
    let dataset = Dataset::new();
    let demo = format!("stty cols 80 rows 30; {} demo --events 60000 --seconds 4", env!("CARGO_BIN_EXE_pintail"));
    // `script` gives it a terminal.
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &demo, "/dev/null"]).env("TMPDIR", dataset.root()).env("TERM", "xterm").stdin(Stdio::null());
    let output = terminal.output().expect("`script` is there: it belongs to util-linux (Debian: apt-get install bsdutils)");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("avg_amount") && text.contains("60,000 out"), "{text}");
}
