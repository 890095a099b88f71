//! Pure: what a log knows of its idempotent producers (KIP-98), folded from its batches.
//!
//! For each producer the last five batches are remembered. A batch that repeats one of them is a
//! retry and is answered with the offsets of the first; one that leaves a gap is refused.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut};

use crate::batch::Header;
use crate::{ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp};

/// How many batches a producer may have in flight (Kafka's constant, known to all clients).
pub const WINDOW: usize = 5;

/// What one producer takes in memory at the most, its places in two trees included.
pub const PRODUCER_BYTES: usize = 320;

const ROW_VERSION: u8 = 1;
const ROW_LEN: usize = 1 + 2 + 8 + 1;
const ENTRY_LEN: usize = 4 + 4 + 8 + 8;

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
    /// Oldest first, at most [`WINDOW`].
    entries: Vec<Entry>,
}

/// The producers of one log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProducerTable {
    producers: BTreeMap<ProducerId, Producer>,
    /// The same, in the order in which they wrote last.
    by_use: BTreeSet<(Timestamp, ProducerId)>,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: append it.
    Append,
    /// It was appended before: answer with that.
    Duplicate(Entry),
}

/// The stored bytes are not a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the producer cannot be read: {0}")]
pub struct DecodeError(&'static str);

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
    /// batches before this one are missing, `InvalidRecord` if the producer fields make no sense.
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
        if known.epoch < header.producer_epoch {
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

    /// Notes a batch that was appended, at `append_time`. Replay passes the batch's own timestamp.
    pub fn note(&mut self, header: &Header, append_time: Timestamp) {
        if !header.producer_id.is_some() || header.attributes.is_control() {
            return;
        }
        let (id, seen_at) = (header.producer_id, header.max_timestamp.max(append_time));
        let producer = self.producers.entry(id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            seen_at,
            entries: Vec::with_capacity(1),
        });
        self.by_use.remove(&(producer.seen_at, id));
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.entries.clear();
        }
        producer.seen_at = producer.seen_at.max(seen_at);
        self.by_use.insert((producer.seen_at, id));
        if producer.entries.len() == WINDOW {
            producer.entries.remove(0);
        }
        producer.entries.push(Entry {
            sequence_first: header.base_sequence,
            sequence_last: sequence_last(header),
            base_offset: header.base_offset,
            timestamp: header.max_timestamp,
        });
    }

    /// Forgets the producer that wrote longest ago.
    pub fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.by_use.pop_first() {
            self.producers.remove(&id);
        }
    }

    /// Forgets the producers that wrote before `limit` and not since. Returns how many.
    pub fn forget_before(&mut self, limit: Timestamp) -> usize {
        let kept = self.by_use.split_off(&(limit, ProducerId(i64::MIN)));
        let forgotten = std::mem::replace(&mut self.by_use, kept);
        for (_, id) in &forgotten {
            self.producers.remove(id);
        }
        forgotten.len()
    }

    /// When each producer wrote last, oldest first.
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
        let seen_at = producer.seen_at;
        if let Some(before) = self.producers.insert(id, producer) {
            self.by_use.remove(&(before.seen_at, id));
        }
        self.by_use.insert((seen_at, id));
        Ok(())
    }

    /// When the producer of a row wrote last.
    ///
    /// # Errors
    /// As those of [`ProducerTable::restore`].
    pub fn row_seen_at(row: &[u8]) -> Result<Timestamp, DecodeError> {
        Producer::decode(row).map(|producer| producer.seen_at)
    }
}

