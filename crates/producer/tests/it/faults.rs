//! What a producer promises when nodes and connections fail.

use std::time::Duration;

use rafka_core::{ByteSize, ErrorCode, Offset, PartitionIndex};
use rafka_producer::{Acks, Builder, Compression, Delivery, Error, Fate, Producer, Record};

use crate::scripted::{Fault, Node};

const SOON: Duration = Duration::from_secs(10);

fn builder(node: &Node) -> Builder {
    Producer::builder(&node.address.to_string()).linger(Duration::ZERO).client(|client| {
        client.retry.backoff_min = Duration::from_millis(1);
        client.retry.backoff_max = Duration::from_millis(20);
        client.breaker.open_for = Duration::from_millis(20);
    })
}

fn record(partition: i32, value: &str) -> Record {
    Record::new("t").partition(PartitionIndex(partition)).value(value.to_owned())
}

fn values(node: &Node, partition: i32) -> Vec<String> {
    let text = |value: Vec<u8>| String::from_utf8(value).expect("we sent text");
    node.log(partition).into_iter().map(text).collect()
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("v{number}")).collect()
}

/// Sends numbered records to partition 0.
async fn take_numbered(producer: &Producer, numbers: std::ops::Range<usize>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for number in numbers {
        let record = record(0, &format!("v{number}"));
        deliveries.push(producer.send(record).await.expect("it is taken"));
    }
    deliveries
}

/// Waits for deliveries, whose offsets count from `first`.
async fn expect_offsets(first: i64, deliveries: Vec<Delivery>) {
    for (offset, delivery) in (first..).zip(deliveries) {
        let stored = tokio::time::timeout(SOON, delivery).await.expect("in time");
        assert_eq!(stored.expect("it is delivered").offset, Some(Offset(offset)));
    }
}

#[tokio::test]
async fn a_lost_answer_makes_the_same_numbers_travel_again_and_the_record_is_there_once() {
    let node = Node::with_faults(1, &[Fault::LoseAnswer, Fault::LoseRequest]);
    let producer = builder(&node).build().expect("sound settings");
    let delivery = producer.send(record(0, "once")).await.expect("taken");
    assert_eq!(delivery.await.expect("delivered").offset, Some(Offset(0)));
    assert_eq!(values(&node, 0), ["once"]);
    let state = node.state.lock();
    assert_eq!(state.seen, [(1, 0, 0), (1, 0, 0)]);
    assert_eq!(state.streams, 3);
}

#[tokio::test]
async fn records_stay_single_and_in_order_whatever_breaks() {
    use Fault::{LoseAnswer, LoseRequest, Refuse};
    let faults = [
        Refuse(ErrorCode::NotEnoughReplicas),
        LoseAnswer,
        LoseAnswer,
        LoseRequest,
        Refuse(ErrorCode::NotLeaderOrFollower),
        Refuse(ErrorCode::RequestTimedOut),
        LoseRequest,
        LoseAnswer,
    ];
    let node = Node::with_faults(1, &faults);
    let producer = builder(&node).batch_bytes(ByteSize(256)).build().expect("sound settings");
    let deliveries = take_numbered(&producer, 0..200).await;
    expect_offsets(0, deliveries).await;
    assert_eq!(values(&node, 0), numbered(200));
    assert!(0 < producer.metrics().retries);
}

#[tokio::test]
async fn a_killed_node_that_comes_back_gets_everything_once() {
    let mut node = Node::start(1);
    let producer = builder(&node).batch_bytes(ByteSize(256)).build().expect("sound settings");
    for round in 0..4 {
        node.set_open(false);
        let arrived = node.state.lock().arrived;
        let deliveries = take_numbered(&producer, round * 100..(round + 1) * 100).await;
        node.wait_until(|state| arrived < state.arrived).await;
        node.kill();
        node.set_open(true);
        node.restart();
        expect_offsets(i64::try_from(round * 100).expect("small"), deliveries).await;
    }
    assert_eq!(values(&node, 0), numbered(400));
    assert!(4 <= producer.metrics().links_lost);
}

