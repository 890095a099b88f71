//! What can go wrong with a record.

use std::time::Duration;

use rafka_client::{InvalidSettings, TopicPartition};
use rafka_core::{ByteSize, ErrorCode};

use crate::record::Record;

/// Whether the record may be in the log although its delivery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is not: sending it again cannot double it.
    NotWritten,
    /// Nobody can tell: the connection or the time was lost after it was sent.
    Unknown,
}

/// A record that was not delivered, or a producer that cannot work.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings cannot work.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// The cluster could not be asked, or has no such topic. The record was not taken.
    #[error(transparent)]
    Client(#[from] rafka_client::Error),
    /// The record is larger than `record_bytes_max`. It was not taken.
    #[error("a record of {size} for topic {topic} is larger than record_bytes_max, {limit}")]
    RecordTooLarge {
        /// The topic.
        topic: String,
        /// The record's size.
        size: ByteSize,
        /// The limit.
        limit: ByteSize,
    },
    /// The record can not be stored as it is. It was not taken.
    #[error("a record for topic {topic} is invalid: {rule}")]
    InvalidRecord {
        /// The topic.
        topic: String,
        /// What it breaks.
        rule: String,
    },
    /// The buffer is full. The record was not taken.
    #[error("the buffer of {limit} is full: records come in faster than the cluster takes them")]
    Busy {
        /// The size of the buffer.
        limit: ByteSize,
    },
    /// `try_send` cannot wait for what is to be learnt of the topic. The record was not taken.
    #[error("topic {topic} is not known yet: use send, which waits")]
    UnknownYet {
        /// The topic.
        topic: String,
    },
    /// The node refused the batch, for a reason that does not go away.
    #[error("{partition}: {message} [{code}]")]
    Refused {
        /// The partition.
        partition: TopicPartition,
        /// Kafka's error.
        code: ErrorCode,
        /// The node's reason.
        message: String,
        /// Whether the record may be in the log.
        fate: Fate,
    },
    /// The record was not delivered within `delivery_timeout`.
    #[error("{partition}: not delivered within {limit:?} (last failure: {last})")]
    TimedOut {
        /// The partition.
        partition: TopicPartition,
        /// The time it had.
        limit: Duration,
        /// The last failure.
        last: String,
        /// Whether the record may be in the log.
        fate: Fate,
    },
    /// The node has lost the producer's state while an answer was outstanding: whether the record
    /// is in the log cannot be found out, and sending it again might double it.
    #[error("{partition}: the node no longer knows this producer's last batches")]
    SequenceLost {
        /// The partition.
        partition: TopicPartition,
    },
    /// A newer producer with the same id is at work: this one is finished.
    #[error("{partition}: the producer was fenced: {message}")]
    Fenced {
        /// The partition that reported it.
        partition: TopicPartition,
        /// The node's reason.
        message: String,
    },
    /// Another producer took the transactional id over, or the transaction took longer than its
    /// timeout. This producer is finished, and what it had open is aborted: make a new one.
    #[error(
        "transactional id {transactional_id}: another producer has it, or the transaction took \
         longer than its timeout"
    )]
    FencedId {
        /// The transactional id.
        transactional_id: String,
    },
    /// The transaction can not be aborted: its commit was tried, and may have succeeded.
    #[error("transactional id {transactional_id}: the commit was tried before: commit again")]
    Committing {
        /// The transactional id.
        transactional_id: String,
    },
    /// The group has given the partitions to others in the meantime: the offsets are not part of the
    /// transaction, which can only be aborted. Others consume again what was not committed.
    #[error("offsets of group {group} cannot be committed: their consumer is no longer its member")]
    NotMember {
        /// The group.
        group: String,
        /// What the group says.
        #[source]
        cause: Box<rafka_client::Error>,
    },
    /// The batch could not be compressed.
    #[error("{partition}: the batch cannot be compressed: {cause}")]
    Codec {
        /// The partition.
        partition: TopicPartition,
        /// What the codec says.
        cause: String,
    },
    /// The producer was closed, or dropped, before the record was delivered.
    #[error("the producer was closed before the record was delivered")]
    Closed {
        /// Whether the record may be in the log.
        fate: Fate,
    },
    /// `flush` or `close` ran out of time.
    #[error("records were still not delivered after {limit:?}")]
    FlushTimedOut {
        /// The time it had.
        limit: Duration,
    },
}

impl Error {
    /// Whether the record may be in the log.
    #[must_use]
    pub fn fate(&self) -> Fate {
        match self {
            Self::Refused { fate, .. } | Self::TimedOut { fate, .. } | Self::Closed { fate } => {
                *fate
            }
            Self::SequenceLost { .. } | Self::FlushTimedOut { .. } | Self::Committing { .. } => {
                Fate::Unknown
            }
            Self::Settings(_)
            | Self::Client(_)
            | Self::RecordTooLarge { .. }
            | Self::InvalidRecord { .. }
            | Self::Busy { .. }
            | Self::UnknownYet { .. }
            | Self::Fenced { .. }
            | Self::FencedId { .. }
            | Self::NotMember { .. }
            | Self::Codec { .. } => Fate::NotWritten,
        }
    }

    /// Whether sending the same record later may succeed. With [`Fate::Unknown`] that may double it.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Busy { .. }
            | Self::UnknownYet { .. }
            | Self::TimedOut { .. }
            | Self::SequenceLost { .. }
            | Self::FlushTimedOut { .. } => true,
            Self::Client(error) => error.is_retriable(),
            Self::Refused { code, .. } => code.is_retriable(),
            Self::Settings(_)
            | Self::RecordTooLarge { .. }
            | Self::InvalidRecord { .. }
            | Self::Fenced { .. }
            | Self::FencedId { .. }
            | Self::NotMember { .. }
            | Self::Committing { .. }
            | Self::Codec { .. }
            | Self::Closed { .. } => false,
        }
    }
}

/// A record that `try_send` did not take, and why.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Rejected {
    /// The record, to be sent later.
    pub record: Record,
    /// Why it was not taken.
    #[source]
    pub cause: Error,
}
