//! Fetch: whole batches from given positions, waiting for them if asked to.

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

/// An aborted transaction, which ends with the producer's next marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    /// Whose it was.
    pub producer: ProducerId,
    /// Where it began.
    pub first_offset: Offset,
}
