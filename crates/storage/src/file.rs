//! The engine that keeps logs on a disk: journal first, segments later, memory for what is hot.
//!
//! An append goes to the journal and into the [sidecar](crate::sidecar); when the journal says that
//! it is durable, the observer hears of it. The flusher writes what piles up in memory to segments,
//! commits the manifest, and releases the journal: in this order, so that at every moment each
//! durable batch is in the journal or in what the manifest names. A start reads the manifest and
//! replays the journal, and nothing else.

mod abandon;
mod append;
mod change;
mod clean;
mod flush;
mod flusher;
mod lane;
mod log;
mod open;
mod read;
mod recover;
mod release;
mod shared;
mod signal;
mod stats;
mod stop;
mod write;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rafka_core::producer_state::Ended;
use rafka_core::{Batch, ByteSize, Clock, Offset, Rng, Timestamp, TopicPartition};
use uuid::Uuid;

use self::flusher::Flusher;
use self::shared::Shared;
use self::stats::Counters;
#[cfg(any(test, feature = "testing"))]
use crate::Durability;
use crate::disk::{self, Disk, Lock};
use crate::journal::{Driver, Journal};
use crate::manifest::{self, Manifest};
use crate::per_lane::PerLane;
use crate::segment::Store;
use crate::{
    AppendError, Appended, Bounds, CleanReport, Directory, Engine, Error, LogId, LogSettings,
    Observer, ReadError, Recovered, Settings, TimedOffset,
};

pub use abandon::abandon_journal;
pub use stats::Stats;

/// What the engine takes from its surroundings.
pub struct Surroundings {
    /// The disk that holds the data directory.
    pub disk: Arc<dyn Disk>,
    /// Ages, and how long writes take.
    pub clock: Arc<dyn Clock>,
    /// The identity of a new directory, and salts.
    pub rng: Rng,
    /// Who is told what becomes durable.
    pub observer: Arc<dyn Observer>,
    /// Who does the work behind the calls: threads of the engine, or the caller with
    /// [`FileEngine::step`].
    pub driver: Driver,
}

/// What was found when the engine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The identity of the data directory, made at its first start.
    pub node: Uuid,
    /// Whether the directory is new.
    pub is_new: bool,
    /// Whether the last stop had written everything out.
    pub was_clean: bool,
    /// The logs that exist.
    pub logs: usize,
    /// The batches that the journal brought back.
    pub replayed_batches: u64,
    /// Their bytes.
    pub replayed_bytes: ByteSize,
}

/// See the module.
pub struct FileEngine {
    inner: Arc<Inner>,
    flusher: Mutex<Option<Flusher>>,
}

impl fmt::Debug for FileEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileEngine").field("dir", &self.inner.dir).finish_non_exhaustive()
    }
}

/// The engine without its thread.
///
/// Locks, in the order in which they are taken: `cleaning`, `maintenance`, a log, then those of
/// [`Shared`]. Nothing slow is done with a log's lock held.
struct Inner {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    node: Uuid,
    settings: Settings,
    driver: Driver,
    /// The `os` lane begins to exist when the first log asks for it.
    journals: PerLane<OnceLock<Journal>>,
    store: Store,
    manifest: Manifest,
    /// Whoever changes segments or the manifest holds it, from reading what is there to having
    /// committed what replaces it.
    maintenance: Mutex<Maintenance>,
    /// One cleaning at a time bounds the memory for keys.
    cleaning: Mutex<()>,
    /// Distinct settings are few; logs share them.
    distinct_settings: Mutex<Vec<Arc<LogSettings>>>,
    counters: Counters,
    is_stopped: AtomicBool,
    /// Of the directory. Given back when the engine stops.
    lock: Mutex<Option<Lock>>,
}

/// What only the holder of the maintenance lock touches.
struct Maintenance {
    /// The id of the next log.
    log_next: u64,
    /// Deleted logs whose files may still be there.
    garbage: Vec<(LogId, TopicPartition)>,
    /// Salts of the journals.
    rng: Rng,
    /// What the manifest says of the lanes.
    lanes: PerLane<manifest::Lane>,
}

impl FileEngine {
    /// Opens a data directory, creating it if it is missing, and replays its journal. Blocks.
    ///
    /// # Errors
    /// If another process holds the directory, or something in it is damaged, of an unknown version,
    /// or cannot be read or written. Nothing durable is lost by trying.
    pub fn open(
        dir: &Path,
        settings: &Settings,
        surroundings: Surroundings,
    ) -> Result<(Self, Started), Error> {
        let (inner, started) = recover::recover(dir, settings, surroundings)?;
        let inner = Arc::new(inner);
        let flusher = match inner.driver {
            Driver::Threads => Some(Flusher::start(&inner)?),
            Driver::Manual => None,
        };
        Ok((Self { inner, flusher: Mutex::new(flusher) }, started))
    }

