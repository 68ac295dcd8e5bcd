//! The ids of topics: what tells a topic from one of the same name that was made after it.
//!
//! Owns: one request of the admin API that the `rdkafka` crate has no path to, and so some `unsafe` calls of librdkafka.
//! Does not own: what is concluded from an id (see `position`).

#![allow(unsafe_code, reason = "rdkafka 0.39 has no DescribeTopics; each call is librdkafka's own, on objects that live as long as it")]

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::consumer::{Consumer as _, ConsumerContext};
use rdkafka::types::RDKafkaErrorCode;

/// An object of librdkafka that is destroyed when it is dropped.
struct Owned<T> {
    object: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(object: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(object).map(|object| Self { object, destroy })
    }

    fn get(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the object was made by the function that `destroy` belongs to, and nobody else destroys it.
        unsafe { (self.destroy)(self.object.as_ptr()) }
    }
}

/// Asks `broker` for the ids of `topics`. A topic without an id (a broker before 2.8, or no such topic) is left out. Blocks.
///
/// # Errors
/// The reason why no broker answered.
pub(super) fn topic_ids<C: ConsumerContext>(
    consumer: &rdkafka::consumer::BaseConsumer<C>,
    topics: &[String],
    broker: i32,
    patience: Duration,
) -> Result<HashMap<String, String>, String> {
    let patience_ms = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    let no_memory = || "librdkafka has no memory".to_owned();
    let client = consumer.client().native_ptr();
    let names: Vec<CString> =
        topics.iter().map(|topic| CString::new(topic.as_str())).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the array has that many pointers to texts that end in NUL, and librdkafka copies them.
    let collection = unsafe { sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()) };
    let collection = Owned::new(collection, sys::rd_kafka_TopicCollection_destroy).ok_or_else(no_memory)?;
    // SAFETY: `client` lives as long as `consumer`, which is borrowed.
    let queue = unsafe { sys::rd_kafka_queue_new(client) };
    let queue = Owned::new(queue, sys::rd_kafka_queue_destroy).ok_or_else(no_memory)?;
    // SAFETY: as above.
    let options = unsafe { sys::rd_kafka_AdminOptions_new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS) };
    let options = Owned::new(options, sys::rd_kafka_AdminOptions_destroy).ok_or_else(no_memory)?;
    // SAFETY: a null buffer of no bytes asks for no words.
    unsafe { sys::rd_kafka_AdminOptions_set_request_timeout(options.get(), patience_ms, ptr::null_mut(), 0) };
    // Any broker knows; without this it is the controller, which librdkafka waits for, known or not.
    // SAFETY: as above.
    unsafe { sys::rd_kafka_AdminOptions_set_broker(options.get(), broker, ptr::null_mut(), 0) };
    // SAFETY: all four are alive; what is asked for is copied.
    unsafe { sys::rd_kafka_DescribeTopics(client, collection.get(), options.get(), queue.get()) };
    // SAFETY: the queue is alive. The request ends by its own timeout, so an event comes; a little later is as good.
    let event = unsafe { sys::rd_kafka_queue_poll(queue.get(), patience_ms.saturating_add(1000)) };
    let event = Owned::new(event, sys::rd_kafka_event_destroy).ok_or("no answer")?;
    // SAFETY: the event is alive.
    let code = unsafe { sys::rd_kafka_event_error(event.get()) };
    if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(RDKafkaErrorCode::from(code).to_string());
    }
    // SAFETY: the event is alive; null if it is of another kind.
    let result = unsafe { sys::rd_kafka_event_DescribeTopics_result(event.get()) };
    if result.is_null() {
        return Err("no answer to the question asked".to_owned());
    }
    let mut count = 0;
    // SAFETY: the result belongs to the event; the count is written before it returns.
    let described = unsafe { sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count) };
    let mut ids = HashMap::new();
    for index in 0..count {
        // SAFETY: the array has `count` pointers.
        let place = unsafe { described.add(index) };
        // SAFETY: as above; what it points to belongs to the event.
        let topic = unsafe { *place };
        // SAFETY: as above; the name is a text that ends in NUL.
        let name = unsafe { sys::rd_kafka_TopicDescription_name(topic) };
        // SAFETY: as above; null if the broker gave none.
        let id = unsafe { sys::rd_kafka_TopicDescription_topic_id(topic) };
        if id.is_null() {
            continue;
        }
        // SAFETY: the id belongs to the event.
        let high = unsafe { sys::rd_kafka_Uuid_most_significant_bits(id) };
        // SAFETY: as above.
        let low = unsafe { sys::rd_kafka_Uuid_least_significant_bits(id) };
        // SAFETY: the name belongs to the event.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        if (high, low) != (0, 0) {
            ids.insert(name, format!("{high:016x}{low:016x}"));
        }
    }
    Ok(ids)
}
