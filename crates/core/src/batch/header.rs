//! Pure: the 61 bytes that open a record batch.

use bytes::{Buf, BufMut, Bytes};
use crc_fast::{CrcAlgorithm, Digest};

use super::Error;
use crate::compression::Compression;
use crate::{Epoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// The header's size in bytes; the records follow it.
pub const HEADER_LEN: usize = 61;

/// The bytes that the length field does not count: base offset and itself.
const LENGTH_FIELD_END: usize = 12;

/// The first byte that the CRC covers.
const CRC_START: usize = 21;

const MAGIC: i8 = 2;

/// Who gave the records their timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer.
    #[default]
    CreateTime,
    /// The broker, for all records of the batch: the batch's largest timestamp.
    LogAppendTime,
}

/// The batch's attribute bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const COMPRESSION: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;

    /// Attributes of an ordinary batch in this codec.
    #[must_use]
    pub fn compressed(compression: Compression) -> Self {
        Self(compression.id())
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// If the bits name none.
    pub fn compression(self) -> Result<Compression, Error> {
        let id = self.0 & Self::COMPRESSION;
        Compression::from_id(id).ok_or(Error::UnknownCompression(id))
    }

    /// Names another codec.
    pub fn set_compression(&mut self, compression: Compression) {
        self.0 = self.0 & !Self::COMPRESSION | compression.id();
    }

    /// Who gave the timestamps.
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Marks the timestamps as given by the broker.
    pub fn set_log_append_time(&mut self) {
        self.0 |= Self::LOG_APPEND_TIME;
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Marks the batch as part of a transaction.
    pub fn set_transactional(&mut self) {
        self.0 |= Self::TRANSACTIONAL;
    }

    /// Marks the batch as part of no transaction.
    pub fn clear_transactional(&mut self) {
        self.0 &= !Self::TRANSACTIONAL;
    }

    /// Whether the batch is a marker of the broker's own, which consumers do not show.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Marks the batch as a marker of the broker's own.
    pub fn set_control(&mut self) {
        self.0 |= Self::CONTROL;
    }
}

/// The header of a record batch. Its length field follows from the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The offset of the first record. Outside the CRC.
    pub base_offset: Offset,
    /// The leader epoch that appended the batch. Outside the CRC.
    pub leader_epoch: Epoch,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type, transactional and control bits.
    pub attributes: Attributes,
    /// The offset of the last record, less the base offset.
    pub last_offset_delta: i32,
    /// The timestamp that the records' deltas add to.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of the records.
    pub max_timestamp: Timestamp,
    /// The idempotent producer, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// The producer's incarnation.
    pub producer_epoch: ProducerEpoch,
    /// The sequence number of the first record.
    pub base_sequence: i32,
    /// How many records follow.
    pub record_count: i32,
}

impl Header {
    /// Reads a header and returns it with the length of the whole batch, which `bytes` holds.
    pub(super) fn parse(bytes: &Bytes) -> Result<(Self, usize), Error> {
        let found = bytes.len();
        let mut rest = bytes.as_ref();
        if found < HEADER_LEN {
            return Err(Error::Truncated { needed: HEADER_LEN, found });
        }
        let base_offset = Offset(rest.get_i64());
        let length = rest.get_i32();
        let needed = usize::try_from(length)
            .ok()
            .map(|length| LENGTH_FIELD_END + length)
            .filter(|needed| HEADER_LEN <= *needed)
            .ok_or(Error::Length(length))?;
        let leader_epoch = Epoch(rest.get_i32());
        let magic = rest.get_i8();
        if magic != MAGIC {
            return Err(Error::Magic(magic));
        }
        if found < needed {
            return Err(Error::Truncated { needed, found });
        }
        let header = Self {
            base_offset,
            leader_epoch,
            crc: rest.get_u32(),
            attributes: Attributes(rest.get_i16()),
            last_offset_delta: rest.get_i32(),
            base_timestamp: Timestamp(rest.get_i64()),
            max_timestamp: Timestamp(rest.get_i64()),
            producer_id: ProducerId(rest.get_i64()),
            producer_epoch: ProducerEpoch(rest.get_i16()),
            base_sequence: rest.get_i32(),
            record_count: rest.get_i32(),
        };
        header.check_count()?;
        header.attributes.compression()?;
        Ok((header, needed))
    }

    fn check_count(&self) -> Result<(), Error> {
        let (count, last_offset_delta) = (self.record_count, self.last_offset_delta);
        // Compaction leaves fewer records than offsets, never more.
        let fits = (0..i32::MAX).contains(&last_offset_delta)
            && (0..=last_offset_delta + 1).contains(&count)
            && (0..i64::MAX - i64::from(i32::MAX)).contains(&self.base_offset.0);
        if fits { Ok(()) } else { Err(Error::Count { count, last_offset_delta }) }
    }

    /// The checksum over this header's covered part and `records`.
    pub(super) fn crc_of(&self, records: &[u8]) -> u32 {
        let header = self.to_bytes(records.len());
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        digest.update(&header[CRC_START..]);
        digest.update(records);
        u32::try_from(digest.finalize()).expect("a 32-bit checksum has 32 bits")
    }

    /// The header before records of this length.
    #[must_use]
    pub fn to_bytes(&self, records_len: usize) -> [u8; HEADER_LEN] {
        let length = i32::try_from(HEADER_LEN - LENGTH_FIELD_END + records_len)
            .expect("batches are bounded far below 2 GiB where they enter");
        let mut bytes = [0; HEADER_LEN];
        let mut out = bytes.as_mut_slice();
        out.put_i64(self.base_offset.0);
        out.put_i32(length);
        out.put_i32(self.leader_epoch.0);
        out.put_i8(MAGIC);
        out.put_u32(self.crc);
        out.put_i16(self.attributes.0);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp.0);
        out.put_i64(self.max_timestamp.0);
        out.put_i64(self.producer_id.0);
        out.put_i16(self.producer_epoch.0);
        out.put_i32(self.base_sequence);
        out.put_i32(self.record_count);
        bytes
    }
}
