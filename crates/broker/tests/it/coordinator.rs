//! Transactions from end to end: the node's own coordinator, its log and its markers.

use std::time::Duration;

use futures_util::FutureExt as _;
use rafka_broker::Error;
use rafka_broker::fetch::Isolation;
use rafka_broker::group::{CommitOffsets, CommittedOffset, FetchOffsets, OffsetToCommit};
use rafka_broker::offsets::{self, Spec};
use rafka_broker::produce::{Acks, PartitionBatches, Request, Transaction, TransactionVersion};
use rafka_broker::transaction::{AddPartitions, Description, End, Filter, Init, State};
use rafka_core::batch::{BatchBuilder, Outcome};
use rafka_core::compression::Compression;
use rafka_core::{
    ErrorCode, GroupId, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicName,
};
use rafka_storage::Engine as _;

use crate::client::{P0, WAIT, answer, code};
use crate::node::{Node, small};

const ID: &str = "payments";
const TIMEOUT: Duration = Duration::from_secs(60);
const V1: TransactionVersion = TransactionVersion::V1;
const V2: TransactionVersion = TransactionVersion::V2;

type Producer = (ProducerId, ProducerEpoch);

/// Asks until nothing else is under way, as clients do.
async fn init(node: &Node) -> Producer {
    init_with(node, TIMEOUT).await
}

async fn init_with(node: &Node, timeout: Duration) -> Producer {
    loop {
        let asked = Init { id: ID.to_owned(), timeout, expected: None };
        match node.drive(node.broker.transactions().init_producer_id(asked)).await {
            Ok(producer) => return producer,
            Err(error) => assert!(error.is_retriable(), "{error}"),
        }
        node.drive(tokio::time::sleep(Duration::from_millis(5))).await;
    }
}

async fn add(node: &Node, topic: &TopicName, producer: Producer) -> Result<(), Error> {
    let partitions = vec![(topic.clone(), P0), (topic.clone(), PartitionIndex(1))];
    let add = AddPartitions { id: ID.to_owned(), producer, partitions };
    let results = node.drive(node.broker.transactions().add_partitions(add)).await?;
    assert!(results.iter().all(|result| result.result.is_ok()), "{results:?}");
    Ok(())
}

fn asked(producer: Producer, outcome: Outcome, version: TransactionVersion) -> End {
    End { id: ID.to_owned(), producer, outcome, version }
}

async fn end(
    node: &Node,
    producer: Producer,
    outcome: Outcome,
    version: TransactionVersion,
) -> Result<Producer, Error> {
    let asked = asked(producer, outcome, version);
    node.drive(node.broker.transactions().end_transaction(asked)).await
}

async fn write(
    node: &Node,
    topic: &TopicName,
    (id, epoch): Producer,
    (partition, sequence): (i32, i32),
    version: TransactionVersion,
) -> Result<i64, Error> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.producer(id, epoch, sequence);
    builder.transactional();
    builder.push(node.place.clock.truth(), Some(b"key"), Some(b"value"), &[]);
    let partitions = vec![PartitionBatches {
        topic: topic.clone().into(),
        partition: PartitionIndex(partition),
        batches: vec![builder.build().expect("no codec")],
    }];
    let transaction = Some(Transaction { id: ID.to_owned(), version });
    let request = Request { acks: Acks::All, timeout: WAIT, transaction, partitions };
    node.drive(async { answer(node.broker.produce(request).await).await }).await
}

/// The end of what readers see.
async fn latest(node: &Node, topic: &TopicName, partition: i32, isolation: Isolation) -> i64 {
    let request = offsets::Request {
        topic: topic.clone().into(),
        partition: PartitionIndex(partition),
        spec: Spec::Latest,
        isolation,
        leader_epoch: None,
    };
    node.broker.list_offsets(vec![request]).await.remove(0).expect("it is led here").offset.0
}

async fn committed(node: &Node, topic: &TopicName, partition: i32) -> i64 {
    latest(node, topic, partition, Isolation::ReadCommitted).await
}

async fn described(node: &Node) -> Description {
    loop {
        match node.drive(node.broker.transactions().describe(ID)).await {
            Ok(described) => return described,
            Err(error) => assert!(error.is_retriable(), "{error}"),
        }
    }
}

/// Lets the node work until the id comes to this state.
async fn until(node: &Node, state: State) -> Description {
    for _ in 0..1000 {
        let described = described(node).await;
        if described.state == state {
            return described;
        }
        node.drive(tokio::time::sleep(Duration::from_millis(5))).await;
    }
    panic!("it does not become {state}: {:?}", described(node).await);
}

