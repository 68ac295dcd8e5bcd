//! Kafka, with the cluster that librdkafka brings along for tests, and `kcat` as a producer that no one here wrote.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rand::RngExt as _;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rustix::process::Signal;

use crate::common::http::get;
use crate::common::kafka::{Cluster, TOPIC, produce};
use crate::common::lines::{ids, line};
use crate::common::process::{Pintail, Process, log_lines};
use crate::common::{Dataset, checkout, wait_until, walk};

mod dataset;
mod payloads;
mod positions;
mod restores;

fn ids_of(partition: i32, count: i64) -> impl Iterator<Item = i64> {
    (0..count).map(move |n| i64::from(partition) + 4 * n)
}

#[test]
fn every_message_of_every_partition_arrives_once_and_a_restart_goes_on_behind_them() {
    let (cluster, dataset) = (Cluster::start(4), Dataset::new());
    (0..4).for_each(|partition| cluster.produce(partition, ids_of(partition, 1000).map(line)));
    // Batches end between the chunks that are read.
    let run = || dataset.kafka(&cluster.broker()).set("pipeline.batch_rows", 700);
    let mut process = run().spawn();
    process.wait_for_rows(4000);
    cluster.produce(2, [line(4002)]);
    process.wait_for_rows(4001);
    process.stop(Signal::TERM).assert_code(0);
    let offsets = dataset.last_commit().positions;
    assert_eq!(offsets.values().copied().collect::<Vec<_>>(), [1000, 1000, 1001, 1000], "{offsets:?}");
    assert!(offsets.keys().all(|id| id.starts_with("events/") && id.contains('@')), "{offsets:?}");
    assert_eq!(cluster.committed("pintail", 2), Some(1001), "the group is told for tools that show the lag");

    cluster.produce(0, [line(4000)]);
    let mut process = run().spawn();
    process.wait_for_rows(4002);
    process.stop(Signal::TERM).assert_code(0);
    let mut expected = ids(0..4001);
    expected.push(4002);
    assert_eq!(dataset.ids(), expected);
    assert_eq!(dataset.counts().records_in, 4002);
    dataset.assert_clean();
}

