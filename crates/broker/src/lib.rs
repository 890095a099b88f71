//! The engine of a node: partitions, groups, and the operations that all gateways call.
//!
//! A gateway translates its protocol into these operations and back, and has no path of its own.
//! Nothing here knows Kafka's, gRPC's or HTTP's bytes.

mod broker;
mod budget;
mod calendar;
mod connections;
mod error;
pub mod fetch;
mod follower;
pub mod group;
mod group_configs;
pub mod log_dir;
mod markers;
mod node_configs;
pub mod offsets;
mod partition;
mod pending;
pub mod produce;
mod producer_budget;
mod registrations;
mod settings;
pub mod stats;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod topic_ref;
pub mod topics;
pub mod transaction;

pub use broker::{Broker, Parts, StartError};
pub use budget::{Budget, Room};
pub use connections::{Admission, Connections};
pub use error::{Error, RECORDS_TOLD_MAX, RefusedRecord};
pub use follower::Follower;
pub use group_configs::GroupConfig;
pub use markers::Markers;
pub use node_configs::{NodeConfig, NodeConfigKind};
pub use pending::Pending;
pub use registrations::Registrations;
pub use settings::Settings;
pub use table::PartitionTable;
pub use topic_ref::TopicRef;

/// The name under which a node's addresses list its native gRPC listener.
pub const LISTENER_GRPC: &str = "grpc";
/// The name under which a node's addresses list its Kafka listener.
pub const LISTENER_KAFKA: &str = "kafka";
