//! The journal: one write-ahead log per lane, which makes "acked means durable" cheap.
//!
//! [`Journal::submit`] gives an entry its sequence and queues it. A few writer threads each take
//! what is queued as one group, and write it with one aligned direct write, at disjoint places of a
//! preallocated file, so that several are in flight at once. When everything up to some sequence is
//! on disk, the [`Sink`] is told. `docs/formats/journal.md` draws the bytes and gives the rules of
//! recovery.

mod dump;
mod files;
mod format;
mod job;
mod machine;
mod reader;
mod recovery;
mod settings;
mod shared;
mod space;
mod stats;
mod survey;
mod upkeep;

use std::fmt;
use std::sync::Arc;

use rafka_core::{Batch, ByteSize, Clock, Offset, Rng};

pub(crate) use files::{exists, files_of, set_aside};

pub use dump::{Dumped, Found, dump, verify};
pub use job::WriteJob;
pub use recovery::{DataDir, Reach, Recovery};
pub use settings::{Mutant, Settings};
pub use shared::Journal;
pub use stats::{LATENCY_BOUNDS, Stats};

use crate::{Durability, Error, LogId};

/// The place of a record in its lane. Ascending for ever, across files and restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The first sequence of a lane. There is no record 0, so that "covered up to 0" is nothing.
    pub const FIRST: Self = Self(1);

    /// The sequence after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is written to the journal, and what replay gives back.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A batch was appended to a log, its offsets and leader epoch set.
    Append {
        /// The log.
        log: LogId,
        /// The batch.
        batch: Batch,
    },
    /// A log was cut: nothing at `end` or above is left.
    Truncate {
        /// The log.
        log: LogId,
        /// Its new end.
        end: Offset,
    },
}

/// Who is told how far a lane is durable.
///
/// Called from the writer threads, by one at a time and never while a lock of the journal is held:
/// the sink may submit and release.
pub trait Sink: Send + Sync {
    /// Every record below `below` is durable, as far as the lane promises. Ascending.
    fn durable(&self, lane: Durability, below: Sequence);

    /// A write or sync failed. Called once; [`Sink::durable`] is not called again, and nothing more
    /// is accepted or written.
    fn failed(&self, lane: Durability, error: &Error);
}

/// What the journal takes from its surroundings.
#[derive(Debug)]
pub struct Surroundings {
    /// When the journal is idle, and how long writes take.
    pub clock: Arc<dyn Clock>,
    /// Salts of the files' checksums, so that nobody can forge a record inside of a payload.
    pub rng: Rng,
    /// Who does the work.
    pub driver: Driver,
}

/// Who does the journal's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Threads of its own: the writers, and one that prepares and recycles files.
    Threads,
    /// The caller, by [`Journal::take_write`], [`Journal::run_write`], [`Journal::upkeep`] and
    /// [`Journal::settle`], in any order it likes.
    Manual,
}

/// How much disk space a lane takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// All files: those with records, and those prepared for more.
    pub total: ByteSize,
    /// The bound of `total`. At the bound, writes wait until files are released.
    pub max: ByteSize,
    /// What is submitted and not yet taken by a writer.
    pub queued: ByteSize,
}

#[cfg(test)]
mod tests;
