//! The owner while it takes over a partition: its log is read, then its groups are served.

use std::sync::Arc;
use std::time::Duration;

use rafka_core::batch::Outcome;
use rafka_core::{Batch, ByteSize, Epoch, GroupId, PartitionIndex, ProducerId, TopicName};

use super::owner::{Landed, Owner, What};
use super::shard::{Groups, Loading, Phase, Shard, Slot};
use crate::Error;
use crate::group::Topics;
use crate::group::effects::{Effects, Turn};

/// How much of a log is read at once while it is loaded.
const LOAD_BYTES: ByteSize = ByteSize::mib(4);

impl Owner {
    pub(super) fn lead(&mut self, partition: PartitionIndex, epoch: Epoch, topics: Option<Topics>) {
        if self.shards.get(&partition).is_some_and(|shard| epoch <= shard.epoch) {
            return;
        }
        self.resign(partition);
        let loading = Loading::new(topics);
        self.shards.insert(partition, Shard { epoch, phase: Phase::Loading(loading) });
        self.read(partition, None);
    }

    /// Forgets a topic in every group, also in those that are still to be loaded.
    pub(super) fn forget_topic(&mut self, topic: &TopicName) {
        for shard in self.shards.values_mut() {
            if let Phase::Loading(loading) = &mut shard.phase {
                loading.forget_topic(topic.clone());
            }
        }
        self.for_every_group(|group, turn| group.forget_topic(topic, turn));
    }

    /// Offsets of the group are about to be committed in the producer's transaction.
    pub(super) fn note_transaction(
        &mut self,
        at: PartitionIndex,
        producer: ProducerId,
        group: &GroupId,
    ) {
        if let Some(Shard { phase: Phase::Ready(groups), .. }) = self.shards.get_mut(&at) {
            groups.transactions.entry(producer).or_default().insert(group.clone());
        }
    }

    /// A producer's transaction has ended in this partition, and that is durable.
    pub(super) fn end_transaction(
        &mut self,
        at: PartitionIndex,
        producer: ProducerId,
        outcome: Outcome,
    ) {
        let groups = match self.shards.get_mut(&at).map(|shard| &mut shard.phase) {
            Some(Phase::Loading(loading)) => return loading.end_transaction(producer, outcome),
            Some(Phase::Ready(groups)) => groups.transactions.remove(&producer),
            None => None,
        };
        for id in groups.unwrap_or_default() {
            self.step(at, &id, |group, turn| group.end_transaction(producer, outcome, turn));
        }
    }

    /// Reads on in the log of a partition that is being loaded.
    fn read(&mut self, partition: PartitionIndex, pause: Option<Duration>) {
        let Some(Shard { epoch, phase: Phase::Loading(loading) }) = self.shards.get(&partition)
        else {
            return;
        };
        let (log, epoch, from) = (Arc::clone(&self.log), *epoch, loading.loader.next());
        self.flights.push(Box::pin(async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let read = log.read(partition, epoch, from, LOAD_BYTES).await;
            Landed { partition, epoch, what: What::Read(read) }
        }));
    }

    /// Takes in what was read, and reads on, tries again later, or begins to serve.
    pub(super) fn load(&mut self, partition: PartitionIndex, read: Result<Vec<Batch>, Error>) {
        let Some(Shard { epoch, phase: Phase::Loading(loading) }) = self.shards.get_mut(&partition)
        else {
            return;
        };
        let before = loading.loader.next();
        let taken = take(loading, read);
        let offset = loading.loader.next();
        if before < offset {
            loading.progressed();
        }
        match taken {
            Ok(Taken::Some) => self.read(partition, None),
            Ok(Taken::All) => self.serve_loaded(partition),
            Err(error) => {
                let pause = loading.next_pause(&mut self.rng);
                let again_ms = pause.as_millis();
                tracing::error!(%partition, %epoch, %offset, error, again_ms, "cannot load groups");
                self.read(partition, Some(pause));
            }
        }
    }

    /// Begins to serve a partition whose log has been read.
    fn serve_loaded(&mut self, partition: PartitionIndex) {
        let Some(Shard { epoch, phase }) = self.shards.get_mut(&partition) else { return };
        let mut groups = Groups::default();
        let Phase::Loading(loading) = std::mem::replace(phase, Phase::Ready(Groups::default()))
        else {
            unreachable!("only a partition that is being loaded becomes ready, not {partition}");
        };
        let (loader, gone) = loading.finish();
        let turn = Turn {
            now: self.clock.now(),
            timestamp: self.clock.timestamp(),
            settings: &self.settings,
            rng: &mut self.rng,
            effects: Effects::default(),
        };
        groups.transactions = loader.open_transactions();
        for group in loader.finish(&turn) {
            let id = group.id.clone();
            let planned = group.next_deadline();
            self.bytes += group.bytes();
            self.group_count += 1;
            if let Some(time) = planned {
                self.deadlines.insert((time, partition, id.clone()));
            }
            groups.by_id.insert(id, Slot { group, planned });
        }
        let ids = groups.by_id.keys();
        let is_own = |id: &&GroupId| self.log.own_settings(id, &self.settings).is_some();
        let with_own_settings: Vec<GroupId> = ids.filter(is_own).cloned().collect();
        tracing::debug!(%partition, %epoch, groups = groups.by_id.len(), "groups loaded");
        *phase = Phase::Ready(groups);
        if !gone.is_empty() {
            let offsets: usize = gone.values().map(Vec::len).sum();
            tracing::info!(%partition, offsets, "forgetting offsets of topics that are gone");
        }
        // They were loaded by the settings of the node.
        for id in with_own_settings {
            self.step(partition, &id, |group, turn| group.renew_sessions(turn));
        }
        for (id, partitions) in gone {
            self.step(partition, &id, |group, turn| group.forget_gone(partitions, turn));
        }
    }
}

/// How far a load has come.
enum Taken {
    Some,
    All,
}

/// Takes batches in, up to the first that cannot be read.
fn take(loading: &mut Loading, read: Result<Vec<Batch>, Error>) -> Result<Taken, String> {
    let batches = read.map_err(|error| error.to_string())?;
    for batch in &batches {
        loading.loader.take(batch).map_err(|error| with_cause(&error))?;
    }
    Ok(if batches.is_empty() { Taken::All } else { Taken::Some })
}

/// The sentence and its cause: this is where the error ends.
fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
