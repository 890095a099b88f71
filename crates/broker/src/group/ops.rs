//! Pure: what gateways ask of consumer groups, and the answers: plain values, no protocol's own.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use rafka_core::{
    Epoch, ErrorCode, GroupId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp,
    TopicName,
};

use crate::Error;

/// A way of sharing work out that a member knows, with what it says to the leader under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// The assignor's name.
    pub name: String,
    /// For consumers: a `Subscription` of the consumer protocol. Never read here, only passed on.
    pub metadata: Bytes,
}

/// A member asks to take part in the next generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The group.
    pub group: GroupId,
    /// The member's id, empty if it has none yet.
    pub member: String,
    /// The member's static identity (KIP-345), if it has one.
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// After how much silence the member is taken for dead.
    pub session_timeout: Duration,
    /// How long a rebalance waits for this member to join again.
    pub rebalance_timeout: Duration,
    /// What the members do; `consumer` for consumers. All members name the same.
    pub protocol_type: String,
    /// What the member can do, what it likes best first.
    pub protocols: Vec<Protocol>,
    /// Whether a newcomer is first given an id to join again with (KIP-394), so that joins whose
    /// answer was lost leave no ghosts behind.
    pub member_id_required: bool,
    /// Whether the client understands [`Joined::skip_assignment`].
    pub skip_assignment_known: bool,
}

/// The generation that a member is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Its number, from 1 on.
    pub generation: i32,
    /// What the members do.
    pub protocol_type: String,
    /// The protocol that was voted for.
    pub protocol: String,
    /// Who shares the work out.
    pub leader: String,
    /// The member that this answers.
    pub member: String,
    /// Whether the leader need not share anything out: the assignment before still stands.
    pub skip_assignment: bool,
    /// All members, for the leader; nothing for the others.
    pub members: Vec<JoinedMember>,
}

/// What the leader learns of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub id: String,
    /// Its static identity.
    pub instance: Option<String>,
    /// What it says under the chosen protocol.
    pub metadata: Bytes,
}

/// Why a member did not join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It shall join again at once, with this id.
    #[error("the member must join again with the id {member}")]
    MemberIdRequired {
        /// The id.
        member: String,
    },
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// A member asks for its assignment; the leader brings everyone's along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member: String,
    /// Its static identity.
    pub instance: Option<String>,
    /// The generation it joined.
    pub generation: i32,
    /// The protocol type it knows of, if it says.
    pub protocol_type: Option<String>,
    /// The protocol it knows of, if it says.
    pub protocol: Option<String>,
    /// From the leader: the assignment of each member. Members left out get an empty one.
    pub assignments: Vec<(String, Bytes)>,
}

/// What a member shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// What the members do.
    pub protocol_type: String,
    /// The protocol of the generation.
    pub protocol: String,
    /// For consumers: an `Assignment` of the consumer protocol.
    pub assignment: Bytes,
}

/// A member shows that it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member: String,
    /// Its static identity.
    pub instance: Option<String>,
    /// The generation it is in.
    pub generation: i32,
}

/// Members leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leave {
    /// The group.
    pub group: GroupId,
    /// Who leaves.
    pub members: Vec<LeavingMember>,
}

/// A member that leaves, by its id, or by its static identity alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    /// Its id; may be empty if the instance is named.
    pub id: String,
    /// Its static identity.
    pub instance: Option<String>,
}

/// What became of a member that wanted to leave. In the order of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    /// As in the request.
    pub member: LeavingMember,
    /// Whether it left, or why not.
    pub result: Result<(), ErrorCode>,
}

/// A group has come so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOffsets {
    /// The group.
    pub group: GroupId,
    /// The member; empty for a consumer that is in no group, and for an operator.
    pub member: String,
    /// Its static identity.
    pub instance: Option<String>,
    /// The generation it is in, or the epoch of a next-generation member; -1 for a consumer that is
    /// in no group, and for an operator.
    pub generation: i32,
    /// The offsets. Whether the topics exist is not looked at here.
    pub offsets: Vec<OffsetToCommit>,
}

