//! Maintenance: retention, compaction and forgetting producers, one log after the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rafka_core::{Timestamp, TopicId};
use rafka_storage::{self as storage, CleanReport, Observer as _};

use super::{Broker, Inner};
use crate::follower::Follower;
use crate::partition::Partition;
use crate::table::Topic;

/// How often room for producers is made at the most.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);

/// How long after it found a full disk a topic change is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Broker {
    pub(super) fn start_maintenance(&self) {
        let inner = Arc::clone(&self.inner);
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(async move {
            let mut interval = tokio::time::interval(inner.settings.retention_check_interval);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            // The first tick comes at once, and a node that starts has better things to do.
            interval.tick().await;
            inner.finish_deletions().await;
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = inner.table.producers().crowded() => {
                        inner.make_room_for_producers().await;
                        // However fast new ones come, looking at all of them has its pace.
                        tokio::time::sleep(ROOM_INTERVAL).await;
                    }
                    _ = interval.tick() => inner.maintain().await,
                }
            }
        });
    }

    /// Carries out what the metadata agreed on and a full disk had no room for, when it has.
    pub(super) fn start_retries(&self, follower: Follower) {
        let inner = Arc::clone(&self.inner);
        let retries = async move {
            loop {
                follower.postponed().await;
                loop {
                    tokio::time::sleep(RETRY_PAUSE).await;
                    if inner.retry(&follower).await {
                        break;
                    }
                }
                // It may have been a topic of the broker's own.
                inner.lead_groups().await;
                inner.lead_transactions().await;
            }
        };
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = retries => {}
            }
        });
    }

    /// Applies retention and compaction to every log now, instead of at the next interval.
    pub async fn clean(&self) {
        self.inner.maintain().await;
    }
}

impl Inner {
    /// False if there is still no room.
    async fn retry(&self, follower: &Follower) -> bool {
        let (follower, metadata) = (follower.clone(), self.metadata.clone());
        match self.blocking(move || follower.retry(|| metadata.view())).await {
            Ok(Err(error)) if error.is_disk_full() => return false,
            Ok(Err(error)) => self.table.failed(&error),
            Ok(Ok(())) => tracing::info!("there is room on the disk for all topics again"),
            // The node is stopping.
            Err(_) => {}
        }
        true
    }

    async fn maintain(&self) {
        self.forget_producers(self.date().minus(self.settings.producer_id_expiration)).await;
        self.finish_deletions().await;
        for topic in self.table.topics() {
            for partition in topic.led() {
                if self.stop.is_cancelled() {
                    return;
                }
                let now = self.date();
                self.clean(&topic, &partition, now).await;
            }
        }
    }

    /// Deletes what is left of the logs of deleted topics, and says so when nothing is.
    ///
    /// Usually they go at once. A crash, or a full disk, may have come between.
    async fn finish_deletions(&self) {
        let deleted = self.metadata.view().deleted();
        if deleted.is_empty() {
            return;
        }
        let ids: BTreeSet<TopicId> = deleted.iter().map(|(_, topic)| *topic).collect();
        let engine = Arc::clone(&self.engine);
        let delete = move || {
            let existing = engine.existing()?;
            let left: Vec<_> =
                existing.into_iter().filter(|log| ids.contains(&log.topic)).collect();
            if left.is_empty() { Ok(()) } else { engine.delete(&left) }
        };
        match self.blocking(delete).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                return tracing::warn!(%error, "logs of deleted topics are deleted later");
            }
            Err(_stopping) => return,
        }
        if let Err(error) = self.metadata.logs_deleted(deleted).await {
            tracing::warn!(%error, "deleted topics are looked after again");
        }
    }

    /// Forgets those who wrote longest ago, until half of the memory for producers is free.
    async fn make_room_for_producers(&self) {
        let mut seen_at = Vec::with_capacity(self.table.producers().count());
        for partition in self.table.topics().iter().flat_map(|topic| topic.led()) {
            partition.producers_seen_at(&mut seen_at);
        }
        let producers = self.table.producers();
        // Those with open transactions are counted, and stay.
        let excess = producers.count().saturating_sub(producers.goal());
        if 0 < excess && !seen_at.is_empty() {
            let excess = excess.min(seen_at.len() - 1);
            let (_, limit, _) = seen_at.select_nth_unstable(excess);
            let limit = *limit;
            tracing::warn!(producers = excess, "memory for producers is full: oldest forgotten");
            self.forget_producers(limit).await;
        }
    }

    /// Forgets the producers that wrote before `limit` and not since, here and in the checkpoints.
    async fn forget_producers(&self, limit: Timestamp) {
        let partitions = self.table.topics().into_iter().flat_map(|topic| topic.led());
        let forgotten: usize = partitions.map(|partition| partition.forget_producers(limit)).sum();
        if forgotten == 0 {
            return;
        }
        let engine = Arc::clone(&self.engine);
        if let Ok(Err(error)) = self.blocking(move || engine.forget_producers(limit)).await {
            tracing::warn!(%error, "producers that were forgotten come back with a restart");
        }
    }

    /// The date that decides what is too old.
    fn date(&self) -> Timestamp {
        let (now, says) = (self.clock.now(), self.clock.timestamp());
        let (date, has_jumped) = {
            let mut calendar = self.calendar.lock();
            let was_doubted = calendar.is_doubted();
            (calendar.date(now, says), !was_doubted && calendar.is_doubted())
        };
        if has_jumped {
            tracing::warn!(
                calendar = %says,
                expected = %date,
                "the calendar jumped ahead: retention believes it if it lasts for a day"
            );
        }
        date
    }

    async fn clean(&self, topic: &Topic, partition: &Arc<Partition>, now: Timestamp) {
        let log = partition.log;
        let below = partition.position().last_stable_offset;
        let engine = Arc::clone(&self.engine);
        let owned = Arc::clone(partition);
        if topic.config().log.cleanup.compact {
            partition.forget_aborted();
        }
        let clean = move || {
            let report = engine.clean(log, below, now)?;
            owned.trimmed(report.start);
            Ok::<_, storage::Error>(report)
        };
        let Ok(cleaned) = self.blocking(clean).await else { return };
        let index = partition.id.partition;
        match cleaned {
            Ok(report) => {
                if report != (CleanReport { start: report.start, ..CleanReport::default() }) {
                    tracing::debug!(
                        topic = %topic.name,
                        partition = %index,
                        offset = %report.start,
                        segments = report.segments_deleted,
                        bytes = report.bytes_freed,
                        records = report.records_compacted,
                        "log cleaned"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(topic = %topic.name, partition = %index, %error, "log not cleaned");
            }
        }
    }
}
