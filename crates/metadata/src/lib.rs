//! What the cluster has agreed on, as state machines: nodes, topics, partitions, configs.
//!
//! The state is divided into groups: the root and a number of shards. Each is a pure machine that
//! commands change, and that its snapshot and the commands since rebuild. [`Metadata`] has commands
//! agreed on, which today means: made durable by the one writer of this node. A [`View`] shows the
//! result.

pub mod codec;
mod effect;
mod error;
mod group;
pub mod inspect;
mod metadata;
mod ops;
mod partition;
mod placement;
mod refused;
pub mod root;
mod settings;
pub mod shard;
mod state;
mod store;
mod topic;
pub mod topic_config;
mod view;
mod writer;

pub use effect::Effect;
pub use error::{OpenError, Outcome, ProposeError};
pub use group::{Group, InvalidShardCount, ShardCount, ShardIndex, ring_position};
pub use metadata::{Committer, Metadata, StopError};
pub use ops::{CreatePartitions, CreateTopic};
pub use partition::{
    Assignment, InvalidAssignment, Partition, PartitionEpoch, REPLICAS_MAX, Replica, Replicas,
    StorageEpoch,
};
pub use refused::Refused;
pub use root::{Address, Addresses, Member, Root, SessionEpoch};
pub use settings::Settings;
pub use shard::Shard;
pub use state::{Command, RestoreError, State};
pub use store::Error as StoreError;
pub use topic::{PARTITIONS_PER_TOPIC_MAX, Partitions, REPLICAS_PER_NODE_MAX, Topic};
pub use view::View;
pub use writer::{Observer, Place};
