//! What can go wrong when consuming.

use std::time::Duration;

use rafka_client::{InvalidSettings, TopicPartition};
use rafka_core::Offset;
use rafka_core::batch;

/// A consumer's failure. After most of them `poll` may be called again.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings cannot work.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// The cluster could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] rafka_client::Error),
    /// A group is needed for this, and the consumer has none.
    #[error("cannot {operation} without a group: set one in the settings")]
    NoGroup {
        /// What was asked for.
        operation: &'static str,
    },
    /// The name of a topic is invalid.
    #[error(transparent)]
    Topic(#[from] rafka_core::InvalidTopicName),
    /// The consumer does not own the partition now.
    #[error("partition {partition} is not assigned to this consumer")]
    NotAssigned {
        /// The partition.
        partition: TopicPartition,
    },
    /// There is no position to start from and the settings say not to make one up: seek.
    #[error("partition {partition} has no position to read from ({why}), and offset_reset is none")]
    NoOffset {
        /// The partition.
        partition: TopicPartition,
        /// Why there is none.
        why: String,
    },
    /// Partitions cannot be assigned by hand while the group assigns them.
    #[error(
        "cannot assign partitions: the consumer is subscribed to topics, its group assigns them"
    )]
    Subscribed,
    /// The consumer was closed.
    #[error("the consumer is closed")]
    Closed,
    /// `close` ran out of time. The consumer is closed all the same.
    #[error("the consumer could not be closed in good order within {limit:?}")]
    CloseTimedOut {
        /// The time it had.
        limit: Duration,
    },
    /// What is stored at this position cannot be read. Seek beyond it to go on without it.
    #[error("the batch at offset {offset} of partition {partition} cannot be read")]
    Corrupt {
        /// The partition.
        partition: TopicPartition,
        /// Where reading stopped: the position.
        offset: Offset,
        /// What is wrong.
        #[source]
        cause: batch::Error,
    },
    /// The group has given the partitions to others in the meantime: what was to be committed will
    /// be read again by them. Nothing was committed.
    #[error("cannot commit for group {group}: this consumer is no longer its member: {cause}")]
    NotMember {
        /// The group.
        group: String,
        /// What the group says.
        cause: Box<rafka_client::Error>,
    },
    /// The group does not take this member. Subscribe again to try again.
    #[error("cannot be a member of group {group}: {cause}")]
    Group {
        /// The group.
        group: String,
        /// What the group says.
        cause: Box<rafka_client::Error>,
    },
}

impl Error {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Client(error) => error.is_retriable(),
            Self::Settings(_)
            | Self::NoGroup { .. }
            | Self::Topic(_)
            | Self::NotAssigned { .. }
            | Self::NoOffset { .. }
            | Self::Subscribed
            | Self::Closed
            | Self::CloseTimedOut { .. }
            | Self::Corrupt { .. }
            | Self::NotMember { .. }
            | Self::Group { .. } => false,
        }
    }
}
