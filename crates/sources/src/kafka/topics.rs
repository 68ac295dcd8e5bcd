//! Topics: which partitions there are, and how far each goes.
//!
//! Owns: asking the broker, and which of the partitions are this instance's.
//! Does not own: what is concluded (see `position`), asking again (see `reader`).

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use super::client::Consumer;
use super::config::KafkaConfig;
use super::position::{ShownPartition, is_ours};
use super::topic_ids::topic_ids;

/// Time for a broker to answer, also in another part of the world.
const ANSWER: Duration = Duration::from_secs(5);

/// What the topics are: while this is the same, so are the partitions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The partitions of each topic, in the order of the configuration.
    counts: Vec<i32>,
    /// The id of each topic, if the broker gives one.
    ids: HashMap<String, String>,
}

impl Shape {
    /// Returns the number of partitions of all topics.
    pub(super) fn partitions(&self) -> i32 {
        self.counts.iter().sum()
    }
}

/// Asks what the topics are. Blocks.
///
/// # Errors
/// Why that cannot be told now, as a clause.
pub(super) fn shape(consumer: &Consumer, config: &KafkaConfig) -> Result<Shape, String> {
    let mut counts = Vec::with_capacity(config.topics.len());
    let mut broker = 0;
    for topic in &config.topics {
        let partitions = partitions(consumer, topic)?;
        counts.push(partitions.count);
        broker = partitions.broker;
    }
    let ids = topic_ids(consumer, &config.topics, broker, ANSWER);
    Ok(Shape { counts, ids: ids.map_err(|reason| format!("cannot fetch the ids of the topics: {reason}"))? })
}

/// Asks how far the partitions go that are this instance's, in the order of topics and partitions. Blocks.
///
/// # Errors
/// As [`shape`].
pub(super) fn observe(consumer: &Consumer, config: &KafkaConfig, shape: &Shape) -> Result<Vec<ShownPartition>, String> {
    let instance = (config.instance.index, config.instance.count);
    let mut observed = Vec::new();
    for (topic, count) in config.topics.iter().zip(&shape.counts) {
        for partition in (0..*count).filter(|partition| is_ours(instance, topic, *partition)) {
            // The high one is the end of what can be read: the library asks as it reads, for what is committed.
            let (low, high) = consumer
                .fetch_watermarks(topic, partition, ANSWER)
                .map_err(|error| format!("cannot fetch the offsets of `{topic}[{partition}]`: {}", reason(&error)))?;
            let offset =
                |offset: i64| u64::try_from(offset).map_err(|_| format!("the broker says offset {offset} of `{topic}[{partition}]`"));
            let topic_id = shape.ids.get(topic).cloned();
            observed.push(ShownPartition { topic: topic.clone(), partition, topic_id, low: offset(low)?, high: offset(high)? });
        }
    }
    Ok(observed)
}

/// The partitions of a topic.
struct Partitions {
    count: i32,
    /// A broker that can be asked.
    broker: i32,
}

fn partitions(consumer: &Consumer, topic: &str) -> Result<Partitions, String> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER).map_err(|error| match consumer.context().unreachable() {
        Some(words) => words,
        None => reason(&error),
    })?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or_else(|| format!("the broker says nothing of the topic `{topic}`"))?;
    match found.error() {
        None => {}
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => return Err(format!("there is no topic `{topic}`")),
        Some(code) => return Err(format!("the topic `{topic}`: {}", RDKafkaErrorCode::from(code))),
    }
    match i32::try_from(found.partitions().len()) {
        Ok(count) if count > 0 => {
            // The one that answered; before it has told its number, any.
            let broker = Some(metadata.orig_broker_id()).filter(|id| *id >= 0);
            let broker = broker.or_else(|| metadata.brokers().first().map(|broker| broker.id()));
            Ok(Partitions { count, broker: broker.ok_or("the cluster says it has no brokers")? })
        }
        _ => Err(format!("the topic `{topic}` has no partitions")),
    }
}

/// Returns what an error of the library says, without its own frame. That no broker answers has several codes, which say nothing to who reads them.
pub(super) fn reason(error: &KafkaError) -> String {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    match error.rdkafka_error_code() {
        Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve) => {
            format!("no broker answered within {} s", ANSWER.as_secs())
        }
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}
