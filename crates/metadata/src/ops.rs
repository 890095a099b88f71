//! What people and gateways ask for, turned into commands.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rafka_core::rng::RngExt as _;
use rafka_core::{GroupId, NodeId, ProducerId, TopicId, TopicName};

use crate::effect::Effect;
use crate::error::ProposeError;
use crate::group::ShardIndex;
use crate::metadata::Metadata;
use crate::partition::{REPLICAS_MAX, Replicas, StorageEpoch};
use crate::placement;
use crate::refused::Refused;
use crate::root::{self, Addresses, SessionEpoch};
use crate::shard::{self, NewTopic};
use crate::state::Command;
use crate::topic::{PARTITIONS_PER_TOPIC_MAX, REPLICAS_PER_NODE_MAX, Topic};
use crate::view::View;

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTopic {
    /// Its name.
    pub name: TopicName,
    /// How many partitions; `None`: as the settings say.
    pub partitions: Option<u32>,
    /// How many copies; `None`: as the settings say, else three or as many as there are nodes.
    pub replication_factor: Option<u16>,
    /// Its configs by name.
    pub configs: BTreeMap<String, String>,
    /// Whether only to find out if it could be created.
    pub validate_only: bool,
}

/// Partitions to add to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreatePartitions {
    /// The topic.
    pub topic: TopicId,
    /// How many it is to have afterwards.
    pub total: u32,
    /// Whether only to find out if they could be added.
    pub validate_only: bool,
}

impl Metadata {
    /// Creates a topic. It comes back as it is, or as it would be.
    ///
    /// # Errors
    /// If it is refused, or cannot be made durable; the variant says whether it was done.
    ///
    /// # Cancel safety
    /// Dropped early, the topic is created or not.
    pub async fn create_topic(&self, create: CreateTopic) -> Result<Arc<Topic>, ProposeError> {
        let view = self.view();
        // Before anything is made for it: the topic's existence is what the caller wants to know.
        if view.topic(&create.name).is_some() {
            return Err(Refused::TopicExists(create.name).into());
        }
        let asked = create.partitions.unwrap_or(self.settings.num_partitions);
        let factor = self.factor(&view, &create)?;
        let partitions = self.place(&view, &create.name, (0, asked), factor)?;
        let id = TopicId::from_random(self.rng.lock().random());
        let shard = view.shard_of(&create.name);
        let topic = NewTopic { id, name: create.name, configs: create.configs, partitions };
        let command = Command::Shard(shard, shard::Command::CreateTopic(topic));
        self.topic_after(&view, id, command, create.validate_only).await
    }

    /// Deletes a topic. It comes back as it was.
    ///
    /// # Errors
    /// If there is no such topic, or it cannot be made durable; the variant says whether it was
    /// done.
    ///
    /// # Cancel safety
    /// Dropped early, the topic is deleted or not.
    pub async fn delete_topic(&self, topic: TopicId) -> Result<Arc<Topic>, ProposeError> {
        let view = self.view();
        let command = to_shard_of(&view, topic, shard::Command::DeleteTopic { topic })?;
        self.topic_after(&view, topic, command, false).await
    }

    /// Says that this node holds nothing any more of these deleted topics ([`View::deleted`]).
    ///
    /// # Errors
    /// If it cannot be made durable; the variant says whether it was done. Saying it again is right.
    ///
    /// # Cancel safety
    /// Dropped early, it was said of all in a shard or of none.
    pub async fn logs_deleted(
        &self,
        topics: impl IntoIterator<Item = (ShardIndex, TopicId)>,
    ) -> Result<(), ProposeError> {
        let node = self.view().node();
        let mut by_shard: BTreeMap<ShardIndex, Vec<TopicId>> = BTreeMap::new();
        for (shard, topic) in topics {
            by_shard.entry(shard).or_default().push(topic);
        }
        for (shard, topics) in by_shard {
            let command = shard::Command::LogsDeleted { node, topics };
            self.propose(Command::Shard(shard, command)).await?;
        }
        Ok(())
    }

