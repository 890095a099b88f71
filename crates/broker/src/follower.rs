//! Does on this node what the metadata agreed on: opens, configures and deletes logs.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use rafka_core::{NodeId, PartitionIndex, TopicId, TopicPartition};
use rafka_metadata::topic_config::TopicConfig;
use rafka_metadata::{self as metadata, Effect, View};
use rafka_storage::{self as storage, Engine, LogSettings};
use tokio::sync::Notify;

use crate::TopicRef;
use crate::partition::Partition;
use crate::table::{PartitionTable, Topic};

/// Follows the metadata. Effects come in the order of the commands. Cheap to clone.
#[derive(Clone)]
pub struct Follower {
    pub(crate) table: Arc<PartitionTable>,
    pub(crate) engine: Arc<dyn Engine>,
    postponed: Arc<Postponed>,
}

/// What could not be done yet because the disk was full, oldest first.
#[derive(Default)]
struct Postponed {
    effects: Mutex<VecDeque<Effect>>,
    /// Told when there is some.
    some: Notify,
}

impl Follower {
    /// A follower that opens logs in `engine` and makes them reachable in `table`.
    #[must_use]
    pub fn new(table: Arc<PartitionTable>, engine: Arc<dyn Engine>) -> Self {
        Self { table, engine, postponed: Arc::default() }
    }

    /// What the metadata is to call, and whom to tell when the storage fails.
    ///
    /// An effect that finds the disk full is tried again, by the broker or with the next one. One
    /// that cannot be carried out for another reason is a failed storage: the node fences itself
    /// rather than serve something else than what was agreed on.
    #[must_use]
    pub fn observer(&self, failures: Arc<dyn storage::Observer>) -> metadata::Observer {
        let follower = self.clone();
        Box::new(move |view, effects| {
            let mut waiting = follower.postponed.effects.lock();
            waiting.extend(effects.iter().cloned());
            match follower.carry_out_all(view, &mut waiting) {
                Ok(()) => {}
                Err(error) if error.is_disk_full() => {
                    tracing::error!(%error, "a topic change waits for room on the disk");
                    follower.postponed.some.notify_one();
                }
                Err(error) => failures.failed(&error),
            }
        })
    }

    /// Completes when something waits for room on the disk.
    ///
    /// # Cancel safety
    /// Dropped, it can be called again.
    pub(crate) async fn postponed(&self) {
        self.postponed.some.notified().await;
    }

    /// Does what waits for room, if there is some by now. Blocks.
    ///
    /// # Errors
    /// If the disk is still full, or the storage fails.
    pub(crate) fn retry(&self, view: impl FnOnce() -> View) -> Result<(), storage::Error> {
        let mut waiting = self.postponed.effects.lock();
        // Only now: it must not be older than what waits.
        self.carry_out_all(&view(), &mut waiting)
    }

    fn carry_out_all(
        &self,
        view: &View,
        waiting: &mut VecDeque<Effect>,
    ) -> Result<(), storage::Error> {
        while let Some(effect) = waiting.front() {
            self.carry_out(view, effect)?;
            waiting.pop_front();
        }
        Ok(())
    }

    fn carry_out(&self, view: &View, effect: &Effect) -> Result<(), storage::Error> {
        match effect {
            Effect::TopicCreated(topic) => self.open(view, &[Arc::clone(topic)], PartitionIndex(0)),
            Effect::PartitionsAdded { topic, first } => {
                self.open(view, &[Arc::clone(topic)], *first)
            }
            Effect::TopicDeleted(topic) => self.delete(topic),
            Effect::TopicConfigured(topic) => {
                self.configure(view, topic);
                Ok(())
            }
            Effect::NodeConfigsChanged => {
                view.topics().iter().for_each(|topic| self.configure(view, topic));
                Ok(())
            }
            // Leaderships change when nodes come and go: a node alone keeps its own, and takes them
            // up under their new epochs when it opens all topics at its start.
            Effect::PartitionsChanged { .. }
            | Effect::Founded
            | Effect::Joined(_)
            | Effect::SessionBegun { .. }
            | Effect::LogsDeleted { .. }
            | Effect::ProducerIds(_)
            // The group coordinator asks when a group takes its next step.
            | Effect::GroupConfigsChanged(_) => Ok(()),
        }
    }

