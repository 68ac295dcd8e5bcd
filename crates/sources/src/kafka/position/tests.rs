use pintail_core::evidence::Key;

use super::*;

fn observed(topic_id: Option<&str>, low: u64, high: u64) -> ShownPartition {
    ShownPartition { topic: "a.b-c".into(), partition: 3, topic_id: topic_id.map(Into::into), low, high }
}

fn message(at: u64, content: &str) -> Witness {
    let mark = Key::new([7; 32]).mark(&[content.as_bytes()]);
    Witness { from: at, to: at + 1, time: Some(at as i64), epoch: Some(5), mark }
}

fn evidence(witnesses: &[Witness]) -> Arc<Evidence> {
    Arc::new(Evidence { witnesses: witnesses.to_vec(), ..Evidence::default() })
}

/// What is known after `next` was committed with evidence of these messages.
fn committed(topic_id: Option<&str>, next: u64, witnesses: &[Witness]) -> Positions {
    let mut positions = Positions::new(&Offsets::default());
    let (position, finding) = positions.judge(&observed(topic_id, 0, next), &[]);
    assert_eq!(finding, None);
    positions.advance(&position.partition, position.next, Arc::default());
    positions.advance(&position.partition, next, evidence(witnesses));
    positions
}

/// What is known after a record of version 1.
fn committed_before(topic_id: Option<&str>, next: u64) -> Positions {
    let observed = observed(topic_id, 0, next);
    let partition = position(&observed, id(&observed, 1), 0, None).partition;
    let mut offsets = Offsets::default();
    offsets.extend(&OffsetRange::new(partition, 0, next)).unwrap();
    Positions::new(&offsets)
}

fn looked(sights: &[&[Witness]]) -> Looked {
    Looked { sights: sights.iter().map(|sights| sights.to_vec()).collect(), ..Looked::default() }
}

fn forked(sights: &[&[Witness]], fork: u64) -> Looked {
    Looked { disowned: true, fork: Some(fork), ..looked(sights) }
}

/// Returns the id, the next offset, where reading begins, and what was found out.
fn judge(positions: &Positions, observed: &ShownPartition, looked: &Looked) -> (String, u64, u64, Option<LogFinding>) {
    judge_all(positions, observed, std::slice::from_ref(looked))
}

/// The same, of a partition that is known by several logs, the latest first.
fn judge_all(positions: &Positions, observed: &ShownPartition, looked: &[Looked]) -> (String, u64, u64, Option<LogFinding>) {
    let (position, finding) = positions.judge(observed, looked);
    (position.partition.id.as_str().to_owned(), position.next, position.begin, finding)
}

fn asks(positions: &Positions, observed: &ShownPartition) -> Vec<Option<(u64, u64)>> {
    let known = positions.known(observed).first().map(|known| known.asks(observed)).unwrap_or_default();
    known.into_iter().map(|ask| ask.map(|ask| (ask.from, ask.until))).collect()
}

const SAME: &str = "a.b-c/3@X";
const AGAIN: &str = "a.b-c/3@X~2";

#[test]
fn an_unknown_partition_begins_with_the_oldest_message_and_a_known_one_where_it_was() {
    let shown = observed(Some("X"), 5, 9);
    let nothing = Positions::new(&Offsets::default());
    assert!(nothing.known(&shown).is_empty());
    assert_eq!(judge(&nothing, &shown, &Looked::default()), (SAME.into(), 5, 5, None));
    let positions = committed(Some("X"), 8, &[message(7, "seven")]);
    assert_eq!(asks(&positions, &shown), [Some((7, 8))]);
    assert_eq!(judge(&positions, &shown, &looked(&[&[message(7, "seven")]])), (SAME.into(), 8, 8, None));
    let other = ShownPartition { partition: 4, ..shown };
    assert_eq!(judge(&positions, &other, &Looked::default()), ("a.b-c/4@X".into(), 5, 5, None));
}

