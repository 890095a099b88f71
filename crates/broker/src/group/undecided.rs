//! Pure: what open transactions will make of committed offsets.

use std::collections::{BTreeMap, BTreeSet};

use rafka_core::ProducerId;
use rafka_core::batch::Outcome;

use super::offsets::Partition;

/// The offsets of open transactions, each partition's in the order of the log: when a transaction is
/// committed, its offset counts unless the log says something later that counts already.
#[derive(Debug, Clone)]
pub(super) struct Undecided<T> {
    by_partition: BTreeMap<Partition, Vec<Said<T>>>,
    bytes: usize,
}

/// What a transaction says of a partition, and how much memory that takes.
#[derive(Debug, Clone)]
struct Said<T> {
    producer: ProducerId,
    bytes: usize,
    offset: T,
}

impl<T> Default for Undecided<T> {
    fn default() -> Self {
        Self { by_partition: BTreeMap::new(), bytes: 0 }
    }
}

impl<T> Undecided<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.by_partition.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn producers(&self) -> BTreeSet<ProducerId> {
        self.by_partition.values().flatten().map(|said| said.producer).collect()
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.by_partition.keys()
    }

    pub(super) fn contains(&self, partition: &Partition) -> bool {
        self.by_partition.contains_key(partition)
    }

    /// Notes what the log says last. It replaces what the same transaction said of the partition.
    pub(super) fn insert(&mut self, producer: ProducerId, at: Partition, bytes: usize, offset: T) {
        let all = self.by_partition.entry(at).or_default();
        self.bytes += bytes;
        if let Some(index) = all.iter().position(|said| said.producer == producer) {
            self.bytes -= all.remove(index).bytes;
        }
        all.push(Said { producer, bytes, offset });
    }

    /// Forgets what was said of a partition: the log says something later that counts.
    pub(super) fn remove(&mut self, partition: &Partition) {
        let all = self.by_partition.remove(partition).unwrap_or_default();
        self.bytes -= all.iter().map(|said| said.bytes).sum::<usize>();
    }

    /// Ends a transaction. Returns the offsets that count by that, if it was committed; what others
    /// said of the same partitions before that counts no more.
    pub(super) fn end(&mut self, producer: ProducerId, outcome: Outcome) -> Vec<(Partition, T)> {
        let mut counting = Vec::new();
        for (partition, all) in &mut self.by_partition {
            let Some(index) = all.iter().position(|said| said.producer == producer) else {
                continue;
            };
            let first = if outcome == Outcome::Commit { 0 } else { index };
            for said in all.drain(first..=index) {
                self.bytes -= said.bytes;
                if outcome == Outcome::Commit && said.producer == producer {
                    counting.push((partition.clone(), said.offset));
                }
            }
        }
        self.by_partition.retain(|_, all| !all.is_empty());
        counting
    }

    /// Everything, each partition's in the order of the log.
    pub(super) fn into_offsets(self) -> impl Iterator<Item = (ProducerId, Partition, T)> {
        self.by_partition.into_iter().flat_map(|(partition, all)| {
            all.into_iter().map(move |said| (said.producer, partition.clone(), said.offset))
        })
    }
}
