//! Pure: the bytes of a journal file: its header block, and its records.

use bytes::{BufMut as _, Bytes};
use crc_fast::{CrcAlgorithm, Digest};
use rafka_core::{Batch, Offset};
use uuid::Uuid;

use super::{Entry, Sequence};
use crate::{Durability, LogId};

/// Groups of records begin at multiples of this.
pub(super) const BLOCK: u64 = crate::disk::BLOCK as u64;
/// The format version that we write, and the newest that we read.
pub(super) const VERSION: u32 = 3;
/// The bytes of a record before its payload.
pub(super) const RECORD_HEADER_LEN: usize = 40;
/// Records begin at multiples of this, so that no length field crosses a block.
const RECORD_ALIGNMENT: usize = 8;

const MAGIC: [u8; 8] = *b"RAFKAJNL";
const FILE_HEADER_LEN: usize = 76;
const FILE_CRC_AT: usize = 72;
const RECORD_CRC_AT: usize = 4;
/// The checksum of the header alone, so that no length is believed before it is known to be one: a
/// search for records among payloads would otherwise read as far as they like.
const HEADER_CRC_AT: usize = 36;

/// What the header block of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) lane: Durability,
    /// The number in the file's name, higher than that of any file before, whatever became of it.
    pub(super) incarnation: u64,
    /// Random, so that the checksums of this file cannot be foreseen.
    pub(super) salt: u64,
    /// The bytes of the file that may hold records, header block included.
    pub(super) capacity: u64,
    pub(super) start: Start,
    /// Whose journal it is.
    pub(super) node: Uuid,
}

/// How the records of a file join those of the file before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// The first file of a process. Of what earlier files hold, only records below `cut` count;
    /// those below it were all there. Its own records begin at `first`.
    Process { cut: Sequence, first: Sequence },
    /// The same process goes on where its previous file ends.
    Continues,
}

/// Why a header block is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderError {
    Damaged(&'static str),
    Version(u32),
}

/// The state that a file's checksums begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(u64);

impl Seed {
    /// The seed of no file in particular: what a mutant uses.
    pub(super) const NONE: Self = Self(0);

    /// The checksum of what begins with a record's length, its own field taken as 0.
    fn crc_of(self, record: &[u8]) -> u32 {
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, self.0);
        digest.update(&record[..RECORD_CRC_AT]);
        digest.update(&[0; 4]);
        digest.update(&record[RECORD_CRC_AT + 4..]);
        u32::try_from(digest.finalize()).expect("a CRC-32C has 32 bits")
    }
}

impl FileHeader {
    pub(super) fn seed(&self) -> Seed {
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        digest.update(&self.incarnation.to_le_bytes());
        digest.update(&self.salt.to_le_bytes());
        Seed(digest.get_state())
    }

    /// The header block. `out` is [`BLOCK`] long and zeroed.
    pub(super) fn encode(&self, out: &mut [u8]) {
        let (kind, cut, first) = match self.start {
            Start::Process { cut, first } => (1, cut.0, first.0),
            Start::Continues => (2, 0, 0),
        };
        let mut fields = &mut out[..FILE_CRC_AT];
        fields.put_slice(&MAGIC);
        fields.put_u32_le(VERSION);
        fields.put_u8(lane_code(self.lane));
        fields.put_u8(kind);
        fields.put_u16_le(0);
        fields.put_u64_le(self.incarnation);
        fields.put_u64_le(self.salt);
        fields.put_u64_le(self.capacity);
        fields.put_u64_le(cut);
        fields.put_u64_le(first);
        fields.put_slice(self.node.as_bytes());
        let crc = crc_fast::crc32_iscsi(&out[..FILE_CRC_AT]);
        out[FILE_CRC_AT..FILE_HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
    }

    pub(super) fn parse(block: &[u8]) -> Result<Self, HeaderError> {
        let damaged = |what| Err(HeaderError::Damaged(what));
        let Some(block) = block.first_chunk::<FILE_HEADER_LEN>() else {
            return damaged("the file is shorter than its header");
        };
        if block[..8] != MAGIC {
            return damaged("it does not begin as a journal file does");
        }
        let version = u32_at(block, 8);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        if u32_at(block, FILE_CRC_AT) != crc_fast::crc32_iscsi(&block[..FILE_CRC_AT]) {
            return damaged("the checksum of the file header does not fit");
        }
        let lane = match block[12] {
            0 => Durability::Fsync,
            1 => Durability::Os,
            _ => return damaged("the file header names an unknown lane"),
        };
        let start = match block[13] {
            1 => Start::Process {
                cut: Sequence(u64_at(block, 40)),
                first: Sequence(u64_at(block, 48)),
            },
            2 => Start::Continues,
            _ => return damaged("the file header names an unknown way to start"),
        };
        Ok(Self {
            lane,
            incarnation: u64_at(block, 16),
            salt: u64_at(block, 24),
            capacity: u64_at(block, 32),
            start,
            node: Uuid::from_bytes(*field_at(block, 56)),
        })
    }
}

fn lane_code(lane: Durability) -> u8 {
    match lane {
        Durability::Fsync => 0,
        Durability::Os => 1,
    }
}

fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes(*field_at(bytes, at))
}

fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from_le_bytes(*field_at(bytes, at))
}

