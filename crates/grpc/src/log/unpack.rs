//! Pure: plain records out of fetched batches, in messages of bounded size.

use std::collections::VecDeque;

use bytes::Bytes;
use rafka_broker::Error;
use rafka_core::batch::{self, Record, Records};
use rafka_core::{Batch, ByteSize, ErrorCode, Offset};
use rafka_proto::v1::{FetchedRecord, Header};

/// What the records of one batch may inflate to: as much as the broker lets in.
const INFLATED_BYTES_MAX: ByteSize = ByteSize::mib(32);

/// What a record takes in a message beside its key, value and headers.
const RECORD_BYTES: usize = 32;

/// Batches of one partition that wait to be unpacked.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) name: String,
    pub(super) partition: i32,
    /// Records below it are left out.
    pub(super) from: Offset,
    /// Where reading goes on after the batches.
    pub(super) next: Offset,
    pub(super) batches: VecDeque<Batch>,
    pub(super) marks: Marks,
}

/// Where a partition stood when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) high_watermark: Offset,
    pub(super) last_stable_offset: Offset,
    pub(super) log_start: Offset,
}

/// Records of one partition.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) name: String,
    pub(super) partition: i32,
    pub(super) marks: Marks,
    /// May be empty: some batches show nothing.
    pub(super) records: Vec<FetchedRecord>,
    pub(super) next_offset: Offset,
    /// Why nothing more of this partition can be unpacked.
    pub(super) error: Option<Error>,
}

/// Unpacks batch after batch; only one is inflated at a time.
#[derive(Debug, Default)]
pub(super) struct Unpacker {
    waiting: VecDeque<Packed>,
    /// The batch under way, of the first that waits, and the offset after it.
    open: Option<(Records, Offset)>,
}

