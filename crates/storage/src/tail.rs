//! Pure: the batches of one log that memory must hold, in offset order.

use std::collections::VecDeque;

use rafka_core::{Batch, ByteSize, Offset, Timestamp, batch};

use crate::TimedOffset;
use crate::segment::INFLATE_MAX;

/// What a batch in memory takes beside its bytes: its parsed header, and its place in a queue.
pub(crate) const BATCH_OVERHEAD: u64 = 160;

/// What a batch counts against a budget of memory.
pub(crate) fn weight(batch: &Batch) -> u64 {
    ByteSize::of_len(batch.len()).0 + BATCH_OVERHEAD
}

/// A batch and what is known of its coming. `T` is what the owner of the tail notes with it.
#[derive(Debug, Clone)]
pub(crate) struct Entry<T> {
    pub(crate) batch: Batch,
    pub(crate) appended_at: Timestamp,
    pub(crate) note: T,
}

/// Batches in offset order.
#[derive(Debug, Clone)]
pub(crate) struct Tail<T> {
    entries: VecDeque<Entry<T>>,
    weight: u64,
}

impl<T> Default for Tail<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), weight: 0 }
    }
}

impl<T> Tail<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What all entries count against a budget.
    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    /// The bytes of all batches, as they would be read.
    pub(crate) fn bytes(&self) -> ByteSize {
        ByteSize(self.weight - BATCH_OVERHEAD * ByteSize::of_len(self.entries.len()).0)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry<T>> {
        self.entries.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry<T>> {
        self.entries.iter_mut()
    }

    pub(crate) fn first(&self) -> Option<&Entry<T>> {
        self.entries.front()
    }

    pub(crate) fn push(&mut self, entry: Entry<T>) {
        debug_assert!(
            self.entries
                .back()
                .is_none_or(|last| last.batch.last_offset() < entry.batch.base_offset()),
            "batches enter a tail in offset order"
        );
        self.weight += weight(&entry.batch);
        self.entries.push_back(entry);
    }

    pub(crate) fn pop_first(&mut self) -> Option<Entry<T>> {
        let entry = self.entries.pop_front()?;
        self.weight -= weight(&entry.batch);
        self.shrink();
        Some(entry)
    }

    /// Drops the batches that reach above `end`. Returns the end of what is left, if any is.
    pub(crate) fn truncate(&mut self, end: Offset) -> Option<Offset> {
        while self.entries.back().is_some_and(|last| end < last.batch.next_offset()) {
            let dropped = self.entries.pop_back().expect("the loop has just seen it");
            self.weight -= weight(&dropped.batch);
        }
        self.shrink();
        self.entries.back().map(|last| last.batch.next_offset())
    }

    /// Gives memory back after a burst, so that a log that was busy once does not cost for ever.
    fn shrink(&mut self) {
        const KEEP: usize = 16;
        if KEEP < self.entries.capacity() && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.capacity() / 2);
        }
    }

    /// The batches from the one that holds `from` on that end at or below `below`: the first
    /// whatever its size, further ones up to `limit`.
    pub(crate) fn read(&self, from: Offset, below: Offset, limit: ByteSize) -> Vec<Batch> {
        let mut taken = Taken::new(limit);
        for entry in self.entries.range(self.position(from)..) {
            if below < entry.batch.next_offset() || !taken.take(&entry.batch) {
                break;
            }
        }
        taken.batches
    }

    /// The batches at or above `start` and below `below` that may hold a record not older than `at`.
    pub(crate) fn not_older(&self, at: Timestamp, start: Offset, below: Offset) -> Vec<Batch> {
        self.entries
            .range(self.position(start)..)
            .map(|entry| &entry.batch)
            .take_while(|batch| batch.base_offset() < below)
            .filter(|batch| at <= batch.max_timestamp())
            .cloned()
            .collect()
    }

    fn position(&self, from: Offset) -> usize {
        self.entries.partition_point(|entry| entry.batch.last_offset() < from)
    }
}

/// Where the log ends after these batches, which ascend from its end.
///
/// # Panics
/// If they do not.
pub(crate) fn end_after(end: Offset, batches: &[Batch]) -> Offset {
    batches.iter().fold(end, |end, batch| {
        let base = batch.base_offset();
        assert!(end <= base, "a batch at {base} was appended to a log that ends at {end}");
        batch.next_offset()
    })
}

/// The first record of some batches at or above `start` and below `below` that is not older than
/// `at`.
pub(crate) fn find(
    batches: &[Batch],
    at: Timestamp,
    start: Offset,
    below: Offset,
) -> Option<TimedOffset> {
    let found = batches.iter().find_map(|batch| find_in_batch(batch, at, start));
    found.filter(|found| found.offset < below)
}

/// The first record of a batch at or above `start` that is not older than `at`.
///
/// A batch that cannot be inflated answers with its first offset: the consumer that goes there meets
/// the damage itself, instead of silently starting beyond it.
fn find_in_batch(batch: &Batch, at: Timestamp, start: Offset) -> Option<TimedOffset> {
    let in_records = || -> Result<Option<TimedOffset>, batch::Error> {
        for record in batch.records(INFLATE_MAX)? {
            let record = record?;
            if at <= record.timestamp && start <= record.offset {
                let found = TimedOffset { offset: record.offset, timestamp: record.timestamp };
                return Ok(Some(found));
            }
        }
        Ok(None)
    };
    in_records().unwrap_or(Some(TimedOffset {
        offset: batch.base_offset().max(start),
        timestamp: batch.max_timestamp(),
    }))
}

/// Batches collected for one answer: the first whatever its size, further ones up to a limit.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) batches: Vec<Batch>,
    room: ByteSize,
}

impl Taken {
    pub(crate) fn new(limit: ByteSize) -> Self {
        Self { batches: Vec::new(), room: limit }
    }

    /// Takes the batch if it still fits, and says whether it did.
    pub(crate) fn take(&mut self, batch: &Batch) -> bool {
        let len = ByteSize::of_len(batch.len()).0;
        if self.room.0 < len && !self.batches.is_empty() {
            return false;
        }
        self.room = ByteSize(self.room.0.saturating_sub(len));
        self.batches.push(batch.clone());
        true
    }
}
