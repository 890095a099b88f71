//! `InitProducerId`: an id for an idempotent or transactional producer.

use std::time::Duration;

use rafka_broker::transaction::Init;
use rafka_core::{ProducerEpoch, ProducerId};
use rafka_kafka_wire::init_producer_id::{Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::InitProducerId, 0..=5);

/// From here on clients know that a producer can be fenced.
const FENCED_FROM: i16 = 4;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let given = match request.transactional_id {
        None => gateway.broker.init_producer_id().await,
        Some(id) => {
            let expected = (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch));
            let timeout = u64::try_from(request.transaction_timeout_ms).unwrap_or(0);
            let init = Init {
                id: id.into_owned(),
                timeout: Duration::from_millis(timeout),
                expected: Some(expected).filter(|(id, _)| id.is_some()),
            };
            gateway.broker.transactions().init_producer_id(init).await
        }
    };
    let given = given.map_err(|error| {
        if context.version < FENCED_FROM { common::before_fencing(error.code) } else { error.code }
    });
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
