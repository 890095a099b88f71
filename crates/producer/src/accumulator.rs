//! Records collected into batches, per partition, until a batch is full or old enough.
//!
//! Knows no clock and no task: times are arguments, and who sends takes batches out.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use rafka_client::{Topic, TopicPartition};
use rafka_core::batch::BatchBuilder;
use rafka_core::rng::Rng;
use rafka_core::{PartitionIndex, Time, Timestamp, TopicName};

use crate::delivery::{Arrivals, Delivery, Receipt};
use crate::error::Error;
use crate::partitioner::{Partitioner, Sticky};
use crate::record::Record;
use crate::settings::Settings;

/// What a record costs in memory beside its payload, at most: its encoded lengths and deltas.
pub(crate) const RECORD_OVERHEAD: u64 = 64;
/// The same for each header: two lengths.
const HEADER_OVERHEAD: u64 = 10;

/// A partition, as the producer numbers those that it has sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(pub(crate) usize);

/// A batch that no longer grows.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) builder: BatchBuilder,
    pub(crate) receipt: Receipt,
}

/// A record was taken.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) delivery: Delivery,
    /// Whether the sending side has something new to do or to wait for.
    pub(crate) wake: bool,
}

/// Why a record was not taken.
#[derive(Debug)]
pub(crate) enum NotAppended {
    /// The topic must be learnt first.
    UnknownTopic,
    /// The record cannot be sent.
    Invalid(Error),
}

#[derive(Debug)]
struct Open {
    collected: Collected,
    arrivals: Arrivals,
}

#[derive(Debug)]
struct Queue {
    partition: TopicPartition,
    /// Full ones, oldest first.
    full: VecDeque<Collected>,
    /// The one that grows. It began after all the full ones.
    open: Option<Open>,
    /// Whether the open one has waited long enough, or was asked for.
    open_is_due: bool,
}

#[derive(Debug)]
struct TopicBuffers {
    name: TopicName,
    partition_count: u32,
    slots: Vec<Option<Slot>>,
    sticky: Sticky,
}

/// The buffer of a producer.
#[derive(Debug)]
pub(crate) struct Accumulator {
    settings: Settings,
    partitioner: Partitioner,
    rng: Rng,
    /// Looked up by name, never walked.
    topics: HashMap<TopicName, TopicBuffers>,
    queues: Vec<Queue>,
    /// When which open batch has waited long enough. The wait is the same for all, so the deadlines
    /// ascend. Entries of batches that have left are skipped.
    lingering: VecDeque<(Time, Slot, u64)>,
    /// Partitions with a batch to send.
    due: BTreeSet<Slot>,
    /// Partitions with any batch.
    filled: BTreeSet<Slot>,
    /// Batches that are not settled, by number: what a flush waits for.
    unsettled: BTreeMap<u64, Arrivals>,
    batches_begun: u64,
}

/// The most that a record takes of the buffer.
pub(crate) fn cost_of(record: &Record) -> u64 {
    let headers = HEADER_OVERHEAD * record.headers.len() as u64;
    record.payload_len() as u64 + headers + RECORD_OVERHEAD
}

impl Accumulator {
    pub(crate) fn new(settings: Settings, partitioner: Partitioner, rng: Rng) -> Self {
        Self {
            settings,
            partitioner,
            rng,
            topics: HashMap::new(),
            queues: Vec::new(),
            lingering: VecDeque::new(),
            due: BTreeSet::new(),
            filled: BTreeSet::new(),
            unsettled: BTreeMap::new(),
            batches_begun: 0,
        }
    }

    /// Learns how many partitions a topic has. They are never fewer than before.
    pub(crate) fn learn(&mut self, topic: &Topic) {
        let partition_count = topic.partition_count();
        let fresh = || TopicBuffers {
            name: topic.name.clone(),
            partition_count,
            slots: Vec::new(),
            sticky: Sticky::default(),
        };
        let buffers = self.topics.entry(topic.name.clone()).or_insert_with(fresh);
        buffers.partition_count = partition_count;
        buffers.slots.resize(topic.partitions.len().max(buffers.slots.len()), None);
    }

