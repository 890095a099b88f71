//! `InitProducerId`: an id for an idempotent producer.

use rafka_core::ErrorCode;
use rafka_kafka_wire::init_producer_id::{Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::InitProducerId, 0..=5);

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let given = match request.transactional_id {
        None => gateway.broker.init_producer_id().await.map_err(|error| error.code),
        // Transactions are not served: nothing of theirs is advertised.
        Some(_) => Err(ErrorCode::InvalidRequest),
    };
    let response = match given {
        Ok((id, epoch)) => {
            Response { producer_id: id.0, producer_epoch: epoch.0, ..Response::default() }
        }
        Err(code) => Response {
            error_code: code.code(),
            producer_id: -1,
            producer_epoch: -1,
            ..Response::default()
        },
    };
    context.answer(&response)
}
