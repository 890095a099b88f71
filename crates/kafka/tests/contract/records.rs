//! Records in and out: what is refused, with which code, and how reading waits.

use std::time::Duration;

use bytes::Bytes;
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Batch, Clock as _};
use rafka_kafka_wire::{fetch, produce};

use crate::support::{Client, LIMIT, Node, batch, body, produce as producing};

const VERSION: i16 = 9;

async fn code(client: &mut Client, request: &produce::Request<'_>) -> i16 {
    let frame = client.ask(VERSION, request).await.expect("the connection stays");
    let response: produce::Response<'_> = body(VERSION, &frame);
    let answer = &response.responses[0].partition_responses[0];
    assert_eq!(answer.error_code != 0, answer.error_message.is_some(), "{answer:?}");
    answer.error_code
}

pub(super) fn fetching(offset: i64, wait_ms: i32) -> fetch::Request<'static> {
    fetch::Request {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![fetch::Topic {
            topic: "orders".into(),
            partitions: vec![fetch::Partition {
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..fetch::Partition::default()
            }],
            ..fetch::Topic::default()
        }],
        ..fetch::Request::default()
    }
}

/// The error and the values that a fetch brought.
fn found(frame: &Bytes) -> (i16, Vec<String>) {
    let response: fetch::Response<'_> = body(12, frame);
    let data = &response.responses[0].partitions[0];
    let mut bytes = data.records.clone().unwrap_or_default().into_bytes();
    let mut values = Vec::new();
    while let Some(batch) = Batch::split_first(&mut bytes).expect("whole batches") {
        for record in batch.records(rafka_core::ByteSize::mib(1)).expect("sound") {
            let value = record.expect("sound").value.expect("we write values");
            values.push(String::from_utf8_lossy(&value).into_owned());
        }
    }
    (data.error_code, values)
}

#[tokio::test]
async fn what_cannot_be_appended_is_refused_with_kafka_s_code_and_nothing_of_it_is_kept() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let good = batch(&["x"]).to_bytes();
    let altered = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        Bytes::from(bytes)
    };
    let twice = Bytes::from([&good[..], &good[..]].concat());
    let large = batch(&["x".repeat(2 << 20).as_str()]).to_bytes();
    for (acks, partition, records, expected) in [
        (2, 0, good.clone(), 21),
        (-1, 9, good.clone(), 3),
        (-1, 0, altered(good.len() - 1, 0xff), 2),
        (-1, 0, altered(16, 1), 87),
        (-1, 0, good.slice(..good.len() - 1), 2),
        (-1, 0, Bytes::new(), 87),
        (-1, 0, twice, 87),
        (-1, 0, large, 10),
    ] {
        let request = producing(acks, partition, records);
        assert_eq!(code(&mut client, &request).await, expected, "acks {acks}");
    }
    let mut unknown = producing(-1, 0, good.clone());
    unknown.topic_data[0].name = "nowhere".into();
    assert_eq!(code(&mut client, &unknown).await, 3);
    assert_eq!(code(&mut client, &producing(-1, 0, good)).await, 0);
    let frame = client.ask(12, &fetching(0, 0)).await.expect("answered");
    assert_eq!(found(&frame), (0, vec!["x".to_owned()]));
}

#[tokio::test]
async fn a_fetch_waits_for_records_and_ends_with_its_time() {
    let node = Node::start().await;
    let (mut reader, mut writer) = (node.connect().await, node.connect().await);
    let begun = tokio::time::Instant::now();
    let waits = async {
        let frame = reader.ask(12, &fetching(0, 60_000)).await.expect("answered");
        found(&frame)
    };
    let writes = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        code(&mut writer, &producing(-1, 0, batch(&["woken"]).to_bytes())).await
    };
    let (read, written) = tokio::join!(waits, writes);
    assert_eq!((read, written), ((0, vec!["woken".to_owned()]), 0));
    assert!(begun.elapsed() < LIMIT, "it was woken and did not wait for its time");
    let frame = reader.ask(12, &fetching(1, 50)).await.expect("answered");
    assert_eq!(found(&frame), (0, vec![]));
    let frame = reader.ask(12, &fetching(7, 50)).await.expect("answered");
    assert_eq!(found(&frame), (1, vec![]));
}