impl Producer {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ROW_LEN + self.entries.len() * ENTRY_LEN);
        out.put_u8(ROW_VERSION);
        out.put_i16(self.epoch.0);
        out.put_i64(self.seen_at.0);
        out.put_u8(u8::try_from(self.entries.len()).expect("at most five entries"));
        for entry in &self.entries {
            out.put_i32(entry.sequence_first);
            out.put_i32(entry.sequence_last);
            out.put_i64(entry.base_offset.0);
            out.put_i64(entry.timestamp.0);
        }
        out
    }

    fn decode(mut row: &[u8]) -> Result<Self, DecodeError> {
        if row.len() < ROW_LEN {
            return Err(DecodeError("it is cut off"));
        }
        if row.get_u8() != ROW_VERSION {
            return Err(DecodeError("its version is unknown"));
        }
        let epoch = ProducerEpoch(row.get_i16());
        let seen_at = Timestamp(row.get_i64());
        let count = usize::from(row.get_u8());
        if WINDOW < count || row.len() != count * ENTRY_LEN {
            return Err(DecodeError("its batches are cut off"));
        }
        let entries = (0..count)
            .map(|_| Entry {
                sequence_first: row.get_i32(),
                sequence_last: row.get_i32(),
                base_offset: Offset(row.get_i64()),
                timestamp: Timestamp(row.get_i64()),
            })
            .collect();
        Ok(Self { epoch, seen_at, entries })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::compression::Compression;

    fn header(epoch: i16, sequence: i32, records: usize, base_offset: i64) -> Header {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.producer(ProducerId(7), ProducerEpoch(epoch), sequence);
        for _ in 0..records {
            builder.push(Timestamp(1000), None, Some(b"v"), &[]);
        }
        let mut header = builder.build().expect("no codec").header;
        header.base_offset = Offset(base_offset);
        header
    }

    fn table() -> ProducerTable {
        let mut table = ProducerTable::default();
        for index in 0..7 {
            let next = header(1, index * 2, 2, i64::from(index) * 10);
            assert_eq!(table.check(&next), Ok(Verdict::Append));
            table.note(&next, Timestamp(2000));
        }
        table
    }

    #[test]
    fn any_of_the_last_five_batches_is_answered_with_its_first_offset() {
        for index in 2..7 {
            let verdict = table().check(&header(1, index * 2, 2, 999));
            let base = Offset(i64::from(index) * 10);
            assert!(matches!(verdict, Ok(Verdict::Duplicate(entry)) if entry.base_offset == base));
        }
    }

    #[test]
    fn gaps_old_repeats_and_old_epochs_are_refused() {
        let check = |epoch, sequence, records, expected| {
            assert_eq!(table().check(&header(epoch, sequence, records, 0)), expected);
        };
        check(1, 14, 1, Ok(Verdict::Append));
        check(1, 15, 1, Err(ErrorCode::OutOfOrderSequenceNumber));
        check(1, 0, 2, Err(ErrorCode::OutOfOrderSequenceNumber));
        check(1, 12, 1, Err(ErrorCode::OutOfOrderSequenceNumber));
        check(0, 14, 1, Err(ErrorCode::InvalidProducerEpoch));
        check(2, 0, 1, Ok(Verdict::Append));
        check(2, 14, 1, Err(ErrorCode::OutOfOrderSequenceNumber));
        check(1, -1, 1, Err(ErrorCode::InvalidRecord));
    }

    #[test]
    fn sequences_wrap_at_the_largest_number() {
        let mut table = ProducerTable::default();
        table.note(&header(0, i32::MAX - 1, 3, 0), Timestamp(0));
        assert_eq!(table.check(&header(0, 1, 1, 3)), Ok(Verdict::Append));
    }

    #[test]
    fn a_producer_survives_its_row_and_damage_is_an_error() {
        let mut restored = ProducerTable::default();
        for (id, row) in table().rows() {
            assert_eq!(ProducerTable::row_seen_at(&row), Ok(Timestamp(2000)));
            restored.restore(id, &row).expect("sound");
            restored.restore(id, &row).expect("sound");
            for len in 0..row.len() {
                assert!(ProducerTable::default().restore(id, &row[..len]).is_err(), "{len}");
            }
            let newer = [&[ROW_VERSION + 1], &row[1..]].concat();
            assert!(ProducerTable::default().restore(id, &newer).is_err());
        }
        assert_eq!(restored, table());
    }

    #[test]
    fn who_wrote_longest_ago_is_forgotten_first_and_nobody_before_its_age() {
        let mut table = ProducerTable::default();
        let write = |table: &mut ProducerTable, id: i64, at: i64| {
            let mut header = header(0, 0, 1, 0);
            (header.producer_id, header.max_timestamp) = (ProducerId(id), Timestamp(at));
            table.note(&header, Timestamp(at));
        };
        for (id, at) in [(1, 10), (2, 20), (3, 30), (1, 40)] {
            write(&mut table, id, at);
        }
        let ids = |table: &ProducerTable| -> Vec<i64> {
            table.last_batches().map(|(id, _)| id.0).collect()
        };
        assert_eq!(table.seen_at().collect::<Vec<_>>(), [20, 30, 40].map(Timestamp));
        assert_eq!(table.forget_before(Timestamp(20)), 0);
        table.forget_oldest();
        assert_eq!(ids(&table), [1, 3]);
        assert_eq!(table.forget_before(Timestamp(31)), 1);
        assert_eq!(ids(&table), [1]);
        assert!(table.contains(ProducerId(1)) && !table.contains(ProducerId(3)));
    }
}
