//! Pure: what a log knows of its idempotent and transactional producers (KIP-98), folded from its
//! batches.
//!
//! For each producer the last five batches are remembered. A batch that repeats one of them is a
//! retry and is answered with the offsets of the first; one that leaves a gap is refused. A
//! transactional batch opens a transaction, which lasts until a marker ends it; a producer with an
//! open one is never forgotten.

mod row;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::{EndMarker, Header, Outcome};
use crate::{Batch, Epoch, ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp};

pub use row::DecodeError;

/// How many batches a producer may have in flight (Kafka's constant, known to all clients).
pub const WINDOW: usize = 5;

/// What one producer takes in memory at the most, its places in two trees included.
pub const PRODUCER_BYTES: usize = 384;

/// Before any coordinator ended a transaction of a producer.
const NO_COORDINATOR: Epoch = Epoch(-1);

/// A batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The sequence number of its first record.
    pub sequence_first: i32,
    /// The sequence number of its last record.
    pub sequence_last: i32,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The timestamp it was given, if the broker gives them; else its largest.
    pub timestamp: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    /// When it wrote last: the later of the batch's timestamp and the append.
    seen_at: Timestamp,
    /// Of the coordinator that ended its last transaction, or [`NO_COORDINATOR`].
    coordinator_epoch: Epoch,
    /// Where its open transaction begins.
    transaction: Option<Offset>,
    /// Where its last marker is.
    marker: Option<Offset>,
    /// Oldest first, at most [`WINDOW`]. None after a marker under a new epoch.
    entries: Vec<Entry>,
}

/// The producers of one log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProducerTable {
    producers: BTreeMap<ProducerId, Producer>,
    /// Those without an open transaction, in the order in which they wrote last.
    by_use: BTreeSet<(Timestamp, ProducerId)>,
    /// Those with one, by where it begins.
    open: BTreeSet<(Offset, ProducerId)>,
}

/// A transaction that a marker has ended in this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Whose it was.
    pub producer: ProducerId,
    /// Where it began.
    pub first_offset: Offset,
    /// Where its marker is.
    pub last_offset: Offset,
    /// Every transaction that began before this had ended by then.
    pub last_stable_offset: Offset,
    /// How it ended.
    pub outcome: Outcome,
}

impl Ended {
    /// Whether a reader of what lies from `from` on and below `below` must know that it was aborted.
    #[must_use]
    pub fn is_aborted_within(&self, from: Offset, below: Offset) -> bool {
        self.outcome == Outcome::Abort && from <= self.last_offset && self.first_offset < below
    }
}

/// Which rules a transaction goes by: Kafka's feature `transaction.version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionVersion {
    /// One producer epoch for many transactions; partitions are registered by a request of their
    /// own.
    V1,
    /// Every transaction ends under a higher epoch than it was written under (KIP-890); partitions
    /// are registered by writing to them.
    V2,
}

/// What to do with a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkerVerdict {
    /// Append it.
    Append,
    /// The same end was written before.
    Duplicate,
}

/// What is known of a producer (KIP-664).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// Who it is.
    pub id: ProducerId,
    /// Its incarnation.
    pub epoch: ProducerEpoch,
    /// The sequence number of its last record, if it is known.
    pub sequence_last: Option<i32>,
    /// When it wrote last.
    pub seen_at: Timestamp,
    /// Of the coordinator that ended its last transaction here, if one did.
    pub coordinator_epoch: Option<Epoch>,
    /// Where its open transaction begins, if it has one.
    pub transaction: Option<Offset>,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: append it.
    Append,
    /// It was appended before: answer with that.
    Duplicate(Entry),
}

impl ProducerTable {
    /// Whether no producer is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// How many producers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Judges a batch that is about to be appended. Batches without producer id are always new.
    ///
    /// # Errors
    /// `InvalidProducerEpoch` from a producer that was replaced, `OutOfOrderSequenceNumber` if
    /// batches before this one are missing, `InvalidTxnState` if it is outside of the producer's
    /// open transaction, `InvalidRecord` if the producer fields make no sense.
    pub fn check(&self, header: &Header) -> Result<Verdict, ErrorCode> {
        if !header.producer_id.is_some() {
            return Ok(Verdict::Append);
        }
        if header.producer_epoch.0 < 0 || header.base_sequence < 0 {
            return Err(ErrorCode::InvalidRecord);
        }
        // An unknown producer may begin anywhere: its state may have expired.
        let Some(known) = self.producers.get(&header.producer_id) else {
            return Ok(Verdict::Append);
        };
        let first = header.base_sequence;
        if header.producer_epoch < known.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if known.transaction.is_some() && !header.attributes.is_transactional() {
            return Err(ErrorCode::InvalidTxnState);
        }
        // A marker that raised the epoch leaves no batch to go on from.
        if known.epoch < header.producer_epoch || known.entries.is_empty() {
            let starts_over = first == 0;
            return starts_over
                .then_some(Verdict::Append)
                .ok_or(ErrorCode::OutOfOrderSequenceNumber);
        }
        let last = sequence_last(header);
        let repeated =
            |entry: &&Entry| (entry.sequence_first, entry.sequence_last) == (first, last);
        if let Some(entry) = known.entries.iter().find(repeated) {
            return Ok(Verdict::Duplicate(*entry));
        }
        let in_order =
            known.entries.last().is_none_or(|entry| first == advance(entry.sequence_last, 1));
        in_order.then_some(Verdict::Append).ok_or(ErrorCode::OutOfOrderSequenceNumber)
    }

