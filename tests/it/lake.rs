//! A dataset in a bucket, of a real server, written by the real binary.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::common::http::get;
use crate::common::lake::Weed;
use crate::common::process::Pintail;
use crate::common::{Dataset, wait_until, walk};

mod ledger;

/// A stream that makes a checkpoint every 200 ms.
fn stream(dataset: &Dataset, events: u64) -> Pintail<'_> {
    dataset.simulator(events).set("pipeline.checkpoint_interval", "200ms").set("pipeline.batch_rows", 5_000)
}

/// Asserts that a dataset holds exactly these events, for all readers and for `verify`.
#[track_caller]
fn assert_simulated(weed: &Weed, name: &str, dataset: &Dataset, events: u64) {
    weed.copy_to(name, dataset);
    dataset.assert_simulated(events);
    dataset.pintail().args(["verify"]).run_ok();
}

#[test]
fn simulated_events_reach_a_bucket_once_and_a_second_run_adds_what_is_new() {
    let (weed, dataset) = (Weed::start(), Dataset::new());
    let run = |events| weed.take(stream(&dataset, events), "runs");
    run(100_000).set("source.rate", 200_000).run_ok();
    let log = run(130_000).run_ok();
    assert!(!log.stderr.contains("waiting"), "the first run had stopped: {}", log.stderr);
    assert_simulated(&weed, "runs", &dataset, 130_000);
    let staged = walk(&dataset.root().join("scratch")).into_iter().filter(|path| path.to_string_lossy().contains("/staging/"));
    assert_eq!(staged.filter(|path| path.is_file()).count(), 0, "scratch holds nothing once all is in the bucket");
}

#[test]
fn events_reach_a_bucket_once_however_often_the_process_is_killed() {
    let (weed, dataset) = (Weed::start(), Dataset::new());
    let run = || weed.take(stream(&dataset, 300_000), "kills").set("pipeline.checkpoint_interval", "50ms");
    for kill in 0..6 {
        let before = weed.records("kills");
        let mut process = run().set("source.rate", 100_000).spawn();
        process.wait_until("a commit", |_| weed.records("kills") >= before + 2);
        // At other moments of a commit each time.
        std::thread::sleep(Duration::from_millis(13 * kill));
        assert!(process.is_running(), "the events must outlast kill {kill}");
        assert_eq!(process.kill().code(), 137);
    }
    run().run_ok();
    assert_simulated(&weed, "kills", &dataset, 300_000);
}

#[test]
fn of_two_writers_one_stands_by_and_one_that_was_overtaken_ends_and_says_who_writes() {
    let (weed, dataset, other) = (Weed::start(), Dataset::new(), Dataset::new());
    let mut first = weed.take(stream(&dataset, 100_000), "two").set("source.rate", 20_000).spawn();
    first.wait_until("a commit", |_| weed.records("two") >= 2);
    let mut second = weed.take(stream(&other, 100_000), "two").spawn();
    second.wait_until("standby", |_| true);
    wait_until("the second one stands by", || second.log().contains("another process may hold the dataset, waiting"));
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(first.is_running() && second.is_running(), "a process that lives is not overtaken:\n{}\n{}", first.log(), second.log());
    assert!(!second.log().contains("line ready"), "{}", second.log());

    // It hangs for longer than two heartbeats.
    first.signal(Signal::STOP);
    wait_until("the second one goes in", || second.log().contains("line ready"));
    first.signal(Signal::CONT);
    let first = first.wait();
    first.assert_code(75);
    assert!(first.stderr.contains("this process has to stop") && first.stderr.contains("run one process on a dataset"), "{}", first.stderr);
    second.wait().assert_code(0);
    assert_simulated(&weed, "two", &dataset, 100_000);
}

