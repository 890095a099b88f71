//! The consumer's handle: what the user calls.

mod commit;
mod drive;

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use rafka_client::admin::OffsetSpec;
use rafka_client::{Client, TopicPartition};
use rafka_core::{ByteSize, Offset, Time, TopicName};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::builder::Builder;
use crate::error::Error;
use crate::fetcher::Fetcher;
use crate::member::{Common, EVENTS_MAX, Event, Group, Member};
use crate::metrics::Metrics;
use crate::partitions::{Need, Partitions};
use crate::rebalance::{Listener, Rebalance};
use crate::record::ConsumerRecord;
use crate::settings::Settings;

/// Reads records: of the partitions that its group gives it, or of those that it is told to read.
///
/// A consumer is driven by [`Consumer::poll`] (or its stream); only signs of life to the group and
/// the reading ahead go on in between. Records that a `poll` gave count as processed when the next
/// `poll` is called: only then are they committed automatically.
pub struct Consumer {
    client: Client,
    settings: Settings,
    partitions: Partitions,
    fetcher: Fetcher,
    subscription: Option<Subscription>,
    /// An event of the member that is being handled.
    event: Option<Event>,
    listener: Option<Listener>,
    /// At most one commit in the background: an older one must not overtake a newer one.
    commits: JoinSet<commit::Outcome>,
    commit_at: Time,
    /// At most one question for leaders in the background.
    refreshes: JoinSet<Result<(), rafka_client::Error>>,
    refresh_at: Time,
    refresh_failures: u32,
    locate_at: Time,
    locate_failures: u32,
    /// What to tell the user when there is nothing to give.
    trouble: Option<Error>,
    /// The group does not take this consumer.
    refused: Option<Error>,
    metrics: Metrics,
}

/// Membership in a group.
struct Subscription {
    common: Arc<Common>,
    events: mpsc::Receiver<Event>,
    stop: CancellationToken,
    member: JoinSet<()>,
}

impl Consumer {
    /// A consumer to be configured, for a cluster at `bootstrap` (`host:port`, commas between).
    pub fn builder(bootstrap: &str) -> Builder {
        Builder::new(bootstrap)
    }

    /// A consumer on a client that others may use too.
    ///
    /// # Errors
    /// If a setting cannot work.
    pub fn with_client(client: Client, settings: Settings) -> Result<Self, Error> {
        settings.validate()?;
        Ok(Self {
            partitions: Partitions::new(settings.batch_inflated_bytes_max),
            fetcher: Fetcher::new(client.clone(), settings.clone()),
            client,
            settings,
            subscription: None,
            event: None,
            listener: None,
            commits: JoinSet::new(),
            commit_at: Time::default(),
            refreshes: JoinSet::new(),
            refresh_at: Time::default(),
            refresh_failures: 0,
            locate_at: Time::default(),
            locate_failures: 0,
            trouble: None,
            refused: None,
            metrics: Metrics::default(),
        })
    }

    /// Calls `listener` whenever the group gives partitions or takes them.
    pub fn on_rebalance(&mut self, listener: impl FnMut(&Rebalance) + Send + 'static) {
        self.listener = Some(Box::new(listener));
    }

    /// Joins the group to read its share of `topics`. Leaves what was subscribed or assigned before.
    /// Topics that do not exist are read once they do.
    ///
    /// # Errors
    /// Without a group, or if a name is invalid.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropped, the old subscription may have been left and the new one not begun.
    pub async fn subscribe(&mut self, topics: &[&str]) -> Result<(), Error> {
        let Some(group) = self.settings.group.clone() else {
            return Err(Error::NoGroup { operation: "subscribe" });
        };
        let mut names = Vec::with_capacity(topics.len());
        for topic in topics {
            names.push(TopicName::new(topic)?);
        }
        names.sort();
        names.dedup();
        self.unsubscribe().await;
        let common = Common::new(self.now());
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        let stop = CancellationToken::new();
        let member = Member {
            group: Group {
                client: self.client.clone(),
                id: group,
                settings: self.settings.clone(),
            },
            topics: names,
            common: Arc::clone(&common),
            events: events_in,
            stop: stop.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(member.run());
        self.subscription = Some(Subscription { common, events, stop, member: tasks });
        Ok(())
    }

    /// Reads exactly these partitions, without being a member of a group. Leaves what was subscribed
    /// or assigned before. With a group in the settings, reading starts where the group committed.
    ///
    /// # Cancel safety
    /// Dropped, the old subscription may have been left and nothing assigned.
    pub async fn assign(&mut self, partitions: &[TopicPartition]) {
        self.unsubscribe().await;
        let need = match self.settings.group {
            Some(_) => Need::Committed,
            None => Need::Reset,
        };
        self.partitions.assign(partitions, need);
    }

    /// Gives all partitions up, and leaves the group if it was subscribed. What `poll` gave is
    /// committed first if auto commit is on.
    ///
    /// # Cancel safety
    /// Dropped, call it again.
    pub async fn unsubscribe(&mut self) {
        if self.settings.auto_commit_interval.is_some()
            && self.settings.group.is_some()
            && let Err(error) = self.commit().await
        {
            warn!(%error, "cannot commit what was read last");
        }
        (self.event, self.refused, self.trouble) = (None, None, None);
        if let Some(subscription) = &mut self.subscription {
            subscription.stop.cancel();
            while let Some(ended) = tokio::select! {
                ended = subscription.member.join_next() => ended,
                // The member may wait for room for its events.
                Some(_event) = subscription.events.recv() => Some(Ok(())),
            } {
                if let Err(failure) = ended {
                    warn!(error = %failure, "the member's task failed");
                }
            }
            self.subscription = None;
        }
        let names = self.partitions.names();
        if !names.is_empty() {
            self.partitions.assign(&[], Need::Reset);
            self.tell(&Rebalance::Revoked(names));
        }
        self.reconcile();
    }

    /// Waits for records, at most `limit`; then the answer is empty. Gives at most
    /// `poll_records_max`, in order within each partition.
    ///
    /// Lost connections and restarts of nodes are not errors: reading goes on when they are over.
    ///
    /// # Errors
    /// What the user should know or must decide: [`Error::Corrupt`], [`Error::NoOffset`],
    /// [`Error::Group`], [`Error::Client`] if a topic does not exist or access is denied. It can be
    /// called again; unless the cause is mended it fails again, when there is nothing else to give.
    ///
    /// # Cancel safety
    /// Cancel safe: records are given or stay.
    pub async fn poll(&mut self, limit: Duration) -> Result<Vec<ConsumerRecord>, Error> {
        self.poll_up_to(self.settings.poll_records_max, Some(limit)).await
    }

    /// Waits for the next record. The one before counts as processed.
    ///
    /// # Errors
    /// As [`Consumer::poll`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<ConsumerRecord, Error> {
        loop {
            if let Some(record) = self.poll_up_to(1, None).await?.pop() {
                return Ok(record);
            }
        }
    }

