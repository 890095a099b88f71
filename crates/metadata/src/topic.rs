//! Pure: a topic, and its partitions in chunks that are shared between versions of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_core::{PartitionIndex, TopicId, TopicName};

use crate::codec::{self, Decoder, Encoder};
use crate::partition::Partition;

/// The most partitions that a topic may have: Metadata answers grow with it.
pub const PARTITIONS_PER_TOPIC_MAX: usize = 100_000;

/// The most replicas that a node may hold, all topics together: a bound on its memory and start-up.
pub const REPLICAS_PER_NODE_MAX: u64 = 200_000;

/// A change to one partition copies this many of them (14 KiB), not all of the topic's.
const CHUNK_PARTITIONS: usize = 256;

/// What is agreed on about a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its identity: another one if it is deleted and created again.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// The configuration that was set for it, by name; see [`crate::topic_config`].
    pub configs: BTreeMap<String, String>,
    /// Its partitions.
    pub partitions: Partitions,
}

impl Topic {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.uuid(self.id.0);
        out.text(self.name.as_str());
        out.texts(&self.configs);
        out.count(self.partitions.len());
        for (_, partition) in self.partitions.iter() {
            partition.encode(out);
        }
    }

    /// The fewest bytes that a topic is written in.
    pub(crate) const ENCODED_MIN: usize = 20;

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, codec::Error> {
        let id = TopicId(from.uuid()?);
        let name =
            TopicName::new(from.text()?).map_err(|_name| from.invalid("a bad topic name"))?;
        let configs = from.texts()?;
        let count = from.count(Partition::ENCODED_MIN)?;
        if count == 0 || PARTITIONS_PER_TOPIC_MAX < count {
            return Err(from.invalid("a topic without partitions or with too many"));
        }
        let decoded = (0..count).map(|_| Partition::decode(from)).collect::<Result<Vec<_>, _>>()?;
        let mut partitions = Partitions::default();
        partitions.extend(decoded);
        Ok(Self { id, name, configs, partitions })
    }
}

/// The partitions of a topic, by index.
///
/// A clone shares everything; a change to one partition copies its chunk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partitions {
    chunks: Vec<Arc<[Partition]>>,
}

impl Partitions {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let before_last = self.chunks.len().saturating_sub(1) * CHUNK_PARTITIONS;
        before_last + self.chunks.last().map_or(0, |chunk| chunk.len())
    }

    /// Whether there are none. A topic always has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The partition with this index.
    #[must_use]
    pub fn get(&self, index: PartitionIndex) -> Option<&Partition> {
        let index = usize::try_from(index.0).ok()?;
        self.chunks.get(index / CHUNK_PARTITIONS)?.get(index % CHUNK_PARTITIONS)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionIndex, &Partition)> {
        (0..).map(PartitionIndex).zip(self.chunks.iter().flat_map(|chunk| chunk.iter()))
    }

    pub(crate) fn get_mut(&mut self, index: PartitionIndex) -> Option<&mut Partition> {
        let index = usize::try_from(index.0).ok()?;
        let chunk = self.chunks.get_mut(index / CHUNK_PARTITIONS)?;
        Arc::make_mut(chunk).get_mut(index % CHUNK_PARTITIONS)
    }

    /// Applies `change` to the partitions that `concerns` picks; the indexes of those it changed.
    pub(crate) fn change(
        &mut self,
        concerns: impl Fn(&Partition) -> bool,
        mut change: impl FnMut(&mut Partition) -> bool,
    ) -> Vec<PartitionIndex> {
        let mut changed = Vec::new();
        let mut indexes = (0..).map(PartitionIndex);
        for chunk in &mut self.chunks {
            if !chunk.iter().any(&concerns) {
                indexes.by_ref().take(chunk.len()).for_each(drop);
                continue;
            }
            for (partition, index) in Arc::make_mut(chunk).iter_mut().zip(indexes.by_ref()) {
                if concerns(partition) && change(partition) {
                    changed.push(index);
                }
            }
        }
        changed
    }

    pub(crate) fn extend(&mut self, added: impl IntoIterator<Item = Partition>) {
        let mut open: Vec<Partition> = match self.chunks.last() {
            Some(last) if last.len() < CHUNK_PARTITIONS => {
                let open = last.to_vec();
                self.chunks.pop();
                open
            }
            _ => Vec::new(),
        };
        for partition in added {
            open.push(partition);
            if open.len() == CHUNK_PARTITIONS {
                self.chunks.push(std::mem::take(&mut open).into());
            }
        }
        if !open.is_empty() {
            self.chunks.push(open.into());
        }
        self.chunks.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use rafka_core::NodeId;
    use smallvec::smallvec;

    use super::*;
    use crate::partition::{Replica, StorageEpoch};

    fn partition(node: usize) -> Partition {
        let node = NodeId(i32::try_from(node).expect("few nodes"));
        Partition::new(smallvec![Replica { node, storage: StorageEpoch(0) }]).expect("valid")
    }

    fn partitions(count: usize) -> Partitions {
        let mut partitions = Partitions::default();
        partitions.extend((0..count).map(|index| partition(index % 3)));
        partitions
    }

    #[test]
    fn growing_in_steps_gives_the_same_as_growing_at_once() {
        for total in [1, 255, 256, 257, 512, 1000] {
            for first in [1, 100, 255, 256] {
                let first = first.min(total);
                let mut grown = partitions(first);
                grown.extend((first..total).map(|index| partition(index % 3)));
                assert_eq!(grown, partitions(total), "{first} to {total}");
                assert_eq!(grown.len(), total);
                assert_eq!(grown.iter().count(), total);
            }
        }
    }

    #[test]
    fn a_change_to_one_partition_shares_all_other_chunks() {
        let before = partitions(1000);
        let mut after = before.clone();
        let third = after.get_mut(PartitionIndex(700)).expect("there are 1000");
        third.begin_session(NodeId(700 % 3), StorageEpoch(0));
        let is_shared: Vec<bool> = before
            .chunks
            .iter()
            .zip(&after.chunks)
            .map(|(before, after)| Arc::ptr_eq(before, after))
            .collect();
        assert_eq!(is_shared, [true, true, false, true]);
    }

    #[test]
    fn a_change_of_many_names_exactly_those_that_changed() {
        let mut topic = partitions(700);
        let changed = topic.change(
            |partition| partition.leader() == Some(NodeId(2)),
            |partition| partition.begin_session(NodeId(2), StorageEpoch(0)),
        );
        let expected: Vec<_> =
            (0..700).filter(|index| index % 3 == 2).map(PartitionIndex).collect();
        assert_eq!(changed, expected);
        assert!(topic.get(PartitionIndex(700)).is_none());
        assert!(topic.get(PartitionIndex(-1)).is_none());
    }
}
