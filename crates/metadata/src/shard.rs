//! Pure: a shard: the topics whose names fall on its arc of the ring, with their partitions.

mod command;
mod snapshot;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_core::{NodeId, PartitionIndex, TopicId, TopicName};
use rpds::RedBlackTreeMapSync;
use smallvec::SmallVec;

pub use command::{Command, NewTopic, PartitionChange};

use crate::effect::Effect;
use crate::group::fold;
use crate::partition::{Partition, Replicas, StorageEpoch};
use crate::refused::Refused;
use crate::root::{SessionEpoch, alter};
use crate::topic::{PARTITIONS_PER_TOPIC_MAX, Partitions, Topic};

/// A name as Kafka's metrics see it: equal to every name that it would collide with.
#[derive(Debug, Clone)]
struct Folded(TopicName);

impl Folded {
    fn bytes(&self) -> impl Iterator<Item = u8> {
        self.0.as_str().bytes().map(fold)
    }
}

impl Ord for Folded {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl PartialOrd for Folded {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Folded {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Folded {}

/// The state of a shard. A clone is cheap: it shares all topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    topics: RedBlackTreeMapSync<Folded, Arc<Topic>>,
    names: RedBlackTreeMapSync<TopicId, TopicName>,
    sessions: BTreeMap<NodeId, SessionEpoch>,
    /// How many replicas each node holds, counted along so that nobody walks all topics for it.
    replica_counts: BTreeMap<NodeId, u64>,
    partition_count: u64,
    /// Topics that were deleted, with the nodes that may still hold their logs.
    deleted: RedBlackTreeMapSync<TopicId, Holders>,
}

/// Nodes that hold something.
type Holders = SmallVec<[NodeId; 3]>;

impl Default for Shard {
    fn default() -> Self {
        Self {
            topics: RedBlackTreeMapSync::new_sync(),
            names: RedBlackTreeMapSync::new_sync(),
            sessions: BTreeMap::new(),
            replica_counts: BTreeMap::new(),
            partition_count: 0,
            deleted: RedBlackTreeMapSync::new_sync(),
        }
    }
}

impl Shard {
    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<&Arc<Topic>> {
        self.topics.get(&Folded(name.clone())).filter(|topic| topic.name == *name)
    }

    /// The topic with this id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&Folded(self.names.get(&id)?.clone()))
    }

    /// Every topic of the shard.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// How many topics there are.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.size()
    }

    /// How many partitions there are, of all topics.
    #[must_use]
    pub fn partition_count(&self) -> u64 {
        self.partition_count
    }

    /// How many replicas the node holds.
    #[must_use]
    pub fn replica_count(&self, node: NodeId) -> u64 {
        self.replica_counts.get(&node).copied().unwrap_or(0)
    }

    /// The deleted topics whose logs the node may still hold.
    pub fn deleted(&self, node: NodeId) -> impl Iterator<Item = TopicId> {
        let held =
            move |(id, holders): (&TopicId, &Holders)| holders.contains(&node).then_some(*id);
        self.deleted.iter().filter_map(held)
    }

    /// Does what the command says, or says why not and changes nothing.
    ///
    /// A command that changes nothing, because all is so already, has no effects. Names and values
    /// of configs are not judged here: nodes of different versions would come to different states.
    ///
    /// # Errors
    /// If the command contradicts the state.
    pub fn apply(&mut self, command: &Command) -> Result<Vec<Effect>, Refused> {
        match command {
            Command::CreateTopic(topic) => self.create(topic),
            Command::DeleteTopic { topic } => self.delete(*topic),
            Command::AlterConfigs { topic, changes } => self.alter_configs(*topic, changes),
            Command::AddPartitions { topic, total, added } => {
                self.add_partitions(*topic, *total, added)
            }
            Command::ChangePartition(change) => self.change_partition(change),
            Command::LogsDeleted { node, topics } => Ok(self.logs_deleted(*node, topics)),
            Command::BeginSession { node, session, storage } => {
                self.begin_session(*node, *session, *storage)
            }
        }
    }

