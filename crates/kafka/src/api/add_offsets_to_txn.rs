//! `AddOffsetsToTxn`: a producer will commit offsets of a group in its transaction.

use rafka_broker::transaction::AddOffsets;
use rafka_core::{ErrorCode, ProducerEpoch, ProducerId};
use rafka_kafka_wire::add_offsets_to_txn::{Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::AddOffsetsToTxn, 0..=4);

/// From here on clients know that a producer can be fenced.
const FENCED_FROM: i16 = 2;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let added = match common::group(&request.group_id) {
        Ok(group) => {
            let producer = (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch));
            let add = AddOffsets { id: request.transactional_id.into_owned(), producer, group };
            gateway.broker.transactions().add_offsets(add).await
        }
        Err(error) => Err(error),
    };
    let failed = added.err().map(|error| {
        if context.version < FENCED_FROM { common::before_fencing(error.code) } else { error.code }
    });
    let error_code = failed.map_or(common::NONE, ErrorCode::code);
    context.answer(&Response { error_code, ..Response::default() })
}
