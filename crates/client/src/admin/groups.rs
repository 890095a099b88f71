//! Consumer groups, from outside.

use std::fmt;
use std::sync::Arc;

use rafka_core::Offset;
use rafka_proto::v1;

use super::Admin;
use crate::convert::{check, only, partition, same_count};
use crate::error::Error;
use crate::node::Node;
use crate::view::TopicPartition;

/// The life of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GroupState {
    /// Of a group that the node does not know, or a state that this client does not know.
    Unknown,
    /// Waiting for members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Consuming.
    Stable,
    /// Gone, or about to be.
    Dead,
    /// Offsets, but no members.
    Empty,
    /// Of a next-generation group: the target assignment is not made yet.
    Assigning,
    /// Of a next-generation group: some member does not own yet what it shall own.
    Reconciling,
}

/// Which protocol the members of a group speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GroupType {
    /// A type that this client does not know.
    Unknown,
    /// They share the work out among themselves.
    Classic,
    /// The node shares it out (KIP-848).
    Consumer,
}

impl From<v1::GroupType> for GroupType {
    fn from(kind: v1::GroupType) -> Self {
        match kind {
            v1::GroupType::Unknown => Self::Unknown,
            v1::GroupType::Classic => Self::Classic,
            v1::GroupType::Consumer => Self::Consumer,
        }
    }
}

impl fmt::Display for GroupType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        })
    }
}

impl From<v1::GroupState> for GroupState {
    fn from(state: v1::GroupState) -> Self {
        match state {
            v1::GroupState::Unknown => Self::Unknown,
            v1::GroupState::PreparingRebalance => Self::PreparingRebalance,
            v1::GroupState::CompletingRebalance => Self::CompletingRebalance,
            v1::GroupState::Stable => Self::Stable,
            v1::GroupState::Dead => Self::Dead,
            v1::GroupState::Empty => Self::Empty,
            v1::GroupState::Assigning => Self::Assigning,
            v1::GroupState::Reconciling => Self::Reconciling,
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Kafka's names.
        f.write_str(match self {
            Self::Unknown => "Unknown",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
        })
    }
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group: String,
    /// `consumer`, or what its members said.
    pub protocol_type: String,
    /// Its state.
    pub state: GroupState,
    /// Which protocol its members speak.
    pub kind: GroupType,
}

/// All about a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group: String,
    /// Its state.
    pub state: GroupState,
    /// `consumer`, or what its members said.
    pub protocol_type: String,
    /// Which protocol its members speak.
    pub kind: GroupType,
    /// How partitions are assigned; empty while rebalancing.
    pub protocol: String,
    /// The number of the present assignment.
    pub generation: i32,
    /// By member id.
    pub members: Vec<MemberDescription>,
    /// By topic and partition: everything that is committed or assigned.
    pub offsets: Vec<GroupOffset>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: String,
    /// Its own name, if it is static.
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// What it owns.
    pub assignment: Vec<TopicPartition>,
}

/// How far a group is in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// What is committed, if anything.
    pub committed: Option<Offset>,
    /// The partition's end, if known.
    pub high_watermark: Option<Offset>,
    /// Records not yet consumed, if known.
    pub lag: Option<u64>,
    /// The text committed with the offset.
    pub metadata: String,
    /// The member that owns the partition.
    pub member_id: Option<String>,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// What is committed, if anything.
    pub offset: Option<Offset>,
    /// The text committed with it.
    pub metadata: String,
}

/// An offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset to be consumed.
    pub offset: Offset,
    /// Any text, kept with it.
    pub metadata: String,
}

pub(crate) fn known(offset: i64) -> Option<Offset> {
    (0 <= offset).then_some(Offset(offset))
}

fn named(partition: &TopicPartition) -> v1::TopicPartition {
    v1::TopicPartition { topic: partition.topic.to_string(), partition: partition.partition.0 }
}

