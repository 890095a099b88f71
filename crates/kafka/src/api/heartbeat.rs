//! `Heartbeat`: a member shows that it lives.

use rafka_broker::group::Heartbeat;
use rafka_kafka_wire::heartbeat::{Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::Heartbeat, 0..=4);

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let lives = match common::group(&request.group_id) {
        Ok(group) => {
            let beat = Heartbeat {
                group,
                member: request.member_id.to_string(),
                instance: request.group_instance_id.as_deref().map(str::to_owned),
                generation: request.generation_id,
            };
            gateway.broker.groups().heartbeat(beat).await
        }
        Err(error) => Err(error),
    };
    context.answer(&Response { error_code: common::code(&lives), ..Response::default() })
}
