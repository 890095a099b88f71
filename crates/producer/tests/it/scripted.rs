//! A node that does what a test tells it: loses requests, loses answers, refuses, stays silent, dies.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use rafka_client::v1;
use rafka_core::producer_state::{ProducerTable, Verdict};
use rafka_core::{Batch, ByteSize, ErrorCode, Offset, Timestamp};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The stream breaks before the request takes effect.
    LoseRequest,
    /// The request takes effect, then the stream breaks.
    LoseAnswer,
    /// Nothing is stored, and this is said.
    Refuse(ErrorCode),
    /// The request takes effect and is never answered.
    Silence,
}

/// Who sent a batch, and with which number.
pub(crate) type Numbers = (i64, i16, i32);

#[derive(Debug, Default)]
pub(crate) struct State {
    partition_count: i32,
    /// What befalls the next requests, in order. Later ones are served well.
    pub(crate) faults: VecDeque<Fault>,
    tables: BTreeMap<i32, ProducerTable>,
    /// The values of the records, by partition.
    pub(crate) logs: BTreeMap<i32, Vec<Vec<u8>>>,
    /// The numbers of every batch that came in, in order.
    pub(crate) seen: Vec<Numbers>,
    pub(crate) streams: usize,
    /// Requests that came in, served or not.
    pub(crate) arrived: usize,
    producer_ids: i64,
}

/// The node. It lives in a runtime of its own, so that it can die with all its connections.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
    open: watch::Sender<bool>,
}

