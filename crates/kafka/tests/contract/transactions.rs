//! Transactions as old clients have them: partitions are added, batches written, the end asked for.

use std::time::Duration;

use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{ErrorCode, ProducerEpoch, ProducerId, Timestamp};
use rafka_kafka_wire::{
    Message, add_offsets_to_txn, add_partitions_to_txn, end_txn, find_coordinator,
    init_producer_id, list_offsets, offset_fetch, produce, txn_offset_commit,
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

pub(crate) async fn init(client: &mut Client, version: i16) -> (i64, i16) {
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

pub(crate) async fn add(client: &mut Client, version: i16, (id, epoch): (i64, i16)) -> i16 {
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

pub(crate) async fn write(client: &mut Client, producer: (i64, i16), sequence: i32) -> i16 {
    write_as(client, 7, producer, sequence).await
}

async fn write_as(
    client: &mut Client,
    version: i16,
    (id, epoch): (i64, i16),
    sequence: i32,
) -> i16 {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    builder.transactional();
    builder.push(Timestamp(1_700_000_000_000), None, Some(b"value"), &[]);
    let batch = builder.build().expect("no codec");
    let request = produce::Request {
        transactional_id: Some(ID.into()),
        ..producing(-1, 0, batch.to_bytes())
    };
    fn code(version: i16, frame: &bytes::Bytes) -> i16 {
        let answer: produce::Response<'_> = body(version, frame);
        answer.responses[0].partition_responses[0].error_code
    }
    let frame = settled(client, version, &request, code).await;
    code(version, &frame)
}

pub(crate) async fn end(
    client: &mut Client,
    version: i16,
    (id, epoch): (i64, i16),
    committed: bool,
) -> i16 {
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
pub(crate) async fn stable(client: &mut Client) -> i64 {
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

/// Ends it by the rules of version 2; who the producer is from then on.
async fn end_v2(client: &mut Client, (id, epoch): (i64, i16), committed: bool) -> (i64, i16) {
    let request = end_txn::Request {
        transactional_id: ID.into(),
        producer_id: id,
        producer_epoch: epoch,
        committed,
    };
    let frame = settled(client, 5, &request, |version, frame| {
        body::<end_txn::Response>(version, frame).error_code
    });
    let frame = frame.await;
    let ended = body::<end_txn::Response>(5, &frame);
    assert_eq!(ended.error_code, 0);
    (ended.producer_id, ended.producer_epoch)
}

#[tokio::test]
async fn by_the_newer_rules_partitions_add_themselves_and_every_end_raises_the_epoch() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let first = init(&mut client, 5).await;
    assert_eq!(write_as(&mut client, 12, first, 0).await, 0);
    assert_eq!(stable(&mut client).await, 0, "it is open");
    let second = end_v2(&mut client, first, true).await;
    assert_eq!(second, (first.0, first.1 + 1));
    assert_eq!(end_v2(&mut client, first, true).await, second, "the answer was lost");
    let stale = ErrorCode::InvalidProducerEpoch.code();
    assert_eq!(write_as(&mut client, 12, first, 1).await, stale, "it is late");
    assert_eq!(write_as(&mut client, 12, second, 0).await, 0);
    let third = end_v2(&mut client, second, false).await;
    assert_eq!(third.1, second.1 + 1);
    assert_eq!(write_as(&mut client, 12, third, 0).await, 0);
    end_v2(&mut client, third, true).await;
    let all_over = async {
        while stable(&mut client).await < 6 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::support::LIMIT, all_over).await.expect("three markers come");
}

async fn add_offsets(client: &mut Client, version: i16, (id, epoch): (i64, i16)) -> i16 {
    let request = add_offsets_to_txn::Request {
        transactional_id: ID.into(),
        producer_id: id,
        producer_epoch: epoch,
        group_id: "readers".into(),
    };
    let frame = settled(client, version, &request, |version, frame| {
        body::<add_offsets_to_txn::Response>(version, frame).error_code
    });
    body::<add_offsets_to_txn::Response>(version, &frame.await).error_code
}

async fn commit_offset(
    client: &mut Client,
    version: i16,
    (id, epoch): (i64, i16),
    offset: i64,
) -> i16 {
    fn code(version: i16, frame: &bytes::Bytes) -> i16 {
        let answer: txn_offset_commit::Response<'_> = body(version, frame);
        answer.topics[0].partitions[0].error_code
    }
    let partition = txn_offset_commit::RequestPartition {
        committed_offset: offset,
        ..txn_offset_commit::RequestPartition::default()
    };
    let topic =
        txn_offset_commit::RequestTopic { name: "orders".into(), partitions: vec![partition] };
    let request = txn_offset_commit::Request {
        transactional_id: ID.into(),
        producer_id: id,
        producer_epoch: epoch,
        group_id: "readers".into(),
        topics: vec![topic],
        ..txn_offset_commit::Request::default()
    };
    let frame = settled(client, version, &request, code).await;
    code(version, &frame)
}

/// The code and the offset, if only what is stable is wanted.
async fn committed(client: &mut Client, version: i16) -> (i16, i64) {
    let single = version < 8;
    let request = if single {
        let topic =
            offset_fetch::RequestTopic { name: "orders".into(), partition_indexes: vec![0] };
        offset_fetch::Request {
            group_id: "readers".into(),
            topics: Some(vec![topic]),
            require_stable: true,
            ..offset_fetch::Request::default()
        }
    } else {
        let group = offset_fetch::RequestGroup {
            group_id: "readers".into(),
            topics: None,
            ..offset_fetch::RequestGroup::default()
        };
        offset_fetch::Request {
            groups: vec![group],
            require_stable: true,
            ..offset_fetch::Request::default()
        }
    };
    let frame = client.ask(version, &request).await.expect("answered");
    let answer: offset_fetch::Response<'_> = body(version, &frame);
    if single {
        let found = &answer.topics[0].partitions[0];
        return (found.error_code, found.committed_offset);
    }
    answer.groups[0].topics.first().map_or((0, -1), |topic| {
        let found = &topic.partitions[0];
        (found.error_code, found.committed_offset)
    })
}

#[tokio::test]
async fn offsets_count_when_the_transaction_is_committed() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let mut producer = init(&mut client, 5).await;
    let unstable = ErrorCode::UnstableOffsetCommit.code();
    let mut expected = -1;
    for version in 0..=5 {
        for is_committed in [false, true] {
            let offset = i64::from(version) * 10 + i64::from(is_committed);
            if version < 5 {
                let early = commit_offset(&mut client, version, producer, offset).await;
                let refusal = match version {
                    0..4 => ErrorCode::InvalidTxnState,
                    _ => ErrorCode::TransactionAbortable,
                };
                assert_eq!(early, refusal.code(), "it was not told of");
                assert_eq!(add_offsets(&mut client, version, producer).await, 0);
            }
            assert_eq!(commit_offset(&mut client, version, producer, offset).await, 0);
            assert_eq!(committed(&mut client, 7).await, (unstable, -1));
            assert_eq!(committed(&mut client, 8).await.0, unstable);
            if version < 5 {
                assert_eq!(end(&mut client, 4, producer, is_committed).await, 0);
            } else {
                producer = end_v2(&mut client, producer, is_committed).await;
            }
            if is_committed {
                expected = offset;
            }
            let settled = async {
                while committed(&mut client, 7).await.0 == unstable {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                committed(&mut client, 7).await
            };
            let found = tokio::time::timeout(crate::support::LIMIT, settled).await;
            assert_eq!(found, Ok((0, expected)), "version {version}");
        }
    }
    let stale = (producer.0, producer.1 - 1);
    let late = commit_offset(&mut client, 5, stale, 99).await;
    assert_eq!(late, ErrorCode::InvalidProducerEpoch.code());
}

/// Adds a partition of `orders` as brokers do for each other, or asks whether it was added.
async fn add_batched(
    client: &mut Client,
    version: i16,
    (producer_id, producer_epoch): (i64, i16),
    (partition, verify_only): (i32, bool),
) -> i16 {
    fn code(version: i16, frame: &bytes::Bytes) -> i16 {
        let answer: add_partitions_to_txn::Response<'_> = body(version, frame);
        assert_eq!((answer.error_code, answer.results_by_transaction.len()), (0, 1));
        let result = &answer.results_by_transaction[0];
        assert_eq!(result.transactional_id, ID);
        result.topic_results[0].results_by_partition[0].partition_error_code
    }
    let topic = add_partitions_to_txn::Topic { name: "orders".into(), partitions: vec![partition] };
    let request = add_partitions_to_txn::Request {
        transactions: vec![add_partitions_to_txn::Transaction {
            transactional_id: ID.into(),
            producer_id,
            producer_epoch,
            verify_only,
            topics: vec![topic],
        }],
        ..add_partitions_to_txn::Request::default()
    };
    let frame = settled(client, version, &request, code).await;
    code(version, &frame)
}

#[tokio::test]
async fn what_is_outside_of_a_transaction_is_told_in_words_that_the_client_knows() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let mut producer = init(&mut client, 5).await;
    let abortable = ErrorCode::TransactionAbortable.code();
    for version in [4, 5] {
        assert_eq!(write_as(&mut client, 10, producer, 0).await, ErrorCode::InvalidTxnState.code());
        assert_eq!(write_as(&mut client, 11, producer, 0).await, abortable);
        let verify = (0, true);
        assert_eq!(add_batched(&mut client, version, producer, verify).await, abortable);
        assert_eq!(add_batched(&mut client, version, producer, (0, false)).await, 0);
        assert_eq!(add_batched(&mut client, version, producer, verify).await, 0);
        assert_eq!(add_batched(&mut client, version, producer, (1, true)).await, abortable);
        let fenced = (producer.0, producer.1 - 1);
        let code = add_batched(&mut client, version, fenced, verify).await;
        assert_eq!(code, ErrorCode::ProducerFenced.code());
        assert_eq!(write_as(&mut client, 11, producer, 0).await, 0);
        producer = end_v2(&mut client, producer, true).await;
    }
}
