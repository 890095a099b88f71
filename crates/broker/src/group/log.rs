//! The seam between groups and the partitions of `__consumer_offsets`.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use rafka_core::{
    Batch, ByteSize, Epoch, ErrorCode, GroupId, Offset, PartitionIndex, TopicId, TopicName,
};

use super::Settings;
use super::ops::Within;
use crate::Error;

/// The partitions of `__consumer_offsets`, as far as this node leads them.
///
/// The coordinator is told of leaderships by [`Coordinator::lead`] and [`Coordinator::resign`].
///
/// [`Coordinator::lead`]: super::Coordinator::lead
/// [`Coordinator::resign`]: super::Coordinator::resign
pub trait OffsetsLog: Send + Sync + fmt::Debug + 'static {
    /// How many partitions the topic has. `None` before there is such a topic.
    fn partition_count(&self) -> Option<u32>;

    /// All topics as they are now. `None` when the node is stopping and nobody knows any more.
    fn topics(&self) -> Option<Topics>;

    /// The settings that hold for a group, if it has some of its own. `settings` are the node's.
    fn own_settings(&self, group: &GroupId, settings: &Settings) -> Option<Settings>;

    /// Makes the topic if there is none, and tells how many partitions it has.
    ///
    /// By then the coordinator has been told of the partitions that this node leads.
    fn ensure_topic(&self) -> BoxFuture<'static, Result<u32, Error>>;

    /// Appends batches, all or none, in the order of the calls: the call itself takes the place in
    /// the log, also if the future is never polled.
    ///
    /// The future is done when the batches lie below the high watermark. After an error they may
    /// or may not be in the log. Batches within a transaction carry the producer's numbers but the
    /// sequence, and are refused with `InvalidTxnState` if it has ended.
    fn append(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        batches: Vec<Batch>,
        within: Option<Within>,
    ) -> BoxFuture<'static, Result<(), Error>>;

    /// Batches from `from` on, about `limit` bytes of them, at least one.
    ///
    /// None when `from` is the end of what was in the log when the leadership of `epoch` began.
    /// Up to there, the future waits for the high watermark.
    fn read(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        from: Offset,
        limit: ByteSize,
    ) -> BoxFuture<'static, Result<Vec<Batch>, Error>>;
}

/// The topics that there were at one moment: changes after it are not seen. Cheap to clone.
#[derive(Clone)]
pub struct Topics(Arc<dyn TopicList>);

/// What groups ask of the topics of one moment. The answers must not change over time.
pub trait TopicList: Send + Sync {
    /// Another number for other topics.
    fn version(&self) -> u64;

    /// The topic of this name.
    fn by_name(&self, name: &TopicName) -> Option<Topic>;

    /// The name of the topic with this id.
    fn name_of(&self, id: TopicId) -> Option<TopicName>;

    /// All names, in their order.
    fn names(&self) -> Vec<TopicName>;
}

/// A topic, as far as groups care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partition_count: u32,
}

impl Topics {
    /// Topics as the list has them.
    #[must_use]
    pub fn new(list: impl TopicList + 'static) -> Self {
        Self(Arc::new(list))
    }

    pub(super) fn version(&self) -> u64 {
        self.0.version()
    }

    pub(super) fn get(&self, topic: &TopicName) -> Option<Topic> {
        self.0.by_name(topic)
    }

    pub(super) fn name_of(&self, id: TopicId) -> Option<TopicName> {
        self.0.name_of(id)
    }

    pub(super) fn names(&self) -> Vec<TopicName> {
        self.0.names()
    }

    pub(super) fn contains(&self, topic: &TopicName) -> bool {
        self.get(topic).is_some()
    }

    pub(super) fn has_partition(&self, topic: &TopicName, partition: PartitionIndex) -> bool {
        let count = self.get(topic).map_or(0, |topic| topic.partition_count);
        u32::try_from(partition.0).is_ok_and(|index| index < count)
    }
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics").finish_non_exhaustive()
    }
}

/// What a member is told when its group's partition refuses a write.
pub(super) fn refusal(error: &Error) -> ErrorCode {
    match error.code {
        ErrorCode::NotLeaderOrFollower
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownLeaderEpoch
        | ErrorCode::LeaderNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotCoordinator,
        // The transaction has ended.
        ErrorCode::InvalidTxnState | ErrorCode::InvalidProducerEpoch => error.code,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            ErrorCode::InvalidCommitOffsetSize
        }
        // A full disk, too few replicas, a timeout: the same coordinator may do it later.
        _ => ErrorCode::CoordinatorNotAvailable,
    }
}
