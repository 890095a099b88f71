//! Consume, transform, produce: exactly once, although node and worker are killed in between.

use std::time::Duration;

use rafka_consumer::{Consumer, Isolation, OffsetReset};
use rafka_core::{PartitionIndex, TopicName};
use rafka_producer::{Producer, Record, TopicPartition, Transaction};
use tokio_util::sync::CancellationToken;

use crate::node::{LIMIT, Node};

const COUNT: usize = 600;
const KILLS: usize = 4;

fn patient(client: &mut rafka_client::Settings) {
    client.retry.backoff_min = Duration::from_millis(5);
    client.retry.backoff_max = Duration::from_millis(50);
    client.retry.attempts_max = 100_000;
    client.breaker.open_for = Duration::from_millis(50);
}

/// Copies what is given next, with one more letter.
async fn step(consumer: &Consumer, mut transaction: Transaction<'_>) -> anyhow::Result<()> {
    for record in consumer.poll(Duration::from_millis(100)).await? {
        let value = record.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let copy = Record::new("out").partition(PartitionIndex(0)).value(format!("{value}!"));
        transaction.send(copy).await?;
    }
    let offsets = consumer.uncommitted();
    if !offsets.is_empty() {
        transaction.commit_offsets(&consumer.group_metadata()?, &offsets).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Copies until it is told to stop. After a failure it goes on from what is committed.
async fn work(address: String, stop: CancellationToken) -> anyhow::Result<()> {
    // A static member: its successor has its partitions at once.
    let mut settings = rafka_consumer::Settings::default();
    settings.group = Some("copiers".to_owned());
    settings.instance_id = Some("copier".to_owned());
    settings.offset_reset = OffsetReset::Earliest;
    settings.auto_commit_interval = None;
    settings.poll_records_max = 7;
    let consumer = Consumer::builder(&address).settings(settings).client(patient).build()?;
    consumer.subscribe(&["in"]).await?;
    let producer = Producer::builder(&address).linger(Duration::ZERO).client(patient);
    let mut producer = producer.build_transactional("copier", Duration::from_secs(60)).await?;
    let mut has_failed = false;
    while !stop.is_cancelled() {
        // What the last one left is decided when this returns.
        let transaction = producer.begin().await?;
        if has_failed {
            consumer.seek_to_committed();
        }
        has_failed = step(&consumer, transaction).await.is_err();
    }
    consumer.close(LIMIT).await?;
    Ok(())
}

fn values(records: Vec<rafka_consumer::ConsumerRecord>) -> Vec<String> {
    let text = |record: rafka_consumer::ConsumerRecord| {
        let value = record.value.expect("a value");
        String::from_utf8(value.to_vec()).expect("we wrote text")
    };
    records.into_iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_exact_although_node_and_worker_are_killed_in_between() {
    let mut node = Node::start(&[]);
    node.ok(&["topic", "create", "in", "-p", "1"]);
    node.ok(&["topic", "create", "out", "-p", "1"]);
    let lines: String = (0..COUNT).map(|number| format!("{number}\n")).collect();
    node.ok_with(&["produce", "in"], &lines);
    let address = node.grpc().to_string();
    let stop = CancellationToken::new();
    let mut worker = tokio::task::JoinSet::new();
    worker.spawn(work(address.clone(), stop.clone()));

    let reader = Consumer::builder(&address).isolation(Isolation::ReadCommitted).client(patient);
    let reader = reader.offset_reset(OffsetReset::Earliest).build().expect("sound settings");
    let topic = TopicName::new("out").expect("a valid name");
    reader.assign(&[TopicPartition::new(topic, PartitionIndex(0))]).expect("not subscribed");
    let (mut copied, mut kills) = (Vec::new(), 0);
    let reading = async {
        while copied.len() < COUNT {
            copied.extend(values(reader.poll(LIMIT).await.expect("no failure")));
            // Whatever is open at this moment is cut off; every second time the worker dies, too.
            if kills < KILLS && (kills + 1) * (COUNT / (KILLS + 1)) < copied.len() {
                kills += 1;
                if kills % 2 == 0 {
                    worker.shutdown().await;
                    worker.spawn(work(address.clone(), stop.clone()));
                }
                node.kill();
                node.restart();
            }
        }
    };
    tokio::time::timeout(LIMIT * 2, reading).await.expect("it comes to its end");
    stop.cancel();
    worker.join_next().await.expect("it works").expect("no panic").expect("no failure");
    while !reader.is_at_end() {
        copied.extend(values(reader.poll(Duration::from_millis(5)).await.expect("no failure")));
    }
    let expected: Vec<String> = (0..COUNT).map(|number| format!("{number}!")).collect();
    assert!(copied == expected, "something is lost, doubled or out of order: {copied:?}");
    assert_eq!(kills, KILLS);
}
