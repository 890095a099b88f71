//! The readers of the demo: a group of two, and one that reads the whole topic at the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use rafka_client::{Client, TopicPartition};
use rafka_consumer::{Consumer, ConsumerRecord, OffsetReset, Settings};
use rafka_core::{PartitionIndex, TopicName};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ledger::{Name, Placed};

/// Members of the group.
pub(super) const MEMBERS: usize = 2;
const POLL_WAIT: Duration = Duration::from_millis(100);
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// What the members have read together.
#[derive(Debug, Default)]
struct Seen {
    names: Mutex<BTreeSet<Name>>,
    reads: AtomicU64,
}

/// What a group has read.
#[derive(Debug)]
pub(super) struct Consumed {
    /// Records, those that were read again after the kill included.
    pub(super) reads: u64,
    /// The different ones.
    pub(super) names: BTreeSet<Name>,
}

/// Running members of a group.
pub(super) struct Group {
    seen: Arc<Seen>,
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Group {
    /// Starts the members.
    pub(super) fn start(bootstrap: &str, topic: &str, group: &str) -> anyhow::Result<Self> {
        let (seen, stop) = (Arc::<Seen>::default(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        for number in 0..MEMBERS {
            let mut client = rafka_client::Settings::new(bootstrap);
            client.client_id = format!("demo-consumer-{number}");
            let mut settings = Settings::default();
            settings.group = Some(group.to_owned());
            settings.offset_reset = OffsetReset::Earliest;
            settings.auto_commit_interval = Some(Duration::from_millis(500));
            let consumer = Consumer::with_client(Client::new(client)?, settings)?;
            tasks.spawn(member(consumer, topic.to_owned(), Arc::clone(&seen), stop.clone()));
        }
        Ok(Self { seen, stop, tasks })
    }

    /// Records read so far, repeated ones included.
    pub(super) fn reads(&self) -> u64 {
        self.seen.reads.load(Ordering::Relaxed)
    }

    /// Waits until `count` different records were read, and lets the members leave.
    pub(super) async fn finish(mut self, count: u64, limit: Duration) -> anyhow::Result<Consumed> {
        let expected = usize::try_from(count)?;
        let all_read = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            while self.seen.names.lock().len() < expected {
                tokio::select! {
                    biased;
                    Some(ended) = self.tasks.join_next() => {
                        ended.context("a member's task failed")??;
                    }
                    _ = ticks.tick() => {}
                }
            }
            anyhow::Ok(())
        };
        if let Ok(ended) = tokio::time::timeout(limit, all_read).await {
            ended?;
        }
        // After the limit the members stop all the same: what is missing shows in the checks.
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a member's task failed")??;
        }
        let reads = self.reads();
        let names = std::mem::take(&mut *self.seen.names.lock());
        Ok(Consumed { reads, names })
    }
}

async fn member(
    consumer: Consumer,
    topic: String,
    seen: Arc<Seen>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    consumer.subscribe(&[topic.as_str()]).await.context("subscribing")?;
    loop {
        let records = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            records = consumer.poll(POLL_WAIT) => records,
        };
        let records = match records {
            Ok(records) => records,
            Err(error) if error.is_retriable() => continue,
            Err(error) => return Err(error).context("consuming"),
        };
        let count = records.len() as u64;
        let mut names = seen.names.lock();
        for record in &records {
            names.insert(name(record)?);
        }
        seen.reads.fetch_add(count, Ordering::Relaxed);
    }
    consumer.close(CLOSE_LIMIT).await.context("leaving the group")
}

fn name(record: &ConsumerRecord) -> anyhow::Result<Name> {
    Name::parse(record.key.as_deref(), record.value.as_deref()).with_context(|| {
        format!(
            "check failed: {} offset {} holds a foreign record",
            record.partition, record.offset
        )
    })
}

/// Reads a topic from its first record to its present end.
pub(super) async fn read_all(
    bootstrap: &str,
    topic: &str,
    partitions: u32,
) -> anyhow::Result<Vec<Placed>> {
    let client = Client::new(rafka_client::Settings::new(bootstrap))?;
    let topic = TopicName::new(topic)?;
    let described = client.admin().describe_topics(std::slice::from_ref(&topic)).await?;
    let described = described.into_iter().next().context("the topic was asked for")??;
    let logs: Vec<_> = described.partitions.iter().filter_map(|partition| partition.log).collect();
    ensure!(logs.len() == usize::try_from(partitions)?, "check failed: a partition has no leader");
    let expected: i64 = logs.iter().map(|log| log.end - log.start).sum();

    let mut settings = Settings::default();
    settings.auto_commit_interval = None;
    settings.offset_reset = OffsetReset::Earliest;
    let consumer = Consumer::with_client(client, settings)?;
    let names: Vec<_> = described
        .partitions
        .iter()
        .map(|partition| TopicPartition::new(topic.clone(), partition.partition))
        .collect();
    consumer.assign(&names)?;
    let mut stored = Vec::new();
    while stored.len() < usize::try_from(expected)? {
        let records = tokio::time::timeout(CLOSE_LIMIT, consumer.poll(CLOSE_LIMIT)).await;
        let records = records.context("check failed: the topic cannot be read to its end")??;
        for record in &records {
            let partition: PartitionIndex = record.partition.partition;
            stored.push(Placed { partition, offset: record.offset, name: name(record)? });
        }
    }
    consumer.close(CLOSE_LIMIT).await?;
    Ok(stored)
}
