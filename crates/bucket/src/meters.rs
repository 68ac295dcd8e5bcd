//! Counts of all requests to a bucket.
//!
//! Owns: what is counted, by kind and status.
//! Does not own: showing it (the admin server's), when a request is sent again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;

/// The upper ends of the classes of latencies, in seconds. One more class holds what is longer.
pub const BUCKETS_SECONDS: [f64; 8] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    /// To read an object, or a part of it.
    Get,
    /// To tell what is there.
    Head,
    /// To create an object if there is none of its name.
    Create,
    /// To write an object.
    Replace,
    /// To begin an upload.
    Begin,
    /// To upload a part.
    Part,
    /// To make an upload visible.
    Complete,
    /// To give an upload up.
    Abort,
    /// To remove an object.
    Discard,
    /// To list names.
    List,
    /// To list the parts of an upload.
    Parts,
    /// To get credentials, from whoever gives them.
    Credentials,
}

impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Begin => "begin_upload",
            Self::Part => "upload_part",
            Self::Complete => "complete_upload",
            Self::Abort => "abort_upload",
            Self::Discard => "remove",
            Self::List => "list",
            Self::Parts => "list_parts",
            Self::Credentials => "credentials",
        })
    }
}

/// Requests of one kind that had the same answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counted {
    /// What they asked for.
    pub kind: RequestKind,
    /// The status of the answer; `None` if no answer came.
    pub status: Option<u16>,
    /// How many they were.
    pub requests: u64,
    /// How long they took to be answered, all together.
    pub seconds: f64,
    /// How many were answered within each of [`BUCKETS_SECONDS`] and not within the one before; the last class holds the rest.
    pub within: [u64; BUCKETS_SECONDS.len() + 1],
}

/// All requests since a bucket was connected.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// By kind and status.
    pub counted: Vec<Counted>,
    /// Bytes of bodies that were sent, also of those that came to nothing.
    pub sent_bytes: u64,
    /// Bytes of objects that were read.
    pub received_bytes: u64,
    /// Answers after which the protocol sends the request again: it was throttled, or nobody knows whether it was done.
    pub inconclusive: u64,
}

#[derive(Debug, Default)]
struct State {
    counted: BTreeMap<(RequestKind, Option<u16>), Counted>,
    sent_bytes: u64,
    received_bytes: u64,
    inconclusive: u64,
}

/// Where requests are counted.
#[derive(Debug, Default)]
pub(crate) struct Meters(Mutex<State>);

impl Meters {
    pub(crate) fn answered(&self, kind: RequestKind, status: Option<u16>, took: Duration, sent_bytes: u64) {
        let seconds = took.as_secs_f64();
        let class = BUCKETS_SECONDS.iter().position(|end| seconds <= *end).unwrap_or(BUCKETS_SECONDS.len());
        let none = Counted { kind, status, requests: 0, seconds: 0.0, within: [0; BUCKETS_SECONDS.len() + 1] };
        let mut state = self.0.lock();
        let counted = state.counted.entry((kind, status)).or_insert(none);
        counted.requests += 1;
        counted.seconds += seconds;
        counted.within[class] += 1;
        state.sent_bytes += sent_bytes;
    }

    pub(crate) fn received(&self, bytes: u64) {
        self.0.lock().received_bytes += bytes;
    }

    pub(crate) fn inconclusive(&self) {
        self.0.lock().inconclusive += 1;
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let state = self.0.lock();
        Traffic {
            counted: state.counted.values().copied().collect(),
            sent_bytes: state.sent_bytes,
            received_bytes: state.received_bytes,
            inconclusive: state.inconclusive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_kind_and_status_each_in_the_class_of_its_latency() {
        let meters = Meters::default();
        meters.answered(RequestKind::Head, Some(200), Duration::from_millis(5), 0);
        meters.answered(RequestKind::Head, Some(200), Duration::from_secs(60), 0);
        meters.answered(RequestKind::Part, None, Duration::from_millis(200), 7);
        let traffic = meters.traffic();
        let [head, part] = traffic.counted.as_slice() else { panic!("{traffic:?}") };
        assert_eq!((head.requests, head.within), (2, [1, 0, 0, 0, 0, 0, 0, 0, 1]));
        assert_eq!((part.status, part.requests, part.within[3]), (None, 1, 1));
        assert_eq!(traffic.sent_bytes, 7);
    }
}
