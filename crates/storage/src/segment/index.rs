//! Pure: the sparse index of a segment: which batch begins where, every 16 KiB or so.
//!
//! Its bytes follow from the segment file alone, so that a lost or damaged index is made again with
//! the same bytes, in place, even while the segment's writer goes on appending to it.
#![deny(clippy::indexing_slicing)]

use bytes::{Buf as _, BufMut as _};
use rafka_core::{Offset, Timestamp};

use super::format::{self, Identity};

/// A batch gets an entry when it begins at least this far behind the last one that got one.
///
/// 16 KiB is what a look-up reads in vain on the average-sized log; a GiB then has 1.3 MiB of index.
pub(crate) const INTERVAL: u64 = 16 * 1024;

/// The size of the file's header in bytes.
pub(crate) const HEADER_LEN: usize = 20;

/// The size of an entry in bytes.
pub(crate) const ENTRY_LEN: usize = 20;

const MAGIC: [u8; 8] = *b"RAFKAIDX";

/// One batch of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The batch's base offset, less the segment's.
    pub(crate) relative: u32,
    /// Where the batch's frame begins in the segment file.
    pub(crate) position: u32,
    /// The largest timestamp of all batches before this one.
    pub(crate) max_before: Timestamp,
}

impl Entry {
    /// The batch's base offset.
    pub(crate) fn offset(&self, base: Offset) -> Offset {
        base + i64::from(self.relative)
    }

    pub(crate) fn encode(&self, seed: u32) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        let mut out = bytes.as_mut_slice();
        out.put_u32(self.relative);
        out.put_u32(self.position);
        out.put_i64(self.max_before.0);
        out.put_u32(self.checksum(seed));
        bytes
    }

    /// `None` if the bytes are not an entry of the segment with this seed.
    pub(crate) fn decode(seed: u32, bytes: &[u8]) -> Option<Self> {
        let mut bytes: &[u8] = bytes.first_chunk::<ENTRY_LEN>()?;
        let entry = Self {
            relative: bytes.get_u32(),
            position: bytes.get_u32(),
            max_before: Timestamp(bytes.get_i64()),
        };
        (bytes.get_u32() == entry.checksum(seed)).then_some(entry)
    }

    fn checksum(&self, seed: u32) -> u32 {
        let mut bytes = [0; 20];
        let mut out = bytes.as_mut_slice();
        out.put_u32(seed);
        out.put_u32(self.relative);
        out.put_u32(self.position);
        out.put_i64(self.max_before.0);
        crc_fast::crc32_iscsi(&bytes)
    }
}

/// The header of the index of the segment with this identity.
pub(crate) fn header(identity: &Identity) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    let mut out = bytes.as_mut_slice();
    out.put_slice(&MAGIC);
    out.put_u32(format::VERSION);
    out.put_u32(identity.seed());
    out.put_u32(header_checksum(format::VERSION, identity.seed()));
    bytes
}

/// The seed of the segment that the index belongs to.
pub(crate) fn parse_header(bytes: &[u8]) -> Result<u32, format::HeaderError> {
    let damaged = format::HeaderError::Damaged;
    let mut bytes: &[u8] = bytes.first_chunk::<HEADER_LEN>().ok_or(damaged("it is cut off"))?;
    let mut magic = [0; 8];
    bytes.copy_to_slice(&mut magic);
    if magic != MAGIC {
        return Err(damaged("it does not begin as an index does"));
    }
    let (version, seed) = (bytes.get_u32(), bytes.get_u32());
    if version != format::VERSION {
        return Err(format::HeaderError::Version(version));
    }
    if bytes.get_u32() != header_checksum(version, seed) {
        return Err(damaged("its checksum does not fit"));
    }
    Ok(seed)
}

fn header_checksum(version: u32, seed: u32) -> u32 {
    let mut bytes = [0; 16];
    let mut out = bytes.as_mut_slice();
    out.put_slice(&MAGIC);
    out.put_u32(version);
    out.put_u32(seed);
    crc_fast::crc32_iscsi(&bytes)
}

/// Where the entry with this number begins in the file.
pub(crate) fn entry_position(number: u32) -> u64 {
    HEADER_LEN as u64 + u64::from(number) * ENTRY_LEN as u64
}

/// The one rule by which batches get entries. Writer and rebuilding both follow it.
#[derive(Debug, Clone)]
pub(crate) struct Marker {
    base: Offset,
    marked: u64,
    max_before: Timestamp,
}

impl Marker {
    /// At the start of a segment, which needs no entry.
    pub(crate) fn new(base: Offset) -> Self {
        Self { base, marked: format::HEADER_LEN as u64, max_before: Timestamp::NONE }
    }

    /// Behind a batch: `marked` is the position of the last entry, `max_timestamp` that of the
    /// segment so far.
    pub(crate) fn resume(base: Offset, marked: Option<Entry>, max_timestamp: Timestamp) -> Self {
        let marked = marked.map_or(format::HEADER_LEN as u64, |entry| u64::from(entry.position));
        Self { base, marked, max_before: max_timestamp }
    }

    /// Passes the batch at this position; the entry that it gets, if any.
    pub(crate) fn pass(
        &mut self,
        position: u64,
        base_offset: Offset,
        max_timestamp: Timestamp,
    ) -> Option<Entry> {
        let due = INTERVAL <= position.saturating_sub(self.marked);
        let entry = due.then(|| self.entry(position, base_offset)).flatten();
        if entry.is_some() {
            self.marked = position;
        }
        self.max_before = self.max_before.max(max_timestamp);
        entry
    }

    fn entry(&self, position: u64, base_offset: Offset) -> Option<Entry> {
        Some(Entry {
            relative: u32::try_from(base_offset - self.base).ok()?,
            position: u32::try_from(position).ok()?,
            max_before: self.max_before,
        })
    }
}
