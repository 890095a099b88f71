//! Pure: the table of topic configs.

use super::{InvalidConfig, VALUE_BYTES_MAX, shortened};

/// What values a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A whole number that fits 32 bits.
    Int {
        /// The smallest.
        min: i32,
        /// The largest.
        max: i32,
    },
    /// A whole number.
    Long {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// A number.
    Double {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words, divided by commas; at least one.
    List(&'static [&'static str]),
}

impl Kind {
    /// Kafka's name of the type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Int { .. } => "int",
            Self::Long { .. } => "long",
            Self::Double { .. } => "double",
            Self::Boolean => "boolean",
            Self::Choice(_) => "string",
            Self::List(_) => "list",
        }
    }

    /// What is accepted, in words.
    #[must_use]
    pub fn accepted(self) -> String {
        match self {
            Self::Int { min, max } => format!("a whole number from {min} to {max}"),
            Self::Long { min, max: i64::MAX } => format!("a whole number of at least {min}"),
            Self::Long { min, max } => format!("a whole number from {min} to {max}"),
            Self::Double { min, max } => format!("a number from {min} to {max}"),
            Self::Boolean => "true or false".to_owned(),
            Self::Choice([words @ .., last]) if !words.is_empty() => {
                format!("{} or {last}", words.join(", "))
            }
            Self::Choice(words) => words.concat(),
            Self::List(words) => format!("a list of {}", words.join(" and ")),
        }
    }
}

/// All about one key.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The topic's key.
    pub name: &'static str,
    /// The name of its default on the node.
    pub broker_name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its value where nobody set one.
    pub default: &'static str,
    /// What it does.
    pub documentation: &'static str,
}

impl Spec {
    fn refuse<T>(&self, value: &str) -> Result<T, InvalidConfig> {
        Err(InvalidConfig::InvalidValue {
            name: self.name,
            value: shortened(value),
            accepted: self.kind.accepted(),
        })
    }

    /// The value as a whole number.
    pub(super) fn long(&self, value: &str) -> Result<i64, InvalidConfig> {
        let (min, max) = match self.kind {
            Kind::Int { min, max } => (i64::from(min), i64::from(max)),
            Kind::Long { min, max } => (min, max),
            _ => return self.refuse(value),
        };
        match value.trim().parse::<i64>() {
            Ok(number) if min <= number && number <= max => Ok(number),
            _ => self.refuse(value),
        }
    }

    /// The value as a number.
    pub(super) fn double(&self, value: &str) -> Result<f64, InvalidConfig> {
        let Kind::Double { min, max } = self.kind else { return self.refuse(value) };
        match value.trim().parse::<f64>() {
            Ok(number) if min <= number && number <= max => Ok(number),
            _ => self.refuse(value),
        }
    }

    /// The value as yes or no.
    pub(super) fn boolean(&self, value: &str) -> Result<bool, InvalidConfig> {
        match value.trim() {
            yes if yes.eq_ignore_ascii_case("true") => Ok(true),
            no if no.eq_ignore_ascii_case("false") => Ok(false),
            _ => self.refuse(value),
        }
    }

    /// The value as one of the accepted words.
    pub(super) fn choice(&self, value: &str) -> Result<&'static str, InvalidConfig> {
        let Kind::Choice(words) = self.kind else { return self.refuse(value) };
        words
            .iter()
            .find(|word| **word == value.trim())
            .map_or_else(|| self.refuse(value), |w| Ok(*w))
    }

    /// The value as a list of accepted words.
    pub(super) fn list(&self, value: &str) -> Result<Vec<&'static str>, InvalidConfig> {
        let Kind::List(words) = self.kind else { return self.refuse(value) };
        if VALUE_BYTES_MAX < value.len() {
            return self.refuse(value);
        }
        let known = |item: &str| words.iter().copied().find(|word| *word == item.trim());
        value.split(',').map(|item| known(item).map_or_else(|| self.refuse(value), Ok)).collect()
    }
}

impl Key {
    /// The key whose default on the node has this name.
    #[must_use]
    pub fn of_broker_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.spec().broker_name == name)
    }
}

macro_rules! topic_configs {
    ($($key:ident $name:literal $broker_name:literal $kind:expr, $default:literal, $text:literal;)*) => {
        /// A configuration key of topics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Key {
            $(#[doc = concat!("`", $name, "`")] $key,)*
        }

        impl Key {
            /// Every key, by name.
            pub const ALL: &[Self] = &[$(Self::$key,)*];

            /// All about this key.
            #[must_use]
            pub fn spec(self) -> &'static Spec {
                match self {
                    $(Self::$key => &Spec {
                        name: $name,
                        broker_name: $broker_name,
                        kind: $kind,
                        default: $default,
                        documentation: $text,
                    },)*
                }
            }
        }
    };
}