    /// Sets configs of a topic; `None` removes one, so that its default holds again.
    ///
    /// # Errors
    /// If one is invalid (then none was changed), there is no such topic, or it cannot be made
    /// durable; the variant says whether it was done.
    ///
    /// # Cancel safety
    /// Dropped early, all are changed or none.
    pub async fn alter_configs(
        &self,
        topic: TopicId,
        changes: BTreeMap<String, Option<String>>,
        validate_only: bool,
    ) -> Result<Arc<Topic>, ProposeError> {
        let view = self.view();
        let command = shard::Command::AlterConfigs { topic, changes };
        let command = to_shard_of(&view, topic, command)?;
        self.topic_after(&view, topic, command, validate_only).await
    }

    /// The settings that this node was started with.
    #[must_use]
    pub fn settings(&self) -> &crate::Settings {
        &self.settings
    }

    /// Sets what topics get that say nothing themselves, by the names of the node
    /// (`log.retention.ms`): on one node, or on all (`None`). A value of `None` removes one.
    ///
    /// # Errors
    /// If one is invalid (then none was changed), there is no such node, or it cannot be made
    /// durable; the variant says whether it was done.
    ///
    /// # Cancel safety
    /// Dropped early, all are changed or none.
    pub async fn alter_node_configs(
        &self,
        node: Option<NodeId>,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<(), ProposeError> {
        let command = root::Command::AlterConfigs { node, changes };
        self.propose(Command::Root(command)).await.map(drop)
    }

    /// Sets configs of a consumer group; a value of `None` removes one. Names and values are not judged
    /// here.
    ///
    /// # Errors
    /// If too many groups have configs, or it cannot be made durable; the variant says whether it was
    /// done.
    ///
    /// # Cancel safety
    /// Dropped early, all are changed or none.
    pub async fn alter_group_configs(
        &self,
        group: GroupId,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<(), ProposeError> {
        let command = root::Command::AlterGroupConfigs { group, changes };
        self.propose(Command::Root(command)).await.map(drop)
    }

    /// Adds partitions to a topic. It comes back as it is, or as it would be.
    ///
    /// # Errors
    /// If it is refused, or cannot be made durable; the variant says whether it was done.
    ///
    /// # Cancel safety
    /// Dropped early, all are added or none.
    pub async fn create_partitions(
        &self,
        create: CreatePartitions,
    ) -> Result<Arc<Topic>, ProposeError> {
        let CreatePartitions { topic: id, total, validate_only } = create;
        let view = self.view();
        let topic = view.topic_by_id(id).ok_or(Refused::UnknownTopicId(id))?;
        let current = topic.partitions.len();
        let Some(count) = u64::from(total).checked_sub(current as u64).filter(|count| *count != 0)
        else {
            let (name, asked) = (topic.name.clone(), u64::from(total));
            return Err(Refused::NotMorePartitions { name, current, asked }.into());
        };
        let first = topic.partitions.iter().next();
        let factor = first.map_or(1, |(_, partition)| partition.replicas().len());
        // At most `total`, which is a u32.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let added = self.place(&view, &topic.name, (current, count), factor)?;
        let command = shard::Command::AddPartitions { topic: id, total, added };
        let command = to_shard_of(&view, id, command)?;
        self.topic_after(&view, id, command, validate_only).await
    }

    /// The next block of producer ids that this node may give out.
    ///
    /// # Errors
    /// If it cannot be made durable. Then the block is nobody's.
    ///
    /// # Cancel safety
    /// Dropped early, a block may be lost, which does no harm.
    pub async fn producer_id_block(&self) -> Result<Range<ProducerId>, ProposeError> {
        let node = self.view().node();
        let command = root::Command::GrantProducerIds { node };
        let outcome = self.propose(Command::Root(command)).await?;
        let granted = outcome.effects.into_iter().find_map(|effect| match effect {
            Effect::ProducerIds(ids) => Some(ids),
            _ => None,
        });
        Ok(granted.expect("the command has no other effect"))
    }

    /// Begins this node's session: the leaderships of its last run end, and those that it keeps go
    /// on under higher epochs. Nothing may be appended before this has returned.
    ///
    /// `is_intact` says whether the data directory still holds all that it promised to keep.
    ///
    /// # Errors
    /// If it cannot be made durable. Then nothing may be appended.
    ///
    /// # Cancel safety
    /// Dropped early, the session has begun in some groups or all. Beginning another is right.
    pub async fn begin_session(
        &self,
        addresses: Addresses,
        is_intact: bool,
    ) -> Result<SessionEpoch, ProposeError> {
        let node = self.view().node();
        let command = root::Command::BeginSession { node, addresses, is_intact };
        self.propose(Command::Root(command)).await?;
        let view = self.view();
        let member = view.members().get(&node).ok_or(Refused::UnknownNode(node))?;
        let (session, storage) = (member.session, member.storage);
        let mut pending = Vec::new();
        // All at once, so that they are made durable together.
        for shard in view.shards() {
            let command = shard::Command::BeginSession { node, session, storage };
            pending.push(self.submit(Command::Shard(shard, command)).await?);
        }
        for answer in pending {
            answer.outcome().await?;
        }
        Ok(session)
    }

    /// The topic that a command leaves behind, or would leave behind.
    async fn topic_after(
        &self,
        view: &View,
        id: TopicId,
        command: Command,
        validate_only: bool,
    ) -> Result<Arc<Topic>, ProposeError> {
        let (effects, after) = if validate_only {
            self.check(&command)?;
            let mut state = view.state().clone();
            (state.apply(&command)?, state)
        } else {
            let effects = self.propose(command).await?.effects;
            (effects, self.view().state().clone())
        };
        let topic = effects.into_iter().find_map(|effect| match effect {
            Effect::TopicCreated(topic)
            | Effect::TopicDeleted(topic)
            | Effect::TopicConfigured(topic)
            | Effect::PartitionsAdded { topic, .. } => Some(topic),
            _ => None,
        });
        // Without an effect all was so already.
        let unchanged = || after.topic_by_id(id).map(|(_, topic)| Arc::clone(topic));
        topic.or_else(unchanged).ok_or_else(|| Refused::UnknownTopicId(id).into())
    }

    fn factor(&self, view: &View, create: &CreateTopic) -> Result<usize, Refused> {
        let nodes = view.members().len();
        let asked = create.replication_factor.or(self.settings.default_replication_factor);
        match asked {
            None => Ok(placement::factor_by_policy(nodes)),
            Some(asked) if 1 <= asked && usize::from(asked) <= nodes.min(REPLICAS_MAX) => {
                Ok(usize::from(asked))
            }
            Some(asked) => {
                let name = create.name.clone();
                Err(Refused::ReplicationFactor { name, asked, nodes })
            }
        }
    }

    /// Replicas for `count` partitions more than `current`.
    fn place(
        &self,
        view: &View,
        name: &TopicName,
        (current, count): (usize, u32),
        factor: usize,
    ) -> Result<Vec<Replicas>, Refused> {
        let asked = current as u64 + u64::from(count);
        let max = PARTITIONS_PER_TOPIC_MAX as u64;
        if max < asked {
            return Err(Refused::TooManyPartitions { name: name.clone(), asked });
        }
        let count = usize::try_from(count).expect("at most PARTITIONS_PER_TOPIC_MAX");
        let nodes: Vec<(NodeId, StorageEpoch)> =
            view.members().iter().map(|(node, member)| (*node, member.storage)).collect();
        let start = self.rng.lock().random_range(0..nodes.len());
        let placed = placement::place(&nodes, count, factor, start);
        for (node, _) in nodes {
            let is_on = |replicas: &&Replicas| replicas.iter().any(|replica| replica.node == node);
            let asked = view.replica_count(node) + placed.iter().filter(is_on).count() as u64;
            if REPLICAS_PER_NODE_MAX < asked {
                return Err(Refused::NodeFull { node, asked });
            }
        }
        Ok(placed)
    }
}

/// Addresses a command about an existing topic.
fn to_shard_of(view: &View, topic: TopicId, command: shard::Command) -> Result<Command, Refused> {
    let (shard, _) = view.state().topic_by_id(topic).ok_or(Refused::UnknownTopicId(topic))?;
    Ok(Command::Shard(shard, command))
}
