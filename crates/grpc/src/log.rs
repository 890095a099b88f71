//! The service `rafka.v1.Log`: produce, fetch, subscribe, list offsets.

mod entries;
mod fetch;
mod offsets;
mod plain;
mod produce;
mod reader;
mod subscribe;
mod unpack;

use std::pin::Pin;
use std::sync::Arc;

use rafka_proto::v1::log_server;
use rafka_proto::v1::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, ProduceRequest,
    ProduceResponse, SubscribeRequest, SubscribeResponse,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Empty, Stream};
use tonic::{Request, Response, Status, Streaming};

use crate::connection;
use crate::gateway::Gateway;
use crate::intake::{Ledger, OwnBody};

/// What a streaming call answers with.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
pub(crate) struct Log {
    gateway: Arc<Gateway>,
}

impl Log {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }
}

#[tonic::async_trait]
impl log_server::Log for Log {
    type ProduceStream = ReceiverStream<Result<ProduceResponse, Status>>;
    /// Without messages: the door puts the session's own body in the place of this stream's.
    type FetchStream = Empty<Result<FetchResponse, Status>>;
    type SubscribeStream = Answers<SubscribeResponse>;

    async fn produce(
        &self,
        request: Request<Streaming<ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let ledger = request
            .extensions()
            .get::<Ledger>()
            .cloned()
            .ok_or_else(|| Status::internal("the call did not come through the door"))?;
        let gateway = Arc::clone(&self.gateway);
        let (session, answers) = produce::Session::new(gateway, request.into_inner(), ledger);
        self.gateway.tasks.spawn(session.run());
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn fetch(
        &self,
        request: Request<FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let session =
            fetch::Session::start(Arc::clone(&self.gateway), request.into_inner()).await?;
        let mut response = Response::new(tokio_stream::empty());
        response.extensions_mut().insert(OwnBody::new(session.into_body()));
        Ok(response)
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let host = connection::client_host(request.extensions());
        let gateway = Arc::clone(&self.gateway);
        let answers = subscribe::start(gateway, request.into_inner(), host)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn list_offsets(
        &self,
        request: Request<ListOffsetsRequest>,
    ) -> Result<Response<ListOffsetsResponse>, Status> {
        offsets::list(&self.gateway.broker, request.into_inner()).await.map(Response::new)
    }
}