    /// Judges a batch that a coordinator is about to append on a producer's behalf: such batches
    /// have no sequence numbers.
    ///
    /// # Errors
    /// `InvalidProducerEpoch` from a producer that was replaced.
    pub fn check_unsequenced(&self, header: &Header) -> Result<(), ErrorCode> {
        let known = self.producers.get(&header.producer_id);
        let is_stale = known.is_some_and(|known| header.producer_epoch < known.epoch);
        if is_stale { Err(ErrorCode::InvalidProducerEpoch) } else { Ok(()) }
    }

    /// Judges a marker that is about to be appended.
    ///
    /// # Errors
    /// `InvalidProducerEpoch` if the producer has gone on under a later epoch, or, by the rules of
    /// version 2, has begun another transaction. `TransactionCoordinatorFenced` if a later
    /// coordinator was at work.
    pub fn check_marker(
        &self,
        id: ProducerId,
        epoch: ProducerEpoch,
        marker: EndMarker,
        version: TransactionVersion,
    ) -> Result<MarkerVerdict, ErrorCode> {
        let Some(known) = self.producers.get(&id) else { return Ok(MarkerVerdict::Append) };
        if epoch < known.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if marker.coordinator_epoch < known.coordinator_epoch {
            return Err(ErrorCode::TransactionCoordinatorFenced);
        }
        match (version, epoch == known.epoch, known.transaction) {
            // What is open began under the epoch that this marker was to raise it to.
            (TransactionVersion::V2, true, Some(_)) => Err(ErrorCode::InvalidProducerEpoch),
            (TransactionVersion::V2, true, None) => Ok(MarkerVerdict::Duplicate),
            (TransactionVersion::V1, ..) | (TransactionVersion::V2, false, _) => {
                Ok(MarkerVerdict::Append)
            }
        }
    }

    /// Notes a batch that was appended, at `append_time`. Replay passes the batch's own timestamp.
    /// Returns the transaction that it ended.
    pub fn note(&mut self, batch: &Batch, append_time: Timestamp) -> Option<Ended> {
        let header = &batch.header;
        if !header.producer_id.is_some() {
            return None;
        }
        if header.attributes.is_control() {
            let marker = EndMarker::of(batch)?;
            return self.note_marker(header, marker, append_time);
        }
        let transactional = header.attributes.is_transactional();
        self.change(header, append_time, |producer| {
            if transactional {
                producer.transaction.get_or_insert(header.base_offset);
            }
            if header.base_sequence < 0 {
                return;
            }
            if producer.entries.len() == WINDOW {
                producer.entries.remove(0);
            }
            producer.entries.push(Entry {
                sequence_first: header.base_sequence,
                sequence_last: sequence_last(header),
                base_offset: header.base_offset,
                timestamp: header.max_timestamp,
            });
        });
        None
    }

    fn note_marker(
        &mut self,
        header: &Header,
        EndMarker { outcome, coordinator_epoch }: EndMarker,
        append_time: Timestamp,
    ) -> Option<Ended> {
        let first_offset = self.change(header, append_time, |producer| {
            producer.marker = Some(header.base_offset);
            producer.coordinator_epoch = producer.coordinator_epoch.max(coordinator_epoch);
            producer.transaction.take()
        })?;
        let last_offset = header.base_offset + i64::from(header.last_offset_delta);
        let last_stable_offset = self.first_open().unwrap_or(last_offset.next());
        let producer = header.producer_id;
        Some(Ended { producer, first_offset, last_offset, last_stable_offset, outcome })
    }

