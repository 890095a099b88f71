//! Pure: what a log knows of its idempotent producers (KIP-98), folded from its batches.
//!
//! For each producer the last five batches are remembered. A batch that repeats one of them is a
//! retry and is answered with the offsets of the first; one that leaves a gap is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::batch::Header;
use crate::{ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp};

/// How many batches a producer may have in flight (Kafka's constant, known to all clients).
pub const WINDOW: usize = 5;

/// The most producers that one log remembers; beyond it those that wrote longest ago are forgotten.
/// One takes about 200 bytes.
pub const PRODUCERS_MAX: usize = 100_000;

const FORMAT_VERSION: u8 = 1;
const PRODUCER_LEN: usize = 8 + 2 + 8 + 1;
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
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: append it.
    Append,
    /// It was appended before: answer with that.
    Duplicate(Entry),
}

/// The stored bytes are not a producer table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the producer table cannot be read: {0}")]
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
        let seen_at = header.max_timestamp.max(append_time);
        let producer = self.producers.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            seen_at,
            entries: Vec::with_capacity(1),
        });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.entries.clear();
        }
        producer.seen_at = producer.seen_at.max(seen_at);
        if producer.entries.len() == WINDOW {
            producer.entries.remove(0);
        }
        producer.entries.push(Entry {
            sequence_first: header.base_sequence,
            sequence_last: sequence_last(header),
            base_offset: header.base_offset,
            timestamp: header.max_timestamp,
        });
        if PRODUCERS_MAX < self.producers.len() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.producers.iter().min_by_key(|(id, producer)| (producer.seen_at, **id));
        if let Some(id) = oldest.map(|(id, _)| *id) {
            self.producers.remove(&id);
        }
    }

    /// Forgets producers that have not written for `age` (`producer.id.expiration.ms`).
    pub fn expire(&mut self, now: Timestamp, age: Duration) {
        let limit = now.minus(age);
        self.producers.retain(|_, producer| limit <= producer.seen_at);
    }

    /// The offset of the last batch of each producer: compaction keeps these batches.
    pub fn last_batches(&self) -> impl Iterator<Item = (ProducerId, Offset)> + '_ {
        self.producers
            .iter()
            .filter_map(|(id, producer)| Some((*id, producer.entries.last()?.base_offset)))
    }

    /// The table as bytes; none at all for an empty one.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        if self.is_empty() {
            return Bytes::new();
        }
        let mut out = BytesMut::with_capacity(1 + self.len() * (PRODUCER_LEN + ENTRY_LEN));
        out.put_u8(FORMAT_VERSION);
        for (id, producer) in &self.producers {
            out.put_i64(id.0);
            out.put_i16(producer.epoch.0);
            out.put_i64(producer.seen_at.0);
            out.put_u8(u8::try_from(producer.entries.len()).expect("at most five entries"));
            for entry in &producer.entries {
                out.put_i32(entry.sequence_first);
                out.put_i32(entry.sequence_last);
                out.put_i64(entry.base_offset.0);
                out.put_i64(entry.timestamp.0);
            }
        }
        out.freeze()
    }

    /// Reads what [`ProducerTable::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are of another version, or damaged.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut table = Self::default();
        if bytes.is_empty() {
            return Ok(table);
        }
        if bytes.get_u8() != FORMAT_VERSION {
            return Err(DecodeError("its version is unknown"));
        }
        while !bytes.is_empty() {
            if bytes.len() < PRODUCER_LEN {
                return Err(DecodeError("a producer is cut off"));
            }
            let id = ProducerId(bytes.get_i64());
            let epoch = ProducerEpoch(bytes.get_i16());
            let seen_at = Timestamp(bytes.get_i64());
            let count = usize::from(bytes.get_u8());
            if WINDOW < count || bytes.len() < count * ENTRY_LEN {
                return Err(DecodeError("the batches of a producer are cut off"));
            }
            let entries = (0..count)
                .map(|_| Entry {
                    sequence_first: bytes.get_i32(),
                    sequence_last: bytes.get_i32(),
                    base_offset: Offset(bytes.get_i64()),
                    timestamp: Timestamp(bytes.get_i64()),
                })
                .collect();
            table.producers.insert(id, Producer { epoch, seen_at, entries });
        }
        Ok(table)
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
    fn the_table_survives_its_encoding_and_damage_is_an_error() {
        let encoded = table().encode();
        assert_eq!(ProducerTable::decode(&encoded), Ok(table()));
        assert!(ProducerTable::decode(&encoded[..encoded.len() - 1]).is_err());
        assert!(ProducerTable::decode(&[9]).is_err());
        assert!(ProducerTable::default().encode().is_empty());
    }

    #[test]
    fn a_producer_is_forgotten_only_after_its_age() {
        let mut table = table();
        table.expire(Timestamp(3000), Duration::from_secs(1));
        assert_eq!(table.len(), 1);
        table.expire(Timestamp(3001), Duration::from_secs(1));
        assert!(table.is_empty());
    }
}