#[test]
fn what_kafka_says_of_a_message_is_there_for_the_sql() {
    let (cluster, dataset) = (Cluster::start(2), Dataset::new());
    let header = |key, value| Header { key, value: Some(value) };
    let headers = OwnedHeaders::new().insert(header("trace", "7")).insert(Header { key: "empty", value: None::<&str> });
    cluster.produce(1, [line(1), "no JSON".into(), line(2)]);
    let told = line(3);
    cluster.produce_record(
        BaseRecord::to(TOPIC).partition(1).payload(told.as_bytes()).key(b"k-3".as_slice()).headers(headers).timestamp(1_767_225_600_123),
    );
    cluster.produce_record(BaseRecord::to(TOPIC).partition(0).payload(line(4).as_bytes()).key(b"\xff\\4".as_slice()));
    let sql =
        "SELECT id, ts, region, _topic AS topic, _partition AS p, _offset AS o, _key AS k, _headers AS h, _timestamp AS t FROM events";
    let mut process = dataset.kafka(&cluster.broker()).set("transform.sql", sql).spawn();
    process.wait_for_rows(4);
    process.stop(Signal::TERM).assert_code(0);
    let mut rows = dataset.rows();
    rows.sort_by_key(|row| row["id"].as_i64());
    let cell = |id: usize, column: &str| rows[id - 1].get(column).map_or_else(|| "null".to_owned(), ToString::to_string);
    let place = |id| (cell(id, "topic"), cell(id, "p"), cell(id, "o"));
    let events = || "\"events\"".to_owned();
    assert_eq!(place(1), (events(), "1".into(), "0".into()));
    assert_eq!(place(2), (events(), "1".into(), "2".into()), "a rejected message before it does not shift what is said of the next");
    assert_eq!(place(3), (events(), "1".into(), "3".into()));
    assert_eq!(place(4), (events(), "0".into(), "0".into()));
    assert_eq!((cell(1, "k"), cell(3, "k"), cell(4, "k")), ("null".into(), "\"k-3\"".into(), r#""\\xFF\\x5C4""#.into()));
    assert_eq!((cell(1, "h"), cell(3, "h")), ("null".into(), r#""{\"trace\":\"7\",\"empty\":null}""#.into()));
    assert_eq!(cell(3, "t"), "\"2026-01-01T00:00:00.123\"");
    let letter = &dataset.dead_letters()[0];
    assert_eq!((letter["offset"].as_u64(), letter["phase"].as_str()), (Some(1), Some("decode")));
    dataset.assert_clean();
}

#[test]
fn frames_of_a_registry_tombstones_and_records_that_are_too_long_are_one_record_each() {
    let (cluster, dataset) = (Cluster::start(1), Dataset::new());
    cluster.produce(0, [[b"\x00\x00\x00\x00\x07", line(0).as_bytes()].concat(), line(1).replace(',', ",\n").into_bytes()]);
    cluster.produce_record(BaseRecord::to(TOPIC).partition(0).key(b"gone".as_slice()));
    cluster.produce(0, [format!("{{\"id\":{:>2000}}}", 1), line(4), String::new()]);
    let columns = serde_json::json!([{ "name": "id", "type": "int64" }, { "name": "ts", "type": "timestamp_ms" }, { "name": "region", "type": "text" }]);
    let sql = "SELECT coalesce(id, -1) AS id, ts, region, _key FROM events";
    let run =
        dataset.kafka(&cluster.broker()).set("source.record_bytes_max", "1KiB").set("schema.columns", columns).set("transform.sql", sql);
    let mut process = run.spawn();
    process.wait_until("6 offsets", |dataset| dataset.commits().last().is_some_and(|last| last.positions.values().copied().eq([6])));
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), [-1, 0, 1, 4], "the tombstone is a row without values");
    assert!(dataset.rows().iter().any(|row| row["id"] == -1 && row["_key"] == "gone"));
    let letters: Vec<_> = dataset.dead_letters().iter().map(|letter| letter["offset"].as_u64().unwrap()).collect();
    assert_eq!(letters, [3, 5], "the long one, and one of no bytes");
    dataset.assert_clean();
}

/// Kills the process again and again while messages come in. `PINTAIL_KAFKA_KILLS` says how often.
fn kill_rounds(default: usize) -> usize {
    std::env::var("PINTAIL_KAFKA_KILLS").map_or(default, |rounds| rounds.parse().expect("PINTAIL_KAFKA_KILLS is a number"))
}

/// Ends the producer also when the test fails, or the test would wait for it forever.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn messages_arrive_once_however_often_the_process_is_killed_and_the_broker_goes_away() {
    let (cluster, dataset) = (Cluster::start(4), Dataset::new());
    let (rounds, stop) = (kill_rounds(6), AtomicBool::new(false));
    let producer = cluster.producer();
    let produced = thread::scope(|scope| {
        let stopped = &stop;
        let writer = scope.spawn(move || {
            let mut next = 0;
            while !stopped.load(Ordering::Relaxed) {
                for partition in 0..4 {
                    produce(&producer, TOPIC, partition, (next..next + 50).map(|n| line(i64::from(partition) + 4 * n)));
                }
                next += 50;
                thread::sleep(Duration::from_millis(10));
            }
            next * 4
        });
        let _stop = StopOnDrop(&stop);
        let run = || dataset.kafka(&cluster.broker()).set("pipeline.checkpoint_interval", "40ms").set("pipeline.batch_rows", 250);
        for round in 0..rounds {
            let before = dataset.commits_len();
            let mut process = run().spawn();
            process.wait_for_commits(before + 1);
            if round % 5 == 3 {
                cluster.down();
                thread::sleep(Duration::from_millis(100));
                cluster.up();
            }
            thread::sleep(Duration::from_millis(rand::rng().random_range(0..150)));
            assert_eq!(process.kill().code(), 137);
        }
        stop.store(true, Ordering::Relaxed);
        let produced: i64 = writer.join().unwrap();
        let mut process = run().spawn();
        process.wait_for_rows(produced as usize);
        process.stop(Signal::TERM).assert_code(0);
        produced
    });
    println!("{produced} messages, {rounds} kills, {} checkpoints", dataset.commits_len());
    assert_eq!(dataset.ids(), ids(0..produced), "zero lost, zero doubled");
    assert_eq!(dataset.counts().records_in as i64, produced);
    dataset.assert_clean();
}

#[test]
fn a_broker_that_goes_away_makes_the_service_not_ready_and_loses_and_doubles_nothing() {
    let (cluster, dataset) = (Cluster::start(2), Dataset::new());
    cluster.produce(0, (0..500).map(line));
    let mut process = dataset.kafka(&cluster.broker()).set("admin.listen", "127.0.0.1:0").spawn();
    let admin = process.admin();
    process.wait_for_rows(500);
    wait_until("readiness", || get(admin, "/readyz").status == 200);
    cluster.down();
    wait_until("it to be not ready", || get(admin, "/readyz").status == 503);
    assert_eq!(get(admin, "/healthz").status, 200, "a broker that is away is no reason to restart");
    cluster.up();
    // A producer of its own: the other one has lost its connection as well, and takes its time.
    produce(&cluster.producer(), TOPIC, 1, (500..700).map(line));
    process.wait_for_rows(700);
    wait_until("readiness again", || get(admin, "/readyz").status == 200);
    wait_until("no lag", || get(admin, "/metrics").metric("pintail_lag_records") == 0.0);
    let outcome = process.stop(Signal::TERM);
    outcome.assert_code(0);
    assert_eq!(dataset.ids(), ids(0..700));
    assert!(log_lines(&outcome.stderr, &["WARN"]).contains("source unavailable, retrying"), "{}", outcome.stderr);
    dataset.assert_clean();
}

#[test]
fn messages_that_were_removed_unread_are_refused_or_recorded_as_a_gap() {
    let (cluster, dataset) = (Cluster::start(1), Dataset::new());
    cluster.produce(0, (0..10).map(line));
    let run = || dataset.kafka(&cluster.broker());
    let mut process = run().spawn();
    process.wait_for_rows(10);
    process.stop(Signal::TERM).assert_code(0);
    // The broker keeps 5 MiB.
    let long = |id: i64| line(id).replace("\"eu\"", &format!("\"eu\",\"x\":\"{}\"", "x".repeat(100_000)));
    cluster.produce(0, (5..80).map(|n| long(2 * n)));
    let outcome = run().run();
    outcome.assert_refused(65, &["events[0]", "offsets 10 to ", "removed before they were read", "on_gap"]);
    assert_eq!(dataset.ids(), ids(0..10), "nothing was touched");

    let mut process = run().set("source.on_gap", "record").spawn();
    process.wait_until("the end", |dataset| dataset.last_commit().positions.values().copied().eq([85]));
    let outcome = process.stop(Signal::TERM);
    assert!(log_lines(&outcome.stderr, &["WARN"]).contains("removed before they were read"), "{}", outcome.stderr);
    let rest: Vec<_> = dataset.ids().into_iter().filter(|id| *id >= 10).collect();
    assert!(!rest.is_empty() && rest.len() < 75 && rest.last() == Some(&158), "{rest:?}");
    assert!(rest.windows(2).all(|pair| pair[1] == pair[0] + 2), "the oldest are gone, no other: {rest:?}");
    dataset.assert_clean();
}

#[test]
fn a_topic_that_was_made_again_is_refused_or_read_from_its_beginning() {
    let dataset = Dataset::new();
    let cluster = Cluster::start(1);
    cluster.produce(0, (0..10).map(line));
    let mut process = dataset.kafka(&cluster.broker()).spawn();
    process.wait_for_rows(10);
    process.stop(Signal::TERM).assert_code(0);
    drop(cluster);

    // As many messages: only the topic's id tells.
    let again = Cluster::start(1);
    again.produce(0, (10..30).map(line));
    dataset.kafka(&again.broker()).run().assert_refused(65, &["events[0]", "recreated", "10", "on_gap"]);
    let mut process = dataset.kafka(&again.broker()).set("source.on_gap", "record").spawn();
    process.wait_for_rows(30);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..30));
    // What was recorded is no gap any more.
    again.produce(0, [line(30)]);
    let mut process = dataset.kafka(&again.broker()).spawn();
    process.wait_for_rows(31);
    process.stop(Signal::TERM).assert_code(0);
    dataset.assert_clean();
}

