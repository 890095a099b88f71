//! The seam between transactions and the partitions of their node.

use std::fmt;

use futures_util::future::BoxFuture;
use rafka_core::{
    Batch, ByteSize, Epoch, GroupId, Offset, PartitionIndex, ProducerId, TopicPartition,
};

use super::machine::Ending;
use super::ops::Partition;
use crate::{Error, Markers};

/// Markers to be written.
#[derive(Debug)]
pub(crate) struct Order {
    /// Of what, and where.
    pub(super) ending: Ending,
    /// The epoch of the coordinator that decided it.
    pub(super) coordinator_epoch: Epoch,
}

impl Order {
    /// Where markers are to be written.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.ending.partitions.iter()
    }

    /// The order as partitions take it.
    pub(crate) fn markers(&self, partitions: Vec<TopicPartition>) -> Markers {
        let Ending { producer: (producer, epoch), outcome, version, .. } = self.ending;
        let coordinator_epoch = self.coordinator_epoch;
        Markers { producer, epoch, coordinator_epoch, outcome, version, partitions }
    }
}

/// What the coordinator needs of its node: the partitions of `__transaction_state` that it leads, and
/// those that transactions write to.
///
/// The coordinator is told of leaderships by [`Coordinator::lead`](super::Coordinator::lead).
pub(crate) trait Surroundings: Send + Sync + fmt::Debug + 'static {
    /// How many partitions `__transaction_state` has. `None` before there is such a topic.
    fn partition_count(&self) -> Option<u32>;

    /// Makes the topic if there is none, and tells how many partitions it has.
    ///
    /// By then the coordinator has been told of the partitions that this node leads.
    fn ensure_topic(&self) -> BoxFuture<'static, Result<u32, Error>>;

    /// Appends a batch, in the order of the calls. The future is done when it lies below the high
    /// watermark. After an error it may or may not be in the log.
    fn append(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        batch: Batch,
    ) -> BoxFuture<'static, Result<(), Error>>;

    /// Batches from `from` on, about `limit` bytes of them, at least one. None when `from` is the end
    /// of what was in the log when the leadership of `epoch` began.
    fn read(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        from: Offset,
        limit: ByteSize,
    ) -> BoxFuture<'static, Result<Vec<Batch>, Error>>;

    /// A producer id that nobody had before.
    fn producer_id(&self) -> BoxFuture<'static, Result<ProducerId, Error>>;

    /// Writes markers, and tells where they are durable or, because the partition is gone or has gone
    /// on, needless. Elsewhere it must be asked again.
    fn write_markers(&self, order: Order) -> BoxFuture<'static, Vec<Partition>>;

    /// Whether there is such a partition.
    fn has_partition(&self, partition: &Partition) -> bool;

    /// The partition by the name of its topic, if it is there.
    fn name(&self, partition: &TopicPartition) -> Option<Partition>;

    /// The partition that the offsets of a group are committed to.
    fn offsets_of(&self, group: &GroupId) -> BoxFuture<'static, Result<Partition, Error>>;
}