#[test]
fn messages_that_were_removed_unread_are_a_gap_within_the_same_partition() {
    let positions = committed(Some("X"), 4, &[message(3, "three")]);
    let (_, _, _, found) = judge(&positions, &observed(Some("X"), 4, 9), &Looked::default());
    assert_eq!(found, Some(LogFinding::Unseen { last: 3 }));
    let removed = LogGap::Removed { next: 4, low: 6 };
    assert_eq!(removed.to_string(), "offsets 4 to 5 were removed before they were read (retention)");
    let shown = observed(Some("X"), 6, 9);
    assert_eq!(asks(&positions, &shown), [None]);
    assert_eq!(positions.known(&shown)[0].epoch_to_ask(&shown, &Looked::default()), Some((6, 5)), "before the beginning nothing is told");
    assert_eq!(judge(&positions, &shown, &Looked::default()), (SAME.into(), 4, 6, Some(LogFinding::Gap(removed))));
}

#[test]
fn another_message_in_the_place_of_the_last_is_another_log() {
    let positions = committed(Some("X"), 9, &[message(8, "eight")]);
    let shown = observed(Some("X"), 2, 20);
    let other = looked(&[&[message(8, "other")]]);
    let differs = |begin, known_by| Some(LogFinding::Gap(LogGap::Other { next: 9, why: Why::Differs { at: 8 }, begin, known_by }));
    assert_eq!(positions.known(&shown)[0].epoch_to_ask(&shown, &other), Some((9, 5)), "where another history begins");
    assert_eq!(judge(&positions, &shown, &other), (AGAIN.into(), 2, 2, differs(2, KnownBy::Nothing)));
    assert_eq!(judge(&positions, &shown, &forked(&[&[message(8, "other")]], 6)), (AGAIN.into(), 6, 6, differs(6, KnownBy::Epochs)));
    assert_eq!(
        judge(&positions, &shown, &forked(&[&[message(8, "other")]], 2)).3,
        differs(2, KnownBy::Nothing),
        "an epoch that the broker does not know"
    );
    // Another time or epoch is another message, whatever it says.
    for other in [Witness { time: Some(9), ..message(8, "eight") }, Witness { epoch: Some(6), ..message(8, "eight") }] {
        assert_eq!(judge(&positions, &shown, &looked(&[&[other]])).3, differs(2, KnownBy::Nothing));
    }
}

#[test]
fn a_log_that_ends_before_the_position_is_another_one() {
    let positions = committed(Some("X"), 9, &[message(8, "eight")]);
    let shorter = observed(Some("X"), 0, 7);
    assert_eq!(asks(&positions, &shorter), [None]);
    let gap = |begin, known_by| Some(LogFinding::Gap(LogGap::Other { next: 9, why: Why::Shorter { end: 7 }, begin, known_by }));
    assert_eq!(judge(&positions, &shorter, &Looked::default()), (AGAIN.into(), 0, 0, gap(0, KnownBy::Nothing)));
    assert_eq!(judge(&positions, &shorter, &forked(&[], 5)), (AGAIN.into(), 5, 5, gap(5, KnownBy::Epochs)));
    // What was recorded is no gap any more.
    let mut positions = positions;
    let (position, _) = positions.judge(&shorter, &[forked(&[], 5)]);
    positions.advance(&position.partition, 5, position.evidence.unwrap());
    assert_eq!(judge(&positions, &observed(Some("X"), 0, 12), &Looked::default()), (AGAIN.into(), 5, 5, None));
}