fn field_at<const N: usize, const LEN: usize>(bytes: &[u8; N], at: usize) -> &[u8; LEN] {
    bytes[at..].first_chunk().expect("fields lie within the fixed length")
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Append,
    Truncate,
    /// Nothing but its position: it closes the prefix when the journal goes idle.
    Seal,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Append => 1,
            Self::Truncate => 2,
            Self::Seal => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Append, Self::Truncate, Self::Seal].into_iter().find(|kind| kind.code() == code)
    }
}

/// The fields of a record before its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    /// The whole record, without padding.
    pub(super) len: u32,
    pub(super) crc: u32,
    pub(super) sequence: Sequence,
    /// Everything below this was durable when the record was written.
    pub(super) durable: Sequence,
    pub(super) log: LogId,
    pub(super) kind: Kind,
}

impl RecordHeader {
    /// The header, if these bytes are one of this file. The payload's checksum is not looked at.
    pub(super) fn parse(bytes: &[u8], seed: Seed) -> Option<Self> {
        let bytes = bytes.first_chunk::<RECORD_HEADER_LEN>()?;
        if u32_at(bytes, HEADER_CRC_AT) != seed.crc_of(&bytes[..HEADER_CRC_AT]) {
            return None;
        }
        let header = Self {
            len: u32_at(bytes, 0),
            crc: u32_at(bytes, RECORD_CRC_AT),
            sequence: Sequence(u64_at(bytes, 8)),
            durable: Sequence(u64_at(bytes, 16)),
            log: LogId(u64_at(bytes, 24)),
            kind: Kind::from_code(bytes[32])?,
        };
        let sound = RECORD_HEADER_LEN <= header.len()
            && bytes[33..HEADER_CRC_AT] == [0; 3]
            && header.durable <= header.sequence;
        sound.then_some(header)
    }

    pub(super) fn len(&self) -> usize {
        usize::try_from(self.len).expect("32 bits fit a length")
    }

    /// Whether the checksum of the whole record fits.
    pub(super) fn vouches_for(&self, record: &[u8], seed: Seed) -> bool {
        RECORD_HEADER_LEN <= record.len() && seed.crc_of(record) == self.crc
    }

    /// What the payload says. `None` for a seal.
    ///
    /// # Errors
    /// If the payload does not fit the kind: then it was not written by us.
    pub(super) fn entry(&self, payload: &[u8]) -> Result<Option<Entry>, String> {
        let log = self.log;
        match self.kind {
            Kind::Seal => Ok(None),
            Kind::Truncate => match payload.first_chunk() {
                Some(end) if payload.len() == end.len() => {
                    Ok(Some(Entry::Truncate { log, end: Offset(i64::from_le_bytes(*end)) }))
                }
                _ => Err("the payload of a truncation has the wrong length".to_owned()),
            },
            Kind::Append => match Batch::parse_trusted(Bytes::copy_from_slice(payload)) {
                Ok(batch) => Ok(Some(Entry::Append { log, batch })),
                Err(error) => Err(format!("the payload of an append is no batch: {error}")),
            },
        }
    }
}

/// The bytes that a record of `entry` takes in a group; `None` is a seal.
pub(super) fn record_bytes(entry: Option<&Entry>) -> usize {
    (RECORD_HEADER_LEN + payload_len(entry)).next_multiple_of(RECORD_ALIGNMENT)
}

/// Where the record after one of `len` bytes begins.
pub(super) fn padded(len: usize) -> u64 {
    len.next_multiple_of(RECORD_ALIGNMENT) as u64
}

fn payload_len(entry: Option<&Entry>) -> usize {
    match entry {
        Some(Entry::Append { batch, .. }) => batch.len(),
        Some(Entry::Truncate { .. }) => 8,
        None => 0,
    }
}

/// Writes a record to the start of `out`, padding included, and returns its bytes.
///
/// # Panics
/// If `out` is shorter than [`record_bytes`], or the record longer than 32 bits count.
pub(super) fn put_record(
    out: &mut [u8],
    seed: Seed,
    sequence: Sequence,
    durable: Sequence,
    entry: Option<&Entry>,
) -> usize {
    let len = RECORD_HEADER_LEN + payload_len(entry);
    let (kind, log) = match entry {
        Some(Entry::Append { log, .. }) => (Kind::Append, log.0),
        Some(Entry::Truncate { log, .. }) => (Kind::Truncate, log.0),
        None => (Kind::Seal, 0),
    };
    let mut fields = &mut out[..len];
    fields.put_u32_le(u32::try_from(len).expect("submit bounds the length of records"));
    fields.put_u32_le(0);
    fields.put_u64_le(sequence.0);
    fields.put_u64_le(durable.0);
    fields.put_u64_le(log);
    fields.put_u8(kind.code());
    fields.put_bytes(0, 7);
    match entry {
        Some(Entry::Append { batch, .. }) => batch.put(&mut fields),
        Some(Entry::Truncate { end, .. }) => fields.put_i64_le(end.0),
        None => {}
    }
    let header_crc = seed.crc_of(&out[..HEADER_CRC_AT]);
    out[HEADER_CRC_AT..RECORD_HEADER_LEN].copy_from_slice(&header_crc.to_le_bytes());
    let crc = seed.crc_of(&out[..len]);
    out[RECORD_CRC_AT..RECORD_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    let end = len.next_multiple_of(RECORD_ALIGNMENT);
    out[len..end].fill(0);
    end
}

#[cfg(test)]
mod tests;