/// A node with an open transaction that has written to two partitions.
async fn ongoing(version: TransactionVersion) -> (Node, TopicName, Producer) {
    ongoing_with(version, TIMEOUT).await
}

async fn ongoing_with(
    version: TransactionVersion,
    timeout: Duration,
) -> (Node, TopicName, Producer) {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 2, &[]).await;
    let producer = init_with(&node, timeout).await;
    if version == V1 {
        add(&node, &topic, producer).await.expect("it is the producer");
    }
    for partition in [0, 1] {
        let written = write(&node, &topic, producer, (partition, 0), version).await;
        assert_eq!(written, Ok(0));
    }
    (node, topic, producer)
}

#[tokio::test]
async fn a_transaction_holds_readers_back_until_it_is_committed_or_aborted() {
    for (version, outcome, complete) in [
        (V1, Outcome::Commit, State::CompleteCommit),
        (V1, Outcome::Abort, State::CompleteAbort),
        (V2, Outcome::Commit, State::CompleteCommit),
        (V2, Outcome::Abort, State::CompleteAbort),
    ] {
        let (node, topic, producer) = ongoing(version).await;
        assert_eq!(committed(&node, &topic, 0).await, 0);
        let open = described(&node).await;
        assert_eq!((open.state, open.partitions.len()), (State::Ongoing, 2));
        let ended = end(&node, producer, outcome, version).await.expect("it is the producer");
        let raised = i16::from(version == V2);
        assert_eq!(ended, (producer.0, ProducerEpoch(raised)));
        until(&node, complete).await;
        for partition in [0, 1] {
            assert_eq!(committed(&node, &topic, partition).await, 2, "a record and a marker");
        }
        let ready = if version == V1 { add(&node, &topic, ended).await } else { Ok(()) };
        assert_eq!(ready, Ok(()));
        let sequence = i32::from(version == V1);
        let next = write(&node, &topic, ended, (0, sequence), version).await;
        assert_eq!(next, Ok(2), "the next transaction");
    }
}

#[tokio::test]
async fn a_partition_that_was_not_added_takes_no_batch_by_the_older_rules() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 2, &[]).await;
    let producer = init(&node).await;
    let stray = write(&node, &topic, producer, (0, 0), V1).await;
    assert_eq!(code(&stray), Some(ErrorCode::TransactionAbortable));
    let missing = (TopicName::new("none").expect("a valid name"), P0);
    let partitions = vec![missing, (topic.clone(), P0)];
    let order = AddPartitions { id: ID.to_owned(), producer, partitions };
    let results = node.broker.transactions().add_partitions(order).await.expect("each has its own");
    let results: Vec<_> = results.into_iter().map(|result| result.result).collect();
    let unknown = Err(ErrorCode::UnknownTopicOrPartition);
    assert_eq!(results, [unknown, Err(ErrorCode::OperationNotAttempted)]);
    assert_eq!(described(&node).await.state, State::Empty);
    assert_eq!(committed(&node, &topic, 0).await, 0);
}

#[tokio::test]
async fn an_end_that_was_decided_comes_about_whenever_the_node_dies() {
    for (version, outcome, complete) in [
        (V1, Outcome::Commit, State::CompleteCommit),
        (V2, Outcome::Commit, State::CompleteCommit),
        (V2, Outcome::Abort, State::CompleteAbort),
    ] {
        // Each round the journal is settled once more before the power is cut.
        let mut seen = Vec::new();
        for settled in 0..6 {
            let (node, topic, producer) = ongoing(version).await;
            let broker = node.broker.clone();
            let order = asked(producer, outcome, version);
            let mut ending =
                Box::pin(async move { broker.transactions().end_transaction(order).await });
            let mut told = None;
            for round in 0..=settled {
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                    if told.is_none() {
                        told = (&mut ending).now_or_never();
                    }
                }
                if round < settled {
                    node.write_journal();
                }
            }
            drop(ending);
            let node = node.power_cut().await;
            let found = described(&node).await.state;
            if told.is_some() {
                until(&node, complete).await;
            } else if found == State::Ongoing {
                assert_eq!(committed(&node, &topic, 0).await, 0, "it is still open");
                let again = end(&node, producer, outcome, version).await;
                assert!(again.is_ok(), "{again:?}");
                until(&node, complete).await;
            }
            until(&node, complete).await;
            for partition in [0, 1] {
                let end = committed(&node, &topic, partition).await;
                let all = latest(&node, &topic, partition, Isolation::ReadUncommitted).await;
                assert_eq!(end, all, "readers go on");
                assert!(2 <= end, "there is a marker");
            }
            seen.push(found);
        }
        assert!(seen.contains(&State::Ongoing), "never before the decision: {seen:?}");
        assert!(1 < seen.len() && seen.iter().any(|state| *state != State::Ongoing), "{seen:?}");
    }
}

