use chrono::TimeDelta;
use pintail_core::evidence::{Key, Witness};
use proptest::prelude::*;

use super::super::record::{Action, ActionKind, UpTo};
use super::super::snapshot;
use super::super::take_over::Origin;
use super::*;
use crate::samples::{checkpoint, span};

/// A record with these spans.
fn moves(sequence: u64, partitions: Vec<PartitionSpan>) -> CommitRecord {
    let mut record = checkpoint(sequence);
    record.state_sha256 = None;
    record.source.partitions = partitions;
    record
}

fn after(records: &[CommitRecord]) -> Result<State, String> {
    let mut state = State::default();
    records.iter().try_for_each(|record| state.apply(record)).map(|()| state)
}

/// Evidence of a file that begins and ends with `content`.
fn evidence(content: &str, to: u64) -> Evidence {
    let key = Key::new([7; 32]);
    let witness = |from, mark| Witness { from, to, time: None, epoch: None, mark };
    let witnesses = vec![witness(0, key.mark(&[content.as_bytes()])), witness(to - 1, key.mark(&[content.as_bytes(), b"end"]))];
    Evidence { witnesses, ..Evidence::default() }
}

fn read(id: &str, from: u64, to: u64, new: bool) -> PartitionSpan {
    PartitionSpan { evidence: Some(evidence(id, to)), ..span(id, from, to, new) }
}

fn vanishes(id: &str, to: u64) -> PartitionSpan {
    PartitionSpan { vanished: true, ..read(id, to, to, false) }
}

#[test]
fn a_gap_an_overlap_and_a_twice_new_partition_do_not_join() {
    let first = moves(1, vec![span("a", 0, 10, true), span("b", 0, 5, true)]);
    after(&[first.clone(), moves(2, vec![span("a", 10, 12, false), span("c", 100, 101, true)])]).unwrap();
    for (next, needle) in [
        (span("a", 11, 12, false), "a is committed up to 10, this checkpoint begins at 11"),
        (span("a", 9, 12, false), "begins at 9"),
        (span("a", 10, 12, true), "calls it new"),
        (span("c", 0, 1, false), "not called new"),
    ] {
        let refusal = after(&[first.clone(), moves(2, vec![next])]).unwrap_err();
        assert!(refusal.contains(needle), "`{needle}` is not in: {refusal}");
    }
}

#[test]
fn a_record_of_version_1_must_not_forget_a_partition_and_one_of_version_2_says_only_what_changed() {
    let version_1 = |record: CommitRecord| CommitRecord { version: 1, ..record };
    let first = version_1(moves(1, vec![span("a", 0, 10, true), span("b", 0, 5, true)]));
    let second = moves(2, vec![span("a", 10, 12, false)]);
    assert!(after(&[first.clone(), version_1(second.clone())]).unwrap_err().contains("b is committed up to 5, this checkpoint forgets it"));
    assert_eq!(after(&[first, second]).unwrap().positions().len(), 2);
}

#[test]
fn a_record_that_says_another_state_than_comes_out_does_not_follow() {
    let first = moves(1, vec![span("a", 0, 10, true)]);
    let said = after(std::slice::from_ref(&first)).unwrap().sha256();
    after(&[CommitRecord { state_sha256: Some(said.clone()), ..first.clone() }]).unwrap();
    let other = CommitRecord { state_sha256: Some(said), source: moves(1, vec![span("a", 0, 11, true)]).source, ..first };
    assert!(after(&[other]).unwrap_err().contains("the state after it is"));
}

#[test]
fn a_partition_that_vanished_leaves_a_fingerprint_until_it_returns_or_is_forgotten() {
    let gone = after(&[moves(1, vec![read("a", 0, 10, true)]), moves(2, vec![vanishes("a", 10)])]).unwrap();
    assert_eq!((gone.positions().len(), gone.remembered().len()), (0, 1));
    let fingerprint = gone.remembered().values().next().unwrap();
    assert_eq!((fingerprint.to, fingerprint.head_bytes, u64::from(fingerprint.at)), (10, 10, 1_767_225_600));
    let mut back = gone.clone();
    back.apply(&moves(3, vec![PartitionSpan { id: "a again".into(), from: 10, ..read("a", 0, 10, true) }])).unwrap();
    assert_eq!((back.positions().len(), back.remembered().len()), (1, 0));
    let mut forgotten = gone.clone();
    let mut forgets = moves(3, vec![]);
    forgets.source.forget_before = Some(fingerprint.at);
    forgotten.apply(&forgets).unwrap();
    assert_eq!(forgotten.remembered().len(), 1, "it was not forgotten before that time");
    forgets.source.forget_before = Some(fingerprint.at + 1);
    forgotten.apply(&forgets).unwrap();
    assert_eq!(forgotten, State { rest: gone.rest.clone(), ..State::default() });
}

#[test]
fn a_take_over_replaces_the_positions_and_leaves_those_of_replayed_dead_letters() {
    let letters = "dead_letters/0000000042";
    let before = moves(1, vec![span("a", 0, 10, true), span(letters, 0, 3, true)]);
    let origin = Origin { instance: 1, sequence: 7, sha256: "c".repeat(64) };
    let handed = PartitionSpan { taken_over: Some(origin), ..span("b", 5, 5, false) };
    let state = after(&[before, CommitRecord { generation: 1, ..moves(2, vec![handed]) }]).unwrap();
    assert_eq!(state.positions().map(|(id, position)| (id.as_str(), position.to)).collect::<Vec<_>>(), [("b", 5), (letters, 3)]);
}

