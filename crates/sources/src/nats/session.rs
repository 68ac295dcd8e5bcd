//! A session: one connection and the consumer made on it.
//!
//! Owns: which consumer a stream's retention asks for, and its settings; the look whether the stream is still the same.
//! Does not own: what comes out of it (see `intake`).
//!
//! | retention | the consumer of a session |
//! |---|---|
//! | limits | an ephemeral one; nothing is acknowledged |
//! | interest | a durable one; it stays behind so that messages are kept while Pintail is away. The next session makes a second one, and only then deletes the first, beside the reading: without any, messages would be dropped |
//! | work queue | a durable one. The next session deletes it and makes it again: there may not be two, and messages are kept without any |
//!
//! Each is new, so that it begins with what comes next: a consumer that goes on would deliver what a killed process had received, but only after
//! its time to be acknowledged, and behind what came later.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::pull::{Config, Stream as Messages};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::{ConsumerErrorKind, Info, RetentionPolicy, Stream};
use chrono::DateTime;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::warn;

use super::config::NatsConfig;
use super::connect::{Connection, Failure};
use super::history::nanoseconds;
use super::position::{Position, ShownStream};

/// Messages asked for at a time: enough that the server never waits for the next request.
const PULL_MESSAGES: usize = 4_000;
/// Bytes asked for at a time at most, unless the server takes larger messages.
const PULL_BYTES: usize = 16 << 20;
/// Bytes that a header of a few bytes takes, for each of them, once the client has received it.
const HEADER_COST: usize = 32;
/// Time after which the server forgets a consumer that nobody asks for messages.
const FORGET: Duration = Duration::from_secs(60);
/// Time that a request for messages holds.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// Time between two signs of life of an idle consumer; two that do not come mean that it is gone.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Beyond two checkpoints, the time after which the server delivers again what is not acknowledged. It is passed over here, and costs no more
/// than its bytes.
const ACK_SLACK: Duration = Duration::from_secs(60);

/// Time between two tries to delete the consumer of an earlier session.
const FORGET_AGAIN: Duration = Duration::from_secs(10);

/// The line that is read for.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Time between checkpoints.
    pub checkpoint_interval: Duration,
    /// Bytes that it may hold.
    pub bytes_max: usize,
    /// Bytes of a record.
    pub record_bytes_max: usize,
}

/// One connection and its consumer.
pub(super) struct Session {
    pub(super) link: Link,
    pub(super) messages: Messages,
}

/// What requests and acknowledgements go through.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) stream: Stream,
    pub(super) consumer: PullConsumer,
    /// Whether messages are acknowledged.
    pub(super) acknowledge: bool,
    /// Deletes what an earlier session left; ends with this one.
    _leftover: JoinSet<()>,
}

impl Session {
    /// Makes the consumer; what it sends ahead keeps to the line's. Where messages are acknowledged it begins behind what is committed, so that those are delivered again that were handed
    /// on and wait for their commit: nobody else keeps them.
    pub(super) async fn begin(
        connection: Connection,
        stream: Stream,
        config: &NatsConfig,
        position: &Position,
        committed: u64,
        line: Line,
    ) -> Result<Self, Failure> {
        let ack_wait = 2 * line.checkpoint_interval + ACK_SLACK;
        let retention = stream.cached_info().config.retention;
        let mut leftover = JoinSet::new();
        let consumer = match retention {
            RetentionPolicy::Limits => make(&stream, reader(config, position.next), &connection).await?,
            RetentionPolicy::WorkQueue => {
                forget(&stream, &config.consumer).await?;
                make(&stream, queue(config, ack_wait), &connection).await?
            }
            RetentionPolicy::Interest => {
                let [one, other] = ["1", "2"].map(|number| format!("{}-{number}", config.consumer));
                // Each of them keeps all that is not committed: any one may go while the other is there.
                let (new, old) = if exists(&stream, &one).await? { (other, one) } else { (one, other) };
                if exists(&stream, &new).await? {
                    forget(&stream, &new).await?;
                }
                let made = make(&stream, keeper(config, new, committed.max(1), ack_wait), &connection).await?;
                leftover.spawn(forget_at_last(stream.clone(), old));
                made
            }
        };
        let messages = pull(&consumer, &connection, line.bytes_max).await?;
        let acknowledge = retention != RetentionPolicy::Limits;
        Ok(Self { link: Link { connection, stream, consumer, acknowledge, _leftover: leftover }, messages })
    }
}

impl Link {
    /// Ends the consumer if it is of no use without its session. The server would do so by itself, a minute later.
    pub(super) async fn end_reader(&self) {
        if !self.acknowledge {
            let _ = self.stream.delete_consumer(&self.consumer.cached_info().name).await;
        }
    }
}