#[test]
fn a_broker_that_is_not_there_is_waited_for_and_check_says_so() {
    let dataset = Dataset::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let outcome = dataset.kafka(&free).args(["check"]).run();
    outcome.assert_refused(75, &["source.brokers", &free, "waits until"]);
    let mut process = dataset.kafka(&free).set("admin.listen", "127.0.0.1:0").spawn();
    let admin = process.admin();
    wait_until("a reason", || log_lines(&process.log(), &["WARN"]).contains("source unavailable"));
    let ready = get(admin, "/readyz");
    assert_eq!(ready.status, 503, "{ready:?}");
    let outcome = process.stop(Signal::TERM);
    outcome.assert_code(0);
    assert!(outcome.waited < Duration::from_secs(4), "a stop does not wait for a broker: {:?}", outcome.waited);
}

#[test]
fn a_topic_that_is_not_there_yet_is_waited_for_and_check_names_it() {
    let (cluster, dataset) = (Cluster::start(1), Dataset::new());
    let run = || dataset.kafka(&cluster.broker()).set("source.topics", ["events", "later"].map(str::to_owned).to_vec());
    // The library's cluster makes a topic that is asked for, unless this is off.
    let properties = serde_json::json!({ "allow.auto.create.topics": "false" });
    let checked = dataset.kafka(&cluster.broker()).args(["check"]).run_ok();
    assert!(checked.stdout.contains("source: events of"), "{}", checked.stdout);
    cluster.produce(0, (0..5).map(line));
    cluster.create_topic("later", 2);
    produce(&cluster.producer(), "later", 1, (5..9).map(line));
    let mut process = run().set("source.properties", properties).spawn();
    process.wait_for_rows(9);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..9));
    dataset.assert_clean();
}

