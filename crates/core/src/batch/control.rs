//! Pure: control batches, with which the broker ends transactions (KIP-98).

use bytes::{Buf, BufMut as _, BytesMut};

use super::{Batch, BatchBuilder};
use crate::compression::Compression;
use crate::{ByteSize, Epoch, ProducerEpoch, ProducerId, Timestamp};

const VERSION: i16 = 0;
const TYPE_ABORT: i16 = 0;
const TYPE_COMMIT: i16 = 1;
const KEY_LEN: usize = 4;
const VALUE_LEN: usize = 6;

/// A marker is one small record; nothing larger is one of ours.
const INFLATED_MAX: ByteSize = ByteSize::kib(1);

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Its records do not count.
    Abort,
    /// Its records count.
    Commit,
}

/// The end of a producer's transaction, as it stands in each partition that the transaction wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndMarker {
    /// How it ended.
    pub outcome: Outcome,
    /// The epoch of the coordinator that decided it: an older one may not end anything later.
    pub coordinator_epoch: Epoch,
}

impl EndMarker {
    /// The marker as a control batch of this producer, written at `now`.
    ///
    /// # Panics
    /// Never: a batch that is not compressed has no codec that could fail.
    #[must_use]
    pub fn to_batch(self, id: ProducerId, epoch: ProducerEpoch, now: Timestamp) -> Batch {
        let mut key = BytesMut::with_capacity(KEY_LEN);
        key.put_i16(VERSION);
        key.put_i16(match self.outcome {
            Outcome::Abort => TYPE_ABORT,
            Outcome::Commit => TYPE_COMMIT,
        });
        let mut value = BytesMut::with_capacity(VALUE_LEN);
        value.put_i16(VERSION);
        value.put_i32(self.coordinator_epoch.0);
        let mut builder = BatchBuilder::new(Compression::None);
        builder.producer(id, epoch, -1);
        builder.control();
        builder.push(now, Some(&key), Some(&value), &[]);
        builder.build().expect("nothing is compressed")
    }

    /// The marker that a batch is. `None` if it is not the end of a transaction.
    #[must_use]
    pub fn of(batch: &Batch) -> Option<Self> {
        if !batch.header.attributes.is_control() {
            return None;
        }
        let record = batch.records(INFLATED_MAX).ok()?.next()?.ok()?;
        let (mut key, mut value) = (record.key?, record.value?);
        let _version = key.try_get_i16().ok()?;
        let outcome = match key.try_get_i16().ok()? {
            TYPE_ABORT => Outcome::Abort,
            TYPE_COMMIT => Outcome::Commit,
            // Kafka's other control records belong to its metadata log.
            _ => return None,
        };
        let _version = value.try_get_i16().ok()?;
        Some(Self { outcome, coordinator_epoch: Epoch(value.try_get_i32().ok()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back_and_is_what_kafka_writes() {
        for (outcome, kind) in [(Outcome::Abort, 0), (Outcome::Commit, 1)] {
            let marker = EndMarker { outcome, coordinator_epoch: Epoch(7) };
            let batch = marker.to_batch(ProducerId(5), ProducerEpoch(2), Timestamp(1000));
            let attributes = batch.header.attributes;
            assert!(attributes.is_control() && attributes.is_transactional());
            assert_eq!((batch.header.base_sequence, batch.header.record_count), (-1, 1));
            let batch = Batch::parse(batch.to_bytes()).expect("it is sound");
            assert_eq!(EndMarker::of(&batch), Some(marker));
            let record = batch.records(INFLATED_MAX).expect("sound").next().expect("one");
            let record = record.expect("sound");
            assert_eq!(record.key.as_deref(), Some([0, 0, 0, kind].as_slice()));
            assert_eq!(record.value.as_deref(), Some([0, 0, 0, 0, 0, 7].as_slice()));
        }
    }

    #[test]
    fn other_batches_are_no_markers() {
        let build = |control: bool, key: &[u8], value: &[u8]| {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.producer(ProducerId(5), ProducerEpoch(2), 0);
            if control {
                builder.control();
            }
            builder.push(Timestamp(0), Some(key), Some(value), &[]);
            builder.build().expect("no codec")
        };
        let value = [0, 0, 0, 0, 0, 7];
        assert!(EndMarker::of(&build(true, &[0, 0, 0, 1], &value)).is_some());
        for (control, key, value) in [
            (false, [0, 0, 0, 1].as_slice(), value.as_slice()),
            (true, &[0, 0, 0, 2], &value),
            (true, &[0, 0, 0], &value),
            (true, &[0, 0, 0, 1], &value[..5]),
            (true, &[], &[]),
        ] {
            assert_eq!(EndMarker::of(&build(control, key, value)), None, "{key:?} {value:?}");
        }
    }
}
