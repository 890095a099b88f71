//! Produce: batches in, acknowledgements out.

use std::time::Duration;

pub use rafka_core::producer_state::TransactionVersion;
use rafka_core::{Batch, Offset, PartitionIndex, Timestamp};

use crate::{Error, TopicRef};

/// Who must have a batch durably before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acks {
    /// Nobody: only what was refused is reported, and at once.
    None,
    /// The partition's leader.
    Leader,
    /// Every in-sync replica.
    All,
}

/// Batches for any number of partitions.
#[derive(Debug, Clone)]
pub struct Request {
    /// When to acknowledge.
    pub acks: Acks,
    /// How long to wait for that.
    pub timeout: Duration,
    /// Which transaction the transactional batches among them belong to.
    pub transaction: Option<Transaction>,
    /// The batches of each partition.
    pub partitions: Vec<PartitionBatches>,
}

/// A transaction as a producer names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The producer's transactional id.
    pub id: String,
    /// By which rules the producer goes.
    pub version: TransactionVersion,
}

/// Batches for one partition.
#[derive(Debug, Clone)]
pub struct PartitionBatches {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
    /// Whole batches whose checksums were verified. Appended all or none, in this order.
    pub batches: Vec<Batch>,
}

/// What became of the batches of one partition. In the order of the request.
#[derive(Debug, Clone)]
pub struct PartitionAck {
    /// As in the request.
    pub topic: TopicRef,
    /// As in the request.
    pub partition: PartitionIndex,
    /// Where they are, or why not.
    pub result: Result<Appended, Error>,
}

/// Where batches were appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record; of the first append, if this was a repetition.
    pub base_offset: Offset,
    /// The time that all records were given, if the topic has LogAppendTime.
    pub append_time: Option<Timestamp>,
    /// Where the partition begins.
    pub log_start: Offset,
}
