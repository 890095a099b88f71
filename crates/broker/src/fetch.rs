//! Fetch: whole batches from given positions, waiting for them if asked to.

use std::collections::BTreeSet;
use std::time::Duration;

use rafka_core::{Batch, ByteSize, Epoch, Offset, PartitionIndex, ProducerId};

use crate::{Error, TopicRef};

/// Up to which point records are visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// Up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Up to the last stable offset: before the first record of an unfinished transaction.
    ReadCommitted,
}

/// Positions to read from.
#[derive(Debug, Clone)]
pub struct Request {
    /// How many bytes may come in all. The first batch comes whatever its size (KIP-74).
    pub bytes_max: ByteSize,
    /// How many bytes to wait for.
    pub bytes_min: ByteSize,
    /// How long to wait for them.
    pub wait_max: Duration,
    /// Up to which point records are visible.
    pub isolation: Isolation,
    /// From where to read. Earlier ones are served first when bytes run out.
    pub positions: Vec<Position>,
}

/// From where to read one partition.
#[derive(Debug, Clone)]
pub struct Position {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
    /// The first offset wanted. The batch that holds it comes whole.
    pub offset: Offset,
    /// How many bytes may come of this partition.
    pub bytes_max: ByteSize,
    /// The leader epoch that the client knows, to fence stale ones (KIP-320).
    pub leader_epoch: Option<Epoch>,
}

/// What was found in one partition. In the order of the request.
#[derive(Debug, Clone)]
pub struct PartitionData {
    /// As in the request.
    pub topic: TopicRef,
    /// As in the request.
    pub partition: PartitionIndex,
    /// The batches, or why there are none.
    pub result: Result<Fetched, Error>,
}

/// Batches of one partition, and where it stands.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// Whole batches in order. The first may begin below the offset that was asked for.
    pub batches: Vec<Batch>,
    /// Everything below it is replicated and visible.
    pub high_watermark: Offset,
    /// Everything below it belongs to no unfinished transaction.
    pub last_stable_offset: Offset,
    /// Where the partition begins.
    pub log_start: Offset,
    /// Who reads what is committed drops the records of these, in the order in which they begin:
    /// every aborted transaction that reaches into the batches. Empty for other readers.
    pub aborted: Vec<Aborted>,
}

/// How many bytes of records were found.
#[must_use]
pub fn bytes_of(data: &[PartitionData]) -> ByteSize {
    let fetched = data.iter().filter_map(|partition| partition.result.as_ref().ok());
    ByteSize::of_len(fetched.flat_map(|fetched| &fetched.batches).map(Batch::len).sum())
}

/// Whether it is time to answer: so much was found, or an error.
#[must_use]
pub fn is_enough(data: &[PartitionData], bytes_min: ByteSize) -> bool {
    bytes_min <= bytes_of(data) || data.iter().any(|partition| partition.result.is_err())
}

impl Fetched {
    /// Leaves out what aborted transactions have written. Markers stay.
    pub fn drop_aborted(&mut self) {
        let mut coming = std::mem::take(&mut self.aborted).into_iter().peekable();
        let mut open = BTreeSet::new();
        if coming.peek().is_none() {
            return;
        }
        self.batches.retain(|batch| {
            let last = batch.last_offset();
            while let Some(aborted) = coming.next_if(|aborted| aborted.first_offset <= last) {
                open.insert(aborted.producer);
            }
            let attributes = batch.header.attributes;
            if attributes.is_control() {
                open.remove(&batch.header.producer_id);
            }
            !attributes.is_transactional() || !open.contains(&batch.header.producer_id)
        });
    }
}

/// An aborted transaction, which ends with the producer's next marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    /// Whose it was.
    pub producer: ProducerId,
    /// Where it began.
    pub first_offset: Offset,
}

#[cfg(test)]
mod tests {
    use rafka_core::batch::{BatchBuilder, EndMarker, Outcome};
    use rafka_core::compression::Compression;
    use rafka_core::{ProducerEpoch, Timestamp};

    use super::*;

    fn batch(offset: i64, producer: i64, is_transactional: bool) -> Batch {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.producer(ProducerId(producer), ProducerEpoch(0), 0);
        if is_transactional {
            builder.transactional();
        }
        for _ in 0..2 {
            builder.push(Timestamp(1), None, Some(b"x"), &[]);
        }
        let mut batch = builder.build().expect("no codec");
        batch.header.base_offset = Offset(offset);
        batch
    }

    fn marker(offset: i64, producer: i64, outcome: Outcome) -> Batch {
        let marker = EndMarker { outcome, coordinator_epoch: Epoch(0) };
        let mut batch = marker.to_batch(ProducerId(producer), ProducerEpoch(0), Timestamp(1));
        batch.header.base_offset = Offset(offset);
        batch
    }

    #[test]
    fn only_what_was_aborted_is_left_out() {
        let batches = vec![
            // Reaches in from before, and ends here.
            batch(10, 1, true),
            batch(12, 2, true),
            batch(14, 3, false),
            marker(16, 1, Outcome::Abort),
            batch(17, 1, true),
            marker(19, 2, Outcome::Commit),
            // The same producer once more: this one was aborted.
            batch(20, 2, true),
            batch(22, 1, true),
            marker(24, 2, Outcome::Abort),
            marker(25, 1, Outcome::Commit),
        ];
        let aborted = |producer, first| Aborted {
            producer: ProducerId(producer),
            first_offset: Offset(first),
        };
        let aborted = vec![aborted(1, 3), aborted(2, 20)];
        let mut fetched = Fetched { batches, aborted, ..Fetched::default() };
        fetched.drop_aborted();
        let kept: Vec<i64> =
            fetched.batches.iter().map(|batch| batch.header.base_offset.0).collect();
        assert_eq!(kept, [12, 14, 16, 17, 19, 22, 24, 25]);
    }
}
