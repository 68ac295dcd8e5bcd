//! Datasets that Pintail 0.1 left, taken over by this one: each event once, whatever 0.1 was doing when it ended.
//!
//! Owns: what the current binary makes of each archive below `tests/v1/`, and what 0.1 makes of it afterwards.
//! Does not own: how the archives were made (see `tests/v1/make.py`).

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::common::kafka::Cluster;
use crate::common::lines::{ids, line, lines};
use crate::common::nats::Broker;
use crate::common::process::{Pintail, Process};
use crate::common::{Dataset, wait_until, walk};
use crate::http::{NDJSON, assert_taken, post};

pub(crate) mod fixture;

use fixture::Fixture;

#[test]
fn simulated_events_go_on_behind_those_of_0_1() {
    let fixture = Fixture::unpack("simulator");
    fixture.pintail().set("source.limit", 800).run_ok();
    fixture.dataset.assert_simulated(800);
    fixture.assert_upgraded();
    assert_refused_by_0_1(&fixture.dataset, fixture.pintail().set("source.limit", 900));
}

#[test]
fn whatever_step_0_1_was_killed_at_the_dataset_ends_up_as_one_that_it_never_saw() {
    let all = Fixture::unpack("killed");
    let undisturbed = Dataset::new();
    all.on(&undisturbed).run_ok();
    let content = |dataset: &Dataset| {
        let sorted = |values: Vec<Value>| {
            let mut texts: Vec<_> = values.iter().map(Value::to_string).collect();
            texts.sort();
            texts
        };
        let letters =
            dataset.dead_letters().into_iter().map(|letter| Value::from(vec![letter["offset"].clone(), letter["record"].clone()]));
        (sorted(dataset.rows().into_iter().map(Value::from).collect()), sorted(letters.collect()))
    };
    let expected = content(&undisturbed);
    assert_eq!(expected.0.len() + expected.1.len(), 120);
    let states = all.told["states"].as_object().unwrap();
    assert!(states.len() > 10, "{states:?}");
    for (name, label) in states {
        let dataset = Dataset::new();
        fs::rename(all.dataset.root().join("states").join(name), dataset.out()).unwrap();
        all.on(&dataset).run_ok();
        assert_eq!(content(&dataset), expected, "state {name}: {label}");
        dataset.assert_clean();
    }
}

#[test]
fn followed_files_are_read_on_where_0_1_left_them() {
    let fixture = Fixture::unpack("files");
    fixture.put_in_place();
    follow_to_the_end(&fixture);
    assert_refused_by_0_1(&fixture.dataset, fixture.pintail());
}

/// Reads what is there, what is appended meanwhile, and a file that is new.
fn follow_to_the_end(fixture: &Fixture) {
    let (dataset, given) = (&fixture.dataset, fixture.given());
    let mut process = fixture.pintail().spawn();
    process.wait_for_rows(given as usize);
    dataset.append("input/a.ndjson", lines(given..given + 10));
    dataset.write("input/f.ndjson", lines(given + 10..given + 20));
    process.wait_for_rows(given as usize + 20);
    process.stop(Signal::TERM).assert_code(0);
    fixture.assert_holds(0..given + 20, fixture.number("dead_letters") as usize);
}

#[test]
fn files_that_are_read_once_are_read_on_where_0_1_left_them() {
    let fixture = Fixture::unpack("once");
    fixture.put_in_place();
    fixture.pintail().run_ok();
    fixture.assert_holds(0..fixture.given(), 0);
}

#[test]
fn files_that_are_read_once_and_were_restored_from_a_copy_are_read_on_where_0_1_left_them() {
    let fixture = Fixture::unpack("once");
    fixture.pintail().run_ok();
    fixture.assert_holds(0..fixture.given(), 0);
}

#[test]
fn files_that_were_rotated_before_they_were_restored_from_a_copy_are_read_on_where_0_1_left_them() {
    let fixture = Fixture::unpack("once");
    let given = fixture.given();
    let path = |name: &str| fixture.dataset.root().join("input").join(name);
    fs::rename(path("a.ndjson"), path("a.ndjson.1")).unwrap();
    fs::rename(path("b.ndjson.gz"), path("b.ndjson.2.gz")).unwrap();
    fixture.dataset.write("input/a.ndjson", lines(given..given + 10));
    fixture.pintail().run_ok();
    fixture.assert_holds(0..given + 10, 0);
}

