//! Pure: the records of next-generation groups in `__consumer_offsets`, byte for byte as Kafka keeps
//! them: one for the group (key version 3), for each member (5), for the epoch of the target (6), for
//! each member's target (7) and current assignment (8), and for each pattern (16).
#![deny(clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use rafka_core::{GroupId, PartitionIndex, Timestamp, TopicId, TopicName};
use uuid::Uuid;

use super::reconcile::{Current, Progress};
use super::{Assignor, Classic, Profile, Share};
use crate::group::ops::Protocol;
use crate::group::record::{Input, Malformed, Record, put_text};

const GROUP: i16 = 3;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const REGEX: i16 = 16;

/// The version of all values.
const VALUE_VERSION: i16 = 0;

/// The field of the group's value that tells the digest of its topics (KIP-1101).
const HASH_TAG: u32 = 0;

/// The field of a member's value that tells of its classic protocol.
const CLASSIC_TAG: u32 = 0;

/// What a record says. Without a value, the thing is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::group) enum Entry {
    Group(Option<(i32, i64)>),
    Member(String, Option<Box<Member>>),
    TargetEpoch(Option<i32>),
    Target(String, Option<Share>),
    Current(String, Option<Current>),
    Regex(String, Option<BTreeSet<TopicName>>),
}

/// A member, as it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::group) struct Member(pub(super) Profile);

pub(super) fn group(group: &GroupId, value: Option<(i32, i64)>) -> Record {
    let value = value.map(|(epoch, hash)| {
        let mut out = begin();
        out.put_i32(epoch);
        put_varint(&mut out, 1);
        put_varint(&mut out, HASH_TAG);
        put_varint(&mut out, 8);
        out.put_i64(hash);
        out.freeze()
    });
    Record { key: key(GROUP, group, None), value }
}

pub(super) fn member(group: &GroupId, id: &str, value: Option<&Profile>) -> Record {
    let value = value.map(|profile| {
        let mut out = begin();
        put_compact(&mut out, profile.instance.as_deref());
        put_compact(&mut out, profile.rack.as_deref());
        put_compact(&mut out, Some(&profile.client_id));
        put_compact(&mut out, Some(&profile.client_host));
        put_names(&mut out, &profile.topics);
        put_compact(&mut out, profile.regex.as_deref());
        let timeout = i32::try_from(profile.rebalance_timeout.as_millis());
        out.put_i32(timeout.unwrap_or(i32::MAX));
        put_compact(&mut out, profile.assignor.map(Assignor::name));
        match &profile.classic {
            Some(classic) => {
                put_varint(&mut out, 1);
                put_classic(&mut out, classic);
                out.freeze()
            }
            None => end(out),
        }
    });
    Record { key: key(MEMBER, group, Some(id)), value }
}

pub(super) fn target_epoch(group: &GroupId, value: Option<i32>) -> Record {
    let value = value.map(|epoch| {
        let mut out = begin();
        out.put_i32(epoch);
        end(out)
    });
    Record { key: key(TARGET_EPOCH, group, None), value }
}

pub(super) fn target(group: &GroupId, id: &str, value: Option<&Share>) -> Record {
    let value = value.map(|share| {
        let mut out = begin();
        put_share(&mut out, share);
        end(out)
    });
    Record { key: key(TARGET, group, Some(id)), value }
}

pub(super) fn current(group: &GroupId, id: &str, value: Option<&Current>) -> Record {
    let value = value.map(|current| {
        let mut out = begin();
        out.put_i32(current.epoch);
        out.put_i32(current.previous_epoch);
        out.put_i8(match current.progress {
            Progress::Stable => 0,
            Progress::Revoking => 1,
            Progress::Waiting => 2,
        });
        put_share(&mut out, &current.assigned);
        put_share(&mut out, &current.revoking);
        end(out)
    });
    Record { key: key(CURRENT, group, Some(id)), value }
}

pub(super) fn regex(
    group: &GroupId,
    pattern: &str,
    value: Option<(&BTreeSet<TopicName>, u64, Timestamp)>,
) -> Record {
    let value = value.map(|(names, version, at)| {
        let mut out = begin();
        put_names(&mut out, names);
        out.put_i64(version.cast_signed());
        out.put_i64(at.0);
        end(out)
    });
    Record { key: key(REGEX, group, Some(pattern)), value }
}

