//! Pure: the records of `__consumer_offsets`, byte for byte as Kafka keeps them.
//!
//! The key says what a record is about: an offset (key version 1), a classic group (key version 2),
//! or part of a next-generation group (`consumer::record`). The last record of a key counts; one
//! without a value takes the thing away. Values are written in version 3, and read in versions 0 to 3.
#![deny(clippy::indexing_slicing)]

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rafka_core::{Epoch, GroupId, Offset, PartitionIndex, Timestamp, TopicName};

use super::consumer;
use super::offsets::Partition;
use super::ops::CommittedOffset;

/// The topic that holds these records.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
const VALUE_VERSION: i16 = 3;

/// The partition of `__consumer_offsets` whose leader coordinates the group: Java's hash of the
/// group id, without its sign bit as Kafka's `Utils.abs` does it, over the partition count.
///
/// # Panics
/// If `partition_count` is 0: a topic has partitions.
#[must_use]
pub fn partition_of(group: &GroupId, partition_count: u32) -> PartitionIndex {
    spread(group.as_str(), partition_count)
}

/// As [`partition_of`], for any text: transactional ids are spread in the same way.
pub(crate) fn spread(text: &str, partition_count: u32) -> PartitionIndex {
    assert!(0 < partition_count, "a topic has at least one partition");
    let units = text.encode_utf16();
    let hash = units.fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    // The absolute value, and 0 for the one number that has none.
    let spread = hash.checked_abs().unwrap_or(0).cast_unsigned();
    let partition = i32::try_from(spread % partition_count);
    PartitionIndex(partition.expect("a remainder of 31 bits fits 31 bits"))
}

/// A record as the log takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Bytes,
    /// None is a tombstone.
    pub(super) value: Option<Bytes>,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Offset {
        group: GroupId,
        partition: Partition,
        value: Option<OffsetValue>,
    },
    Group {
        group: GroupId,
        value: Option<GroupValue>,
    },
    /// Part of a next-generation group.
    Consumer {
        group: GroupId,
        entry: consumer::record::Entry,
    },
    /// A kind of record of a later version, which the one who wrote it expects us to pass over.
    Unknown {
        key_version: i16,
    },
}

/// A committed offset and when it was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OffsetValue {
    pub(super) committed: CommittedOffset,
    pub(super) committed_at: Timestamp,
}

/// A generation of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupValue {
    pub(super) protocol_type: String,
    pub(super) generation: i32,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    /// When the group entered its state.
    pub(super) since: Timestamp,
    pub(super) members: Vec<MemberValue>,
}

/// A member of a generation. Timeouts are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemberValue {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) rebalance_timeout: i32,
    pub(super) session_timeout: i32,
    pub(super) metadata: Bytes,
    pub(super) assignment: Bytes,
}

/// The record is none that we or Kafka would write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record of the offsets topic is malformed in its {field}")]
pub(super) struct Malformed {
    pub(super) field: &'static str,
}

/// The record of a committed offset.
pub(super) fn offset(
    group: &GroupId,
    partition: &Partition,
    committed: &CommittedOffset,
    at: Timestamp,
) -> Record {
    let mut out = BytesMut::with_capacity(24 + committed.metadata.len());
    out.put_i16(VALUE_VERSION);
    out.put_i64(committed.offset.0);
    out.put_i32(committed.leader_epoch.map_or(-1, |epoch| epoch.0));
    put_text(&mut out, &committed.metadata);
    out.put_i64(at.0);
    Record { key: offset_key(group, partition), value: Some(out.freeze()) }
}

pub(super) fn offset_tombstone(group: &GroupId, partition: &Partition) -> Record {
    Record { key: offset_key(group, partition), value: None }
}

pub(super) fn offset_key(group: &GroupId, (topic, partition): &Partition) -> Bytes {
    let mut out = BytesMut::with_capacity(10 + group.as_str().len() + topic.as_str().len());
    out.put_i16(OFFSET_KEY_VERSION);
    put_text(&mut out, group.as_str());
    put_text(&mut out, topic.as_str());
    out.put_i32(partition.0);
    out.freeze()
}

/// The record of a group.
pub(super) fn group(group: &GroupId, value: &GroupValue) -> Record {
    let mut out = BytesMut::new();
    out.put_i16(VALUE_VERSION);
    put_text(&mut out, &value.protocol_type);
    out.put_i32(value.generation);
    put_nullable_text(&mut out, value.protocol.as_deref());
    put_nullable_text(&mut out, value.leader.as_deref());
    out.put_i64(value.since.0);
    out.put_i32(i32::try_from(value.members.len()).expect("members are far fewer than 2^31"));
    for member in &value.members {
        put_text(&mut out, &member.id);
        put_nullable_text(&mut out, member.instance.as_deref());
        put_text(&mut out, &member.client_id);
        put_text(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout);
        out.put_i32(member.session_timeout);
        put_bytes(&mut out, &member.metadata);
        put_bytes(&mut out, &member.assignment);
    }
    Record { key: group_key(group), value: Some(out.freeze()) }
}

pub(super) fn group_tombstone(group: &GroupId) -> Record {
    Record { key: group_key(group), value: None }
}

fn group_key(group: &GroupId) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + group.as_str().len());
    out.put_i16(GROUP_KEY_VERSION);
    put_text(&mut out, group.as_str());
    out.freeze()
}

/// Texts are bounded where they come in: ids, names and addresses to 4096 bytes and a suffix,
/// group ids to 1024, topics to 249, the metadata of offsets by its setting.
pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("texts are bounded at the door"));
    out.put_slice(text.as_bytes());
}

