//! A topic of the broker's own, as the coordinator sees it that keeps its state there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rafka_core::{Batch, ByteSize, Epoch, ErrorCode, Offset, PartitionIndex, TopicName};
use rafka_metadata::CreateTopic;
use tokio::sync::OnceCell;

use super::{Inner, topics};
use crate::partition::machine::Registration;
use crate::partition::{AckState, Partition};
use crate::{Error, TopicRef};

/// These topics are compacted in small segments, so that loading them reads little (Kafka's
/// `offsets.topic.segment.bytes` and `transaction.state.log.segment.bytes`).
const SEGMENT_BYTES: &str = "104857600";

/// Tells a coordinator which partitions of its topic this node leads.
type Lead = for<'a> fn(&'a Inner) -> BoxFuture<'a, ()>;

/// See the module. Holds the broker weakly: the broker owns the coordinator that owns this.
pub(super) struct InternalTopic {
    broker: Weak<Inner>,
    name: TopicName,
    /// How many partitions the topic gets when it is made.
    partition_count: u32,
    made: Arc<OnceCell<u32>>,
    lead: Lead,
}

impl InternalTopic {
    pub(super) fn new(broker: Weak<Inner>, name: &str, partition_count: u32, lead: Lead) -> Self {
        let name = TopicName::new(name).expect("Kafka's name of the topic is valid");
        Self { broker, name, partition_count, made: Arc::default(), lead }
    }

    pub(super) fn broker(&self) -> Result<Arc<Inner>, Error> {
        self.broker.upgrade().ok_or_else(stopping)
    }

    fn partition(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
    ) -> Result<(Arc<Inner>, Arc<Partition>), Error> {
        let broker = self.broker()?;
        let topic = TopicRef::Name(self.name.clone());
        let (_, partition) = broker.table.partition(&topic, partition)?;
        partition.check_epoch(Some(epoch))?;
        Ok((broker, partition))
    }

    /// How many partitions the topic has. `None` before there is such a topic.
    pub(super) fn partition_count(&self) -> Option<u32> {
        let view = self.broker.upgrade()?.metadata.view();
        u32::try_from(view.topic(&self.name)?.partitions.len()).ok()
    }

    /// Makes the topic if there is none, and tells how many partitions it has.
    pub(super) fn ensure(&self) -> BoxFuture<'static, Result<u32, Error>> {
        let (broker, made) = (self.broker(), Arc::clone(&self.made));
        let (name, partition_count, lead) = (self.name.clone(), self.partition_count, self.lead);
        async move {
            let broker = broker?;
            let tasks = broker.tasks.clone();
            // A task of its own sees it through: if the client that came first goes away between the
            // two steps, there would be a topic whose partitions nobody leads until the next start.
            let making = tasks.spawn(async move {
                // One makes it, all others wait for that.
                let make = || async {
                    broker.make_internal_topic(name, partition_count).await?;
                    lead(&broker).await;
                    Ok(partition_count)
                };
                made.get_or_try_init(make).await.copied()
            });
            making.await.unwrap_or_else(|_ended| Err(stopping()))
        }
        .boxed()
    }

    /// Appends batches; the call itself takes the place in the log.
    pub(super) fn append(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        batches: Vec<Batch>,
        registration: Registration,
    ) -> BoxFuture<'static, Result<(), Error>> {
        let ack = self.try_append(partition, epoch, batches, registration);
        async move { ack?.known().await.map(drop) }.boxed()
    }

    fn try_append(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        mut batches: Vec<Batch>,
        registration: Registration,
    ) -> Result<AckState, Error> {
        let (broker, partition) = self.partition(partition, epoch)?;
        let now = broker.clock.timestamp();
        Ok(partition.append(&*broker.engine, &mut batches, None, now, registration))
    }

    /// Batches from `from` on, up to where this leadership began.
    pub(super) fn read(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        from: Offset,
        limit: ByteSize,
    ) -> BoxFuture<'static, Result<Vec<Batch>, Error>> {
        let found = self.partition(partition, epoch);
        let topic = TopicRef::Name(self.name.clone());
        async move {
            let (broker, partition) = found?;
            // All that was there when this leadership began is durable, and so visible.
            let end = partition.led_from;
            let from = from.max(partition.position().log_start);
            if end <= from {
                return Ok(Vec::new());
            }
            broker.read(&topic, &partition, from, end, limit).await
        }
        .boxed()
    }
}

impl fmt::Debug for InternalTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InternalTopic")
            .field("name", &self.name)
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

impl Inner {
    async fn make_internal_topic(&self, name: TopicName, partitions: u32) -> Result<(), Error> {
        let configs = [("cleanup.policy", "compact"), ("segment.bytes", SEGMENT_BYTES)];
        let order = CreateTopic {
            name: name.clone(),
            partitions: Some(partitions),
            replication_factor: None,
            configs: BTreeMap::from(configs.map(|(key, value)| (key.into(), value.into()))),
            validate_only: false,
        };
        match self.metadata.create_topic(order).await.map_err(topics::refused) {
            Err(error) if error.code != ErrorCode::TopicAlreadyExists => Err(error),
            _ => {
                tracing::info!(topic = %name, partitions, "topic created");
                Ok(())
            }
        }
    }

    /// The partitions of one of the broker's topics that this node leads, with their epochs.
    pub(super) fn led(&self, name: &str) -> Vec<(PartitionIndex, Epoch)> {
        let name = TopicName::new(name).expect("Kafka's name of the topic is valid");
        let Ok(topic) = self.table.topic(&TopicRef::Name(name)) else { return Vec::new() };
        let led = topic.led();
        led.into_iter().map(|it| (it.id.partition, it.position().leader_epoch)).collect()
    }
}

fn stopping() -> Error {
    Error::new(ErrorCode::NotLeaderOrFollower, "the node is stopping")
}
