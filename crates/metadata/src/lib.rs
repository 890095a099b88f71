//! What the cluster has agreed on, as state machines: nodes, topics, partitions, configs.
//!
//! The state is divided into groups: the root and a number of shards. Each is a pure machine that
//! commands change, and that its snapshot and the commands since rebuild.

pub mod codec;
mod effect;
mod group;
mod partition;
mod refused;
pub mod root;
pub mod shard;
mod topic;
pub mod topic_config;

pub use effect::Effect;
pub use group::{Group, InvalidShardCount, ShardCount, ShardIndex, ring_position};
pub use partition::{
    Assignment, InvalidAssignment, Partition, PartitionEpoch, REPLICAS_MAX, Replica, Replicas,
    StorageEpoch,
};
pub use refused::Refused;
pub use root::{Address, Addresses, Member, Root, SessionEpoch};
pub use shard::Shard;
pub use topic::{PARTITIONS_PER_TOPIC_MAX, Partitions, REPLICAS_PER_NODE_MAX, Topic};