const AGE: Kind = Kind::Long { min: 0, max: i64::MAX };
const OR_NONE: Kind = Kind::Long { min: -1, max: i64::MAX };

// The largest batch must fit one request and one journal record with room to spare.
const MESSAGE_BYTES_MAX: i32 = 100 << 20;
// Below a page, a segment's own header and index would outweigh it.
const SEGMENT_BYTES_MIN: i32 = 4096;

topic_configs! {
    CleanupPolicy "cleanup.policy" "log.cleanup.policy" Kind::List(&["delete", "compact"]), "delete",
        "How old records leave: `delete` drops whole segments by age and size, `compact` keeps the last record of each key. Both may be on: `compact,delete`.";
    CompressionType "compression.type" "compression.type" Kind::Choice(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]), "producer",
        "How batches are stored. `producer`: as the producer compressed them, which costs nothing. Anything else: batches that come otherwise are compressed anew by the node.";
    DeleteRetentionMs "delete.retention.ms" "log.cleaner.delete.retention.ms" AGE, "86400000",
        "How long compaction leaves a tombstone (a key without a value) readable, in milliseconds.";
    Durability "durability" "log.durability" Kind::Choice(&["fsync", "os"]), "fsync",
        "What an ack means: `fsync`: the batch is on disk and survives a power cut. `os`: it was handed to the operating system; it survives the death of the process, but a power cut may take what was acked in the last seconds.";
    FlushMessages "flush.messages" "log.flush.interval.messages" Kind::Long { min: 1, max: i64::MAX }, "9223372036854775807",
        "How many records may be written before they are on disk. Anything but the default puts every batch on disk before it is acked, which is sooner than was asked: as `durability=fsync`, whatever `durability` says.";
    FlushMs "flush.ms" "log.flush.interval.ms" AGE, "9223372036854775807",
        "How long a record may be kept before it is on disk, in milliseconds. Anything but the default puts every batch on disk before it is acked, which is sooner than was asked: as `durability=fsync`, whatever `durability` says.";
    MaxMessageBytes "max.message.bytes" "message.max.bytes" Kind::Int { min: 0, max: MESSAGE_BYTES_MAX }, "1048588",
        "The largest batch accepted, in bytes, as it arrives (compressed, with its header).";
    TimestampAfterMaxMs "message.timestamp.after.max.ms" "log.message.timestamp.after.max.ms" AGE, "3600000",
        "How far a record's own timestamp may lie ahead of the node's clock, in milliseconds. Without effect under LogAppendTime.";
    TimestampBeforeMaxMs "message.timestamp.before.max.ms" "log.message.timestamp.before.max.ms" AGE, "9223372036854775807",
        "How far a record's own timestamp may lie behind the node's clock, in milliseconds. Without effect under LogAppendTime.";
    TimestampType "message.timestamp.type" "log.message.timestamp.type" Kind::Choice(&["CreateTime", "LogAppendTime"]), "CreateTime",
        "Whose time records carry: the producer's, or the node's at the append.";
    MinCleanableDirtyRatio "min.cleanable.dirty.ratio" "log.cleaner.min.cleanable.ratio" Kind::Double { min: 0.0, max: 1.0 }, "0.5",
        "Compaction runs when at least this share of the log has not been compacted.";
    MinCompactionLagMs "min.compaction.lag.ms" "log.cleaner.min.compaction.lag.ms" AGE, "0",
        "Compaction leaves records alone that are younger than this, in milliseconds.";
    MinInsyncReplicas "min.insync.replicas" "min.insync.replicas" Kind::Int { min: 1, max: i32::MAX }, "1",
        "With acks=all, a batch is refused while fewer replicas than this are in sync. A partition that has fewer in all \
         needs all of them.";
    RetentionBytes "retention.bytes" "log.retention.bytes" OR_NONE, "-1",
        "Under `delete`, the oldest segments go while a partition is larger than this, in bytes. -1: no bound.";
    RetentionMs "retention.ms" "log.retention.ms" OR_NONE, "604800000",
        "Under `delete`, segments go when their newest record is older than this, in milliseconds. -1: kept for ever.";
    SegmentBytes "segment.bytes" "log.segment.bytes" Kind::Int { min: SEGMENT_BYTES_MIN, max: i32::MAX }, "1073741824",
        "A segment is closed at this size, in bytes. Retention and compaction work on closed segments.";
    SegmentMs "segment.ms" "log.roll.ms" Kind::Long { min: 1, max: i64::MAX }, "604800000",
        "A segment is closed at this age, in milliseconds, even if it is small.";
    UncleanElection "unclean.leader.election.enable" "unclean.leader.election.enable" Kind::Boolean, "false",
        "Whether a replica that may miss acked records may lead when no other is left.";
}
