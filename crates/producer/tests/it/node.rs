//! The producer and a real node, which keeps its logs in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rafka_broker::Broker;
use rafka_client::admin::{Isolation, OffsetSpec};
use rafka_client::{Client, Error as ClientError, TopicPartition, v1};
use rafka_core::{ErrorCode, Offset, PartitionIndex, SystemClock, Timestamp, TopicName};
use rafka_producer::{Acks, Compression, Error, Producer, Record};

const SOON: Duration = Duration::from_secs(10);

pub(crate) struct Node {
    broker: Broker,
    gateway: rafka_grpc::Handle,
    listen: SocketAddr,
}

impl Node {
    pub(crate) async fn start(topic: &str, configs: &[(&str, &str)]) -> Self {
        let broker = rafka_broker::testing::start(rafka_broker::Settings::default()).await;
        rafka_broker::testing::create_topic(&broker, topic, 3, configs).await;
        let gateway = listen(&broker, SocketAddr::from(([127, 0, 0, 1], 0))).await;
        let listen = gateway.local_addr();
        Self { broker, gateway, listen }
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.listen.to_string()
    }

    /// Cuts all connections and listens again; the broker stays.
    pub(crate) async fn reconnect(&mut self) {
        let again = listen(&self.broker, SocketAddr::from(([127, 0, 0, 1], 0))).await;
        let old = std::mem::replace(&mut self.gateway, again);
        old.stop(Duration::ZERO).await;
        let fresh = listen(&self.broker, self.listen).await;
        std::mem::replace(&mut self.gateway, fresh).stop(Duration::ZERO).await;
    }
}

async fn listen(broker: &Broker, listen: SocketAddr) -> rafka_grpc::Handle {
    let settings = rafka_grpc::Settings { listen, ..rafka_grpc::Settings::default() };
    let clock = Arc::new(SystemClock::new());
    rafka_grpc::start(&settings, broker.clone(), clock).await.expect("the address is free")
}

fn partition(topic: &str, index: i32) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).expect("sound"), PartitionIndex(index))
}

/// The values in a partition, read by a plain call over a connection of its own.
async fn values(bootstrap: &str, topic: &str, index: i32) -> Vec<String> {
    let client = Client::new(rafka_client::Settings::new(bootstrap)).expect("sound settings");
    let node = client.any_node().expect("an address");
    let request = v1::FetchRequest {
        partitions: vec![v1::FetchPartition {
            topic: topic.to_owned(),
            partition: index,
            ..Default::default()
        }],
        decode: true,
        until_end: true,
        ..Default::default()
    };
    let mut log = node.log();
    let mut messages = node.ask("fetch", log.fetch(request)).await.expect("it serves");
    let mut values = Vec::new();
    while let Some(message) = messages.message().await.expect("it serves") {
        for record in message.partitions.into_iter().flat_map(|fetched| fetched.records) {
            let value = record.value.expect("a value").to_vec();
            values.push(String::from_utf8(value).expect("we sent text"));
        }
    }
    values
}

#[tokio::test]
async fn what_is_delivered_can_be_read_at_its_offset_in_every_codec() {
    for compression in Compression::ALL {
        let node = Node::start("t", &[]).await;
        let producer =
            Producer::builder(&node.bootstrap()).compression(compression).build().expect("sound");
        let mut deliveries = Vec::new();
        for number in 0..100 {
            let record = Record::new("t").key("one key").value(format!("v{number}"));
            deliveries.push(producer.send(record).await.expect("taken"));
        }
        let home = deliveries[0].partition();
        for (offset, delivery) in (0..).zip(deliveries) {
            let stored = delivery.await.expect("delivered");
            assert_eq!((stored.partition, stored.offset), (home, Some(Offset(offset))));
        }
        let expected: Vec<String> = (0..100).map(|number| format!("v{number}")).collect();
        assert_eq!(values(&node.bootstrap(), "t", home.0).await, expected, "{compression:?}");
        producer.close(SOON).await.expect("nothing is open");
    }
}