    /// The records as a stream that never ends. Asking for the next one says that the one before
    /// is processed.
    pub fn stream(&mut self) -> impl Stream<Item = Result<ConsumerRecord, Error>> + Send + '_ {
        unfold(self, |consumer| async move { Some((consumer.next().await, consumer)) })
    }

    /// The partitions that it reads now.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.partitions.names()
    }

    /// Goes on at `offset` in a partition.
    ///
    /// # Errors
    /// If the partition is not assigned.
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), Error> {
        self.partitions.seek(partition, offset)
    }

    /// Goes on at the earliest or latest offset, or at a time; a time later than all records is the
    /// end. Found at the next `poll`.
    ///
    /// # Errors
    /// If the partition is not assigned.
    pub fn seek_to(&mut self, partition: &TopicPartition, spec: OffsetSpec) -> Result<(), Error> {
        self.partitions.relocate(partition, Need::Find(spec))
    }

    /// Gives no records of a partition until it is resumed. Its position stays.
    ///
    /// # Errors
    /// If the partition is not assigned.
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.partitions.pause(partition)
    }

    /// Gives records of a partition again.
    ///
    /// # Errors
    /// If the partition is not assigned.
    pub fn resume(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.partitions.resume(partition)
    }

    /// The partitions that are paused.
    #[must_use]
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.partitions.paused()
    }

    /// The offset of the next record that `poll` will give of a partition; none before it was found.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.partitions.position(partition)
    }

    /// How many records of a partition can be read and were not given yet, as last heard.
    #[must_use]
    pub fn lag(&self, partition: &TopicPartition) -> Option<u64> {
        self.partitions.lag(partition)
    }

    /// What it has done so far, in numbers.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics {
            streams_opened: self.fetcher.opened(),
            prefetched_bytes: self.fetcher.budget().taken(),
            lag: self.partitions.total_lag(),
            ..self.metrics
        }
    }

    /// The client it stands on.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Commits what `poll` gave, if auto commit is on, leaves the group, and ends all connections.
    ///
    /// Dropped without this, the group notices only after the session timeout.
    ///
    /// # Errors
    /// If that was not done within `limit`.
    ///
    /// # Cancel safety
    /// Dropped, the consumer is dropped.
    pub async fn close(mut self, limit: Duration) -> Result<(), CloseTimedOut> {
        let closing = async {
            self.unsubscribe().await;
            self.fetcher.stop().await;
        };
        tokio::time::timeout(limit, closing).await.map_err(|_elapsed| CloseTimedOut { limit })
    }

    fn now(&self) -> Time {
        self.client.clock().now()
    }

    fn tell(&mut self, rebalance: &Rebalance) {
        if let Some(listener) = &mut self.listener {
            listener(rebalance);
        }
    }

    fn count(&mut self, records: &[ConsumerRecord]) {
        let len = |field: &Option<bytes::Bytes>| field.as_ref().map_or(0, bytes::Bytes::len);
        let bytes: usize = records.iter().map(|record| len(&record.key) + len(&record.value)).sum();
        self.metrics.polls += 1;
        self.metrics.records += records.len() as u64;
        self.metrics.bytes.0 += ByteSize::of_len(bytes).0;
    }
}

/// The consumer did not leave its group in time; the group will notice by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the consumer was not closed within {limit:?}")]
pub struct CloseTimedOut {
    limit: Duration,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("group", &self.settings.group)
            .field("partitions", &self.partitions.names())
            .finish_non_exhaustive()
    }
}
