//! The requests that librdkafka makes of a consumer's broker, and their answers.
//!
//! Owns: the versions that are offered, reading and writing. <https://kafka.apache.org/protocol>
//! Does not own: what a log answers (see [`super::log`]).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::log::Log;
use super::{Age, State, Topics};

/// The key of each request, and the versions offered. Produce is there because the format of records hangs on it.
const VERSIONS: [(i16, i16, i16); 8] = [
    (PRODUCE, 3, 3),
    (FETCH, 4, 11),
    (LIST_OFFSETS, 2, 2),
    (METADATA, 4, 12),
    (OFFSET_COMMIT, 2, 2),
    (COORDINATOR, 0, 0),
    (API, 0, 3),
    (EPOCH, 2, 2),
];
const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const OFFSET_COMMIT: i16 = 8;
const COORDINATOR: i16 = 10;
const API: i16 = 18;
const EPOCH: i16 = 23;

const OUT_OF_RANGE: i16 = 1;
const UNKNOWN_PARTITION: i16 = 3;
const FENCED_EPOCH: i16 = 74;
const UNKNOWN_EPOCH: i16 = 75;

/// Answers a request, with the header that belongs before the answer.
pub(super) fn answer(request: &[u8], state: &State) -> Vec<u8> {
    let mut request = In(request);
    let (key, version, correlation) = (request.i16(), request.i16(), request.i32());
    request.text();
    let mut out = Out::default();
    out.i32(correlation);
    match key {
        API => api_versions(version, state.age, &mut out),
        METADATA => metadata(version, state, &mut out),
        FETCH => fetch(version, &mut request, state, &mut out),
        LIST_OFFSETS => list_offsets(&mut request, state, &mut out),
        EPOCH => end_of_epoch(&mut request, state, &mut out),
        COORDINATOR => coordinator(state, &mut out),
        OFFSET_COMMIT => commit(&mut request, state, &mut out),
        other => panic!("a request of key {other}"),
    }
    out.0
}

fn api_versions(version: i16, age: Age, out: &mut Out) {
    // The library asks in a version with tags, which must be answered in it.
    out.i16(0);
    let flexible = version >= 3;
    out.count(VERSIONS.len(), flexible);
    for (key, from, to) in VERSIONS {
        let to = match (key, age) {
            (METADATA, Age::Old) => 8,
            (METADATA, Age::WithoutIds) => 9,
            _ => to,
        };
        [key, from, to].into_iter().for_each(|number| out.i16(number));
        out.tags(flexible);
    }
    out.i32(0);
    out.tags(flexible);
}

/// All topics, whatever was asked for.
fn metadata(version: i16, state: &State, out: &mut Out) {
    let flexible = version >= 9;
    out.tags(flexible);
    out.i32(0);
    out.count(1, flexible);
    out.i32(1);
    out.text(&state.address.ip().to_string(), flexible);
    out.i32(state.address.port().into());
    out.null(flexible);
    out.tags(flexible);
    out.text("cluster", flexible);
    out.i32(1);
    let topics = state.topics.lock().unwrap();
    out.count(topics.len(), flexible);
    for (name, topic) in topics.iter() {
        out.i16(0);
        out.text(name, flexible);
        if version >= 10 {
            out.0.extend(topic.id.to_be_bytes());
        }
        out.0.push(0);
        out.count(topic.logs.len(), flexible);
        for (number, log) in (0..).zip(&topic.logs) {
            out.i16(0);
            out.i32(number);
            out.i32(1);
            if version >= 7 {
                out.i32(log.epoch);
            }
            // The replicas, and those in sync.
            for _ in 0..2 {
                out.count(1, flexible);
                out.i32(1);
            }
            if version >= 5 {
                out.count(0, flexible);
            }
            out.tags(flexible);
        }
        if version >= 8 {
            out.i32(i32::MIN);
        }
        out.tags(flexible);
    }
    if (8..=10).contains(&version) {
        out.i32(i32::MIN);
    }
    out.tags(flexible);
}

