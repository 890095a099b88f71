//! The contract of a storage engine: what the broker may ask of the place where logs live.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rafka_core::producer_state::{Ended, ProducerTable};
use rafka_core::{Batch, ByteSize, EpochHistory, Offset, Timestamp, TopicPartition};
use serde::{Deserialize, Serialize};

/// A log within one engine. Never reused, so that what a deleted log left behind names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u64);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What "acked" means for a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On disk: survives a power cut.
    #[default]
    Fsync,
    /// Handed to the operating system: survives the death of the process, not a power cut.
    Os,
}

impl Durability {
    /// Its name in configs, file names and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
        }
    }
}

/// How old records leave a log. Both may be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanup {
    /// Whole segments go by age and size.
    pub delete: bool,
    /// Older records of a key go when there is a newer one.
    pub compact: bool,
}

/// How one log is kept. The values of a topic's configuration that concern its storage.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSettings {
    /// What "acked" means.
    pub durability: Durability,
    /// A segment is closed at this size.
    pub segment_bytes: ByteSize,
    /// A segment is closed at this age.
    pub segment_age: Duration,
    /// How old records leave.
    pub cleanup: Cleanup,
    /// Records older than this may go; `None` keeps them for ever.
    pub retention_age: Option<Duration>,
    /// Above this size the oldest segments may go; `None` is no bound.
    pub retention_bytes: Option<ByteSize>,
    /// Compaction leaves tombstones readable for this long.
    pub delete_retention: Duration,
    /// Compaction leaves records alone that are younger than this.
    pub compaction_lag_min: Duration,
    /// Compaction runs when at least this share of the log (0 to 1) is uncompacted.
    pub cleanable_ratio_min: f64,
    /// Whether appends may take up to half of the disk's reserve: for small things without which
    /// readers cannot go on.
    pub takes_reserve: bool,
}

impl Default for LogSettings {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            segment_bytes: ByteSize::gib(1),
            segment_age: Duration::from_hours(7 * 24),
            cleanup: Cleanup { delete: true, compact: false },
            retention_age: Some(Duration::from_hours(7 * 24)),
            retention_bytes: None,
            delete_retention: Duration::from_hours(24),
            compaction_lag_min: Duration::ZERO,
            cleanable_ratio_min: 0.5,
            takes_reserve: false,
        }
    }
}

/// Where a log begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// The first offset that may still be read.
    pub start: Offset,
    /// The offset that the next record will get.
    pub end: Offset,
    /// Everything below this is as durable as the log's `Durability` promises.
    pub durable: Offset,
}

/// What an engine knows of a log that it opened.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// Where it begins and ends; everything found is durable.
    pub bounds: Bounds,
    /// The leader epochs its batches were written under.
    pub epochs: EpochHistory,
    /// The idempotent producers that wrote to it.
    pub producers: ProducerTable,
}

/// Whether an append is durable already, or will be reported to the [`Observer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is. The observer is not called.
    Durable,
    /// [`Observer::durable`] will be called.
    Pending,
}

/// The first record at or after some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOffset {
    /// The record's offset.
    pub offset: Offset,
    /// The record's own timestamp.
    pub timestamp: Timestamp,
}

/// A directory with logs, and the file system that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Its path.
    pub path: PathBuf,
    /// The size of the file system.
    pub total: ByteSize,
    /// How much can still be written to it.
    pub free: ByteSize,
}

/// What one round of cleaning did to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CleanReport {
    /// Where the log begins now.
    pub start: Offset,
    /// Segments that retention removed.
    pub segments_deleted: u64,
    /// Bytes that retention and compaction freed.
    pub bytes_freed: u64,
    /// Records that compaction removed.
    pub records_compacted: u64,
}

