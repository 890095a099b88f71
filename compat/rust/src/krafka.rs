//! krafka, which is Rust alone and speaks the newest versions.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use krafka::admin::{ConfigOp, ConfigResource, NewTopic};
use krafka::consumer::{
    AutoOffsetReset, Consumer, ConsumerRecord, GroupProtocol, IsolationLevel,
    PartitionAssignmentStrategy,
};
use krafka::producer::TopicPartitionOffset;
use krafka::{Compression, Kafka, Record};

use crate::{Checks, equal, unique};

pub async fn check(checks: &mut Checks, node: &str) {
    checks.run("produce and consume", produce_and_consume(node)).await;
    checks.run("idempotence", idempotence(node)).await;
    let classic = |builder: Builder| builder.group_protocol(GroupProtocol::Classic);
    checks.run("classic groups", groups(node, classic)).await;
    let cooperative = |builder: Builder| {
        builder.partition_assignment_strategy(PartitionAssignmentStrategy::CooperativeSticky)
    };
    checks.run("cooperative groups", groups(node, cooperative)).await;
    let next = |builder: Builder| builder.group_protocol(GroupProtocol::Consumer);
    checks.run("next-generation groups", groups(node, next)).await;
    checks.run("transactions", transactions(node)).await;
    checks.run("exactly once", exactly_once(node)).await;
    checks.run("administration", administration(node)).await;
}

type Builder = krafka::consumer::ConsumerBuilder;

async fn connect(node: &str) -> Result<Kafka> {
    Ok(Kafka::builder(node).connect().await?)
}

async fn create(kafka: &Kafka, partitions: i32) -> Result<String> {
    let topic = unique("krafka");
    let order = [NewTopic::new(&topic, partitions, 1)?];
    for (_, created) in kafka.admin().create_topics(order, Default::default()).await? {
        created?;
    }
    Ok(topic)
}

async fn send(kafka: &Kafka, topic: &str, partition: i32, values: &[&str]) -> Result<()> {
    let producer = kafka.producer().build().await?;
    for value in values {
        let _ = producer.send(Record::new(topic, value.to_string()).partition(partition)).await?;
    }
    Ok(producer.close().await?)
}

async fn read(consumer: &Consumer, count: usize) -> Result<Vec<ConsumerRecord>> {
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(consumer.poll(Duration::from_millis(200)).await?);
    }
    Ok(records)
}

fn values(records: &[ConsumerRecord]) -> Vec<String> {
    let text = |record: &ConsumerRecord| record.value_str().unwrap_or_default().to_owned();
    records.iter().map(text).collect()
}

/// What a reader without a group is given of the first partition.
async fn reread(
    kafka: &Kafka,
    topic: &str,
    isolation: IsolationLevel,
    count: usize,
) -> Result<Vec<ConsumerRecord>> {
    let reader = kafka.consumer_without_group().auto_offset_reset(AutoOffsetReset::Earliest);
    let reader = reader.isolation_level(isolation).build().await?;
    reader.assign(topic, vec![0]).await?;
    let records = read(&reader, count).await?;
    reader.close().await?;
    Ok(records)
}

async fn produce_and_consume(node: &str) -> Result<()> {
    let kafka = connect(node).await?;
    let topic = create(&kafka, 1).await?;
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let mut expected = Vec::new();
    for codec in codecs {
        let producer = kafka.producer().compression(codec).build().await?;
        let mut deliveries = Vec::new();
        for number in 0..100 {
            let value = format!("{codec:?} {number}");
            let record = Record::new(&topic, value.clone()).key("k").header("h", "1");
            deliveries.push(producer.enqueue(record.header("h", "2")).await?);
            expected.push(value);
        }
        producer.flush().await?;
        for delivery in deliveries {
            equal(delivery.await?.partition, 0)?;
        }
        producer.close().await?;
    }
    let records = reread(&kafka, &topic, IsolationLevel::ReadUncommitted, expected.len()).await?;
    equal(values(&records), expected)?;
    let headers = records[0].headers.iter().filter(|(name, _)| name.as_str() == "h").count();
    equal(headers, 2)?;
    let consumer = kafka.consumer_without_group().build().await?;
    let ends = consumer.fetch_watermarks(&topic, 0).await?;
    equal((ends.0, ends.1), (0, 500))
}

async fn idempotence(node: &str) -> Result<()> {
    let kafka = connect(node).await?;
    let topic = create(&kafka, 1).await?;
    let producer = kafka.producer().idempotent(true).build().await?;
    for number in 0..300_i64 {
        let sent = producer.send(Record::new(&topic, number.to_string())).await?;
        equal(sent.offset, number)?;
    }
    Ok(producer.close().await?)
}

