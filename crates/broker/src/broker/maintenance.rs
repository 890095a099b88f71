//! Maintenance: retention, compaction and forgetting producers, one log after the other.

use std::sync::Arc;

use rafka_core::Timestamp;
use rafka_storage::{self as storage, CleanReport};

use super::{Broker, Inner};
use crate::partition::Partition;
use crate::table::Topic;

impl Broker {
    pub(super) fn start_maintenance(&self) {
        let inner = Arc::clone(&self.inner);
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(async move {
            let mut interval = tokio::time::interval(inner.settings.retention_check_interval);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            // The first tick comes at once, and a node that starts has better things to do.
            interval.tick().await;
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    _ = interval.tick() => inner.maintain().await,
                }
            }
        });
    }

    /// Applies retention and compaction to every log now, instead of at the next interval.
    pub async fn clean(&self) {
        self.inner.maintain().await;
    }
}

impl Inner {
    async fn maintain(&self) {
        for topic in self.table.topics() {
            for partition in topic.led() {
                if self.stop.is_cancelled() {
                    return;
                }
                let now = self.date();
                partition.expire_producers(now, self.settings.producer_id_expiration);
                self.clean(&topic, &partition, now).await;
            }
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
