//! The same records through both gateways.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::{Buf as _, Bytes};
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Batch, ByteSize, Clock as _, SystemClock};
use rafka_kafka_wire::{Message, Reader, RequestHeader, ResponseHeader, Writer, fetch, produce};

use crate::node::{LIMIT, Node};

/// Asks over the Kafka port; `read` looks at the answer.
fn ask<'m, Q: Message<'m>>(node: &Node, version: i16, request: &Q) -> Bytes {
    let mut out = Writer::new();
    let client_id = Some("it".into());
    let header = RequestHeader { key: Q::KEY, version, correlation_id: 1, client_id };
    header.encode(&mut out).expect("a short client id");
    request.encode(version, &mut out).expect("a request of this version");
    let mut frame = out.finish().expect("short enough");
    let mut stream = TcpStream::connect(node.kafka()).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("the limit is not zero");
    stream.write_all(&frame.copy_to_bytes(frame.remaining())).expect("it reads");
    let mut len = [0; 4];
    stream.read_exact(&mut len).expect("it answers");
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(len)).expect("a length")];
    stream.read_exact(&mut answer).expect("it answers");
    answer.into()
}

fn read<'a, R: Message<'a>>(answer: &'a Bytes, version: i16) -> R {
    let mut reader = Reader::new(answer);
    let header = ResponseHeader::decode(R::KEY, version, &mut reader).expect("a header");
    assert_eq!(header.correlation_id, 1);
    R::decode(version, &mut reader).expect("an answer of this version")
}

fn produce(node: &Node, topic: &'static str, values: &[&str]) {
    let mut builder = BatchBuilder::new(Compression::Snappy);
    for value in values {
        builder.push(SystemClock::new().timestamp(), None, Some(value.as_bytes()), &[]);
    }
    let batch = builder.build().expect("memory does not fail");
    let partition =
        produce::PartitionProduceData { index: 0, records: Some(batch.to_bytes().into()) };
    let topic = produce::TopicProduceData {
        name: topic.into(),
        partition_data: vec![partition],
        ..Default::default()
    };
    let request = produce::Request {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![topic],
        ..Default::default()
    };
    let answer = ask(node, 9, &request);
    let response: produce::Response<'_> = read(&answer, 9);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

fn consume(node: &Node, topic: &'static str) -> Vec<String> {
    let partition = fetch::Partition { partition_max_bytes: 1 << 20, ..Default::default() };
    let topic =
        fetch::Topic { topic: topic.into(), partitions: vec![partition], ..Default::default() };
    let request = fetch::Request {
        max_wait_ms: 1000,
        min_bytes: 1,
        topics: vec![topic],
        ..Default::default()
    };
    let answer = ask(node, 11, &request);
    let mut response: fetch::Response<'_> = read(&answer, 11);
    let records = response.responses[0].partitions[0].records.take();
    let mut bytes = records.expect("records").into_bytes();
    let mut values = Vec::new();
    while let Some(batch) = Batch::split_first(&mut bytes).expect("sound batches") {
        for record in batch.records(ByteSize::mib(1)).expect("it inflates") {
            let value = record.expect("a record").value.expect("a value");
            values.push(String::from_utf8(value.to_vec()).expect("text"));
        }
    }
    values
}

#[test]
fn what_one_gateway_takes_the_other_gives_also_after_a_kill() {
    let mut node = Node::start(&[]);
    node.ok(&["topic", "create", "t"]);
    node.ok_with(&["produce", "t"], "grpc\n");
    produce(&node, "t", &["kafka", "both"]);
    assert_eq!(consume(&node, "t"), ["grpc", "kafka", "both"]);
    node.kill();
    node.restart();
    assert_eq!(node.ok(&["consume", "t", "-e"]), "grpc\nkafka\nboth\n");
    assert_eq!(consume(&node, "t"), ["grpc", "kafka", "both"]);
}