/// Members come and go: each is given what it should be, and nothing is lost.
async fn groups(node: &str, protocol: impl Fn(Builder) -> Builder) -> Result<()> {
    let kafka = connect(node).await?;
    let topic = create(&kafka, 4).await?;
    let group = unique("group");
    // Members of one handle share a connection, in which one's join holds up the other's heartbeats.
    let member = async || {
        let kafka = connect(node).await?;
        let builder = kafka.consumer(&group).auto_offset_reset(AutoOffsetReset::Earliest);
        let member = protocol(builder).enable_auto_commit(false).build().await?;
        member.subscribe([&topic]).await?;
        anyhow::Ok(member)
    };
    let first = member().await?;
    send(&kafka, &topic, 0, &["a", "b"]).await?;
    equal(values(&read(&first, 2).await?), vec!["a".to_owned(), "b".to_owned()])?;
    first.commit().await?;

    let second = member().await?;
    let share = async |of: &Consumer| of.assignment().await.values().map(Vec::len).sum::<usize>();
    while (share(&first).await, share(&second).await) != (2, 2) {
        let wait = Duration::from_millis(50);
        let (of_first, of_second) = tokio::join!(first.poll(wait), second.poll(wait));
        ensure!(of_first?.is_empty() && of_second?.is_empty(), "committed records came again");
    }
    let described = kafka.admin().describe_consumer_groups([&group], Default::default()).await?;
    let described = described.into_values().next().context("the group is not described")??;
    equal((described.state.as_str(), described.members.len()), ("Stable", 2))?;
    first.close().await?;
    while share(&second).await != 4 {
        second.poll(Duration::from_millis(50)).await?;
    }
    send(&kafka, &topic, 0, &["c"]).await?;
    equal(values(&read(&second, 1).await?), vec!["c".to_owned()])?;
    second.commit().await?;
    second.close().await?;

    let admin = kafka.admin();
    let committed = admin.list_consumer_group_offsets(&group, Default::default()).await?;
    let of_first = committed.into_iter().find(|(at, _)| at.partition == 0);
    equal(of_first.context("nothing is committed")?.1?.offset, Some(3))
}

async fn transactions(node: &str) -> Result<()> {
    let kafka = connect(node).await?;
    let topic = create(&kafka, 1).await?;
    let id = unique("id");
    let producer = kafka.producer().build_transactional(&id).await?;
    ensure!(producer.transaction_version().is_v2(), "the old transaction protocol is spoken");
    for outcome in ["committed", "aborted", "committed too"] {
        producer.begin()?;
        let _ = producer.send(Record::new(&topic, outcome)).await?;
        if outcome == "aborted" {
            producer.abort().await?;
        } else {
            producer.commit().await?;
        }
    }
    let records = reread(&kafka, &topic, IsolationLevel::ReadCommitted, 2).await?;
    equal(values(&records), vec!["committed".to_owned(), "committed too".to_owned()])?;

    let successor = kafka.producer().build_transactional(&id).await?;
    let late = async {
        producer.begin()?;
        let _ = producer.send(Record::new(&topic, "fenced")).await?;
        producer.commit().await
    };
    ensure!(late.await.is_err(), "a fenced producer has committed");
    Ok(successor.close().await?)
}

async fn exactly_once(node: &str) -> Result<()> {
    let kafka = connect(node).await?;
    let (source, sink) = (create(&kafka, 1).await?, create(&kafka, 1).await?);
    send(&kafka, &source, 0, &["a", "b", "c"]).await?;
    let (id, group) = (unique("id"), unique("group"));
    for commits in [false, true] {
        let consumer = kafka.consumer(&group).auto_offset_reset(AutoOffsetReset::Earliest);
        let consumer = consumer.isolation_level(IsolationLevel::ReadCommitted);
        let consumer = consumer.enable_auto_commit(false).build().await?;
        consumer.subscribe([&source]).await?;
        let producer = kafka.producer().build_transactional(&id).await?;
        let records = read(&consumer, 3).await?;
        producer.begin()?;
        let mut next = BTreeMap::new();
        for record in &records {
            let value = record.value_str().unwrap_or_default().to_owned();
            let _ = producer.send(Record::new(&sink, value)).await?;
            next.insert(record.partition, record.offset + 1);
        }
        let offset = |(partition, next)| TopicPartitionOffset::new(&source, partition, next);
        let offsets: Vec<_> = next.into_iter().map(offset).collect();
        let member = consumer.group_metadata().await.context("it is no member")?;
        producer.send_offsets(&offsets, &member).await?;
        if commits {
            producer.commit().await?;
        } else {
            producer.abort().await?;
        }
        producer.close().await?;
        consumer.close().await?;
    }
    let records = reread(&kafka, &sink, IsolationLevel::ReadCommitted, 3).await?;
    equal(values(&records), ["a", "b", "c"].map(str::to_owned).to_vec())?;
    let committed = kafka.admin().list_consumer_group_offsets(&group, Default::default()).await?;
    let offsets: Result<Vec<_>, _> =
        committed.into_values().map(|known| known.map(|known| known.offset)).collect();
    equal(offsets?, vec![Some(3)])
}

async fn administration(node: &str) -> Result<()> {
    let kafka = connect(node).await?;
    let admin = kafka.admin();
    let topic = create(&kafka, 1).await?;
    let cluster = admin.describe_cluster(Default::default()).await?;
    equal(cluster.brokers.len(), 1)?;
    for (_, grown) in admin.create_partitions([(&topic, 3)], Default::default()).await? {
        grown?;
    }
    let described = admin.describe_topics([&topic], Default::default()).await?;
    let described = described.into_values().next().context("the topic is not described")??;
    equal(described.partitions.len(), 3)?;
    let resource = ConfigResource::topic(&topic);
    let change = vec![ConfigOp::set("retention.ms", "60000")];
    let changes = [(resource.clone(), change)];
    for (_, changed) in admin.incremental_alter_configs(changes, Default::default()).await? {
        changed?;
    }
    let configs = admin.describe_configs([resource], Default::default()).await?;
    let configs = configs.into_values().next().context("the configs are not described")??;
    let retention = configs.iter().find(|entry| entry.name == "retention.ms");
    let retention = retention.context("retention.ms is not described")?;
    equal(retention.value.as_deref(), Some("60000"))?;
    send(&kafka, &topic, 0, &["a", "b"]).await?;
    let logs = admin.describe_log_dirs([0], Default::default()).await?;
    ensure!(!logs.is_empty(), "no log directory is described");
    for (_, deleted) in admin.delete_topics([&topic], Default::default()).await? {
        deleted?;
    }
    while admin.list_topics(Default::default()).await?.contains(&topic) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
