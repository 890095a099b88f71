//! Who says which partitions belong to a transaction: the seam to the transaction coordinator.

use futures_util::future::BoxFuture;
use rafka_core::{ProducerEpoch, ProducerId, TopicPartition};

use crate::Error;
use crate::produce::Transaction;

/// Asked before the first batch of a transaction is appended to a partition (KIP-890): a batch that
/// comes when its transaction is over would otherwise open one that nobody ends.
pub trait Registrations: Send + Sync + 'static {
    /// Whether each partition, in this order, is part of the producer's ongoing transaction. By the
    /// rules of version 2, makes those so that are not yet.
    fn register(
        &self,
        transaction: &Transaction,
        producer: (ProducerId, ProducerEpoch),
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<'static, Vec<Result<(), Error>>>;
}