#[test]
fn a_bucket_that_is_away_is_waited_for_and_a_stop_does_not_wait_longer_than_it_may() {
    let (mut weed, dataset) = (Weed::start(), Dataset::new());
    let run = || weed_run(&dataset);
    fn weed_run(dataset: &Dataset) -> Pintail<'_> {
        stream(dataset, 200_000).set("pipeline.shutdown_timeout", "2s").set("storage.request_timeout", "2s")
    }
    let mut process = weed.take(run(), "away").set("source.rate", 20_000).spawn();
    process.wait_until("a commit", |_| weed.records("away") >= 2);
    weed.kill();
    wait_until("it waits", || process.log().contains("bucket does not answer as it should, retrying"));
    std::thread::sleep(Duration::from_secs(1));
    assert!(process.is_running(), "no crash loop: {}", process.log());
    weed.go_on();
    let before = weed.records("away");
    process.wait_until("it goes on", |_| weed.records("away") > before);

    weed.kill();
    std::thread::sleep(Duration::from_millis(500));
    process.signal(Signal::TERM);
    process.wait_within(Duration::from_secs(10)).assert_code(75);
    weed.go_on();
    weed.take(run(), "away").run_ok();
    assert_simulated(&weed, "away", &dataset, 200_000);
}

#[test]
fn check_says_what_was_reached_and_what_cannot_be() {
    let (mut weed, dataset) = (Weed::start(), Dataset::new());
    let check = weed.take(dataset.simulator(1), "check").args(["check"]);
    let said = check.clone().run_ok();
    let expected = format!("bucket: s3://lake/check at {}, credentials from", weed.endpoint());
    assert!(said.stdout.contains(&expected), "{}", said.stdout);
    assert!(!dataset.root().join("scratch").exists() && !weed.keys("check").contains(&"_pintail/FORMAT".to_owned()), "nothing is made");
    for args in [
        &["query", "SELECT 1"][..],
        &["verify"],
        &["dead-letters"],
        &["dead-letters", "--replay"],
        &["expire", "--take-back"],
        &["repair", "--snapshot"],
    ] {
        let refused = weed.take(dataset.simulator(1), "check").args(args).run();
        assert!(refused.stderr.contains("`s3://lake/check` is no dataset of pintail"), "{args:?}: {}", refused.stderr);
        refused.assert_code(78);
    }
    for args in [&["adopt"][..], &["publish"], &["repair", "--key"]] {
        let refused = weed.take(dataset.simulator(1), "check").args(args).run();
        assert!(refused.stderr.contains("is in a bucket"), "{args:?}: {}", refused.stderr);
        refused.assert_code(78);
    }
    let bare = weed.take(dataset.simulator(1), "check").env("AWS_SECRET_ACCESS_KEY", "wrong").args(["check"]).run();
    assert!(!bare.stderr.contains("wrong") && bare.code() != 0, "{}", bare.stderr);
    weed.kill();
    let away = check.run();
    away.assert_code(75);
    assert_eq!(away.stderr.matches("did not answer").count(), 1, "told once: {}", away.stderr);
}

/// Returns the names of the data files of a dataset.
fn data_files(weed: &Weed, name: &str) -> Vec<String> {
    weed.keys(name).into_iter().filter(|key| key.ends_with(".parquet")).collect()
}

#[test]
fn verify_reads_a_bucket_and_names_what_is_not_as_it_was_committed() {
    let (mut weed, dataset) = (Weed::start(), Dataset::new());
    weed.take(stream(&dataset, 100_000), "verified").set("source.rate", 200_000).run_ok();
    let verify = |args: &[&str]| weed.take(dataset.pintail(), "verified").args(["verify"]).args(args);
    let files = data_files(&weed, "verified");
    for (args, read) in [(&[][..], "read"), (&["--fast"], "there, none read"), (&["s3://lake/verified", "--fast"], "there, none read")] {
        let said = verify(args).run_ok().stdout;
        assert!(said.contains("clean\n") && said.contains(&format!("{} files with", files.len())) && said.contains(read), "{said}");
    }
    assert!(!walk(dataset.root()).iter().any(|path| path.to_string_lossy().ends_with(".parquet")), "nothing stays of what was fetched");

    let first: Vec<&String> = files.iter().filter(|name| name.ends_with("-2.parquet")).collect();
    assert!(first.len() > 2 && first.len() < files.len(), "{files:?}");
    let (altered, cut, gone) = (first[0], first[1], first[2]);
    let mut bytes = weed.get("verified", altered);
    *bytes.last_mut().unwrap() ^= 1;
    weed.put("verified", altered, bytes);
    let whole = weed.get("verified", cut);
    weed.put("verified", cut, &whole[1..]);
    weed.put("verified", "region=us/mine.parquet", "mine");
    weed.remove("verified", gone);
    let refused = verify(&[]).run();
    let lengths = format!("it has {} bytes, not {}", whole.len() - 1, whole.len());
    let place = |name: &str| format!("`s3://lake/verified/{name}`");
    for part in ["in 4 places", "its SHA-256 is", &lengths, &place(altered), &place(cut), &place("region=us/mine.parquet")] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert!(refused.stderr.contains(&format!("{} is missing", place(gone))), "{}", refused.stderr);
    refused.assert_code(65);
    assert!(verify(&["--fast"]).run().stderr.contains("in 3 places"), "lengths tell all but one");

    weed.kill();
    let away = weed.take(dataset.pintail(), "verified").set("storage.request_timeout", "1s").args(["verify"]).run();
    assert!(away.stderr.contains("s3://lake/verified") && !away.stderr.contains("a-secret"), "{}", away.stderr);
    away.assert_code(75);
}

