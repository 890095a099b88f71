//! Log directories: where logs are kept, and what they take there.

use rafka_core::{ByteSize, PartitionIndex, TopicName};

/// The directory of this node's logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDir {
    /// Its path; `None` if logs are in memory.
    pub path: Option<String>,
    /// The size of its file system.
    pub total: Option<ByteSize>,
    /// How much can still be written to it.
    pub usable: Option<ByteSize>,
    /// The logs by topic, in the order of names.
    pub topics: Vec<TopicLogs>,
}

/// The logs of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicLogs {
    /// Its name.
    pub name: TopicName,
    /// Each partition that is kept here, with what it holds.
    pub partitions: Vec<(PartitionIndex, ByteSize)>,
}
