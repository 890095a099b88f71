//! The member of a group that a subscription is: joins, assigns if it leads, commits, leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rafka_broker::group::{
    CommitOffsets, CommittedOffset, Coordinator, Heartbeat, Join, JoinError, Joined, JoinedMember,
    Leave, LeavingMember, OffsetToCommit, Protocol, Sync, Synced,
};
use rafka_broker::{Error, TopicRef};
use rafka_core::assignor;
use rafka_core::consumer_protocol::{
    Assignment, PROTOCOL_TYPE, Subscription as Wanted, TopicPartitions,
};
use rafka_core::{ErrorCode, Offset, PartitionIndex, TopicName};

use super::Subscription;
use crate::gateway::Gateway;

/// A partition that the member owns.
pub(super) type Owned = (TopicName, PartitionIndex);

/// The member.
pub(super) struct Member {
    gateway: Arc<Gateway>,
    subscription: Subscription,
    /// Empty until the group has given one.
    id: String,
    generation: i32,
    /// As leader: the partition counts that the assignment was made for.
    assigned_for: Option<BTreeMap<TopicName, u32>>,
}

/// Why the member is in no generation at the moment.
#[derive(Debug)]
pub(super) enum Setback {
    /// It is to join again at once.
    Rejoin,
    /// The coordinator cannot be asked just now.
    Later(Error),
    /// It cannot be a member.
    Refused(Error),
}

impl Setback {
    fn of(error: Error) -> Self {
        match error.code {
            ErrorCode::RebalanceInProgress
            | ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::MemberIdRequired => Self::Rejoin,
            code if code.is_retriable() => Self::Later(error),
            _ => Self::Refused(error),
        }
    }
}

impl Member {
    pub(super) fn new(gateway: Arc<Gateway>, subscription: Subscription) -> Self {
        Self { gateway, subscription, id: String::new(), generation: -1, assigned_for: None }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn generation(&self) -> i32 {
        self.generation
    }

    fn groups(&self) -> &Coordinator {
        self.gateway.broker.groups()
    }

    /// Becomes part of the next generation, and learns what it owns there.
    ///
    /// # Cancel safety
    /// Cancelled, it counts as joining until its session times out or it leaves.
    pub(super) async fn join(&mut self) -> Result<BTreeSet<Owned>, Setback> {
        let joined = self.groups().join(self.joining()?).await;
        let joined = match joined {
            Ok(joined) => joined,
            Err(JoinError::MemberIdRequired { member }) => {
                self.id = member;
                return Err(Setback::Rejoin);
            }
            Err(JoinError::Failed(error)) => return Err(self.set_back(error)),
        };
        self.id.clone_from(&joined.member);
        self.generation = joined.generation;
        let leads = joined.leader == joined.member;
        self.assigned_for = leads.then(|| self.partition_counts(&joined.members));
        let assignments = match &self.assigned_for {
            Some(counts) if !joined.skip_assignment => shares(counts, &joined)?,
            _ => Vec::new(),
        };
        let sync = Sync {
            group: self.subscription.group.clone(),
            member: self.id.clone(),
            instance: self.subscription.instance.clone(),
            generation: self.generation,
            protocol_type: Some(joined.protocol_type),
            protocol: Some(joined.protocol),
            assignments,
        };
        match self.groups().sync(sync).await {
            Ok(Synced { assignment, .. }) => owned(&assignment),
            Err(error) => Err(self.set_back(error)),
        }
    }

    fn joining(&self) -> Result<Join, Setback> {
        let subscription = &self.subscription;
        let topics = subscription.topics.iter().map(ToString::to_string).collect();
        let metadata = Wanted::new(topics).encode().map_err(unwritable)?;
        let name = subscription.assignor.name().to_owned();
        Ok(Join {
            group: subscription.group.clone(),
            member: self.id.clone(),
            instance: subscription.instance.clone(),
            client_id: subscription.client_id.clone(),
            client_host: subscription.client_host.clone(),
            session_timeout: subscription.session_timeout,
            rebalance_timeout: subscription.rebalance_timeout,
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocols: vec![Protocol { name, metadata }],
            member_id_required: true,
            skip_assignment_known: true,
        })
    }

    /// Shows that the member lives. As leader it also asks for a rebalance if topics have grown.
    pub(super) async fn heartbeat(&mut self) -> Result<(), Setback> {
        let beat = Heartbeat {
            group: self.subscription.group.clone(),
            member: self.id.clone(),
            instance: self.subscription.instance.clone(),
            generation: self.generation,
        };
        let beaten = self.groups().heartbeat(beat).await;
        beaten.map_err(|error| self.set_back(error))?;
        match &self.assigned_for {
            Some(counts) if *counts != self.counts(counts.keys()) => Err(Setback::Rejoin),
            _ => Ok(()),
        }
    }

    /// Commits how far the member has come.
    pub(super) async fn commit(
        &mut self,
        offsets: &BTreeMap<Owned, Offset>,
    ) -> Result<(), Setback> {
        let offset = |((topic, partition), offset): (&Owned, &Offset)| OffsetToCommit {
            topic: topic.clone(),
            partition: *partition,
            committed: CommittedOffset {
                offset: *offset,
                leader_epoch: None,
                metadata: String::new(),
            },
        };
        let commit = CommitOffsets {
            group: self.subscription.group.clone(),
            member: self.id.clone(),
            instance: self.subscription.instance.clone(),
            generation: self.generation,
            offsets: offsets.iter().map(offset).collect(),
        };
        let committed = self.groups().commit_offsets(commit).await;
        let results = committed.map_err(|error| self.set_back(error))?;
        // A partition that is gone is passed over; what may be committed later is tried again.
        let later = results
            .iter()
            .filter_map(|partition| partition.result.err())
            .find(|code| code.is_retriable() && *code != ErrorCode::UnknownTopicOrPartition);
        later.map_or(Ok(()), |code| Err(self.set_back(code.into())))
    }

    /// Leaves the group, unless it is a static member, which is awaited back.
    pub(super) async fn leave(self) {
        if self.id.is_empty() || self.subscription.instance.is_some() {
            return;
        }
        let leaving = LeavingMember { id: self.id.clone(), instance: None };
        let group = self.subscription.group.clone();
        if let Err(error) = self.groups().leave(Leave { group, members: vec![leaving] }).await {
            // The session timeout then does it.
            tracing::debug!(group = %self.subscription.group, %error, "member did not leave");
        }
    }

    /// What an error means for the member, who forgets an id that the group does not know.
    fn set_back(&mut self, error: Error) -> Setback {
        if error.code == ErrorCode::UnknownMemberId {
            self.id.clear();
        }
        Setback::of(error)
    }

    /// The partition counts of all topics that some member wants. Those that do not exist count 0.
    fn partition_counts(&self, members: &[JoinedMember]) -> BTreeMap<TopicName, u32> {
        let wanted: BTreeSet<TopicName> = members
            .iter()
            .flat_map(|member| topics_of(&member.metadata))
            .filter_map(|topic| TopicName::new(&topic).ok())
            .collect();
        self.counts(wanted.iter())
    }

    fn counts<'a>(&self, topics: impl Iterator<Item = &'a TopicName>) -> BTreeMap<TopicName, u32> {
        let count = |topic: &TopicName| {
            let named = TopicRef::Name(topic.clone());
            (topic.clone(), self.gateway.broker.partition_count(&named).unwrap_or(0))
        };
        topics.map(count).collect()
    }
}