fn put_nullable_text(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_text(out, text),
        None => out.put_i16(-1),
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &Bytes) {
    out.put_i32(i32::try_from(bytes.len()).expect("a roster is bounded at the door"));
    out.put_slice(bytes);
}

/// Reads a record.
pub(super) fn decode(key: Option<&Bytes>, value: Option<&Bytes>) -> Result<Entry, Malformed> {
    let mut key = Input(key.ok_or(Malformed { field: "key" })?.clone());
    let version = key.i16("key version")?;
    let is_offset = (0..=OFFSET_KEY_VERSION).contains(&version);
    if !is_offset && version != GROUP_KEY_VERSION && !consumer::record::is_known(version) {
        return Ok(Entry::Unknown { key_version: version });
    }
    let group = key.text("group")?;
    let group = GroupId::new(&group).map_err(|_invalid| Malformed { field: "group" })?;
    if let Some(entry) = consumer::record::decode(version, &mut key, value)? {
        return Ok(Entry::Consumer { group, entry });
    }
    let mut value = value.map(|value| Input(value.clone()));
    if is_offset {
        let topic = key.text("topic")?;
        let topic = TopicName::new(&topic).map_err(|_invalid| Malformed { field: "topic" })?;
        let partition = (topic, PartitionIndex(key.i32("partition")?));
        let value = value.as_mut().map(decode_offset).transpose()?;
        Ok(Entry::Offset { group, partition, value })
    } else {
        let value = value.as_mut().map(decode_group).transpose()?;
        Ok(Entry::Group { group, value })
    }
}

fn decode_offset(input: &mut Input) -> Result<OffsetValue, Malformed> {
    let version = input.version()?;
    let offset = Offset(input.i64("offset")?);
    let epoch = if 3 <= version { input.i32("leader epoch")? } else { -1 };
    let leader_epoch = (0 <= epoch).then_some(Epoch(epoch));
    let metadata = input.text("metadata")?;
    let committed_at = Timestamp(input.i64("commit timestamp")?);
    Ok(OffsetValue { committed: CommittedOffset { offset, leader_epoch, metadata }, committed_at })
}

fn decode_group(input: &mut Input) -> Result<GroupValue, Malformed> {
    let version = input.version()?;
    let mut value = GroupValue {
        protocol_type: input.text("protocol type")?,
        generation: input.i32("generation")?,
        protocol: input.nullable_text("protocol")?,
        leader: input.nullable_text("leader")?,
        since: if 2 <= version { Timestamp(input.i64("timestamp")?) } else { Timestamp::NONE },
        members: Vec::new(),
    };
    // Nothing is reserved for the count: each member takes input, and the input ends.
    for _ in 0..input.i32("member count")? {
        value.members.push(decode_member(input, version)?);
    }
    Ok(value)
}

fn decode_member(input: &mut Input, version: i16) -> Result<MemberValue, Malformed> {
    let id = input.text("member id")?;
    let instance = if 3 <= version { input.nullable_text("instance")? } else { None };
    let (client_id, client_host) = (input.text("client id")?, input.text("client host")?);
    let rebalance_timeout = if 1 <= version { Some(input.i32("rebalance timeout")?) } else { None };
    let session_timeout = input.i32("session timeout")?;
    Ok(MemberValue {
        id,
        instance,
        client_id,
        client_host,
        rebalance_timeout: rebalance_timeout.unwrap_or(session_timeout),
        session_timeout,
        metadata: input.bytes("subscription")?,
        assignment: input.bytes("assignment")?,
    })
}

/// What is left to read.
pub(super) struct Input(pub(super) Bytes);

impl Input {
    fn version(&mut self) -> Result<i16, Malformed> {
        let version = self.i16("value version")?;
        let is_known = (0..=VALUE_VERSION).contains(&version);
        if is_known { Ok(version) } else { Err(Malformed { field: "value version" }) }
    }

    pub(super) fn i16(&mut self, field: &'static str) -> Result<i16, Malformed> {
        self.0.try_get_i16().map_err(|_end| Malformed { field })
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, Malformed> {
        self.0.try_get_i32().map_err(|_end| Malformed { field })
    }

    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, Malformed> {
        self.0.try_get_i64().map_err(|_end| Malformed { field })
    }

    pub(super) fn take(&mut self, len: i32, field: &'static str) -> Result<Bytes, Malformed> {
        let len = usize::try_from(len).ok().filter(|len| *len <= self.0.len());
        Ok(self.0.split_to(len.ok_or(Malformed { field })?))
    }

    fn bytes(&mut self, field: &'static str) -> Result<Bytes, Malformed> {
        let len = self.i32(field)?;
        // A copy: the group outlives the batch, and shall not keep all of it in memory.
        self.take(len, field).map(|bytes| Bytes::copy_from_slice(&bytes))
    }

    pub(super) fn text(&mut self, field: &'static str) -> Result<String, Malformed> {
        self.nullable_text(field)?.ok_or(Malformed { field })
    }

    fn nullable_text(&mut self, field: &'static str) -> Result<Option<String>, Malformed> {
        let len = self.i16(field)?;
        if len == -1 {
            return Ok(None);
        }
        let bytes = self.take(i32::from(len), field)?;
        let text = std::str::from_utf8(&bytes).map_err(|_not_utf8| Malformed { field })?;
        Ok(Some(text.to_owned()))
    }
}

#[cfg(test)]
mod tests;
