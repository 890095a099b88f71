//! Pure: the bytes of the manifest's values.
#![deny(clippy::indexing_slicing)]

use bytes::{Buf, BufMut as _, TryGetError};
use rafka_core::batch::Outcome;
use rafka_core::producer_state::Ended;
use rafka_core::{
    Epoch, EpochHistory, Offset, PartitionIndex, ProducerId, Timestamp, TopicId, TopicPartition,
};
use uuid::Uuid;

use super::{Checkpoint, Covered, Lane};
use crate::journal::Sequence;
use crate::segment::Segment;

/// The version of a checkpoint's bytes.
pub(super) const VERSION: u8 = 2;

const NAME_LEN: usize = 20;
const LANE_LEN: usize = 17;
const ABORTED_LEN: usize = 24;
const SEGMENT_LEN: usize = 64;
const EPOCH_LEN: usize = 12;

/// The bytes are no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Error {
    /// Of a version that we do not know.
    Version(u8),
    /// Not what we write.
    Malformed(&'static str),
}

impl From<TryGetError> for Error {
    fn from(_missing: TryGetError) -> Self {
        Self::Malformed("it is cut off")
    }
}

pub(super) fn encode_name(name: &TopicPartition) -> [u8; NAME_LEN] {
    let mut bytes = [0; NAME_LEN];
    let mut out = bytes.as_mut_slice();
    out.put_u128(name.topic.0.as_u128());
    out.put_i32(name.partition.0);
    bytes
}

pub(super) fn decode_name(bytes: &[u8]) -> Option<TopicPartition> {
    let mut bytes: &[u8] = <&[u8; NAME_LEN]>::try_from(bytes).ok()?;
    let topic = TopicId(Uuid::from_u128(bytes.get_u128()));
    Some(TopicPartition { topic, partition: PartitionIndex(bytes.get_i32()) })
}

pub(super) fn encode_lane(lane: &Lane) -> [u8; LANE_LEN] {
    let mut bytes = [0; LANE_LEN];
    let mut out = bytes.as_mut_slice();
    out.put_u8(lane.in_use.into());
    out.put_u64(lane.file);
    out.put_u64(lane.released.0);
    bytes
}

pub(super) fn decode_lane(bytes: &[u8]) -> Option<Lane> {
    let mut bytes: &[u8] = <&[u8; LANE_LEN]>::try_from(bytes).ok()?;
    let in_use = match bytes.get_u8() {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(Lane { in_use, file: bytes.get_u64(), released: Sequence(bytes.get_u64()) })
}

/// An aborted transaction without the offset of its marker, which is in the key.
pub(super) fn encode_aborted(ended: &Ended) -> [u8; ABORTED_LEN] {
    let mut bytes = [0; ABORTED_LEN];
    let mut out = bytes.as_mut_slice();
    out.put_i64(ended.producer.0);
    out.put_i64(ended.first_offset.0);
    out.put_i64(ended.last_stable_offset.0);
    bytes
}

pub(super) fn decode_aborted(last_offset: Offset, bytes: &[u8]) -> Option<Ended> {
    let mut bytes: &[u8] = <&[u8; ABORTED_LEN]>::try_from(bytes).ok()?;
    Some(Ended {
        producer: ProducerId(bytes.get_i64()),
        first_offset: Offset(bytes.get_i64()),
        last_offset,
        last_stable_offset: Offset(bytes.get_i64()),
        outcome: Outcome::Abort,
    })
}

pub(super) fn encode(checkpoint: &Checkpoint) -> Vec<u8> {
    let Checkpoint { start, end, covered, generation, compacted, segments, epochs } = checkpoint;
    let epochs = epochs.entries();
    let lens = segments.len() * SEGMENT_LEN + epochs.len() * EPOCH_LEN;
    let mut out = Vec::with_capacity(64 + lens);
    out.put_u8(VERSION);
    out.put_i64(start.0);
    out.put_i64(end.0);
    out.put_u64(covered.fsync);
    out.put_u64(covered.os);
    out.put_u32(*generation);
    out.put_i64(compacted.0);
    out.put_u32(count(segments.len()));
    for segment in segments {
        put_segment(&mut out, segment);
    }
    out.put_u32(count(epochs.len()));
    for (epoch, offset) in epochs {
        out.put_i32(epoch.0);
        out.put_i64(offset.0);
    }
    out
}

pub(super) fn decode(mut bytes: &[u8]) -> Result<Checkpoint, Error> {
    let version = bytes.try_get_u8()?;
    if version != VERSION {
        return Err(Error::Version(version));
    }
    let (start, end) = (Offset(bytes.try_get_i64()?), Offset(bytes.try_get_i64()?));
    let covered = Covered { fsync: bytes.try_get_u64()?, os: bytes.try_get_u64()? };
    let generation = bytes.try_get_u32()?;
    let compacted = Offset(bytes.try_get_i64()?);
    let segments = take_list(&mut bytes, SEGMENT_LEN, take_segment)?;
    let epochs = take_list(&mut bytes, EPOCH_LEN, |bytes| {
        Ok((Epoch(bytes.try_get_i32()?), Offset(bytes.try_get_i64()?)))
    })?;
    let ascending =
        |pair: &[(Epoch, Offset)]| matches!(pair, [low, high] if low.0 < high.0 && low.1 <= high.1);
    if !epochs.windows(2).all(ascending) {
        return Err(Error::Malformed("its epochs do not ascend"));
    }
    if !bytes.is_empty() {
        return Err(Error::Malformed("something follows its epochs"));
    }
    let apart = |pair: &[Segment]| matches!(pair, [low, high] if low.end <= high.base);
    if !segments.windows(2).all(apart) || segments.iter().any(|s| s.end < s.base) {
        return Err(Error::Malformed("its segments do not ascend"));
    }
    Ok(Checkpoint {
        start,
        end,
        covered,
        generation,
        compacted,
        segments,
        epochs: EpochHistory::from_entries(epochs),
    })
}

fn put_segment(out: &mut Vec<u8>, segment: &Segment) {
    out.put_i64(segment.base.0);
    out.put_u32(segment.generation);
    out.put_i64(segment.end.0);
    out.put_u64(segment.file_len);
    out.put_u64(segment.batch_bytes);
    out.put_u32(segment.index_entries);
    out.put_i64(segment.max_timestamp.0);
    out.put_i64(segment.first_append.0);
    out.put_i64(segment.last_append.0);
}

fn take_segment(bytes: &mut &[u8]) -> Result<Segment, Error> {
    Ok(Segment {
        base: Offset(bytes.try_get_i64()?),
        generation: bytes.try_get_u32()?,
        end: Offset(bytes.try_get_i64()?),
        file_len: bytes.try_get_u64()?,
        batch_bytes: bytes.try_get_u64()?,
        index_entries: bytes.try_get_u32()?,
        max_timestamp: Timestamp(bytes.try_get_i64()?),
        first_append: Timestamp(bytes.try_get_i64()?),
        last_append: Timestamp(bytes.try_get_i64()?),
    })
}

/// Takes a counted list whose items have `item_len` bytes each.
fn take_list<T>(
    bytes: &mut &[u8],
    item_len: usize,
    mut take: impl FnMut(&mut &[u8]) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let count = usize::try_from(bytes.try_get_u32()?).unwrap_or(usize::MAX);
    if bytes.remaining() / item_len < count {
        return Err(Error::Malformed("a count goes beyond it"));
    }
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(take(bytes)?);
    }
    Ok(items)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("a log has fewer than 2^32 segments and epochs")
}