#[tokio::test]
async fn an_end_that_comes_late_does_not_end_the_next_transaction() {
    let (node, topic, first) = ongoing(V2).await;
    let second = end(&node, first, Outcome::Commit, V2).await.expect("it is the producer");
    until(&node, State::CompleteCommit).await;
    write(&node, &topic, second, (0, 0), V2).await.expect("it is the producer");
    for outcome in [Outcome::Commit, Outcome::Abort] {
        let late = end(&node, first, outcome, V2).await;
        assert_eq!(code(&late), Some(ErrorCode::ProducerFenced));
    }
    let late = write(&node, &topic, first, (1, 1), V2).await;
    assert_eq!(code(&late), Some(ErrorCode::InvalidProducerEpoch));
    assert_eq!(described(&node).await.state, State::Ongoing);
    assert_eq!(committed(&node, &topic, 0).await, 2, "it is open");
}

#[tokio::test]
async fn a_successor_fences_whoever_had_the_id() {
    for version in [V1, V2] {
        let (node, topic, first) = ongoing(version).await;
        let second = init(&node).await;
        assert_eq!((second.0, second.1 > first.1), (first.0, true));
        assert_eq!(described(&node).await.state, State::Empty);
        assert_eq!(committed(&node, &topic, 0).await, 2, "what was open is aborted");
        let late = write(&node, &topic, first, (0, 1), version).await;
        assert_eq!(code(&late), Some(ErrorCode::InvalidProducerEpoch));
        let late = end(&node, first, Outcome::Commit, version).await;
        assert_eq!(code(&late), Some(ErrorCode::ProducerFenced));
    }
}

#[tokio::test]
async fn a_transaction_of_a_dead_producer_is_aborted_when_its_time_is_up() {
    // In real time, because a disk that was cut off takes some to be left.
    const SHORT: Duration = Duration::from_secs(2);
    for is_killed in [false, true] {
        let (mut node, topic, first) = ongoing_with(V1, SHORT).await;
        if is_killed {
            node = node.power_cut().await;
        }
        assert_eq!(described(&node).await.state, State::Ongoing);
        assert_eq!(committed(&node, &topic, 0).await, 0);
        tokio::time::sleep(SHORT).await;
        until(&node, State::CompleteAbort).await;
        assert_eq!(committed(&node, &topic, 0).await, 2, "readers go on");
        let late = write(&node, &topic, first, (0, 1), V1).await;
        assert_eq!(code(&late), Some(ErrorCode::InvalidProducerEpoch));
        let late = end(&node, first, Outcome::Commit, V1).await;
        assert_eq!(code(&late), Some(ErrorCode::ProducerFenced));
    }
}

#[tokio::test]
async fn ids_are_listed_by_state_producer_and_duration() {
    let (node, _, producer) = ongoing(V1).await;
    let list = async |filter: Filter| {
        let listed = node.broker.transactions().list(filter).await.expect("all is loaded");
        listed.into_iter().map(|listing| listing.id).collect::<Vec<_>>()
    };
    let every = Filter::default();
    assert_eq!(list(every.clone()).await, [ID]);
    assert_eq!(list(Filter { states: vec![State::Ongoing], ..every.clone() }).await, [ID]);
    let none = Vec::<String>::new();
    assert_eq!(list(Filter { states: vec![State::Empty], ..every.clone() }).await, none);
    assert_eq!(list(Filter { producers: vec![producer.0], ..every.clone() }).await, [ID]);
    assert_eq!(list(Filter { producers: vec![ProducerId(999)], ..every.clone() }).await, none);
    assert_eq!(list(Filter { longer_than: Some(TIMEOUT), ..every }).await, none);
    let unknown = node.broker.transactions().describe("refunds").await;
    assert_eq!(code(&unknown), Some(ErrorCode::TransactionalIdNotFound));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let node = Node::new(small()).await;
    let check = async |id: &str, timeout, expected| {
        let order = Init { id: id.to_owned(), timeout, expected: None };
        let result = node.broker.transactions().init_producer_id(order).await;
        assert_eq!(code(&result), Some(expected), "{id} {timeout:?}");
    };
    check("", TIMEOUT, ErrorCode::InvalidRequest).await;
    check(&"x".repeat(5000), TIMEOUT, ErrorCode::InvalidRequest).await;
    check(ID, Duration::ZERO, ErrorCode::InvalidTransactionTimeout).await;
    check(ID, Duration::from_hours(1), ErrorCode::InvalidTransactionTimeout).await;
    let nobody = (ProducerId(1), ProducerEpoch(0));
    let ended = end(&node, nobody, Outcome::Commit, V1).await;
    assert_eq!(code(&ended), Some(ErrorCode::InvalidProducerIdMapping));
}

