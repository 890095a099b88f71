//! rdkafka, which stands on librdkafka.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::{Checks, LIMIT, equal, unique};

pub async fn check(checks: &mut Checks, node: &str) {
    checks.run("produce and consume", produce_and_consume(node)).await;
    checks.run("idempotence", idempotence(node)).await;
    checks.run("classic groups", groups(node, &[])).await;
    let cooperative = ("partition.assignment.strategy", "cooperative-sticky");
    checks.run("cooperative groups", groups(node, &[cooperative])).await;
    let next = ("group.protocol", "consumer");
    checks.run("next-generation groups", groups(node, &[next])).await;
    checks.run("transactions", transactions(node)).await;
    checks.run("exactly once", exactly_once(node)).await;
    checks.run("administration", administration(node)).await;
}

fn config(node: &str, more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", node);
    for (key, value) in more {
        config.set(*key, *value);
    }
    config
}

fn admin(node: &str) -> Result<AdminClient<DefaultClientContext>> {
    Ok(config(node, &[]).create()?)
}

fn failed<T: std::fmt::Debug>(
    (subject, code): (T, rdkafka::types::RDKafkaErrorCode),
) -> anyhow::Error {
    anyhow!("{subject:?}: {code}")
}

async fn create(node: &str, partitions: i32) -> Result<String> {
    let topic = unique("rdkafka");
    let order = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
    for created in admin(node)?.create_topics([&order], &AdminOptions::new()).await? {
        created.map_err(failed)?;
    }
    Ok(topic)
}

async fn send(node: &str, topic: &str, partition: i32, values: &[&str]) -> Result<()> {
    let producer: FutureProducer = config(node, &[]).create()?;
    for value in values {
        let record = FutureRecord::<(), _>::to(topic).partition(partition).payload(*value);
        producer.send(record, LIMIT).await.map_err(|(error, _)| error)?;
    }
    Ok(())
}

fn consumer(node: &str, group: &str, more: &[(&str, &str)]) -> Result<StreamConsumer> {
    let mut config = config(node, more);
    config.set("group.id", group).set("auto.offset.reset", "earliest");
    Ok(config.set("enable.auto.commit", "false").create()?)
}

fn value(record: &BorrowedMessage<'_>) -> String {
    String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned()
}

async fn read(consumer: &StreamConsumer, count: usize) -> Result<Vec<String>> {
    let mut values = Vec::new();
    while values.len() < count {
        values.push(value(&consumer.recv().await?));
    }
    Ok(values)
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

async fn produce_and_consume(node: &str) -> Result<()> {
    let topic = create(node, 1).await?;
    let mut expected = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let producer: FutureProducer = config(node, &[("compression.type", codec)]).create()?;
        let mut sent = Vec::new();
        for number in 0..100 {
            let value = format!("{codec} {number}");
            let headers = OwnedHeaders::new();
            let headers = headers.insert(Header { key: "h", value: Some("1") });
            let headers = headers.insert(Header::<&str> { key: "h", value: None });
            let record = FutureRecord::to(&topic).key("k").payload(&value).headers(headers);
            sent.push(producer.send_result(record).map_err(|(error, _)| error)?);
            expected.push(value);
        }
        for delivery in sent {
            delivery.await?.map_err(|(error, _)| error)?;
        }
    }
    let reader = consumer(node, &unique("group"), &[])?;
    reader.subscribe(&[&topic])?;
    let first = reader.recv().await?;
    let headers = first.headers().context("the headers are lost")?;
    let headers: Vec<_> = headers.iter().map(|header| (header.key, header.value)).collect();
    equal(headers, vec![("h", Some(b"1".as_slice())), ("h", None)])?;
    let mut values = vec![value(&first)];
    values.extend(read(&reader, expected.len() - 1).await?);
    equal(values, expected)?;
    let ends = reader.fetch_watermarks(&topic, 0, LIMIT)?;
    equal(ends, (0, 500))
}

async fn idempotence(node: &str) -> Result<()> {
    let topic = create(node, 1).await?;
    let producer: FutureProducer = config(node, &[("enable.idempotence", "true")]).create()?;
    let values: Vec<_> = (0..300).map(|number: i32| number.to_string()).collect();
    let mut sent = Vec::new();
    for value in &values {
        let record = FutureRecord::<(), _>::to(&topic).payload(value);
        sent.push(producer.send_result(record).map_err(|(error, _)| error)?);
    }
    for (delivery, expected) in sent.into_iter().zip(0..) {
        let delivery = delivery.await?.map_err(|(error, _)| error)?;
        equal(delivery.offset, expected)?;
    }
    Ok(())
}

