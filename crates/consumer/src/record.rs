//! Pure: what a consumer gives.

use bytes::Bytes;
use rafka_client::TopicPartition;
use rafka_core::{Offset, Timestamp};

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerRecord {
    /// Where it is from.
    pub partition: TopicPartition,
    /// Its position there.
    pub offset: Offset,
    /// Its own time, or the node's where the topic says `LogAppendTime`.
    pub timestamp: Timestamp,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values in order. A name may repeat, a value may be absent.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl ConsumerRecord {
    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.partition.topic.as_str()
    }
    /// Key and value together, in bytes.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        let len = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
        len(&self.key) + len(&self.value)
    }
}