#[test]
fn the_end_of_an_epoch_tells_nothing_behind_messages_that_are_younger_than_all_that_was_read_or_differ() {
    let positions = committed(Some("X"), 9, &[message(3, "three"), message(8, "eight")]);
    let shorter = observed(Some("X"), 0, 7);
    let begin = |sights: &[&[Witness]], before| {
        let looked = Looked { before_fork: before, ..forked(sights, 7) };
        judge(&positions, &shorter, &looked).1
    };
    let agrees: &[&[Witness]] = &[&[message(3, "three")], &[]];
    assert_eq!(begin(agrees, None), 7, "there is nothing before it");
    for (time, next) in [(Some(6), 7), (Some(8), 7), (Some(9), 0), (None, 0)] {
        assert_eq!(begin(agrees, Some(Witness { time, ..message(6, "any") })), next, "{time:?}");
    }
    assert_eq!(begin(&[&[message(3, "other")], &[]], None), 0, "what was read is not there");
    let (position, _) = positions.judge(&shorter, &[Looked { before_fork: Some(message(6, "six")), ..forked(agrees, 7) }]);
    assert_eq!(position.evidence, Some(evidence(&[message(6, "six")])), "what stands before the place where reading goes on");
}

#[test]
fn what_was_read_of_an_earlier_log_counts_again_if_it_stands_there_again() {
    let mut positions = committed(Some("X"), 9, &[message(8, "eight")]);
    let fork = Looked { before_fork: Some(message(6, "six")), ..forked(&[], 7) };
    let (position, _) = positions.judge(&observed(Some("X"), 0, 7), &[fork]);
    positions.advance(&position.partition, 7, position.evidence.unwrap());
    let (shown, third) = (observed(Some("X"), 0, 20), "a.b-c/3@X~3=1");
    assert_eq!(positions.known(&shown).len(), 2);

    // Nothing was read of the second: nothing contradicts.
    let six = looked(&[&[message(6, "six")]]);
    let back = [six.clone(), looked(&[&[message(8, "eight")]])];
    assert_eq!(judge_all(&positions, &shown, &back), (third.into(), 9, 9, Some(LogFinding::Returned { next: 7, begin: 9 })));
    for not_back in [vec![six.clone()], vec![six.clone(), looked(&[&[message(8, "other")]])], vec![six, looked(&[&[message(9, "nine")]])]] {
        assert_eq!(judge_all(&positions, &shown, &not_back), (AGAIN.into(), 7, 7, None));
    }
    // Something was: it is gone.
    positions.advance(&position.partition, 12, evidence(&[message(11, "new")]));
    let back = [looked(&[&[message(11, "eleven")]]), looked(&[&[message(8, "eight")]])];
    let gap = LogGap::Other { next: 12, why: Why::Differs { at: 11 }, begin: 9, known_by: KnownBy::EarlierLog };
    assert_eq!(judge_all(&positions, &shown, &back), (third.into(), 9, 9, Some(LogFinding::Gap(gap))));
    // The first is not looked at any more: the third goes on with it.
    let (position, _) = positions.judge(&shown, &back);
    positions.advance(&position.partition, 9, position.evidence.unwrap());
    let known: Vec<_> = positions.known(&shown).iter().map(|known| known.id.text.clone()).collect();
    assert_eq!(known, [third, AGAIN]);
}

#[test]
fn a_message_that_is_gone_is_accepted_and_said_once_unless_its_epoch_ends_before_it() {
    let positions = committed(Some("X"), 9, &[message(8, "eight")]);
    let shown = observed(Some("X"), 2, 20);
    let gone = looked(&[&[message(12, "later")]]);
    assert_eq!(positions.known(&shown)[0].epoch_to_ask(&shown, &gone), Some((9, 5)));
    assert_eq!(judge(&positions, &shown, &gone), (SAME.into(), 9, 9, Some(LogFinding::Unseen { last: 8 })));
    let disowned = LogGap::Other { next: 9, why: Why::Disowned { at: 8 }, begin: 6, known_by: KnownBy::Epochs };
    let fork = forked(&[&[message(12, "later")]], 6);
    assert_eq!(judge(&positions, &shown, &fork), (AGAIN.into(), 6, 6, Some(LogFinding::Gap(disowned))));

    let mut positions = positions;
    let (position, _) = positions.judge(&shown, std::slice::from_ref(&gone));
    positions.advance(&position.partition, 9, position.evidence.unwrap());
    assert_eq!(judge(&positions, &shown, &gone), (SAME.into(), 9, 9, None), "it was said");
    assert!(matches!(judge(&positions, &shown, &fork).3, Some(LogFinding::Gap(_))), "the epoch still tells");
    let back = looked(&[&[message(8, "eight")]]);
    assert!(matches!(judge(&positions, &shown, &back).3, Some(LogFinding::Gap(_))), "what was gone does not come back");
}