#[tokio::test]
async fn cut_connections_neither_lose_nor_double_nor_reorder() {
    let mut node = Node::start("t", &[]).await;
    let producer = Producer::builder(&node.bootstrap())
        .linger(Duration::ZERO)
        .client(|client| {
            client.retry.backoff_min = Duration::from_millis(1);
            client.retry.backoff_max = Duration::from_millis(20);
            client.breaker.open_for = Duration::from_millis(20);
        })
        .build()
        .expect("sound");
    let mut deliveries = Vec::new();
    for round in 0..5 {
        for number in 0..200 {
            let value = format!("v{}", round * 200 + number);
            let record = Record::new("t").partition(PartitionIndex(1)).value(value);
            deliveries.push(producer.send(record).await.expect("taken"));
        }
        node.reconnect().await;
    }
    for (offset, delivery) in (0..).zip(deliveries) {
        let stored = tokio::time::timeout(SOON, delivery).await.expect("in time");
        assert_eq!(stored.expect("delivered").offset, Some(Offset(offset)));
    }
    let expected: Vec<String> = (0..1000).map(|number| format!("v{number}")).collect();
    assert_eq!(values(&node.bootstrap(), "t", 1).await, expected);
}

#[tokio::test]
async fn the_topics_own_rules_reach_the_sender() {
    let configs = [("max.message.bytes", "1000"), ("message.timestamp.type", "LogAppendTime")];
    let node = Node::start("t", &configs).await;
    let producer =
        Producer::builder(&node.bootstrap()).linger(Duration::ZERO).build().expect("sound");
    let record = |len: usize| {
        let record = Record::new("t").partition(PartitionIndex(0)).timestamp(Timestamp(5));
        record.value("x".repeat(len))
    };
    let refused = producer.send(record(2000)).await.expect("taken").await.expect_err("too large");
    let Error::Refused { code, .. } = refused else { panic!("{refused}") };
    assert_eq!(code, ErrorCode::MessageTooLarge);
    let stored = producer.send(record(10)).await.expect("taken").await.expect("delivered");
    assert_eq!(stored.offset, Some(Offset(0)));
    assert!(Timestamp(5) < stored.timestamp, "the node's time: {}", stored.timestamp);
}

#[tokio::test]
async fn acks_none_and_leader_reach_the_log_too() {
    for acks in [Acks::Leader, Acks::None] {
        let node = Node::start("t", &[]).await;
        let producer = Producer::builder(&node.bootstrap())
            .acks(acks)
            .idempotence(false)
            .build()
            .expect("sound");
        for number in 0..50 {
            let record = Record::new("t").partition(PartitionIndex(0)).value(format!("v{number}"));
            producer.send(record).await.expect("taken");
        }
        producer.close(SOON).await.expect("nothing is open");
        let admin = producer.client().admin();
        let question = [(partition("t", 0), OffsetSpec::Latest)];
        let all_there = async {
            loop {
                let found = admin.list_offsets(&question, Isolation::ReadUncommitted).await;
                match found[0].as_ref().map(|found| found.offset) {
                    Ok(Some(Offset(50))) => return Ok::<_, ClientError>(()),
                    Ok(_) => tokio::time::sleep(Duration::from_millis(2)).await,
                    Err(error) => return Err(error.clone()),
                }
            }
        };
        let there = tokio::time::timeout(SOON, all_there).await.expect("in time");
        there.expect("the node answers");
    }
}

#[tokio::test]
async fn a_topic_made_again_is_written_again() {
    let node = Node::start("t", &[]).await;
    let producer = Producer::builder(&node.bootstrap())
        .linger(Duration::ZERO)
        .client(|client| {
            client.retry.backoff_min = Duration::from_millis(1);
            client.retry.backoff_max = Duration::from_millis(20);
        })
        .build()
        .expect("sound");
    let record = || Record::new("t").partition(PartitionIndex(0)).value("x");
    for offset in 0..3 {
        let stored = producer.send(record()).await.expect("taken").await.expect("delivered");
        assert_eq!(stored.offset, Some(Offset(offset)));
    }
    let admin = producer.client().admin();
    admin.delete_topic("t").await.expect("it exists");
    let waiting = producer.send(record()).await.expect("taken");
    rafka_broker::testing::create_topic(&node.broker, "t", 3, &[]).await;
    let stored = tokio::time::timeout(SOON, waiting).await.expect("in time").expect("delivered");
    assert_eq!(stored.offset, Some(Offset(0)));
}