impl Admin {
    /// All groups, by id.
    ///
    /// # Errors
    /// If no node answers in time.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, Error> {
        let operation = "list groups";
        let ask = |node: Arc<Node>| async move {
            node.ask(operation, node.groups().list_groups(v1::ListGroupsRequest::default())).await
        };
        let answer = self.client.call(operation, ask).await?;
        let listing = |group: v1::ListedGroup| GroupListing {
            state: group.state().into(),
            kind: group.r#type().into(),
            group: group.group,
            protocol_type: group.protocol_type,
        };
        Ok(answer.groups.into_iter().map(listing).collect())
    }

    /// Members, assignments, offsets and lag of groups, in the order of the ids.
    ///
    /// # Errors
    /// If no node answers in time. What is wrong with one group is in its place.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn describe_groups(
        &self,
        groups: &[&str],
    ) -> Result<Vec<Result<GroupDescription, Error>>, Error> {
        let operation = "describe groups";
        let ask = |node: Arc<Node>| async move {
            let groups: Vec<String> = groups.iter().copied().map(str::to_owned).collect();
            let request = v1::DescribeGroupsRequest { groups };
            let answer = node.ask(operation, node.groups().describe_groups(request)).await?;
            // While a coordinator loads, all of the call waits for it.
            for described in &answer.groups {
                match check(format_args!("group {}", described.group), described.error.as_ref()) {
                    Err(error) if error.is_retriable() => return Err(error),
                    _ => {}
                }
            }
            Ok(answer)
        };
        let answer = self.client.call(operation, ask).await?;
        let described = same_count(operation, answer.groups, groups.len())?;
        Ok(described.into_iter().map(|group| description(operation, group)).collect())
    }

    /// Deletes a group without members, its offsets included.
    ///
    /// # Errors
    /// With `NON_EMPTY_GROUP`, `GROUP_ID_NOT_FOUND`, or if no node answers in time.
    ///
    /// # Cancel safety
    /// Dropped, the group may have been deleted.
    pub async fn delete_group(&self, group: &str) -> Result<(), Error> {
        let operation = "delete a group";
        let ask = |node: Arc<Node>| async move {
            let request = v1::DeleteGroupsRequest { groups: vec![group.to_owned()] };
            let answer = node.ask(operation, node.groups().delete_groups(request)).await?;
            let deleted = only(operation, answer.groups)?;
            check(format_args!("group {group}"), deleted.error.as_ref())
        };
        self.client.call(operation, ask).await
    }

    /// Forgets committed offsets of a group. The outcomes have the order of the partitions.
    ///
    /// # Errors
    /// With `GROUP_ID_NOT_FOUND`, or if no node answers in time.
    ///
    /// # Cancel safety
    /// Dropped, the offsets may have been forgotten.
    pub async fn delete_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let operation = "delete offsets";
        let ask = |node: Arc<Node>| async move {
            let request = v1::DeleteOffsetsRequest {
                group: group.to_owned(),
                partitions: partitions.iter().map(named).collect(),
            };
            let answer = node.ask(operation, node.groups().delete_offsets(request)).await?;
            check(format_args!("group {group}"), answer.error.as_ref())?;
            same_count(operation, answer.partitions, partitions.len())
        };
        let deleted = self.client.call(operation, ask).await?;
        let outcome = |(partition, result): (&TopicPartition, v1::PartitionResult)| {
            check(partition, result.error.as_ref())
        };
        Ok(partitions.iter().zip(deleted).map(outcome).collect())
    }

    /// What a group has committed: for `partitions`, in their order, or for all if there are none.
    ///
    /// # Errors
    /// If no node answers in time.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn committed_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<CommittedOffset>, Error> {
        self.fetch_offsets(group, partitions, false).await
    }

    /// As [`committed_offsets`](Self::committed_offsets), but waits for the transactions that are
    /// about to change them, as far as the settings allow.
    ///
    /// # Errors
    /// As [`committed_offsets`](Self::committed_offsets), and with `UNSTABLE_OFFSET_COMMIT`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn stable_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<CommittedOffset>, Error> {
        self.fetch_offsets(group, partitions, true).await
    }

    async fn fetch_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        require_stable: bool,
    ) -> Result<Vec<CommittedOffset>, Error> {
        let operation = "fetch committed offsets";
        let ask = |node: Arc<Node>| async move {
            let request = v1::FetchOffsetsRequest {
                group: group.to_owned(),
                partitions: partitions.iter().map(named).collect(),
                require_stable,
            };
            let answer = node.ask(operation, node.groups().fetch_offsets(request)).await?;
            check(format_args!("group {group}"), answer.error.as_ref())?;
            for offset in &answer.partitions {
                check(
                    format_args!("{}/{}", offset.topic, offset.partition),
                    offset.error.as_ref(),
                )?;
            }
            Ok(answer.partitions)
        };
        let answer = self.client.call(operation, ask).await?;
        answer
            .into_iter()
            .map(|committed| {
                Ok(CommittedOffset {
                    partition: partition(operation, &committed.topic, committed.partition)?,
                    offset: known(committed.offset),
                    metadata: committed.metadata,
                })
            })
            .collect()
    }

    /// Commits offsets from outside the group, which must have no members: how offsets are reset.
    ///
    /// # Errors
    /// With `UNKNOWN_MEMBER_ID` while the group has members, or if no node answers in time.
    ///
    /// # Cancel safety
    /// Dropped, the offsets may have been committed.
    pub async fn commit_offsets(&self, group: &str, offsets: &[OffsetCommit]) -> Result<(), Error> {
        let operation = "commit offsets";
        let ask = |node: Arc<Node>| async move {
            let offset = |commit: &OffsetCommit| v1::OffsetToCommit {
                topic: commit.partition.topic.to_string(),
                partition: commit.partition.partition.0,
                offset: commit.offset.0,
                leader_epoch: None,
                metadata: commit.metadata.clone(),
            };
            let request = v1::CommitOffsetsRequest {
                group: group.to_owned(),
                generation: -1,
                offsets: offsets.iter().map(offset).collect(),
                ..Default::default()
            };
            let answer = node.ask(operation, node.groups().commit_offsets(request)).await?;
            check(format_args!("group {group}"), answer.error.as_ref())?;
            for result in &answer.partitions {
                check(
                    format_args!("{}/{}", result.topic, result.partition),
                    result.error.as_ref(),
                )?;
            }
            Ok(())
        };
        self.client.call(operation, ask).await
    }
}