#[test]
fn dead_letters_in_a_bucket_are_listed_and_replayed_once() {
    let (weed, dataset) = (Weed::start(), Dataset::new());
    let event = |id: u32, sku: &str| {
        format!("{{\"id\": {id}, \"ts\": {}, \"region\": \"eu\", \"sku\": \"{sku}\"}}\n", 1_767_225_600_000 + u64::from(id))
    };
    dataset.write("events.ndjson", (0..100).map(|id| event(id, if id % 50 == 7 { "x1" } else { "1" })).collect::<String>());
    let columns = json!([
        { "name": "id", "type": "int64", "required": true },
        { "name": "ts", "type": "timestamp_ms", "required": true },
        { "name": "region", "type": "text" },
        { "name": "sku", "type": "text" },
    ]);
    let run = |cast: &str| {
        let sql = format!("SELECT id, ts, region, {cast}(sku AS INTEGER) AS sku FROM events");
        weed.take(dataset.file("events.ndjson"), "letters").set("schema.columns", columns.clone()).set("transform.sql", sql)
    };
    let list = || weed.take(dataset.pintail(), "letters").args(["dead-letters", "--samples", "3"]).run_ok().stdout;
    run("CAST").run_ok();
    let listed = list();
    assert!(listed.contains("x1") && listed.contains("2 dead letters\n"), "{listed}");
    for _ in 0..2 {
        run("TRY_CAST").args(["dead-letters", "--replay"]).run_ok();
        let listed = list();
        assert!(listed.contains("0 dead letters, and 2 that were replayed"), "{listed}");
    }
    weed.copy_to("letters", &dataset);
    assert_eq!(dataset.ids(), (0..100).collect::<Vec<_>>());
    dataset.assert_clean();
}

#[test]
fn a_query_fetches_only_the_files_that_its_where_leaves_and_none_stays() {
    let (weed, dataset) = (Weed::start(), Dataset::new());
    weed.take(stream(&dataset, 200_000), "asked").set("source.rate", 200_000).run_ok();
    let query = |sql: &str| weed.take(dataset.pintail(), "asked").args(["query", "--format", "csv", sql]);
    assert_eq!(query("SELECT count(*) FROM events").run_ok().stdout, "count_star()\n200000\n");
    let sums = |answer: &str| answer.lines().skip(1).map(|row| row.split(',').nth(1).unwrap().parse::<u64>().unwrap()).sum::<u64>();
    assert_eq!(sums(&query("SELECT region, count(amount) FROM events GROUP BY region").run_ok().stdout), 200_000);
    let one = query("SELECT region, count(amount) FROM events WHERE region = 'eu' GROUP BY region").run_ok().stdout;
    assert!(one.starts_with("region,count(amount)\neu,"), "{one}");

    let lengths: Vec<(String, u64)> =
        data_files(&weed, "asked").into_iter().map(|name| (name.clone(), weed.get("asked", &name).len() as u64)).collect();
    let all: u64 = lengths.iter().map(|(_, bytes)| bytes).sum();
    let of_eu: u64 = lengths.iter().filter(|(name, _)| name.starts_with("region=eu/")).map(|(_, bytes)| bytes).sum();
    let first = lengths.iter().map(|(_, bytes)| *bytes).max().unwrap();
    let limit = (of_eu + first).max(64 << 10);
    assert!(limit < all, "{limit} of {all}");
    let bounded = |sql: &str| query(sql).set("storage.query_bytes_max", format!("{limit}B"));
    let refused = bounded("SELECT sum(amount) FROM events").run();
    assert!(refused.stderr.contains("`storage.query_bytes_max`") && refused.stderr.contains("may fetch"), "{}", refused.stderr);
    refused.assert_code(78);
    bounded("SELECT sum(amount) FROM events WHERE region = 'eu'").run_ok();
    assert!(!walk(dataset.root()).iter().any(|path| path.to_string_lossy().ends_with(".parquet")), "nothing stays of what was fetched");

    weed.remove("asked", &lengths[0].0);
    let refused = query("SELECT count(*) FROM events").run();
    assert!(refused.stderr.contains("1 committed file of `s3://lake/asked` is missing"), "{}", refused.stderr);
    refused.assert_code(65);
}

