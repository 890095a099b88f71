//! What the tests send, and how they look at what comes back.

use std::time::Duration;

use rafka_broker::fetch::{self, Isolation, PartitionData};
use rafka_broker::offsets::{self, Spec};
use rafka_broker::produce::{Acks, PartitionAck, PartitionBatches, Request};
use rafka_broker::{Error, Pending};
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{
    Batch, ByteSize, ErrorCode, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp,
    TopicName,
};

use crate::node::Node;

pub(crate) const WAIT: Duration = Duration::from_secs(10);
pub(crate) const P0: PartitionIndex = PartitionIndex(0);
pub(crate) const PRODUCER: ProducerId = ProducerId(9);

/// A batch of one record.
pub(crate) fn batch(timestamp: Timestamp, value: &[u8]) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(timestamp, Some(b"key"), Some(value), &[]);
    builder.build().expect("no codec")
}

/// A batch of one record by an idempotent producer.
pub(crate) fn numbered(node: &Node, producer: ProducerId, sequence: i32) -> Batch {
    let mut batch = batch(node.place.clock.truth(), format!("{producer}/{sequence}").as_bytes());
    batch.set_producer(producer, ProducerEpoch(0), sequence);
    batch
}

/// Appends a batch; the answer is still to be waited for.
pub(crate) async fn send(node: &Node, topic: &TopicName, partition: i32, batch: Batch) -> Pending {
    let (topic, partition) = (topic.clone().into(), PartitionIndex(partition));
    let partitions = vec![PartitionBatches { topic, partition, batches: vec![batch] }];
    node.broker
        .produce(Request { acks: Acks::All, timeout: WAIT, transaction: None, partitions })
        .await
}

/// The one answer of a request with one partition.
pub(crate) async fn answer(pending: Pending) -> Result<i64, Error> {
    let PartitionAck { result, .. } = pending.await.remove(0);
    result.map(|appended| appended.base_offset.0)
}

/// Appends a batch to partition 0 and lets the engine do its work.
pub(crate) async fn produce(node: &Node, topic: &TopicName, batch: Batch) -> Result<i64, Error> {
    let pending = send(node, topic, 0, batch).await;
    node.engine.step();
    answer(pending).await
}

/// As [`produce`], for batches that must be taken.
pub(crate) async fn produced(node: &Node, topic: &TopicName, value: &[u8]) -> i64 {
    let batch = batch(node.place.clock.truth(), value);
    produce(node, topic, batch).await.expect("it is taken")
}

/// From where, and how much at most.
pub(crate) fn position(topic: &TopicName, partition: i32, offset: i64) -> fetch::Position {
    fetch::Position {
        topic: topic.clone().into(),
        partition: PartitionIndex(partition),
        offset: Offset(offset),
        bytes_max: ByteSize::gib(1),
        leader_epoch: None,
    }
}

/// A fetch of everything from there on, that waits as long as it is told.
pub(crate) fn from(position: fetch::Position, wait_max: Duration) -> fetch::Request {
    fetch::Request {
        bytes_max: ByteSize::gib(1),
        bytes_min: ByteSize(1),
        wait_max,
        isolation: Isolation::ReadUncommitted,
        positions: vec![position],
    }
}

/// What one fetch finds of one partition.
pub(crate) async fn fetch(
    node: &Node,
    topic: &TopicName,
    partition: i32,
    offset: i64,
) -> Result<fetch::Fetched, Error> {
    let request = from(position(topic, partition, offset), Duration::ZERO);
    let PartitionData { result, .. } = node.broker.fetch(request).await.remove(0);
    result
}

/// Every batch of a partition, from its start to its high watermark.
pub(crate) async fn read_all(node: &Node, topic: &TopicName, partition: i32) -> Vec<Batch> {
    let start = bound(node, topic, partition, Spec::Earliest).await;
    let (mut from, mut all) = (start, Vec::new());
    loop {
        let found = fetch(node, topic, partition, from).await.expect("it can be read");
        let Some(last) = found.batches.last() else { return all };
        from = last.next_offset().0;
        all.extend(found.batches);
    }
}

/// Offset and value of each record.
pub(crate) fn values(batches: &[Batch]) -> Vec<(i64, String)> {
    let records = batches.iter().flat_map(|b| b.records(ByteSize::mib(64)).expect("sound"));
    records
        .map(|record| {
            let record = record.expect("sound");
            let value = record.value.expect("we write values");
            (record.offset.0, String::from_utf8_lossy(&value).into_owned())
        })
        .collect()
}

/// Where a partition begins or ends, or reaches a time.
pub(crate) async fn bound(node: &Node, topic: &TopicName, partition: i32, spec: Spec) -> i64 {
    let request = offsets::Request {
        topic: topic.clone().into(),
        partition: PartitionIndex(partition),
        spec,
        isolation: Isolation::ReadUncommitted,
        leader_epoch: None,
    };
    node.broker.list_offsets(vec![request]).await.remove(0).expect("it can be looked up").offset.0
}

/// Deletes the records of partition 0 below an offset, or all.
pub(crate) async fn delete_records(
    node: &Node,
    topic: &TopicName,
    before: Option<i64>,
) -> Result<Offset, Error> {
    let order = offsets::DeleteRecords {
        topic: topic.clone().into(),
        partition: P0,
        before: before.map(Offset),
    };
    node.broker.delete_records(vec![order]).await.remove(0)
}

pub(crate) fn code<T>(result: &Result<T, Error>) -> Option<ErrorCode> {
    result.as_ref().err().map(|error| error.code)
}

/// Lets what runs behind the calls go on until `condition` holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come to that");
}
