//! Pure: the records of `__transaction_state`, byte for byte as Kafka keeps them.
//!
//! The key (version 0) is a transactional id. The last record of a key counts; one without a value
//! takes the id away. Values are written in version 1, and read in versions 0 and 1.
#![deny(clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rafka_core::producer_state::TransactionVersion;
use rafka_core::{PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicName};

use super::ops::{Partition, State};

/// The topic that holds these records.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 1;

const TAG_PREVIOUS: u32 = 0;
const TAG_NEXT: u32 = 1;
const TAG_CLIENT_VERSION: u32 = 2;

/// What must be remembered of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) producer: ProducerId,
    /// Whose id it was before this producer id.
    pub(super) previous: ProducerId,
    /// Whose it will be when the transaction has ended, because the epochs are used up.
    pub(super) next: ProducerId,
    pub(super) epoch: ProducerEpoch,
    pub(super) timeout: Duration,
    pub(super) state: State,
    pub(super) partitions: BTreeSet<Partition>,
    pub(super) updated_at: Timestamp,
    pub(super) started_at: Timestamp,
    /// By which rules the last transaction went.
    pub(super) version: TransactionVersion,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Id {
        id: String,
        value: Option<Value>,
    },
    /// A kind of record of a later version, which the one who wrote it expects us to pass over.
    Unknown {
        key_version: i16,
    },
}

/// The record is none that we or Kafka would write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record of the transactions topic is malformed in its {field}")]
pub(super) struct Malformed {
    field: &'static str,
}

/// The key of an id.
pub(super) fn key(id: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + id.len());
    out.put_i16(KEY_VERSION);
    out.put_i16(i16::try_from(id.len()).expect("ids are bounded at the door"));
    out.put_slice(id.as_bytes());
    out.freeze()
}

/// The value, as it is written.
pub(super) fn encode(value: &Value) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + 32 * value.partitions.len());
    out.put_i16(VALUE_VERSION);
    out.put_i64(value.producer.0);
    out.put_i16(value.epoch.0);
    out.put_i32(i32::try_from(value.timeout.as_millis()).unwrap_or(i32::MAX));
    out.put_i8(number(value.state));
    put_partitions(&mut out, &value.partitions);
    out.put_i64(value.updated_at.0);
    out.put_i64(value.started_at.0);
    put_tags(&mut out, value);
    out.freeze()
}

fn put_partitions(out: &mut BytesMut, partitions: &BTreeSet<Partition>) {
    let mut topics: BTreeMap<&TopicName, Vec<PartitionIndex>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    if topics.is_empty() {
        // Kafka writes null, not an empty list.
        put_varint(out, 0);
        return;
    }
    put_count(out, topics.len());
    for (topic, partitions) in topics {
        put_count(out, topic.as_str().len());
        out.put_slice(topic.as_str().as_bytes());
        put_count(out, partitions.len());
        for partition in partitions {
            out.put_i32(partition.0);
        }
        put_varint(out, 0);
    }
}

/// Tags with their defaults are left out.
fn put_tags(out: &mut BytesMut, value: &Value) {
    let ids = [(TAG_PREVIOUS, value.previous), (TAG_NEXT, value.next)];
    let ids = ids.into_iter().filter(|(_, id)| id.is_some());
    let is_new = value.version == TransactionVersion::V2;
    let count = ids.clone().count() + usize::from(is_new);
    put_varint(out, u32::try_from(count).expect("there are three at the most"));
    for (tag, id) in ids {
        put_varint(out, tag);
        put_varint(out, 8);
        out.put_i64(id.0);
    }
    if is_new {
        put_varint(out, TAG_CLIENT_VERSION);
        put_varint(out, 2);
        out.put_i16(2);
    }
}

