//! Pure: the bytes of a segment file: its header, and the frame around each batch.
#![deny(clippy::indexing_slicing)]

use bytes::{Buf as _, BufMut as _};
use rafka_core::batch::{self, Attributes};
use rafka_core::{Offset, PartitionIndex, ProducerId, Timestamp, TopicId, TopicPartition};

/// The version of segment and index files that this build writes, and the only one it reads.
pub(crate) const VERSION: u32 = 1;

/// The file header's size in bytes.
pub(crate) const HEADER_LEN: usize = 48;

/// What stands before each batch, in bytes.
pub(crate) const FRAME_LEN: usize = 16;

/// A frame with the batch header that its checksum looks into: as much as must be there before
/// anything is believed.
pub(crate) const FRAME_AND_BATCH_HEADER_LEN: usize = FRAME_LEN + batch::HEADER_LEN;

/// Positions are 32-bit numbers in the index.
pub(crate) const FILE_LEN_MAX: u64 = u32::MAX as u64;

const MAGIC: [u8; 8] = *b"RAFKASEG";

/// The bytes of the batch header that the batch's own CRC leaves out: base offset, length, leader
/// epoch, magic, and the CRC itself.
const UNCOVERED_LEN: usize = 21;

/// Who a segment file is. Every checksum in the file begins with it, so that the bytes of another
/// file, or of another place in this one, are never taken for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The log.
    pub(crate) name: TopicPartition,
    /// The segment's base offset.
    pub(crate) base: Offset,
    /// The segment's generation.
    pub(crate) generation: u32,
}

/// Why a header was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// A version that we do not know.
    Version(u32),
    /// Not a header of ours, or damaged.
    Damaged(&'static str),
}

impl Identity {
    pub(crate) fn header(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut out = bytes.as_mut_slice();
        out.put_slice(&MAGIC);
        out.put_u32(VERSION);
        out.put_u32(self.generation);
        out.put_u128(self.name.topic.0.as_u128());
        out.put_i32(self.name.partition.0);
        out.put_i64(self.base.0);
        let crc = self.seed();
        out.put_u32(crc);
        bytes
    }

    /// The header's checksum, which seeds all others of the file.
    pub(crate) fn seed(&self) -> u32 {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.put_slice(&MAGIC);
        bytes.put_u32(VERSION);
        bytes.put_u32(self.generation);
        bytes.put_u128(self.name.topic.0.as_u128());
        bytes.put_i32(self.name.partition.0);
        bytes.put_i64(self.base.0);
        crc_fast::crc32_iscsi(&bytes)
    }

    pub(crate) fn parse(mut bytes: &[u8]) -> Result<Self, HeaderError> {
        let covered = bytes.get(..HEADER_LEN - 4).ok_or(HeaderError::Damaged("it is cut off"))?;
        let found = crc_fast::crc32_iscsi(covered);
        let mut magic = [0; 8];
        bytes.copy_to_slice(&mut magic);
        if magic != MAGIC {
            return Err(HeaderError::Damaged("it does not begin as a segment does"));
        }
        let version = bytes.get_u32();
        let generation = bytes.get_u32();
        let topic = TopicId(uuid::Uuid::from_u128(bytes.get_u128()));
        let partition = PartitionIndex(bytes.get_i32());
        let base = Offset(bytes.get_i64());
        // The version comes first: other versions may keep their checksum elsewhere.
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        if bytes.try_get_u32() != Ok(found) {
            return Err(HeaderError::Damaged("its checksum does not fit"));
        }
        Ok(Self { name: TopicPartition { topic, partition }, base, generation })
    }
}

/// A frame whose checksum fits. The batch in it may still be damaged behind its first 21 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Where in the file the frame begins.
    pub(crate) position: u64,
    /// The batch's base offset.
    pub(crate) base_offset: Offset,
    /// The batch's length.
    pub(crate) batch_len: usize,
    /// When compaction first looked at this batch together with everything before it.
    pub(crate) compacted_at: Option<Timestamp>,
    /// What the batch header says beyond this frame's checksum. Only hints.
    pub(crate) unverified: Unverified,
}

