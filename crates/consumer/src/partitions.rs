//! The partitions that a consumer reads: positions, what is buffered, and what is to be done next.
//!
//! Knows no clock, socket or task. The rule that it keeps: within one assignment no record is given
//! twice unless the user seeks, whatever is fetched again.

mod partition;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use rafka_client::TopicPartition;
use rafka_client::admin::OffsetSpec;
use rafka_core::{ByteSize, Offset, Time};

use crate::budget::Share;
use crate::error::Error;
use crate::record::ConsumerRecord;
use partition::{Chunk, Partition, Report};

/// How a partition gets its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// From what the group has committed, or else by the reset policy.
    Committed,
    /// By the reset policy.
    Reset,
    /// As the user asked.
    Find(OffsetSpec),
    /// There is no position, and the reset policy makes none up: the user must seek.
    Nowhere(Nowhere),
}

/// Why there is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nowhere {
    NothingCommitted,
    /// The log does not hold this offset any more, or never did.
    OutOfRange(Offset),
}

impl fmt::Display for Nowhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingCommitted => f.write_str("nothing is committed for it"),
            Self::OutOfRange(offset) => write!(f, "offset {offset} is outside of its log"),
        }
    }
}

/// All partitions of a consumer.
#[derive(Debug)]
pub(crate) struct Partitions {
    by_name: BTreeMap<TopicPartition, Partition>,
    inflated_max: ByteSize,
    /// The partition that gave last: the next one has its turn.
    last_served: Option<TopicPartition>,
    versions: u64,
}

/// A partition whose position is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sought {
    pub(crate) partition: TopicPartition,
    pub(crate) need: Need,
    pub(crate) version: u64,
}

/// A partition that should be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) partition: TopicPartition,
    pub(crate) from: Offset,
    pub(crate) version: u64,
}

impl Partitions {
    pub(crate) fn new(inflated_max: ByteSize) -> Self {
        Self { by_name: BTreeMap::new(), inflated_max, last_served: None, versions: 0 }
    }

    /// Reads these and no others. Those that were read before begin anew as well.
    pub(crate) fn assign(&mut self, partitions: &[TopicPartition], need: Need) {
        self.by_name.clear();
        self.add(partitions, need);
    }

    /// Reads these as well; they begin anew.
    pub(crate) fn add(&mut self, partitions: &[TopicPartition], need: Need) {
        for partition in partitions {
            self.versions += 1;
            self.by_name.insert(partition.clone(), Partition::new(need, self.versions));
        }
    }

    /// Reads nothing.
    pub(crate) fn assign_none(&mut self) {
        self.by_name.clear();
        self.last_served = None;
    }

