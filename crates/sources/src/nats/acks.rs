//! Acknowledgements, for streams that keep a message until it is acknowledged.
//!
//! Owns: which deliveries wait for the commit of their message, and which are acknowledged at once.
//! Does not own: when a commit is heard of (the source is told), what is delivered (see `intake`).
//!
//! A reply is remembered by the sequence of its message. Of a message that is delivered again the last reply counts.

use std::collections::BTreeMap;

use async_nats::{Client, Subject};
use pintail_core::offsets::{Offsets, PartitionId};

/// The acknowledgement.
pub(super) const ACK: &[u8] = b"+ACK";
/// Asks the server to wait longer for one.
pub(super) const IN_PROGRESS: &[u8] = b"+WPI";

/// Deliveries that are not acknowledged yet.
#[derive(Debug)]
pub(super) struct Acks {
    offsets: Offsets,
    partition: Option<PartitionId>,
    /// The sequence behind the last one that is committed in the partition.
    committed: u64,
    /// Whether an acknowledgement holds for all messages before it, too.
    cumulative: bool,
    waiting: BTreeMap<u64, Subject>,
    /// The sequence behind the last one that waited when [`Self::long_waiting`] was asked.
    asked: u64,
}

impl Acks {
    /// Begins with what is committed.
    pub(super) fn new(offsets: &Offsets) -> Self {
        Self { offsets: offsets.clone(), partition: None, committed: 0, cumulative: false, waiting: BTreeMap::new(), asked: 0 }
    }

    /// Begins a new consumer: the replies of the one before are void. Returns the sequence behind what is committed; 0 if nothing is.
    pub(super) fn begin(&mut self, partition: &PartitionId, cumulative: bool) -> u64 {
        self.waiting.clear();
        self.asked = 0;
        self.cumulative = cumulative;
        self.committed = self.committed(partition);
        self.partition = Some(partition.clone());
        self.committed
    }

    /// Returns the sequence behind what is committed in a partition; 0 if nothing is.
    pub(super) fn committed(&self, partition: &PartitionId) -> u64 {
        self.offsets.next_offset(partition).unwrap_or(0)
    }

    /// Takes a delivery. Returns its reply if the message is committed already.
    pub(super) fn deliver(&mut self, sequence: u64, reply: Subject) -> Option<Subject> {
        if sequence < self.committed {
            return Some(reply);
        }
        self.waiting.insert(sequence, reply);
        None
    }

    /// Reads what is committed. Returns the replies that need not wait any more, in the order of their messages.
    pub(super) fn commit(&mut self, offsets: &Offsets) -> Vec<Subject> {
        self.offsets = offsets.clone();
        let Some(to) = self.partition.as_ref().and_then(|partition| offsets.next_offset(partition)) else { return Vec::new() };
        self.committed = to;
        let still_waiting = self.waiting.split_off(&to);
        let replies = std::mem::replace(&mut self.waiting, still_waiting).into_values();
        if self.cumulative { replies.last().into_iter().collect() } else { replies.collect() }
    }

    /// Returns the replies that have waited since the last call.
    pub(super) fn long_waiting(&mut self) -> Vec<Subject> {
        let behind = self.waiting.last_key_value().map_or(0, |(last, _)| last + 1);
        let asked = std::mem::replace(&mut self.asked, behind);
        self.waiting.range(..asked).map(|(_, reply)| reply.clone()).collect()
    }
}

/// Says the same of all these deliveries. What does not get through is delivered again, and acknowledged then.
pub(super) async fn reply_all(client: &Client, replies: Vec<Subject>, what: &'static [u8]) {
    for reply in replies {
        if client.publish(reply, what.into()).await.is_err() {
            return;
        }
    }
    let _ = client.flush().await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pintail_core::offsets::{OffsetRange, Partition};

    use super::*;

    fn committed(to: u64) -> Offsets {
        let mut offsets = Offsets::default();
        let partition = Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() });
        offsets.extend(&OffsetRange::new(partition, 1, to)).unwrap();
        offsets.committed()
    }

    #[test]
    fn a_message_is_acknowledged_once_it_is_committed_and_by_its_last_delivery() {
        let mut acks = Acks::new(&Offsets::default());
        acks.begin(&PartitionId::new("p"), false);
        for (sequence, reply) in [(1, "a"), (2, "b"), (3, "c"), (2, "b2")] {
            assert_eq!(acks.deliver(sequence, reply.into()), None);
        }
        assert_eq!(acks.commit(&committed(3)), ["a".into(), "b2".into()]);
        assert!(acks.commit(&committed(3)).is_empty());
        assert_eq!(acks.commit(&committed(4)), ["c".into()]);
    }

    #[test]
    fn a_message_that_is_committed_is_acknowledged_at_once_when_it_comes_again() {
        let mut acks = Acks::new(&committed(3));
        acks.begin(&PartitionId::new("p"), false);
        assert_eq!(acks.deliver(2, "late".into()), Some("late".into()));
        assert_eq!(acks.deliver(3, "new".into()), None);
    }

    #[test]
    fn replies_of_a_consumer_that_is_gone_are_forgotten_and_what_was_committed_meanwhile_is_not() {
        let mut acks = Acks::new(&Offsets::default());
        acks.begin(&PartitionId::new("p"), false);
        acks.deliver(1, "old".into());
        acks.begin(&PartitionId::new("p"), false);
        assert!(acks.commit(&committed(2)).is_empty());
        assert_eq!(acks.deliver(1, "again".into()), Some("again".into()));
    }

    #[test]
    fn only_what_has_waited_since_the_last_look_waits_long() {
        let mut acks = Acks::new(&Offsets::default());
        acks.begin(&PartitionId::new("p"), false);
        acks.deliver(1, "a".into());
        acks.deliver(2, "b".into());
        assert!(acks.long_waiting().is_empty());
        acks.deliver(3, "c".into());
        acks.commit(&committed(2));
        assert_eq!(acks.long_waiting(), ["b".into()]);
        assert_eq!(acks.long_waiting(), ["b".into(), "c".into()]);
        acks.begin(&PartitionId::new("p"), false);
        acks.deliver(2, "b2".into());
        assert!(acks.long_waiting().is_empty(), "a new consumer");
    }

    #[test]
    fn one_acknowledgement_is_enough_where_it_holds_for_all_before_it() {
        let mut acks = Acks::new(&Offsets::default());
        acks.begin(&PartitionId::new("p"), true);
        for (sequence, reply) in [(1, "a"), (2, "b"), (5, "e")] {
            assert_eq!(acks.deliver(sequence, reply.into()), None);
        }
        assert_eq!(acks.commit(&committed(3)), ["b".into()]);
        assert!(acks.commit(&committed(5)).is_empty());
        assert_eq!(acks.commit(&committed(9)), ["e".into()]);
    }
}