    fn create(&mut self, new: &NewTopic) -> Result<Vec<Effect>, Refused> {
        match self.topics.get(&Folded(new.name.clone())) {
            Some(existing) if existing.name == new.name => {
                return Err(Refused::TopicExists(new.name.clone()));
            }
            Some(existing) => {
                let existing = existing.name.clone();
                return Err(Refused::NameCollides { name: new.name.clone(), existing });
            }
            None if self.names.contains_key(&new.id) => return Err(Refused::TopicIdTaken(new.id)),
            None => {}
        }
        let mut partitions = Partitions::default();
        partitions.extend(new_partitions(&new.name, 0, &new.partitions)?);
        let topic =
            Topic { id: new.id, name: new.name.clone(), configs: new.configs.clone(), partitions };
        let topic = Arc::new(topic);
        self.insert(Arc::clone(&topic));
        Ok(vec![Effect::TopicCreated(topic)])
    }

    /// Takes up a topic that is not there yet.
    fn insert(&mut self, topic: Arc<Topic>) {
        self.count(&topic.partitions, PartitionIndex(0));
        self.names.insert_mut(topic.id, topic.name.clone());
        self.put(topic);
    }

    fn put(&mut self, topic: Arc<Topic>) {
        self.topics.insert_mut(Folded(topic.name.clone()), topic);
    }

    fn count(&mut self, partitions: &Partitions, first: PartitionIndex) {
        for (_, partition) in partitions.iter().skip_while(|(index, _)| *index < first) {
            self.partition_count += 1;
            for replica in partition.replicas() {
                *self.replica_counts.entry(replica.node).or_default() += 1;
            }
        }
    }

