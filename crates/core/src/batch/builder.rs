//! Pure: making record batches.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Attributes, Batch, Error, HEADER_LEN, Header, varint};
use crate::compression::Compression;
use crate::{Epoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// Collects records and makes a batch of them, with base offset 0 and no leader epoch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    records: BytesMut,
    header: Header,
}

impl BatchBuilder {
    /// A builder without records.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self {
            records: BytesMut::new(),
            header: Header {
                base_offset: Offset::ZERO,
                leader_epoch: Epoch(-1),
                crc: 0,
                attributes: Attributes::compressed(compression),
                last_offset_delta: -1,
                base_timestamp: Timestamp::NONE,
                max_timestamp: Timestamp::NONE,
                producer_id: ProducerId::NONE,
                producer_epoch: ProducerEpoch(-1),
                base_sequence: -1,
                record_count: 0,
            },
        }
    }

    /// Names the idempotent producer and the sequence number of the first record.
    pub fn producer(&mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
    }

    /// Makes the batch part of its producer's transaction.
    pub fn transactional(&mut self) {
        self.header.attributes.set_transactional();
    }

    /// Makes the batch a marker of the broker's own in its producer's transaction.
    pub(super) fn control(&mut self) {
        self.header.attributes.set_transactional();
        self.header.attributes.set_control();
    }

    /// Adds a record after those there are.
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(Bytes, Option<Bytes>)],
    ) {
        let header = &mut self.header;
        if header.record_count == 0 {
            header.base_timestamp = timestamp;
        }
        header.max_timestamp = header.max_timestamp.max(timestamp);
        header.last_offset_delta += 1;
        header.record_count += 1;
        let timestamp_delta = timestamp.0.wrapping_sub(header.base_timestamp.0);
        let deltas = (header.last_offset_delta, timestamp_delta);
        put_record(&mut self.records, deltas, key, value, headers);
    }

    /// How many records there are.
    #[must_use]
    pub fn record_count(&self) -> usize {
        usize::try_from(self.header.record_count).expect("a count is not negative")
    }

    /// The size of the batch before compression, in bytes.
    #[must_use]
    pub fn len_estimate(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// The batch.
    ///
    /// # Errors
    /// If the codec fails.
    ///
    /// # Panics
    /// If no record was pushed: a batch without offsets does not exist.
    pub fn build(self) -> Result<Batch, Error> {
        assert!(0 < self.header.record_count, "a batch was built without records");
        Batch::seal(self.header, self.records.freeze())
    }
}

/// Encodes one record. `deltas` are its offset and timestamp, less the batch's base.
pub fn put_record(
    out: &mut BytesMut,
    deltas: (i32, i64),
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(Bytes, Option<Bytes>)],
) {
    let (offset_delta, timestamp_delta) = deltas;
    let headers_len: usize = headers
        .iter()
        .map(|(name, value)| field_len(Some(name)) + field_len(value.as_deref()))
        .sum();
    let len = 1
        + varint::len(timestamp_delta)
        + varint::len(i64::from(offset_delta))
        + field_len(key)
        + field_len(value)
        + varint::len(int(headers.len()))
        + headers_len;
    out.reserve(len + 5);
    varint::put_i64(out, int(len));
    out.put_i8(0);
    varint::put_i64(out, timestamp_delta);
    varint::put_i64(out, i64::from(offset_delta));
    put_field(out, key);
    put_field(out, value);
    varint::put_i64(out, int(headers.len()));
    for (name, value) in headers {
        put_field(out, Some(name));
        put_field(out, value.as_deref());
    }
}

fn field_len(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varint::len(int(bytes.len())) + bytes.len())
}

fn put_field(out: &mut BytesMut, field: Option<&[u8]>) {
    match field {
        Some(bytes) => {
            varint::put_i64(out, int(bytes.len()));
            out.put_slice(bytes);
        }
        None => varint::put_i64(out, -1),
    }
}

fn int(len: usize) -> i64 {
    i64::try_from(len).expect("lengths of things in memory fit 63 bits")
}