/// The tagged field of a member that speaks the classic protocol.
fn put_classic(out: &mut BytesMut, classic: &Classic) {
    let mut field = BytesMut::new();
    // Kafka marks a structure that may be absent: 1 for one that is there.
    field.put_u8(1);
    field.put_i32(i32::try_from(classic.session_timeout.as_millis()).unwrap_or(i32::MAX));
    put_len(&mut field, classic.protocols.len());
    for Protocol { name, metadata } in &classic.protocols {
        put_compact(&mut field, Some(name));
        put_len(&mut field, metadata.len());
        field.put_slice(metadata);
        put_varint(&mut field, 0);
    }
    put_varint(&mut field, 0);
    put_varint(out, CLASSIC_TAG);
    put_varint(out, u32::try_from(field.len()).expect("what members say is bounded at the door"));
    out.put_slice(&field);
}

fn key(version: i16, group: &GroupId, of: Option<&str>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(version);
    put_text(&mut out, group.as_str());
    if let Some(of) = of {
        put_text(&mut out, of);
    }
    out.freeze()
}

fn begin() -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i16(VALUE_VERSION);
    out
}

/// Ends a structure that has no tagged fields.
fn end(mut out: BytesMut) -> Bytes {
    put_varint(&mut out, 0);
    out.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: u32) {
    while 0x7f < value {
        out.put_u8(u8::try_from(value & 0x7f).expect("seven bits fit eight") | 0x80);
        value >>= 7;
    }
    out.put_u8(u8::try_from(value).expect("what is left is seven bits"));
}

/// Lengths and counts are written plus one: 0 is null.
fn put_len(out: &mut BytesMut, len: usize) {
    put_varint(out, u32::try_from(len + 1).expect("what members say is bounded at the door"));
}

fn put_compact(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => {
            put_len(out, text.len());
            out.put_slice(text.as_bytes());
        }
        None => out.put_u8(0),
    }
}

fn put_names(out: &mut BytesMut, names: &BTreeSet<TopicName>) {
    put_len(out, names.len());
    for name in names {
        put_compact(out, Some(name.as_str()));
    }
}

fn put_share(out: &mut BytesMut, share: &Share) {
    put_len(out, share.len());
    for (topic, partitions) in share {
        out.put_slice(topic.0.as_bytes());
        put_len(out, partitions.len());
        for partition in partitions {
            out.put_i32(partition.0);
        }
        put_varint(out, 0);
    }
}

/// Reads the rest of a key of this version, and its value. `None` for other versions.
pub(in crate::group) fn decode(
    version: i16,
    key: &mut Input,
    value: Option<&Bytes>,
) -> Result<Option<Entry>, Malformed> {
    let mut value = value.map(|value| Input(value.clone()));
    if let Some(input) = &mut value
        && (GROUP..=REGEX).contains(&version)
    {
        input.i16("value version")?;
    }
    let value = value.as_mut();
    Ok(Some(match version {
        GROUP => Entry::Group(value.map(take_group).transpose()?),
        MEMBER => {
            let id = key.text("member id")?;
            Entry::Member(id, value.map(take_member).transpose()?.map(Box::new))
        }
        TARGET_EPOCH => {
            Entry::TargetEpoch(value.map(|input| input.i32("assignment epoch")).transpose()?)
        }
        TARGET => Entry::Target(key.text("member id")?, value.map(take_share).transpose()?),
        CURRENT => Entry::Current(key.text("member id")?, value.map(take_current).transpose()?),
        REGEX => Entry::Regex(key.text("pattern")?, value.map(take_names).transpose()?),
        _ => return Ok(None),
    }))
}

/// Whether records of this key version are read here.
pub(in crate::group) fn is_known(version: i16) -> bool {
    [GROUP, MEMBER, TARGET_EPOCH, TARGET, CURRENT, REGEX].contains(&version)
}

fn take_group(input: &mut Input) -> Result<(i32, i64), Malformed> {
    let epoch = input.i32("group epoch")?;
    let mut hash = 0;
    for (tag, mut field) in take_tagged(input)? {
        if tag == HASH_TAG {
            hash = field.i64("metadata hash")?;
        }
    }
    Ok((epoch, hash))
}

