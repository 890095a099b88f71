//! A node whose calls fail as often as a test says, counting what arrives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rafka_client::v1;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};

/// What the node does with calls.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// How many calls fail before they succeed.
    pub(crate) failures: AtomicUsize,
    /// The status of those that fail.
    pub(crate) code: AtomicUsize,
    /// Calls that came in.
    pub(crate) calls: AtomicUsize,
    /// Answers that never come.
    pub(crate) silent: AtomicUsize,
}

pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) script: Arc<Script>,
    _server: JoinSet<Result<(), tonic::transport::Error>>,
}

impl Node {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0 is free");
        let address = listener.local_addr().expect("it is bound");
        let script = Arc::new(Script::default());
        let service = v1::admin_server::AdminServer::new(Service(Arc::clone(&script)));
        let mut server = JoinSet::new();
        server.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { address, script, _server: server }
    }

    pub(crate) fn fail(&self, failures: usize, code: Code) {
        self.script.failures.store(failures, Ordering::SeqCst);
        self.script.code.store(usize::try_from(i32::from(code)).expect("small"), Ordering::SeqCst);
    }

    pub(crate) fn calls(&self) -> usize {
        self.script.calls.load(Ordering::SeqCst)
    }
}

struct Service(Arc<Script>);

impl Service {
    async fn befall(&self) -> Result<(), Status> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let one_less = |left: usize| left.checked_sub(1);
        if self.0.silent.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        if self.0.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_err() {
            return Ok(());
        }
        let code = i32::try_from(self.0.code.load(Ordering::SeqCst)).expect("small");
        Err(Status::new(Code::from_i32(code), "as scripted"))
    }
}

macro_rules! admin {
    ($($call:ident $request:ident $response:ident)*) => {
        #[tonic::async_trait]
        impl v1::admin_server::Admin for Service {
            $(async fn $call(
                &self,
                _request: Request<v1::$request>,
            ) -> Result<Response<v1::$response>, Status> {
                self.befall().await?;
                Ok(Response::new(v1::$response::default()))
            })*
        }
    };
}

admin! {
    create_topics CreateTopicsRequest CreateTopicsResponse
    delete_topics DeleteTopicsRequest DeleteTopicsResponse
    list_topics ListTopicsRequest ListTopicsResponse
    describe_topics DescribeTopicsRequest DescribeTopicsResponse
    describe_configs DescribeConfigsRequest DescribeConfigsResponse
    alter_configs AlterConfigsRequest AlterConfigsResponse
    create_partitions CreatePartitionsRequest CreatePartitionsResponse
    delete_records DeleteRecordsRequest DeleteRecordsResponse
    describe_cluster DescribeClusterRequest DescribeClusterResponse
    init_producer_id InitProducerIdRequest InitProducerIdResponse
}
