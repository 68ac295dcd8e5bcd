//! Leader epochs: what of KIP-320 the `rdkafka` crate has no path to.
//!
//! Owns: reading the epoch of a message, and naming an epoch to the library beside an offset; so some `unsafe` calls of librdkafka.
//! Does not own: what is concluded from an epoch (see `position`), asking the broker (see `looker`).

#![allow(unsafe_code, reason = "rdkafka 0.39 knows no leader epochs; each call is librdkafka's own, on objects that live as long as it")]

use std::ffi::CString;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::message::BorrowedMessage;

/// Returns the epoch of the leader that wrote a message; `None` if its format (before 0.11) or its broker has none.
pub(super) fn leader_epoch(message: &BorrowedMessage<'_>) -> Option<i32> {
    // SAFETY: the message is alive while it is borrowed.
    let epoch = unsafe { sys::rd_kafka_message_leader_epoch(message.ptr()) };
    Some(epoch).filter(|epoch| *epoch >= 0)
}

/// Says for a partition of `list` in which epoch the message before its offset was written.
pub(super) fn set_leader_epoch(list: &mut TopicPartitionList, topic: &str, partition: i32, epoch: i32) {
    let Ok(topic) = CString::new(topic) else { return };
    // SAFETY: the list is alive while it is borrowed, and the text ends in NUL.
    let place = unsafe { sys::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition) };
    if !place.is_null() {
        // SAFETY: the place belongs to the list, which nobody else changes while it is borrowed.
        unsafe { sys::rd_kafka_topic_partition_set_leader_epoch(place, epoch) }
    }
}
