//! Pure: batches, names and settings for tests.

use std::time::Duration;

use rafka_core::batch::{BatchBuilder, EndMarker, Outcome, Record};
use rafka_core::compression::Compression;
use rafka_core::rng::{Rng, RngExt as _};
use rafka_core::{
    Batch, ByteSize, Epoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicId,
    TopicPartition,
};

use crate::{Cleanup, LogSettings};

/// More than any batch of a test takes inflated.
const INFLATE_MAX: ByteSize = ByteSize::mib(16);

/// A record as tests write it: timestamp, key, value.
pub type Sample<'a> = (Timestamp, Option<&'a [u8]>, Option<&'a [u8]>);

/// The name of a log: topics and partitions from one number each.
#[must_use]
pub fn name(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId::from_random(topic), partition: PartitionIndex(partition) }
}

/// A batch of these records that begins at `base`.
///
/// # Panics
/// If there are no records.
#[must_use]
pub fn batch_of(base: Offset, epoch: Epoch, records: &[Sample<'_>]) -> Batch {
    batch_by(base, epoch, None, records)
}

/// A batch of these records by an idempotent producer.
///
/// # Panics
/// If there are no records.
#[must_use]
pub fn batch_by(
    base: Offset,
    epoch: Epoch,
    producer: Option<Producer>,
    records: &[Sample<'_>],
) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, producer_epoch, sequence)) = producer {
        builder.producer(id, producer_epoch, sequence);
    }
    for (timestamp, key, value) in records {
        builder.push(*timestamp, *key, *value, &[]);
    }
    at(builder.build().expect("no codec is used"), base, epoch)
}

/// The end of a producer's transaction, of the producer's first epoch.
#[must_use]
pub fn marker(base: Offset, epoch: Epoch, id: ProducerId, outcome: Outcome) -> Batch {
    let marker = EndMarker { outcome, coordinator_epoch: Epoch(0) };
    at(marker.to_batch(id, ProducerEpoch(0), Timestamp(1000)), base, epoch)
}

/// A batch with one record in a producer's transaction.
///
/// # Panics
/// Never: no codec is used.
#[must_use]
pub fn transactional(base: Offset, id: ProducerId, sequence: i32, key: &[u8]) -> Batch {
    let producer = Some((id, ProducerEpoch(0), sequence));
    let value = base.0.to_be_bytes();
    let records = [(Timestamp(1000), Some(key), Some(value.as_slice()))];
    let mut batch = batch_by(base, Epoch(0), producer, &records);
    batch.header.attributes.set_transactional();
    Batch::seal(batch.header, batch.records).expect("no codec is used")
}

/// A batch with one record.
#[must_use]
pub fn batch(base: Offset, value: &[u8]) -> Batch {
    batch_of(base, Epoch(0), &[(Timestamp(1000), None, Some(value))])
}

/// Settings with small segments, so that tests meet many.
#[must_use]
pub fn small_segments() -> LogSettings {
    LogSettings {
        segment_bytes: ByteSize::kib(2),
        retention_age: None,
        cleanable_ratio_min: 0.0,
        ..LogSettings::default()
    }
}

/// Some settings, with small segments.
#[must_use]
pub fn random_settings(rng: &mut Rng) -> LogSettings {
    let compact = rng.random_ratio(1, 3);
    let delete = !compact || rng.random_ratio(1, 3);
    LogSettings {
        cleanup: Cleanup { delete, compact },
        segment_bytes: ByteSize(rng.random_range(500..8000)),
        segment_age: Duration::from_secs(rng.random_range(60..3600)),
        retention_age: rng.random_ratio(1, 3).then(|| Duration::from_secs(600)),
        retention_bytes: rng.random_ratio(1, 3).then(|| ByteSize(rng.random_range(0..20_000))),
        delete_retention: Duration::from_secs(rng.random_range(0..600)),
        ..small_segments()
    }
}

/// Who writes a batch, if it is to be idempotent.
pub type Producer = (ProducerId, ProducerEpoch, i32);

/// A batch with up to 12 records of few keys, in any codec, with timestamps around `now`.
///
/// # Panics
/// If a codec fails.
#[must_use]
pub fn random_batch(
    rng: &mut Rng,
    base: Offset,
    epoch: Epoch,
    now: Timestamp,
    producer: Option<Producer>,
) -> Batch {
    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    // Mostly none, as in life, and because the others are slow without optimisation.
    let codec = if rng.random_ratio(1, 8) { rng.random_range(0..CODECS.len()) } else { 0 };
    let mut builder = BatchBuilder::new(CODECS[codec]);
    if let Some((id, producer_epoch, sequence)) = producer {
        builder.producer(id, producer_epoch, sequence);
    }
    for _ in 0..rng.random_range(1..=12) {
        let timestamp = Timestamp(now.0 + rng.random_range(-5000..1000));
        let key = rng.random_range(0_u8..16);
        let key = rng.random_ratio(7, 8).then_some([b'k', key]);
        let len = rng.random_range(0..200);
        let value: Vec<u8> = (0..len).map(|_| rng.random()).collect();
        let value = rng.random_ratio(9, 10).then_some(value);
        builder.push(timestamp, key.as_ref().map(<[u8; 2]>::as_slice), value.as_deref(), &[]);
    }
    at(builder.build().expect("the codecs work in memory"), base, epoch)
}

/// The records of a sound batch.
///
/// # Panics
/// If it is not sound.
#[must_use]
pub fn records_of(batch: &Batch) -> Vec<Record> {
    let records = batch.records(INFLATE_MAX).expect("the batch is sound");
    records.map(|record| record.expect("the batch is sound")).collect()
}

fn at(mut batch: Batch, base: Offset, epoch: Epoch) -> Batch {
    batch.header.base_offset = base;
    batch.header.leader_epoch = epoch;
    batch
}
