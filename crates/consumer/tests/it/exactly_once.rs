//! Consume, transform, produce: what is given and what is made of it are committed together.

use std::time::Duration;

use rafka_client::admin::Isolation;
use rafka_consumer::{Consumer, ConsumerRecord, Error, GroupMetadata};
use rafka_core::{Offset, PartitionIndex};
use rafka_producer::{Error as ProducerError, Producer, Record, TransactionalProducer};

use crate::node::{LIMIT, Node, all, assert_complete, number, poll_until, read, tp};

const TIMEOUT: Duration = Duration::from_secs(60);

async fn producer(node: &Node, id: &str) -> TransactionalProducer {
    let builder =
        Producer::builder(&node.address.to_string()).linger(Duration::ZERO).client(|client| {
            client.retry.backoff_min = Duration::from_millis(1);
            client.retry.backoff_max = Duration::from_millis(20);
            client.retry.attempts_max = 100_000;
            client.breaker.open_for = Duration::from_millis(20);
        });
    builder.build_transactional(id, TIMEOUT).await.expect("the id is free")
}

fn copy(record: &ConsumerRecord) -> Record {
    Record::new("out").partition(record.partition.partition).value(number(record).to_string())
}

/// Copies what is given next.
async fn step(
    consumer: &Consumer,
    producer: &mut TransactionalProducer,
    fails: bool,
) -> Result<(), ProducerError> {
    let mut transaction = producer.begin().await?;
    let records = consumer.poll(Duration::from_millis(50)).await.expect("no failure");
    for record in &records {
        transaction.send(copy(record)).await?;
    }
    let Ok(group) = consumer.group_metadata() else { return Ok(()) };
    transaction.commit_offsets(&group, &consumer.uncommitted()).await?;
    if fails {
        // As if the process had died here, for its producer.
        return Ok(());
    }
    transaction.commit().await
}

/// A reader of what is committed in the copy.
async fn copied(node: &Node, count: usize) -> Vec<ConsumerRecord> {
    let reader = node.consumer().isolation(Isolation::ReadCommitted).build().expect("sound");
    let out = (0..2).map(|index| {
        let topic = rafka_core::TopicName::new("out").expect("a valid name");
        rafka_consumer::TopicPartition::new(topic, PartitionIndex(index))
    });
    reader.assign(&out.collect::<Vec<_>>()).expect("not subscribed");
    let records = read(&reader, count).await;
    poll_until(&reader, Consumer::is_at_end).await;
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_exact_whatever_connections_break_and_whichever_transactions_fail() {
    let mut node = Node::start(2).await;
    node.create("out", 2).await;
    node.append(2, 0..400).await;
    let consumer = node.member("g").auto_commit(None).poll_records_max(13).build().expect("sound");
    consumer.subscribe(&["t"]).await.expect("it has a group");
    let mut producer = producer(&node, "copier").await;
    let mut committed = Vec::new();
    let mut steps = 0;
    let copying = async {
        while committed != [Some(Offset(200)); 2] {
            steps += 1;
            let fails = steps % 4 == 0;
            if let Err(error) = step(&consumer, &mut producer, fails).await {
                assert!(matches!(error, ProducerError::NotMember { .. }), "{error}");
            }
            if fails {
                drop(producer.begin().await.expect("what was left is aborted"));
                consumer.seek_to_committed();
            }
            if steps % 10 == 5 {
                node.kill();
                node.restart();
            }
            if steps % 8 == 0 {
                committed = consumer.committed(&all(2)).await.expect("known");
            }
        }
    };
    tokio::time::timeout(LIMIT * 3, copying).await.expect("it comes to its end");
    assert_complete(&copied(&node, 400).await, 2, 0..400);
    consumer.close(LIMIT).await.expect("it leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_its_partitions_commits_nothing_for_them() {
    let node = Node::start(2).await;
    node.create("out", 2).await;
    node.append(2, 0..20).await;
    let mut settings = rafka_consumer::Settings::default();
    settings.group = Some("g".to_owned());
    settings.offset_reset = rafka_consumer::OffsetReset::Earliest;
    settings.heartbeat_interval = Duration::from_millis(20);
    settings.poll_interval_max = Duration::from_millis(200);
    settings.auto_commit_interval = None;
    let slow = node.consumer().settings(settings).build().expect("sound settings");
    let outside = slow.group_metadata().expect("it has a group");
    assert_eq!(outside, GroupMetadata::outside("g"));
    slow.subscribe(&["t"]).await.expect("it has a group");
    let unknown = slow.group_metadata();
    assert!(matches!(unknown, Err(Error::NotMember { .. })), "{unknown:?}");
    let records = read(&slow, 20).await;
    let (group, offsets) = (slow.group_metadata().expect("a member"), slow.uncommitted());
    assert_eq!(offsets, [(tp(0), Offset(10)), (tp(1), Offset(10))]);

    // While it works on them, the group gives them to another one, which is quicker.
    let quick = node.member("g").auto_commit(None).build().expect("sound settings");
    quick.subscribe(&["t"]).await.expect("it has a group");
    let mut quick_producer = producer(&node, "quick").await;
    let copying = async {
        while quick.committed(&all(2)).await.expect("known") != [Some(Offset(10)); 2] {
            // In a rebalance it may be told that its generation is over, and does it again.
            let copied = step(&quick, &mut quick_producer, false).await;
            if let Err(error) = copied {
                assert!(matches!(error, ProducerError::NotMember { .. }), "{error}");
                drop(quick_producer.begin().await.expect("it is aborted"));
                quick.seek_to_committed();
            }
        }
    };
    tokio::time::timeout(LIMIT, copying).await.expect("it gets the partitions");
    let mut slow_producer = producer(&node, "slow").await;
    let mut late = slow_producer.begin().await.expect("nothing is open");
    for record in &records {
        late.send(copy(record)).await.expect("taken");
    }
    let refused = late.commit_offsets(&group, &offsets).await;
    assert!(matches!(refused, Err(ProducerError::NotMember { .. })), "{refused:?}");
    let current = slow.group_metadata().expect("of what was given to it");
    assert_eq!(current, group, "it has not heard of anything else");
    late.abort().await.expect("it is open");
    assert_complete(&copied(&node, 20).await, 2, 0..20);
}
