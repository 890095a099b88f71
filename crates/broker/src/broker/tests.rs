//! What the operations of a broker promise, on the memory engine.

use std::time::Duration;

use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{
    Batch, ByteSize, ErrorCode, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp,
    TopicName,
};
use tokio::time::Instant;

use super::Broker;
use crate::fetch::{self, Isolation, PartitionData};
use crate::offsets::{self, Spec};
use crate::produce::{Acks, PartitionAck, PartitionBatches, Request};
use crate::testing::{create_topic, start};
use crate::{Settings, TopicRef};

const WAIT: Duration = Duration::from_secs(10);
const P0: PartitionIndex = PartitionIndex(0);

fn now() -> Timestamp {
    rafka_core::Clock::timestamp(&rafka_core::SystemClock::new())
}

fn batch(values: &[&str]) -> Batch {
    let mut builder = BatchBuilder::new(Compression::Lz4);
    for value in values {
        builder.push(now(), Some(b"key"), Some(value.as_bytes()), &[]);
    }
    builder.build().expect("memory does not fail")
}

fn request(topic: &TopicName, partition: i32, acks: Acks, batches: Vec<Batch>) -> Request {
    let (topic, partition) = (topic.clone().into(), PartitionIndex(partition));
    let partitions = vec![PartitionBatches { topic, partition, batches }];
    Request { acks, timeout: WAIT, transaction: None, partitions }
}

async fn produce(broker: &Broker, topic: &TopicName, batch: Batch) -> PartitionAck {
    let request = request(topic, 0, Acks::All, vec![batch]);
    broker.produce(request).await.await.remove(0)
}

async fn produced_at(broker: &Broker, topic: &TopicName, batch: Batch) -> i64 {
    produce(broker, topic, batch).await.result.expect("acked").base_offset.0
}

fn fetch_from(topic: &TopicName, offset: i64, wait_max: Duration) -> fetch::Request {
    fetch::Request {
        bytes_max: ByteSize::mib(1),
        bytes_min: ByteSize(1),
        wait_max,
        isolation: Isolation::ReadUncommitted,
        positions: vec![fetch::Position {
            topic: topic.clone().into(),
            partition: P0,
            offset: Offset(offset),
            bytes_max: ByteSize::mib(1),
            leader_epoch: None,
        }],
    }
}

fn values(data: &[PartitionData]) -> Vec<String> {
    let batches = data.iter().flat_map(|d| d.result.as_ref().expect("no error").batches.iter());
    batches
        .flat_map(|batch| batch.records(ByteSize::mib(1)).expect("sound"))
        .map(|record| record.expect("sound").value.expect("not null"))
        .map(|value| String::from_utf8_lossy(&value).into_owned())
        .collect()
}

fn code<T>(result: &Result<T, crate::Error>) -> Option<ErrorCode> {
    result.as_ref().err().map(|error| error.code)
}

#[tokio::test]
async fn what_is_acked_is_read_back_in_order() {
    let broker = start(Settings::default()).await;
    let topic = create_topic(&broker, "orders", 1, &[]).await;
    assert_eq!(produced_at(&broker, &topic, batch(&["a", "b"])).await, 0);
    assert_eq!(produced_at(&broker, &topic, batch(&["c"])).await, 2);
    let data = broker.fetch(fetch_from(&topic, 0, Duration::ZERO)).await;
    assert_eq!(values(&data), ["a", "b", "c"]);
    let fetched = data[0].result.as_ref().expect("no error");
    assert_eq!(fetched.high_watermark, Offset(3));
    assert!(fetched.batches.iter().all(|batch| 0 <= batch.header.leader_epoch.0));
    // From within a batch the whole batch comes.
    let data = broker.fetch(fetch_from(&topic, 1, Duration::ZERO)).await;
    assert_eq!(values(&data), ["a", "b", "c"]);
}