/// Members come and go: each is given what it should be, and nothing is lost.
async fn groups(node: &str, protocol: &[(&str, &str)]) -> Result<()> {
    let topic = create(node, 4).await?;
    let group = unique("group");
    let member = || {
        let member = consumer(node, &group, protocol)?;
        member.subscribe(&[&topic])?;
        anyhow::Ok(member)
    };
    let first = member()?;
    send(node, &topic, 0, &["a", "b"]).await?;
    equal(read(&first, 2).await?, owned(&["a", "b"]))?;
    first.commit_consumer_state(CommitMode::Sync)?;

    let second = member()?;
    let share = |of: &StreamConsumer| anyhow::Ok(of.assignment()?.count());
    while (share(&first)?, share(&second)?) != (2, 2) {
        tokio::select! {
            again = first.recv() => anyhow::bail!("committed records came again: {:?}", again?),
            again = second.recv() => anyhow::bail!("committed records came again: {:?}", again?),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
    drop(first);
    while share(&second)? != 4 {
        let _nothing = tokio::time::timeout(Duration::from_millis(50), second.recv()).await;
    }
    send(node, &topic, 0, &["c"]).await?;
    equal(read(&second, 1).await?, owned(&["c"]))?;
    second.commit_consumer_state(CommitMode::Sync)?;
    let mut first_partition = TopicPartitionList::new();
    first_partition.add_partition(&topic, 0);
    let committed = second.committed_offsets(first_partition, LIMIT)?;
    equal(committed.elements()[0].offset(), Offset::Offset(3))
}

async fn transactions(node: &str) -> Result<()> {
    let topic = create(node, 1).await?;
    let id = unique("id");
    let transactional = || {
        let producer: FutureProducer = config(node, &[("transactional.id", &id)]).create()?;
        producer.init_transactions(LIMIT)?;
        anyhow::Ok(producer)
    };
    let producer = transactional()?;
    for outcome in ["committed", "aborted", "committed too"] {
        producer.begin_transaction()?;
        let record = FutureRecord::<(), _>::to(&topic).payload(outcome);
        producer.send(record, LIMIT).await.map_err(|(error, _)| error)?;
        if outcome == "aborted" {
            producer.abort_transaction(LIMIT)?;
        } else {
            producer.commit_transaction(LIMIT)?;
        }
    }
    let reader = consumer(node, &unique("group"), &[("isolation.level", "read_committed")])?;
    reader.subscribe(&[&topic])?;
    equal(read(&reader, 2).await?, owned(&["committed", "committed too"]))?;

    let _successor = transactional()?;
    producer.begin_transaction()?;
    let late = FutureRecord::<(), _>::to(&topic).payload("fenced");
    let sent = producer.send(late, LIMIT).await;
    let committed = producer.commit_transaction(LIMIT);
    ensure!(sent.is_err() || committed.is_err(), "a fenced producer has committed");
    Ok(())
}

async fn exactly_once(node: &str) -> Result<()> {
    let (source, sink) = (create(node, 1).await?, create(node, 1).await?);
    send(node, &source, 0, &["a", "b", "c"]).await?;
    let (id, group) = (unique("id"), unique("group"));
    for commits in [false, true] {
        let consumer = consumer(node, &group, &[])?;
        consumer.subscribe(&[&source])?;
        let producer: FutureProducer = config(node, &[("transactional.id", &id)]).create()?;
        producer.init_transactions(LIMIT)?;
        let values = read(&consumer, 3).await?;
        producer.begin_transaction()?;
        for value in &values {
            let record = FutureRecord::<(), _>::to(&sink).payload(value);
            producer.send(record, LIMIT).await.map_err(|(error, _)| error)?;
        }
        let member = consumer.group_metadata().context("it is no member")?;
        producer.send_offsets_to_transaction(&consumer.position()?, &member, LIMIT)?;
        if commits {
            producer.commit_transaction(LIMIT)?;
        } else {
            producer.abort_transaction(LIMIT)?;
        }
    }
    let reader = consumer(node, &unique("group"), &[("isolation.level", "read_committed")])?;
    reader.subscribe(&[&sink])?;
    equal(read(&reader, 3).await?, owned(&["a", "b", "c"]))?;
    let member = consumer(node, &group, &[])?;
    let mut of_source = TopicPartitionList::new();
    of_source.add_partition(&source, 0);
    let committed = member.committed_offsets(of_source, LIMIT)?;
    equal(committed.elements()[0].offset(), Offset::Offset(3))
}

async fn administration(node: &str) -> Result<()> {
    let topic = create(node, 1).await?;
    let (admin, options) = (admin(node)?, AdminOptions::new());
    for grown in admin.create_partitions([&NewPartitions::new(&topic, 3)], &options).await? {
        grown.map_err(failed)?;
    }
    let client: BaseConsumer = config(node, &[]).create()?;
    let metadata = client.fetch_metadata(Some(&topic), LIMIT)?;
    equal(metadata.topics()[0].partitions().len(), 3)?;
    let resource = ResourceSpecifier::Topic(&topic);
    let change = AlterConfig::new(resource).set("retention.ms", "60000");
    for changed in admin.alter_configs([&change], &options).await? {
        changed.map_err(failed)?;
    }
    for described in admin.describe_configs([&resource], &options).await? {
        let described = described.map_err(|code| anyhow!("{code}"))?;
        let retention = described.get("retention.ms").context("retention.ms is not described")?;
        equal(retention.value.as_deref(), Some("60000"))?;
    }
    send(node, &topic, 0, &["a", "b", "c"]).await?;
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&topic, 0, Offset::Offset(2))?;
    admin.delete_records(&before, &options).await?;
    equal(client.fetch_watermarks(&topic, 0, LIMIT)?, (2, 3))?;
    for deleted in admin.delete_topics(&[&topic], &options).await? {
        deleted.map_err(failed)?;
    }
    let exists = || {
        let known = client.fetch_metadata(None, LIMIT)?;
        anyhow::Ok(known.topics().iter().any(|known| known.name() == topic))
    };
    while exists()? {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
