//! Batches and segments made by chance, for tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::rng::RngExt as _;
use rafka_core::{
    Batch, Epoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Rng, Timestamp, TopicId,
    TopicPartition,
};

use super::{Segment, Store};
use crate::disk::Disk;
use crate::disk::faulty::FaultyDisk;

pub(crate) const DATA_DIR: &str = "/data";

pub(crate) fn log_name() -> TopicPartition {
    TopicPartition { topic: TopicId::from_random(7), partition: PartitionIndex(3) }
}

/// A record to be put into a batch.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) timestamp: Timestamp,
}

pub(crate) fn batch(base: Offset, inputs: &[Input], compression: Compression) -> Batch {
    let mut builder = BatchBuilder::new(compression);
    for Input { key, value, timestamp } in inputs {
        let headers = [(Bytes::from_static(b"h"), None)];
        builder.push(*timestamp, key.as_deref(), value.as_deref(), &headers);
    }
    let mut batch = builder.build().expect("compressing in memory does not fail");
    batch.header.base_offset = base;
    batch.header.leader_epoch = Epoch(4);
    batch
}

/// As [`batch`], sent by an idempotent producer.
pub(crate) fn batch_of(producer: i64, sequence: i32, base: Offset, inputs: &[Input]) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.producer(ProducerId(producer), ProducerEpoch(0), sequence);
    for Input { key, value, timestamp } in inputs {
        builder.push(*timestamp, key.as_deref(), value.as_deref(), &[]);
    }
    let mut batch = builder.build().expect("nothing is compressed");
    batch.header.base_offset = base;
    batch
}

/// Batches of many sizes in ascending order, with and without gaps between them.
pub(crate) fn batches(rng: &mut Rng, count: usize, from: Offset) -> Vec<Batch> {
    let mut next = from;
    let mut clock = 1_000;
    let mut made = Vec::new();
    for _ in 0..count {
        let len_max = [20, 400, 3_000, 8_000][rng.random_range(0..4)];
        let inputs: Vec<_> = (0..rng.random_range(1..5))
            .map(|_| {
                clock += rng.random_range(-40..60);
                let mut value = vec![0; rng.random_range(0..len_max)];
                rng.fill(&mut value[..]);
                let key = rng.random_bool(0.5).then(|| vec![rng.random_range(0..9)]);
                Input { key, value: Some(value), timestamp: Timestamp(clock.max(0)) }
            })
            .collect();
        let codec = Compression::ALL[rng.random_range(0..Compression::ALL.len())];
        let gap = if rng.random_bool(0.1) { rng.random_range(1..100) } else { 0 };
        made.push(batch(next + gap, &inputs, codec));
        next = made.last().expect("one was pushed").next_offset();
    }
    made
}

/// Writes batches into a new segment and syncs it.
pub(crate) fn write(
    store: &Store,
    disk: &dyn Disk,
    base: Offset,
    batches: &[Batch],
    now: Timestamp,
) -> Segment {
    let mut writer = store.create(&log_name(), base, 0).expect("the disk works");
    for batch in batches {
        writer.append(disk, batch, now).expect("the disk works");
    }
    writer.sync(disk).expect("the disk works");
    store.sync_names(&log_name()).expect("the disk works");
    writer.segment().clone()
}

/// A disk with a data directory, and the segments on it.
pub(crate) fn store(seed: u64) -> (FaultyDisk, Store) {
    let disk = FaultyDisk::new(seed);
    let logs = Path::new(DATA_DIR).join("logs");
    disk.create_dir_all(&logs).expect("a new disk has room");
    disk.sync_fs(&logs).expect("the disk works");
    let store = reopened(&disk);
    (disk, store)
}

/// The segments on a disk, as a new process sees them.
pub(crate) fn reopened(disk: &FaultyDisk) -> Store {
    Store::new(Arc::new(disk.clone()), Path::new(DATA_DIR), 4)
}

/// A file of a segment, by extension.
pub(crate) fn file(segment: &Segment, extension: &str) -> PathBuf {
    let dir = super::store::log_dir(&Path::new(DATA_DIR).join("logs"), &log_name());
    dir.join(format!("{:020}.{extension}", segment.base.0))
}
