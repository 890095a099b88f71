//! What the engine's calls, the journal's threads and the flusher all see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rafka_core::{ByteSize, Clock, Offset, Time, TopicPartition};

use super::lane::Lane;
use super::log::Log;
use super::signal::Signal;
use crate::engine;
use crate::journal::{self, Sequence};
use crate::per_lane::{LANES, PerLane};
use crate::sidecar::Sidecar;
use crate::{AppendError, Durability, Error, LogId, LogSettings, Observer};

/// See the module.
pub(super) struct Shared {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) sidecar: Sidecar,
    pub(super) lanes: PerLane<Lane>,
    pub(super) logs: RwLock<Logs>,
    pub(super) dirty: Mutex<Dirty>,
    pub(super) signal: Signal,
    pub(super) space: Space,
    failure: OnceLock<Failure>,
    failure_untold: AtomicBool,
    room_untold: AtomicBool,
}

/// Why nothing more is written.
#[derive(Debug)]
struct Failure {
    cause: Error,
    /// What calls answer.
    answer: Error,
}

/// The logs that exist.
#[derive(Debug, Default)]
pub(super) struct Logs {
    pub(super) by_id: BTreeMap<LogId, Arc<Log>>,
    pub(super) by_name: BTreeMap<TopicPartition, Arc<Log>>,
}

/// The logs that wait for the flusher.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// All of them, by how long they wait.
    pub(super) since: BTreeMap<(Time, LogId), Arc<Log>>,
    /// Those with enough for a chunk, or that somebody waits for.
    pub(super) due: BTreeMap<LogId, Arc<Log>>,
}

/// The free space of the disk, as it was when last looked at.
#[derive(Debug)]
pub(super) struct Space {
    reserve: ByteSize,
    free: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        sidecar: Sidecar,
        reserve: ByteSize,
    ) -> Self {
        Self {
            clock,
            observer,
            sidecar,
            lanes: PerLane::default(),
            logs: RwLock::default(),
            dirty: Mutex::default(),
            signal: Signal::default(),
            space: Space { reserve, free: AtomicU64::new(u64::MAX) },
            failure: OnceLock::new(),
            failure_untold: AtomicBool::new(false),
            room_untold: AtomicBool::new(false),
        }
    }

    pub(super) fn log(&self, log: LogId) -> Result<Arc<Log>, Error> {
        self.logs.read().by_id.get(&log).cloned().ok_or(Error::UnknownLog(log))
    }

    /// That nothing failed so far that ends all writing.
    pub(super) fn check_alive(&self) -> Result<(), Error> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.answer.clone()))
    }

    pub(super) fn is_alive(&self) -> bool {
        self.failure.get().is_none()
    }

    /// Ends all writing. The observer hears of it from a thread of the engine.
    pub(super) fn fail(&self, cause: &Error) {
        let answer = match cause {
            Error::Dead(_) => cause.clone(),
            cause => Error::Dead(engine::full_message(cause).into()),
        };
        if self.end(Failure { cause: cause.clone(), answer }) {
            tracing::error!(
                error = engine::full_message(cause),
                "storage failed, nothing more is written"
            );
            self.failure_untold.store(true, Ordering::SeqCst);
            self.signal.kick();
        }
    }

    /// Ends all writing because the engine was stopped, which nobody needs to be told.
    pub(super) fn end_quietly(&self) {
        let answer = Error::Dead("the engine was stopped".into());
        self.end(Failure { cause: answer.clone(), answer });
    }

    fn end(&self, failure: Failure) -> bool {
        let is_first = self.failure.set(failure).is_ok();
        for lane in LANES {
            self.lanes.of(lane).wake();
        }
        is_first
    }

    /// Tells the observer what calls have left to tell. Called by the engine's threads, without a
    /// lock.
    pub(super) fn tell(&self) {
        if self.failure_untold.swap(false, Ordering::SeqCst)
            && let Some(failure) = self.failure.get()
        {
            self.observer.failed(&failure.cause);
        }
        if self.room_untold.swap(false, Ordering::SeqCst) {
            self.observer.room();
        }
    }

    /// Puts a log whose lock is held, and whose part `since` has waited, on the flusher's list.
    pub(super) fn note_dirty(&self, log: &Arc<Log>, since: Time) {
        let mut dirty = self.dirty.lock();
        let is_first = dirty.since.is_empty();
        dirty.since.insert((since, log.id), Arc::clone(log));
        drop(dirty);
        if is_first {
            // The flusher sleeps without a limit while nothing is dirty.
            self.signal.kick();
        }
    }

    /// Asks the flusher to take this log now.
    pub(super) fn note_due(&self, log: &Arc<Log>) {
        self.dirty.lock().due.insert(log.id, Arc::clone(log));
        self.signal.kick();
    }

    /// Counts memory that need not stay. If that made room, the observer hears of it from a thread
    /// of the engine.
    pub(super) fn unpin(&self, weight: u64) {
        if weight != 0 && self.sidecar.unpin(weight) {
            self.room_untold.store(true, Ordering::SeqCst);
            self.signal.kick();
        }
    }
}

/// The journal's side of it.
impl journal::Sink for Shared {
    fn durable(&self, lane: Durability, below: Sequence) {
        let mut reports: Vec<(LogId, Offset)> = Vec::new();
        for (log, end) in self.lanes.of(lane).settle(below).into_values() {
            let durable = log.state.lock().note_durable(end);
            reports.extend(durable.map(|durable| (log.id, durable)));
        }
        for (log, end) in reports {
            self.observer.durable(log, end);
        }
        self.lanes.of(lane).note_reported(below);
    }

    fn failed(&self, _lane: Durability, error: &Error) {
        self.fail(error);
        self.tell();
    }
}

impl Space {
    pub(super) fn note_free(&self, free: ByteSize) {
        let reserve = self.reserve;
        let before = ByteSize(self.free.swap(free.0, Ordering::Relaxed));
        match (reserve <= before, reserve <= free) {
            (true, false) => {
                tracing::warn!(%free, %reserve, "the disk is full, appends are refused");
            }
            (false, true) => tracing::info!(%free, %reserve, "the disk has room again"),
            _ => {}
        }
    }

    pub(super) fn free(&self) -> ByteSize {
        ByteSize(self.free.load(Ordering::Relaxed))
    }

    /// That there is more than the reserve.
    pub(super) fn check(&self) -> Result<(), AppendError> {
        self.check_above(self.reserve)
    }

    /// That there is room for appends to a log of these settings.
    pub(super) fn check_for(&self, settings: &LogSettings) -> Result<(), AppendError> {
        let share = if settings.takes_reserve { 2 } else { 1 };
        self.check_above(ByteSize(self.reserve.0 / share))
    }

    fn check_above(&self, reserve: ByteSize) -> Result<(), AppendError> {
        let free = self.free();
        if reserve <= free { Ok(()) } else { Err(AppendError::DiskFull { free, reserve }) }
    }
}
