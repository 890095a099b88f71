//! `JoinGroup`: a member takes part in the next generation.

use std::time::Duration;

use bytes::Bytes;
use rafka_broker::group::{Join, JoinError, Joined, JoinedMember, Protocol};
use rafka_core::ErrorCode;
use rafka_kafka_wire::join_group::{Request, RequestProtocol, Response, ResponseMember};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::JoinGroup, 0..=9);

/// From here on a newcomer is first given its id (KIP-394).
const ID_FIRST_FROM: i16 = 4;
/// From here on a leader is told that it need not assign (KIP-814).
const SKIPS_FROM: i16 = 9;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let joined = match common::group(&request.group_id) {
        Ok(group) => gateway.broker.groups().join(join(group, context, &request)).await,
        Err(error) => Err(JoinError::Failed(error)),
    };
    let refused = |code: ErrorCode, member: String| Response {
        error_code: code.code(),
        generation_id: -1,
        // Only later versions know that there may be none.
        protocol_name: Some("".into()),
        member_id: member.into(),
        ..Response::default()
    };
    context.answer(&match joined {
        Ok(joined) => answered(joined),
        Err(JoinError::MemberIdRequired { member }) => refused(ErrorCode::MemberIdRequired, member),
        Err(JoinError::Failed(error)) => refused(error.code, request.member_id.into_owned()),
    })
}

fn join(group: rafka_core::GroupId, context: &Context, request: &Request<'_>) -> Join {
    let session_timeout = millis(request.session_timeout_ms);
    // Version 0 has no such limit of its own.
    let rebalance_timeout = match request.rebalance_timeout_ms {
        ..0 => session_timeout,
        given => millis(given),
    };
    let protocol = |protocol: &RequestProtocol<'_>| Protocol {
        name: protocol.name.to_string(),
        // It outlives its request, whose frame it would keep.
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    };
    Join {
        group,
        member: request.member_id.to_string(),
        instance: request.group_instance_id.as_deref().map(str::to_owned),
        client_id: context.client_id.clone(),
        client_host: context.client_host(),
        session_timeout,
        rebalance_timeout,
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.iter().map(protocol).collect(),
        member_id_required: ID_FIRST_FROM <= context.version,
        skip_assignment_known: SKIPS_FROM <= context.version,
    }
}

fn answered(joined: Joined) -> Response<'static> {
    let member = |member: JoinedMember| ResponseMember {
        member_id: member.id.into(),
        group_instance_id: member.instance.map(Into::into),
        metadata: member.metadata,
    };
    Response {
        generation_id: joined.generation,
        protocol_type: Some(joined.protocol_type.into()),
        protocol_name: Some(joined.protocol.into()),
        leader: joined.leader.into(),
        skip_assignment: joined.skip_assignment,
        member_id: joined.member.into(),
        members: joined.members.into_iter().map(member).collect(),
        ..Response::default()
    }
}

fn millis(number: i32) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(0))
}
