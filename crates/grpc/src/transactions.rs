//! The service `rafka.v1.Transactions`, and the producer ids of those who use it.

use std::sync::Arc;
use std::time::Duration;

use rafka_broker::produce::{Transaction, TransactionVersion};
use rafka_broker::transaction::{End, Init};
use rafka_broker::{Broker, Error};
use rafka_core::batch::Outcome;
use rafka_core::{ErrorCode, ProducerEpoch, ProducerId};
use rafka_proto::v1::{
    CommitOffsetsInTransactionRequest, CommitOffsetsResponse, EndTransactionRequest,
    EndTransactionResponse, InitProducerIdRequest, InitProducerIdResponse, transactions_server,
};
use tonic::{Request, Response, Status};

use crate::convert;
use crate::gateway::Gateway;
use crate::groups::offsets;

const TIMEOUT_DEFAULT: Duration = Duration::from_mins(1);

/// The service.
pub(crate) struct Transactions {
    gateway: Arc<Gateway>,
}

impl Transactions {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }
}

#[tonic::async_trait]
impl transactions_server::Transactions for Transactions {
    async fn end_transaction(
        &self,
        request: Request<EndTransactionRequest>,
    ) -> Result<Response<EndTransactionResponse>, Status> {
        let answer = match end(&self.gateway.broker, request.into_inner()).await {
            Ok((id, epoch)) => EndTransactionResponse {
                error: None,
                producer_id: id.0,
                producer_epoch: i32::from(epoch.0),
            },
            Err(error) => EndTransactionResponse {
                error: Some(convert::error(&error)),
                producer_id: -1,
                producer_epoch: -1,
            },
        };
        Ok(Response::new(answer))
    }

    async fn commit_offsets(
        &self,
        request: Request<CommitOffsetsInTransactionRequest>,
    ) -> Result<Response<CommitOffsetsResponse>, Status> {
        let CommitOffsetsInTransactionRequest {
            transactional_id,
            producer_id,
            producer_epoch,
            commit,
        } = request.into_inner();
        let commit = commit.ok_or_else(|| Status::invalid_argument("commit is missing"))?;
        let broker = &self.gateway.broker;
        let committing = offsets::commit(commit, |order| async move {
            let producer = (ProducerId(producer_id), epoch(producer_epoch)?);
            let version = TransactionVersion::V2;
            let transaction = Transaction { id: transactional_id, version };
            broker.commit_offsets_in_transaction(order, transaction, producer).await
        });
        committing.await.map(Response::new)
    }
}

fn epoch(number: i32) -> Result<ProducerEpoch, Error> {
    i16::try_from(number).map(ProducerEpoch).map_err(|_too_large| {
        let message = format!("producer_epoch is {number}: at most 32767");
        Error::new(ErrorCode::InvalidRequest, message)
    })
}

async fn end(
    broker: &Broker,
    request: EndTransactionRequest,
) -> Result<(ProducerId, ProducerEpoch), Error> {
    let end = End {
        id: request.transactional_id,
        producer: (ProducerId(request.producer_id), epoch(request.producer_epoch)?),
        outcome: if request.commit { Outcome::Commit } else { Outcome::Abort },
        version: TransactionVersion::V2,
    };
    broker.transactions().end_transaction(end).await
}

/// Gives an id to an idempotent producer, or takes a transactional id over for another one.
pub(crate) async fn init_producer_id(
    broker: &Broker,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let given = match request.transactional_id {
        None => broker.init_producer_id().await,
        Some(id) => {
            let timeout = match request.transaction_timeout_ms {
                0 => TIMEOUT_DEFAULT,
                millis => Duration::from_millis(u64::from(millis)),
            };
            broker.transactions().init_producer_id(Init { id, timeout, expected: None }).await
        }
    };
    match given {
        Ok((id, epoch)) => InitProducerIdResponse {
            error: None,
            producer_id: id.0,
            producer_epoch: i32::from(epoch.0),
        },
        Err(error) => InitProducerIdResponse {
            error: Some(convert::error(&error)),
            producer_id: -1,
            producer_epoch: -1,
        },
    }
}