#[test]
fn settings_of_the_library_are_passed_on_and_those_that_keep_the_promise_are_not() {
    let dataset = Dataset::new();
    let run = |properties: serde_json::Value| dataset.kafka("127.0.0.1:1").set("source.properties", properties).args(["check"]).run();
    run(serde_json::json!({ "auto.offset.reset": "latest" })).assert_refused(78, &["source.properties", "auto.offset.reset", "hole"]);
    run(serde_json::json!({ "secruity.protocol": "ssl" })).assert_refused(78, &["secruity.protocol"]);
    run(serde_json::json!({ "security.protocol": "tsl" })).assert_refused(78, &["security.protocol"]);
    dataset.kafka("127.0.0.1:1").set("source.topics", "no topic").run().assert_refused(78, &["source.topics", "no topic"]);
    dataset.kafka("http://x").run().assert_refused(78, &["source.brokers", "http://x"]);
    let clash = serde_json::json!([{ "name": "_KEY", "type": "text" }]);
    dataset.kafka("127.0.0.1:1").set("schema.columns", clash).run().assert_refused(78, &["schema.columns", "_KEY"]);
}

#[test]
fn looks_at_the_topics_that_take_longer_than_their_interval_leave_time_to_read() {
    let (cluster, dataset) = (Cluster::start(1), Dataset::new());
    cluster.answer_after(Duration::from_millis(200));
    let mut process = dataset.kafka(&cluster.broker()).set("source.partitions_interval", "100ms").spawn();
    process.wait_until_started();
    cluster.produce(0, (0..500).map(line));
    process.wait_for_rows(500);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..500));
}

