//! Pure: the state of a partition's groups, rebuilt from its log.

use std::collections::BTreeMap;

use rafka_core::{Batch, ByteSize, GroupId, Offset, TopicName, batch};

use super::consumer;
use super::effects::Turn;
use super::machine::Group;
use super::offsets::Partition;
use super::record::{self, Entry, GroupValue, Malformed, OffsetValue};

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

impl Loader {
    /// The offset that comes next.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// Takes the next batch in. After an error it has not been taken, and can be tried again.
    pub(super) fn take(&mut self, batch: &Batch) -> Result<(), LoadError> {
        let unreadable = |cause| LoadError::Batch { offset: batch.base_offset(), cause };
        if !batch.header.attributes.is_control() {
            for record in batch.records(INFLATED_MAX).map_err(unreadable)? {
                let record = record.map_err(unreadable)?;
                let entry = record::decode(record.key.as_ref(), record.value.as_ref());
                let offset = record.offset;
                self.note(entry.map_err(|cause| LoadError::Record { offset, cause })?);
            }
        }
        self.next = batch.next_offset();
        Ok(())
    }

    fn note(&mut self, entry: Entry) {
        match entry {
            Entry::Offset { group, partition, value: Some(value) } => {
                self.groups.entry(group).or_default().offsets.insert(partition, value);
            }
            Entry::Offset { group, partition, value: None } => {
                if let Some(found) = self.groups.get_mut(&group) {
                    found.offsets.remove(&partition);
                }
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

    /// Leaves the offsets of topics that are gone out of what was found; tells what it left out.
    pub(super) fn leave_out(
        &mut self,
        is_gone: impl Fn(&TopicName) -> bool,
    ) -> BTreeMap<GroupId, Vec<Partition>> {
        let mut left_out = BTreeMap::new();
        for (id, found) in &mut self.groups {
            let gone = found.offsets.extract_if(.., |(topic, _), _| is_gone(topic));
            let gone: Vec<Partition> = gone.map(|(partition, _)| partition).collect();
            if !gone.is_empty() {
                left_out.insert(id.clone(), gone);
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