fn put_varint(out: &mut BytesMut, mut value: u32) {
    while 0x7f < value {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(u8::try_from(value).expect("the loop leaves seven bits"));
}

fn put_count(out: &mut BytesMut, count: usize) {
    put_varint(out, u32::try_from(count + 1).expect("memory bounds it"));
}

fn number(state: State) -> i8 {
    match state {
        State::Empty => 0,
        State::Ongoing => 1,
        State::PrepareCommit => 2,
        State::PrepareAbort => 3,
        State::CompleteCommit => 4,
        State::CompleteAbort => 5,
        State::Dead => 6,
    }
}

/// Reads a record.
pub(super) fn decode(key: Option<&Bytes>, value: Option<&Bytes>) -> Result<Entry, Malformed> {
    let mut key = Input(key.ok_or(Malformed { field: "key" })?.clone());
    let version = key.i16("key version")?;
    if version != KEY_VERSION {
        return Ok(Entry::Unknown { key_version: version });
    }
    let len = key.i16("transactional id")?;
    let id = key.text(i32::from(len).cast_unsigned(), "transactional id")?;
    let value = value.map(|value| decode_value(&mut Input(value.clone()))).transpose()?;
    Ok(Entry::Id { id, value })
}

fn decode_value(input: &mut Input) -> Result<Value, Malformed> {
    let version = input.i16("value version")?;
    if !(0..=VALUE_VERSION).contains(&version) {
        return Err(Malformed { field: "value version" });
    }
    let is_compact = version == 1;
    let mut value = Value {
        producer: ProducerId(input.i64("producer id")?),
        previous: ProducerId::NONE,
        next: ProducerId::NONE,
        epoch: ProducerEpoch(input.i16("producer epoch")?),
        timeout: Duration::from_millis(u64::try_from(input.i32("timeout")?).unwrap_or(0)),
        state: input.state()?,
        partitions: input.partitions(is_compact)?,
        updated_at: Timestamp(input.i64("time of the update")?),
        started_at: Timestamp(input.i64("time of the start")?),
        version: TransactionVersion::V1,
    };
    if is_compact {
        input.tags(&mut value)?;
    }
    Ok(value)
}

/// What is left to read.
struct Input(Bytes);

impl Input {
    fn i8(&mut self, field: &'static str) -> Result<i8, Malformed> {
        self.0.try_get_i8().map_err(|_end| Malformed { field })
    }

    fn i16(&mut self, field: &'static str) -> Result<i16, Malformed> {
        self.0.try_get_i16().map_err(|_end| Malformed { field })
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, Malformed> {
        self.0.try_get_i32().map_err(|_end| Malformed { field })
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, Malformed> {
        self.0.try_get_i64().map_err(|_end| Malformed { field })
    }

    fn varint(&mut self, field: &'static str) -> Result<u32, Malformed> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.i8(field)?.cast_unsigned();
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed { field })
    }

    fn take(&mut self, len: u32, field: &'static str) -> Result<Bytes, Malformed> {
        let len = usize::try_from(len).ok().filter(|len| *len <= self.0.len());
        Ok(self.0.split_to(len.ok_or(Malformed { field })?))
    }

    fn text(&mut self, len: u32, field: &'static str) -> Result<String, Malformed> {
        let bytes = self.take(len, field)?;
        let text = std::str::from_utf8(&bytes).map_err(|_not_utf8| Malformed { field })?;
        Ok(text.to_owned())
    }

    fn state(&mut self) -> Result<State, Malformed> {
        let found = self.i8("state")?;
        let state = State::ALL.into_iter().find(|state| number(*state) == found);
        state.ok_or(Malformed { field: "state" })
    }

    /// The length of a list, 0 for null.
    fn count(&mut self, is_compact: bool, field: &'static str) -> Result<u32, Malformed> {
        if is_compact {
            return Ok(self.varint(field)?.saturating_sub(1));
        }
        Ok(u32::try_from(self.i32(field)?).unwrap_or(0))
    }

    fn partitions(&mut self, is_compact: bool) -> Result<BTreeSet<Partition>, Malformed> {
        let mut partitions = BTreeSet::new();
        // Nothing is reserved for the counts: each element takes input, and the input ends.
        for _ in 0..self.count(is_compact, "topics")? {
            let field = "topic";
            let len = if is_compact {
                self.count(true, field)?
            } else {
                i32::from(self.i16(field)?).cast_unsigned()
            };
            let name = self.text(len, field)?;
            let topic = TopicName::new(&name).map_err(|_invalid| Malformed { field })?;
            for _ in 0..self.count(is_compact, "partitions")? {
                partitions.insert((topic.clone(), PartitionIndex(self.i32("partition")?)));
            }
            if is_compact {
                self.pass_over_tags()?;
            }
        }
        Ok(partitions)
    }

    fn pass_over_tags(&mut self) -> Result<(), Malformed> {
        for _ in 0..self.varint("tags")? {
            self.tag()?;
        }
        Ok(())
    }

    fn tag(&mut self) -> Result<(u32, Self), Malformed> {
        let tag = self.varint("tag")?;
        let len = self.varint("length of a tag")?;
        Ok((tag, Self(self.take(len, "tag")?)))
    }

    fn tags(&mut self, value: &mut Value) -> Result<(), Malformed> {
        for _ in 0..self.varint("tags")? {
            let (tag, mut field) = self.tag()?;
            match tag {
                TAG_PREVIOUS => value.previous = ProducerId(field.i64("previous producer id")?),
                TAG_NEXT => value.next = ProducerId(field.i64("next producer id")?),
                TAG_CLIENT_VERSION if 2 <= field.i16("transaction version")? => {
                    value.version = TransactionVersion::V2;
                }
                // Of a later version, which the one who wrote it expects us to pass over.
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> Value {
        let partition =
            |name, index| (TopicName::new(name).expect("a valid name"), PartitionIndex(index));
        Value {
            producer: ProducerId(7),
            previous: ProducerId::NONE,
            next: ProducerId::NONE,
            epoch: ProducerEpoch(3),
            timeout: Duration::from_secs(60),
            state: State::Ongoing,
            partitions: [partition("a", 0), partition("a", 2), partition("b", 1)].into(),
            updated_at: Timestamp(1000),
            started_at: Timestamp(900),
            version: TransactionVersion::V1,
        }
    }

    fn read_back(value: &Value) -> Option<Value> {
        let entry = decode(Some(&key("payments")), Some(&encode(value)));
        let Ok(Entry::Id { id, value }) = entry else { panic!("{entry:?}") };
        assert_eq!(id, "payments");
        value
    }

    #[test]
    fn what_is_written_reads_back() {
        let plain = value();
        let idle = Value { partitions: BTreeSet::new(), state: State::CompleteAbort, ..value() };
        let full = Value {
            previous: ProducerId(1),
            next: ProducerId(i64::MAX),
            version: TransactionVersion::V2,
            ..value()
        };
        for value in [plain, idle, full] {
            assert_eq!(read_back(&value), Some(value));
        }
        let gone = decode(Some(&key("payments")), None);
        assert_eq!(gone, Ok(Entry::Id { id: "payments".to_owned(), value: None }));
    }

    #[test]
    fn the_bytes_are_those_that_kafka_writes() {
        assert_eq!(&*key("p"), [0, 0, 0, 1, b'p']);
        let small = Value {
            partitions: [(TopicName::new("a").expect("valid"), PartitionIndex(2))].into(),
            previous: ProducerId(1),
            version: TransactionVersion::V2,
            ..value()
        };
        let mut expected = vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 3, 0, 0, 0xea, 0x60, 1];
        expected.extend([2, 2, b'a', 2, 0, 0, 0, 2, 0]);
        expected.extend([0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0, 0, 0, 0, 0, 3, 0x84]);
        expected.extend([2, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 0, 2]);
        assert_eq!(&*encode(&small), expected);
    }

    #[test]
    fn values_of_the_older_version_are_read() {
        let mut old = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 3, 0, 0, 0xea, 0x60, 1];
        old.extend([0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 1, 0, 0, 0, 2]);
        old.extend([0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0, 0, 0, 0, 0, 3, 0x84]);
        let entry = decode(Some(&key("p")), Some(&old.into()));
        let partitions = [(TopicName::new("a").expect("valid"), PartitionIndex(2))].into();
        let value = Some(Value { partitions, ..value() });
        assert_eq!(entry, Ok(Entry::Id { id: "p".to_owned(), value }));
    }

    #[test]
    fn what_is_damaged_is_refused_and_never_panics() {
        let whole = encode(&Value { next: ProducerId(5), ..value() });
        for len in 0..whole.len() {
            let cut = decode(Some(&key("p")), Some(&whole.slice(..len)));
            assert!(cut.is_err(), "{len} bytes of {}", whole.len());
        }
        for index in 0..whole.len() {
            for bit in 0..8 {
                let mut bent = whole.to_vec();
                if let Some(byte) = bent.get_mut(index) {
                    *byte ^= 1 << bit;
                }
                // Whatever it is taken for, the reader comes back.
                drop(decode(Some(&key("p")), Some(&bent.into())));
            }
        }
        let later = decode(Some(&Bytes::from_static(&[0, 9])), None);
        assert_eq!(later, Ok(Entry::Unknown { key_version: 9 }));
        assert!(decode(None, None).is_err());
    }
}
