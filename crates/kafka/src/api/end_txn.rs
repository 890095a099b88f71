//! `EndTxn`: a producer commits or aborts its transaction.

use rafka_broker::produce::TransactionVersion;
use rafka_broker::transaction::End;
use rafka_core::batch::Outcome;
use rafka_core::{ProducerEpoch, ProducerId};
use rafka_kafka_wire::end_txn::{Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::EndTxn, 0..=5);

/// From here on clients know that a producer can be fenced.
const FENCED_FROM: i16 = 2;
/// From here on by the rules of transaction version 2: the producer goes on under a higher epoch.
const V2_FROM: i16 = 5;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let is_v2 = V2_FROM <= context.version;
    let end = End {
        id: request.transactional_id.to_string(),
        producer: (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch)),
        outcome: if request.committed { Outcome::Commit } else { Outcome::Abort },
        version: if is_v2 { TransactionVersion::V2 } else { TransactionVersion::V1 },
    };
    let ended = gateway.broker.transactions().end_transaction(end).await;
    let response = match ended {
        Ok((id, epoch)) if is_v2 => {
            Response { producer_id: id.0, producer_epoch: epoch.0, ..Response::default() }
        }
        Ok(_) => Response::default(),
        Err(error) => {
            let is_older = context.version < FENCED_FROM;
            let code = if is_older { common::before_fencing(error.code) } else { error.code };
            Response { error_code: code.code(), ..Response::default() }
        }
    };
    context.answer(&response)
}