#[tokio::test]
async fn each_wrong_address_has_its_code() {
    let settings = Settings { auto_create_topics_enable: false, ..Settings::default() };
    let broker = start(settings).await;
    let topic = create_topic(&broker, "orders", 1, &[]).await;
    let missing = TopicName::new("missing").expect("valid");
    let check = async |topic: &TopicName, partition, expected| {
        let request = request(topic, partition, Acks::All, vec![batch(&["x"])]);
        let ack = broker.produce(request).await.await.remove(0);
        assert_eq!(code(&ack.result), expected);
    };
    check(&topic, 0, None).await;
    check(&topic, 1, Some(ErrorCode::UnknownTopicOrPartition)).await;
    check(&topic, -1, Some(ErrorCode::UnknownTopicOrPartition)).await;
    check(&missing, 0, Some(ErrorCode::UnknownTopicOrPartition)).await;
    assert_eq!(
        code(&broker.topic_or_create(&missing).await),
        Some(ErrorCode::UnknownTopicOrPartition)
    );
    for (offset, expected) in
        [(1, None), (2, Some(ErrorCode::OffsetOutOfRange)), (-1, Some(ErrorCode::OffsetOutOfRange))]
    {
        let data = broker.fetch(fetch_from(&topic, offset, Duration::ZERO)).await;
        assert_eq!(code(&data[0].result), expected, "offset {offset}");
    }
}

