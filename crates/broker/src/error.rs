//! What a gateway tells its client when an operation fails.

use std::borrow::Cow;
use std::fmt;

use rafka_core::{ErrorCode, TopicName};

/// A failed operation: Kafka's code for programs, a sentence for people.
///
/// Nothing of the operation took effect, except under `RequestTimedOut`, where it still may, and
/// under `KafkaStorageError`, where it may turn out to be stored when the node is restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What a client branches on.
    pub code: ErrorCode,
    /// What happened to what, and what to do.
    pub message: Cow<'static, str>,
    /// The records that a batch was refused for, at most [`RECORDS_TOLD_MAX`] in the answers to one
    /// request; empty if it was not for single records.
    pub records: Vec<RefusedRecord>,
}

/// How many records an error names. A batch may hold a hundred thousand, and each is named with a
/// sentence.
pub const RECORDS_TOLD_MAX: usize = 1000;

/// A record that is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Its place in the batch, from 0.
    pub index: i32,
    /// What is wrong with it.
    pub message: Cow<'static, str>,
}

impl Error {
    /// An error with a sentence of its own.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), records: Vec::new() }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        self.code.is_retriable()
    }

    pub(crate) fn unknown_topic(topic: &crate::TopicRef) -> Self {
        match topic {
            crate::TopicRef::Name(name) => Self::new(
                ErrorCode::UnknownTopicOrPartition,
                format!("topic {name} does not exist: create it, or check the name"),
            ),
            crate::TopicRef::Id(id) => Self::new(
                ErrorCode::UnknownTopicId,
                format!("no topic has the id {id}: it may have been deleted"),
            ),
        }
    }

    pub(crate) fn unknown_partition(topic: &TopicName, partition: i32, count: usize) -> Self {
        Self::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("topic {topic} has no partition {partition}; it has {count}, from 0 on"),
        )
    }
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.text())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}