#[test]
fn a_position_behind_markers_is_not_contradicted_by_retention_and_only_by_a_message_where_there_was_none() {
    // A marker and aborted messages stood at 9 to 11.
    let positions = committed(Some("X"), 12, &[message(8, "eight")]);
    let same = looked(&[&[message(8, "eight"), message(12, "next")]]);
    let shown = observed(Some("X"), 0, 20);
    assert_eq!(asks(&positions, &shown), [Some((8, 12))]);
    assert_eq!(judge(&positions, &shown, &same), (SAME.into(), 12, 12, None));
    assert_eq!(judge(&positions, &observed(Some("X"), 0, 12), &looked(&[&[message(8, "eight")]])).3, None, "the end");
    assert_eq!(judge(&positions, &observed(Some("X"), 12, 12), &Looked::default()).3, Some(LogFinding::Unseen { last: 8 }), "retention");

    // Cut behind the last message: nothing is lost.
    let cut = |last| Some(LogFinding::CutBehind { next: 12, last });
    assert_eq!(judge(&positions, &observed(Some("X"), 0, 10), &looked(&[&[message(8, "eight")]])), (AGAIN.into(), 9, 9, cut(8)));
    let regrown = looked(&[&[message(8, "eight"), message(10, "new")]]);
    assert_eq!(judge(&positions, &shown, &regrown), (AGAIN.into(), 9, 9, cut(8)));

    // The last message was compacted away, and something stands where there was none.
    let why = Why::Differs { at: 10 };
    let found = judge(&positions, &shown, &looked(&[&[message(10, "new")]])).3;
    assert_eq!(found, Some(LogFinding::Gap(LogGap::Other { next: 12, why, begin: 0, known_by: KnownBy::Nothing })));
}

#[test]
fn of_two_witnesses_both_must_agree_and_the_last_is_asked_for_its_epoch_if_it_is_gone() {
    let positions = committed(Some("X"), 9, &[message(3, "three"), message(8, "eight")]);
    let shown = observed(Some("X"), 0, 20);
    assert_eq!(asks(&positions, &shown), [Some((3, 4)), Some((8, 9))]);
    let both = looked(&[&[message(3, "three")], &[message(8, "eight")]]);
    assert_eq!(judge(&positions, &shown, &both).3, None);
    let first = looked(&[&[message(3, "other")], &[message(8, "eight")]]);
    assert!(matches!(judge(&positions, &shown, &first).3, Some(LogFinding::Gap(LogGap::Other { why: Why::Differs { at: 3 }, .. }))));
    let gone = looked(&[&[message(3, "three")], &[message(12, "later")]]);
    assert_eq!(positions.known(&shown)[0].epoch_to_ask(&shown, &gone), Some((9, 5)));
    assert_eq!(positions.known(&shown)[0].epoch_to_ask(&shown, &both), None);
    assert_eq!(judge(&positions, &shown, &gone).3, None);
}

#[test]
fn a_topic_that_was_made_again_is_another_one_whatever_its_offsets() {
    let positions = committed(Some("X"), 4, &[message(3, "three")]);
    let again = observed(Some("Y"), 0, 100);
    assert!(positions.known(&again).is_empty(), "there is nothing to look at");
    let recreated = Some(LogFinding::Gap(LogGap::Recreated { next: 4 }));
    assert_eq!(judge(&positions, &again, &Looked::default()), ("a.b-c/3@Y".into(), 0, 0, recreated));
    let mut positions = positions;
    let (position, _) = positions.judge(&again, &[]);
    positions.advance(&position.partition, 0, position.evidence.unwrap());
    assert_eq!(judge(&positions, &again, &Looked::default()), ("a.b-c/3@Y".into(), 0, 0, None));
}