#[tokio::test]
async fn answers_come_in_order_and_without_acks_none_comes() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let mut expected = Vec::new();
    for round in 0..20 {
        client.send(VERSION, &producing(0, 0, batch(&["silent"]).to_bytes())).await;
        expected
            .push(client.send(VERSION, &producing(-1, round % 2, batch(&["a"]).to_bytes())).await);
    }
    let last = client.send(12, &fetching(0, 0)).await;
    for id in expected {
        let mut frame = client.frame().await.expect("answered");
        assert_eq!(crate::support::header::<produce::Request<'_>>(VERSION, &mut frame), id);
        let response: produce::Response<'_> = body(VERSION, &frame);
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
    let mut frame = client.frame().await.expect("answered");
    assert_eq!(crate::support::header::<fetch::Request<'_>>(12, &mut frame), last);
    // 20 silent ones and every second of the others.
    assert_eq!(found(&frame).1.len(), 30);
}

#[tokio::test]
async fn a_producer_that_sends_more_than_there_is_room_for_is_answered_all_the_same() {
    let settings = rafka_kafka::Settings {
        receive_bytes_max: Some(rafka_core::ByteSize::mib(4)),
        ..rafka_kafka::Settings::default()
    };
    let node = Node::with(settings).await;
    let mut client = node.connect().await;
    let large = batch(&["x".repeat(900_000).as_str()]).to_bytes();
    // All of it is on its way before the first answer is read.
    for _ in 0..20 {
        client.send(VERSION, &producing(-1, 0, large.clone())).await;
    }
    for _ in 0..20 {
        let mut frame = client.frame().await.expect("answered");
        crate::support::header::<produce::Request<'_>>(VERSION, &mut frame);
        let response: produce::Response<'_> = body(VERSION, &frame);
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
    // Who reads it gets as much at once as there is room for, and the first batch in any case.
    let frame = client.ask(12, &fetching(0, 0)).await.expect("answered");
    assert_eq!(found(&frame).1.len(), 1, "a second one does not fit into 1 MiB");
}

#[tokio::test]
async fn readers_that_find_no_room_get_less_and_no_error() {
    let settings = rafka_kafka::Settings {
        fetch_bytes_max: rafka_core::ByteSize::kib(256),
        read_bytes_max: Some(rafka_core::ByteSize::kib(256)),
        ..rafka_kafka::Settings::default()
    };
    let node = Node::with(settings).await;
    let mut client = node.connect().await;
    for _ in 0..40 {
        let request = producing(-1, 0, batch(&["x".repeat(10_000).as_str()]).to_bytes());
        assert_eq!(code(&mut client, &request).await, 0);
    }
    let mut readers = Vec::new();
    for _ in 0..8 {
        let mut reader = node.connect().await;
        reader.send(12, &fetching(0, 10_000)).await;
        readers.push(reader);
    }
    for mut reader in readers {
        let mut frame = reader.frame().await.expect("answered");
        crate::support::header::<fetch::Request<'_>>(12, &mut frame);
        let (error, values) = found(&frame);
        assert_eq!(error, 0);
        // 64 KiB hold six of them, 256 KiB twenty-six.
        assert!((6..=26).contains(&values.len()), "{}", values.len());
    }
}

#[tokio::test]
async fn the_youngest_record_is_found_and_nothing_lies_in_remote_storage() {
    use rafka_kafka_wire::list_offsets;

    let node = Node::start().await;
    let mut client = node.connect().await;
    client.ask(9, &producing(-1, 0, batch(&["a", "b"]).to_bytes())).await.expect("answered");
    for version in 7..=11 {
        let mut found = Vec::new();
        for timestamp in [-3, -4, -5, -6] {
            let partition = list_offsets::Partition { timestamp, ..Default::default() };
            let topic = list_offsets::Topic { name: "orders".into(), partitions: vec![partition] };
            let request = list_offsets::Request { topics: vec![topic], ..Default::default() };
            let frame = client.ask(version, &request).await.expect("answered");
            let response: list_offsets::Response<'_> = body(version, &frame);
            let answer = &response.topics[0].partitions[0];
            assert_eq!(answer.error_code, 0);
            found.push((answer.offset, answer.timestamp));
        }
        assert_eq!(found, [(0, 1_700_000_000_000), (0, -1), (-1, -1), (-1, -1)]);
    }
}

#[tokio::test]
async fn records_that_are_refused_are_named_and_the_others_are_not() {
    let node = Node::start().await;
    rafka_broker::testing::create_topic(&node.broker, "keyed", 1, &[("cleanup.policy", "compact")])
        .await;
    let mut client = node.connect().await;
    let mut builder = BatchBuilder::new(Compression::None);
    let now = rafka_core::SystemClock::new().timestamp();
    for key in [Some("a"), None, Some("b"), None] {
        builder.push(now, key.map(str::as_bytes), Some(b"v"), &[]);
    }
    let keyless = builder.build().expect("no codec").to_bytes();
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(now, Some(b"a"), None, &[]);
    builder.push(now.plus(Duration::from_hours(2)), Some(b"a"), None, &[]);
    let late = builder.build().expect("no codec").to_bytes();
    for version in 3..=11 {
        for (records, code, indexes) in [(&keyless, 87, &[1, 3][..]), (&late, 32, &[1])] {
            let mut request = producing(-1, 0, records.clone());
            request.topic_data[0].name = "keyed".into();
            let frame = client.ask(version, &request).await.expect("the connection stays");
            let response: produce::Response<'_> = body(version, &frame);
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!(answer.error_code, code, "version {version}");
            let named = answer.record_errors.iter().map(|record| {
                let message = record.batch_index_error_message.as_ref().expect("a reason");
                assert!(message.contains(&format!("record {}", record.batch_index)), "{message}");
                record.batch_index
            });
            let expected = if version < 8 { &[] } else { indexes };
            assert_eq!(named.collect::<Vec<_>>(), expected, "version {version}");
        }
    }
}

#[tokio::test]
async fn an_error_under_acks_0_closes_the_connection_and_what_went_before_is_answered() {
    let node = Node::start().await;
    let good = batch(&["x"]).to_bytes();
    let mut unknown = producing(0, 0, good.clone());
    unknown.topic_data[0].name = "nowhere".into();
    let damaged = good.slice(..good.len() - 1);
    for refused in [unknown, producing(0, 9, good.clone()), producing(0, 0, damaged)] {
        let mut client = node.connect().await;
        client.send(VERSION, &producing(-1, 0, good.clone())).await;
        client.send(VERSION, &refused).await;
        assert!(client.frame().await.is_some(), "the first one");
        assert_eq!(client.frame().await, None, "{refused:?}");
    }
    let mut client = node.connect().await;
    client.send(VERSION, &producing(0, 0, good.clone())).await;
    assert_eq!(code(&mut client, &producing(-1, 0, good)).await, 0, "no error, no answer");
}
