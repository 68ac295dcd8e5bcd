//! Situations of a dataset in a bucket, told one by one.
//!
//! Owns: what a person sees of the protocol: who waits for whom, what is refused, and what is said.
//! Does not own: the walk over everything that may happen (see [`super`]).

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta};
use pintail_core::error::ErrorKind;
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::record::{Action, ActionKind, CommitRecord};
use pintail_storage::checkpoint::store::Adopted;
use tokio::time::Instant;

use super::client::{Client, Event};
use super::life::{BEAT_EVERY, End, Host, Plan, Start, commit, draft, open, place, run};
use super::oracle::{chain, check};
use super::plain;
use super::world::{PROVIDERS, Provider, Request, World};
use crate::model::Model;

/// A world in which a process has committed a checkpoint and stopped.
fn settled() -> World {
    let (world, end, _) = run(World::new(Provider::Aws), Plan::calm(Host::Same), plain);
    assert_eq!(end, End::Finished);
    world
}

/// A world in which a process was killed right behind its commit point.
fn killed_behind_its_record() -> World {
    let empty = World::new(Provider::Aws);
    let (_, _, asked) = run(empty.clone(), Plan::calm(Host::Same), plain);
    let is_checkpoint = |request: &Request| matches!(request, Request::PutIfAbsent(key, _) if key.ends_with("0000000002.json"));
    let at = asked.iter().position(is_checkpoint).unwrap();
    let (world, end, _) = run(empty, Plan { event: Some((at, Event::CrashAfter)), ..Plan::calm(Host::Same) }, plain);
    assert_eq!((end, world.visible().count()), (End::Killed, 0));
    world
}

/// Checks that all that is committed is visible, once.
fn holds(world: &World) {
    check(world, &chain(world).unwrap(), true).unwrap();
}

/// How a start fails in a world.
fn refused(world: World, plan: Plan) -> (ErrorKind, String) {
    match run(world, plan, plain) {
        (_, End::Failed(kind, why), _) => (kind, why),
        (_, end, _) => panic!("it ended: {end:?}"),
    }
}

