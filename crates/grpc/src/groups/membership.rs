//! Membership: join, sync, heartbeat, leave.

use std::time::Duration;

use rafka_broker::Error;
use rafka_broker::group::{
    Coordinator, Heartbeat, Join, JoinError, Joined, JoinedMember, Leave, LeavingMember,
    LeftMember, Protocol, Sync, Synced,
};
use rafka_core::consumer_protocol::PROTOCOL_TYPE;
use rafka_proto::v1::{
    self, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use tonic::Status;

use crate::convert;

/// Kafka's clients' own default.
pub(crate) const SESSION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(45);

pub(super) async fn join(
    groups: &Coordinator,
    request: JoinGroupRequest,
    client_host: String,
) -> Result<JoinGroupResponse, Status> {
    convert::check_items("protocols", request.protocols.len())?;
    let group = match convert::group_id(&request.group) {
        Ok(group) => group,
        Err(error) => return Ok(not_joined(request.member_id, &error)),
    };
    let millis = |millis: u32| Duration::from_millis(u64::from(millis));
    let session_timeout = match request.session_timeout_ms {
        0 => SESSION_TIMEOUT_DEFAULT,
        asked => millis(asked),
    };
    let rebalance_timeout = match request.rebalance_timeout_ms {
        0 => session_timeout,
        asked => millis(asked),
    };
    let protocol =
        |protocol: v1::GroupProtocol| Protocol { name: protocol.name, metadata: protocol.metadata };
    let join = Join {
        group,
        member: request.member_id.clone(),
        instance: request.instance_id,
        client_id: request.client_id,
        client_host,
        session_timeout,
        rebalance_timeout,
        protocol_type: named(request.protocol_type).unwrap_or_else(|| PROTOCOL_TYPE.to_owned()),
        protocols: request.protocols.into_iter().map(protocol).collect(),
        member_id_required: true,
        skip_assignment_known: true,
    };
    Ok(match groups.join(join).await {
        Ok(joined) => shown(joined),
        Err(JoinError::MemberIdRequired { member }) => {
            not_joined(member, &Error::from(rafka_core::ErrorCode::MemberIdRequired))
        }
        Err(JoinError::Failed(error)) => not_joined(request.member_id, &error),
    })
}

fn shown(joined: Joined) -> JoinGroupResponse {
    let member = |member: JoinedMember| v1::JoinedMember {
        member_id: member.id,
        instance_id: member.instance,
        metadata: member.metadata,
    };
    JoinGroupResponse {
        error: None,
        generation: joined.generation,
        protocol_type: joined.protocol_type,
        protocol: joined.protocol,
        leader: joined.leader,
        member_id: joined.member,
        members: joined.members.into_iter().map(member).collect(),
        skip_assignment: joined.skip_assignment,
    }
}

fn not_joined(member_id: String, error: &Error) -> JoinGroupResponse {
    JoinGroupResponse {
        error: Some(convert::error(error)),
        generation: -1,
        member_id,
        ..JoinGroupResponse::default()
    }
}

pub(super) async fn sync(
    groups: &Coordinator,
    request: SyncGroupRequest,
) -> Result<SyncGroupResponse, Status> {
    convert::check_items_max("assignments", request.assignments.len())?;
    let assignments = request.assignments.into_iter().map(|a| (a.member_id, a.assignment));
    let synced = match convert::group_id(&request.group) {
        Ok(group) => {
            let sync = Sync {
                group,
                member: request.member_id,
                instance: request.instance_id,
                generation: request.generation,
                protocol_type: named(request.protocol_type),
                protocol: named(request.protocol),
                assignments: assignments.collect(),
            };
            groups.sync(sync).await
        }
        Err(error) => Err(error),
    };
    Ok(match synced {
        Ok(Synced { protocol_type, protocol, assignment }) => {
            SyncGroupResponse { error: None, protocol_type, protocol, assignment }
        }
        Err(error) => {
            let error = Some(convert::error(&error));
            SyncGroupResponse { error, ..SyncGroupResponse::default() }
        }
    })
}

pub(super) async fn heartbeat(
    groups: &Coordinator,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let beaten = match convert::group_id(&request.group) {
        Ok(group) => {
            let beat = Heartbeat {
                group,
                member: request.member_id,
                instance: request.instance_id,
                generation: request.generation,
            };
            groups.heartbeat(beat).await
        }
        Err(error) => Err(error),
    };
    HeartbeatResponse { error: beaten.err().map(|error| convert::error(&error)) }
}

pub(super) async fn leave(
    groups: &Coordinator,
    request: LeaveGroupRequest,
) -> Result<LeaveGroupResponse, Status> {
    convert::check_items("members", request.members.len())?;
    let leaving = |member: v1::LeavingMember| LeavingMember {
        id: member.member_id,
        instance: member.instance_id,
    };
    let members = request.members.into_iter().map(leaving).collect();
    let left = match convert::group_id(&request.group) {
        Ok(group) => groups.leave(Leave { group, members }).await,
        Err(error) => Err(error),
    };
    let member = |LeftMember { member, result }: LeftMember| v1::LeftMember {
        member_id: member.id,
        instance_id: member.instance,
        error: result.err().map(|code| convert::error(&Error::from(code))),
    };
    Ok(match left {
        Ok(members) => {
            LeaveGroupResponse { error: None, members: members.into_iter().map(member).collect() }
        }
        Err(error) => {
            LeaveGroupResponse { error: Some(convert::error(&error)), members: Vec::new() }
        }
    })
}

fn named(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