#[tokio::test]
async fn more_ids_than_there_is_room_for_are_refused_and_those_there_are_go_on() {
    let mut settings = small();
    settings.broker.transactions.transactional_ids_max = 1;
    let node = Node::new(settings).await;
    let first = init(&node).await;
    let order = Init { id: "refunds".to_owned(), timeout: TIMEOUT, expected: None };
    let refused = node.broker.transactions().init_producer_id(order).await;
    assert_eq!(code(&refused), Some(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(init(&node).await, (first.0, ProducerEpoch(1)));
}

fn readers() -> GroupId {
    GroupId::new("readers").expect("valid")
}

/// Commits this offset in the producer's transaction, as clients do.
async fn commit_offset(node: &Node, topic: &TopicName, producer: Producer, offset: i64) {
    loop {
        let commit = CommitOffsets {
            group: readers(),
            member: String::new(),
            instance: None,
            generation: -1,
            offsets: vec![OffsetToCommit {
                topic: topic.clone(),
                partition: P0,
                committed: CommittedOffset {
                    offset: Offset(offset),
                    leader_epoch: None,
                    metadata: String::new(),
                },
            }],
        };
        let transaction = Transaction { id: ID.to_owned(), version: V2 };
        let committed = node.broker.commit_offsets_in_transaction(commit, transaction, producer);
        match node.drive(committed).await {
            Ok(results) => {
                assert_eq!(results[0].result, Ok(()));
                return;
            }
            Err(error) => {
                let is_early = error.code == ErrorCode::ConcurrentTransactions;
                assert!(error.is_retriable() || is_early, "{error}");
            }
        }
        node.drive(tokio::time::sleep(Duration::from_millis(5))).await;
    }
}

/// What is committed, and whether a transaction may change it.
async fn group_offset(node: &Node, topic: &TopicName) -> (Option<i64>, bool) {
    loop {
        let fetch = FetchOffsets {
            group: readers(),
            partitions: Some(vec![(topic.clone(), P0)]),
            member: None,
            require_stable: true,
        };
        match node.drive(node.broker.groups().fetch_offsets(fetch)).await {
            Ok(found) => {
                let committed = found[0].committed.as_ref();
                return (committed.map(|one| one.offset.0), found[0].is_unstable);
            }
            Err(error) => assert!(error.is_retriable(), "{error}"),
        }
        node.drive(tokio::time::sleep(Duration::from_millis(5))).await;
    }
}

#[tokio::test]
async fn offsets_in_a_transaction_survive_crashes_and_count_when_it_is_committed() {
    for outcome in [Outcome::Commit, Outcome::Abort] {
        let (mut node, topic, producer) = ongoing(V2).await;
        commit_offset(&node, &topic, producer, 7).await;
        assert_eq!(group_offset(&node, &topic).await, (None, true));
        node = node.power_cut().await;
        assert_eq!(group_offset(&node, &topic).await, (None, true), "it is still open");
        loop {
            match end(&node, producer, outcome, V2).await {
                Ok(_) => break,
                Err(error) => assert!(error.is_retriable(), "{error}"),
            }
        }
        // The end is decided: whether the markers were written by then does not matter.
        node = node.power_cut().await;
        let expected = (outcome == Outcome::Commit).then_some(7);
        for _ in 0..1000 {
            if !group_offset(&node, &topic).await.1 {
                break;
            }
            node.drive(tokio::time::sleep(Duration::from_millis(5))).await;
        }
        assert_eq!(group_offset(&node, &topic).await, (expected, false), "{outcome:?}");
        node = node.power_cut().await;
        assert_eq!(group_offset(&node, &topic).await, (expected, false), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn topics_of_the_broker_s_own_that_find_the_disk_full_are_led_once_there_is_room() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 2, &[]).await;
    let logs = || node.engine.existing().expect("the manifest can be read").len();
    node.place.disk.refuse_space("manifest", 0);
    let led = tokio::time::timeout(WAIT, init(&node)).await;
    let producer = led.expect("somebody tries again");
    node.place.disk.refuse_space("manifest", 0);
    let before = logs();
    tokio::time::timeout(WAIT, commit_offset(&node, &topic, producer, 7)).await.expect("again");
    assert!(before < logs(), "the offsets have a topic now");
}
