//! Transactions against a real node: what of them readers see, and when.

use std::time::Duration;

use bytes::Bytes;
use rafka_client::{Client, v1};
use rafka_core::{Batch, ByteSize, ErrorCode, Offset, PartitionIndex, TopicName};
use rafka_producer::{
    Builder, Error, GroupMetadata, Producer, Record, TopicPartition, TransactionalProducer,
};

use crate::node::Node;

const TIMEOUT: Duration = Duration::from_secs(60);

fn builder(node: &Node) -> Builder {
    Producer::builder(&node.bootstrap()).linger(Duration::ZERO).client(|client| {
        client.retry.backoff_min = Duration::from_millis(1);
        client.retry.backoff_max = Duration::from_millis(20);
        client.retry.attempts_max = 1000;
        client.breaker.open_for = Duration::from_millis(20);
    })
}

async fn producer(node: &Node) -> TransactionalProducer {
    builder(node).build_transactional("transfers", TIMEOUT).await.expect("the id is free")
}

fn record(partition: i32, value: impl ToString) -> Record {
    Record::new("t").partition(PartitionIndex(partition)).value(value.to_string())
}

/// The values of a partition, as records and as raw batches, which must be the same.
async fn values(node: &Node, partition: i32, isolation: v1::Isolation) -> Vec<String> {
    let decoded = read(node, partition, isolation, true).await;
    assert_eq!(read(node, partition, isolation, false).await, decoded);
    decoded
}

async fn read(node: &Node, partition: i32, isolation: v1::Isolation, decode: bool) -> Vec<String> {
    let client = Client::new(rafka_client::Settings::new(&node.bootstrap())).expect("sound");
    let node = client.any_node().expect("an address");
    let request = v1::FetchRequest {
        partitions: vec![v1::FetchPartition {
            topic: "t".to_owned(),
            partition,
            ..Default::default()
        }],
        isolation: isolation.into(),
        decode,
        until_end: true,
        ..Default::default()
    };
    let mut log = node.log();
    let mut messages = node.ask("fetch", log.fetch(request)).await.expect("it serves");
    let mut values = Vec::new();
    while let Some(message) = messages.message().await.expect("it serves") {
        for fetched in message.partitions {
            assert_eq!(fetched.error, None);
            values.extend(fetched.records.into_iter().map(|record| record.value));
            values.extend(unpacked(fetched.batches));
        }
    }
    let text = |value: Option<Bytes>| {
        String::from_utf8(value.expect("a value").to_vec()).expect("we sent text")
    };
    values.into_iter().map(text).collect()
}

fn unpacked(mut batches: Bytes) -> Vec<Option<Bytes>> {
    let mut values = Vec::new();
    while let Some(batch) = Batch::split_first(&mut batches).expect("sound") {
        if !batch.header.attributes.is_control() {
            let records = batch.records(ByteSize::mib(1)).expect("no codec");
            values.extend(records.map(|record| record.expect("sound").value));
        }
    }
    values
}

async fn committed(node: &Node, partition: i32) -> Vec<String> {
    values(node, partition, v1::Isolation::ReadCommitted).await
}

#[tokio::test]
async fn a_transaction_is_seen_whole_when_it_is_committed_and_never_when_it_is_not() {
    let node = Node::start("t", &[]).await;
    let mut producer = producer(&node).await;
    let mut first = producer.begin().await.expect("nothing is open");
    for partition in 0..3 {
        let delivery = first.send(record(partition, "first")).await.expect("taken");
        delivery.await.expect("delivered");
        assert_eq!(committed(&node, partition).await, [""; 0], "it is open");
    }
    first.commit().await.expect("nothing failed");
    first.commit().await.expect("it is committed");
    let second = producer.begin().await.expect("the first one is over");
    second.send(record(0, "second")).await.expect("taken").await.expect("delivered");
    second.abort().await.expect("it is open");
    let third = producer.begin().await.expect("the second one is over");
    third.send(record(0, "third")).await.expect("taken").await.expect("delivered");
    drop(third);
    let mut fourth = producer.begin().await.expect("the third one is aborted by this");
    let delivery = fourth.send(record(0, "fourth")).await.expect("taken");
    fourth.commit().await.expect("what was sent is delivered first");
    delivery.await.expect("delivered");
    let after = producer.begin().await.expect("all is over");
    assert_eq!(committed(&node, 0).await, ["first", "fourth"]);
    assert_eq!(committed(&node, 1).await, ["first"]);
    let all = values(&node, 0, v1::Isolation::ReadUncommitted).await;
    assert_eq!(all, ["first", "second", "third", "fourth"]);
    after.abort().await.expect("nothing was sent");
}