/// Fields of the batch header that only the batch's own CRC vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unverified {
    pub(crate) attributes: Attributes,
    pub(crate) last_offset_delta: i32,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) producer_id: ProducerId,
}

impl Frame {
    /// Where the batch begins.
    pub(crate) fn batch_position(&self) -> u64 {
        self.position + FRAME_LEN as u64
    }

    /// Where the next frame begins.
    pub(crate) fn end(&self) -> u64 {
        self.batch_position() + self.batch_len as u64
    }
}

/// The frame for a batch that is written at `position`.
pub(crate) fn frame(
    seed: u32,
    position: u64,
    header: &[u8; batch::HEADER_LEN],
    batch_len: usize,
    compacted_at: Option<Timestamp>,
) -> [u8; FRAME_LEN] {
    let length = u32::try_from(batch_len).expect("batches are bounded far below 2 GiB");
    let compacted_at = compacted_at.unwrap_or(Timestamp::NONE).0;
    let uncovered = header.first_chunk().expect("a batch header is longer than its first part");
    let mut bytes = [0; FRAME_LEN];
    let mut out = bytes.as_mut_slice();
    out.put_u32(length);
    out.put_u32(checksum(seed, position, (length, compacted_at), uncovered));
    out.put_i64(compacted_at);
    bytes
}

/// Whether a frame may begin here: what can be told without a checksum.
pub(crate) fn is_plausible(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.first_chunk::<FRAME_AND_BATCH_HEADER_LEN>().map(|b| &b[..]) else {
        return false;
    };
    let length = rest.get_u32();
    rest.advance(12 + 8);
    let inner_length = rest.get_u32();
    rest.advance(4);
    rest.get_u8() == 2
        && inner_length.checked_add(12) == Some(length)
        && batch::HEADER_LEN as u64 <= u64::from(length)
}

/// The frame at the start of `bytes`, which lie at `position`; `None` if it is not sound.
pub(crate) fn parse_frame(seed: u32, position: u64, bytes: &[u8]) -> Option<Frame> {
    if !is_plausible(bytes) {
        return None;
    }
    let mut rest: &[u8] = bytes.first_chunk::<FRAME_AND_BATCH_HEADER_LEN>()?;
    let length = rest.get_u32();
    let crc = rest.get_u32();
    let compacted_at = rest.get_i64();
    let uncovered = rest.first_chunk::<UNCOVERED_LEN>()?;
    if crc != checksum(seed, position, (length, compacted_at), uncovered) {
        return None;
    }
    let base_offset = Offset(rest.get_i64());
    rest.advance(4 + 4 + 1 + 4);
    let attributes = Attributes(rest.get_i16());
    let last_offset_delta = rest.get_i32();
    rest.advance(8);
    let max_timestamp = Timestamp(rest.get_i64());
    let producer_id = ProducerId(rest.get_i64());
    (0 <= base_offset.0).then_some(Frame {
        position,
        base_offset,
        batch_len: usize::try_from(length).ok()?,
        compacted_at: (0 <= compacted_at).then_some(Timestamp(compacted_at)),
        unverified: Unverified { attributes, last_offset_delta, max_timestamp, producer_id },
    })
}

fn checksum(
    seed: u32,
    position: u64,
    (length, compacted_at): (u32, i64),
    uncovered: &[u8; UNCOVERED_LEN],
) -> u32 {
    let mut bytes = [0; 4 + 8 + 4 + 8 + UNCOVERED_LEN];
    let mut out = bytes.as_mut_slice();
    out.put_u32(seed);
    out.put_u64(position);
    out.put_u32(length);
    out.put_i64(compacted_at);
    out.put_slice(uncovered);
    crc_fast::crc32_iscsi(&bytes)
}