fn description(
    operation: &'static str,
    group: v1::DescribedGroup,
) -> Result<GroupDescription, Error> {
    check(format_args!("group {}", group.group), group.error.as_ref())?;
    let member = |member: v1::DescribedMember| {
        let assignment = member
            .assignment
            .iter()
            .map(|owned| partition(operation, &owned.topic, owned.partition))
            .collect::<Result<_, Error>>()?;
        Ok(MemberDescription {
            member_id: member.member_id,
            instance_id: member.instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            assignment,
        })
    };
    let offset = |offset: v1::GroupOffset| {
        Ok(GroupOffset {
            partition: partition(operation, &offset.topic, offset.partition)?,
            committed: known(offset.offset),
            high_watermark: known(offset.high_watermark),
            lag: u64::try_from(offset.lag).ok(),
            metadata: offset.metadata,
            member_id: (!offset.member_id.is_empty()).then_some(offset.member_id),
        })
    };
    Ok(GroupDescription {
        state: group.state().into(),
        kind: group.r#type().into(),
        members: group.members.into_iter().map(member).collect::<Result<_, Error>>()?,
        offsets: group.offsets.into_iter().map(offset).collect::<Result<_, Error>>()?,
        group: group.group,
        protocol_type: group.protocol_type,
        protocol: group.protocol,
        generation: group.generation,
    })
}