#[test]
fn dead_letters_that_0_1_replayed_are_not_replayed_again_and_the_others_once() {
    let fixture = Fixture::unpack("dead_letters");
    fixture.put_in_place();
    let listed = || fixture.dataset.pintail().args(["dead-letters"]).run_ok().stdout;
    let replay = || fixture.pintail().args(["dead-letters", "--replay"]).run_ok();
    assert!(listed().contains("2  sql"), "those of ids 67 and 87, and not of 7, 27 and 47:\n{}", listed());
    replay();
    assert_eq!(fixture.dataset.ids(), ids(0..fixture.given()));
    replay();
    assert_eq!(fixture.dataset.ids(), ids(0..fixture.given()));
    assert!(listed().contains("0 dead letters, and"), "{}", listed());
    fixture.assert_upgraded();
}

#[test]
fn standard_input_is_counted_on_from_where_0_1_ended() {
    let fixture = Fixture::unpack("stdin");
    let given = fixture.given();
    fixture.pintail().stdin(lines(given..given + 50)).run_ok();
    fixture.assert_holds(0..given + 50, 0);
    assert_eq!(fixture.dataset.last_commit().next_offset(), given as u64 + 50);
}

/// Sends the requests that 0.1 had answered again, with their keys, and then new ones.
fn push_again(fixture: &Fixture) {
    let (given, step) = (fixture.given(), fixture.number("step"));
    fixture.keys_are_new();
    let mut process = fixture.pintail().spawn();
    let address = process.http();
    let send = |from: i64| post(address, &[NDJSON, ("Idempotency-Key", &format!("from {from}"))], fixture::sent(from..from + step));
    // Backwards, so that an answer of its own would have another offset; the last two are new.
    for from in (0..given / step).rev().map(|n| n * step).chain([given, given + step]) {
        assert_taken(&send(from), step as u64, from as u64);
    }
    process.wait_for_committed((given + 2 * step) as u64);
    process.stop(Signal::TERM).assert_code(0);
    fixture.assert_holds(0..given + 2 * step, 0);
}

#[test]
fn requests_that_0_1_accepted_are_committed_once_and_their_keys_are_known() {
    let fixture = Fixture::unpack("http");
    push_again(&fixture);
    assert_refused_by_0_1(&fixture.dataset, fixture.pintail());
}

#[test]
fn a_torn_tail_of_a_journal_of_0_1_is_a_request_that_was_not_answered() {
    push_again(&Fixture::unpack("http_torn"));
}

fn nats_goes_on(name: &str) {
    let fixture = Fixture::unpack(name);
    let broker = Broker::over(&fixture.dataset.root().join("js"));
    let given = fixture.given();
    let run = || fixture.pintail().set("source.url", broker.url());
    let mut process = run().spawn();
    process.wait_for_rows(given as usize);
    broker.publish_ids(given..given + 10);
    process.wait_for_rows(given as usize + 10);
    process.stop(Signal::TERM).assert_code(0);
    fixture.assert_holds(0..given + 10, fixture.number("dead_letters") as usize);
    assert_refused_by_0_1(&fixture.dataset, run());
}

#[test]
fn a_stream_is_read_on_where_0_1_left_it() {
    nats_goes_on("nats");
}

#[test]
fn a_work_queue_that_0_1_has_not_acknowledged_to_the_end_is_read_on() {
    nats_goes_on("workqueue");
}

/// Starts a cluster with the messages that 0.1 read, under the id that its topic has here.
fn with_messages_of(fixture: &Fixture) -> Cluster {
    let partitions: Vec<Vec<String>> = serde_json::from_value(fixture.told["partitions"].clone()).unwrap();
    let cluster = Cluster::start(partitions.len() as i32);
    (0..).zip(&partitions).for_each(|(partition, messages)| cluster.produce(partition, messages));
    let was = topic_id(&fixture.dataset);
    // A dataset of its own tells which that is.
    let other = Dataset::new();
    let mut process = other.kafka(&cluster.broker()).spawn();
    process.wait_for_rows(1);
    process.stop(Signal::TERM).assert_code(0);
    fixture.rename_all(&[(was, topic_id(&other))]);
    cluster
}

/// Returns the id of the topic, with what is before it.
fn topic_id(dataset: &Dataset) -> String {
    let commit = dataset.last_commit();
    let id = commit.value["source"]["partitions"][0]["id"].as_str().expect("a partition").to_owned();
    id[id.find('@').expect("an id of the topic")..].to_owned()
}

fn produce_ids(cluster: &Cluster, ids: std::ops::Range<i64>) {
    (0..4).for_each(|partition| cluster.produce(partition as i32, ids.clone().filter(|id| id / 2 % 4 == partition).map(line)));
}