/// The transaction that offsets are committed in: they count once it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Within {
    /// Whose transaction it is.
    pub producer: ProducerId,
    /// The producer's epoch.
    pub epoch: ProducerEpoch,
    /// Where the producer's last marker was in the group's partition of `__consumer_offsets` when its
    /// transaction was known to be open. If there is another by the time of the commit, it has ended.
    pub since: Option<Offset>,
}

/// How far a group has come in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// What is committed.
    pub committed: CommittedOffset,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to consume.
    pub offset: Offset,
    /// The leader epoch of the last record consumed, if the client knew it.
    pub leader_epoch: Option<Epoch>,
    /// A text of the client's own.
    pub metadata: String,
}

/// What became of one partition of a commit or of a deletion of offsets. In the request's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionResult {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// Whether it was done, or why not.
    pub result: Result<(), ErrorCode>,
}

/// How far has a group come?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOffsets {
    /// The group. One that is not known has committed nothing.
    pub group: GroupId,
    /// Where; everything that it has committed if absent.
    pub partitions: Option<Vec<(TopicName, PartitionIndex)>>,
    /// The next-generation member that asks, and the epoch it is in, if it says: only then is it
    /// checked to be current. Members of classic groups are not.
    pub member: Option<(String, i32)>,
    /// Whether to be told of offsets that a transaction is about to change (KIP-447).
    pub require_stable: bool,
}

/// How far a group has come in one partition. In the order of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// What it committed last, if anything that is still kept. Kafka says -1 for nothing.
    pub committed: Option<CommittedOffset>,
    /// A transaction that is open may change it: ask again. Never so if that was not asked for.
    pub is_unstable: bool,
}

/// A group shall forget how far it had come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteOffsets {
    /// The group.
    pub group: GroupId,
    /// Where. Partitions without an offset are fine.
    pub partitions: Vec<(TopicName, PartitionIndex)>,
}

/// The state of a group, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// No members, maybe offsets.
    Empty,
    /// The members are asked to join the next generation.
    PreparingRebalance,
    /// The generation is complete; the leader shares the work out.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// The group is being deleted.
    Dead,
    /// Of a next-generation group: the target assignment is not made yet.
    Assigning,
    /// Of a next-generation group: some member does not own yet what it shall own.
    Reconciling,
}

impl GroupState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Empty,
        Self::PreparingRebalance,
        Self::CompletingRebalance,
        Self::Stable,
        Self::Dead,
        Self::Assigning,
        Self::Reconciling,
    ];

    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
        }
    }

    /// The state that Kafka calls so, in any case of letters.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which protocol the members of a group speak, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupType {
    /// They share the work out among themselves.
    Classic,
    /// The coordinator shares it out (KIP-848).
    Consumer,
}

impl GroupType {
    /// Every type.
    pub const ALL: [Self; 2] = [Self::Classic, Self::Consumer];

    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }

    /// The type that Kafka calls so, in any case of letters.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// The group.
    pub group: GroupId,
    /// What its members do; none if it never had a member.
    pub protocol_type: Option<String>,
    /// Its state.
    pub state: GroupState,
    /// Which protocol its members speak. Classic for one that never had a member.
    pub kind: GroupType,
}

/// A group at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// The group.
    pub group: GroupId,
    /// Which protocol its members speak. More is known of a next-generation group: see
    /// `Coordinator::describe_consumers`.
    pub kind: GroupType,
    /// Its state.
    pub state: GroupState,
    /// What its members do; none if it never had a member.
    pub protocol_type: Option<String>,
    /// The protocol of this generation, or the assignor of a next-generation group.
    pub protocol: Option<String>,
    /// The number of this generation, or the epoch of a next-generation group; 0 if there never was one.
    pub generation: i32,
    /// Who shares the work out.
    pub leader: Option<String>,
    /// The members, by id.
    pub members: Vec<MemberDescription>,
}

/// A member at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub id: String,
    /// Its static identity.
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// What it said when it joined. Empty unless the group is stable.
    pub metadata: Bytes,
    /// What it was given. Empty unless the group is stable.
    pub assignment: Bytes,
}

/// A committed offset with its group: what lag is computed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The group.
    pub group: GroupId,
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// The next offset to consume.
    pub offset: Offset,
    /// When it was committed.
    pub committed_at: Timestamp,
}
