//! Pure: the record batch (Kafka's RecordBatch v2), the one data format of Rafka.
//!
//! A batch is the unit on the wire, in memory, in the journal, in segments and between replicas.
//! The broker sets its base offset and its leader epoch; both lie outside the CRC, so that the
//! records are never touched. `docs/formats/record-batch.md` draws the bytes.

mod builder;
mod control;
mod header;
mod record;
mod varint;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub use builder::{BatchBuilder, put_record};
pub use control::{EndMarker, Outcome};
pub use header::{Attributes, HEADER_LEN, Header, TimestampType};
pub use record::{Record, RecordView, Records};

use crate::compression::{self, Compression};
use crate::{ByteSize, ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp};

/// The bytes are not a record batch that we accept. Nothing was kept of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end before the batch does.
    #[error("the batch needs {needed} bytes, {found} are there")]
    Truncated {
        /// The bytes that its length field asks for.
        needed: usize,
        /// The bytes that there are.
        found: usize,
    },
    /// The length field is too small for a header.
    #[error("batch length {0} is less than the header's 49")]
    Length(i32),
    /// Bytes follow the batch where only one batch may be.
    #[error("{0} bytes follow the batch")]
    Trailing(usize),
    /// Magic 0 and 1 were given up by Kafka 4 (KIP-724); others never existed.
    #[error("magic {0} is not supported, only 2 is")]
    Magic(i8),
    /// The checksum does not fit the bytes.
    #[error("CRC-32C is {found:#010x}, the batch says {stated:#010x}")]
    Crc {
        /// What the header says.
        stated: u32,
        /// What the bytes give.
        found: u32,
    },
    /// Count and last offset delta contradict each other.
    #[error("a record count of {count} does not fit a last offset delta of {last_offset_delta}")]
    Count {
        /// The record count of the header.
        count: i32,
        /// The last offset delta of the header.
        last_offset_delta: i32,
    },
    /// The attributes name no codec.
    #[error("compression type {0} is unknown")]
    UnknownCompression(i16),
    /// The records cannot be inflated within the limit.
    #[error(transparent)]
    Inflate(#[from] compression::Error),
    /// A record cannot be parsed, or contradicts the header.
    #[error("record {index} of the batch: {rule}")]
    Record {
        /// Which record, counted from 0.
        index: usize,
        /// What it breaks.
        rule: &'static str,
    },
}

impl Error {
    /// What clients are told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Magic(_) => ErrorCode::UnsupportedForMessageFormat,
            Self::Count { .. } | Self::UnknownCompression(_) | Self::Record { .. } => {
                ErrorCode::InvalidRecord
            }
            Self::Truncated { .. }
            | Self::Length(_)
            | Self::Trailing(_)
            | Self::Crc { .. }
            | Self::Inflate(_) => ErrorCode::CorruptMessage,
        }
    }
}

/// One record batch: the parsed header, and the bytes of the records as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The 61 bytes before the records.
    pub header: Header,
    /// The records, compressed as the header's attributes say.
    pub records: Bytes,
}

impl Batch {
    /// Reads one whole batch and verifies its checksum. Its records are not looked at.
    ///
    /// # Errors
    /// If the bytes are not exactly one sound batch.
    pub fn parse(bytes: Bytes) -> Result<Self, Error> {
        let batch = Self::parse_trusted(bytes)?;
        batch.verify_crc()?;
        Ok(batch)
    }

    /// As [`Batch::parse`], without the pass over the bytes that the checksum takes.
    ///
    /// For bytes that another checksum has just vouched for.
    ///
    /// # Errors
    /// If the bytes are not exactly one batch.
    pub fn parse_trusted(mut bytes: Bytes) -> Result<Self, Error> {
        let batch = Self::take(&mut bytes)?;
        if bytes.is_empty() { Ok(batch) } else { Err(Error::Trailing(bytes.len())) }
    }