fn take_member(input: &mut Input) -> Result<Member, Malformed> {
    let instance = take_compact(input, "instance")?;
    let rack = take_compact(input, "rack")?;
    let client_id = take_compact(input, "client id")?.unwrap_or_default();
    let client_host = take_compact(input, "client host")?.unwrap_or_default();
    let topics = take_names(input)?;
    let regex = take_compact(input, "pattern")?.filter(|pattern| !pattern.is_empty());
    let timeout = u64::try_from(input.i32("rebalance timeout")?).unwrap_or(0);
    let assignor = take_compact(input, "assignor")?;
    let mut fields = take_tagged(input)?;
    let classic = fields.get_mut(&CLASSIC_TAG).map(take_classic).transpose()?.flatten();
    Ok(Member(Profile {
        instance: instance.map(Arc::from),
        rack,
        client_id,
        client_host,
        rebalance_timeout: Duration::from_millis(timeout),
        topics,
        regex,
        assignor: assignor.as_deref().and_then(Assignor::from_name),
        classic,
    }))
}

fn take_classic(input: &mut Input) -> Result<Option<Classic>, Malformed> {
    let is_there = input.0.try_get_i8().map_err(|_end| Malformed { field: "classic member" })?;
    if is_there < 0 {
        return Ok(None);
    }
    let session_timeout = u64::try_from(input.i32("session timeout")?).unwrap_or(0);
    let mut protocols = Vec::new();
    for _ in 0..take_len(input, "protocols")?.unwrap_or(0) {
        let name = take_compact(input, "protocol")?.unwrap_or_default();
        let len = take_len(input, "subscription")?.unwrap_or(0);
        // A copy: the group outlives the batch.
        let metadata = Bytes::copy_from_slice(&input.take(len, "subscription")?);
        take_tagged(input)?;
        protocols.push(Protocol { name, metadata });
    }
    take_tagged(input)?;
    Ok(Some(Classic { session_timeout: Duration::from_millis(session_timeout), protocols }))
}

fn take_current(input: &mut Input) -> Result<Current, Malformed> {
    Ok(Current {
        epoch: input.i32("member epoch")?,
        previous_epoch: input.i32("previous member epoch")?,
        progress: match input.0.try_get_i8() {
            Ok(0) => Progress::Stable,
            Ok(1) => Progress::Revoking,
            Ok(2) => Progress::Waiting,
            Ok(_) | Err(_) => return Err(Malformed { field: "member state" }),
        },
        assigned: take_share(input)?,
        revoking: take_share(input)?,
    })
}

fn take_varint(input: &mut Input, field: &'static str) -> Result<u32, Malformed> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = input.0.try_get_u8().map_err(|_end| Malformed { field })?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed { field })
}

/// A length or count; `None` for null.
fn take_len(input: &mut Input, field: &'static str) -> Result<Option<i32>, Malformed> {
    let len = i32::try_from(take_varint(input, field)?).map_err(|_long| Malformed { field })?;
    Ok(len.checked_sub(1).filter(|len| 0 <= *len))
}

fn take_compact(input: &mut Input, field: &'static str) -> Result<Option<String>, Malformed> {
    let Some(len) = take_len(input, field)? else { return Ok(None) };
    let bytes = input.take(len, field)?;
    let text = std::str::from_utf8(&bytes).map_err(|_not_utf8| Malformed { field })?;
    Ok(Some(text.to_owned()))
}

fn take_names(input: &mut Input) -> Result<BTreeSet<TopicName>, Malformed> {
    let mut names = BTreeSet::new();
    // Nothing is reserved for counts: each element takes input, and the input ends.
    for _ in 0..take_len(input, "topics")?.unwrap_or(0) {
        let name = take_compact(input, "topic")?.unwrap_or_default();
        names.extend(TopicName::new(&name).ok());
    }
    Ok(names)
}

fn take_share(input: &mut Input) -> Result<Share, Malformed> {
    let mut share = Share::new();
    for _ in 0..take_len(input, "assigned topics")?.unwrap_or(0) {
        let id = input.take(16, "topic id")?;
        let id = Uuid::from_slice(&id).map_err(|_length| Malformed { field: "topic id" })?;
        let partitions: &mut BTreeSet<_> = share.entry(TopicId(id)).or_default();
        for _ in 0..take_len(input, "assigned partitions")?.unwrap_or(0) {
            partitions.insert(PartitionIndex(input.i32("assigned partition")?));
        }
        take_tagged(input)?;
    }
    Ok(share)
}

fn take_tagged(input: &mut Input) -> Result<BTreeMap<u32, Input>, Malformed> {
    let mut fields = BTreeMap::new();
    for _ in 0..take_varint(input, "tagged fields")? {
        let tag = take_varint(input, "tag")?;
        let len = i32::try_from(take_varint(input, "tagged field")?);
        let len = len.map_err(|_long| Malformed { field: "tagged field" })?;
        fields.insert(tag, Input(input.take(len, "tagged field")?));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests;
