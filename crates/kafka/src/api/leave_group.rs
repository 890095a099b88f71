//! `LeaveGroup`: members leave.

use rafka_broker::Error;
use rafka_broker::group::{Leave, LeavingMember, LeftMember};
use rafka_core::ErrorCode;
use rafka_kafka_wire::leave_group::{MemberIdentity, MemberResponse, Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::LeaveGroup, 0..=5);

/// From here on several may leave together.
const BATCHED_FROM: i16 = 3;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let is_batched = BATCHED_FROM <= context.version;
    let member = |member: &MemberIdentity<'_>| LeavingMember {
        id: member.member_id.to_string(),
        instance: member.group_instance_id.as_deref().map(str::to_owned),
    };
    let members = if is_batched {
        request.members.iter().map(member).collect()
    } else {
        vec![LeavingMember { id: request.member_id.to_string(), instance: None }]
    };
    let left = match common::group(&request.group_id) {
        Ok(group) => gateway.broker.groups().leave(Leave { group, members }).await,
        Err(error) => Err(error),
    };
    context.answer(&if is_batched { answered(left) } else { answered_alone(left) })
}

fn answered(left: Result<Vec<LeftMember>, Error>) -> Response<'static> {
    let member = |left: LeftMember| MemberResponse {
        member_id: left.member.id.into(),
        group_instance_id: left.member.instance.map(Into::into),
        error_code: left.result.err().map_or(common::NONE, ErrorCode::code),
    };
    match left {
        Ok(left) => {
            Response { members: left.into_iter().map(member).collect(), ..Response::default() }
        }
        Err(error) => Response { error_code: error.code.code(), ..Response::default() },
    }
}

fn answered_alone(left: Result<Vec<LeftMember>, Error>) -> Response<'static> {
    let result = left.map_err(|error| error.code).and_then(|left| {
        left.into_iter().next().map_or(Err(ErrorCode::UnknownMemberId), |left| left.result)
    });
    let error_code = result.err().map_or(common::NONE, ErrorCode::code);
    Response { error_code, ..Response::default() }
}
