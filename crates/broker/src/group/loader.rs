//! Pure: the state of a partition's groups, rebuilt from its log.

use std::collections::{BTreeMap, BTreeSet};

use rafka_core::batch::{EndMarker, Outcome};
use rafka_core::{Batch, ByteSize, GroupId, Offset, ProducerId, TopicName, batch};

use super::consumer;
use super::effects::Turn;
use super::machine::Group;
use super::offsets::Partition;
use super::record::{self, Entry, GroupValue, Malformed, OffsetValue};
use super::undecided::Undecided;

/// More than any batch that the coordinator writes.
const INFLATED_MAX: ByteSize = ByteSize::mib(64);

/// What the log has said so far.
#[derive(Debug, Default)]
pub(super) struct Loader {
    next: Offset,
    groups: BTreeMap<GroupId, Found>,
}

#[derive(Debug, Default)]
struct Found {
    value: Option<GroupValue>,
    consumers: consumer::Found,
    offsets: BTreeMap<Partition, OffsetValue>,
    /// Those of transactions that are open.
    undecided: Undecided<OffsetValue>,
}

/// The log holds what this coordinator cannot read. Its groups are not served, lest offsets go
/// back unseen.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("the batch at offset {offset} cannot be read")]
    Batch {
        offset: Offset,
        #[source]
        cause: batch::Error,
    },
    #[error("the record at offset {offset} cannot be read")]
    Record {
        offset: Offset,
        #[source]
        cause: Malformed,
    },
}

impl Found {
    /// An offset outside of transactions: earlier ones count no more.
    fn count(&mut self, partition: Partition, value: Option<OffsetValue>) {
        self.undecided.remove(&partition);
        match value {
            Some(value) => self.offsets.insert(partition, value),
            None => self.offsets.remove(&partition),
        };
    }
}

impl Loader {
    /// The offset that comes next.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// Takes the next batch in. After an error it has not been taken, and can be tried again.
    pub(super) fn take(&mut self, batch: &Batch) -> Result<(), LoadError> {
        let unreadable = |cause| LoadError::Batch { offset: batch.base_offset(), cause };
        let attributes = batch.header.attributes;
        let producer = batch.header.producer_id;
        let within = attributes.is_transactional().then_some(producer);
        if attributes.is_control() {
            if let Some(marker) = EndMarker::of(batch) {
                self.end_transaction(producer, marker.outcome);
            }
        } else {
            for record in batch.records(INFLATED_MAX).map_err(unreadable)? {
                let record = record.map_err(unreadable)?;
                let entry = record::decode(record.key.as_ref(), record.value.as_ref());
                let offset = record.offset;
                let entry = entry.map_err(|cause| LoadError::Record { offset, cause })?;
                match within {
                    Some(producer) => self.note_within(producer, entry),
                    None => self.note(entry),
                }
            }
        }
        self.next = batch.next_offset();
        Ok(())
    }

    /// A transaction has ended, in the log or after it.
    pub(super) fn end_transaction(&mut self, producer: ProducerId, outcome: Outcome) {
        for found in self.groups.values_mut() {
            found.offsets.extend(found.undecided.end(producer, outcome));
        }
    }

    fn note_within(&mut self, producer: ProducerId, entry: Entry) {
        match entry {
            Entry::Offset { group, partition, value: Some(value) } => {
                let found = self.groups.entry(group).or_default();
                // The loader is gone before its memory counts.
                found.undecided.insert(producer, partition, 0, value);
            }
            // Nobody writes anything else in a transaction.
            other => self.note(other),
        }
    }

    fn note(&mut self, entry: Entry) {
        match entry {
            Entry::Offset { group, partition, value } => {
                self.groups.entry(group).or_default().count(partition, value);
            }
            Entry::Group { group, value } => {
                let found = self.groups.entry(group).or_default();
                if value.is_some() {
                    found.consumers.supersede();
                }
                found.value = value;
            }
            Entry::Consumer { group, entry } => {
                let found = self.groups.entry(group).or_default();
                found.consumers.note(entry);
                if found.consumers.is_there() {
                    found.value = None;
                }
            }
            Entry::Unknown { key_version } => {
                tracing::warn!(key_version, "passed over a record of an unknown kind");
            }
        }
    }

    /// The open transactions, and the groups that they commit offsets of.
    pub(super) fn open_transactions(&self) -> BTreeMap<ProducerId, BTreeSet<GroupId>> {
        let mut open: BTreeMap<ProducerId, BTreeSet<GroupId>> = BTreeMap::new();
        for (id, found) in &self.groups {
            for producer in found.undecided.producers() {
                open.entry(producer).or_default().insert(id.clone());
            }
        }
        open
    }

    /// Leaves the offsets of topics that are gone out of what was found; tells what it left out.
    pub(super) fn leave_out(
        &mut self,
        is_gone: impl Fn(&TopicName) -> bool,
    ) -> BTreeMap<GroupId, Vec<Partition>> {
        let mut left_out = BTreeMap::new();
        for (id, found) in &mut self.groups {
            let all = found.offsets.keys().chain(found.undecided.partitions());
            let gone: BTreeSet<Partition> =
                all.filter(|(topic, _)| is_gone(topic)).cloned().collect();
            for partition in &gone {
                found.offsets.remove(partition);
                found.undecided.remove(partition);
            }
            if !gone.is_empty() {
                left_out.insert(id.clone(), gone.into_iter().collect());
            }
        }
        left_out
    }

    /// The groups that the log speaks of.
    pub(super) fn finish(self, turn: &Turn<'_>) -> Vec<Group> {
        let mut groups = Vec::with_capacity(self.groups.len());
        for (id, found) in self.groups {
            let mut group = Group::new(id);
            for (partition, value) in found.offsets {
                group.restore_offset(partition, value, turn);
            }
            for (producer, partition, value) in found.undecided.into_offsets() {
                group.restore_undecided(producer, partition, value, turn);
            }
            if let Some(value) = found.value {
                group.restore(value, turn);
            }
            group.restore_consumers(found.consumers, turn);
            group.plan_expiry(turn.now);
            if !group.is_void() {
                groups.push(group);
            }
        }
        groups
    }
}
