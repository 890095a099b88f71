//! Kafka's protocol as the load generator speaks it: requests out, answers in, nothing decoded that need
//! not be.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};
use rafka_kafka_wire::{
    Message, Reader, Records, RequestHeader, ResponseHeader, Writer, fetch, produce,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// As librdkafka sends them.
const PRODUCE_VERSION: i16 = 10;
/// The last one that names topics.
const FETCH_VERSION: i16 = 12;
/// No answer is larger, whatever its length says.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// How long a reader lets the node wait for records.
const FETCH_WAIT_MS: i32 = 500;

/// The sending side of a connection.
pub(super) struct Sender {
    stream: OwnedWriteHalf,
    correlation_id: i32,
}

/// The receiving side of a connection.
pub(super) struct Receiver {
    stream: OwnedReadHalf,
    buffer: BytesMut,
    correlation_id: i32,
}

/// A reader's place in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// What came of a partition.
pub(super) struct Fetched {
    pub(super) partition: i32,
    pub(super) high_watermark: i64,
    pub(super) batches: Bytes,
}

/// A connection of its own.
pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<(Sender, Receiver)> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.with_context(|| format!("cannot reach {address}"))?;
    stream.set_nodelay(true)?;
    let (reading, writing) = stream.into_split();
    let sender = Sender { stream: writing, correlation_id: 0 };
    let receiver = Receiver { stream: reading, buffer: BytesMut::new(), correlation_id: 0 };
    Ok((sender, receiver))
}

impl Sender {
    async fn send<'a, M: Message<'a>>(&mut self, version: i16, request: &M) -> anyhow::Result<()> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let (key, correlation_id) = (M::KEY, self.correlation_id);
        let client_id = Some("rafka-bench".into());
        let mut out = Writer::new();
        RequestHeader { key, version, correlation_id, client_id }.encode(&mut out)?;
        request.encode(version, &mut out)?;
        self.stream.write_all_buf(&mut out.finish()?).await?;
        Ok(())
    }

    /// Sends encoded batches to a partition, to be acknowledged by all replicas.
    pub(super) async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batches: Bytes,
    ) -> anyhow::Result<()> {
        let partition_data = vec![produce::PartitionProduceData {
            index: partition,
            records: Some(Records::from(batches)),
        }];
        let data =
            produce::TopicProduceData { name: topic.into(), partition_data, ..Default::default() };
        let request = produce::Request {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![data],
            ..Default::default()
        };
        self.send(PRODUCE_VERSION, &request).await
    }

    /// Asks for records from these places on.
    pub(super) async fn fetch(
        &mut self,
        topic: &str,
        places: &[Place],
        bytes_max: u32,
    ) -> anyhow::Result<()> {
        let bytes_max = i32::try_from(bytes_max)?;
        let partition = |place: &Place| fetch::Partition {
            partition: place.partition,
            fetch_offset: place.offset,
            partition_max_bytes: bytes_max,
            current_leader_epoch: -1,
            ..Default::default()
        };
        let partitions = places.iter().map(partition).collect();
        let topic = fetch::Topic { topic: topic.into(), partitions, ..Default::default() };
        let request = fetch::Request {
            max_wait_ms: FETCH_WAIT_MS,
            min_bytes: 1,
            max_bytes: bytes_max,
            session_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        self.send(FETCH_VERSION, &request).await
    }
}

impl Receiver {
    /// The next answer without its length. `None` if the node ended the connection instead.
    async fn frame(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            if let Some(prefix) = self.buffer.first_chunk::<4>() {
                let len = usize::try_from(i32::from_be_bytes(*prefix))?;
                ensure!(len <= ANSWER_BYTES_MAX, "an answer of {len} bytes is coming");
                if 4 + len <= self.buffer.len() {
                    return Ok(Some(self.buffer.split_to(4 + len).freeze().slice(4..)));
                }
                self.buffer.reserve(4 + len - self.buffer.len());
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                ensure!(self.buffer.is_empty(), "the node ended the connection within an answer");
                return Ok(None);
            }
        }
    }

    /// Takes in the next acknowledgement. False if the node has ended the connection.
    pub(super) async fn acked(&mut self) -> anyhow::Result<bool> {
        let Some(frame) = self.frame().await? else { return Ok(false) };
        let response: produce::Response<'_> =
            decode(PRODUCE_VERSION, &frame, &mut self.correlation_id)?;
        for partition in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
            if partition.error_code != 0 {
                let why = partition.error_message.as_deref().unwrap_or("no reason given");
                bail!("the node refused a batch: {why} [{}]", partition.error_code);
            }
        }
        Ok(true)
    }

    /// Takes in the next records.
    pub(super) async fn fetched(&mut self) -> anyhow::Result<Vec<Fetched>> {
        let frame = self.frame().await?.context("the node ended the connection")?;
        let response: fetch::Response<'_> =
            decode(FETCH_VERSION, &frame, &mut self.correlation_id)?;
        let mut all = Vec::new();
        for topic in response.responses {
            for data in topic.partitions {
                let partition = data.partition_index;
                if data.error_code != 0 {
                    bail!("partition {partition} cannot be read [{}]", data.error_code);
                }
                all.push(Fetched {
                    partition,
                    high_watermark: data.high_watermark,
                    batches: data.records.map(Records::into_bytes).unwrap_or_default(),
                });
            }
        }
        Ok(all)
    }
}

/// Reads an answer, which must be the one that is due.
fn decode<'a, M: Message<'a>>(
    version: i16,
    frame: &'a Bytes,
    correlation_id: &mut i32,
) -> anyhow::Result<M> {
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(M::KEY, version, &mut reader)?;
    *correlation_id = correlation_id.wrapping_add(1);
    ensure!(header.correlation_id == *correlation_id, "an answer came out of order");
    Ok(M::decode(version, &mut reader)?)
}
