//! `ConsumerGroupDescribe`: next-generation groups (KIP-848) with their members.

use rafka_broker::Error;
use rafka_broker::group::{
    AssignedTopic, ConsumerGroupDescription, ConsumerMemberDescription, GroupState,
};
use rafka_kafka_wire::consumer_group_describe::{
    Assignment, DescribedGroup, Member, Request, Response, TopicPartitions,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::ConsumerGroupDescribe, 0..=1);

/// From here on clients are told which protocol a member speaks.
const MEMBER_TYPE_FROM: i16 = 1;

/// Kafka's numbers for that.
const UNKNOWN: i8 = -1;
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for name in common::once(&request.group_ids, |name| name) {
        let found = match common::group(name) {
            Ok(group) => gateway.broker.groups().describe_consumers(group).await,
            Err(error) => Err(error),
        };
        let mut shown = match found {
            Ok(group) => described(context, group),
            Err(error) => missing(error),
        };
        shown.group_id = name.clone();
        groups.push(shown);
    }
    context.answer(&Response { groups, ..Response::default() })
}

fn missing(error: Error) -> DescribedGroup<'static> {
    DescribedGroup {
        error_code: error.code.code(),
        error_message: Some(error.message),
        group_state: GroupState::Dead.name().into(),
        ..DescribedGroup::default()
    }
}

fn described(context: &Context, group: ConsumerGroupDescription) -> DescribedGroup<'static> {
    DescribedGroup {
        group_state: group.state.name().into(),
        group_epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        assignor_name: group.assignor.into(),
        members: group.members.into_iter().map(|one| member(context, one)).collect(),
        ..DescribedGroup::default()
    }
}

fn member(context: &Context, member: ConsumerMemberDescription) -> Member<'static> {
    let member_type = match member.is_classic {
        _ if context.version < MEMBER_TYPE_FROM => UNKNOWN,
        true => CLASSIC,
        false => CONSUMER,
    };
    Member {
        member_id: member.id.into(),
        instance_id: member.instance.map(Into::into),
        rack_id: member.rack.map(Into::into),
        member_epoch: member.epoch,
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        subscribed_topic_names: member
            .topics
            .iter()
            .map(|name| name.as_str().to_owned().into())
            .collect(),
        subscribed_topic_regex: member.regex.map(Into::into),
        assignment: assignment(member.assigned),
        target_assignment: assignment(member.target),
        member_type,
    }
}

fn assignment(topics: Vec<AssignedTopic>) -> Assignment<'static> {
    let topic = |topic: AssignedTopic| TopicPartitions {
        topic_id: topic.id.0,
        topic_name: topic.name.as_str().to_owned().into(),
        partitions: topic.partitions.into_iter().map(|partition| partition.0).collect(),
    };
    Assignment { topic_partitions: topics.into_iter().map(topic).collect() }
}