/// A partition that messages are asked of.
struct Wanted {
    topic: String,
    partition: i32,
    epoch: i32,
    offset: i64,
}

fn fetch(version: i16, request: &mut In<'_>, state: &State, out: &mut Out) {
    request.i32();
    let patience = Duration::from_millis(u64::try_from(request.i32()).unwrap_or(0));
    request.skip(4 + 4 + 1);
    if version >= 7 {
        request.skip(4 + 4);
    }
    let mut wanted = Vec::new();
    for _ in 0..request.i32() {
        let topic = request.text();
        for _ in 0..request.i32() {
            let partition = request.i32();
            let epoch = if version >= 9 { request.i32() } else { -1 };
            let offset = request.i64();
            request.skip(if version >= 5 { 8 + 4 } else { 4 });
            wanted.push(Wanted { topic: topic.clone(), partition, epoch, offset });
        }
    }
    let until = Instant::now() + patience;
    let generation = state.generation.load(Ordering::SeqCst);
    loop {
        let topics = state.topics.lock().unwrap();
        let parts: Vec<Part> = wanted.iter().map(|wanted| Part::of(&topics, wanted)).collect();
        let idle = parts.iter().all(|part| part.error == 0 && part.batches.is_empty());
        if idle && Instant::now() < until && !state.ended.load(Ordering::SeqCst) && state.generation.load(Ordering::SeqCst) == generation {
            drop(topics);
            std::thread::sleep(Duration::from_millis(2));
            continue;
        }
        out.i32(0);
        if version >= 7 {
            out.i16(0);
            out.i32(0);
        }
        out.count(parts.len(), false);
        for (wanted, part) in wanted.iter().zip(&parts) {
            out.text(&wanted.topic, false);
            out.count(1, false);
            out.i32(wanted.partition);
            part.write(version, out);
        }
        return;
    }
}

/// What is answered of a partition.
#[derive(Default)]
struct Part {
    error: i16,
    start: i64,
    stable: i64,
    end: i64,
    aborted: Vec<(i64, i64)>,
    batches: Vec<u8>,
}

impl Part {
    fn of(topics: &Topics, wanted: &Wanted) -> Self {
        let Some(log) = find(topics, &wanted.topic, wanted.partition) else { return Self { error: UNKNOWN_PARTITION, ..Self::default() } };
        let error = match fence(log, wanted.epoch) {
            0 if wanted.offset < log.start || wanted.offset > log.end => OUT_OF_RANGE,
            error => error,
        };
        let (aborted, batches) = match error {
            0 => (log.aborted_from(wanted.offset), log.batches(wanted.offset)),
            _ => Default::default(),
        };
        Self { error, start: log.start, stable: log.stable(), end: log.end, aborted, batches }
    }

    fn write(&self, version: i16, out: &mut Out) {
        out.i16(self.error);
        out.i64(self.end);
        out.i64(self.stable);
        if version >= 5 {
            out.i64(self.start);
        }
        out.count(self.aborted.len(), false);
        for (producer, first) in &self.aborted {
            out.i64(*producer);
            out.i64(*first);
        }
        if version >= 11 {
            out.i32(-1);
        }
        out.count(self.batches.len(), false);
        out.0.extend(&self.batches);
    }
}

fn find<'a>(topics: &'a Topics, topic: &str, partition: i32) -> Option<&'a Log> {
    topics.get(topic)?.logs.get(usize::try_from(partition).ok()?)
}

/// Returns the error for a client that knows another epoch of the leader.
fn fence(log: &Log, epoch: i32) -> i16 {
    match epoch {
        -1 => 0,
        epoch if epoch < log.epoch => FENCED_EPOCH,
        epoch if epoch > log.epoch => UNKNOWN_EPOCH,
        _ => 0,
    }
}

