//! Headers: those of a message, whatever bytes their names have.
//!
//! Owns: two calls of librdkafka that the `rdkafka` crate makes too, and panics after if a name is no UTF-8.
//! Does not own: what headers are good for.

#![allow(unsafe_code, reason = "rdkafka 0.39 unwraps the names as UTF-8; each call is librdkafka's own, on a message that is borrowed")]

use std::borrow::Cow;
use std::ffi::{CStr, c_void};
use std::{ptr, slice};

use pintail_core::escape::bytes_as_text;
use pintail_core::messages::Header;
use rdkafka::bindings as sys;
use rdkafka::message::BorrowedMessage;

const NO_ERROR: sys::rd_kafka_resp_err_t = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;

/// Returns the headers of a message, in their order. A name that is no UTF-8 is escaped: the protocol has none, but clients send them.
pub(super) fn headers<'a>(message: &'a BorrowedMessage<'_>) -> Vec<Header<'a>> {
    let mut list = ptr::null_mut();
    // SAFETY: the message is alive as long as it is borrowed, and owns its headers.
    if unsafe { sys::rd_kafka_message_headers(message.ptr(), &raw mut list) } != NO_ERROR {
        return Vec::new();
    }
    (0..).map_while(|index| header(message, list, index)).collect()
}

/// Returns one of the headers of a message, which are `list`; `None` behind the last.
fn header<'a>(_owner: &'a BorrowedMessage<'_>, list: *const sys::rd_kafka_headers_t, index: usize) -> Option<Header<'a>> {
    let (mut name, mut value, mut length) = (ptr::null(), ptr::null::<c_void>(), 0);
    // SAFETY: the list is that of the message, which is alive; librdkafka says that there is nothing behind its end.
    let found = unsafe { sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut length) };
    if found != NO_ERROR {
        return None;
    }
    // SAFETY: librdkafka ends each name with NUL, and keeps it as long as the message.
    let name: &'a CStr = unsafe { CStr::from_ptr(name) };
    // SAFETY: the value has that many bytes, and lives as long as the message.
    let value = (!value.is_null()).then(|| unsafe { slice::from_raw_parts::<'a, u8>(value.cast(), length) });
    let name = name.to_str().map_or_else(|_| bytes_as_text(name.to_bytes()), Cow::Borrowed);
    Some((name, value))
}
