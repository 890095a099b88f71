//! The partitions of `__consumer_offsets`, as the group coordinator sees them.

use std::sync::Weak;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rafka_core::{Batch, ByteSize, Epoch, GroupId, Offset, PartitionIndex, TopicId, TopicName};
use rafka_metadata::View;

use super::Inner;
use super::internal_topic::InternalTopic;
use crate::Error;
use crate::group::{self, OFFSETS_TOPIC, OffsetsLog, Topic, TopicList, Topics, Within};
use crate::partition::machine::Registration;

/// See the module.
#[derive(Debug)]
pub(super) struct OffsetsPartitions(InternalTopic);

impl OffsetsPartitions {
    pub(super) fn new(broker: Weak<Inner>, partition_count: u32) -> Self {
        Self(InternalTopic::new(broker, OFFSETS_TOPIC, partition_count, |broker| {
            broker.lead_groups().boxed()
        }))
    }
}

impl OffsetsLog for OffsetsPartitions {
    fn partition_count(&self) -> Option<u32> {
        self.0.partition_count()
    }

    fn topics(&self) -> Option<Topics> {
        Some(Topics::new(self.0.broker().ok()?.metadata.view()))
    }

    fn own_settings(&self, group: &GroupId, settings: &group::Settings) -> Option<group::Settings> {
        let view = self.0.broker().ok()?.metadata.view();
        let configs = view.state().root().group_configs(group)?;
        Some(group::configs::over(settings, configs))
    }

    fn ensure_topic(&self) -> BoxFuture<'static, Result<u32, Error>> {
        self.0.ensure()
    }

    fn append(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        batches: Vec<Batch>,
        within: Option<Within>,
    ) -> BoxFuture<'static, Result<(), Error>> {
        let registration =
            within.map_or(Registration::Internal, |within| Registration::OnBehalf(within.since));
        self.0.append(partition, epoch, batches, registration)
    }

    fn read(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        from: Offset,
        limit: ByteSize,
    ) -> BoxFuture<'static, Result<Vec<Batch>, Error>> {
        self.0.read(partition, epoch, from, limit)
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
    /// Tells the coordinator which partitions of `__consumer_offsets` this node leads.
    pub(super) async fn lead_groups(&self) {
        for (partition, epoch) in self.led(OFFSETS_TOPIC) {
            self.groups.lead(partition, epoch).await;
        }
    }
}
