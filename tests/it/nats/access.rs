//! Who is let in, by whom, and what `pintail check` says of it.

use async_nats::jetstream::stream::RetentionPolicy::{Limits, WorkQueue};
use rustix::process::Signal;
use serde_json::Value;

use crate::common::lines::ids;
use crate::common::nats::{Broker, STREAM};
use crate::common::process::Pintail;
use crate::common::{Dataset, checkout};

#[test]
fn a_wrong_password_is_refused_by_name_and_never_shown() {
    let (broker, dataset) = (Broker::with_login("ann", "the-right-one"), Dataset::new());
    broker.make_stream(Limits);
    broker.publish_ids(0..10);
    let run = |password: &str| dataset.nats(&broker).set("source.user", "ann").env("PINTAIL_SOURCE__PASSWORD", password);
    let refused = run("not-that-one").run();
    refused.assert_refused(78, &["refuses the login", "source.user"]);
    let checked = run("not-that-one").args(["check"]).run();
    checked.assert_refused(78, &["refuses the login"]);
    for outcome in [refused, checked] {
        assert!(!(outcome.stderr + &outcome.stdout).contains("not-that-one"));
    }
    dataset.nats(&broker).run().assert_refused(78, &["refuses the login"]);

    dataset.write("password", "the-right-one\n");
    let mut process = dataset.nats(&broker).set("source.user", "ann").set("source.password_file", "password").spawn();
    process.wait_for_rows(10);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..10));
}

#[test]
fn each_way_to_log_in_leads_in_and_none_leads_nowhere() {
    let token = "a-token-of-these-tests";
    let ways = [
        (Broker::with_token(token), "source.token", token.to_owned()),
        (Broker::with_credentials(), "source.credentials_file", Broker::login_file("user.creds")),
        (Broker::with_nkey(), "source.nkey_file", Broker::login_file("user.nk")),
    ];
    for (broker, key, value) in ways {
        let dataset = Dataset::new();
        broker.make_stream(Limits);
        broker.publish_ids(0..10);
        dataset.nats(&broker).run().assert_refused(78, &["refuses the login", key]);
        let mut process = dataset.nats(&broker).set(key, value.as_str()).spawn();
        process.wait_for_rows(10);
        let outcome = process.stop(Signal::TERM);
        outcome.assert_code(0);
        assert!(!outcome.stderr.contains(token));
    }
}

#[test]
fn a_server_is_trusted_only_by_its_certificate_and_wants_ours() {
    let (broker, dataset) = (Broker::with_tls(), Dataset::new());
    broker.make_stream(Limits);
    broker.publish_ids(0..10);
    let check = || dataset.nats(&broker).args(["check"]);
    check().run().assert_refused(78, &["cannot reach", "UnknownIssuer"]);
    let trusting = || check().set("source.tls_ca_file", Broker::tls_file("ca.pem"));
    trusting().run().assert_refused(78, &["cannot reach", "certificate"]);
    trusting()
        .set("source.tls_cert_file", "no.pem")
        .set("source.tls_key_file", "no.key")
        .run()
        .assert_refused(78, &["tls_cert_file", "no.pem"]);

    fn ours(pintail: Pintail<'_>) -> Pintail<'_> {
        let pintail = pintail.set("source.tls", true).set("source.tls_ca_file", Broker::tls_file("ca.pem"));
        pintail.set("source.tls_cert_file", Broker::tls_file("client.pem")).set("source.tls_key_file", Broker::tls_file("client.key"))
    }
    ours(check()).run().assert_code(0);
    let mut process = ours(dataset.nats(&broker)).spawn();
    process.wait_for_rows(10);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..10));
}

#[test]
fn check_says_what_the_server_has_or_why_there_is_nothing() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    let check = || dataset.nats(&broker).args(["check"]).run();
    check().assert_refused(78, &["no stream", STREAM]);
    broker.make_stream(WorkQueue);
    dataset.nats(&broker).set("source.stream", "EVENT").args(["check"]).run().assert_refused(78, &["no stream `EVENT`", "it has `EVENTS`"]);
    let elsewhere = dataset.nats(&broker).set("source.subject", "orders.>").args(["check"]).run();
    elsewhere.assert_refused(78, &["source.subject", "`orders.>`", "its subjects are `events.>`"]);
    assert!(check().stdout.contains("no messages; retention: work queue"));
    broker.publish_ids(0..1234);
    let outcome = check();
    outcome.assert_code(0);
    for part in ["stream `EVENTS` (events.>)", "1234 messages, sequence 1 to 1234"] {
        assert!(outcome.stdout.contains(part), "{}", outcome.stdout);
    }
    assert!(broker.consumer().is_none(), "a check changes nothing");
    broker.stop();
    dataset.nats(&broker).args(["check"]).run().assert_refused(75, &["cannot reach", &broker.url()]);
}

#[test]
fn check_sees_that_messages_were_purged_unread_and_makes_no_consumer() {
    for retention in [Limits, WorkQueue] {
        let (broker, dataset) = (Broker::start(), Dataset::new());
        broker.make_stream(retention);
        broker.publish_ids(0..100);
        let mut process = dataset.nats(&broker).spawn();
        process.wait_for_rows(100);
        process.stop(Signal::TERM).assert_code(0);
        broker.publish_ids(100..150);
        dataset.nats(&broker).args(["check"]).run_ok();
        broker.purge();
        let consumer = broker.consumer();
        let checked = dataset.nats(&broker).args(["check"]).run();
        checked.assert_refused(65, &["removed", "source.on_gap"]);
        assert_eq!(
            broker.consumer().map(|consumer| consumer.created),
            consumer.map(|consumer| consumer.created),
            "a check changes nothing"
        );
        dataset.nats(&broker).run().assert_refused(65, &["removed", "source.on_gap"]);
        dataset.nats(&broker).set("source.on_gap", "record").args(["check"]).run_ok();
    }
}

#[test]
fn the_example_reads_what_its_page_publishes() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    let config = async_nats::jetstream::stream::Config { name: "SALES".into(), subjects: vec!["sales.>".into()], ..Default::default() };
    broker.run(broker.js().create_stream(config)).unwrap();
    let sale = |id: i64, shop: &str| format!("{{\"id\":{id},\"time\":\"2026-01-05T10:00:00Z\",\"shop\":\"{shop}\",\"price\":10}}");
    broker.publish("sales.eu.berlin", (1..=3).map(|id| sale(id, "berlin")));
    broker.publish("sales.us.boston", [sale(4, "boston")]);
    let example = checkout("examples/nats.toml");
    let mut process =
        dataset.pintail().set("source.url", broker.url()).set("pipeline.checkpoint_interval", "100ms").example(&example).spawn();
    process.wait_for_rows(3);
    process.stop(Signal::TERM).assert_code(0);
    let sql = "SELECT shop, count(*) AS n, sum(price)::INTEGER AS sum FROM events GROUP BY shop";
    let found = dataset.pintail().args(["query", sql, "--format", "json"]).run_ok().stdout;
    let found: Value = serde_json::from_str(found.lines().next().unwrap()).unwrap();
    assert_eq!((found["shop"].as_str(), found["n"].as_i64(), found["sum"].as_i64()), (Some("berlin"), Some(3), Some(30)));
}