#[tokio::test]
async fn acks_none_answers_nothing_and_appends_all_the_same() {
    let broker = start(Settings::default()).await;
    let topic = create_topic(&broker, "orders", 1, &[]).await;
    let answers = broker.produce(request(&topic, 0, Acks::None, vec![batch(&["a"])])).await.await;
    assert!(answers.is_empty());
    let data = broker.fetch(fetch_from(&topic, 0, WAIT)).await;
    assert_eq!(values(&data), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_parked_fetch_is_woken_by_an_append_and_not_by_time() {
    let broker = start(Settings::default()).await;
    let topic = create_topic(&broker, "orders", 1, &[]).await;
    let begun = Instant::now();
    let (data, _) = tokio::join!(
        broker.fetch(fetch_from(&topic, 0, WAIT)),
        produce(&broker, &topic, batch(&["a"]))
    );
    assert_eq!(values(&data), ["a"]);
    assert!(begun.elapsed() < WAIT, "it waited for its deadline");
}

#[tokio::test(start_paused = true)]
async fn too_few_bytes_come_when_the_wait_is_over() {
    let broker = start(Settings::default()).await;
    let topic = create_topic(&broker, "orders", 1, &[]).await;
    produced_at(&broker, &topic, batch(&["a"])).await;
    let begun = Instant::now();
    let mut request = fetch_from(&topic, 0, WAIT);
    request.bytes_min = ByteSize::kib(64);
    let data = broker.fetch(request).await;
    assert_eq!(values(&data), ["a"]);
    assert!(WAIT <= begun.elapsed());
}

#[tokio::test]
async fn deleting_a_topic_ends_the_fetches_that_wait_for_it() {
    let broker = start(Settings::default()).await;
    let topic = create_topic(&broker, "orders", 1, &[]).await;
    let (data, deleted) = tokio::join!(
        broker.fetch(fetch_from(&topic, 0, WAIT)),
        broker.delete_topic(topic.clone().into())
    );
    assert_eq!(deleted, Ok(()));
    assert_eq!(code(&data[0].result), Some(ErrorCode::UnknownTopicOrPartition));
}

#[tokio::test]
async fn a_topic_created_again_is_another_and_empty() {
    let broker = start(Settings::default()).await;
    let topic = create_topic(&broker, "orders", 1, &[]).await;
    produced_at(&broker, &topic, batch(&["old"])).await;
    let old = broker.describe_topic(&topic.clone().into()).expect("it exists").id;
    broker.delete_topic(topic.clone().into()).await.expect("it exists");
    let topic = create_topic(&broker, "orders", 1, &[]).await;
    assert_eq!(produced_at(&broker, &topic, batch(&["new"])).await, 0);
    assert_eq!(code(&broker.describe_topic(&TopicRef::Id(old))), Some(ErrorCode::UnknownTopicId));
}

#[tokio::test]
async fn a_repeated_batch_is_answered_with_its_first_offset_and_kept_once() {
    let broker = start(Settings::default()).await;
    let topic = create_topic(&broker, "orders", 1, &[]).await;
    let sequenced = |sequence| {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.producer(ProducerId(9), ProducerEpoch(0), sequence);
        builder.push(now(), None, Some(b"v"), &[]);
        builder.build().expect("no codec")
    };
    for sequence in [0, 1, 0, 1] {
        let offset = produced_at(&broker, &topic, sequenced(sequence)).await;
        assert_eq!(offset, i64::from(sequence));
    }
    let gap = produce(&broker, &topic, sequenced(5)).await;
    assert_eq!(code(&gap.result), Some(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(produced_at(&broker, &topic, sequenced(2)).await, 2);
}

#[tokio::test]
async fn producer_ids_are_given_once() {
    let broker = start(Settings::default()).await;
    let mut given = std::collections::BTreeSet::new();
    for _ in 0..2500 {
        let (id, epoch) = broker.init_producer_id().await.expect("memory does not fail");
        assert_eq!(epoch, ProducerEpoch(0));
        assert!(given.insert(id), "{id} was given twice");
    }
}

#[tokio::test]
async fn offsets_are_found_by_end_and_by_time_and_move_with_deletion() {
    let broker = start(Settings::default()).await;
    let topic = create_topic(&broker, "orders", 1, &[]).await;
    let base = now().0 - 10_000;
    for step in 0..3 {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(Timestamp(base + step * 1000), None, Some(b"v"), &[]);
        produced_at(&broker, &topic, builder.build().expect("no codec")).await;
    }
    let check = async |spec, offset, timestamp| {
        let request = offsets::Request {
            topic: topic.clone().into(),
            partition: P0,
            spec,
            isolation: Isolation::ReadCommitted,
            leader_epoch: None,
        };
        let found = broker.list_offsets(vec![request]).await.remove(0).expect("it exists");
        assert_eq!((found.offset.0, found.timestamp.0), (offset, timestamp), "{spec:?}");
    };
    check(Spec::Earliest, 0, -1).await;
    check(Spec::Latest, 3, -1).await;
    check(Spec::At(Timestamp(base + 1)), 1, base + 1000).await;
    check(Spec::At(Timestamp(base + 2001)), -1, -1).await;
    let delete = async |before: Option<i64>| {
        let (topic, before) = (topic.clone().into(), before.map(Offset));
        let order = offsets::DeleteRecords { topic, partition: P0, before };
        broker.delete_records(vec![order]).await.remove(0)
    };
    assert_eq!(delete(Some(2)).await, Ok(Offset(2)));
    check(Spec::Earliest, 2, -1).await;
    assert_eq!(code(&delete(Some(4)).await), Some(ErrorCode::OffsetOutOfRange));
    assert_eq!(delete(None).await, Ok(Offset(3)));
    let data = broker.fetch(fetch_from(&topic, 0, Duration::ZERO)).await;
    assert_eq!(code(&data[0].result), Some(ErrorCode::OffsetOutOfRange));
}

#[tokio::test]
async fn a_missing_topic_is_created_once_when_that_is_allowed() {
    let broker = start(Settings::default()).await;
    let name = TopicName::new("fresh").expect("valid");
    let (first, second) =
        tokio::join!(broker.topic_or_create(&name), broker.topic_or_create(&name));
    assert_eq!(first.expect("created").id, second.expect("created").id);
    let internal = TopicName::new("__consumer_offsets").expect("valid");
    let request = request(&internal, 0, Acks::All, vec![batch(&["x"])]);
    let ack = broker.produce(request).await.await.remove(0);
    assert!(ack.result.is_err());
}

#[tokio::test]
async fn the_topic_decides_about_append_time_and_size() {
    let broker = start(Settings::default()).await;
    let configs = [("message.timestamp.type", "LogAppendTime"), ("max.message.bytes", "200")];
    let topic = create_topic(&broker, "orders", 1, &configs).await;
    let ack = produce(&broker, &topic, batch(&["a"])).await.result.expect("acked");
    let stamped = ack.append_time.expect("the broker gives the time");
    let data = broker.fetch(fetch_from(&topic, 0, Duration::ZERO)).await;
    let fetched = data[0].result.as_ref().expect("no error");
    assert_eq!(fetched.batches[0].max_timestamp(), stamped);
    let mut large = BatchBuilder::new(Compression::None);
    large.push(now(), None, Some(&[7; 300]), &[]);
    let refused = produce(&broker, &topic, large.build().expect("no codec")).await;
    assert_eq!(code(&refused.result), Some(ErrorCode::MessageTooLarge));
    broker
        .alter_configs(topic.clone().into(), vec![("max.message.bytes".into(), None)], false)
        .await
        .expect("a known key");
    let mut large = BatchBuilder::new(Compression::None);
    large.push(now(), None, Some(&[7; 300]), &[]);
    assert_eq!(produced_at(&broker, &topic, large.build().expect("no codec")).await, 1);
}

/// A batch that inflates to more than any batch may.
fn bomb() -> Batch {
    let mut builder = BatchBuilder::new(Compression::Zstd);
    builder.push(now(), None, Some(&vec![0; 33 << 20]), &[]);
    builder.build().expect("memory does not fail")
}

#[tokio::test]
async fn others_are_served_while_a_request_full_of_bombs_is_refused() {
    let broker = start(Settings::default()).await;
    let topic = create_topic(&broker, "orders", 1, &[]).await;
    let bombs = request(&topic, 0, Acks::All, vec![bomb()]);
    let bombs = Request { partitions: vec![bombs.partitions[0].clone(); 10], ..bombs };
    let order = std::cell::RefCell::new(Vec::new());
    let refused = async {
        let acks = broker.produce(bombs).await.await;
        order.borrow_mut().push("bombs");
        acks
    };
    let served = async {
        for value in ["a", "b", "c"] {
            produced_at(&broker, &topic, batch(&[value])).await;
        }
        order.borrow_mut().push("others");
    };
    let (acks, ()) = tokio::join!(refused, served);
    for ack in acks {
        let error = ack.result.expect_err("a bomb");
        assert_eq!(error.code, ErrorCode::CorruptMessage, "{error}");
        assert!(error.message.contains("inflate to more than 32 MiB"), "{error}");
    }
    assert_eq!(order.into_inner(), ["others", "bombs"]);
}

#[tokio::test]
async fn a_batch_that_inflates_to_much_is_taken_like_any_other() {
    let broker = start(Settings::default()).await;
    let topic = create_topic(&broker, "orders", 1, &[]).await;
    let recompressed = create_topic(&broker, "zipped", 1, &[("compression.type", "gzip")]).await;
    for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
        for topic in [&topic, &recompressed] {
            let value = vec![7; 800 << 10];
            let mut builder = BatchBuilder::new(codec);
            builder.push(now(), None, Some(&value), &[]);
            let sent = builder.build().expect("memory does not fail");
            let offset = produced_at(&broker, topic, sent).await;
            let found = broker.fetch(fetch_from(topic, offset, Duration::ZERO)).await;
            let batch = &found[0].result.as_ref().expect("it is there").batches[0];
            let record = batch.records(ByteSize::mib(1)).expect("sound").next();
            let record = record.expect("one").expect("sound");
            assert_eq!(record.value.as_deref(), Some(value.as_slice()), "{codec:?}");
        }
    }
}