    /// Reads these no longer.
    pub(crate) fn remove(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.by_name.remove(partition);
        }
    }

    /// Whether nothing has happened to the partition since `version` that makes what was asked for
    /// then worthless.
    pub(crate) fn is_current(&self, partition: &TopicPartition, version: u64) -> bool {
        self.by_name.get(partition).is_some_and(|found| found.version == version)
    }

    /// Whether there is something to give.
    pub(crate) fn has_fetched(&self, partition: &TopicPartition) -> bool {
        self.by_name.get(partition).is_some_and(Partition::has_fetched)
    }

    pub(crate) fn names(&self) -> Vec<TopicPartition> {
        self.by_name.keys().cloned().collect()
    }

    fn find(&mut self, partition: &TopicPartition) -> Result<&mut Partition, Error> {
        let unknown = || Error::NotAssigned { partition: partition.clone() };
        self.by_name.get_mut(partition).ok_or_else(unknown)
    }

    /// Goes on at `offset`.
    pub(crate) fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), Error> {
        self.versions += 1;
        let version = self.versions;
        let found = self.find(partition)?;
        found.forget_fetched();
        found.version = version;
        (found.position, found.need, found.fetched) = (Some(offset), None, offset);
        (found.retry_at, found.failures) = (Time::default(), 0);
        Ok(())
    }

    /// Goes on where `need` leads.
    pub(crate) fn relocate(&mut self, partition: &TopicPartition, need: Need) -> Result<(), Error> {
        self.versions += 1;
        let version = self.versions;
        let found = self.find(partition)?;
        found.forget_fetched();
        found.version = version;
        (found.position, found.need) = (None, Some(need));
        Ok(())
    }

    /// Gives a partition the position that its need led to, unless the user has sought, or the
    /// partition was given anew, since `version`.
    pub(crate) fn locate(&mut self, partition: &TopicPartition, version: u64, offset: Offset) {
        if let Ok(found) = self.find(partition)
            && found.version == version
        {
            found.need = None;
            (found.position, found.fetched) = (Some(offset), offset);
        }
    }

    /// Notes that looking for a position led nowhere, unless something else has happened since.
    pub(crate) fn locate_nowhere(&mut self, partition: &TopicPartition, version: u64) {
        if let Ok(found) = self.find(partition)
            && found.version == version
        {
            found.need = Some(Need::Nowhere(Nowhere::NothingCommitted));
        }
    }

    /// A partition for which only the user can find a position.
    pub(crate) fn nowhere(&self) -> Option<Error> {
        self.by_name.iter().find_map(|(name, found)| {
            let Some(Need::Nowhere(why)) = found.need else { return None };
            Some(Error::NoOffset { partition: name.clone(), why: why.to_string() })
        })
    }

    /// Gives the partition nothing more until it is resumed. What was fetched is dropped: memory
    /// that nobody asks for must not starve the others.
    pub(crate) fn pause(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.versions += 1;
        let version = self.versions;
        let found = self.find(partition)?;
        if found.paused {
            return Ok(());
        }
        found.paused = true;
        found.forget_fetched();
        if found.need.is_none() {
            // What its stream brings next follows on what was dropped.
            found.version = version;
        }
        if let Some(position) = found.position {
            found.fetched = position;
        }
        Ok(())
    }

    pub(crate) fn resume(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.find(partition)?.paused = false;
        Ok(())
    }

    pub(crate) fn paused(&self) -> Vec<TopicPartition> {
        let paused = self.by_name.iter().filter(|(_, partition)| partition.paused);
        paused.map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.by_name.get(partition)?.position
    }

    /// Records that can be read and were not given yet, as far as is known.
    pub(crate) fn lag(&self, partition: &TopicPartition) -> Option<u64> {
        let found = self.by_name.get(partition)?;
        let behind = found.high_watermark? - found.position?;
        Some(u64::try_from(behind).unwrap_or(0))
    }

    /// The offset after the last record that can be read, as last heard.
    pub(crate) fn end(&self, partition: &TopicPartition) -> Option<Offset> {
        self.by_name.get(partition)?.high_watermark
    }

    /// Whether everything was given that could be read when last heard, paused partitions aside.
    pub(crate) fn is_at_end(&self) -> bool {
        let at_end = |found: &Partition| {
            found.paused || found.high_watermark.is_some_and(|end| Some(end) <= found.position)
        };
        !self.by_name.is_empty() && self.by_name.values().all(at_end)
    }

    pub(crate) fn total_lag(&self) -> u64 {
        self.by_name.keys().filter_map(|partition| self.lag(partition)).sum()
    }

    /// What needs a position that can be found.
    pub(crate) fn needs(&self) -> Vec<Sought> {
        let sought = |(name, found): (&TopicPartition, &Partition)| {
            let need = found.need.filter(|need| !matches!(need, Need::Nowhere(_)))?;
            Some(Sought { partition: name.clone(), need, version: found.version })
        };
        self.by_name.iter().filter_map(sought).collect()
    }

    /// What should be fetched at this moment.
    pub(crate) fn wanted(&self, now: Time) -> Vec<Wanted> {
        let ready = |found: &Partition| {
            let readable = !found.paused && found.broken.is_none();
            readable && found.position.is_some() && found.retry_at <= now
        };
        let wanted = |(name, found): (&TopicPartition, &Partition)| Wanted {
            partition: name.clone(),
            from: found.fetched,
            version: found.version,
        };
        self.by_name.iter().filter(|(_, found)| ready(found)).map(wanted).collect()
    }

    /// When a partition that failed may be fetched again.
    pub(crate) fn retry_deadline(&self, now: Time) -> Option<Time> {
        let waits = self.by_name.values().map(|found| found.retry_at);
        waits.filter(|retry_at| now < *retry_at).min()
    }

    /// Takes batches that were fetched for `version`; older ones are dropped.
    pub(crate) fn offer(
        &mut self,
        partition: &TopicPartition,
        version: u64,
        batches: Bytes,
        next_offset: Offset,
        share: Share,
    ) {
        let Some(found) = self.by_name.get_mut(partition) else { return };
        if found.version != version || found.paused || found.broken.is_some() {
            return;
        }
        found.failures = 0;
        found.fetched = found.fetched.max(next_offset);
        if !batches.is_empty() {
            found.chunks.push_back(Chunk { batches, share });
        }
    }

    /// Notes how far the partition can be read.
    pub(crate) fn note_end(&mut self, partition: &TopicPartition, high_watermark: Offset) {
        if let Some(found) = self.by_name.get_mut(partition) {
            found.high_watermark = Some(high_watermark);
        }
    }

    /// Lets a partition rest after a failure. `wait` gives the end of the rest.
    pub(crate) fn fail(&mut self, partition: &TopicPartition, wait: impl FnOnce(u32) -> Time) {
        if let Some(found) = self.by_name.get_mut(partition) {
            found.failures = found.failures.saturating_add(1);
            found.retry_at = wait(found.failures);
        }
    }

    /// Gives up to `max` records, the partitions taking turns.
    ///
    /// # Errors
    /// If a batch cannot be read, once everything before it was given, and again whenever there is
    /// nothing else to give. The position stays there.
    pub(crate) fn take(&mut self, max: usize) -> Result<Vec<ConsumerRecord>, Error> {
        let mut taken = Vec::new();
        for name in self.turns() {
            let Some(found) = self.by_name.get_mut(&name) else { continue };
            found.take(&name, max, self.inflated_max, &mut taken);
            if taken.len() == max {
                self.last_served = Some(name);
                return Ok(taken);
            }
            if taken.is_empty()
                && let Some(error) = found.report(&name, Report::Once)
            {
                return Err(error);
            }
        }
        if taken.is_empty() {
            let repeat = |(name, found): (&TopicPartition, &mut Partition)| {
                found.report(name, Report::Again)
            };
            if let Some(error) = self.by_name.iter_mut().find_map(repeat) {
                return Err(error);
            }
        }
        Ok(taken)
    }

    /// Gives one record: the next of the batch that the last one came from, if there is one.
    ///
    /// # Errors
    /// As [`Partitions::take`].
    pub(crate) fn take_one(&mut self) -> Result<Option<ConsumerRecord>, Error> {
        let mut taken = Vec::with_capacity(1);
        if let Some(name) = &self.last_served
            && let Some(found) = self.by_name.get_mut(name)
            && !found.paused
            && found.is_within_batch()
        {
            found.take(name, 1, self.inflated_max, &mut taken);
        }
        if taken.is_empty() {
            taken = self.take(1)?;
        }
        Ok(taken.pop())
    }

    /// The partitions with something to give, beginning after the one that gave last.
    fn turns(&self) -> Vec<TopicPartition> {
        let ready = |found: &Partition| !found.paused && found.has_fetched();
        let names = self.by_name.iter().filter(|(_, found)| ready(found)).map(|(name, _)| name);
        let (before, after): (Vec<_>, Vec<_>) =
            names.cloned().partition(|name| Some(name) <= self.last_served.as_ref());
        after.into_iter().chain(before).collect()
    }

    /// Positions that were not committed yet.
    pub(crate) fn uncommitted(&self) -> Vec<(TopicPartition, Offset)> {
        let open = |(name, found): (&TopicPartition, &Partition)| {
            let position = found.position.filter(|position| found.committed != Some(*position))?;
            Some((name.clone(), position))
        };
        self.by_name.iter().filter_map(open).collect()
    }

    /// Notes what was committed.
    pub(crate) fn note_committed(&mut self, offsets: &[(TopicPartition, Offset)]) {
        for (partition, offset) in offsets {
            if let Some(found) = self.by_name.get_mut(partition) {
                found.committed = Some(*offset);
            }
        }
    }
}

#[cfg(test)]
mod tests;
