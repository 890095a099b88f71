//! `EndTxn`: a producer commits or aborts its transaction.

use rafka_broker::produce::TransactionVersion;
use rafka_broker::transaction::End;
use rafka_core::batch::Outcome;
use rafka_core::{ErrorCode, ProducerEpoch, ProducerId};
use rafka_kafka_wire::end_txn::{Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

/// Version 5 goes by the newer rules, which are offered when all of their requests are.
pub(super) const API: Api = Api::new(ApiKey::EndTxn, 0..=4);

/// From here on clients know that a producer can be fenced.
const FENCED_FROM: i16 = 2;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let end = End {
        id: request.transactional_id.to_string(),
        producer: (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch)),
        outcome: if request.committed { Outcome::Commit } else { Outcome::Abort },
        version: TransactionVersion::V1,
    };
    let ended = gateway.broker.transactions().end_transaction(end).await;
    let failed = ended.err().map(|error| {
        if context.version < FENCED_FROM { common::before_fencing(error.code) } else { error.code }
    });
    let error_code = failed.map_or(common::NONE, ErrorCode::code);
    context.answer(&Response { error_code, ..Response::default() })
}