#[test]
fn a_file_of_the_last_checkpoint_that_was_removed_is_missed_by_all_until_it_is_declared_expired() {
    let (weed, dataset) = (Weed::start(), Dataset::new());
    let run = |events| weed.take(stream(&dataset, events), "gone");
    run(20_000).run_ok();
    let last = weed.last_record("gone");
    let gone = last["files"][0]["path"].as_str().expect("the last record is a checkpoint's");
    weed.remove("gone", gone);
    let asks: [&[&str]; 4] =
        [&["verify"], &["verify", "--fast"], &["query", "SELECT count(*) FROM events"], &["query", "SELECT sum(amount) FROM events"]];
    for args in asks {
        weed.take(dataset.pintail(), "gone").args(args).run().assert_refused(65, &[gone, "missing"]);
    }
    let other = Dataset::new();
    let starts = [run(30_000).run(), weed.take(stream(&other, 30_000), "gone").run(), run(30_000).args(["check"]).run()];
    for refused in &starts {
        refused.assert_refused(65, &[gone, "cannot publish", "pintail expire --before"]);
    }
    let expire = |args: &[&str]| weed.take(dataset.pintail(), "gone").args(["expire"]).args(args.iter().copied());
    let told = expire(&["--before", "2026-02-01"]).run_ok().stdout;
    assert!(told.contains("it covers") && told.contains("1 of these is gone"), "{told}");
    let verified = weed.take(dataset.pintail(), "gone").args(["verify"]).run_ok().stdout;
    assert!(verified.contains("1 expired files are gone") && verified.ends_with("clean\n"), "{verified}");
    let rows: u64 = last["files"][0]["rows"].as_u64().unwrap();
    let counted = || weed.take(dataset.pintail(), "gone").args(["query", "--format", "csv", "SELECT count(*) AS n FROM events"]);
    assert_eq!(counted().run_ok().stdout, format!("n\n{}\n", 20_000 - rows));
    let log = run(30_000).run_ok();
    assert!(!log.stderr.contains("waiting"), "who declared it has let go of the dataset: {}", log.stderr);
    assert_eq!(counted().run_ok().stdout, format!("n\n{}\n", 30_000 - rows));

    expire(&["--take-back"]).run_ok();
    for args in asks {
        weed.take(dataset.pintail(), "gone").args(args).run().assert_refused(65, &[gone, "missing"]);
    }
    expire(&["--take-back"]).run().assert_refused(78, &["nothing to take back"]);
}

