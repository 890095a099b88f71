//! Markers: the end of a transaction, to be written to each of its partitions.

use rafka_core::batch::Outcome;
use rafka_core::{Epoch, ProducerEpoch, ProducerId, TopicPartition};

use crate::produce::TransactionVersion;

/// An order to end a producer's transaction in some partitions.
#[derive(Debug, Clone)]
pub struct Markers {
    /// Whose transaction it is.
    pub producer: ProducerId,
    /// The epoch that the producer has from now on. By the rules of version 2 that is a higher one
    /// than the transaction was written under.
    pub epoch: ProducerEpoch,
    /// The epoch of the coordinator that decided it: an order of an earlier one is refused.
    pub coordinator_epoch: Epoch,
    /// How the transaction ends.
    pub outcome: Outcome,
    /// By which rules the producer goes.
    pub version: TransactionVersion,
    /// Where to write it.
    pub partitions: Vec<TopicPartition>,
}
