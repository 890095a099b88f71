//! Pure: a topic's configuration as the values that the node works with.

use std::time::Duration;

use rafka_core::ByteSize;
use rafka_core::batch::TimestampType;
use rafka_core::compression::Compression;
use rafka_storage::{Cleanup, Durability, LogSettings};

use super::{InvalidConfig, Key};

/// The configuration of a topic, every key resolved. See the table of keys for the meanings.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// How its logs are kept.
    pub log: LogSettings,
    /// The codec that batches are stored in; `None` for that of the producer.
    pub compression: Option<Compression>,
    /// The largest batch accepted.
    pub message_bytes_max: ByteSize,
    /// Whose time its records carry.
    pub timestamp_type: TimestampType,
    /// How far a timestamp may lie behind the node's clock.
    pub timestamp_before_max: Duration,
    /// How far a timestamp may lie ahead of the node's clock.
    pub timestamp_after_max: Duration,
    /// How many replicas must be in sync for acks=all.
    pub insync_replicas_min: u32,
    /// Whether a replica that may miss acked records may lead.
    pub unclean_election: bool,
    /// What the durability of the logs is made of.
    pub flush: Flush,
}

/// What "acked" shall mean, and which bounds there are to when records are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flush {
    durability: Durability,
    is_bounded_by_count: bool,
    is_bounded_by_age: bool,
}

impl Flush {
    fn durability(self) -> Durability {
        let is_bounded = self.is_bounded_by_count || self.is_bounded_by_age;
        if is_bounded { Durability::Fsync } else { self.durability }
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            log: LogSettings::default(),
            compression: None,
            message_bytes_max: ByteSize(1_048_588),
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max: Duration::from_millis(i64::MAX.cast_unsigned()),
            timestamp_after_max: Duration::from_hours(1),
            insync_replicas_min: 1,
            unclean_election: false,
            flush: Flush {
                durability: Durability::Fsync,
                is_bounded_by_count: false,
                is_bounded_by_age: false,
            },
        }
    }
}

impl TopicConfig {
    /// Sets one key. Nothing is changed on an error.
    ///
    /// # Errors
    /// If the key does not take the value.
    pub fn set(&mut self, key: Key, value: &str) -> Result<(), InvalidConfig> {
        let spec = key.spec();
        // The table's ranges keep negative numbers out, except the -1 that means "none".
        let count = || spec.long(value).map(|number| u64::try_from(number).ok());
        let age = || count().map(|millis| Duration::from_millis(millis.unwrap_or(0)));
        let size = || count().map(|bytes| ByteSize(bytes.unwrap_or(0)));
        match key {
            Key::CleanupPolicy => {
                let words = spec.list(value)?;
                let has = |word| words.contains(&word);
                self.log.cleanup = Cleanup { delete: has("delete"), compact: has("compact") };
            }
            Key::CompressionType => {
                self.compression = match spec.choice(value)? {
                    "uncompressed" => Some(Compression::None),
                    "gzip" => Some(Compression::Gzip),
                    "snappy" => Some(Compression::Snappy),
                    "lz4" => Some(Compression::Lz4),
                    "zstd" => Some(Compression::Zstd),
                    _ => None,
                };
            }
            Key::DeleteRetentionMs => self.log.delete_retention = age()?,
            Key::Durability => {
                self.flush.durability = match spec.choice(value)? {
                    "os" => Durability::Os,
                    _ => Durability::Fsync,
                };
            }
            Key::FlushMessages => self.flush.is_bounded_by_count = spec.long(value)? != i64::MAX,
            Key::FlushMs => self.flush.is_bounded_by_age = spec.long(value)? != i64::MAX,
            Key::MaxMessageBytes => self.message_bytes_max = size()?,
            Key::TimestampAfterMaxMs => self.timestamp_after_max = age()?,
            Key::TimestampBeforeMaxMs => self.timestamp_before_max = age()?,
            Key::TimestampType => {
                self.timestamp_type = match spec.choice(value)? {
                    "LogAppendTime" => TimestampType::LogAppendTime,
                    _ => TimestampType::CreateTime,
                };
            }
            Key::MinCleanableDirtyRatio => self.log.cleanable_ratio_min = spec.double(value)?,
            Key::MinCompactionLagMs => self.log.compaction_lag_min = age()?,
            Key::MinInsyncReplicas => {
                let replicas = u32::try_from(spec.long(value)?);
                self.insync_replicas_min = replicas.expect("the table bounds it to an i32 from 1");
            }
            Key::RetentionBytes => self.log.retention_bytes = count()?.map(ByteSize),
            Key::RetentionMs => self.log.retention_age = count()?.map(Duration::from_millis),
            Key::SegmentBytes => self.log.segment_bytes = size()?,
            Key::SegmentMs => self.log.segment_age = age()?,
            Key::UncleanElection => self.unclean_election = spec.boolean(value)?,
        }
        self.log.durability = self.flush.durability();
        Ok(())
    }
}