    /// Takes one batch off the front and verifies its checksum. `None` when nothing is left.
    ///
    /// # Errors
    /// If what comes next is not a sound batch. `bytes` is then left as it was.
    pub fn split_first(bytes: &mut Bytes) -> Result<Option<Self>, Error> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut rest = bytes.clone();
        let batch = Self::take(&mut rest)?;
        batch.verify_crc()?;
        *bytes = rest;
        Ok(Some(batch))
    }

    fn take(bytes: &mut Bytes) -> Result<Self, Error> {
        let (header, len) = Header::parse(bytes)?;
        let records = bytes.slice(HEADER_LEN..len);
        bytes.advance(len);
        Ok(Self { header, records })
    }

    /// Compresses `records` as the header's attributes say and sets the checksum.
    ///
    /// `records` are encoded by [`put_record`]; the header's other fields must describe them.
    ///
    /// # Errors
    /// If the attributes name an unknown codec, or the codec fails.
    pub fn seal(mut header: Header, records: Bytes) -> Result<Self, Error> {
        let records = header.attributes.compression()?.compress(records)?;
        header.crc = header.crc_of(&records);
        Ok(Self { header, records })
    }

    fn verify_crc(&self) -> Result<(), Error> {
        let found = self.header.crc_of(&self.records);
        let stated = self.header.crc;
        if found == stated { Ok(()) } else { Err(Error::Crc { stated, found }) }
    }

    /// The whole batch in bytes, header included.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no batch is empty: it has a header")]
    pub fn len(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// The offset of the first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.header.base_offset
    }

    /// The offset of the last record (which compaction may have removed).
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.header.base_offset + i64::from(self.header.last_offset_delta)
    }

    /// The offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// The largest timestamp of its records.
    #[must_use]
    pub fn max_timestamp(&self) -> Timestamp {
        self.header.max_timestamp
    }

    /// The header as bytes.
    #[must_use]
    pub fn header_bytes(&self) -> [u8; HEADER_LEN] {
        self.header.to_bytes(self.records.len())
    }

    /// Writes header and records.
    pub fn put(&self, out: &mut impl BufMut) {
        out.put_slice(&self.header_bytes());
        out.put_slice(&self.records);
    }

    /// Header and records as one piece. Copies.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.len());
        self.put(&mut out);
        out.freeze()
    }

    /// The same batch in memory of its own, so that it does not keep a larger buffer alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { header: self.header.clone(), records: Bytes::copy_from_slice(&self.records) }
    }

    /// The records, inflated to at most `limit` bytes, one after the other.
    ///
    /// # Errors
    /// If they cannot be inflated, or would take more than `limit`.
    pub fn records(&self, limit: ByteSize) -> Result<Records, Error> {
        let compression = self.header.attributes.compression()?;
        let inflated = compression.inflate(self.records.clone(), limit)?;
        Ok(Records::new(&self.header, inflated))
    }

    /// The same batch in another codec.
    ///
    /// # Errors
    /// If the records cannot be inflated within `limit`, or the codec fails.
    pub fn recompressed(&self, compression: Compression, limit: ByteSize) -> Result<Self, Error> {
        let inflated =
            self.header.attributes.compression()?.inflate(self.records.clone(), limit)?;
        let mut header = self.header.clone();
        header.attributes.set_compression(compression);
        Self::seal(header, inflated)
    }

    /// Gives the batch another producer, epoch and sequence number, before it was ever stored.
    pub fn set_producer(&mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self.header.crc = self.header.crc_of(&self.records);
    }

    /// Makes `now` the timestamp of all records (`message.timestamp.type=LogAppendTime`).
    pub fn stamp_append_time(&mut self, now: Timestamp) {
        self.header.attributes.set_log_append_time();
        self.set_max_timestamp(now);
    }

    /// Sets the largest timestamp, and the checksum with it.
    pub fn set_max_timestamp(&mut self, timestamp: Timestamp) {
        self.header.max_timestamp = timestamp;
        self.header.crc = self.header.crc_of(&self.records);
    }
}

#[cfg(test)]
mod tests;
