//! Transactions in partitions: ending them, and telling of those who write.

use std::sync::Arc;

use futures_util::future::join_all;
use rafka_core::batch::EndMarker;
use rafka_core::producer_state::Described;
use rafka_core::{PartitionIndex, TopicId, TopicPartition};

use super::{Broker, Inner};
use crate::group::OFFSETS_TOPIC;
use crate::partition::AckState;
use crate::{Error, Markers, Registrations, TopicRef};

impl Broker {
    /// Lets transactional batches in as far as `registrations` knows their transactions, in place of
    /// the node's own [`transactions`](Self::transactions). Once.
    pub fn set_registrations(&self, registrations: Arc<dyn Registrations>) {
        let is_first = self.inner.registrations.set(registrations).is_ok();
        assert!(is_first, "a broker asks one transaction coordinator");
    }

    /// Ends a transaction in each of these partitions, and returns when the markers are durable.
    /// Repeating an order does no harm.
    ///
    /// Each answer is the partition's: `InvalidProducerEpoch` and `TransactionCoordinatorFenced` say
    /// that the order is of the past; whatever else is an error may be tried again.
    ///
    /// # Cancel safety
    /// Dropped before it completes, markers were written that nobody hears of.
    pub async fn write_markers(&self, markers: &Markers) -> Vec<Result<(), Error>> {
        self.inner.write_markers(markers).await
    }

    /// Who has written to a partition and is remembered, in the order of their ids (KIP-664).
    ///
    /// # Errors
    /// If the partition is not led here.
    pub fn describe_producers(
        &self,
        topic: &TopicRef,
        partition: PartitionIndex,
    ) -> Result<Vec<Described>, Error> {
        let (_, partition) = self.inner.table.partition(topic, partition)?;
        Ok(partition.describe_producers())
    }
}

impl Inner {
    /// See [`Broker::write_markers`].
    pub(super) async fn write_markers(&self, markers: &Markers) -> Vec<Result<(), Error>> {
        let acks: Vec<AckState> = markers
            .partitions
            .iter()
            .map(|partition| {
                let ack = self.write_marker(markers, partition);
                ack.unwrap_or_else(|error| AckState::Known(Err(error)))
            })
            .collect();
        let results = join_all(acks.into_iter().map(AckState::known)).await;
        for (partition, result) in markers.partitions.iter().zip(&results) {
            if result.is_ok() && self.is_of_groups(partition.topic) {
                let (producer, outcome) = (markers.producer, markers.outcome);
                self.groups.end_transaction(partition.partition, producer, outcome).await;
            }
        }
        results.into_iter().map(|result| result.map(drop)).collect()
    }

    /// Whether the topic is the one that holds the offsets of groups.
    fn is_of_groups(&self, topic: TopicId) -> bool {
        let view = self.metadata.view();
        view.topic_by_id(topic).is_some_and(|topic| topic.name.as_str() == OFFSETS_TOPIC)
    }

    fn write_marker(&self, order: &Markers, at: &TopicPartition) -> Result<AckState, Error> {
        let (_, partition) = self.table.partition(&TopicRef::Id(at.topic), at.partition)?;
        let Markers { producer, epoch, coordinator_epoch, outcome, version, .. } = *order;
        let marker = EndMarker { outcome, coordinator_epoch };
        let now = self.clock.timestamp();
        let batch = marker.to_batch(producer, epoch, now);
        Ok(partition.append_marker(&*self.engine, batch, marker, version, now))
    }
}