impl Unpacker {
    pub(super) fn add(&mut self, packed: Packed) {
        self.waiting.push_back(packed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next records, of one partition, until they reach `bytes_max`. `None` when all are out.
    pub(super) fn next(&mut self, bytes_max: ByteSize) -> Option<Unpacked> {
        let mut packed = self.waiting.pop_front()?;
        let mut records = Vec::new();
        let filled = self.fill(&mut packed, &mut records, bytes_max.as_usize());
        let unpacked = Unpacked {
            name: packed.name.clone(),
            partition: packed.partition,
            marks: packed.marks,
            records,
            next_offset: packed.from,
            error: None,
        };
        match filled {
            Ok(Filled::Full) => {
                self.waiting.push_front(packed);
                Some(unpacked)
            }
            Ok(Filled::Exhausted) => Some(unpacked),
            Err(error) => {
                self.open = None;
                Some(Unpacked { error: Some(damaged(&packed, &error)), ..unpacked })
            }
        }
    }

    fn fill(
        &mut self,
        packed: &mut Packed,
        records: &mut Vec<FetchedRecord>,
        bytes_max: usize,
    ) -> Result<Filled, batch::Error> {
        let mut bytes = 0;
        loop {
            let Some((open, after)) = &mut self.open else {
                let Some(batch) = packed.batches.pop_front() else {
                    packed.from = packed.from.max(packed.next);
                    return Ok(Filled::Exhausted);
                };
                if batch.header.attributes.is_control() {
                    packed.from = packed.from.max(batch.next_offset());
                } else {
                    self.open = Some((batch.records(INFLATED_BYTES_MAX)?, batch.next_offset()));
                }
                continue;
            };
            for record in open.by_ref() {
                let record = record?;
                if record.offset < packed.from {
                    continue;
                }
                packed.from = record.offset.next();
                bytes += size(&record);
                records.push(shown(record));
                if bytes_max <= bytes {
                    return Ok(Filled::Full);
                }
            }
            packed.from = packed.from.max(*after);
            self.open = None;
        }
    }
}

enum Filled {
    /// The message is full; there may be more.
    Full,
    /// Nothing is left.
    Exhausted,
}

fn damaged(packed: &Packed, error: &batch::Error) -> Error {
    let Packed { name, partition, from, .. } = packed;
    let message = format!("topic {name}, partition {partition}, offset {from}: {error}");
    Error::new(ErrorCode::CorruptMessage, message)
}

fn size(record: &Record) -> usize {
    let len = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
    let headers: usize =
        record.headers.iter().map(|(name, value)| RECORD_BYTES + name.len() + len(value)).sum();
    RECORD_BYTES + len(&record.key) + len(&record.value) + headers
}

fn shown(record: Record) -> FetchedRecord {
    let Record { offset, timestamp, key, value, headers } = record;
    let header = |(name, value): (Bytes, Option<Bytes>)| Header {
        name: String::from_utf8_lossy(&name).into_owned(),
        value,
    };
    FetchedRecord {
        offset: offset.0,
        timestamp_ms: timestamp.0,
        key,
        value,
        headers: headers.into_iter().map(header).collect(),
    }
}

#[cfg(test)]
mod tests {
    use rafka_core::Timestamp;
    use rafka_core::batch::BatchBuilder;
    use rafka_core::compression::Compression;

    use super::*;

    fn batch(base: i64, values: &[&str], compression: Compression) -> Batch {
        let mut builder = BatchBuilder::new(compression);
        for value in values {
            builder.push(Timestamp(7), None, Some(value.as_bytes()), &[]);
        }
        let mut batch = builder.build().expect("the codecs work");
        batch.header.base_offset = Offset(base);
        batch
    }

    fn packed(from: i64, batches: Vec<Batch>) -> Packed {
        let at = Offset(9);
        let marks = Marks { high_watermark: at, last_stable_offset: at, log_start: Offset::ZERO };
        let name = "t".to_owned();
        let (from, next) = (Offset(from), batches.last().map_or(Offset::ZERO, Batch::next_offset));
        Packed { name, partition: 3, from, next, batches: batches.into(), marks }
    }

    fn offsets(unpacked: &Unpacked) -> Vec<i64> {
        unpacked.records.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn records_come_in_order_from_the_position_on() {
        let mut unpacker = Unpacker::default();
        let first = batch(0, &["a", "b", "c"], Compression::None);
        let second = batch(3, &["d", "e"], Compression::Lz4);
        unpacker.add(packed(1, vec![first, second]));
        let unpacked = unpacker.next(ByteSize::mib(1)).expect("there are records");
        assert_eq!(offsets(&unpacked), [1, 2, 3, 4]);
        assert_eq!((unpacked.next_offset, unpacked.partition), (Offset(5), 3));
        assert_eq!(unpacked.records[3].value.as_deref(), Some(&b"e"[..]));
        assert!(unpacker.next(ByteSize::mib(1)).is_none());
    }

    #[test]
    fn a_message_ends_when_it_is_full_and_the_next_goes_on_there() {
        let mut unpacker = Unpacker::default();
        unpacker.add(packed(0, vec![batch(0, &["a", "b", "c"], Compression::Gzip)]));
        let mut seen = Vec::new();
        while let Some(unpacked) = unpacker.next(ByteSize(1)) {
            assert!(unpacked.records.len() <= 1, "one record fills a byte");
            seen.extend(offsets(&unpacked));
            assert_eq!(unpacked.next_offset, Offset(i64::try_from(seen.len()).expect("few")));
        }
        assert_eq!(seen, [0, 1, 2]);
    }

    #[test]
    fn control_batches_and_compacted_offsets_are_passed_over() {
        let mut unpacker = Unpacker::default();
        let mut control = batch(0, &["marker"], Compression::None);
        control.header.attributes.set_control();
        let mut compacted = batch(1, &["a"], Compression::None);
        compacted.header.last_offset_delta = 4;
        unpacker.add(packed(0, vec![control, compacted]));
        let unpacked = unpacker.next(ByteSize::mib(1)).expect("there is a record");
        assert_eq!((offsets(&unpacked), unpacked.next_offset), (vec![1], Offset(6)));
    }

    #[test]
    fn damage_ends_the_partition_after_what_is_whole() {
        let mut unpacker = Unpacker::default();
        let whole = batch(0, &["a"], Compression::None);
        let mut damaged = batch(1, &["b"], Compression::Zstd);
        damaged.records = Bytes::from_static(b"not zstd");
        unpacker.add(packed(0, vec![whole, damaged]));
        let unpacked = unpacker.next(ByteSize::mib(1)).expect("there is a record");
        assert_eq!(offsets(&unpacked), [0]);
        let error = unpacked.error.expect("the second batch is damaged");
        assert_eq!(error.code, ErrorCode::CorruptMessage);
        assert!(error.message.starts_with("topic t, partition 3, offset 1: "), "{error}");
        assert!(unpacker.next(ByteSize::mib(1)).is_none());
    }
}