#[test]
fn kcat_produces_and_pintail_reads() {
    let (cluster, dataset) = (Cluster::start(3), Dataset::new());
    let mut kcat = Command::new("kcat");
    kcat.args(["-b", &cluster.broker(), "-t", TOPIC, "-P", "-K", "|", "-H", "from=kcat", "-X", "partitioner=murmur2_random"]);
    let mut kcat = kcat.stdin(Stdio::piped()).spawn().expect("kcat is installed (apt-get install kcat)");
    let text: String = (0..2000).map(|id| format!("key-{id}|{}", line(id))).collect();
    kcat.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(kcat.wait().unwrap().success());
    let sql = "SELECT id, ts, region, _key AS k, _headers->>'from' AS via, _partition AS p FROM events";
    let mut process = dataset.kafka(&cluster.broker()).set("transform.sql", sql).spawn();
    process.wait_for_rows(2000);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..2000));
    let rows = dataset.rows();
    assert!(rows.iter().all(|row| row["k"] == format!("key-{}", row["id"]).as_str() && row["via"] == "kcat"));
    let partitions: std::collections::BTreeSet<_> = rows.iter().map(|row| row["p"].as_i64().unwrap()).collect();
    assert_eq!(partitions.len(), 3, "every partition was read");
    dataset.assert_clean();
}

/// Prepares instance `index` of `count`.
fn instance<'a>(dataset: &'a Dataset, cluster: &Cluster, index: u32, count: u32) -> Pintail<'a> {
    let run = dataset.kafka(&cluster.broker()).set("pipeline.checkpoint_interval", "50ms").set("pipeline.batch_rows", 250);
    run.set("source.instance", serde_json::json!({ "index": index, "count": count }))
}

fn verify(dataset: &Dataset) {
    let outcome = dataset.pintail().args(["verify"]).run();
    outcome.assert_code(0);
    assert!(outcome.stdout.contains("clean"), "{}", outcome.stdout);
}

/// Ends each with SIGTERM.
fn stop_all(processes: Vec<Process<'_>>) {
    processes.iter().for_each(|process| process.signal(Signal::TERM));
    processes.into_iter().for_each(|process| process.wait().assert_code(0));
}

#[test]
fn three_instances_share_a_topic_one_is_killed_and_then_two_take_over() {
    let (cluster, dataset) = (Cluster::start(8), Dataset::new());
    let partition_of = |id: i64| (id % 8) as i32;
    let produce_ids = |ids: std::ops::Range<i64>| {
        (0..8).for_each(|partition| cluster.produce(partition, ids.clone().filter(|id| partition_of(*id) == partition).map(line)));
    };
    produce_ids(0..2000);
    instance(&dataset, &cluster, 1, 3).run().assert_refused(75, &["FORMAT", "instance 0"]);
    let mut processes: Vec<_> = Vec::new();
    for index in 0..3 {
        let mut process = instance(&dataset, &cluster, index, 3).spawn();
        process.wait_until("its first record", |dataset| !walk(&dataset.internal(&own(index)).join("commits")).is_empty());
        processes.push(process);
    }
    instance(&dataset, &cluster, 1, 3).run().assert_refused(75, &["instances/1/LOCK", "is held by"]);
    let killed = processes.remove(1);
    produce_ids(2000..4000);
    killed.kill();
    processes.push(instance(&dataset, &cluster, 1, 3).spawn());
    processes[0].wait_for_rows(4000);
    stop_all(processes);
    assert_eq!(dataset.ids(), ids(0..4000));
    verify(&dataset);
    for (infix, index) in [("-i1-", 1), ("-i2-", 2)] {
        let names = dataset.data_files().iter().filter(|file| file.to_str().unwrap().contains(infix)).count();
        assert!(names > 0, "files of instance {index} are named after it");
    }

    // Two of three, and alone, are refused; so is a take-over while one runs.
    produce_ids(4000..5000);
    instance(&dataset, &cluster, 0, 2).run().assert_refused(78, &["3 instances", "asks for 2", "--take-over"]);
    dataset.kafka(&cluster.broker()).run().assert_refused(78, &["3 instances", "asks for 1"]);
    let running = instance(&dataset, &cluster, 2, 3).spawn();
    wait_until("the lock to be held", || running.log().contains("line ready"));
    let take_over = || instance(&dataset, &cluster, 1, 2).args(["run", "--take-over"]);
    take_over().run().assert_refused(75, &["instances/2/LOCK"]);
    running.stop(Signal::TERM).assert_code(0);

    let processes = vec![take_over().spawn()];
    wait_until("the take-over", || dataset.internal("instances/take-over-0000000001.json").exists());
    let mut processes: Vec<_> = processes.into_iter().chain([instance(&dataset, &cluster, 0, 2).spawn()]).collect();
    produce_ids(5000..6000);
    processes[0].wait_for_rows(6000);
    stop_all(processes);
    assert_eq!(dataset.ids(), ids(0..6000), "zero lost, zero doubled");
    verify(&dataset);
    instance(&dataset, &cluster, 2, 3).run().assert_refused(78, &["2 instances", "asks for 3"]);
    let counted = dataset.pintail().args(["query", "SELECT count(*) AS n FROM events", "--format", "csv"]).run_ok();
    assert_eq!(counted.stdout, "n\n6000\n", "a query sees the files of all instances, of before and of now");

    // And back to one, which has every partition.
    produce_ids(6000..6500);
    let mut process = dataset.kafka(&cluster.broker()).args(["run", "--take-over"]).spawn();
    process.wait_for_rows(6500);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..6500));
    verify(&dataset);
}

