//! Transactions as old clients have them: partitions are added, batches written, the end asked for.

use std::time::Duration;

use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{ErrorCode, ProducerEpoch, ProducerId, Timestamp};
use rafka_kafka_wire::{
    Message, add_partitions_to_txn, end_txn, find_coordinator, init_producer_id, list_offsets,
    produce,
};

use crate::support::{Client, Node, body, produce as producing};

const ID: &str = "payments";
/// Another operation is under way: come again.
const BUSY: i16 = 51;

/// Asks until nothing else is under way, as clients do.
async fn settled<'a, M: Message<'a>>(
    client: &mut Client,
    version: i16,
    request: &M,
    code: fn(i16, &bytes::Bytes) -> i16,
) -> bytes::Bytes {
    for _ in 0..500 {
        let frame = client.ask(version, request).await.expect("answered");
        let found = code(version, &frame);
        let is_retriable = ErrorCode::from_code(found).is_some_and(ErrorCode::is_retriable);
        if !is_retriable && found != BUSY {
            return frame;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not settle");
}

async fn init(client: &mut Client, version: i16) -> (i64, i16) {
    let request = init_producer_id::Request {
        transactional_id: Some(ID.into()),
        transaction_timeout_ms: 60_000,
        ..init_producer_id::Request::default()
    };
    let frame = settled(client, version, &request, |version, frame| {
        body::<init_producer_id::Response>(version, frame).error_code
    });
    let frame = frame.await;
    let given: init_producer_id::Response = body(version, &frame);
    assert_eq!(given.error_code, 0);
    (given.producer_id, given.producer_epoch)
}

async fn add(client: &mut Client, version: i16, (id, epoch): (i64, i16)) -> i16 {
    fn code(version: i16, frame: &bytes::Bytes) -> i16 {
        let answer: add_partitions_to_txn::Response<'_> = body(version, frame);
        answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    }
    let topic = add_partitions_to_txn::Topic { name: "orders".into(), partitions: vec![0] };
    let request = add_partitions_to_txn::Request {
        v3_and_below_transactional_id: ID.into(),
        v3_and_below_producer_id: id,
        v3_and_below_producer_epoch: epoch,
        v3_and_below_topics: vec![topic],
        ..add_partitions_to_txn::Request::default()
    };
    let frame = settled(client, version, &request, code).await;
    code(version, &frame)
}

async fn write(client: &mut Client, (id, epoch): (i64, i16), sequence: i32) -> i16 {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    builder.transactional();
    builder.push(Timestamp(1_700_000_000_000), None, Some(b"value"), &[]);
    let batch = builder.build().expect("no codec");
    let request = produce::Request {
        transactional_id: Some(ID.into()),
        ..producing(-1, 0, batch.to_bytes())
    };
    let frame = client.ask(7, &request).await.expect("answered");
    let answer: produce::Response<'_> = body(7, &frame);
    answer.responses[0].partition_responses[0].error_code
}

async fn end(client: &mut Client, version: i16, (id, epoch): (i64, i16), committed: bool) -> i16 {
    let request = end_txn::Request {
        transactional_id: ID.into(),
        producer_id: id,
        producer_epoch: epoch,
        committed,
    };
    let frame = settled(client, version, &request, |version, frame| {
        body::<end_txn::Response>(version, frame).error_code
    });
    let frame = frame.await;
    body::<end_txn::Response>(version, &frame).error_code
}

/// Where readers of what is committed stop.
async fn stable(client: &mut Client) -> i64 {
    let partition = list_offsets::Partition {
        timestamp: -1,
        current_leader_epoch: -1,
        ..list_offsets::Partition::default()
    };
    let request = list_offsets::Request {
        replica_id: -1,
        isolation_level: 1,
        topics: vec![list_offsets::Topic { name: "orders".into(), partitions: vec![partition] }],
        ..list_offsets::Request::default()
    };
    let frame = client.ask(4, &request).await.expect("answered");
    let answer: list_offsets::Response<'_> = body(4, &frame);
    answer.topics[0].partitions[0].offset
}

#[tokio::test]
async fn a_transaction_is_seen_when_it_is_committed_and_its_zombies_are_fenced() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let request = find_coordinator::Request {
        key: ID.into(),
        key_type: 1,
        ..find_coordinator::Request::default()
    };
    let frame = client.ask(2, &request).await.expect("answered");
    assert_eq!(body::<find_coordinator::Response<'_>>(2, &frame).error_code, 0);

    let first = init(&mut client, 0).await;
    let stray = write(&mut client, first, 0).await;
    assert_eq!(stray, ErrorCode::InvalidTxnState.code(), "it was not added");
    assert_eq!(add(&mut client, 0, first).await, 0);
    assert_eq!(write(&mut client, first, 0).await, 0);
    assert_eq!(stable(&mut client).await, 0, "it is open");
    assert_eq!(end(&mut client, 0, first, true).await, 0);
    // The next one begins when the markers of this one are written.
    assert_eq!(add(&mut client, 3, first).await, 0);
    assert_eq!(stable(&mut client).await, 2, "a record and a marker");
    assert_eq!(write(&mut client, first, 1).await, 0);

    let second = init(&mut client, 5).await;
    assert_eq!(second.0, first.0);
    assert_eq!(stable(&mut client).await, 4, "what was open is aborted");
    let fenced = ErrorCode::ProducerFenced.code();
    let stale = ErrorCode::InvalidProducerEpoch.code();
    assert_eq!(write(&mut client, first, 2).await, stale);
    assert_eq!(add(&mut client, 0, first).await, stale, "it knows no better word");
    assert_eq!(add(&mut client, 3, first).await, fenced);
    assert_eq!(end(&mut client, 1, first, true).await, stale);
    assert_eq!(end(&mut client, 4, first, true).await, fenced);
    assert_eq!(end(&mut client, 4, second, true).await, ErrorCode::InvalidTxnState.code());
}