/// The engine could not do what was asked. Nothing was changed unless the variant says so.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The id names no open log: it was deleted.
    #[error("log {0} is not open")]
    UnknownLog(LogId),
    /// A truncation of the log failed half-way: it ends where it did not, until a truncation
    /// succeeds.
    #[error("a truncation of log {0} was not finished: truncate it again")]
    Truncating(LogId),
    /// A file could not be read or written.
    #[error("cannot {verb} {path}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: Arc<io::Error>,
    },
    /// A file holds what we never wrote, at a place where our own bytes must be.
    #[error("{path} is corrupt at byte {position}: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong there.
        what: String,
    },
    /// A file was written by a version of Rafka that this one does not know.
    #[error("{path} has format version {found}; this build reads up to {known}")]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// The version it carries.
        found: u32,
        /// The newest version that we know.
        known: u32,
    },
    /// A file that must be there is missing. Nothing was lost by finding out.
    #[error("{path} is missing, although {why}")]
    Missing {
        /// The file, or the directory that holds none of the files that it must hold.
        path: PathBuf,
        /// How that is known.
        why: &'static str,
    },
    /// A file is another node's. Nothing was lost by finding out.
    #[error("{path} belongs to node {node}, the manifest to another")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        node: uuid::Uuid,
    },
    /// Files of the data directory are of different times. Nothing was lost by finding out.
    #[error("{path} does not fit the manifest: {what}")]
    Mismatched {
        /// The file, or those of a lane of the journal.
        path: PathBuf,
        /// How that is known.
        what: String,
    },
    /// Another process holds the data directory.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// A write failed earlier: nothing more is written until the process restarts.
    #[error("the journal stopped after a failed write: {0}")]
    Dead(Arc<str>),
}

impl Error {
    /// Whether there was no room on the disk: the same call may succeed when there is.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if cause.kind() == io::ErrorKind::StorageFull)
    }
}

/// An error with its causes, in one line.
pub(crate) fn full_message(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    message
}

/// An append was refused. Nothing of it will become durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The disk is full up to the reserve. Try again when space was freed.
    #[error("the disk is full: {free} is left, {reserve} is kept in reserve")]
    DiskFull {
        /// What is left.
        free: ByteSize,
        /// What stays for manifest, retention and metadata.
        reserve: ByteSize,
    },
    /// See the error.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// A read failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The log does not hold the offset.
    #[error("offset {from} is outside of {start} to {end}")]
    OutOfRange {
        /// What was asked for.
        from: Offset,
        /// The log's first offset.
        start: Offset,
        /// The log's end.
        end: Offset,
    },
    /// The batch at this offset is damaged on disk. What lies beyond it is readable.
    #[error("the batch at offset {offset} is damaged; the next whole one is at {next}")]
    Damaged {
        /// Where the damaged batch begins.
        offset: Offset,
        /// Where reading may go on.
        next: Offset,
    },
    /// See the error.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Who is told what happens inside an engine.
///
/// Called from the engine's own threads, never from within a call of [`Engine`]. Implementations
/// return quickly and do not call the engine.
pub trait Observer: Send + Sync + 'static {
    /// Everything below `end` in this log is durable. The ends of a log ascend, except that while its
    /// durability is being changed a smaller one may follow a larger one, which goes on to hold.
    fn durable(&self, log: LogId, end: Offset);
    /// A write failed: what was not reported durable may be lost, and nothing more is accepted.
    fn failed(&self, error: &Error);
    /// [`Engine::has_room`] is true again.
    fn room(&self);
}