#[test]
fn what_is_committed_and_not_visible_yet_is_told_and_once_its_upload_is_gone_it_is_missed() {
    let (weed, dataset, other) = (Weed::start(), Dataset::new(), Dataset::new());
    let run = |dataset| weed.take(stream(dataset, 30_000), "between").set("source.rate", 200_000);
    let mut process = run(&dataset).set("storage.endpoint", weed.way_without_completions()).spawn();
    process.wait_until("its first checkpoint", |_| weed.records("between") == 2);
    process.wait_until("its completions", |_| true);
    wait_until("a completion that does not come through", || process.log().contains("bucket does not answer as it should, retrying"));
    let pid = process.pid();
    process.kill();
    let record = weed.last_record("between");
    let files = record["files"].as_array().unwrap();
    let first = files[0]["path"].as_str().unwrap();
    let rows: u64 = files.iter().map(|file| file["rows"].as_u64().unwrap()).sum();
    assert_eq!(data_files(&weed, "between"), Vec::<String>::new(), "nothing is completed");

    let ask = |args: &[&str]| weed.take(dataset.pintail(), "between").args(args.iter().copied()).run();
    let told = [format!("process {pid} of "), "makes it visible, or the next start".to_owned()];
    for args in [&["verify"][..], &["verify", "--fast"]] {
        let verified = ask(args);
        verified.assert_code(0);
        for part in
            told.iter().map(String::as_str).chain([&*format!("{} files of the last checkpoint", files.len()), first, "clean, but for"])
        {
            assert!(verified.stdout.contains(part), "{part}: {}", verified.stdout);
        }
    }
    let empty = ask(&["query", "SELECT count(*) FROM events"]);
    assert!(empty.stderr.contains("not visible yet") && empty.stderr.contains(&told[0]), "{}", empty.stderr);

    let uploads: Vec<_> = files.iter().map(|file| (file["path"].as_str().unwrap(), file["upload"]["id"].as_str().unwrap())).collect();
    weed.give_up("between", uploads[0].0, uploads[0].1);
    for args in [&["verify"][..], &["verify", "--fast"]] {
        ask(args).assert_refused(65, &[first, "its upload is gone", "scratch", "pintail expire --before"]);
    }
    ask(&["query", "SELECT count(*) FROM events"]).assert_refused(65, &[first, "missing"]);
    let refused = run(&other).run();
    refused.assert_refused(65, &[first, "cannot publish", "pintail expire --before"]);
    assert_eq!(data_files(&weed, "between").len(), files.len() - 1, "the others are visible, all but that one");
    let partial = ask(&["verify"]);
    partial.assert_refused(65, &[first]);
    assert!(partial.stderr.contains("in 1 place"), "{}", partial.stderr);

    assert!(rows > 0);
    run(&dataset).run_ok();
    assert_simulated(&weed, "between", &dataset, 30_000);
    assert!(ask(&["verify"]).stdout.ends_with("clean\n"), "its scratch had it");
}

#[test]
fn old_files_of_a_bucket_are_declared_expired_beside_a_service_that_is_stopped_and_not_beside_one_that_runs() {
    let (weed, dataset, other) = (Weed::start(), Dataset::new(), Dataset::new());
    let run = |events| weed.take(stream(&dataset, events), "old").set("source.rate", 50_000);
    let mut service = run(100_000_000).spawn();
    service.wait_until("commits", |_| weed.records("old") >= 3);
    let pid = format!("process {} of ", service.pid());
    for place in [&dataset, &other] {
        let refused = weed.take(place.pintail(), "old").args(["expire", "--before", "2026-01-02"]).run();
        refused.assert_code(75);
        if std::ptr::eq(place, &other) {
            assert!(refused.stderr.contains(&pid) && refused.stderr.contains("holds `s3://lake/old`: stop it first"), "{}", refused.stderr);
        }
    }
    service.signal(Signal::TERM);
    service.wait().assert_code(0);
    let expire = |args: &[&str]| weed.take(other.pintail(), "old").args(["expire"]).args(args.iter().copied()).run();
    expire(&["--before", "2999-01-01"]).assert_refused(78, &["in the future", "--force"]);
    let files = data_files(&weed, "old");
    let told = expire(&["--before", "2999-01-01", "--force"]);
    told.assert_code(0);
    assert!(told.stdout.contains(&format!("covers {} of {} files", files.len(), files.len())), "{}", told.stdout);
    weed.remove("old", &files[0]);
    let verified = weed.take(dataset.pintail(), "old").args(["verify"]).run_ok().stdout;
    assert!(verified.contains("1 expired files are gone"), "{verified}");
    assert!(expire(&["--take-back"]).stdout.contains("no file may be gone"));
    weed.take(dataset.pintail(), "old").args(["verify"]).run().assert_refused(65, &[&files[0], "is missing"]);
}

