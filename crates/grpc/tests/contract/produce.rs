//! Produce: order, partitions, refusals, back-pressure.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Batch, ByteSize, ProducerEpoch, ProducerId, partitioner};
use rafka_grpc::Settings;
use rafka_proto::v1::produce_partition::Data;
use rafka_proto::v1::{FetchRequest, Header, ProduceRequest, Record, Records};
use tokio::time::timeout;
use tonic::Code;

use crate::support::{
    Node, Producing, batch, code, entry, fetch, fetch_all, now, plain, raw, record, request,
    settings, soon, values,
};

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_appended_in_order() {
    let node = Node::with_topic("orders", 3).await;
    let mut stream = Producing::start(&node).await;
    let total: u64 = 60;
    let requests = stream.requests.clone();
    let send = async {
        for id in 0..total {
            let partition = i32::try_from(id % 3).expect("small");
            let request = raw("orders", partition, &batch(&[&id.to_string()]));
            requests.send(ProduceRequest { request_id: id, ..request }).await.expect("open");
        }
    };
    let receive = async {
        for id in 0..total {
            let answer = stream.answer().await;
            assert_eq!(answer.request_id, id);
            assert_eq!(answer.partitions[0].error, None);
            assert_eq!(answer.partitions[0].base_offset, i64::try_from(id / 3).expect("small"));
        }
    };
    tokio::join!(send, receive);
    drop(requests);
    assert_eq!(stream.finish().await.expect("an orderly end"), None);
    for partition in 0..3 {
        let read =
            fetch_all(&node, FetchRequest { until_end: true, ..fetch("orders", &[partition]) });
        let first = u64::try_from(partition).expect("small");
        let expected: Vec<String> = (first..total).step_by(3).map(|id| id.to_string()).collect();
        assert_eq!(values(&read.await), expected, "partition {partition}");
    }
}

#[tokio::test]
async fn raw_batches_are_stored_as_they_are() {
    let node = Node::with_topic("orders", 1).await;
    let sent = batch(&["a", "b"]);
    node.append("orders", 0, &["first"]).await;
    let mut stream = Producing::start(&node).await;
    stream.send(raw("orders", 0, &sent)).await;
    assert_eq!(stream.answer().await.partitions[0].base_offset, 1);
    let mut wanted = FetchRequest { decode: false, until_end: true, ..fetch("orders", &[0]) };
    wanted.partitions[0].offset = 1;
    let read = fetch_all(&node, wanted).await;
    let found = Batch::parse(read[0].partitions[0].batches.clone()).expect("one sound batch");
    assert_eq!((found.header.crc, &found.records), (sent.header.crc, &sent.records));
    assert_eq!(found.header.base_offset.0, 1);
}