#[test]
fn under_another_key_positions_stay_and_their_evidence_does_not() {
    let first = [moves(1, vec![read("a", 0, 10, true), read("b", 0, 7, true)]), moves(2, vec![vanishes("b", 7)])];
    let other = CommitRecord { key: Some(Mark([8; 16])), ..moves(3, vec![]) };
    let state = after(&[first.to_vec(), vec![other]].concat()).unwrap();
    let position = state.position(&PartitionId::new("a")).unwrap();
    assert_eq!((position.to, &position.evidence, state.remembered().len()), (10, &None, 0));
}

#[test]
fn a_declared_expiry_only_ever_grows() {
    let declares = |sequence, at: i64| {
        let before = Some(DateTime::UNIX_EPOCH + TimeDelta::seconds(at));
        let by = super::super::process::Process::this();
        let action = Action { kind: ActionKind::Expire, by, text: String::new(), before, up_to: Vec::new() };
        CommitRecord { action: Some(action), trigger: None, ..moves(sequence, vec![]) }
    };
    let state = after(&[declares(1, 100), declares(2, 50)]).unwrap();
    assert_eq!(state.rest().expired_before, Some(DateTime::UNIX_EPOCH + TimeDelta::seconds(100)));
}

#[test]
fn a_declared_expiry_that_is_taken_back_leaves_the_one_before() {
    let act = |sequence, kind, at: Option<i64>| {
        let before = at.map(|at| DateTime::UNIX_EPOCH + TimeDelta::seconds(at));
        let action = Action { before, ..Action::new(kind, "") };
        CommitRecord { action: Some(action), trigger: None, ..moves(sequence, vec![]) }
    };
    let records = [act(1, ActionKind::Expire, Some(50)), act(2, ActionKind::Expire, Some(100)), act(3, ActionKind::TakeBack, Some(50))];
    assert_eq!(after(&records).unwrap().rest().expired_before, Some(DateTime::UNIX_EPOCH + TimeDelta::seconds(50)));
    let none = after(&[&records[..], &[act(4, ActionKind::TakeBack, None)]].concat()).unwrap();
    assert_eq!(none.rest().expired_before, None);
}

#[test]
fn what_is_accepted_of_a_partition_without_a_position_holds_whatever_id_it_gets() {
    let accepts = |id: &str| {
        let up_to = vec![UpTo { id: id.into(), label: Some("events".into()), to: 10 }];
        let action = Action { up_to, ..Action::new(ActionKind::AcceptRejected, "") };
        CommitRecord { action: Some(action), trigger: None, ..moves(1, vec![]) }
    };
    let new = |id: &str, label: &str, to| PartitionSpan { label: label.into(), ..span(id, 0, to, true) };
    let up_to = |state: &State, id: &str, label| state.rest().accepted_up_to(&PartitionId::new(id), label);
    let unread = after(&[accepts("drawn")]).unwrap();
    assert_eq!((up_to(&unread, "anew", "events"), up_to(&unread, "anew", "others")), (Some(10), None));
    let begun = after(&[accepts("drawn"), moves(2, vec![new("anew", "events", 4)])]).unwrap();
    assert_eq!((up_to(&begun, "anew", "renamed"), up_to(&begun, "next", "events")), (Some(10), None), "it counts once");
    let reached = after(&[accepts("drawn"), moves(2, vec![new("anew", "events", 10)])]).unwrap();
    assert_eq!((up_to(&reached, "anew", "events"), up_to(&reached, "drawn", "events")), (None, None));
    let renamed = after(&[accepts("drawn"), moves(2, vec![new("drawn", "renamed", 4)])]).unwrap();
    assert_eq!((up_to(&renamed, "drawn", "renamed"), up_to(&renamed, "next", "events")), (Some(10), None));
}

/// Drawn changes of a few partitions.
fn changes() -> impl Strategy<Value = Vec<(u8, u64, bool)>> {
    prop::collection::vec((0..6_u8, 0..5_u64, prop::bool::weighted(0.2)), 1..60)
}

proptest! {
    #[test]
    fn the_hash_depends_on_what_a_state_holds_and_not_on_the_way_to_it(changes in changes()) {
        let mut state = State::default();
        for (sequence, (partition, more, vanished)) in changes.into_iter().enumerate() {
            let id = format!("p{partition}");
            let at = state.position(&PartitionId::new(id.as_str())).map(|position| position.to);
            let step = match at {
                Some(at) if vanished => vanishes(&id, at),
                Some(at) => read(&id, at, at + more, false),
                None => read(&id, 0, 1 + more, true),
            };
            let before = state.clone();
            state.apply(&moves(1 + sequence as u64, vec![step])).unwrap();
            prop_assert_eq!(before == state, before.sha256() == state.sha256());
            let (bytes, sha256) = snapshot::encode("id", 7, &state);
            let (read, read_sha256) = snapshot::parse(&bytes, "id", 7).unwrap();
            prop_assert_eq!((&read, read.sha256(), read_sha256), (&state, state.sha256(), sha256));
        }
    }
}

#[test]
fn a_snapshot_of_another_dataset_or_in_the_place_of_another_is_refused() {
    let (bytes, _) = snapshot::encode("id", 7, &State::default());
    assert!(snapshot::parse(&bytes, "other", 7).is_err() && snapshot::parse(&bytes, "id", 8).is_err());
    assert!(snapshot::parse(&bytes[..bytes.len() - 1], "id", 7).is_err());
}
