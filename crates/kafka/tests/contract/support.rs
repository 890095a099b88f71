//! A node with a Kafka listener, and a client that speaks any version.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use rafka_broker::Broker;
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Batch, Timestamp, TopicName};
use rafka_kafka::{Handle, Settings};
use rafka_kafka_wire::produce::{PartitionProduceData, Request as Produce, TopicProduceData};
use rafka_kafka_wire::{Message, Reader, Records, RequestHeader, ResponseHeader, Writer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

/// Longer than anything here takes, unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) broker: Broker,
    pub(crate) listener: Handle,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    /// On a port that the system chooses. One topic, `orders`, with two partitions.
    pub(crate) async fn with(settings: Settings) -> Self {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = rafka_kafka::bind(free).await.expect("there is a free port");
        let broker = rafka_broker::testing::start_with_kafka(
            rafka_broker::Settings::default(),
            bound.local_addr(),
        );
        let broker = broker.await;
        rafka_broker::testing::create_topic(&broker, "orders", 2, &[]).await;
        let listener = bound.start(settings, broker.clone());
        Self { broker, listener }
    }

    /// The id of a topic that exists.
    pub(crate) fn topic_id(&self, name: &str) -> Uuid {
        let name = TopicName::new(name).expect("valid");
        self.broker.describe_topic(&name.into()).expect("it exists").id.0
    }

    pub(crate) async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.listener.local_addr()).await;
        Client { stream: stream.expect("it listens"), correlation_id: 0 }
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Sends a request; returns the number that its answer has to bear.
    pub(crate) async fn send<'a, M: Message<'a>>(&mut self, version: i16, request: &M) -> i32 {
        self.correlation_id += 1;
        let correlation_id = self.correlation_id;
        let mut out = Writer::new();
        let client_id = Some("test".into());
        RequestHeader { key: M::KEY, version, correlation_id, client_id }
            .encode(&mut out)
            .expect("a short name");
        request.encode(version, &mut out).expect("the version has what is asked");
        let mut frame = out.finish().expect("a frame");
        self.stream.write_all_buf(&mut frame).await.expect("it is taken");
        correlation_id
    }

    /// The next answer without its length; `None` if the connection was closed instead.
    pub(crate) async fn frame(&mut self) -> Option<Bytes> {
        let read = async {
            let len = self.stream.read_u32().await.ok()?;
            let mut frame = vec![0; usize::try_from(len).expect("it fits")];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        tokio::time::timeout(LIMIT, read).await.expect("an answer, or the end, in time")
    }

    /// Sends a request and hands its answer, as a frame behind its header, to `read`.
    pub(crate) async fn ask<'a, M: Message<'a>>(
        &mut self,
        version: i16,
        request: &M,
    ) -> Option<Bytes> {
        let correlation_id = self.send(version, request).await;
        let mut frame = self.frame().await?;
        assert_eq!(header::<M>(version, &mut frame), correlation_id);
        Some(frame)
    }
}

/// Asks, and reads something from the answer.
macro_rules! ask {
    ($client:expr, $version:expr, $request:expr => $Response:ty, $read:expr) => {{
        let frame = $client.ask($version, &$request).await.expect("answered");
        let response: $Response = $crate::support::body($version, &frame);
        let read: fn(&$Response) -> _ = $read;
        read(&response)
    }};
}
pub(crate) use ask;

/// Takes the header off an answer and returns the number that it bears.
pub(crate) fn header<'a, M: Message<'a>>(version: i16, frame: &mut Bytes) -> i32 {
    let id = {
        let whole = frame.clone();
        // Only what is behind the header is left to be read as the body.
        let len = if M::KEY.flexible_response_header(version) { 5 } else { 4 };
        let head = whole.slice(..len);
        ResponseHeader::decode(M::KEY, version, &mut Reader::new(&head)).map_or_else(
            |_body_follows| i32::from_be_bytes(*whole.first_chunk().expect("a header")),
            |header| header.correlation_id,
        )
    };
    frame.advance(if M::KEY.flexible_response_header(version) { 5 } else { 4 });
    id
}

/// Reads the body of an answer.
pub(crate) fn body<'a, M: Message<'a>>(version: i16, frame: &'a Bytes) -> M {
    M::decode(version, &mut Reader::new(frame)).expect("an answer of this version")
}

/// A batch with these values.
pub(crate) fn batch(values: &[&str]) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.push(Timestamp(1_700_000_000_000), None, Some(value.as_bytes()), &[]);
    }
    builder.build().expect("no codec")
}

/// A request with these bytes for one partition of `orders`.
pub(crate) fn produce(acks: i16, partition: i32, records: Bytes) -> Produce<'static> {
    Produce {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: "orders".into(),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(Records::from(records)),
            }],
            ..TopicProduceData::default()
        }],
        ..Produce::default()
    }
}
