//! Pure: why a command was not done.

use rafka_core::{ErrorCode, NodeId, PartitionIndex, TopicId, TopicName};

use crate::group::ShardIndex;
use crate::partition::{InvalidAssignment, PartitionEpoch};
use crate::root::{CONFIGURED_GROUPS_MAX, SessionEpoch};
use crate::topic::{PARTITIONS_PER_TOPIC_MAX, REPLICAS_PER_NODE_MAX};
use crate::topic_config::InvalidConfig;

/// A command that contradicts what is agreed on. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The cluster was founded already, perhaps by another node.
    #[error("the cluster is founded already")]
    AlreadyFounded,
    /// The root group does not exist yet.
    #[error("the cluster is not founded yet")]
    NotFounded,
    /// The node is not a member.
    #[error("node {0} is not a member of the cluster")]
    UnknownNode(NodeId),
    /// The node has begun a newer session: this command is late.
    #[error("session {asked} of node {node} is over: the current one is {current}")]
    StaleSession {
        /// The node.
        node: NodeId,
        /// The session that the command names.
        asked: SessionEpoch,
        /// The session that was begun.
        current: SessionEpoch,
    },
    /// All numbers of a kind were given out.
    #[error("there are no {0} left")]
    Exhausted(&'static str),
    /// There are not so many shards.
    #[error("there is no shard {0}")]
    UnknownShard(ShardIndex),
    /// The topic's name falls on the arc of another shard.
    #[error("topic {name} does not belong to shard {shard}")]
    WrongShard {
        /// The topic.
        name: TopicName,
        /// The shard that was addressed.
        shard: ShardIndex,
    },
    /// A topic of this name exists.
    #[error("topic {0} exists already")]
    TopicExists(TopicName),
    /// A topic exists whose name differs in `.` and `_` alone.
    #[error("topic {name} collides with topic {existing}: names must differ in more than . and _")]
    NameCollides {
        /// The name that was asked for.
        name: TopicName,
        /// The topic that exists.
        existing: TopicName,
    },
    /// The id that was drawn for a topic is in use: the random generator repeats itself.
    #[error("topic id {0} is in use")]
    TopicIdTaken(TopicId),
    /// No topic has this id.
    #[error("there is no topic with id {0}")]
    UnknownTopicId(TopicId),
    /// The topic has no such partition.
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
    },
    /// A topic needs a partition.
    #[error("topic {0} needs at least one partition")]
    NoPartitions(TopicName),
    /// More partitions than a topic may have.
    #[error("topic {name} would have {asked} partitions; {PARTITIONS_PER_TOPIC_MAX} is the most")]
    TooManyPartitions {
        /// The topic.
        name: TopicName,
        /// How many there would be.
        asked: u64,
    },
    /// Partitions can only be added.
    #[error("topic {name} has {current} partitions already; {asked} is not more")]
    NotMorePartitions {
        /// The topic.
        name: TopicName,
        /// How many it has.
        current: usize,
        /// How many were asked for.
        asked: u64,
    },
    /// Partitions were added since the proposer looked.
    #[error("topic {name} has {current} partitions by now: look again before adding to them")]
    PartitionsAddedMeanwhile {
        /// The topic.
        name: TopicName,
        /// How many it has.
        current: usize,
    },
    /// More replicas than a node may hold.
    #[error("node {node} would hold {asked} replicas; {REPLICAS_PER_NODE_MAX} is the most")]
    NodeFull {
        /// The node.
        node: NodeId,
        /// How many there would be.
        asked: u64,
    },
    /// There are not so many nodes, or it is 0.
    #[error(
        "replication factor {asked} of topic {name} is not from 1 to the number of nodes, {nodes}"
    )]
    ReplicationFactor {
        /// The topic.
        name: TopicName,
        /// What was asked for.
        asked: u16,
        /// How many nodes there are.
        nodes: usize,
    },
    /// The partition was changed since the proposer looked.
    #[error("partition {partition} of topic {topic} is at epoch {current}, not {expected}")]
    StalePartitionEpoch {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// The epoch that the change was made for.
        expected: PartitionEpoch,
        /// The epoch that it has.
        current: PartitionEpoch,
    },
    /// The assignment contradicts itself.
    #[error("topic {topic}: {cause}")]
    Assignment {
        /// The topic.
        topic: TopicName,
        /// What is wrong.
        #[source]
        cause: InvalidAssignment,
    },
    /// A config key or value is invalid.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// As many groups as may have configs of their own.
    #[error("{CONFIGURED_GROUPS_MAX} groups have configs of their own, which is the most")]
    TooManyConfiguredGroups,
    /// The command is larger than the log takes.
    #[error("the command takes {bytes} bytes; {max} is the most")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
}

impl Refused {
    /// Kafka's code for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::AlreadyFounded => ErrorCode::InconsistentClusterId,
            Self::NotFounded => ErrorCode::NotController,
            Self::UnknownNode(_) => ErrorCode::BrokerIdNotRegistered,
            Self::StaleSession { .. } => ErrorCode::StaleBrokerEpoch,
            Self::Exhausted(_) | Self::TopicIdTaken(_) => ErrorCode::UnknownServer,
            Self::UnknownShard(_) | Self::WrongShard { .. } | Self::TooLarge { .. } => {
                ErrorCode::InvalidRequest
            }
            Self::TopicExists(_) => ErrorCode::TopicAlreadyExists,
            Self::NameCollides { .. } => ErrorCode::InvalidTopic,
            Self::UnknownTopicId(_) => ErrorCode::UnknownTopicId,
            Self::UnknownPartition { .. } => ErrorCode::UnknownTopicOrPartition,
            Self::NoPartitions(_)
            | Self::TooManyPartitions { .. }
            | Self::NotMorePartitions { .. }
            | Self::PartitionsAddedMeanwhile { .. } => ErrorCode::InvalidPartitions,
            Self::NodeFull { .. } | Self::TooManyConfiguredGroups => ErrorCode::PolicyViolation,
            Self::ReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
            Self::StalePartitionEpoch { .. } => ErrorCode::InvalidUpdateVersion,
            Self::Assignment { .. } => ErrorCode::InvalidReplicaAssignment,
            Self::Config(_) => ErrorCode::InvalidConfig,
        }
    }
}
