//! The seam between groups and the partitions of `__consumer_offsets`.

use std::fmt;

use futures_util::future::BoxFuture;
use rafka_core::{Batch, ByteSize, Epoch, ErrorCode, Offset, PartitionIndex};

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

    /// Makes the topic if there is none, and tells how many partitions it has.
    ///
    /// By then the coordinator has been told of the partitions that this node leads.
    fn ensure_topic(&self) -> BoxFuture<'static, Result<u32, Error>>;

    /// Appends batches, all or none, in the order of the calls: the call itself takes the place in
    /// the log, also if the future is never polled.
    ///
    /// The future is done when the batches lie below the high watermark. After an error they may
    /// or may not be in the log.
    fn append(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        batches: Vec<Batch>,
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

/// What a member is told when its group's partition refuses a write.
pub(super) fn refusal(error: &Error) -> ErrorCode {
    match error.code {
        ErrorCode::NotLeaderOrFollower
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownLeaderEpoch
        | ErrorCode::LeaderNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            ErrorCode::InvalidCommitOffsetSize
        }
        // A full disk, too few replicas, a timeout: the same coordinator may do it later.
        _ => ErrorCode::CoordinatorNotAvailable,
    }
}
