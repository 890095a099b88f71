//! Topics: what can be asked and said of them.

pub use rafka_metadata::topic_config::{ConfigEntry, Kind, Source};

use rafka_core::{ByteSize, Epoch, NodeId, Offset, PartitionIndex, TopicId, TopicName};
use uuid::Uuid;

/// An order to create a topic.
#[derive(Debug, Clone)]
pub struct Create {
    /// Its name.
    pub name: TopicName,
    /// How many partitions; `None` for the node's `num_partitions`.
    pub partitions: Option<u32>,
    /// How many replicas each; `None` for the cluster's policy.
    pub replication_factor: Option<u16>,
    /// Configuration under Kafka's names.
    pub configs: Vec<(String, String)>,
    /// Only check whether it could be created.
    pub validate_only: bool,
}

/// A topic in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Its name.
    pub name: TopicName,
    /// Its identity.
    pub id: TopicId,
    /// How many partitions it has.
    pub partition_count: usize,
    /// Replicas of each partition.
    pub replication_factor: usize,
    /// Whether it is one of the broker's own.
    pub internal: bool,
}

/// A topic in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: TopicName,
    /// Its identity.
    pub id: TopicId,
    /// Whether it is one of the broker's own.
    pub internal: bool,
    /// Replicas of each partition.
    pub replication_factor: usize,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number.
    pub index: PartitionIndex,
    /// Who leads it.
    pub leader: Option<NodeId>,
    /// The number of that leadership.
    pub leader_epoch: Epoch,
    /// Who keeps it.
    pub replicas: Vec<NodeId>,
    /// Who keeps it and has all that was acknowledged.
    pub isr: Vec<NodeId>,
    /// Where it stands, if this node leads it.
    pub extent: Option<Extent>,
}

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first offset.
    pub log_start: Offset,
    /// Everything below it is visible.
    pub high_watermark: Offset,
    /// The offset that the next record gets.
    pub log_end: Offset,
    /// What it holds.
    pub bytes: ByteSize,
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its identity.
    pub cluster_id: Uuid,
    /// Its nodes, by id.
    pub nodes: Vec<Node>,
    /// The node that clients may take for the controller: any would do.
    pub controller: NodeId,
}

/// A node, as clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// The host that it advertises.
    pub host: String,
    /// The port of the listener that was asked for.
    pub port: u16,
}
