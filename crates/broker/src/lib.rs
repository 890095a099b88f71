//! The engine of a node: partitions, groups, and the operations that all gateways call.
//!
//! A gateway translates its protocol into these operations and back, and has no path of its own.
//! Nothing here knows Kafka's, gRPC's or HTTP's bytes.

mod error;
pub mod fetch;
pub mod offsets;
mod partition;
mod pending;
pub mod produce;
pub mod stats;
mod table;
mod topic_ref;
pub mod topics;

pub use error::Error;
pub use pending::Pending;
pub use table::PartitionTable;
pub use topic_ref::TopicRef;