    /// Opens every partition that this node leads. Blocks.
    pub(crate) fn open_all(&self, view: &View) -> Result<(), storage::Error> {
        let topics = view.topics();
        self.open(view, &topics, PartitionIndex(0))?;
        let known: BTreeSet<TopicPartition> = topics.iter().flat_map(|topic| ids(topic)).collect();
        // A crash between the agreement to delete and the deletion leaves logs of deleted topics.
        let deleted: BTreeSet<TopicId> = view.deleted().into_iter().map(|(_, id)| id).collect();
        let existing = self.engine.existing()?;
        let unknown = existing.difference(&known).filter(|log| !deleted.contains(&log.topic));
        let unknown = unknown.count();
        if 0 < unknown {
            // A lost metadata file leaves logs that nobody knows: what might be the only copy is not
            // deleted on a guess.
            tracing::warn!(logs = unknown, "logs that belong to no topic are kept and not served");
        }
        Ok(())
    }

    /// Opens the partitions that this node leads, of each topic from `first` on.
    fn open(
        &self,
        view: &View,
        topics: &[Arc<metadata::Topic>],
        first: PartitionIndex,
    ) -> Result<(), storage::Error> {
        let mut logs = Vec::new();
        for topic in topics {
            let config = view.config(topic);
            let led = led_by(topic, view.node(), first);
            logs.extend(led.map(|(partition, _)| {
                (TopicPartition { topic: topic.id, partition }, log_settings(topic, &config))
            }));
        }
        let mut opened = self.engine.open(&logs)?.into_iter();
        for topic in topics {
            let partitions = led_by(topic, view.node(), first)
                .zip(&mut opened)
                .map(|((partition, agreed), (log, recovered))| {
                    let id = TopicPartition { topic: topic.id, partition };
                    let producers = Arc::clone(self.table.producers());
                    let epoch = agreed.leader_epoch();
                    Arc::new(Partition::new(id, log, recovered, epoch, producers))
                })
                .collect();
            let known = self.table.topic(&TopicRef::Id(topic.id)).unwrap_or_else(|_unknown| {
                Arc::new(Topic::new(topic.name.clone(), topic.id, view.config(topic)))
            });
            self.table.insert_partitions(&known, partitions);
            self.table.insert_topic(known);
        }
        Ok(())
    }

    fn delete(&self, topic: &metadata::Topic) -> Result<(), storage::Error> {
        self.table.remove_topic(topic.id);
        let logs: Vec<TopicPartition> = ids(topic).collect();
        self.engine.delete(&logs)
    }

    fn configure(&self, view: &View, topic: &metadata::Topic) {
        let Ok(known) = self.table.topic(&TopicRef::Id(topic.id)) else { return };
        let config = view.config(topic);
        for partition in known.led() {
            let settings = log_settings(topic, &config);
            if let Err(error) = self.engine.configure(partition.log, settings) {
                tracing::warn!(topic = %topic.name, %error, "topic settings not applied to a log");
            }
        }
        known.set_config(config);
    }
}

/// What coordinators write down is small: groups commit their offsets when the disk has no room for more
/// records.
fn log_settings(topic: &metadata::Topic, config: &TopicConfig) -> LogSettings {
    LogSettings { takes_reserve: topic.name.is_internal(), ..config.log.clone() }
}

fn ids(topic: &metadata::Topic) -> impl Iterator<Item = TopicPartition> {
    topic.partitions.iter().map(|(partition, _)| TopicPartition { topic: topic.id, partition })
}

fn led_by(
    topic: &metadata::Topic,
    node: NodeId,
    first: PartitionIndex,
) -> impl Iterator<Item = (PartitionIndex, &metadata::Partition)> {
    topic
        .partitions
        .iter()
        .filter(move |(index, partition)| first <= *index && partition.leader() == Some(node))
}