#[tokio::test]
async fn lost_connections_neither_lose_nor_double_what_is_committed() {
    let mut node = Node::start("t", &[]).await;
    let mut producer = producer(&node).await;
    let mut expected = Vec::new();
    for round in 0..6 {
        let mut transaction = producer.begin().await.expect("the last one is over");
        for number in 0..50 {
            let value = format!("{round}-{number}");
            transaction.send(record(1, &value)).await.expect("taken");
            if round % 3 != 2 {
                expected.push(value);
            }
        }
        if round % 3 == 2 {
            transaction.abort().await.expect("it is open");
            continue;
        }
        let (ended, ()) = tokio::join!(transaction.commit(), node.reconnect());
        ended.expect("it is tried again");
    }
    let open = producer.begin().await.expect("all is over");
    assert_eq!(committed(&node, 1).await, expected);
    drop(open);
}

#[tokio::test]
async fn a_transaction_that_lost_a_record_cannot_be_committed() {
    let node = Node::start("t", &[("max.message.bytes", "1000")]).await;
    let mut producer = producer(&node).await;
    let mut transaction = producer.begin().await.expect("nothing is open");
    transaction.send(record(0, "small")).await.expect("taken");
    transaction.send(record(1, "x".repeat(2000))).await.expect("taken");
    for _ in 0..2 {
        let failure = transaction.commit().await.expect_err("a record was refused");
        assert!(matches!(failure, Error::Refused { .. }), "{failure}");
    }
    transaction.abort().await.expect("it is open");
    let mut transaction = producer.begin().await.expect("the last one is over");
    transaction.send(record(0, "again")).await.expect("taken");
    transaction.commit().await.expect("nothing failed");
    let late = transaction.send(record(0, "late")).await;
    assert!(matches!(late, Err(Error::Closed { .. })), "{late:?}");
    let aborted = transaction.abort().await;
    assert!(matches!(aborted, Err(Error::Committing { .. })), "{aborted:?}");
    drop(producer.begin().await.expect("all is over"));
    assert_eq!(committed(&node, 0).await, ["again"]);
}

#[tokio::test]
async fn a_successor_fences_whoever_had_the_id() {
    let node = Node::start("t", &[]).await;
    let mut before = producer(&node).await;
    let mut open = before.begin().await.expect("nothing is open");
    open.send(record(0, "lost")).await.expect("taken").await.expect("delivered");
    let mut after = producer(&node).await;
    let late = open.send(record(0, "late")).await.expect("taken").await;
    assert!(matches!(late, Err(Error::Fenced { .. })), "{late:?}");
    let ended = open.commit().await;
    assert!(matches!(ended, Err(Error::Fenced { .. })), "{ended:?}");
    for _ in 0..2 {
        let begun = before.begin().await;
        assert!(matches!(begun, Err(Error::FencedId { .. })), "{begun:?}");
    }
    let mut transaction = after.begin().await.expect("nothing is open");
    transaction.send(record(0, "kept")).await.expect("taken");
    transaction.commit().await.expect("nothing failed");
    drop(after.begin().await.expect("all is over"));
    assert_eq!(committed(&node, 0).await, ["kept"]);
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let node = Node::start("t", &[]).await;
    let refused = builder(&node).idempotence(false).build_transactional("x", TIMEOUT).await;
    let refused = refused.expect_err("batches would double").to_string();
    assert!(refused.contains("idempotence"), "{refused}");
    let refused = builder(&node).build_transactional("", TIMEOUT).await;
    assert!(matches!(refused, Err(Error::Client(_))), "{refused:?}");
    let days = Duration::from_hours(24 * 40);
    let refused = builder(&node).build_transactional("x", days).await;
    let refused = refused.expect_err("too long").to_string();
    assert!(refused.contains("INVALID_TRANSACTION_TIMEOUT"), "{refused}");
}

/// What the group has committed of the first partition, if no transaction may change it.
async fn stable(node: &Node) -> Result<Option<Offset>, rafka_client::Error> {
    let mut settings = rafka_client::Settings::new(&node.bootstrap());
    settings.retry.attempts_max = 1;
    let client = Client::new(settings).expect("sound");
    let found = client.admin().stable_offsets("readers", &[at(0)]).await?;
    Ok(found[0].offset)
}