    /// Whether the topic was learnt.
    pub(crate) fn knows(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// Takes a record, which costs `cost` bytes of the buffer.
    pub(crate) fn append(
        &mut self,
        record: &Record,
        cost: u32,
        now: Time,
        timestamp: Timestamp,
    ) -> Result<Appended, NotAppended> {
        let (slot, partition_count) = self.place(record)?;
        let batch_bytes = self.settings.batch_bytes.as_usize();
        let mut wake = false;
        let queue = &mut self.queues[slot.0];
        let room = |open: &Open| {
            let needed = usize::try_from(cost_of(record)).unwrap_or(usize::MAX);
            open.collected.builder.len_estimate().saturating_add(needed) <= batch_bytes
        };
        if queue.open.as_ref().is_some_and(|open| !room(open)) {
            queue.close();
            self.due.insert(slot);
            wake = true;
        }
        if queue.open.is_none() {
            wake |= self.lingering.is_empty();
            self.begin(slot, now);
        }
        let queue = &mut self.queues[slot.0];
        let open = queue.open.as_mut().expect("begun above");
        let delivery = Delivery {
            arrivals: open.arrivals.clone(),
            partition: queue.partition.partition,
            index: open.collected.receipt.records,
            timestamp,
        };
        let builder = &mut open.collected.builder;
        builder.push(timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers);
        open.collected.receipt.records += 1;
        open.collected.receipt.cost += cost;
        if batch_bytes <= builder.len_estimate() {
            queue.close();
            self.due.insert(slot);
            wake = true;
        }
        if record.partition.is_none() && record.key.is_none() {
            let buffers = self.topics.get_mut(record.topic.as_ref()).expect("looked up in place");
            let bytes = usize::try_from(cost).unwrap_or(batch_bytes);
            buffers.sticky.note(bytes, batch_bytes, partition_count);
        }
        Ok(Appended { delivery, wake })
    }

    /// The slot of the partition that a record goes to, and the number of its topic's partitions.
    fn place(&mut self, record: &Record) -> Result<(Slot, u32), NotAppended> {
        let Some(buffers) = self.topics.get_mut(record.topic.as_ref()) else {
            return Err(NotAppended::UnknownTopic);
        };
        let count = buffers.partition_count;
        let chosen = match record.partition {
            Some(partition) => u32::try_from(partition.0).unwrap_or(u32::MAX),
            None => self.partitioner.choose(record, count, &mut buffers.sticky, &mut self.rng),
        };
        let index = usize::try_from(chosen).unwrap_or(usize::MAX);
        let Some(known) = buffers.slots.get_mut(index).filter(|_| chosen < count) else {
            let shown = record.partition.map_or(i64::from(chosen), |named| i64::from(named.0));
            let rule = format!("partition {shown} does not exist, the topic has {count}");
            return Err(NotAppended::Invalid(Error::InvalidRecord {
                topic: record.topic.as_ref().to_owned(),
                rule,
            }));
        };
        let slot = *known.get_or_insert_with(|| {
            let partition =
                PartitionIndex(i32::try_from(chosen).expect("below a count of indexes"));
            self.queues.push(Queue {
                partition: TopicPartition::new(buffers.name.clone(), partition),
                full: VecDeque::new(),
                open: None,
                open_is_due: false,
            });
            Slot(self.queues.len() - 1)
        });
        Ok((slot, count))
    }

    fn begin(&mut self, slot: Slot, now: Time) {
        let number = self.batches_begun;
        self.batches_begun += 1;
        let queue = &mut self.queues[slot.0];
        let (receipt, arrivals) = Receipt::new(number, queue.partition.clone(), now);
        let builder = BatchBuilder::new(self.settings.compression);
        self.unsettled.insert(number, arrivals.clone());
        queue.open = Some(Open { collected: Collected { builder, receipt }, arrivals });
        queue.open_is_due = false;
        self.filled.insert(slot);
        self.lingering.push_back((now + self.settings.linger, slot, number));
    }

    /// Makes the open batches due that have waited long enough by `now`.
    pub(crate) fn end_linger(&mut self, now: Time) {
        while self.lingering.front().is_some_and(|(deadline, ..)| *deadline <= now) {
            let (_, slot, number) = self.lingering.pop_front().expect("looked at above");
            self.make_due(slot, number);
        }
    }

    /// Makes all open batches due: somebody flushes, or waits for memory.
    pub(crate) fn end_all_lingers(&mut self) {
        while let Some((_, slot, number)) = self.lingering.pop_front() {
            self.make_due(slot, number);
        }
    }

    fn make_due(&mut self, slot: Slot, number: u64) {
        let queue = &mut self.queues[slot.0];
        if queue.open.as_ref().is_some_and(|open| open.collected.receipt.number == number) {
            queue.open_is_due = true;
            self.due.insert(slot);
        }
    }

    /// When [`Accumulator::end_linger`] will next have something to do.
    pub(crate) fn linger_deadline(&self) -> Option<Time> {
        self.lingering.front().map(|(deadline, ..)| *deadline)
    }

    /// The partitions with a batch to send.
    pub(crate) fn due(&self) -> impl Iterator<Item = Slot> + '_ {
        self.due.iter().copied()
    }