/// The topics a member asks for. A member that says it unreadably gets nothing.
fn topics_of(metadata: &Bytes) -> Vec<String> {
    Wanted::decode(metadata).map(|wanted| wanted.topics).unwrap_or_default()
}

/// Everyone's assignment, by the protocol that the group chose.
fn shares(
    counts: &BTreeMap<TopicName, u32>,
    joined: &Joined,
) -> Result<Vec<(String, Bytes)>, Setback> {
    let chosen = assignor::Assignor::from_name(&joined.protocol).ok_or_else(|| {
        let message = format!("the group chose the assignor {:?}, unknown here", joined.protocol);
        Setback::Refused(Error::new(ErrorCode::InconsistentGroupProtocol, message))
    })?;
    let member = |member: &JoinedMember| {
        assignor::Member::new(member.id.clone(), member.instance.clone(), &member.metadata)
    };
    let members: Vec<assignor::Member> = joined.members.iter().map(member).collect();
    let share = |(id, partitions): (String, assignor::Partitions)| {
        let of_topic = |(topic, partitions): (TopicName, Vec<PartitionIndex>)| TopicPartitions {
            topic: topic.to_string(),
            partitions,
        };
        let partitions = partitions.into_iter().map(of_topic).collect();
        let assignment = Assignment { partitions, user_data: None };
        Ok((id, assignment.encode().map_err(unwritable)?))
    };
    chosen.assign(counts, &members).into_iter().map(share).collect()
}

fn owned(assignment: &Bytes) -> Result<BTreeSet<Owned>, Setback> {
    // Who was left out by the leader gets no bytes at all.
    if assignment.is_empty() {
        return Ok(BTreeSet::new());
    }
    let assignment = Assignment::decode(assignment).map_err(|error| {
        let message = format!("the leader's assignment cannot be read: {error}");
        Setback::Refused(Error::new(ErrorCode::InconsistentGroupProtocol, message))
    })?;
    let mut owned = BTreeSet::new();
    for TopicPartitions { topic, partitions } in assignment.partitions {
        if let Ok(topic) = TopicName::new(&topic) {
            owned.extend(partitions.into_iter().map(|partition| (topic.clone(), partition)));
        }
    }
    Ok(owned)
}

fn unwritable(error: rafka_core::consumer_protocol::Error) -> Setback {
    Setback::Refused(Error::new(ErrorCode::InvalidRequest, error.to_string()))
}
