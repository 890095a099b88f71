//! Consumer groups: who is a member, who leads, what each consumes, and how far each has come.
//!
//! A group lives on the leader of one partition of `__consumer_offsets`, which holds all that a
//! group must remember. The logic is one pure machine per group (`machine`, with its verbs in the
//! files beside it); the task behind the [`Coordinator`] owns the machines, their timers and their log.

pub(crate) mod configs;
mod consumer;
mod coordinator;
mod effects;
mod expiry;
mod join;
mod leftovers;
mod loader;
mod log;
mod machine;
mod offsets;
mod ops;
mod rebalance;
mod record;
mod restore;
mod roster;
mod session;
mod settings;
mod undecided;
mod view;

pub use consumer::ops::{
    AssignedTopic, ConsumerGroupDescription, ConsumerHeartbeat, ConsumerInstruction,
    ConsumerMemberDescription, JOIN_EPOCH, LEAVE_EPOCH, LEAVE_STATIC_EPOCH, TopicPartitions,
};
pub(crate) use consumer::whole_regex;
pub use coordinator::Coordinator;
pub use log::{OffsetsLog, Topic, TopicList, Topics};
pub use ops::{
    CommitOffsets, CommittedOffset, DeleteOffsets, FetchOffsets, FetchedOffset, GroupDescription,
    GroupListing, GroupState, GroupType, Heartbeat, Join, JoinError, Joined, JoinedMember, Leave,
    LeavingMember, LeftMember, MemberDescription, OffsetToCommit, PartitionResult, Position,
    Protocol, Sync, Synced, Within,
};
pub(crate) use record::spread;
pub use record::{OFFSETS_TOPIC, partition_of};
pub use settings::{MigrationPolicy, Settings};

#[cfg(test)]
mod tests;
