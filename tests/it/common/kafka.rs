//! A cluster of Kafka in this process: librdkafka's own, which speaks the protocol on real sockets and keeps its logs in memory.
//!
//! Owns: the cluster, producing to it, what a group was told.
//! Does not own: the settings of Pintail beyond where the cluster is.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};

use super::process::Pintail;
use super::{Dataset, wait_until};

/// The topic, unless a test makes another.
pub(crate) const TOPIC: &str = "events";

/// A cluster of one broker. A partition keeps 100,000 messages or 5 MiB, whichever is less.
pub(crate) struct Cluster {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Cluster {
    /// Starts a cluster in which [`TOPIC`] has so many partitions.
    pub(crate) fn start(partitions: i32) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, partitions, 1).unwrap();
        let producer = producer(&cluster.bootstrap_servers());
        Self { cluster, producer }
    }

    /// Returns the address of the broker.
    pub(crate) fn broker(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Makes another topic.
    pub(crate) fn create_topic(&self, topic: &str, partitions: i32) {
        self.cluster.create_topic(topic, partitions, 1).unwrap();
    }

    /// Takes the broker off the network.
    pub(crate) fn down(&self) {
        self.cluster.broker_down(1).unwrap();
    }

    /// Brings it back.
    pub(crate) fn up(&self) {
        self.cluster.broker_up(1).unwrap();
    }

    /// Lets the broker take its time for every answer.
    pub(crate) fn answer_after(&self, delay: Duration) {
        self.cluster.broker_round_trip_time(1, delay).unwrap();
    }

    /// Writes messages to a partition, and waits until they are there.
    pub(crate) fn produce<P: AsRef<[u8]>>(&self, partition: i32, payloads: impl IntoIterator<Item = P>) {
        produce(&self.producer, TOPIC, partition, payloads);
    }

    /// Writes one message as it is.
    pub(crate) fn produce_record(&self, record: BaseRecord<'_, [u8], [u8]>) {
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
        self.producer.flush(Duration::from_secs(10)).unwrap();
    }

    /// Returns a producer of its own, for another thread.
    pub(crate) fn producer(&self) -> BaseProducer {
        producer(&self.broker())
    }

    /// Returns the offset that a group was told of a partition; `None` if none.
    pub(crate) fn committed(&self, group: &str, partition: i32) -> Option<i64> {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", self.broker()).set("group.id", group).create().unwrap();
        let mut asked = rdkafka::TopicPartitionList::new();
        asked.add_partition(TOPIC, partition);
        let told = consumer.committed_offsets(asked, Duration::from_secs(10)).unwrap();
        told.find_partition(TOPIC, partition).unwrap().offset().to_raw().filter(|offset| *offset >= 0)
    }
}

fn producer(broker: &str) -> BaseProducer {
    ClientConfig::new().set("bootstrap.servers", broker).set("linger.ms", "1").set("enable.idempotence", "true").create().unwrap()
}

/// Writes messages to a partition, and waits until they are there.
pub(crate) fn produce<P: AsRef<[u8]>>(producer: &BaseProducer, topic: &str, partition: i32, payloads: impl IntoIterator<Item = P>) {
    for payload in payloads {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition).payload(payload.as_ref());
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    wait_until("messages to be written", || {
        producer.poll(Duration::from_millis(1));
        producer.in_flight_count() == 0
    });
}

impl Dataset {
    /// Prepares a run that reads small events from [`TOPIC`] and commits several times a second.
    pub(crate) fn kafka(&self, broker: &str) -> Pintail<'_> {
        let pintail = self.small_events().set("source.type", "kafka").set("source.brokers", broker).set("source.topics", TOPIC);
        pintail.set("pipeline.checkpoint_interval", "100ms")
    }
}