/// A place where logs live.
///
/// The caller orders appends and truncations of one log (the partition's lock does); different logs
/// are independent. Batches arrive with offsets and leader epochs set and checksums verified.
pub trait Engine: Send + Sync + 'static {
    /// Opens logs, creating those that do not exist. Blocks; one durable step for all new ones.
    ///
    /// # Errors
    /// If a new log cannot be noted durably. Then none was created.
    fn open(
        &self,
        logs: &[(TopicPartition, LogSettings)],
    ) -> Result<Vec<(LogId, Recovered)>, Error>;

    /// The logs that exist, whether or not they were opened since the start.
    ///
    /// # Errors
    /// If the manifest cannot be read.
    fn existing(&self) -> Result<BTreeSet<TopicPartition>, Error>;

    /// Deletes logs for good. Blocks until that is durable; the files go a little later.
    ///
    /// # Errors
    /// If the deletion cannot be noted durably. Then nothing was deleted.
    fn delete(&self, logs: &[TopicPartition]) -> Result<(), Error>;

    /// Replaces the settings of a log. Takes effect with the next append, roll or cleaning. Blocks
    /// if no log had this durability since the start.
    ///
    /// # Errors
    /// If the log is not open.
    fn configure(&self, log: LogId, settings: LogSettings) -> Result<(), Error>;

    /// Appends batches at the end of the log, all or none. Does not block.
    ///
    /// # Errors
    /// If the disk is full, the engine has failed, the log is not open, or a truncation of it was
    /// not finished.
    ///
    /// # Panics
    /// If the offsets do not ascend from the log's end: that would be the caller's bug. Gaps are
    /// allowed, since compaction leaves them.
    fn append(
        &self,
        log: LogId,
        batches: &[Batch],
        now: Timestamp,
    ) -> Result<Appended, AppendError>;

    /// Whether appends should go on: false while too much is pinned in memory.
    /// [`Observer::room`] tells when it changes.
    fn has_room(&self) -> bool;

    /// Reads whole batches from the one that holds `from` on, below `below`, if memory holds them.
    ///
    /// Does not block. The first batch comes whatever its size, further ones up to `limit`. `None`:
    /// memory does not hold them, ask [`Engine::read`]. An empty answer: nothing there yet.
    fn read_hot(
        &self,
        log: LogId,
        from: Offset,
        below: Offset,
        limit: ByteSize,
    ) -> Option<Result<Vec<Batch>, ReadError>>;

    /// The same, from memory or disk. Blocks.
    ///
    /// # Errors
    /// If the offset is out of range, or what lies there is damaged or unreadable.
    fn read(
        &self,
        log: LogId,
        from: Offset,
        below: Offset,
        limit: ByteSize,
    ) -> Result<Vec<Batch>, ReadError>;

    /// The first record below `below` whose timestamp is at least `at`. Blocks.
    ///
    /// # Errors
    /// As [`Engine::read`].
    fn find_by_time(
        &self,
        log: LogId,
        at: Timestamp,
        below: Offset,
    ) -> Result<Option<TimedOffset>, ReadError>;

    /// Where the log begins and ends.
    ///
    /// # Errors
    /// If the log is not open.
    fn bounds(&self, log: LogId) -> Result<Bounds, Error>;

    /// The bytes that the log holds, as they would be read.
    ///
    /// # Errors
    /// If the log is not open.
    fn size(&self, log: LogId) -> Result<ByteSize, Error>;

    /// Where logs are kept; `None` if they are in memory. Blocks.
    ///
    /// # Errors
    /// If the system does not say how much room there is.
    fn directory(&self) -> Result<Option<Directory>, Error>;

    /// Drops every batch that ends above `end`. Blocks until the new end is durable, and returns it:
    /// it may lie below `end`, at a batch's edge. A pending append above it is never reported.
    ///
    /// # Errors
    /// If it cannot be made durable. The log takes no appends then, until a truncation succeeds.
    fn truncate(&self, log: LogId, end: Offset) -> Result<Bounds, Error>;

    /// Makes `start` the first readable offset. Blocks until that is durable.
    ///
    /// # Errors
    /// If it cannot be made durable.
    fn trim(&self, log: LogId, start: Offset) -> Result<Bounds, Error>;

    /// Applies retention and compaction to what lies below `below`. Blocks, and may take long.
    ///
    /// # Errors
    /// If files cannot be read or written. What was cleaned by then stays cleaned.
    fn clean(&self, log: LogId, below: Offset, now: Timestamp) -> Result<CleanReport, Error>;

    /// Forgets the idempotent producers of all logs that wrote before `before` and not since, and
    /// have no open transaction: the next [`Engine::open`] does not know them. Blocks until that is
    /// durable.
    ///
    /// # Errors
    /// If it cannot be made durable.
    fn forget_producers(&self, before: Timestamp) -> Result<(), Error>;

    /// The aborted transactions of a log that a reader of what lies from `from` on and below `below`
    /// must know: they began below `below`, and their markers are at `from` or above. In the order
    /// of the markers. Blocks.
    ///
    /// # Errors
    /// If the log is not open, or the manifest cannot be read.
    fn aborted(&self, log: LogId, from: Offset, below: Offset) -> Result<Vec<Ended>, Error>;

    /// Writes out what is pinned, stops the threads and marks the directory clean. Blocks.
    ///
    /// # Errors
    /// If something could not be written. Nothing durable is lost by that.
    fn stop(&self) -> Result<(), Error>;
}