/// The directory of an instance below `_pintail`.
fn own(index: u32) -> String {
    if index == 0 { String::new() } else { format!("instances/{index}") }
}

#[test]
fn a_take_over_that_is_killed_at_any_moment_loses_and_doubles_nothing() {
    let (cluster, dataset) = (Cluster::start(4), Dataset::new());
    let mut produced = 0;
    let mut more = |count: i64| {
        (0..4).for_each(|partition| cluster.produce(partition, (0..count).map(|n| line(produced + i64::from(partition) + 4 * n))));
        produced += 4 * count;
        produced
    };
    let counts = [1, 3, 2, 4, 1];
    for (round, count) in counts.into_iter().enumerate() {
        let produced = more(100);
        // Killed again and again while it starts, at moments that grow until it has done all; then the others come.
        for pause in [20, 40, 60, 90, 130] {
            let process = instance(&dataset, &cluster, 0, count).args(["run", "--take-over"]).spawn();
            thread::sleep(Duration::from_millis(pause + rand::rng().random_range(0..40)));
            process.kill();
        }
        let mut processes = vec![instance(&dataset, &cluster, 0, count).args(["run", "--take-over"]).spawn()];
        wait_until("the first to be ready", || processes[0].log().contains("line ready"));
        processes.extend((1..count).map(|index| instance(&dataset, &cluster, index, count).spawn()));
        processes[0].wait_for_rows(produced as usize);
        if round % 2 == 0 {
            processes.into_iter().for_each(|process| drop(process.kill()));
        } else {
            stop_all(processes);
        }
        assert_eq!(dataset.ids(), ids(0..produced), "{count} instances, round {round}");
    }
    verify(&dataset);
}

#[test]
fn the_example_reads_what_its_page_produces() {
    let (cluster, dataset) = (Cluster::start(1), Dataset::new());
    cluster.create_topic("sales", 2);
    let mut kcat = Command::new("kcat");
    kcat.args(["-b", &cluster.broker(), "-t", "sales", "-P", "-K", "|"]);
    let mut kcat = kcat.stdin(Stdio::piped()).spawn().expect("kcat is installed (apt-get install kcat)");
    let sale = |id: i64| format!("berlin|{{\"id\":{id},\"time\":\"2026-01-05T10:00:00Z\",\"price\":10}}\n");
    kcat.stdin.take().unwrap().write_all((1..=3).map(sale).collect::<String>().as_bytes()).unwrap();
    assert!(kcat.wait().unwrap().success());
    let example = checkout("examples/kafka.toml");
    let run = dataset.pintail().set("source.brokers", cluster.broker()).set("pipeline.checkpoint_interval", "100ms").example(&example);
    let mut process = run.spawn();
    process.wait_for_rows(3);
    process.stop(Signal::TERM).assert_code(0);
    let sql = "SELECT shop, count(*) AS n, sum(price)::INTEGER AS sum FROM events GROUP BY shop";
    let found = dataset.pintail().args(["query", sql, "--format", "csv"]).run_ok().stdout;
    assert_eq!(found, "shop,n,sum\nberlin,3,30\n");
}
