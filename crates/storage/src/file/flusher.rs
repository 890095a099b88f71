//! The thread behind the engine: it decides what is flushed when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Inner;
use super::log::Log;
use crate::manifest::Change;
use crate::per_lane::LANES;
use crate::{Error, LogId, disk, engine};

/// Nothing stays only in journal and memory for longer than this: it bounds what is replayed.
const FLUSH_AGE: Duration = Duration::from_secs(10);

/// How often the flusher looks around while something waits.
const TICK: Duration = Duration::from_secs(1);

/// From this share of the memory pinned (a quarter) everything old is flushed ...
const PRESSED_SHARE: u64 = 4;
/// ... down to this share (an eighth).
const RELIEVED_SHARE: u64 = 8;

/// How many deleted logs lose their files in one go: flushing waits for it.
const GARBAGE_AT_ONCE: usize = 64;

/// The running thread.
pub(super) struct Flusher {
    thread: JoinHandle<()>,
    inner: Arc<Inner>,
}

impl Flusher {
    pub(super) fn start(inner: &Arc<Inner>) -> Result<Self, Error> {
        let inner = Arc::clone(inner);
        let shared = Arc::clone(&inner);
        let thread = thread::Builder::new()
            .name("flusher".to_owned())
            .spawn(move || shared.run())
            .map_err(disk::failed("start a thread for", &inner.dir))?;
        Ok(Self { thread, inner })
    }

    /// Ends the thread without a last round.
    pub(super) fn stop(self) {
        self.inner.shared.signal.stop();
        if self.thread.join().is_err() {
            // The panic was written to standard error by the thread.
            tracing::error!("flusher panicked");
        }
    }
}

impl Inner {
    fn run(&self) {
        let watch = DeathWatch { inner: self };
        loop {
            let is_waiting =
                !self.shared.dirty.lock().since.is_empty() || self.shared.space.check().is_err();
            let wishes = self.shared.signal.wait(is_waiting.then_some(TICK));
            if wishes.stop {
                break;
            }
            self.tick();
        }
        drop(watch);
    }

    /// Does what is due, once.
    pub(super) fn tick(&self) {
        self.look_at_space();
        let due = self.due_logs();
        if self.shared.is_alive() {
            // What it means was judged where it happened, and what was not written stays due.
            self.flush_logs(&due).ok();
        }
        self.remove_garbage();
        self.shared.tell();
    }

    /// As the threads would, in their absence.
    pub(super) fn step(&self) {
        for lane in LANES {
            if let Some(journal) = self.journals.of(lane).get() {
                journal.settle();
            }
        }
        self.tick();
    }

    /// Whether so much is in memory that the flusher should not wait for a log to have a chunk.
    pub(super) fn is_pressed(&self) -> bool {
        let sidecar = &self.shared.sidecar;
        sidecar.budget() / PRESSED_SHARE <= sidecar.pinned()
    }

    /// The logs that should be flushed now.
    fn due_logs(&self) -> Vec<Arc<Log>> {
        let now = self.shared.clock.now();
        let (mut due, waiting) = {
            let mut dirty = self.shared.dirty.lock();
            let due = std::mem::take(&mut dirty.due);
            let waiting: Vec<_> =
                dirty.since.iter().map(|((since, _), log)| (*since, Arc::clone(log))).collect();
            (due, waiting)
        };
        let old = waiting.iter().take_while(|(since, _)| *since + FLUSH_AGE <= now);
        due.extend(old.map(|(_, log)| (log.id, Arc::clone(log))));
        let waiting: Vec<Arc<Log>> = waiting.into_iter().map(|(_, log)| log).collect();
        self.add_for_memory(&waiting, &mut due);
        self.add_for_journal(&waiting, &mut due);
        due.into_values().collect()
    }

    /// When memory is short, those that wait longest, until there will be enough of it.
    fn add_for_memory(&self, waiting: &[Arc<Log>], due: &mut BTreeMap<LogId, Arc<Log>>) {
        if !self.is_pressed() {
            return;
        }
        let goal = self.shared.sidecar.budget() / RELIEVED_SHARE;
        let mut excess = self.shared.sidecar.pinned().saturating_sub(goal);
        for log in waiting {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(log.state.lock().tail_weight());
            due.insert(log.id, Arc::clone(log));
        }
    }

    /// When a journal is short of files, those that keep its oldest.
    fn add_for_journal(&self, waiting: &[Arc<Log>], due: &mut BTreeMap<LogId, Arc<Log>>) {
        for lane in LANES {
            let journal = self.journals.of(lane).get();
            let Some(below) = journal.and_then(|journal| journal.must_release()) else { continue };
            for log in waiting {
                let state = log.state.lock();
                if state.lane == lane && state.uncovered().is_some_and(|first| first < below) {
                    due.insert(log.id, Arc::clone(log));
                }
            }
        }
    }

    /// Removes the files of some deleted logs.
    fn remove_garbage(&self) {
        let mut maintenance = self.maintenance.lock();
        if maintenance.garbage.is_empty() || !self.shared.is_alive() {
            return;
        }
        let at_once = maintenance.garbage.len().min(GARBAGE_AT_ONCE);
        let garbage: Vec<_> = maintenance.garbage.drain(..at_once).collect();
        if !maintenance.garbage.is_empty() {
            self.shared.signal.kick();
        }
        let mut removed = Vec::new();
        for (log, name) in garbage {
            match self.store.remove_log(&name) {
                Ok(()) => removed.push(Change::Removed(log)),
                // They stay on the manifest's list, and the next start tries again.
                Err(error) => {
                    tracing::warn!(%name, error = engine::full_message(&error), "files left behind");
                }
            }
        }
        if let Err(error) = self.manifest.commit(&removed) {
            self.judge(&error);
        }
    }
}

/// Ends the engine's writing if the flusher panics: memory would fill up for ever.
struct DeathWatch<'a> {
    inner: &'a Inner,
}

impl Drop for DeathWatch<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.inner.shared.fail(&Error::Dead("the flusher panicked".into()));
            self.inner.shared.tell();
        }
    }
}
