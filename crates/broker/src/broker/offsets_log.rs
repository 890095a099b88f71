//! The partitions of `__consumer_offsets`, as the group coordinator sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rafka_core::{Batch, ByteSize, Epoch, ErrorCode, Offset, PartitionIndex, TopicId, TopicName};
use rafka_metadata::{CreateTopic, View};
use tokio::sync::OnceCell;

use super::{Inner, topics};
use crate::group::{OFFSETS_TOPIC, OffsetsLog, Topic, TopicList, Topics};
use crate::partition::machine::Registration;
use crate::partition::{AckState, Partition};
use crate::{Error, TopicRef};

/// `__consumer_offsets` is compacted in small segments, so that loading a group reads little
/// (Kafka's `offsets.topic.segment.bytes`).
const SEGMENT_BYTES: &str = "104857600";

/// See the module. Holds the broker weakly: the broker owns the coordinator that owns this.
pub(super) struct OffsetsPartitions {
    broker: Weak<Inner>,
    topic: TopicName,
    /// How many partitions the topic gets when it is made.
    partition_count: u32,
    made: Arc<OnceCell<u32>>,
}

impl OffsetsPartitions {
    pub(super) fn new(broker: Weak<Inner>, partition_count: u32) -> Self {
        let topic = TopicName::new(OFFSETS_TOPIC).expect("Kafka's name of the topic is valid");
        Self { broker, topic, partition_count, made: Arc::default() }
    }

    fn broker(&self) -> Result<Arc<Inner>, Error> {
        self.broker.upgrade().ok_or_else(stopping)
    }

    fn partition(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
    ) -> Result<(Arc<Inner>, Arc<Partition>), Error> {
        let broker = self.broker()?;
        let topic = TopicRef::Name(self.topic.clone());
        let (_, partition) = broker.table.partition(&topic, partition)?;
        partition.check_epoch(Some(epoch))?;
        Ok((broker, partition))
    }

    fn try_append(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        mut batches: Vec<Batch>,
    ) -> Result<AckState, Error> {
        let (broker, partition) = self.partition(partition, epoch)?;
        let now = broker.clock.timestamp();
        Ok(partition.append(&*broker.engine, &mut batches, None, now, Registration::Internal))
    }
}

impl fmt::Debug for OffsetsPartitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OffsetsPartitions").field("made", &self.made).finish_non_exhaustive()
    }
}

impl OffsetsLog for OffsetsPartitions {
    fn partition_count(&self) -> Option<u32> {
        let view = self.broker.upgrade()?.metadata.view();
        u32::try_from(view.topic(&self.topic)?.partitions.len()).ok()
    }

    fn topics(&self) -> Option<Topics> {
        Some(Topics::new(self.broker.upgrade()?.metadata.view()))
    }

    fn ensure_topic(&self) -> BoxFuture<'static, Result<u32, Error>> {
        let (broker, made) = (self.broker(), Arc::clone(&self.made));
        let (topic, partition_count) = (self.topic.clone(), self.partition_count);
        async move {
            let broker = broker?;
            let tasks = broker.tasks.clone();
            // A task of its own sees it through: if the client that came first goes away between the
            // two steps, there would be a topic whose partitions nobody leads until the next start.
            let making = tasks.spawn(async move {
                // One makes it, all others wait for that.
                let make = || async {
                    broker.make_offsets_topic(topic, partition_count).await?;
                    broker.lead_groups().await;
                    Ok(partition_count)
                };
                made.get_or_try_init(make).await.copied()
            });
            making.await.unwrap_or_else(|_ended| Err(stopping()))
        }
        .boxed()
    }

    fn append(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        batches: Vec<Batch>,
    ) -> BoxFuture<'static, Result<(), Error>> {
        let ack = self.try_append(partition, epoch, batches);
        async move { ack?.known().await.map(drop) }.boxed()
    }

    fn read(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        from: Offset,
        limit: ByteSize,
    ) -> BoxFuture<'static, Result<Vec<Batch>, Error>> {
        let found = self.partition(partition, epoch);
        let topic = TopicRef::Name(self.topic.clone());
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

impl TopicList for View {
    fn version(&self) -> u64 {
        Self::version(self)
    }

    fn by_name(&self, name: &TopicName) -> Option<Topic> {
        let topic = self.topic(name)?;
        Some(Topic { id: topic.id, partition_count: u32::try_from(topic.partitions.len()).ok()? })
    }

    fn name_of(&self, id: TopicId) -> Option<TopicName> {
        self.topic_by_id(id).map(|topic| topic.name.clone())
    }

    fn names(&self) -> Vec<TopicName> {
        self.topics().iter().map(|topic| topic.name.clone()).collect()
    }
}

impl Inner {
    async fn make_offsets_topic(&self, name: TopicName, partitions: u32) -> Result<(), Error> {
        let configs = [("cleanup.policy", "compact"), ("segment.bytes", SEGMENT_BYTES)];
        let order = CreateTopic {
            name,
            partitions: Some(partitions),
            replication_factor: None,
            configs: BTreeMap::from(configs.map(|(key, value)| (key.into(), value.into()))),
            validate_only: false,
        };
        match self.metadata.create_topic(order).await.map_err(topics::refused) {
            Err(error) if error.code != ErrorCode::TopicAlreadyExists => Err(error),
            _ => {
                tracing::info!(topic = OFFSETS_TOPIC, partitions, "topic created");
                Ok(())
            }
        }
    }

    /// Tells the coordinator which partitions of `__consumer_offsets` this node leads.
    pub(super) async fn lead_groups(&self) {
        let name = TopicName::new(OFFSETS_TOPIC).expect("Kafka's name of the topic is valid");
        let Ok(topic) = self.table.topic(&TopicRef::Name(name)) else { return };
        for partition in topic.led() {
            let epoch = partition.position().leader_epoch;
            self.groups.lead(partition.id.partition, epoch).await;
        }
    }
}

fn stopping() -> Error {
    Error::new(ErrorCode::NotLeaderOrFollower, "the node is stopping")
}