/// Returns what an answer of the server shows of the stream.
pub(super) fn observed(info: &Info) -> ShownStream {
    let created = i64::try_from(info.created.unix_timestamp_nanos()).unwrap_or_default();
    ShownStream {
        created: DateTime::from_timestamp_nanos(created),
        first: info.state.first_sequence,
        last: info.state.last_sequence,
        last_time: nanoseconds(info.state.last_timestamp.unix_timestamp_nanos()),
    }
}

/// Looks at a stream that was read up to `next` since its first look.
///
/// # Errors
/// `Passing` as well if it is not the same stream any more: what that means is found out before the next session.
pub(super) async fn look(connection: &Connection, stream: &Stream, next: u64) -> Result<Info, Failure> {
    let looked = stream.get_info().await;
    let info = looked.map_err(|e| Failure::Passing(connection.explain(format!("the stream cannot be looked at: {e}"))))?;
    let begun_with = stream.cached_info();
    let contradiction = if info.created != begun_with.created {
        "the stream was recreated"
    } else if info.config.retention != begun_with.config.retention {
        "the stream has another retention"
    } else if observed(&info).end() < next {
        "the stream ends before what was read"
    } else {
        return Ok(info);
    };
    Err(Failure::Passing(contradiction.to_owned()))
}

/// Reads on from a sequence, and is forgotten without its session.
fn reader(config: &NatsConfig, next: u64) -> Config {
    Config {
        description: Some("pintail: reads".to_owned()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: next },
        ack_policy: AckPolicy::None,
        filter_subject: config.subject.clone().unwrap_or_default(),
        inactive_threshold: FORGET,
        num_replicas: 1,
        memory_storage: true,
        ..Config::default()
    }
}

/// Reads a work queue from its first message, and acknowledges each.
fn queue(config: &NatsConfig, ack_wait: Duration) -> Config {
    Config {
        durable_name: Some(config.consumer.clone()),
        description: Some("pintail: reads, and acknowledges what is committed".to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        max_ack_pending: i64::try_from(config.unacknowledged_max).unwrap_or(i64::MAX),
        filter_subject: config.subject.clone().unwrap_or_default(),
        ..Config::default()
    }
}

/// Reads an interest stream from a sequence on, and acknowledges the last of those that are committed.
fn keeper(config: &NatsConfig, name: String, next: u64, ack_wait: Duration) -> Config {
    Config {
        durable_name: Some(name),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: next },
        ack_policy: AckPolicy::All,
        ..queue(config, ack_wait)
    }
}

async fn make(stream: &Stream, wanted: Config, connection: &Connection) -> Result<PullConsumer, Failure> {
    let made = stream.create_consumer(wanted).await;
    made.map_err(|e| Failure::Passing(connection.explain(format!("the server makes no consumer: {e}"))))
}

/// Returns whether there is such a consumer.
async fn exists(stream: &Stream, consumer: &str) -> Result<bool, Failure> {
    match stream.consumer_info(consumer).await {
        Ok(_) => Ok(true),
        Err(e) => match e.kind() {
            ConsumerInfoErrorKind::NotFound => Ok(false),
            _ => Err(Failure::Passing(format!("the consumer `{consumer}` of an earlier session cannot be looked at: {e}"))),
        },
    }
}

async fn forget(stream: &Stream, consumer: &str) -> Result<(), Failure> {
    match stream.delete_consumer(consumer).await {
        Ok(_) => Ok(()),
        Err(e) => match e.kind() {
            ConsumerErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::CONSUMER_NOT_FOUND => Ok(()),
            _ => Err(Failure::Passing(format!("the consumer `{consumer}` of an earlier session cannot be deleted: {e}"))),
        },
    }
}

/// Deletes a consumer, however often it must be asked for: the server looks through all messages that the consumer kept and may answer too late. Nothing
/// waits for it; until it is gone the stream keeps what it has not acknowledged.
async fn forget_at_last(stream: Stream, consumer: String) {
    let mut warned = false;
    while let Err(Failure::Login(reason) | Failure::Passing(reason)) = forget(&stream, &consumer).await {
        if !std::mem::replace(&mut warned, true) {
            warn!(reason, "messages are kept for longer than needed, trying again");
        }
        sleep(FORGET_AGAIN).await;
    }
}

async fn pull(consumer: &PullConsumer, connection: &Connection, line_bytes_max: usize) -> Result<Messages, Failure> {
    // A message has a subject besides headers and payload; one that is larger than the request is never sent.
    let whole = 2 * connection.client.server_info().max_payload;
    let bytes = (line_bytes_max / HEADER_COST).min(PULL_BYTES).max(whole);
    let requests = consumer.stream().max_messages_per_batch(PULL_MESSAGES).max_bytes_per_batch(bytes);
    let messages = requests.expires(PULL_EXPIRES).heartbeat(HEARTBEAT).messages().await;
    messages.map_err(|e| Failure::Passing(format!("the server takes no request for messages: {e}")))
}
