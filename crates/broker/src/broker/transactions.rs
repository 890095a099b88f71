//! The partitions of a node, as the transaction coordinator sees them.

use std::sync::Weak;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rafka_core::{
    Batch, ByteSize, Epoch, ErrorCode, GroupId, Offset, PartitionIndex, ProducerEpoch, ProducerId,
    TopicName, TopicPartition,
};

use super::internal_topic::InternalTopic;
use super::offsets_log::OffsetsPartitions;
use super::{Broker, Inner};
use crate::group::{
    CommitOffsets, OFFSETS_TOPIC, OffsetsLog as _, PartitionResult, Within, spread,
};
use crate::partition::machine::Registration;
use crate::produce::Transaction;
use crate::transaction::{Coordinator, Order, Partition, Surroundings, TRANSACTIONS_TOPIC};
use crate::{Error, Markers, TopicRef};

/// See the module.
#[derive(Debug)]
pub(super) struct TransactionPartitions {
    topic: InternalTopic,
    offsets: OffsetsPartitions,
}

impl TransactionPartitions {
    pub(super) fn new(broker: &Weak<Inner>, settings: &crate::Settings) -> Self {
        let partitions = settings.transactions.transactions_topic_partitions;
        let topic =
            InternalTopic::new(Weak::clone(broker), TRANSACTIONS_TOPIC, partitions, |broker| {
                broker.lead_transactions().boxed()
            });
        let partitions = settings.groups.offsets_topic_partitions;
        Self { topic, offsets: OffsetsPartitions::new(Weak::clone(broker), partitions) }
    }
}

impl Broker {
    /// Transactions.
    #[must_use]
    pub fn transactions(&self) -> &Coordinator {
        &self.inner.transactions
    }

    /// Commits offsets of a group in a producer's transaction: they count once it is committed.
    /// Answered once they are durable.
    ///
    /// By the rules of version 1 the transaction must have been told of the group
    /// ([`Coordinator::add_offsets`]); by those of version 2 it learns of it here.
    ///
    /// # Errors
    /// As [`commit_offsets_within`](crate::group::Coordinator::commit_offsets_within), and Kafka's
    /// codes 47, 48, 49 and 51 if the transaction is not the producer's, or is none.
    ///
    /// # Cancel safety
    /// Dropped, the offsets may still become part of the transaction.
    pub async fn commit_offsets_in_transaction(
        &self,
        commit: CommitOffsets,
        transaction: Transaction,
        (producer, epoch): (ProducerId, ProducerEpoch),
    ) -> Result<Vec<PartitionResult>, Error> {
        let groups = &self.inner.groups;
        let index = groups.partition_of(&commit.group).await?;
        let topic = TopicName::new(OFFSETS_TOPIC).expect("Kafka's name of the topic is valid");
        let led = self.inner.table.partition(&TopicRef::Name(topic), index);
        let (_, led) = led.map_err(|error| Error::new(ErrorCode::NotCoordinator, error.message))?;
        // Before the question: should the transaction end after it, the commit is refused.
        let (since, has_begun) = led.on_behalf(producer, epoch);
        if !has_begun {
            let asked = vec![led.id];
            let registrations = self.inner.registrations();
            let answers = registrations.register(&transaction, (producer, epoch), asked).await;
            answers.into_iter().next().unwrap_or(Ok(())).map_err(as_committers_know_it)?;
        }
        groups.commit_offsets_within(commit, Within { producer, epoch, since }).await
    }
}

/// What who commits offsets is told: it does not know the codes of who produces.
fn as_committers_know_it(error: Error) -> Error {
    let code = match error.code {
        ErrorCode::NotEnoughReplicas | ErrorCode::RequestTimedOut => {
            ErrorCode::CoordinatorNotAvailable
        }
        other => other,
    };
    Error { code, ..error }
}

impl Surroundings for TransactionPartitions {
    fn partition_count(&self) -> Option<u32> {
        self.topic.partition_count()
    }

    fn ensure_topic(&self) -> BoxFuture<'static, Result<u32, Error>> {
        self.topic.ensure()
    }

    fn append(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        batch: Batch,
    ) -> BoxFuture<'static, Result<(), Error>> {
        self.topic.append(partition, epoch, vec![batch], Registration::Internal)
    }

    fn read(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        from: Offset,
        limit: ByteSize,
    ) -> BoxFuture<'static, Result<Vec<Batch>, Error>> {
        self.topic.read(partition, epoch, from, limit)
    }

    fn producer_id(&self) -> BoxFuture<'static, Result<ProducerId, Error>> {
        let broker = self.topic.broker();
        async move { broker?.new_producer_id().await }.boxed()
    }

    fn write_markers(&self, order: Order) -> BoxFuture<'static, Vec<Partition>> {
        let broker = self.topic.broker();
        async move {
            match broker {
                Ok(broker) => broker.end_in_partitions(&order).await,
                Err(_stopping) => Vec::new(),
            }
        }
        .boxed()
    }

    fn has_partition(&self, (topic, partition): &Partition) -> bool {
        let Ok(broker) = self.topic.broker() else { return false };
        let count = broker.metadata.view().topic(topic).map_or(0, |topic| topic.partitions.len());
        usize::try_from(partition.0).is_ok_and(|index| index < count)
    }

    fn name(&self, partition: &TopicPartition) -> Option<Partition> {
        let view = self.topic.broker().ok()?.metadata.view();
        Some((view.topic_by_id(partition.topic)?.name.clone(), partition.partition))
    }

    fn offsets_of(&self, group: &GroupId) -> BoxFuture<'static, Result<Partition, Error>> {
        let (known, group) = (self.offsets.partition_count(), group.clone());
        let ensured = self.offsets.ensure_topic();
        async move {
            let count = match known {
                Some(count) => count,
                None => ensured.await?,
            };
            let topic = TopicName::new(OFFSETS_TOPIC).expect("Kafka's name of the topic is valid");
            Ok((topic, spread(group.as_str(), count)))
        }
        .boxed()
    }
}

impl Inner {
    /// Tells the coordinator which partitions of `__transaction_state` this node leads.
    pub(super) async fn lead_transactions(&self) {
        for (partition, epoch) in self.led(TRANSACTIONS_TOPIC) {
            self.transactions.lead(partition, epoch).await;
        }
    }

    /// Writes markers where the topic is still there; tells where there is nothing left to write.
    async fn end_in_partitions(&self, order: &Order) -> Vec<Partition> {
        let view = self.metadata.view();
        let (mut done, mut named, mut partitions) = (Vec::new(), Vec::new(), Vec::new());
        for (topic, partition) in order.partitions() {
            match view.topic(topic) {
                Some(known) => {
                    named.push((topic.clone(), *partition));
                    partitions.push(TopicPartition { topic: known.id, partition: *partition });
                }
                // With a topic its transactions are gone.
                None => done.push((topic.clone(), *partition)),
            }
        }
        let markers: Markers = order.markers(partitions);
        let results = self.write_markers(&markers).await;
        for ((topic, partition), result) in named.into_iter().zip(results) {
            match result {
                Ok(()) => done.push((topic, partition)),
                // The partition has gone on without this end: its producer has a later epoch there.
                Err(error) if error.code == ErrorCode::InvalidProducerEpoch => {
                    let (producer, epoch) = (markers.producer, markers.epoch);
                    tracing::warn!(%topic, %partition, %producer, %epoch, "a marker came too late");
                    done.push((topic, partition));
                }
                Err(error) => {
                    tracing::warn!(%topic, %partition, %error, "cannot write a marker yet");
                }
            }
        }
        done
    }
}
