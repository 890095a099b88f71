//! The partitions that this node leads, found by topic or by log.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use rafka_core::{ErrorCode, Offset, PartitionIndex, TopicId, TopicName};
use rafka_metadata::topic_config::TopicConfig;
use rafka_storage::{self as storage, LogId, Observer};
use tokio::sync::Notify;

use crate::partition::Partition;
use crate::producer_budget::ProducerBudget;
use crate::{Error, TopicRef};

/// A topic with the partitions that this node leads.
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    pub(crate) id: TopicId,
    config: RwLock<Arc<TopicConfig>>,
    /// By index; `None` for a partition that is led elsewhere.
    partitions: RwLock<Vec<Option<Arc<Partition>>>>,
}

impl Topic {
    pub(crate) fn new(name: TopicName, id: TopicId, config: Arc<TopicConfig>) -> Self {
        Self { name, id, config: RwLock::new(config), partitions: RwLock::default() }
    }

    pub(crate) fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read())
    }

    pub(crate) fn set_config(&self, config: Arc<TopicConfig>) {
        *self.config.write() = config;
    }

    pub(crate) fn partition(&self, index: PartitionIndex) -> Result<Arc<Partition>, Error> {
        let partitions = self.partitions.read();
        let slot = usize::try_from(index.0).ok().and_then(|index| partitions.get(index));
        match slot {
            Some(Some(partition)) => Ok(Arc::clone(partition)),
            Some(None) => Err(ErrorCode::NotLeaderOrFollower.into()),
            None => Err(Error::unknown_partition(&self.name, index.0, partitions.len())),
        }
    }

    /// The partitions that this node leads, by index.
    pub(crate) fn led(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().iter().flatten().map(Arc::clone).collect()
    }
}

/// All topics of this node, and what the storage engine reports of their logs.
///
/// Made before the engine, which reports to it, and given to the broker afterwards.
#[derive(Default)]
pub struct PartitionTable {
    topics: RwLock<Topics>,
    logs: RwLock<HashMap<LogId, Arc<Partition>>>,
    /// Why nothing can be written any more.
    failure: RwLock<Option<Error>>,
    room: Notify,
    producers: Arc<ProducerBudget>,
}

#[derive(Default)]
struct Topics {
    by_name: HashMap<TopicName, Arc<Topic>>,
    by_id: HashMap<TopicId, Arc<Topic>>,
}

impl PartitionTable {
    /// A table without topics.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The memory for what the partitions know of producers.
    pub(crate) fn producers(&self) -> &Arc<ProducerBudget> {
        &self.producers
    }

    pub(crate) fn topic(&self, topic: &TopicRef) -> Result<Arc<Topic>, Error> {
        let topics = self.topics.read();
        let found = match topic {
            TopicRef::Name(name) => topics.by_name.get(name),
            TopicRef::Id(id) => topics.by_id.get(id),
        };
        found.map(Arc::clone).ok_or_else(|| Error::unknown_topic(topic))
    }

    pub(crate) fn partition(
        &self,
        topic: &TopicRef,
        index: PartitionIndex,
    ) -> Result<(Arc<Topic>, Arc<Partition>), Error> {
        let topic = self.topic(topic)?;
        let partition = topic.partition(index)?;
        Ok((topic, partition))
    }

    /// Every topic, in no particular order.
    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().by_id.values().map(Arc::clone).collect()
    }

    pub(crate) fn insert_topic(&self, topic: Arc<Topic>) {
        let mut topics = self.topics.write();
        topics.by_name.insert(topic.name.clone(), Arc::clone(&topic));
        topics.by_id.insert(topic.id, topic);
    }

    /// Makes partitions of a topic reachable; those between may be led elsewhere.
    pub(crate) fn insert_partitions(&self, topic: &Topic, partitions: Vec<Arc<Partition>>) {
        let failure = self.failure.read().clone();
        let mut slots = topic.partitions.write();
        let mut logs = self.logs.write();
        for partition in partitions {
            if let Some(failure) = &failure {
                partition.close(failure);
            }
            let index = usize::try_from(partition.id.partition.0).expect("indexes count from 0");
            if slots.len() <= index {
                slots.resize(index + 1, None);
            }
            logs.insert(partition.log, Arc::clone(&partition));
            slots[index] = Some(partition);
        }
    }

    /// Takes a topic out and refuses what still arrives for its partitions.
    pub(crate) fn remove_topic(&self, id: TopicId) -> Option<Arc<Topic>> {
        let topic = {
            let mut topics = self.topics.write();
            let topic = topics.by_id.remove(&id)?;
            // Another topic may have taken the name by now.
            if topics.by_name.get(&topic.name).is_some_and(|named| named.id == id) {
                topics.by_name.remove(&topic.name);
            }
            topic
        };
        let partitions = topic.led();
        {
            let mut logs = self.logs.write();
            for partition in &partitions {
                logs.remove(&partition.log);
            }
        }
        let gone = Error::unknown_topic(&TopicRef::Name(topic.name.clone()));
        for partition in partitions {
            partition.close(&gone);
        }
        Some(topic)
    }

    /// Why nothing can be written any more, if so.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        self.failure.read().clone()
    }

    /// Completes when the engine has room again. Check [`storage::Engine::has_room`] after
    /// creating the future and before waiting for it.
    pub(crate) fn room(&self) -> impl Future<Output = ()> + '_ {
        self.room.notified()
    }
}

impl Observer for PartitionTable {
    fn durable(&self, log: LogId, end: Offset) {
        let partition = self.logs.read().get(&log).map(Arc::clone);
        if let Some(partition) = partition {
            partition.durable(end);
        }
    }

    fn failed(&self, error: &storage::Error) {
        tracing::error!(%error, "storage failed: nothing is written until the node is restarted");
        let error = Error::new(
            ErrorCode::KafkaStorageError,
            format!("{error}: nothing more is written until the node is restarted"),
        );
        *self.failure.write() = Some(error.clone());
        let partitions: Vec<_> = self.logs.read().values().map(Arc::clone).collect();
        for partition in partitions {
            partition.close(&error);
        }
        self.room.notify_waiters();
    }

    fn room(&self) {
        self.room.notify_waiters();
    }
}