/// The same, once no transaction may change it.
async fn settled(node: &Node) -> Option<Offset> {
    let settling = async {
        loop {
            match stable(node).await {
                Ok(offset) => return offset,
                Err(error) => assert_eq!(error.code(), Some(ErrorCode::UnstableOffsetCommit)),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, settling).await.expect("the markers are written")
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(TopicName::new("t").expect("a valid name"), PartitionIndex(partition))
}

#[tokio::test]
async fn offsets_are_committed_with_the_records_or_not_at_all() {
    let node = Node::start("t", &[]).await;
    let mut producer = producer(&node).await;
    let group = GroupMetadata::outside("readers");
    let mut transaction = producer.begin().await.expect("nothing is open");
    transaction.send(record(1, "lost")).await.expect("taken");
    transaction.commit_offsets(&group, &[(at(0), Offset(5))]).await.expect("it is open");
    let unstable = stable(&node).await.expect_err("it is not decided");
    assert_eq!(unstable.code(), Some(ErrorCode::UnstableOffsetCommit), "{unstable}");
    transaction.abort().await.expect("it is open");
    assert_eq!(settled(&node).await, None);

    let mut transaction = producer.begin().await.expect("the last one is over");
    transaction.commit_offsets(&group, &[(at(0), Offset(5))]).await.expect("it is open");
    transaction.send(record(1, "kept")).await.expect("taken");
    transaction.commit_offsets(&group, &[(at(0), Offset(6))]).await.expect("it is open");
    transaction.commit().await.expect("nothing failed");
    assert_eq!(settled(&node).await, Some(Offset(6)));
    let late = transaction.commit_offsets(&group, &[(at(0), Offset(7))]).await;
    assert!(matches!(late, Err(Error::Closed { .. })), "{late:?}");

    // Offsets alone make a transaction, and one that is dropped is aborted.
    let mut transaction = producer.begin().await.expect("the last one is over");
    transaction.commit_offsets(&group, &[(at(0), Offset(8))]).await.expect("it is open");
    drop(transaction);
    let mut transaction = producer.begin().await.expect("the last one is aborted");
    assert_eq!(settled(&node).await, Some(Offset(6)));
    transaction.commit_offsets(&group, &[(at(0), Offset(9))]).await.expect("it is open");
    transaction.commit().await.expect("nothing failed");
    assert_eq!(settled(&node).await, Some(Offset(9)));
    assert_eq!(committed(&node, 1).await, ["kept"]);
}

#[tokio::test]
async fn a_transaction_whose_offsets_were_refused_cannot_be_committed() {
    let node = Node::start("t", &[]).await;
    let mut producer = producer(&node).await;
    let stranger = GroupMetadata {
        member_id: "nobody".to_owned(),
        generation: 3,
        ..GroupMetadata::outside("readers")
    };
    let offsets = [(at(0), Offset(5))];
    let mut transaction = producer.begin().await.expect("nothing is open");
    transaction.send(record(1, "lost")).await.expect("taken");
    for _ in 0..2 {
        let refused = transaction.commit_offsets(&stranger, &offsets).await;
        assert!(matches!(refused, Err(Error::NotMember { .. })), "{refused:?}");
    }
    let refused = transaction.commit().await;
    assert!(matches!(refused, Err(Error::NotMember { .. })), "{refused:?}");
    transaction.abort().await.expect("it is open");

    let mut transaction = producer.begin().await.expect("the last one is over");
    let nowhere = TopicPartition::new(TopicName::new("x").expect("a name"), PartitionIndex(0));
    let group = GroupMetadata::outside("readers");
    let refused = transaction.commit_offsets(&group, &[(nowhere, Offset(1))]).await;
    let refused = refused.expect_err("there is no such topic").to_string();
    assert!(refused.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{refused}");
    transaction.abort().await.expect("it is open");
    drop(producer.begin().await.expect("the last one is over"));
    assert_eq!(settled(&node).await, None);
    assert_eq!(committed(&node, 1).await, Vec::<String>::new());
}

#[tokio::test]
async fn who_was_fenced_commits_no_offsets() {
    let node = Node::start("t", &[]).await;
    let mut before = producer(&node).await;
    let mut open = before.begin().await.expect("nothing is open");
    let group = GroupMetadata::outside("readers");
    open.commit_offsets(&group, &[(at(0), Offset(5))]).await.expect("it is open");
    let after = producer(&node).await;
    let late = open.commit_offsets(&group, &[(at(0), Offset(6))]).await;
    assert!(matches!(late, Err(Error::FencedId { .. })), "{late:?}");
    assert_eq!(settled(&node).await, None);
    drop(after);
}
