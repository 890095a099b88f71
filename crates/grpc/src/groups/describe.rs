//! DescribeGroups: members with what they own, and how far behind the group is.

use std::collections::BTreeMap;

use rafka_broker::fetch::Isolation;
use rafka_broker::group::{
    CommittedOffset, ConsumerMemberDescription, FetchOffsets, FetchedOffset, GroupDescription,
    GroupType, MemberDescription,
};
use rafka_broker::offsets::{self, Found, Spec};
use rafka_broker::{Broker, Error, TopicRef};
use rafka_core::consumer_protocol::{Assignment, PROTOCOL_TYPE};
use rafka_core::{GroupId, PartitionIndex, TopicName};
use rafka_proto::v1::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedMember, GroupOffset,
    GroupState, TopicPartition,
};
use tonic::Status;

use super::admin;
use super::check_groups;
use crate::convert;

type Partition = (TopicName, PartitionIndex);

/// How a group and a partition are related.
#[derive(Debug, Default)]
struct Progress {
    committed: Option<CommittedOffset>,
    member: String,
}

pub(super) async fn describe(
    broker: &Broker,
    request: DescribeGroupsRequest,
) -> Result<DescribeGroupsResponse, Status> {
    check_groups(request.groups.len())?;
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let described = match convert::group_id(&group) {
            Ok(id) => describe_one(broker, id).await,
            Err(error) => Err(error),
        };
        groups.push(described.unwrap_or_else(|error| DescribedGroup {
            group,
            error: Some(convert::error(&error)),
            state: GroupState::Unknown.into(),
            generation: -1,
            ..DescribedGroup::default()
        }));
    }
    Ok(DescribeGroupsResponse { groups })
}

async fn describe_one(broker: &Broker, group: GroupId) -> Result<DescribedGroup, Error> {
    let description = broker.groups().describe(group.clone()).await?;
    let everything = FetchOffsets {
        group: group.clone(),
        partitions: None,
        member: None,
        require_stable: false,
    };
    let committed = broker.groups().fetch_offsets(everything).await?;
    let members: Vec<DescribedMember> = match description.kind {
        GroupType::Classic => {
            description.members.iter().map(|member| shown(&description, member)).collect()
        }
        GroupType::Consumer => {
            let described = broker.groups().describe_consumers(group).await?;
            described.members.into_iter().map(shown_consumer).collect()
        }
    };
    let progress = progress(committed, &members);
    let (starts, ends) = (
        find(broker, &progress, Spec::Earliest).await,
        find(broker, &progress, Spec::Latest).await,
    );
    let offsets = progress.into_iter().zip(starts.into_iter().zip(ends)).map(
        |(((topic, partition), progress), (start, end))| GroupOffset {
            topic: topic.to_string(),
            partition: partition.0,
            offset: progress.committed.as_ref().map_or(-1, |committed| committed.offset.0),
            high_watermark: end.as_ref().map_or(-1, |end| end.offset.0),
            lag: lag(progress.committed.as_ref(), start.as_ref().ok(), end.as_ref().ok()),
            metadata: progress.committed.map(|committed| committed.metadata).unwrap_or_default(),
            member_id: progress.member,
        },
    );
    Ok(DescribedGroup {
        offsets: offsets.collect(),
        members,
        group: description.group.to_string(),
        error: None,
        state: admin::state(description.state).into(),
        r#type: admin::kind(description.kind).into(),
        protocol_type: description.protocol_type.unwrap_or_default(),
        protocol: description.protocol.unwrap_or_default(),
        generation: if description.generation == 0 { -1 } else { description.generation },
    })
}

fn shown_consumer(member: ConsumerMemberDescription) -> DescribedMember {
    let mut assignment = Vec::new();
    for owned in member.assigned {
        assignment.extend(owned.partitions.into_iter().map(|partition| TopicPartition {
            topic: owned.name.to_string(),
            partition: partition.0,
        }));
    }
    DescribedMember {
        member_id: member.id,
        instance_id: member.instance,
        client_id: member.client_id,
        client_host: member.client_host,
        assignment,
    }
}

fn shown(group: &GroupDescription, member: &MemberDescription) -> DescribedMember {
    let is_consumer = group.protocol_type.as_deref() == Some(PROTOCOL_TYPE);
    let assignment = if is_consumer { owned(member) } else { Vec::new() };
    DescribedMember {
        member_id: member.id.clone(),
        instance_id: member.instance.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        assignment,
    }
}

/// What a member owns; nothing if its assignment cannot be read, which is the members' affair.
fn owned(member: &MemberDescription) -> Vec<TopicPartition> {
    let Ok(assignment) = Assignment::decode(&member.assignment) else { return Vec::new() };
    let mut owned = Vec::new();
    for of_topic in assignment.partitions {
        owned.extend(of_topic.partitions.into_iter().map(|partition| TopicPartition {
            topic: of_topic.topic.clone(),
            partition: partition.0,
        }));
    }
    owned
}

/// Everything that the group has committed or owns.
fn progress(
    committed: Vec<FetchedOffset>,
    members: &[DescribedMember],
) -> BTreeMap<Partition, Progress> {
    let mut progress: BTreeMap<Partition, Progress> = BTreeMap::new();
    for FetchedOffset { topic, partition, committed, .. } in committed {
        progress.entry((topic, partition)).or_default().committed = committed;
    }
    for member in members {
        for TopicPartition { topic, partition } in &member.assignment {
            let Ok(topic) = TopicName::new(topic) else { continue };
            let entry = progress.entry((topic, PartitionIndex(*partition))).or_default();
            entry.member.clone_from(&member.member_id);
        }
    }
    progress
}

async fn find(
    broker: &Broker,
    progress: &BTreeMap<Partition, Progress>,
    spec: Spec,
) -> Vec<Result<Found, Error>> {
    let question = |(topic, partition): &Partition| offsets::Request {
        topic: TopicRef::Name(topic.clone()),
        partition: *partition,
        spec,
        isolation: Isolation::ReadUncommitted,
        leader_epoch: None,
    };
    broker.list_offsets(progress.keys().map(question).collect()).await
}

/// How many records are not yet consumed; -1 if that cannot be told.
fn lag(committed: Option<&CommittedOffset>, start: Option<&Found>, end: Option<&Found>) -> i64 {
    let (Some(start), Some(end)) = (start, end) else { return -1 };
    let from = committed.map_or(start.offset, |committed| committed.offset.max(start.offset));
    (end.offset - from).max(0)
}

#[cfg(test)]
mod tests {
    use rafka_core::{Epoch, Offset, Timestamp};

    use super::*;

    #[test]
    fn lag_counts_what_can_still_be_consumed() {
        let found = |offset| Found {
            offset: Offset(offset),
            timestamp: Timestamp::NONE,
            leader_epoch: Epoch(0),
        };
        let check = |committed: Option<i64>, expected| {
            let committed = committed.map(|offset| CommittedOffset {
                offset: Offset(offset),
                leader_epoch: None,
                metadata: String::new(),
            });
            let found = lag(committed.as_ref(), Some(&found(10)), Some(&found(50)));
            assert_eq!(found, expected, "{committed:?}");
        };
        check(None, 40);
        check(Some(10), 40);
        check(Some(30), 20);
        check(Some(50), 0);
        // Records below the start are gone, and offsets above the end were committed by somebody
        // who knew of more, before the topic was made anew.
        check(Some(3), 40);
        check(Some(60), 0);
        assert_eq!(lag(None, None, Some(&found(50))), -1);
    }
}