#[tokio::test]
async fn a_node_that_stays_silent_is_left_and_asked_again() {
    let node = Node::with_faults(1, &[Fault::Silence]);
    let producer = builder(&node)
        .client(|client| client.request_timeout = Duration::from_millis(50))
        .build()
        .expect("sound settings");
    let delivery = producer.send(record(0, "once")).await.expect("taken");
    tokio::time::timeout(SOON, delivery).await.expect("in time").expect("delivered");
    assert_eq!(values(&node, 0), ["once"]);
}

#[tokio::test]
async fn delivery_fails_in_time_and_says_what_it_knows() {
    let mut node = Node::with_faults(1, &[Fault::Silence]);
    let producer = builder(&node)
        .delivery_timeout(Duration::from_millis(300))
        .build()
        .expect("sound settings");
    let sent = producer.send(record(0, "perhaps")).await.expect("taken");
    node.wait_until(|state| !state.seen.is_empty()).await;
    let waiting = producer.send(record(0, "no")).await.expect("taken");
    node.kill();
    let sent = tokio::time::timeout(SOON, sent).await.expect("in time").expect_err("no answer");
    assert!(matches!(sent, Error::TimedOut { .. }), "{sent}");
    assert_eq!(sent.fate(), Fate::Unknown);
    let waiting = tokio::time::timeout(SOON, waiting).await.expect("in time").expect_err("late");
    assert_eq!(waiting.fate(), Fate::NotWritten, "{waiting}");
    assert_eq!(producer.metrics().records_failed, 2);
    assert_eq!(producer.metrics().buffer_bytes, ByteSize(0));
}

#[tokio::test]
async fn a_refused_batch_fails_alone_and_those_after_it_are_delivered() {
    let node = Node::with_faults(2, &[Fault::Refuse(ErrorCode::MessageTooLarge)]);
    let producer = builder(&node).build().expect("sound settings");
    let refused = producer.send(record(0, "large")).await.expect("taken").await;
    let error = refused.expect_err("refused");
    let Error::Refused { code, fate, .. } = &error else { panic!("{error}") };
    assert_eq!((*code, *fate), (ErrorCode::MessageTooLarge, Fate::NotWritten));
    assert!(error.to_string().starts_with("t/0: as scripted"), "{error}");
    let next = producer.send(record(0, "small")).await.expect("taken").await;
    assert_eq!(next.expect("delivered").offset, Some(Offset(0)));
}

#[tokio::test]
async fn a_fenced_producer_is_finished_and_says_so_from_then_on() {
    let node = Node::with_faults(1, &[Fault::Refuse(ErrorCode::InvalidProducerEpoch)]);
    let producer = builder(&node).build().expect("sound settings");
    let fenced = producer.send(record(0, "a")).await.expect("taken").await;
    assert!(matches!(fenced, Err(Error::Fenced { .. })), "{fenced:?}");
    let later = producer.send(record(0, "b")).await;
    assert!(matches!(later, Err(Error::Fenced { .. })), "{later:?}");
}

#[tokio::test]
async fn a_full_buffer_makes_send_wait_and_try_send_say_busy() {
    let node = Node::start(1);
    let settings = {
        let mut settings = rafka_producer::Settings::default();
        settings.linger = Duration::ZERO;
        settings.batch_bytes = ByteSize(2048);
        settings.record_bytes_max = ByteSize(2048);
        settings.buffer_bytes = ByteSize(4096);
        settings
    };
    let producer = builder(&node).settings(settings).build().expect("sound settings");
    producer.send(record(0, "first")).await.expect("taken").await.expect("delivered");
    node.set_open(false);
    let large = "x".repeat(1800);
    let held = producer.send(record(0, &large)).await.expect("there is room");
    let also = producer.send(record(0, &large)).await.expect("there is room");
    let rejected = producer.try_send(record(0, &large)).expect_err("there is no room");
    assert!(matches!(rejected.cause, Error::Busy { .. }), "{rejected}");
    assert!(ByteSize(3600) < producer.metrics().buffer_bytes);
    assert!(producer.metrics().buffer_bytes <= ByteSize(4096));
    let waits = producer.send(rejected.record);
    tokio::pin!(waits);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut waits).await;
    assert!(early.is_err(), "send waits for memory");
    node.set_open(true);
    let late = tokio::time::timeout(SOON, waits).await.expect("memory is given back");
    for delivery in [held, also, late.expect("taken")] {
        delivery.await.expect("delivered");
    }
    assert_eq!(node.log(0).len(), 4);
}