#[test]
fn a_topic_is_read_on_where_0_1_left_it() {
    let fixture = Fixture::unpack("kafka");
    let (cluster, given) = (with_messages_of(&fixture), fixture.given());
    let run = || fixture.pintail().set("source.brokers", cluster.broker());
    let mut process = run().spawn();
    process.wait_for_rows(given as usize);
    produce_ids(&cluster, given..given + 20);
    process.wait_for_rows(given as usize + 20);
    process.stop(Signal::TERM).assert_code(0);
    fixture.assert_holds(0..given + 20, fixture.number("dead_letters") as usize);
    assert_refused_by_0_1(&fixture.dataset, run());
}

#[test]
fn two_instances_of_0_1_are_upgraded_together_and_another_one_takes_over() {
    let fixture = Fixture::unpack("instances");
    let (cluster, given) = (with_messages_of(&fixture), fixture.given());
    let instance = |index: u32, count: u32| {
        let instance = serde_json::json!({ "index": index, "count": count });
        fixture.pintail().set("source.brokers", cluster.broker()).set("source.instance", instance)
    };
    let mut processes: Vec<Process<'_>> = vec![instance(0, 2).spawn()];
    // It takes the locks of all for as long as it needs to upgrade them.
    wait_until("the first to be ready", || processes[0].log().contains("line ready"));
    processes.push(instance(1, 2).spawn());
    processes[0].wait_for_rows(given as usize);
    produce_ids(&cluster, given..given + 20);
    processes[0].wait_for_rows(given as usize + 20);
    processes.into_iter().for_each(|process| process.stop(Signal::TERM).assert_code(0));
    fixture.assert_holds(0..given + 20, fixture.number("dead_letters") as usize);
    (0..2).for_each(|index| assert_refused_by_0_1(&fixture.dataset, instance(index, 2)));

    produce_ids(&cluster, given + 20..given + 40);
    let mut processes = vec![instance(0, 3).args(["run", "--take-over"]).spawn()];
    // Until then it holds the locks of all.
    wait_until("the first to be ready", || processes[0].log().contains("line ready"));
    processes.extend((1..3).map(|index| instance(index, 3).spawn()));
    processes[0].wait_for_rows(given as usize + 40);
    processes.into_iter().for_each(|process| process.stop(Signal::TERM).assert_code(0));
    fixture.assert_holds(0..given + 40, fixture.number("dead_letters") as usize);
}

#[test]
fn an_instance_of_0_1_and_one_of_this_version_do_not_run_side_by_side() {
    let fixture = Fixture::unpack("instances");
    let cluster = with_messages_of(&fixture);
    let instance = |index: u32| {
        let instance = serde_json::json!({ "index": index, "count": 2 });
        fixture.pintail().set("source.brokers", cluster.broker()).set("source.instance", instance)
    };
    // While one of 0.1 runs, it holds the lock of its chain, which is to be brought to version 2.
    let lock = fixture.dataset.internal("instances/1/LOCK");
    let held = fs::File::options().read(true).write(true).open(lock).unwrap();
    held.lock().unwrap();
    let before = content(&fixture.dataset.out());
    instance(0).run().assert_refused(75, &["instances/1/LOCK", "do not run side by side", "stop all"]);
    assert_eq!(content(&fixture.dataset.out()), before, "one that was refused changes nothing");
    drop(held);

    // While one of this version runs, the other chain is of version 2 already, which 0.1 does not read.
    let running = instance(0).spawn();
    wait_until("it to be ready", || running.log().contains("line ready"));
    let chain = fixture.dataset.internal("instances/1");
    let last = walk(&chain.join("commits")).into_iter().max().unwrap();
    let record: Value = serde_json::from_str(fs::read_to_string(last).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!(record["version"], 2);
    if let Some(binary) = std::env::var_os("PINTAIL_V01") {
        let before = content(&chain);
        instance(1).binary(&binary).run().assert_refused(65, &["commit record", "cannot be trusted"]);
        assert_eq!(content(&chain), before);
    }
    running.stop(Signal::TERM).assert_code(0);
}

/// Asserts that 0.1 refuses what is there now, and leaves it as it is. `PINTAIL_V01` names its binary; without it nothing is asserted.
fn assert_refused_by_0_1(dataset: &Dataset, run: Pintail<'_>) {
    let Some(binary) = std::env::var_os("PINTAIL_V01") else { return };
    let before = content(&dataset.out());
    let outcome = run.binary(&binary).run();
    outcome.assert_refused(65, &["commit record", "cannot be trusted"]);
    assert_eq!(content(&dataset.out()), before);
}

/// Returns all files with their content, but for the lock.
fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> =
        walk(dir).into_iter().filter(|path| !path.ends_with("LOCK")).map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}