fn list_offsets(request: &mut In<'_>, state: &State, out: &mut Out) {
    request.i32();
    let committed = request.u8() == 1;
    out.i32(0);
    each_partition(request, out, |request, out, topic, partition| {
        let time = request.i64();
        let topics = state.topics.lock().unwrap();
        let (error, offset) = match (find(&topics, topic, partition), time) {
            (None, _) => (UNKNOWN_PARTITION, -1),
            (Some(log), -2) => (0, log.start),
            (Some(log), _) if committed => (0, log.stable()),
            (Some(log), _) => (0, log.end),
        };
        out.i32(partition);
        out.i16(error);
        out.i64(-1);
        out.i64(offset);
    });
}

fn end_of_epoch(request: &mut In<'_>, state: &State, out: &mut Out) {
    out.i32(0);
    each_partition(request, out, |request, out, topic, partition| {
        let (current, asked) = (request.i32(), request.i32());
        let topics = state.topics.lock().unwrap();
        let (error, (epoch, end)) = match find(&topics, topic, partition) {
            None => (UNKNOWN_PARTITION, (-1, -1)),
            Some(log) => match fence(log, current) {
                0 => (0, log.end_of(asked)),
                error => (error, (-1, -1)),
            },
        };
        out.i16(error);
        out.i32(partition);
        out.i32(epoch);
        out.i64(end);
    });
}

fn coordinator(state: &State, out: &mut Out) {
    out.i16(0);
    out.i32(1);
    out.text(&state.address.ip().to_string(), false);
    out.i32(state.address.port().into());
}

fn commit(request: &mut In<'_>, state: &State, out: &mut Out) {
    request.text();
    request.i32();
    request.text();
    request.i64();
    each_partition(request, out, |request, out, topic, partition| {
        let offset = request.i64();
        request.text();
        state.told.lock().unwrap().insert((topic.to_owned(), partition), offset);
        out.i32(partition);
        out.i16(0);
    });
}

/// Reads topics and partitions, and answers in the same order.
fn each_partition(request: &mut In<'_>, out: &mut Out, mut each: impl FnMut(&mut In<'_>, &mut Out, &str, i32)) {
    let topics = request.i32();
    out.i32(topics);
    for _ in 0..topics {
        let topic = request.text();
        out.text(&topic, false);
        let partitions = request.i32();
        out.i32(partitions);
        for _ in 0..partitions {
            let partition = request.i32();
            each(request, out, &topic, partition);
        }
    }
}

/// A request that is read from its beginning. It ends too early only by a fault of ours, which fails the test.
struct In<'a>(&'a [u8]);

impl In<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk().expect("the request is longer");
        self.0 = rest;
        *head
    }

    fn skip(&mut self, bytes: usize) {
        self.0 = &self.0[bytes..];
    }

    fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.take())
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take())
    }

    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take())
    }

    /// A text; empty if it is null.
    fn text(&mut self) -> String {
        let length = usize::try_from(self.i16()).unwrap_or(0);
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }
}

/// An answer. Versions with tags write lengths as one more than they are.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn i16(&mut self, number: i16) {
        self.0.extend(number.to_be_bytes());
    }

    fn i32(&mut self, number: i32) {
        self.0.extend(number.to_be_bytes());
    }

    fn i64(&mut self, number: i64) {
        self.0.extend(number.to_be_bytes());
    }

    fn count(&mut self, count: usize, flexible: bool) {
        match flexible {
            true => self.unsigned(count + 1),
            false => self.i32(i32::try_from(count).expect("limited")),
        }
    }

    fn text(&mut self, text: &str, flexible: bool) {
        match flexible {
            true => self.unsigned(text.len() + 1),
            false => self.i16(i16::try_from(text.len()).expect("short")),
        }
        self.0.extend(text.as_bytes());
    }

    fn null(&mut self, flexible: bool) {
        match flexible {
            true => self.0.push(0),
            false => self.i16(-1),
        }
    }

    fn tags(&mut self, flexible: bool) {
        if flexible {
            self.0.push(0);
        }
    }

    fn unsigned(&mut self, mut rest: usize) {
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
    }
}