    /// What the engine has done and holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// Writes out everything that is durable and only in memory. Blocks.
    ///
    /// # Errors
    /// If it cannot be written. It stays in memory and in the journal.
    pub fn flush(&self) -> Result<(), Error> {
        self.inner.flush_all()
    }

    /// Does what is due of the work behind the calls, once. For [`Driver::Manual`].
    pub fn step(&self) {
        self.inner.step();
    }

    /// The journal of a lane, if a log has used it: for tests that write its groups one by one, in
    /// an order of their own.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn journal(&self, lane: Durability) -> Option<&Journal> {
        self.inner.journals.of(lane).get()
    }

    /// Does what the flusher would do now, and nothing of the journal's work: for the same tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn tick(&self) {
        self.inner.tick();
    }
}

impl Engine for FileEngine {
    fn open(
        &self,
        logs: &[(TopicPartition, LogSettings)],
    ) -> Result<Vec<(LogId, Recovered)>, Error> {
        self.inner.open_logs(logs)
    }

    fn existing(&self) -> Result<BTreeSet<TopicPartition>, Error> {
        Ok(self.inner.shared.logs.read().by_name.keys().copied().collect())
    }

    fn delete(&self, logs: &[TopicPartition]) -> Result<(), Error> {
        self.inner.delete(logs)
    }

    fn configure(&self, log: LogId, settings: LogSettings) -> Result<(), Error> {
        self.inner.configure(log, &settings)
    }

    fn append(
        &self,
        log: LogId,
        batches: &[Batch],
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        self.inner.append(log, batches, now)
    }

    fn has_room(&self) -> bool {
        self.inner.shared.sidecar.has_room()
    }

    fn read_hot(
        &self,
        log: LogId,
        from: Offset,
        below: Offset,
        limit: ByteSize,
    ) -> Option<Result<Vec<Batch>, ReadError>> {
        self.inner.read_hot(log, from, below, limit)
    }

    fn read(
        &self,
        log: LogId,
        from: Offset,
        below: Offset,
        limit: ByteSize,
    ) -> Result<Vec<Batch>, ReadError> {
        self.inner.read(log, from, below, limit)
    }

    fn find_by_time(
        &self,
        log: LogId,
        at: Timestamp,
        below: Offset,
    ) -> Result<Option<TimedOffset>, ReadError> {
        self.inner.find_by_time(log, at, below)
    }

    fn bounds(&self, log: LogId) -> Result<Bounds, Error> {
        self.inner.bounds(log)
    }

    fn size(&self, log: LogId) -> Result<ByteSize, Error> {
        self.inner.size(log)
    }

    fn directory(&self) -> Result<Option<Directory>, Error> {
        let Inner { disk, dir, .. } = &*self.inner;
        let total = disk.total_space(dir).map_err(disk::failed("measure", dir))?;
        let free = disk.free_space(dir).map_err(disk::failed("measure", dir))?;
        let path = std::path::absolute(dir).map_err(disk::failed("find", dir))?;
        Ok(Some(Directory { path, total, free }))
    }

    fn truncate(&self, log: LogId, end: Offset) -> Result<Bounds, Error> {
        self.inner.truncate(log, end)
    }

    fn trim(&self, log: LogId, start: Offset) -> Result<Bounds, Error> {
        self.inner.trim(log, start)
    }

    fn clean(&self, log: LogId, below: Offset, now: Timestamp) -> Result<CleanReport, Error> {
        self.inner.clean(log, below, now)
    }

    fn forget_producers(&self, before: Timestamp) -> Result<(), Error> {
        self.inner.forget_producers(before)
    }

    fn aborted(&self, log: LogId, from: Offset, below: Offset) -> Result<Vec<Ended>, Error> {
        self.inner.aborted(log, from, below)
    }

    fn stop(&self) -> Result<(), Error> {
        let flusher = self.flusher.lock().take();
        if let Some(flusher) = flusher {
            flusher.stop();
        }
        self.inner.stop()
    }
}

impl Drop for FileEngine {
    /// Ends the threads without writing anything out: what is durable is in the journal.
    fn drop(&mut self) {
        let flusher = self.flusher.lock().take();
        if let Some(flusher) = flusher {
            flusher.stop();
        }
    }
}

#[cfg(test)]
mod tests;