    /// Changes the producer of a batch, under the batch's epoch, and keeps the orders right.
    fn change<T>(
        &mut self,
        header: &Header,
        append_time: Timestamp,
        change: impl FnOnce(&mut Producer) -> T,
    ) -> T {
        let (id, seen_at) = (header.producer_id, header.max_timestamp.max(append_time));
        let mut producer = self.take(id).unwrap_or_else(|| Producer {
            epoch: header.producer_epoch,
            seen_at,
            coordinator_epoch: NO_COORDINATOR,
            transaction: None,
            marker: None,
            entries: Vec::with_capacity(1),
        });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.entries.clear();
        }
        producer.seen_at = producer.seen_at.max(seen_at);
        let outcome = change(&mut producer);
        self.put(id, producer);
        outcome
    }

    fn take(&mut self, id: ProducerId) -> Option<Producer> {
        let producer = self.producers.remove(&id)?;
        match producer.transaction {
            Some(first) => self.open.remove(&(first, id)),
            None => self.by_use.remove(&(producer.seen_at, id)),
        };
        Some(producer)
    }

    fn put(&mut self, id: ProducerId, producer: Producer) {
        match producer.transaction {
            Some(first) => self.open.insert((first, id)),
            None => self.by_use.insert((producer.seen_at, id)),
        };
        self.producers.insert(id, producer);
    }

    /// Where the oldest open transaction begins.
    #[must_use]
    pub fn first_open(&self) -> Option<Offset> {
        self.open.first().map(|(first, _)| *first)
    }

    /// Where each open transaction begins, and whose it is.
    pub fn open(&self) -> impl Iterator<Item = (Offset, ProducerId)> + '_ {
        self.open.iter().copied()
    }

    /// Whether the producer has an open transaction that it began under this epoch.
    #[must_use]
    pub fn is_open(&self, id: ProducerId, epoch: ProducerEpoch) -> bool {
        let known = self.producers.get(&id);
        known.is_some_and(|known| known.transaction.is_some() && known.epoch == epoch)
    }

    /// Where the producer's last marker is. While it stays the same, no transaction of the producer
    /// has ended here.
    #[must_use]
    pub fn marker(&self, id: ProducerId) -> Option<Offset> {
        self.producers.get(&id)?.marker
    }

    /// What is known of each producer.
    pub fn describe(&self) -> impl Iterator<Item = Described> + '_ {
        self.producers.iter().map(|(id, producer)| Described {
            id: *id,
            epoch: producer.epoch,
            sequence_last: producer.entries.last().map(|entry| entry.sequence_last),
            seen_at: producer.seen_at,
            coordinator_epoch: Some(producer.coordinator_epoch)
                .filter(|epoch| *epoch != NO_COORDINATOR),
            transaction: producer.transaction,
        })
    }

    /// Forgets the producer that wrote longest ago and has no open transaction. Whether there was
    /// one.
    pub fn forget_oldest(&mut self) -> bool {
        let oldest = self.by_use.pop_first();
        oldest.is_some_and(|(_, id)| self.producers.remove(&id).is_some())
    }

    /// Forgets the producers that wrote before `limit` and not since, and have no open transaction.
    /// Returns how many.
    pub fn forget_before(&mut self, limit: Timestamp) -> usize {
        let kept = self.by_use.split_off(&(limit, ProducerId(i64::MIN)));
        let forgotten = std::mem::replace(&mut self.by_use, kept);
        for (_, id) in &forgotten {
            self.producers.remove(id);
        }
        forgotten.len()
    }

    /// When each producer without an open transaction wrote last, oldest first.
    pub fn seen_at(&self) -> impl Iterator<Item = Timestamp> + '_ {
        self.by_use.iter().map(|(seen_at, _)| *seen_at)
    }

    /// Whether the producer is known.
    #[must_use]
    pub fn contains(&self, id: ProducerId) -> bool {
        self.producers.contains_key(&id)
    }

    /// The offset of the last batch of each producer: compaction keeps these batches.
    pub fn last_batches(&self) -> impl Iterator<Item = (ProducerId, Offset)> + '_ {
        self.producers
            .iter()
            .filter_map(|(id, producer)| Some((*id, producer.entries.last()?.base_offset)))
    }

    /// Each producer with its row: its bytes in a store.
    pub fn rows(&self) -> impl Iterator<Item = (ProducerId, Vec<u8>)> + '_ {
        self.producers.iter().map(|(id, producer)| (*id, producer.encode()))
    }

    /// Takes in a producer from its row.
    ///
    /// # Errors
    /// If the bytes are of another version, or damaged.
    pub fn restore(&mut self, id: ProducerId, row: &[u8]) -> Result<(), DecodeError> {
        let producer = Producer::decode(row)?;
        self.take(id);
        self.put(id, producer);
        Ok(())
    }

    /// Whether the producer of a row wrote before `limit`, and not since, and has no open
    /// transaction.
    ///
    /// # Errors
    /// As those of [`ProducerTable::restore`].
    pub fn is_row_before(row: &[u8], limit: Timestamp) -> Result<bool, DecodeError> {
        let Producer { seen_at, transaction, .. } = Producer::decode(row)?;
        Ok(seen_at < limit && transaction.is_none())
    }
}

fn sequence_last(header: &Header) -> i32 {
    advance(header.base_sequence, header.last_offset_delta)
}

/// Sequence numbers wrap from the largest `i32` to 0.
fn advance(sequence: i32, by: i32) -> i32 {
    let wrapped = (i64::from(sequence) + i64::from(by)) % (i64::from(i32::MAX) + 1);
    i32::try_from(wrapped).expect("a remainder of 2^31 fits")
}