#[tokio::test]
async fn flush_waits_for_all_and_close_fails_what_is_left() {
    let node = Node::start(1);
    let producer = builder(&node).linger(Duration::from_secs(60)).build().expect("sound");
    let lingering = producer.send(record(0, "a")).await.expect("taken");
    producer.flush(SOON).await.expect("all is delivered");
    assert_eq!(values(&node, 0), ["a"]);
    lingering.await.expect("delivered by the flush");

    node.set_open(false);
    let stuck = producer.send(record(0, "b")).await.expect("taken");
    let closed = producer.close(Duration::from_millis(50)).await;
    assert!(matches!(closed, Err(Error::FlushTimedOut { .. })), "{closed:?}");
    let error = stuck.await.expect_err("it was not delivered");
    assert!(matches!(error, Error::Closed { fate: Fate::Unknown }), "{error:?}");
    let after = producer.send(record(0, "c")).await;
    assert!(matches!(after, Err(Error::Closed { fate: Fate::NotWritten })), "{after:?}");
}

#[tokio::test]
async fn every_codec_and_every_kind_of_ack_delivers() {
    let codecs = Compression::ALL.map(|codec| (codec, Acks::All));
    let rest = [(Compression::None, Acks::Leader), (Compression::Lz4, Acks::None)];
    for (codec, acks) in codecs.into_iter().chain(rest) {
        let node = Node::start(1);
        let producer = builder(&node)
            .compression(codec)
            .acks(acks)
            .idempotence(acks == Acks::All)
            .build()
            .expect("sound settings");
        let mut deliveries = Vec::new();
        for value in numbered(20) {
            deliveries.push(producer.send(record(0, &value)).await.expect("taken"));
        }
        for delivery in deliveries {
            let offset = delivery.await.expect("delivered").offset;
            assert_eq!(offset.is_some(), acks != Acks::None);
        }
        producer.close(SOON).await.expect("nothing is open");
        node.wait_until(|state| state.logs.get(&0).is_some_and(|log| log.len() == 20)).await;
        assert_eq!(values(&node, 0), numbered(20), "{codec:?} {acks:?}");
    }
}

#[tokio::test]
async fn a_topic_that_does_not_exist_and_a_record_too_large_are_refused_at_once() {
    let node = Node::start(1);
    let producer = builder(&node).build().expect("sound settings");
    let missing = producer.send(Record::new("missing").value("x")).await.expect_err("no topic");
    assert!(missing.to_string().contains("topic missing"), "{missing}");
    let invalid = producer.send(Record::new("no/name").value("x")).await.expect_err("no name");
    assert!(matches!(invalid, Error::InvalidRecord { .. }), "{invalid}");
    let large = producer.send(record(0, &"x".repeat(2 << 20))).await.expect_err("too large");
    assert!(matches!(large, Error::RecordTooLarge { .. }), "{large}");
    let nowhere = producer.send(record(7, "x")).await.expect_err("no partition 7");
    assert!(nowhere.to_string().contains("partition 7"), "{nowhere}");
    assert_eq!(producer.metrics().records_sent, 0);
    assert_eq!(producer.metrics().buffer_bytes, ByteSize(0));
}

#[tokio::test]
async fn batches_of_many_partitions_travel_together_and_keys_keep_their_partition() {
    let node = Node::start(4);
    let producer = builder(&node).linger(Duration::from_millis(5)).build().expect("sound");
    let mut deliveries = Vec::new();
    for number in 0..400 {
        let record = Record::new("t").key(format!("k{}", number % 10)).value(format!("v{number}"));
        deliveries.push(producer.send(record).await.expect("taken"));
    }
    let mut partition_of_key = std::collections::BTreeMap::new();
    for (number, delivery) in deliveries.into_iter().enumerate() {
        let stored = delivery.await.expect("delivered");
        let first = *partition_of_key.entry(number % 10).or_insert(stored.partition);
        assert_eq!(stored.partition, first);
    }
    let total: usize = (0..4).map(|partition| node.log(partition).len()).sum();
    assert_eq!(total, 400);
    let metrics = producer.metrics();
    assert_eq!((metrics.records_acked, metrics.latency.count), (400, 400));
    assert!(metrics.batches_sent < 100, "records travel in batches: {}", metrics.batches_sent);
}