#[test]
fn requests_to_the_bucket_are_counted_by_kind_and_class_of_the_answer_with_their_latencies() {
    let (mut weed, dataset) = (Weed::start(), Dataset::new());
    let mut service =
        weed.take(stream(&dataset, 1_000_000), "metered").set("source.rate", 20_000).set("admin.listen", "127.0.0.1:0").spawn();
    let address = service.admin();
    service.wait_until("commits", |_| weed.records("metered") >= 3);
    let scrape = get(address, "/metrics");
    let requests = |kind: &str, status: &str| format!("pintail_bucket_requests_total{{kind=\"{kind}\",status=\"{status}\"}}");
    for kind in ["create", "begin_upload", "upload_part", "complete_upload"] {
        let latencies = format!("pintail_bucket_request_duration_seconds_count{{kind=\"{kind}\"}}");
        let answered: f64 = ["2xx", "4xx", "5xx", "none"].iter().filter_map(|status| scrape.try_metric(&requests(kind, status))).sum();
        assert!(answered >= 2.0 && scrape.metric(&latencies) == answered, "{kind}: {}", scrape.body);
        assert!(scrape.metric(&latencies.replace("_count", "_sum")) > 0.0, "{kind}");
        let all = latencies.replace("_count{", "_bucket{").replace('}', ",le=\"+Inf\"}");
        assert_eq!(scrape.metric(&all), answered, "{kind}");
    }
    assert!(scrape.metric("pintail_bucket_retries_total") >= 0.0);
    assert!(scrape.metric("pintail_bucket_sent_bytes_total") >= scrape.metric("pintail_written_bytes_total"), "{}", scrape.body);
    assert!(scrape.metric("pintail_bucket_received_bytes_total") >= 0.0);
    weed.kill();
    let retries = scrape.metric("pintail_bucket_retries_total");
    wait_until("requests without an answer", || get(address, "/metrics").metric("pintail_bucket_retries_total") > retries);
    let scrape = get(address, "/metrics");
    assert!(
        scrape.body.lines().any(|line| line.starts_with("pintail_bucket_requests_total") && line.contains("status=\"none\"")),
        "{}",
        scrape.body
    );
    service.kill();
    let on_a_disk = Dataset::new();
    let mut service = stream(&on_a_disk, 0).set("source.rate", 20_000).set("admin.listen", "127.0.0.1:0").spawn();
    let address = service.admin();
    service.wait_for_commits(1);
    assert!(!get(address, "/metrics").body.contains("pintail_bucket"), "a dataset in a directory has none");
    service.kill();
}

#[test]
fn old_files_are_removed_from_a_bucket_behind_their_declaration_wherever_the_command_is_killed() {
    let (weed, dataset) = (Weed::start(), Dataset::new());
    weed.take(stream(&dataset, 200_000), "removed").set("source.rate", 100_000).run_ok();
    let last = weed.last_record("removed");
    let mut stay: Vec<_> = last["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect();
    stay.sort();
    let expire = || weed.take(dataset.pintail(), "removed").args(["expire", "--before", "2999-01-01", "--force", "--remove"]);
    let verify = || weed.take(dataset.pintail(), "removed").args(["verify"]).run_ok().stdout;
    let all = data_files(&weed, "removed");
    assert!(all.len() > stay.len() + 20, "{all:?}");
    let (mut records, mut files) = (weed.records("removed"), all.len());
    for kill in 0..8 {
        let mut process = expire().spawn();
        // Before its open record, between that and the declaration, behind that, and while it removes.
        let moment: Box<dyn Fn() -> bool> = match kill {
            0 => Box::new(|| true),
            1 => Box::new(|| weed.records("removed") > records),
            2 => Box::new(|| weed.records("removed") > records + 1),
            _ => Box::new(|| data_files(&weed, "removed").len() < files),
        };
        while process.is_running() && !moment() {}
        drop(moment);
        process.kill();
        let left = data_files(&weed, "removed");
        assert!(left.len() == all.len() || weed.records("removed") > records, "no file goes before the declaration");
        assert!(stay.iter().all(|name| left.contains(name)), "kill {kill}: {left:?}");
        verify();
        (records, files) = (weed.records("removed"), left.len());
    }
    let told = expire().run_ok().stdout;
    assert!(told.contains("of the last checkpoint stay") && told.contains("  removed "), "{told}");
    assert_eq!(data_files(&weed, "removed"), stay);
    let verified = verify();
    assert!(
        verified.contains(&format!("{} expired files are gone", all.len() - stay.len())) && verified.ends_with("clean\n"),
        "{verified}"
    );
    let again = expire().run_ok().stdout;
    assert!(again.contains("removed 0 files with 0 bytes"), "{again}");

    weed.take(stream(&dataset, 210_000), "removed").run_ok();
    expire().run_ok();
    assert!(data_files(&weed, "removed").iter().all(|name| !stay.contains(name)), "there is another checkpoint");
    verify();
}
