//! A node to talk to, and short words for what the tests say to it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rafka_broker::Broker;
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Batch, SystemClock, Timestamp};
use rafka_grpc::{Handle, Settings};
use rafka_proto::v1::admin_client::AdminClient;
use rafka_proto::v1::groups_client::GroupsClient;
use rafka_proto::v1::log_client::LogClient;
use rafka_proto::v1::produce_partition::Data;
use rafka_proto::v1::{
    FetchPartition, FetchRequest, FetchResponse, ProducePartition, ProduceRequest, ProduceResponse,
    Record, Records,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// Longer than anything takes that works.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) broker: Broker,
    pub(crate) handle: Handle,
}

pub(crate) fn settings() -> Settings {
    Settings { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Settings::default() }
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(settings(), rafka_broker::Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings, broker: rafka_broker::Settings) -> Self {
        let broker = rafka_broker::testing::start(broker).await;
        let clock = Arc::new(SystemClock::new());
        let handle = rafka_grpc::start(&settings, broker.clone(), clock).await.expect("port 0");
        Self { broker, handle }
    }

    /// A node with one topic.
    pub(crate) async fn with_topic(name: &str, partitions: u32) -> Self {
        let node = Self::start().await;
        rafka_broker::testing::create_topic(&node.broker, name, partitions, &[]).await;
        node
    }

    fn endpoint(&self) -> Endpoint {
        let address = format!("http://{}", self.handle.local_addr());
        Endpoint::from_shared(address).expect("an address")
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.endpoint().connect().await.expect("it listens")
    }

    /// A client that takes few answers before it reads them.
    pub(crate) async fn log_with_small_window(&self) -> LogClient<Channel> {
        let endpoint = self.endpoint().initial_stream_window_size(1 << 16);
        LogClient::new(endpoint.connect().await.expect("it listens"))
    }

    pub(crate) async fn log(&self) -> LogClient<Channel> {
        LogClient::new(self.channel().await)
    }

    pub(crate) async fn groups(&self) -> GroupsClient<Channel> {
        GroupsClient::new(self.channel().await)
    }

    pub(crate) async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel().await)
    }

    /// Appends these values, a batch each.
    pub(crate) async fn append(&self, topic: &str, partition: i32, values: &[&str]) {
        let mut stream = Producing::start(self).await;
        for value in values {
            stream.send(raw(topic, partition, &batch(&[value]))).await;
        }
        for _ in values {
            let answer = stream.answer().await;
            assert_eq!(answer.partitions[0].error, None);
        }
    }
}

/// Awaits something that is sure to come.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what).await.expect("what was awaited did not come")
}

/// A produce stream.
pub(crate) struct Producing {
    pub(crate) requests: mpsc::Sender<ProduceRequest>,
    pub(crate) answers: Streaming<ProduceResponse>,
}

impl Producing {
    pub(crate) async fn start(node: &Node) -> Self {
        Self::on(&mut node.log().await).await
    }

    pub(crate) async fn on(log: &mut LogClient<Channel>) -> Self {
        let (requests, receiver) = mpsc::channel(8);
        let answers = log.produce(ReceiverStream::new(receiver)).await.expect("it begins");
        Self { requests, answers: answers.into_inner() }
    }

    pub(crate) async fn send(&mut self, request: ProduceRequest) {
        soon(self.requests.send(request)).await.expect("the stream is open");
    }

    pub(crate) async fn answer(&mut self) -> ProduceResponse {
        soon(self.answers.message()).await.expect("no status").expect("the stream goes on")
    }

    /// Sends no more, and what the stream ends with.
    pub(crate) async fn finish(self) -> Result<Option<ProduceResponse>, Status> {
        let Self { requests, mut answers } = self;
        drop(requests);
        soon(answers.message()).await
    }
}

pub(crate) fn batch(values: &[&str]) -> Batch {
    let mut builder = BatchBuilder::new(Compression::Lz4);
    for value in values {
        builder.push(now(), None, Some(value.as_bytes()), &[]);
    }
    builder.build().expect("memory does not fail")
}

pub(crate) fn now() -> Timestamp {
    rafka_core::Clock::timestamp(&SystemClock::new())
}

pub(crate) fn raw(topic: &str, partition: i32, batch: &Batch) -> ProduceRequest {
    request(vec![entry(topic, partition, Data::Batches(batch.to_bytes()))])
}

pub(crate) fn plain(topic: &str, partition: i32, records: Vec<Record>) -> ProduceRequest {
    let data = Data::Records(Records { records, compression: 0 });
    request(vec![entry(topic, partition, data)])
}

pub(crate) fn request(partitions: Vec<ProducePartition>) -> ProduceRequest {
    ProduceRequest { partitions, ..ProduceRequest::default() }
}

pub(crate) fn entry(topic: &str, partition: i32, data: Data) -> ProducePartition {
    let (topic, topic_id) = (topic.to_owned(), Bytes::new());
    ProducePartition { topic, topic_id, partition, data: Some(data) }
}

pub(crate) fn record(key: Option<&str>, value: &str) -> Record {
    Record {
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
        timestamp_ms: None,
    }
}

/// Reads decoded records from the start, and does not stop.
pub(crate) fn fetch(topic: &str, partitions: &[i32]) -> FetchRequest {
    let position = |partition: &i32| FetchPartition {
        topic: topic.to_owned(),
        partition: *partition,
        ..FetchPartition::default()
    };
    FetchRequest {
        partitions: partitions.iter().map(position).collect(),
        decode: true,
        ..FetchRequest::default()
    }
}

/// All messages of a fetch that ends by itself.
pub(crate) async fn fetch_all(node: &Node, request: FetchRequest) -> Vec<FetchResponse> {
    let mut stream = node.log().await.fetch(request).await.expect("it begins").into_inner();
    let mut messages = Vec::new();
    while let Some(message) = soon(stream.message()).await.expect("no status") {
        messages.push(message);
    }
    messages
}

/// The values of these messages, in order.
pub(crate) fn values(messages: &[FetchResponse]) -> Vec<String> {
    let records = messages.iter().flat_map(|m| &m.partitions).flat_map(|p| &p.records);
    let text = |value: &Bytes| String::from_utf8_lossy(value).into_owned();
    records.map(|record| record.value.as_ref().map(text).unwrap_or_default()).collect()
}

/// Kafka's code of an item, 0 for none.
pub(crate) fn code(error: Option<&rafka_proto::v1::Error>) -> i32 {
    error.map_or(0, |error| error.code)
}
