//! Pure: what gateways ask of next-generation groups (KIP-848), and the answers.

use std::time::Duration;

use rafka_core::{GroupId, PartitionIndex, TopicId, TopicName};

use crate::group::ops::GroupState;

/// Partitions by their topics, in order.
pub type TopicPartitions = Vec<(TopicId, Vec<PartitionIndex>)>;

/// The member epoch of a member that joins.
pub const JOIN_EPOCH: i32 = 0;

/// The member epoch of a member that leaves.
pub const LEAVE_EPOCH: i32 = -1;

/// The member epoch of a static member that leaves and means to come back.
pub const LEAVE_STATIC_EPOCH: i32 = -2;

/// A member of a next-generation group joins, shows that it lives, tells what changed, or leaves.
///
/// What is absent has not changed since the member's last heartbeat; a member that joins says
/// everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    /// The group.
    pub group: GroupId,
    /// The member's id. A member that joins may leave it empty: then it is given one. (Clients
    /// make it themselves from version 1 of Kafka's request on; there the gateway refuses none.)
    pub member: String,
    /// The epoch the member is in; [`JOIN_EPOCH`], [`LEAVE_EPOCH`] or [`LEAVE_STATIC_EPOCH`].
    pub member_epoch: i32,
    /// The member's static identity (KIP-345), if it has one.
    pub instance: Option<String>,
    /// Where it runs.
    pub rack: Option<String>,
    /// How long the member may take to let go of partitions.
    pub rebalance_timeout: Option<Duration>,
    /// The topics it wants. Names that no topic can have are passed over.
    pub topics: Option<Vec<String>>,
    /// The topics it wants besides: those whose whole names match. Empty for none any more.
    pub regex: Option<String>,
    /// The assignor it would like, by name.
    pub assignor: Option<String>,
    /// The partitions it owns.
    pub owned: Option<TopicPartitions>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
}

/// What a member learns from its heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerInstruction {
    /// Its id.
    pub member: String,
    /// The epoch it is in from now on.
    pub member_epoch: i32,
    /// How often to send a heartbeat. Zero for one that has left.
    pub heartbeat_interval: Duration,
    /// The partitions it shall own, if that is news or the member told everything of itself.
    pub assignment: Option<TopicPartitions>,
}

/// A next-generation group at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroupDescription {
    /// The group.
    pub group: GroupId,
    /// Its state.
    pub state: GroupState,
    /// Rises with every change of the members or of what they want.
    pub epoch: i32,
    /// The group's epoch that the target assignment was made for.
    pub assignment_epoch: i32,
    /// The assignor that is used.
    pub assignor: String,
    /// The members, by id.
    pub members: Vec<ConsumerMemberDescription>,
}

/// A member of a next-generation group at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerMemberDescription {
    /// Its id.
    pub id: String,
    /// Its static identity.
    pub instance: Option<String>,
    /// Where it runs.
    pub rack: Option<String>,
    /// The epoch it is in.
    pub epoch: i32,
    /// Whether it speaks the classic protocol, in a group that is being upgraded.
    pub is_classic: bool,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// The topics it wants by name.
    pub topics: Vec<TopicName>,
    /// The topics it wants by pattern.
    pub regex: Option<String>,
    /// What it owns.
    pub assigned: Vec<AssignedTopic>,
    /// What it shall own.
    pub target: Vec<AssignedTopic>,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedTopic {
    /// The topic's id.
    pub id: TopicId,
    /// Its name. Topics that are gone are left out of descriptions.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<PartitionIndex>,
}