    fn uncount(&mut self, node: NodeId) {
        if let Some(count) = self.replica_counts.get_mut(&node) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.replica_counts.remove(&node);
            }
        }
    }

    fn delete(&mut self, id: TopicId) -> Result<Vec<Effect>, Refused> {
        let topic = Arc::clone(self.topic_by_id(id).ok_or(Refused::UnknownTopicId(id))?);
        self.topics.remove_mut(&Folded(topic.name.clone()));
        self.names.remove_mut(&id);
        let mut holders = Holders::new();
        for (_, partition) in topic.partitions.iter() {
            self.partition_count -= 1;
            for replica in partition.replicas() {
                self.uncount(replica.node);
                if !holders.contains(&replica.node) {
                    holders.push(replica.node);
                }
            }
        }
        self.deleted.insert_mut(id, holders);
        Ok(vec![Effect::TopicDeleted(topic)])
    }

    fn logs_deleted(&mut self, node: NodeId, topics: &[TopicId]) -> Vec<Effect> {
        let mut gone = Vec::new();
        for topic in topics {
            let Some(holders) = self.deleted.get(topic) else { continue };
            let left: Holders = holders.iter().copied().filter(|holder| *holder != node).collect();
            if left.len() == holders.len() {
                continue;
            }
            gone.push(*topic);
            if left.is_empty() {
                self.deleted.remove_mut(topic);
            } else {
                self.deleted.insert_mut(*topic, left);
            }
        }
        if gone.is_empty() { Vec::new() } else { vec![Effect::LogsDeleted { node, topics: gone }] }
    }

    /// A copy of the topic to change and [`Shard::put`] back.
    fn draft(&self, id: TopicId) -> Result<Topic, Refused> {
        self.topic_by_id(id).map(|topic| Topic::clone(topic)).ok_or(Refused::UnknownTopicId(id))
    }

    fn alter_configs(
        &mut self,
        id: TopicId,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<Vec<Effect>, Refused> {
        let mut topic = self.draft(id)?;
        if !alter(&mut topic.configs, changes) {
            return Ok(Vec::new());
        }
        let topic = Arc::new(topic);
        self.put(Arc::clone(&topic));
        Ok(vec![Effect::TopicConfigured(topic)])
    }

    fn add_partitions(
        &mut self,
        id: TopicId,
        total: u32,
        added: &[Replicas],
    ) -> Result<Vec<Effect>, Refused> {
        let mut topic = self.draft(id)?;
        let current = topic.partitions.len();
        let (name, asked) = (topic.name.clone(), u64::from(total));
        if asked <= current as u64 {
            return Err(Refused::NotMorePartitions { name, current, asked });
        }
        if asked != (current + added.len()) as u64 {
            return Err(Refused::PartitionsAddedMeanwhile { name, current });
        }
        topic.partitions.extend(new_partitions(&topic.name, current, added)?);
        let first = i32::try_from(current).expect("at most PARTITIONS_PER_TOPIC_MAX");
        let first = PartitionIndex(first);
        self.count(&topic.partitions, first);
        let topic = Arc::new(topic);
        self.put(Arc::clone(&topic));
        Ok(vec![Effect::PartitionsAdded { topic, first }])
    }

    fn change_partition(&mut self, change: &PartitionChange) -> Result<Vec<Effect>, Refused> {
        let mut topic = self.draft(change.topic)?;
        let name = topic.name.clone();
        let Some(partition) = topic.partitions.get_mut(change.partition) else {
            return Err(Refused::UnknownPartition { topic: name, partition: change.partition });
        };
        if partition.epoch() != change.expected {
            return Err(Refused::StalePartitionEpoch {
                topic: name,
                partition: change.partition,
                expected: change.expected,
                current: partition.epoch(),
            });
        }
        let before = partition.replicas().to_vec();
        partition
            .assign(&change.to, change.is_unclean)
            .map_err(|cause| Refused::Assignment { topic: name, cause })?;
        for replica in partition.replicas() {
            *self.replica_counts.entry(replica.node).or_default() += 1;
        }
        before.iter().for_each(|replica| self.uncount(replica.node));
        let topic = Arc::new(topic);
        self.put(Arc::clone(&topic));
        Ok(vec![Effect::PartitionsChanged { topic, partitions: vec![change.partition] }])
    }

    /// One command for all of the node's partitions: a start costs one entry a shard.
    fn begin_session(
        &mut self,
        node: NodeId,
        session: SessionEpoch,
        storage: StorageEpoch,
    ) -> Result<Vec<Effect>, Refused> {
        match self.sessions.get(&node) {
            Some(current) if session == *current => return Ok(Vec::new()),
            Some(current) if session < *current => {
                return Err(Refused::StaleSession { node, asked: session, current: *current });
            }
            _ => {}
        }
        self.sessions.insert(node, session);
        let mut effects = vec![Effect::SessionBegun { node, session }];
        for topic in self.topics.values().map(Arc::clone).collect::<Vec<_>>() {
            let mut partitions = topic.partitions.clone();
            let changed = partitions.change(
                |partition| partition.has_replica(node),
                |partition| partition.begin_session(node, storage),
            );
            if !changed.is_empty() {
                let (id, name, configs) = (topic.id, topic.name.clone(), topic.configs.clone());
                let topic = Arc::new(Topic { id, name, configs, partitions });
                self.put(Arc::clone(&topic));
                effects.push(Effect::PartitionsChanged { topic, partitions: changed });
            }
        }
        Ok(effects)
    }
}

fn new_partitions(
    topic: &TopicName,
    existing: usize,
    added: &[Replicas],
) -> Result<Vec<Partition>, Refused> {
    if added.is_empty() {
        return Err(Refused::NoPartitions(topic.clone()));
    }
    let total = existing + added.len();
    if PARTITIONS_PER_TOPIC_MAX < total {
        return Err(Refused::TooManyPartitions { name: topic.clone(), asked: total as u64 });
    }
    let refuse = |cause| Refused::Assignment { topic: topic.clone(), cause };
    added.iter().map(|replicas| Partition::new(replicas.clone()).map_err(refuse)).collect()
}

#[cfg(test)]
mod tests;
