//! The process that a statement runs in: what it may take, and that nothing of it reaches the service.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::sql::{SLOW, ask, ask_until_taken, error, resting, start};
use crate::common::http::Answer;
use crate::common::process::Process;
use crate::common::{Dataset, wait_until};

/// Returns a figure of a process' status in bytes.
fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap_or("0 kB");
    value.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Returns the processes that a process has started and not reaped.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
    let lists = tasks.filter_map(|task| fs::read_to_string(task.join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
}

/// Starts a query and waits until its process is at work: the last thing that it does before is to limit its own memory.
fn running(process: &Process<'_>, address: SocketAddr, sql: &'static str) -> (u32, thread::JoinHandle<Answer>) {
    let asked = thread::spawn(move || ask_until_taken(address, sql));
    let is_limited = |child: &u32| {
        let limits = fs::read_to_string(format!("/proc/{child}/limits")).unwrap_or_default();
        limits.lines().any(|line| line.starts_with("Max data size") && !line.contains("unlimited"))
    };
    wait_until("the process of the query", || children(process.pid()).iter().any(is_limited));
    (children(process.pid())[0], asked)
}

/// Returns whether a process is over, reaped or not: once the service is gone that is for others to do.
fn is_over(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}/exe")).exists()
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn no_statement_takes_more_memory_or_time_than_it_may_and_the_line_goes_on_beside_it() {
    let dataset = Dataset::new();
    let limited = dataset.watched().set("admin.query", true).set("admin.query_timeout", "2s").set("admin.query_memory_limit", "64MB");
    let mut process = limited.spawn();
    let address = process.admin();
    process.wait_for_commits(1);
    for sql in [
        "SELECT len(range(200000000))",
        "SELECT length(repeat('x', 1500000000))",
        "SELECT count(*) FROM (SELECT unnest(range(100000000)) AS a) ORDER BY 1",
        "SELECT list(a.range) FROM range(100000000) a",
        "SELECT string_agg(repeat('y', 100000), ',') FROM range(100000)",
        "SELECT levenshtein(repeat('a', 300000), repeat('b', 300000))",
        "SELECT max(len(regexp_replace(repeat('ab', 50000000), '(a|b)*c', '', 'g')))",
        SLOW,
    ] {
        let (commits, before) = (dataset.commits_len(), memory(process.pid(), "VmRSS"));
        let begun = Instant::now();
        let asked = thread::spawn(move || ask_until_taken(address, sql));
        let (mut most, mut own) = (0, 0);
        while !asked.is_finished() {
            let now = children(process.pid()).iter().map(|child| memory(*child, "RssAnon")).max().unwrap_or(0);
            (most, own) = (most.max(now), own.max(memory(process.pid(), "VmRSS")));
            thread::sleep(Duration::from_millis(5));
        }
        let answer = asked.join().unwrap();
        println!("{sql}: {} after {:?}, at most {} MB: {}", answer.status, begun.elapsed(), most >> 20, answer.body);
        assert!([200, 400, 422].contains(&answer.status), "{sql}: {answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{sql}: {:?}", begun.elapsed());
        assert!(most < 400 << 20, "{sql}: {} MB", most >> 20);
        assert!(own < before + (200 << 20), "{sql}: the service itself took {} MB", (own - before) >> 20);
        process.wait_for_commits(commits + 2);
        assert_eq!(children(process.pid()), [0; 0], "{sql}: its process is over and reaped");
    }
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn a_process_of_a_query_has_nothing_of_the_service_and_a_place_behind_it() {
    let dataset = Dataset::new();
    let (process, address) = start(resting(&dataset).set("admin.query_timeout", "60s").env("SECRET", "of-the-service"));
    let (child, _asked) = running(&process, address, SLOW);
    let read = |name: &str| fs::read_to_string(format!("/proc/{child}/{name}")).unwrap();
    assert_eq!(read("environ"), "");
    assert_eq!(read("oom_score_adj").trim(), "1000");
    assert_eq!(read("stat").rsplit(") ").next().unwrap().split(' ').nth(16), Some("2"), "its nice value");
    let limits = read("limits");
    let limit = |name: &str| limits.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().nth_back(2).unwrap().to_owned();
    assert_eq!((limit("Max core file size"), limit("Max file size"), limit("Max cpu time")), ("0".into(), "0".into(), "61".into()));
    let data: u64 = limit("Max data size").parse().unwrap();
    assert!(data < memory(child, "VmData") + (512 << 20), "{data}");
    // Beside the three streams only files of the dataset, which are read, and what says which memory and processors the process has.
    let root = dataset.root().canonicalize().unwrap();
    for descriptor in fs::read_dir(format!("/proc/{child}/fd")).unwrap() {
        let descriptor = descriptor.unwrap();
        let number: i32 = descriptor.file_name().to_str().unwrap().parse().unwrap();
        let to = fs::read_link(descriptor.path()).unwrap_or_default();
        let is_data = to.starts_with(&root) && to.extension().is_some_and(|ending| ending == "parquet");
        let is_limit = to == Path::new("/proc") || to.starts_with("/sys/fs/cgroup");
        assert!(number <= 2 || is_data || is_limit, "{number} → {}", to.display());
    }
    drop(process);
    wait_until("the process to die with the service", || is_over(child));
}

#[test]
fn a_process_of_a_query_that_dies_is_an_answer_and_the_next_question_is_answered() {
    let dataset = Dataset::new();
    let (mut process, address) = start(resting(&dataset).set("admin.query_timeout", "60s"));
    for signal in [Signal::KILL, Signal::ABORT, Signal::ILL] {
        let (child, asked) = running(&process, address, SLOW);
        kill(child, signal);
        let answer = asked.join().unwrap();
        assert!(answer.status == 422 && error(&answer).contains("the service goes on"), "{answer:?}");
        assert_eq!(ask(address, "SELECT 1").status, 200);
        assert!(process.is_running());
    }
    // Stopped, it neither answers nor ends by itself.
    let (child, asked) = running(&process, address, SLOW);
    kill(child, Signal::STOP);
    let begun = Instant::now();
    drop(asked);
    process.stop(Signal::TERM).assert_code(0);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    wait_until("the process to die with the service", || is_over(child));
}

#[test]
fn many_questions_at_once_and_one_after_the_other_leave_no_process_behind() {
    let dataset = Dataset::new();
    let (process, address) = start(resting(&dataset));
    let statuses: Vec<u16> = thread::scope(|scope| {
        let asked = || (0..5).map(|_| ask(address, "SELECT count(*) FROM events").status).collect::<Vec<_>>();
        let askers: Vec<_> = (0..20).map(|_| scope.spawn(asked)).collect();
        askers.into_iter().flat_map(|asker| asker.join().unwrap()).collect()
    });
    let kinds: HashSet<u16> = statuses.iter().copied().collect();
    assert!(kinds.contains(&200) && kinds.iter().all(|status| [200, 429].contains(status)), "{kinds:?}");
    assert_eq!(children(process.pid()), [0; 0]);
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn a_service_whose_program_was_replaced_by_an_upgrade_still_answers() {
    let dataset = Dataset::new();
    let program = dataset.root().join("pintail");
    fs::copy(env!("CARGO_BIN_EXE_pintail"), &program).unwrap();
    let (process, address) = start(resting(&dataset).binary(&program));
    fs::write(dataset.root().join("new"), "not the same program").unwrap();
    fs::rename(dataset.root().join("new"), &program).unwrap();
    assert_eq!(ask(address, "SELECT count(*) FROM events").json()["rows"], serde_json::json!([[10_000]]));
    fs::remove_file(&program).unwrap();
    assert_eq!(ask(address, "SELECT 1").status, 200);
    process.stop(Signal::TERM).assert_code(0);
}
