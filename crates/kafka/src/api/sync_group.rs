//! `SyncGroup`: a member fetches its assignment; the leader brings everyone's along.

use bytes::Bytes;
use rafka_broker::group::Sync;
use rafka_kafka_wire::sync_group::{Request, RequestAssignment, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::SyncGroup, 0..=5);

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let assignment = |assignment: &RequestAssignment<'_>| {
        (assignment.member_id.to_string(), Bytes::copy_from_slice(&assignment.assignment))
    };
    let synced = match common::group(&request.group_id) {
        Ok(group) => {
            let sync = Sync {
                group,
                member: request.member_id.to_string(),
                instance: request.group_instance_id.as_deref().map(str::to_owned),
                generation: request.generation_id,
                protocol_type: request.protocol_type.as_deref().map(str::to_owned),
                protocol: request.protocol_name.as_deref().map(str::to_owned),
                assignments: request.assignments.iter().map(assignment).collect(),
            };
            gateway.broker.groups().sync(sync).await
        }
        Err(error) => Err(error),
    };
    context.answer(&match synced {
        Ok(synced) => Response {
            protocol_type: Some(synced.protocol_type.into()),
            protocol_name: Some(synced.protocol.into()),
            assignment: synced.assignment,
            ..Response::default()
        },
        Err(error) => Response { error_code: error.code.code(), ..Response::default() },
    })
}