impl Node {
    pub(crate) fn start(partition_count: i32) -> Self {
        let state = State { partition_count, ..State::default() };
        let mut node = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            state: Arc::new(Mutex::new(state)),
            runtime: None,
            open: watch::Sender::new(true),
        };
        node.restart();
        node
    }

    pub(crate) fn with_faults(partition_count: i32, faults: &[Fault]) -> Self {
        let node = Self::start(partition_count);
        node.state.lock().faults = faults.iter().copied().collect();
        node
    }

    /// Closes all connections at once, as a kill does. What is stored stays.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // In a thread of its own: a runtime may not wait for another. After this, all is closed.
            std::thread::scope(|scope| {
                scope.spawn(|| runtime.shutdown_timeout(Duration::from_secs(5)));
            });
        }
    }

    /// Listens again, at the same address.
    pub(crate) fn restart(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let entered = runtime.enter();
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option of every socket");
        socket.bind(self.address).expect("the port is ours");
        let listener = socket.listen(64).expect("it is bound");
        drop(entered);
        self.address = listener.local_addr().expect("it is bound");
        let service = Service {
            state: Arc::clone(&self.state),
            address: self.address,
            open: self.open.subscribe(),
        };
        let server = tonic::transport::Server::builder()
            .add_service(v1::log_server::LogServer::new(service.clone()))
            .add_service(v1::admin_server::AdminServer::new(service))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
        runtime.spawn(server);
        self.runtime = Some(runtime);
    }

    /// Lets requests wait, or go on.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }

    pub(crate) fn log(&self, partition: i32) -> Vec<Vec<u8>> {
        self.state.lock().logs.get(&partition).cloned().unwrap_or_default()
    }

    /// Waits until the state is as asked for.
    pub(crate) async fn wait_until(&self, done: impl Fn(&State) -> bool) {
        let reached = async {
            while !done(&self.state.lock()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reached).await.expect("it happens in time");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    open: watch::Receiver<bool>,
}

impl State {
    fn append(&mut self, entry: &v1::ProducePartition) -> Result<i64, ErrorCode> {
        let Some(v1::produce_partition::Data::Batches(bytes)) = &entry.data else {
            return Err(ErrorCode::InvalidRequest);
        };
        let mut batch = Batch::parse(bytes.clone()).map_err(|_bad| ErrorCode::CorruptMessage)?;
        let header = &batch.header;
        self.seen.push((header.producer_id.0, header.producer_epoch.0, header.base_sequence));
        let table = self.tables.entry(entry.partition).or_default();
        if let Verdict::Duplicate(known) = table.check(header)? {
            return Ok(known.base_offset.0);
        }
        let log = self.logs.entry(entry.partition).or_default();
        batch.header.base_offset = Offset(i64::try_from(log.len()).expect("a short log"));
        table.note(&batch, Timestamp(1));
        for record in batch.records(ByteSize::mib(16)).expect("a codec that we know") {
            log.push(record.expect("a sound record").value.expect("a value").to_vec());
        }
        Ok(batch.header.base_offset.0)
    }

    fn answer(
        &mut self,
        request: &v1::ProduceRequest,
        refusal: Option<ErrorCode>,
    ) -> v1::ProduceResponse {
        let partitions = (0..).zip(&request.partitions).map(|(entry, partition)| {
            let outcome = refusal.map_or_else(|| self.append(partition), Err);
            let error = |code: ErrorCode| v1::Error {
                code: i32::from(code.code()),
                message: "as scripted".to_owned(),
                retriable: code.is_retriable(),
            };
            v1::ProducedPartition {
                topic: partition.topic.clone(),
                partition: partition.partition,
                error: outcome.err().map(error),
                base_offset: outcome.unwrap_or(-1),
                log_append_time_ms: -1,
                entry,
                ..Default::default()
            }
        });
        let partitions = partitions.collect();
        v1::ProduceResponse { request_id: request.request_id, partitions }
    }

    /// None for a request that gets no answer.
    fn take(
        &mut self,
        request: &v1::ProduceRequest,
    ) -> Result<Option<v1::ProduceResponse>, Status> {
        let fault = self.faults.pop_front();
        let refusal = match fault {
            Some(Fault::LoseRequest) => return Err(Status::unavailable("as scripted")),
            Some(Fault::Refuse(code)) => Some(code),
            Some(Fault::LoseAnswer | Fault::Silence) | None => None,
        };
        let answer = self.answer(request, refusal);
        match fault {
            Some(Fault::LoseAnswer) => Err(Status::unavailable("as scripted")),
            Some(Fault::Silence) => Ok(None),
            _ => Ok((request.acks() != v1::Acks::None).then_some(answer)),
        }
    }
}

type Outbound<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl v1::log_server::Log for Service {
    type ProduceStream = Outbound<v1::ProduceResponse>;
    type FetchStream = Outbound<v1::FetchResponse>;
    type SubscribeStream = Outbound<v1::SubscribeResponse>;

    async fn produce(
        &self,
        request: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        self.state.lock().streams += 1;
        let (state, open) = (Arc::clone(&self.state), self.open.clone());
        let answers = request.into_inner().then(move |request| {
            let (state, mut open) = (Arc::clone(&state), open.clone());
            async move {
                let request = request?;
                state.lock().arrived += 1;
                open.wait_for(|open| *open).await.map_err(|_gone| Status::unavailable("gone"))?;
                state.lock().take(&request)
            }
        });
        let answers = answers.filter_map(|answer| std::future::ready(answer.transpose()));
        // The stream ends with its first error.
        let ended = answers.scan(false, |over, answer| {
            let was_over = std::mem::replace(over, answer.is_err());
            std::future::ready((!was_over).then_some(answer))
        });
        Ok(Response::new(Box::pin(ended)))
    }

    async fn fetch(
        &self,
        _request: Request<v1::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn subscribe(
        &self,
        _request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn list_offsets(
        &self,
        _request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

macro_rules! unscripted {
    ($($call:ident $request:ident $response:ident)*) => {
        #[tonic::async_trait]
        impl v1::admin_server::Admin for Service {
            async fn describe_topics(
                &self,
                request: Request<v1::DescribeTopicsRequest>,
            ) -> Result<Response<v1::DescribeTopicsResponse>, Status> {
                Ok(Response::new(self.describe(request.get_ref())))
            }

            async fn describe_cluster(
                &self,
                _request: Request<v1::DescribeClusterRequest>,
            ) -> Result<Response<v1::DescribeClusterResponse>, Status> {
                let nodes =
                    vec![v1::DescribedNode { node_id: 0, address: self.address.to_string() }];
                Ok(Response::new(v1::DescribeClusterResponse { nodes, ..Default::default() }))
            }

            async fn init_producer_id(
                &self,
                _request: Request<v1::InitProducerIdRequest>,
            ) -> Result<Response<v1::InitProducerIdResponse>, Status> {
                let mut state = self.state.lock();
                state.producer_ids += 1;
                let producer_id = state.producer_ids;
                Ok(Response::new(v1::InitProducerIdResponse {
                    producer_id,
                    ..Default::default()
                }))
            }

            $(async fn $call(
                &self,
                _request: Request<v1::$request>,
            ) -> Result<Response<v1::$response>, Status> {
                Err(Status::unimplemented("not scripted"))
            })*
        }
    };
}

unscripted! {
    create_topics CreateTopicsRequest CreateTopicsResponse
    delete_topics DeleteTopicsRequest DeleteTopicsResponse
    list_topics ListTopicsRequest ListTopicsResponse
    describe_configs DescribeConfigsRequest DescribeConfigsResponse
    alter_configs AlterConfigsRequest AlterConfigsResponse
    create_partitions CreatePartitionsRequest CreatePartitionsResponse
    delete_records DeleteRecordsRequest DeleteRecordsResponse
}

impl Service {
    fn describe(&self, request: &v1::DescribeTopicsRequest) -> v1::DescribeTopicsResponse {
        let count = self.state.lock().partition_count;
        let topic = |topic: &v1::TopicReference| {
            let partition = |partition| v1::DescribedPartition { partition, ..Default::default() };
            let missing = topic.name != "t";
            let error = || v1::Error { code: 3, message: "no such topic".into(), retriable: true };
            v1::DescribedTopic {
                name: topic.name.clone(),
                topic_id: vec![1; 16].into(),
                error: missing.then(error),
                partitions: (0..count).map(partition).collect(),
                ..Default::default()
            }
        };
        v1::DescribeTopicsResponse { topics: request.topics.iter().map(topic).collect() }
    }
}
