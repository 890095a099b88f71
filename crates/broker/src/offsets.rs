//! Offsets: where a partition begins, ends, and reaches a time; deleting what lies before one.

use rafka_core::{Epoch, Offset, PartitionIndex, Timestamp};

use crate::TopicRef;
use crate::fetch::Isolation;

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spec {
    /// The first one.
    Earliest,
    /// The one after the last visible record.
    Latest,
    /// That of the first record whose timestamp is at least this.
    At(Timestamp),
    /// That of the first record that bears the largest timestamp (KIP-734).
    Youngest,
}

/// A question about one partition.
#[derive(Debug, Clone)]
pub struct Request {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
    /// Which offset.
    pub spec: Spec,
    /// Up to which point records are visible.
    pub isolation: Isolation,
    /// The leader epoch that the client knows, to fence stale ones.
    pub leader_epoch: Option<Epoch>,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The offset; -1 if no record is that young.
    pub offset: Offset,
    /// The record's timestamp, for a question by time or for the youngest; else [`Timestamp::NONE`].
    pub timestamp: Timestamp,
    /// The leader epoch that the offset was written under.
    pub leader_epoch: Epoch,
}

/// A question for where a leader epoch ended (KIP-101).
#[derive(Debug, Clone)]
pub struct EpochRequest {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
    /// The current epoch that the client knows, to fence stale ones.
    pub current: Option<Epoch>,
    /// The epoch in question.
    pub epoch: Epoch,
}

/// An order to delete the records of a partition before an offset.
#[derive(Debug, Clone)]
pub struct DeleteRecords {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
    /// The first offset to stay; `None` for the high watermark.
    pub before: Option<Offset>,
}
