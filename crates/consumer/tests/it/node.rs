//! A node whose gateway can die with all its connections and come back, and short words for what
//! the tests do with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rafka_broker::Broker;
use rafka_client::TopicPartition;
use rafka_consumer::{Builder, Consumer, ConsumerRecord, Error};
use rafka_core::{PartitionIndex, SystemClock, TopicName};
use rafka_producer::{Compression, Producer, Record};
use tokio::runtime::Runtime;

/// Longer than anything takes that works.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) broker: Broker,
    gateway: Option<Runtime>,
}

impl Node {
    /// A node with topic `t`.
    pub(crate) async fn start(partitions: u32) -> Self {
        let node = Self::empty().await;
        node.create("t", partitions).await;
        node
    }

    pub(crate) async fn empty() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let (gateway, bound) = bind(listen);
        let address = bound.local_addr();
        let settings = rafka_broker::Settings::default();
        let broker = rafka_broker::testing::start_at(settings, address).await;
        serve(&gateway, bound, broker.clone());
        Self { address, broker, gateway: Some(gateway) }
    }

    pub(crate) async fn create(&self, topic: &str, partitions: u32) {
        rafka_broker::testing::create_topic(&self.broker, topic, partitions, &[]).await;
    }

    /// Closes all connections at once. What is stored stays, and so do the groups.
    pub(crate) fn kill(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            // In a thread of its own: a runtime may not wait for another. After this, all is closed.
            std::thread::scope(|scope| {
                scope.spawn(|| gateway.shutdown_timeout(Duration::from_secs(5)));
            });
        }
    }

    /// Listens again, at the same address.
    pub(crate) fn restart(&mut self) {
        let (gateway, bound) = bind(self.address);
        serve(&gateway, bound, self.broker.clone());
        self.gateway = Some(gateway);
    }

    pub(crate) fn consumer(&self) -> Builder {
        Consumer::builder(&self.address.to_string())
            .offset_reset(rafka_consumer::OffsetReset::Earliest)
            .client(|client| {
                client.retry.backoff_min = Duration::from_millis(1);
                client.retry.backoff_max = Duration::from_millis(20);
                client.breaker.open_for = Duration::from_millis(20);
            })
    }

    pub(crate) fn member(&self, group: &str) -> Builder {
        let mut settings = rafka_consumer::Settings::default();
        settings.heartbeat_interval = Duration::from_millis(20);
        settings.group = Some(group.to_owned());
        settings.offset_reset = rafka_consumer::OffsetReset::Earliest;
        self.consumer().settings(settings)
    }

    pub(crate) fn producer(&self) -> Producer {
        Producer::builder(&self.address.to_string())
            .compression(Compression::Lz4)
            .client(|client| {
                client.retry.backoff_min = Duration::from_millis(1);
                client.retry.backoff_max = Duration::from_millis(20);
                client.breaker.open_for = Duration::from_millis(20);
            })
            .build()
            .expect("sound settings")
    }

    /// Appends the numbers, in turn to each of the partitions.
    pub(crate) async fn append(&self, partitions: i32, numbers: std::ops::Range<i64>) {
        append(&self.producer(), partitions, numbers).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn bind(listen: SocketAddr) -> (Runtime, rafka_grpc::Bound) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let gateway = builder.worker_threads(1).enable_all().build().expect("a runtime");
    let handle = gateway.handle().clone();
    let bound = on_thread(move || handle.block_on(rafka_grpc::bind(listen)));
    (gateway, bound.expect("the port is ours"))
}

fn serve(gateway: &Runtime, bound: rafka_grpc::Bound, broker: Broker) {
    let settings = rafka_grpc::Settings::default();
    gateway.spawn(async move {
        let clock = Arc::new(SystemClock::new());
        let mut serving = bound.start(&settings, broker, clock).await.expect("it is bound");
        serving.ended().await;
    });
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().expect("it does not panic"))
}

pub(crate) async fn append(producer: &Producer, partitions: i32, numbers: std::ops::Range<i64>) {
    let mut deliveries = Vec::new();
    for number in numbers {
        let partition = i32::try_from(number).expect("small numbers") % partitions;
        let record = Record::new("t")
            .partition(PartitionIndex(partition))
            .key(format!("k{partition}"))
            .value(number.to_string());
        deliveries.push(producer.send(record).await.expect("it is taken"));
    }
    producer.flush(LIMIT).await.expect("it is delivered");
    for delivery in deliveries {
        delivery.await.expect("it is delivered");
    }
}

pub(crate) fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new(TopicName::new("t").expect("a valid name"), PartitionIndex(partition))
}

pub(crate) fn all(partitions: i32) -> Vec<TopicPartition> {
    (0..partitions).map(tp).collect()
}

pub(crate) fn number(record: &ConsumerRecord) -> i64 {
    let value = record.value.as_deref().expect("a value");
    std::str::from_utf8(value).expect("text").parse().expect("a number")
}

/// Polls until so many records came.
pub(crate) async fn read(consumer: &Consumer, count: usize) -> Vec<ConsumerRecord> {
    let mut records = Vec::new();
    let reading = async {
        while records.len() < count {
            records.extend(consumer.poll(LIMIT).await.expect("nothing stands in the way"));
        }
    };
    let outcome = tokio::time::timeout(LIMIT, reading).await;
    assert!(outcome.is_ok(), "{} of {count} records came", records.len());
    records
}

/// Polls until the consumer is as asked for. Records must not come meanwhile.
pub(crate) async fn poll_until(consumer: &Consumer, done: impl Fn(&Consumer) -> bool) {
    let polling = async {
        while !done(consumer) {
            let records = consumer.poll(Duration::from_millis(5)).await.expect("no failure");
            assert_eq!(records, [], "nothing more is expected");
        }
    };
    tokio::time::timeout(LIMIT, polling).await.expect("it happens in time");
}

pub(crate) async fn failure(consumer: &Consumer) -> Error {
    let outcome = tokio::time::timeout(LIMIT, consumer.poll(LIMIT)).await.expect("in time");
    outcome.expect_err("a failure was to be told")
}

/// Asserts that the records of each partition are the numbers from `from` on, each once, in order.
pub(crate) fn assert_complete(
    records: &[ConsumerRecord],
    partitions: i32,
    numbers: std::ops::Range<i64>,
) {
    let mut found: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for record in records {
        found.entry(record.partition.partition.0).or_default().push(number(record));
    }
    for partition in 0..partitions {
        let mine = |number: &i64| *number % i64::from(partitions) == i64::from(partition);
        let expected: Vec<i64> = numbers.clone().filter(mine).collect();
        assert_eq!(found.remove(&partition).unwrap_or_default(), expected, "partition {partition}");
    }
    assert!(found.is_empty());
}