#[test]
fn a_broker_that_begins_to_give_ids_changes_nothing() {
    let same = looked(&[&[message(3, "three")]]);
    let positions = committed(None, 4, &[message(3, "three")]);
    assert_eq!(judge(&positions, &observed(Some("X"), 0, 9), &same), ("a.b-c/3".into(), 4, 4, None));
    let positions = committed(Some("X"), 4, &[message(3, "three")]);
    assert_eq!(judge(&positions, &observed(None, 0, 9), &same), (SAME.into(), 4, 4, None));
}

#[test]
fn a_position_without_evidence_is_accepted_once_and_the_message_before_it_is_evidence_from_then_on() {
    let mut positions = committed_before(Some("X"), 9);
    let shown = observed(Some("X"), 0, 20);
    assert_eq!(asks(&positions, &shown), [Some((8, 9))]);
    let (position, finding) = positions.judge(&shown, &[looked(&[&[message(8, "eight")]])]);
    assert_eq!((position.next, finding), (9, Some(LogFinding::Accepted { next: 9 })));
    assert_eq!(position.evidence, Some(evidence(&[message(8, "eight")])));
    positions.advance(&position.partition, 9, position.evidence.unwrap());
    assert_eq!(judge(&positions, &shown, &looked(&[&[message(8, "eight")]])).3, None);

    // A marker stands before it.
    let mut positions = committed_before(Some("X"), 9);
    let (position, finding) = positions.judge(&shown, &[looked(&[&[message(9, "nine")]])]);
    assert_eq!(finding, Some(LogFinding::Accepted { next: 9 }));
    positions.advance(&position.partition, 9, position.evidence.unwrap());
    assert_eq!(judge(&positions, &shown, &Looked::default()).3, None, "once");
    assert!(matches!(judge(&positions, &observed(Some("X"), 0, 8), &Looked::default()).3, Some(LogFinding::Gap(_))));
}

#[test]
fn what_is_said_of_a_gap_names_the_offset_what_differs_and_what_it_costs_to_go_on() {
    let other = |why, known_by| LogFinding::Gap(LogGap::Other { next: 9, why, begin: 6, known_by }).to_string();
    let text = other(Why::Differs { at: 8 }, KnownBy::Epochs);
    assert!(
        text.contains("offset 8 holds another message") && text.contains("up to offset 6") && text.contains("nothing is read twice"),
        "{text}"
    );
    let text = other(Why::Disowned { at: 8 }, KnownBy::Nothing);
    assert!(text.contains("leader epoch ends before it") && text.contains("oldest offset, 6") && text.contains("read twice"), "{text}");
    assert!(other(Why::Shorter { end: 7 }, KnownBy::Nothing).contains("ends at offset 7, but 9 was to be read next"));
}

#[test]
fn an_id_leads_back_to_its_topic_and_partition() {
    for (id, place_of) in [
        ("a.b-c/3@X~2", Some(("a.b-c".to_owned(), 3))),
        ("a/1@X~3=1", Some(("a".to_owned(), 1))),
        ("t/0", Some(("t".to_owned(), 0))),
        ("stdin", None),
    ] {
        assert_eq!(place(&PartitionId::new(id)), place_of, "{id}");
    }
}

#[test]
fn each_partition_has_one_instance_and_none_has_them_all() {
    for topic in ["events", "orders", "clicks"] {
        for partition in 0..12 {
            let owners = (0..3).filter(|&index| is_ours((index, 3), topic, partition)).count();
            assert_eq!(owners, 1, "{topic}[{partition}]");
        }
        for index in 0..3 {
            let owned = (0..12).filter(|&partition| is_ours((index, 3), topic, partition)).count();
            assert_eq!(owned, 4, "{topic} of {index}");
        }
    }
}