fn key(path: std::path::PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_start_goes_in_at_once_behind_a_clean_stop_and_waits_for_two_heartbeats_behind_a_kill() {
    let took = |world: World| {
        let begin = world.now;
        let (world, end, _) = run(world, Plan::calm(Host::Another), plain);
        assert_eq!(end, End::Finished);
        world.now - begin
    };
    assert!(took(settled()) < TimeDelta::seconds(1));
    let killed = killed_behind_its_record();
    let patience = TimeDelta::from_std(2 * BEAT_EVERY).unwrap();
    let waited = took(killed.clone());
    assert!((patience - TimeDelta::seconds(1)..patience + TimeDelta::seconds(1)).contains(&waited), "{waited}");
    let mut long_dead = killed;
    long_dead.now += patience;
    assert!(took(long_dead) < TimeDelta::seconds(1), "by the clock of the server it was silent long enough");
}

#[tokio::test(start_paused = true)]
async fn a_second_process_waits_as_long_as_the_first_one_shows_itself_and_goes_in_when_it_stops() {
    let world = Arc::new(Mutex::new(World::new(Provider::Aws)));
    let (scratch, begin) = (Model::new().without_moments(), Instant::now());
    let place = || place(Arc::new(Client::new(world.clone(), None)), &scratch).unwrap();
    let places = (place(), place());
    let mut first = open(&places.0, "00000000000000aa").await.unwrap();
    let held = async {
        for _ in 0..10 {
            tokio::time::sleep(BEAT_EVERY).await;
            first.beat().await.unwrap();
        }
        commit(&mut first).await.expect("nobody fenced it");
        first.close().await.unwrap();
        begin.elapsed()
    };
    let entered = async {
        let mut second = open(&places.1, "00000000000000bb").await.unwrap();
        let entered = begin.elapsed();
        commit(&mut second).await.unwrap();
        entered
    };
    let (stopped, entered) = tokio::join!(held, entered);
    assert!(stopped >= 10 * BEAT_EVERY && entered >= stopped, "{stopped:?}, {entered:?}");
    assert!(entered < stopped + 3 * BEAT_EVERY, "{entered:?}");
    holds(&world.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_fenced_says_by_whom_gives_its_uploads_up_and_commits_nothing_more() {
    let world = Arc::new(Mutex::new(World::new(Provider::Aws)));
    let scratches = [Model::new().without_moments(), Model::new().without_moments()];
    let places = scratches.each_ref().map(|scratch| place(Arc::new(Client::new(world.clone(), None)), scratch).unwrap());
    let mut first = open(&places[0], "00000000000000aa").await.unwrap();
    // It is stopped, and misses its heartbeats.
    let second = open(&places[1], "00000000000000bb").await.unwrap();
    let told = first.beat().await.unwrap_err();
    assert!(told.kind() == ErrorKind::TryAgain && told.to_string().contains("since record 2"), "{told}");
    let before = world.lock().unwrap().lasting();
    let error = commit(&mut first).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain);
    assert!(error.to_string().contains("process 1 of user on host") && error.to_string().contains("s3://lake"), "{error}");
    // Not even asked any more.
    let (staging, draft) = (first.staging(), draft(&first, vec![]));
    let again = first.commit(staging, draft).await.unwrap_err();
    assert!(again.kind() == ErrorKind::Internal && again.to_string().contains("only a restart can go on"), "{again}");
    assert_eq!(world.lock().unwrap().lasting(), before);
    assert_eq!(world.lock().unwrap().open_uploads(), 0);
    assert_eq!(second.epoch(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_action_of_an_operator_is_a_record_of_its_own_and_one_that_was_fenced_writes_none() {
    let world = Arc::new(Mutex::new(World::new(Provider::Aws)));
    let scratch = Model::new().without_moments();
    let place = place(Arc::new(Client::new(world.clone(), None)), &scratch).unwrap();
    let mut store = open(&place, "00000000000000aa").await.unwrap();
    commit(&mut store).await.unwrap();
    let action = Action::new(ActionKind::Accept, "gaps are accepted");
    let record = store.act(action.clone(), Adopted::default(), DateTime::UNIX_EPOCH).await.unwrap();
    assert_eq!((record.sequence, record.action.as_ref(), record.files.len()), (3, Some(&action), 0));
    commit(&mut store).await.unwrap();
    let chain = chain(&world.lock().unwrap()).unwrap();
    assert_eq!(chain.iter().map(|record| record.action.is_some()).collect::<Vec<_>>(), [false, false, true, false]);
    holds(&world.lock().unwrap());
    let _second = open(&place, "00000000000000bb").await.unwrap();
    let fenced = store.act(action, Adopted::default(), DateTime::UNIX_EPOCH).await.unwrap_err();
    assert!(fenced.kind() == ErrorKind::TryAgain && fenced.to_string().contains("since record 5"), "{fenced}");
    let again = store.act(Action::new(ActionKind::Accept, "again"), Adopted::default(), DateTime::UNIX_EPOCH).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Internal);
}

#[test]
fn a_hint_beyond_the_last_record_is_refused_and_names_the_record_that_is_missing() {
    let mut world = settled();
    world.remove(&key(Paths::new("").record(2)));
    let (kind, why) = refused(world, Plan::calm(Host::Same));
    assert_eq!(kind, ErrorKind::State);
    assert!(why.contains("commit record 2 is missing") && why.contains("s3://lake/_pintail/commits/000000/0000000002.json"), "{why}");
}

#[test]
fn an_upload_that_expired_is_made_again_from_scratch_and_refused_by_its_file_and_its_span_without() {
    let world = killed_behind_its_record();
    let expired = |host| Plan { start: Start::Expired, ..Plan::calm(host) };
    let (kind, why) = refused(world.clone(), expired(Host::Another));
    assert_eq!(kind, ErrorKind::State);
    for part in ["region=us/events-2026-01-01-00-2.parquet", "region=eu/events-2026-01-01-00-2.parquet", "events [0, 3)", "pintail expire"]
    {
        assert!(why.contains(part), "{part} is not in: {why}");
    }
    let (after, end, _) = run(world, expired(Host::Same), plain);
    assert_eq!(end, End::Finished);
    holds(&after);
}

#[test]
fn a_file_of_the_last_checkpoint_that_was_removed_is_refused_by_its_name_whatever_the_provider_says_of_its_upload() {
    let name = "region=us/events-2026-01-01-00-2.parquet";
    for provider in PROVIDERS {
        let (mut world, ..) = run(World::new(provider), Plan::calm(Host::Same), plain);
        world.remove(name);
        let (kind, why) = refused(world, Plan::calm(Host::Another));
        // A server that answers 500 whatever is asked (Ceph) is asked again as long as that may pass.
        let expected = if provider == Provider::Ceph { ErrorKind::TryAgain } else { ErrorKind::State };
        assert!(kind == expected && why.contains(name) && !why.contains("region=eu"), "{provider:?}: {why}");
    }
}

#[test]
fn something_else_under_the_name_of_a_committed_file_is_refused_and_stays() {
    let mut world = killed_behind_its_record();
    let name = "region=us/events-2026-01-01-00-2.parquet";
    world.expire();
    world.apply(&Request::Replace(name.into(), Bytes::from_static(b"theirs"))).unwrap();
    let (after, end, _) = run(world, Plan::calm(Host::Same), plain);
    assert!(matches!(&end, End::Failed(ErrorKind::State, why) if why.contains(name)), "{end:?}");
    assert_eq!(after.visible().find(|(key, _)| *key == name).map(|(_, bytes)| &**bytes), Some(b"theirs".as_slice()));
}

#[test]
fn files_without_a_ledger_and_a_ledger_without_its_format_are_refused_before_anything_is_made() {
    let mut world = World::new(Provider::Aws);
    world.apply(&Request::Replace("region=us/a.parquet".into(), Bytes::from_static(b"rows"))).unwrap();
    let before = world.objects.clone();
    let (after, end, _) = run(world, Plan::calm(Host::Same), plain);
    assert!(matches!(&end, End::Failed(ErrorKind::Config, why) if why.contains("region=us/a.parquet")), "{end:?}");
    assert_eq!(after.objects, before);
    let mut world = settled();
    world.remove(&key(Paths::new("").format()));
    let (kind, why) = refused(world, Plan::calm(Host::Same));
    assert!(kind == ErrorKind::State && why.contains("s3://lake/_pintail/FORMAT"), "{why}");
}

#[test]
fn what_not_every_reader_takes_for_data_is_no_reason_to_refuse_a_bucket_without_a_ledger() {
    let mut world = World::new(Provider::Aws);
    for name in ["_delta_log/00000000000000000010.checkpoint.parquet", "_archive/a.parquet"] {
        world.apply(&Request::Replace(name.into(), Bytes::from_static(b"rows"))).unwrap();
    }
    let (_, end, _) = run(world, Plan::calm(Host::Same), plain);
    assert_eq!(end, End::Finished);
}

#[test]
fn a_record_says_all_that_one_on_a_disk_says_and_the_uploads() {
    let chain = chain(&settled()).unwrap();
    let [open_record, checkpoint] = chain.as_slice() else { panic!("{chain:?}") };
    assert!(open_record.opened.is_some() && open_record.epoch == 1);
    let parts = |record: &CommitRecord| record.files.iter().map(|file| file.upload.as_ref().unwrap().parts.len()).collect::<Vec<_>>();
    assert_eq!((checkpoint.epoch, parts(checkpoint)), (1, vec![2, 1]));
}

/// Runs a process in a world that commits one more checkpoint.
fn and_one_more(world: World) -> World {
    let (world, end, _) = run(world, Plan::calm(Host::Same), plain);
    assert_eq!(end, End::Finished);
    world
}

/// Puts what lies below `_pintail` back to what it was in `older`.
fn put_ledger_back(world: &mut World, older: &World) {
    world.objects.retain(|key, _| !key.starts_with("_pintail/"));
    let ledger = older.objects.iter().filter(|(key, _)| key.starts_with("_pintail/"));
    world.objects.extend(ledger.map(|(key, object)| (key.clone(), object.clone())));
}

#[test]
fn an_older_ledger_beside_newer_files_is_refused_before_anything_is_made_and_the_ways_out_lead_on() {
    let older = settled();
    let newest = and_one_more(and_one_more(older.clone()));
    for page_max in [1_000, 2] {
        let mut world = newest.clone();
        world.page_max = page_max;
        put_ledger_back(&mut world, &older);
        for host in [Host::Same, Host::Another] {
            let (after, end, _) = run(world.clone(), Plan::calm(host), plain);
            let End::Failed(ErrorKind::State, why) = end else { panic!("it ended: {end:?}") };
            for part in [
                "-6.parquet` is of checkpoint 6, and the last commit record is 2",
                "restore `s3://lake/_pintail`",
                "checkpoints 3 to 6 away",
            ] {
                assert!(why.contains(part), "{part} is not in: {why}");
            }
            assert!(!why.contains("adopt"), "no command that a bucket refuses: {why}");
            assert_eq!(after.objects, world.objects, "nothing was written");
        }
        // One way out: the ledger as it was with the files.
        let mut restored = world.clone();
        put_ledger_back(&mut restored, &newest);
        holds(&and_one_more(restored));
        // The other: without the files that it does not know. What they held is read again.
        for key in [
            "region=us/events-2026-01-01-00-4",
            "region=eu/events-2026-01-01-00-4",
            "region=us/events-2026-01-01-00-6",
            "region=eu/events-2026-01-01-00-6",
        ] {
            world.remove(&format!("{key}.parquet"));
        }
        world.acknowledged = older.acknowledged;
        let (world, end, _) = run(world, Plan::calm(Host::Same), plain);
        assert_eq!(end, End::Finished);
        holds(&world);
    }
}

#[test]
fn last_records_that_somebody_removed_are_missed_by_their_files_whatever_the_hint_says() {
    let newest = and_one_more(and_one_more(settled()));
    for start in [Start::NoHint, Start::WrongHint, Start::OldHint] {
        for removed in [6..=6, 5..=6, 4..=6] {
            let mut world = newest.clone();
            removed.for_each(|sequence| world.remove(&key(Paths::new("").record(sequence))));
            let (kind, why) = refused(world, Plan { start, ..Plan::calm(Host::Another) });
            assert!(kind == ErrorKind::State && why.contains("is of checkpoint 6"), "{start:?}: {why}");
        }
    }
}

/// Lets the bucket be put back or emptied at each request of a process that goes on in `world`, and what is put back be `then`.
fn put_back_under(world: &World, then: &World, event: Event) {
    let (_, _, asked) = run(world.clone(), Plan::calm(Host::Same), plain);
    let is_record = |at: &usize| matches!(&asked[*at], Request::PutIfAbsent(key, _) if key.contains("/commits/"));
    let [opened, committed] = (0..asked.len()).filter(is_record).collect::<Vec<_>>()[..] else { panic!("{asked:?}") };
    for (at, request) in asked.iter().enumerate() {
        let (mut after, end, _) = run(world.clone(), Plan { event: Some((at, event)), ..Plan::calm(Host::Same) }, plain);
        let told = format!("{event:?} at request {at}, {request:?}: {end:?}");
        // The creation of the record is too late to be noticed, unless it took long.
        let noticed = opened + 1..committed + usize::from(event == Event::Away);
        if noticed.contains(&at) {
            let End::Failed(ErrorKind::State, why) = &end else { panic!("{told}") };
            assert!(why.contains("s3://lake/_pintail/commits/000000/0000000005.json") && why.contains("is gone"), "{told}");
            assert_eq!(after.open_uploads(), 0, "{told}");
            assert_eq!(after.visible().collect::<Vec<_>>(), then.visible().collect::<Vec<_>>(), "nothing became visible; {told}");
            let new = after.lasting().into_keys().filter(|key| !then.objects.contains_key(key)).count();
            assert_eq!(new, usize::from(at == committed), "records; {told}");
            if at == committed {
                assert!(why.contains("move `s3://lake/_pintail/commits/000000/0000000006.json` away"), "{told}");
                after.remove(&key(Paths::new("").record(6)));
            }
        }
        // Whenever it was: the next start goes on from what is there with each row once, or is refused.
        after.broken = None;
        let (after, end, _) = run(after, Plan::calm(Host::Same), plain);
        match end {
            End::Finished => holds(&after),
            End::Failed(ErrorKind::State | ErrorKind::Config, _) => {}
            end => panic!("{told}, then {end:?}"),
        }
    }
}

#[test]
fn a_bucket_that_is_put_back_or_emptied_under_a_process_is_noticed_before_its_next_record() {
    let mut copied = settled();
    copied.copy();
    let older = copied.clone();
    for event in [Event::PutBack, Event::Away] {
        put_back_under(&and_one_more(copied.clone()), &older, event);
        put_back_under(&and_one_more(settled()), &World::new(Provider::Aws), event);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_has_nothing_to_commit_learns_by_its_heartbeat_what_is_gone() {
    for gone in [Paths::new("").record(1), Paths::new("").format()] {
        let world = Arc::new(Mutex::new(World::new(Provider::Aws)));
        let place = place(Arc::new(Client::new(world.clone(), None)), &Model::new().without_moments()).unwrap();
        let store = open(&place, "00000000000000aa").await.unwrap();
        store.beat().await.unwrap();
        world.lock().unwrap().remove(&key(gone.clone()));
        let before = world.lock().unwrap().objects.clone();
        let told = store.heart().hold().await;
        let named = format!("`s3://lake/{}`", gone.display());
        assert!(told.kind() == ErrorKind::State && told.to_string().contains(&named), "{told}");
        assert_eq!(world.lock().unwrap().objects, before, "nothing was written");
    }
}

#[test]
fn a_commit_looks_once_at_the_record_before_and_a_start_lists_once() {
    let (_, end, asked) = run(and_one_more(settled()), Plan::calm(Host::Same), plain);
    assert_eq!(end, End::Finished);
    let count = |is: fn(&Request) -> bool| asked.iter().filter(|request| is(request)).count();
    let of_commit: Vec<_> = asked.iter().skip_while(|request| !matches!(request, Request::CreateUpload(_))).collect();
    let until = of_commit.iter().position(|request| matches!(request, Request::PutIfAbsent(..))).unwrap();
    let looks = of_commit[..until].iter().filter(|request| !request.is_change()).count();
    assert_eq!(looks, 1, "{of_commit:?}");
    // The root, and its two directories.
    assert_eq!(count(|request| matches!(request, Request::Page(..) | Request::List(_))), 3, "{asked:?}");
}
