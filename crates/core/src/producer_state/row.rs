//! Pure: the bytes of one producer in a store.

use bytes::{Buf, BufMut};

use super::{Entry, Producer, WINDOW};
use crate::{Epoch, Offset, ProducerEpoch, Timestamp};

pub(super) const VERSION: u8 = 2;
const LEN: usize = 1 + 2 + 8 + 4 + 8 + 8 + 1;
const ENTRY_LEN: usize = 4 + 4 + 8 + 8;

/// Stands for no offset.
const NONE: i64 = -1;

/// The stored bytes are not a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the producer cannot be read: {0}")]
pub struct DecodeError(&'static str);

impl Producer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN + self.entries.len() * ENTRY_LEN);
        out.put_u8(VERSION);
        out.put_i16(self.epoch.0);
        out.put_i64(self.seen_at.0);
        out.put_i32(self.coordinator_epoch.0);
        out.put_i64(self.transaction.map_or(NONE, |first| first.0));
        out.put_i64(self.marker.map_or(NONE, |marker| marker.0));
        out.put_u8(u8::try_from(self.entries.len()).expect("at most five entries"));
        for entry in &self.entries {
            out.put_i32(entry.sequence_first);
            out.put_i32(entry.sequence_last);
            out.put_i64(entry.base_offset.0);
            out.put_i64(entry.timestamp.0);
        }
        out
    }

    pub(super) fn decode(mut row: &[u8]) -> Result<Self, DecodeError> {
        if row.len() < LEN {
            return Err(DecodeError("it is cut off"));
        }
        if row.get_u8() != VERSION {
            return Err(DecodeError("its version is unknown"));
        }
        let epoch = ProducerEpoch(row.get_i16());
        let seen_at = Timestamp(row.get_i64());
        let coordinator_epoch = Epoch(row.get_i32());
        let mut take = || Some(row.get_i64()).filter(|offset| *offset != NONE).map(Offset);
        let (transaction, marker) = (take(), take());
        let count = usize::from(row.get_u8());
        if WINDOW < count || row.len() != count * ENTRY_LEN {
            return Err(DecodeError("its batches are cut off"));
        }
        let entries = (0..count)
            .map(|_| Entry {
                sequence_first: row.get_i32(),
                sequence_last: row.get_i32(),
                base_offset: Offset(row.get_i64()),
                timestamp: Timestamp(row.get_i64()),
            })
            .collect();
        Ok(Self { epoch, seen_at, coordinator_epoch, transaction, marker, entries })
    }
}
