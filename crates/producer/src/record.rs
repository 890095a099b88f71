//! Pure: what a producer is given, and what it gives back.

use std::sync::Arc;

use bytes::Bytes;
use rafka_core::{Offset, PartitionIndex, Timestamp};

/// A record to be sent.
///
/// ```
/// use rafka_producer::Record;
///
/// let record = Record::new("orders").key("customer-7").value("2 apples").header("trace", "ab12");
/// assert_eq!(record.topic.as_ref(), "orders");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition, if the producer shall not choose it.
    pub partition: Option<PartitionIndex>,
    /// The key: records of one key keep their order, and compaction keeps the last of them.
    pub key: Option<Bytes>,
    /// The value. `None` is a tombstone: it deletes the key in a compacted topic.
    pub value: Option<Bytes>,
    /// Names and values for the reader, in this order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// The record's own time; the time of `send` if there is none.
    pub timestamp: Option<Timestamp>,
}

impl Record {
    /// A record without key and value for `topic`.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// The same record with this key.
    #[must_use]
    pub fn key(self, key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// The same record with this value.
    #[must_use]
    pub fn value(self, value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..self }
    }

    /// The same record with one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// The same record for this partition.
    #[must_use]
    pub fn partition(self, partition: PartitionIndex) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// The same record with this time.
    #[must_use]
    pub fn timestamp(self, timestamp: Timestamp) -> Self {
        Self { timestamp: Some(timestamp), ..self }
    }

    /// Key, value and headers together, in bytes.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        let len = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + len(value)).sum();
        len(&self.key) + len(&self.value) + headers
    }
}

/// Where a delivered record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordMetadata {
    /// The partition.
    pub partition: PartitionIndex,
    /// The record's offset. `None` with [`Acks::None`](crate::Acks::None), and for a repeated batch
    /// that is stored but so old that the node no longer remembers its offset.
    pub offset: Option<Offset>,
    /// The record's timestamp: its own, or the node's where the topic says `LogAppendTime`.
    pub timestamp: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_what_was_said_about_it() {
        let record = Record::new("t").key("k").value("val").header("h", "x");
        assert_eq!(record.payload_len(), 1 + 3 + 2);
        assert_eq!(record.partition, None);
        let placed = record.partition(PartitionIndex(3)).timestamp(Timestamp(5));
        assert_eq!(
            (placed.partition, placed.timestamp),
            (Some(PartitionIndex(3)), Some(Timestamp(5)))
        );
        assert_eq!(placed.value.as_deref(), Some(&b"val"[..]));
    }
}
