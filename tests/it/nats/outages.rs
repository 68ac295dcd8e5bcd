//! Servers that go away, and networks that do.

use std::thread;
use std::time::Duration;

use async_nats::jetstream::stream::RetentionPolicy::Limits;
use rustix::process::Signal;

use super::assert_whole;
use crate::common::http::get;
use crate::common::lines::{ids, line};
use crate::common::nats::{Broker, STREAM};
use crate::common::process::messages;
use crate::common::wire::Wire;
use crate::common::{Dataset, wait_until};

#[test]
fn a_server_killed_and_started_again_costs_nothing_but_the_time() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Limits);
    let mut process = dataset.nats(&broker).spawn();
    let mut next = 0;
    for outage in 0..2 {
        next += 60;
        broker.publish_up_to(next, |n| ("events.eu", line(n as i64)));
        broker.stop();
        if outage == 1 {
            // Long enough for several tries, which are not worth a line each.
            thread::sleep(Duration::from_millis(1200));
        }
        broker.up();
    }
    broker.publish_up_to(next + 60, |n| ("events.eu", line(n as i64)));
    process.wait_for_rows(180);
    let log = process.log();
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..180));
    let warnings = messages(&log, "source unavailable, retrying").len();
    assert!((1..=4).contains(&warnings), "{warnings} warnings of two outages:\n{log}");
    dataset.assert_clean();
}

#[test]
fn a_server_that_is_not_there_at_the_start_is_waited_for() {
    let (broker, dataset) = (Broker::down(), Dataset::new());
    let mut process = dataset.nats(&broker).set("admin.listen", "127.0.0.1:0").spawn();
    let address = process.admin();
    let not_ready = |why: &str| {
        let answer = get(address, "/readyz");
        answer.status == 503 && answer.body.contains(why)
    };
    wait_until("a warning", || !messages(&process.log(), "source unavailable, retrying").is_empty());
    thread::sleep(Duration::from_millis(700));
    assert!(process.is_running());
    let warned = messages(&process.log(), "source unavailable, retrying");
    assert_eq!(warned.len(), 1, "one for all tries: {warned:?}");
    assert!(warned[0]["reason"].as_str().unwrap().contains(&broker.url()), "{warned:?}");
    assert!(not_ready(&format!("the source gives nothing: cannot reach {}", broker.url())), "{:?}", get(address, "/readyz"));
    assert_eq!(get(address, "/healthz").status, 200, "a supervisor that restarts it would not help");

    broker.up();
    wait_until("the missing stream to be named", || process.log().contains(&format!("no stream `{STREAM}`")));
    assert!(not_ready("no stream"));
    broker.make_stream(Limits);
    broker.publish_ids(0..10);
    process.wait_for_rows(10);
    assert_eq!(messages(&process.log(), "source available again").len(), 1);
    assert_eq!(get(address, "/readyz").status, 200);
    // And is no hindrance to a stop.
    broker.stop();
    wait_until("the outage", || not_ready("cannot reach"));
    let outcome = process.stop(Signal::TERM);
    outcome.assert_code(0);
    assert!(outcome.waited < Duration::from_secs(3), "{:?}", outcome.waited);
    assert_eq!(dataset.ids(), ids(0..10));
}

#[test]
fn a_delivery_lost_on_the_way_is_fetched_again_in_its_place() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    let wire = Wire::to(broker.port());
    wire.lose_every(777);
    broker.make_stream(Limits);
    // Under a filter the sequences have holes of their own: only the count of the deliveries tells that one is missing.
    for id in 0..50 {
        broker.publish_ids(id * 100..(id + 1) * 100);
        broker.publish("events.us", ["not for us"]);
    }
    let mut process = dataset.nats(&broker).set("source.url", wire.url()).set("source.subject", "events.eu").spawn();
    process.wait_for_rows(5000);
    process.stop(Signal::TERM).assert_code(0);
    assert!(wire.lost() >= 3, "{} deliveries lost", wire.lost());
    assert_whole(&dataset, 0..5000);
    assert_eq!(dataset.counts().records_in, 5000);
    dataset.assert_clean();
}

#[test]
fn a_network_cut_again_and_again_costs_nothing_but_the_time() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    let wire = Wire::to(broker.port());
    broker.make_stream(Limits);
    let mut process = dataset.nats(&broker).set("source.url", wire.url()).spawn();
    for cut in 0..8 {
        broker.publish_ids(cut * 2000..(cut + 1) * 2000);
        // While they are on their way; sometimes before the connection is made again.
        thread::sleep(Duration::from_millis(20 * (cut as u64 % 4)));
        wire.cut();
    }
    process.wait_for_rows(16_000);
    process.stop(Signal::TERM).assert_code(0);
    assert_whole(&dataset, 0..16_000);
    assert_eq!(dataset.counts().records_in, 16_000);
    dataset.assert_clean();
}

#[test]
fn a_network_that_falls_silent_is_noticed_and_waited_for() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    let wire = Wire::to(broker.port());
    broker.make_stream(Limits);
    broker.publish_ids(0..100);
    let mut process = dataset.nats(&broker).set("source.url", wire.url()).set("admin.listen", "127.0.0.1:0").spawn();
    let address = process.admin();
    process.wait_for_rows(100);
    wire.set_silent(true);
    broker.publish_ids(100..200);
    // Two signs of life that did not come, and one try that was not answered.
    process.wait_until("not to be ready", |_| {
        let answer = get(address, "/readyz");
        answer.status == 503 && answer.body.contains("the source gives nothing")
    });
    wire.set_silent(false);
    process.wait_for_rows(200);
    process.wait_until("to be ready", |_| get(address, "/readyz").status == 200);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..200));
    dataset.assert_clean();
}