#[tokio::test]
async fn plain_records_keep_all_they_carry() {
    let node = Node::with_topic("orders", 1).await;
    let header = |name: &str, value: Option<&'static [u8]>| Header {
        name: name.to_owned(),
        value: value.map(Bytes::from_static),
    };
    let sent = vec![
        Record {
            key: Some(Bytes::from_static(b"k")),
            value: None,
            headers: vec![header("a", Some(b"1")), header("a", None), header("", Some(b""))],
            timestamp_ms: Some(now().0 - 1000),
        },
        Record { key: None, value: Some(Bytes::new()), headers: vec![], timestamp_ms: Some(7) },
    ];
    for compression in 0..5 {
        let mut stream = Producing::start(&node).await;
        let data = Data::Records(Records { records: sent.clone(), compression });
        stream.send(request(vec![entry("orders", 0, data)])).await;
        assert_eq!(stream.answer().await.partitions[0].error, None, "codec {compression}");
    }
    let read = fetch_all(&node, FetchRequest { until_end: true, ..fetch("orders", &[0]) }).await;
    let found: Vec<Record> = read
        .iter()
        .flat_map(|message| &message.partitions)
        .flat_map(|partition| partition.records.clone())
        .map(|record| Record {
            key: record.key,
            value: record.value,
            headers: record.headers,
            timestamp_ms: Some(record.timestamp_ms),
        })
        .collect();
    let expected: Vec<Record> = (0..5).flat_map(|_| sent.clone()).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn the_node_chooses_partitions_as_kafkas_clients_do() {
    let node = Node::with_topic("orders", 4).await;
    let mut stream = Producing::start(&node).await;
    let keys: Vec<String> = (0..20).map(|key| format!("key-{key}")).collect();
    let records = keys.iter().map(|key| record(Some(key), key)).collect();
    stream.send(plain("orders", -1, records)).await;
    let answer = stream.answer().await;
    let mut seen = BTreeMap::new();
    for part in &answer.partitions {
        assert_eq!((part.error.as_ref(), part.entry), (None, 0));
        for index in &part.record_indexes {
            seen.insert(*index, part.partition);
        }
    }
    for (index, key) in (0_u32..).zip(&keys) {
        let expected = partitioner::partition_of_key(key.as_bytes(), 4);
        assert_eq!(seen.get(&index).copied(), i32::try_from(expected).ok(), "{key}");
    }
    // Records without a key stay together, and the next ones go elsewhere.
    let mut chosen = Vec::new();
    for _ in 0..4 {
        stream.send(plain("orders", -1, vec![record(None, "x"), record(None, "y")])).await;
        let answer = stream.answer().await;
        assert_eq!(answer.partitions.len(), 1);
        chosen.push(answer.partitions[0].partition);
    }
    chosen.sort_unstable();
    assert_eq!(chosen, [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_bad_entry_spoils_neither_its_request_nor_the_stream() {
    let node = Node::with_topic("orders", 1).await;
    let mut damaged = batch(&["damaged"]).to_bytes().to_vec();
    damaged[70] ^= 1;
    let entries = vec![
        entry("orders", 0, Data::Batches(batch(&["a"]).to_bytes())),
        entry("orders", 0, Data::Batches(damaged.into())),
        entry("orders", 7, Data::Batches(batch(&["b"]).to_bytes())),
        entry("no such/topic", 0, Data::Batches(batch(&["c"]).to_bytes())),
        entry("orders", 0, Data::Batches(Bytes::new())),
        entry("orders", 0, Data::Records(Records::default())),
        entry("orders", 0, Data::Batches(batch(&["d"]).to_bytes())),
    ];
    let mut stream = Producing::start(&node).await;
    stream.send(request(entries)).await;
    let answer = stream.answer().await;
    let codes: Vec<i32> =
        answer.partitions.iter().map(|partition| code(partition.error.as_ref())).collect();
    assert_eq!(codes, [0, 2, 3, 17, 42, 42, 0]);
    let message = &answer.partitions[1].error.as_ref().expect("refused").message;
    assert!(message.contains("topic orders, partition 0: batch 0, at byte 0 of"), "{message}");
    stream.send(raw("orders", 0, &batch(&["e"]))).await;
    assert_eq!(stream.answer().await.partitions[0].base_offset, 2);
    let read = fetch_all(&node, FetchRequest { until_end: true, ..fetch("orders", &[0]) }).await;
    assert_eq!(values(&read), ["a", "d", "e"]);
}

#[tokio::test]
async fn a_malformed_request_ends_the_stream_after_the_answers_before_it() {
    let node = Node::with_topic("orders", 1).await;
    let good = raw("orders", 0, &batch(&["a"]));
    let check = async |bad: ProduceRequest, reason: &str| {
        let mut stream = Producing::start(&node).await;
        stream.send(good.clone()).await;
        stream.send(bad).await;
        assert_eq!(stream.answer().await.partitions[0].error, None, "{reason}");
        let status = soon(stream.answers.message()).await.expect_err(reason);
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(status.message(), reason);
    };
    check(request(vec![]), "partitions is empty: name at least one").await;
    check(ProduceRequest { acks: 9, ..good.clone() }, "acks 9 is unknown: 0 to 2 are").await;
    check(
        ProduceRequest { timeout_ms: 600_001, ..good.clone() },
        "timeout_ms is 600001: at most 600000 is allowed",
    )
    .await;
}

#[tokio::test]
async fn without_acks_there_is_no_answer_but_the_order_holds() {
    let node = Node::with_topic("orders", 1).await;
    let mut stream = Producing::start(&node).await;
    for value in ["a", "b"] {
        let request = raw("orders", 0, &batch(&[value]));
        stream.send(ProduceRequest { acks: 2, ..request }).await;
    }
    // Nobody hears of it.
    stream.send(ProduceRequest { acks: 2, ..raw("orders", 9, &batch(&["x"])) }).await;
    stream.send(ProduceRequest { request_id: 5, ..raw("orders", 0, &batch(&["c"])) }).await;
    let answer = stream.answer().await;
    assert_eq!((answer.request_id, answer.partitions[0].base_offset), (5, 2));
    assert_eq!(stream.finish().await.expect("an orderly end"), None);
}

#[tokio::test]
async fn a_repeated_idempotent_batch_is_stored_once() {
    let node = Node::with_topic("orders", 1).await;
    let id = node
        .admin()
        .await
        .init_producer_id(rafka_proto::v1::InitProducerIdRequest::default())
        .await;
    let id = id.expect("answered").into_inner();
    let epoch = ProducerEpoch(i16::try_from(id.producer_epoch).expect("an epoch"));
    let make = |sequence| {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.producer(ProducerId(id.producer_id), epoch, sequence);
        builder.push(now(), None, Some(b"once"), &[]);
        builder.build().expect("memory does not fail")
    };
    let mut stream = Producing::start(&node).await;
    for (sequence, expected_code, expected_offset) in
        [(0, 0, 0), (1, 0, 1), (1, 0, 1), (0, 0, 0), (9, 45, -1)]
    {
        stream.send(raw("orders", 0, &make(sequence))).await;
        let answer = stream.answer().await.partitions.remove(0);
        let found = (code(answer.error.as_ref()), answer.base_offset);
        assert_eq!(found, (expected_code, expected_offset), "sequence {sequence}");
    }
    let read = fetch_all(&node, FetchRequest { until_end: true, ..fetch("orders", &[0]) }).await;
    assert_eq!(values(&read).len(), 2);
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_nothing_else() {
    let settings = Settings { produce_message_bytes_max: ByteSize::kib(64), ..settings() };
    let node = Node::with(settings, rafka_broker::Settings::default()).await;
    let limits = [("max.message.bytes", "2000")];
    rafka_broker::testing::create_topic(&node.broker, "orders", 1, &limits).await;
    let mut stream = Producing::start(&node).await;
    let value = |len: usize| plain("orders", 0, vec![record(None, &"x".repeat(len))]);
    for (len, expected) in [(1000, 0), (3000, 10), (60_000, 10), (1000, 0)] {
        stream.send(value(len)).await;
        let answer = stream.answer().await;
        assert_eq!(code(answer.partitions[0].error.as_ref()), expected, "{len} bytes");
    }
    stream.send(value(70_000)).await;
    let status = soon(stream.answers.message()).await.expect_err("above the message limit");
    assert_eq!(status.code(), Code::OutOfRange);
}

#[tokio::test]
async fn topics_come_into_being_when_written_to_only_if_allowed() {
    for (allowed, expected) in [(true, 0), (false, 3)] {
        let broker = rafka_broker::Settings {
            auto_create_topics_enable: allowed,
            ..rafka_broker::Settings::default()
        };
        let node = Node::with(settings(), broker).await;
        let mut stream = Producing::start(&node).await;
        stream.send(plain("new", -1, vec![record(None, "x")])).await;
        let answer = stream.answer().await;
        assert_eq!(code(answer.partitions[0].error.as_ref()), expected, "allowed: {allowed}");
    }
}

#[tokio::test]
async fn a_client_that_reads_no_answers_is_held_back_and_holds_up_nobody() {
    let settings = Settings {
        produce_message_bytes_max: ByteSize::kib(64),
        produce_inflight_bytes_max: ByteSize::kib(64),
        receive_bytes_max: Some(ByteSize::kib(128)),
        ..settings()
    };
    let node = Node::with(settings, rafka_broker::Settings::default()).await;
    rafka_broker::testing::create_topic(&node.broker, "orders", 1, &[]).await;
    let mut stubborn = Producing::on(&mut node.log_with_small_window().await).await;
    let small = raw("orders", 0, &batch(&["x"]));
    // At some point the answers no longer fit the client's window, and then requests no longer
    // enter: the stream is held back, and not ended.
    let mut sent = 0;
    while let Ok(open) =
        timeout(Duration::from_millis(500), stubborn.requests.send(small.clone())).await
    {
        open.expect("the stream is open");
        sent += 1;
        assert!(sent < 1_000_000, "nothing held the client back");
    }
    let taken = node.broker.stats().produce_requests.count();
    node.append("orders", 0, &["other"]).await;
    assert_eq!(node.broker.stats().produce_requests.count(), taken + 1, "held back after {sent}");
    // Once it reads, it is served on.
    for _ in 0..sent {
        assert_eq!(stubborn.answer().await.partitions[0].error, None);
    }
}

#[tokio::test]
async fn a_request_of_countless_empty_records_is_refused_before_it_grows() {
    let node = Node::with_topic("orders", 1).await;
    let mut stream = Producing::start(&node).await;
    stream.send(plain("orders", 0, vec![record(None, "x"); 60_000])).await;
    assert_eq!(stream.answer().await.partitions[0].error, None);
    stream.send(plain("orders", 0, vec![Record::default(); 66_000])).await;
    let status = soon(stream.answers.message()).await.expect_err("too many");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("65536 entries, records and headers"), "{status}");
}