    /// The partition behind a slot.
    pub(crate) fn partition(&self, slot: Slot) -> &TopicPartition {
        &self.queues[slot.0].partition
    }

    /// How many slots there are.
    pub(crate) fn slot_count(&self) -> usize {
        self.queues.len()
    }

    /// Takes the oldest batch of a partition that is due.
    pub(crate) fn take(&mut self, slot: Slot) -> Option<Collected> {
        let queue = &mut self.queues[slot.0];
        let taken = match queue.full.pop_front() {
            Some(full) => Some(full),
            None if queue.open_is_due => queue.open.take().map(|open| open.collected),
            None => None,
        };
        self.tidy(slot);
        taken
    }

    fn tidy(&mut self, slot: Slot) {
        let queue = &mut self.queues[slot.0];
        queue.open_is_due &= queue.open.is_some();
        if queue.full.is_empty() && !queue.open_is_due {
            self.due.remove(&slot);
        }
        if queue.full.is_empty() && queue.open.is_none() {
            self.filled.remove(&slot);
        }
    }

    /// Takes out the batches that began at or before `limit`: their time has run out.
    pub(crate) fn expire(&mut self, limit: Time) -> Vec<Receipt> {
        let mut expired = Vec::new();
        for slot in self.filled.clone() {
            let queue = &mut self.queues[slot.0];
            let is_old = |collected: &Collected| collected.receipt.created_at <= limit;
            while let Some(full) = queue.full.pop_front_if(|full| is_old(full)) {
                expired.push(full.receipt);
            }
            if let Some(open) = queue.open.take_if(|open| is_old(&open.collected)) {
                expired.push(open.collected.receipt);
            }
            self.tidy(slot);
        }
        expired
    }

    /// Takes out everything: the producer ends.
    pub(crate) fn drain(&mut self) -> Vec<Receipt> {
        self.expire(Time(u64::MAX))
    }

    /// Forgets a batch that was settled.
    pub(crate) fn settled(&mut self, number: u64) {
        self.unsettled.remove(&number);
    }

    /// What is not settled at this moment.
    pub(crate) fn unsettled(&self) -> Vec<Arrivals> {
        self.unsettled.values().cloned().collect()
    }

    /// Whether everything is settled.
    pub(crate) fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }
}

impl Queue {
    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.full.push_back(open.collected);
        }
        self.open_is_due = false;
    }
}

#[cfg(test)]
mod tests;
