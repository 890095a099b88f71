//! `DescribeGroups`: classic groups with their members.

use rafka_broker::Error;
use rafka_broker::group::{GroupDescription, GroupState, GroupType, MemberDescription};
use rafka_core::ErrorCode;
use rafka_kafka_wire::describe_groups::{DescribedGroup, DescribedGroupMember, Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::DescribeGroups, 0..=6);

/// From here on a group that is not there is an error; before, it is one that is dead.
const NOT_FOUND_FROM: i16 = 6;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let mut groups = Vec::with_capacity(request.groups.len());
    for name in common::once(&request.groups, |name| name) {
        let found = match common::group(name) {
            Ok(group) => gateway.broker.groups().describe(group).await,
            Err(error) => Err(error),
        };
        let found = found.and_then(|group| match group.kind {
            GroupType::Classic => Ok(group),
            // Those have a request of their own, and are not there for this one.
            GroupType::Consumer => Err(ErrorCode::GroupIdNotFound.into()),
        });
        let mut shown = match found {
            Ok(group) => described(group),
            Err(error) => missing(context, error),
        };
        shown.group_id = name.clone();
        groups.push(shown);
    }
    context.answer(&Response { groups, ..Response::default() })
}

fn missing(context: &Context, error: Error) -> DescribedGroup<'static> {
    let group_state = GroupState::Dead.name().into();
    if error.code == ErrorCode::GroupIdNotFound && context.version < NOT_FOUND_FROM {
        return DescribedGroup { group_state, ..DescribedGroup::default() };
    }
    let error_message = (NOT_FOUND_FROM <= context.version).then_some(error.message);
    let error_code = error.code.code();
    DescribedGroup { error_code, error_message, group_state, ..DescribedGroup::default() }
}

fn described(group: GroupDescription) -> DescribedGroup<'static> {
    let member = |member: MemberDescription| DescribedGroupMember {
        member_id: member.id.into(),
        group_instance_id: member.instance.map(Into::into),
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    };
    DescribedGroup {
        group_state: group.state.name().into(),
        protocol_type: group.protocol_type.unwrap_or_default().into(),
        protocol_data: group.protocol.unwrap_or_default().into(),
        members: group.members.into_iter().map(member).collect(),
        ..DescribedGroup::default()
    }
}
