//! One round of flushing: segments, their directories, the manifest, memory, the journal.
//!
//! In this order, so that a crash between any two steps costs at most the work: what the manifest
//! does not name is written again from the journal.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rafka_core::{Batch, ByteSize, EpochHistory, Offset, Timestamp};

use super::Inner;
use super::log::{Log, State};
use super::stats::Counters;
use super::write::{SegmentRow, Sync, Target};
use crate::engine;
use crate::manifest::{Change, Checkpoint, Covered};
use crate::segment::Segment;
use crate::sidecar::Key;
use crate::{Error, LogSettings};

/// From this many logs on, one sync of the file system replaces those of their files: about where
/// syncing everything else that is unwritten on the disk costs less than that many single syncs.
const SYNC_TOGETHER_FROM: usize = 16;

/// What is written of one log, as it was when the round began.
struct Work {
    log: Arc<Log>,
    batches: Vec<(Batch, Timestamp)>,
    start: Offset,
    flushed: Offset,
    generation: u32,
    compacted: Offset,
    covered: Covered,
    settings: Arc<LogSettings>,
    segments: Vec<Segment>,
    epochs: EpochHistory,
}

impl Inner {
    /// Writes out everything that is durable and only in memory.
    pub(super) fn flush_all(&self) -> Result<(), Error> {
        self.flush_logs(&self.dirty_logs())
    }

    /// Writes out what is durable of these logs, and gives back what the journals hold for nobody.
    ///
    /// # Errors
    /// If the disk is full: then some logs may have been written, and the others wait. After any
    /// other failure nothing is written any more.
    pub(super) fn flush_logs(&self, logs: &[Arc<Log>]) -> Result<(), Error> {
        let mut maintenance = self.maintenance.lock();
        self.shared.check_alive()?;
        let works: Vec<Work> = logs.iter().filter_map(Work::take).collect();
        let written = if works.is_empty() { Ok(()) } else { self.write_works(works) };
        // Also on a full disk: it may have taken some of them.
        if self.shared.is_alive() { written.and(self.release(&mut maintenance)) } else { written }
    }

    fn write_works(&self, works: Vec<Work>) -> Result<(), Error> {
        Counters::add(&self.counters.flushes, 1);
        self.write_and_commit(works).inspect_err(|error| self.judge(error))?;
        self.counters.is_put_off.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn write_and_commit(&self, works: Vec<Work>) -> Result<(), Error> {
        let files = works.iter().filter(|work| !work.batches.is_empty()).count();
        let sync = if files < SYNC_TOGETHER_FROM { Sync::Each } else { Sync::Together };
        let mut written = Vec::with_capacity(works.len());
        let mut stopped = None;
        for mut work in works {
            match self.write(&mut work, sync) {
                Ok(checkpoint) => written.push((work, checkpoint)),
                // The logs before this one are as good as written.
                Err(error) if error.is_disk_full() => {
                    stopped = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if sync == Sync::Together {
            self.disk.sync_fs(&self.dir).map_err(crate::disk::failed("sync", &self.dir))?;
        }
        let mut changes = Vec::with_capacity(2 * written.len());
        for (work, checkpoint) in &written {
            changes.push(Change::Checkpoint(work.log.id, checkpoint.clone()));
            let wrote = work.idempotent();
            if !wrote.is_empty() {
                changes.push(Change::Wrote(work.log.id, wrote));
            }
        }
        self.manifest.commit(&changes)?;
        for (work, checkpoint) in written {
            self.settle_flushed(work, checkpoint);
        }
        stopped.map_or(Ok(()), Err)
    }

    /// Writes the batches of one log, and says what is to be committed.
    fn write(&self, work: &mut Work, sync: Sync) -> Result<Checkpoint, Error> {
        let target = Target {
            store: &self.store,
            disk: &*self.disk,
            name: work.log.name,
            settings: Arc::clone(&work.settings),
            generation: work.generation,
            sync,
        };
        let mut row = SegmentRow::new(target, work.segments.clone());
        let written = work.append_to(&mut row).and_then(|bytes| Ok((row.finish()?, bytes)));
        let (segments, bytes) = match written {
            Err(error) if error.is_disk_full() => {
                row.abandon(&work.segments);
                return Err(error);
            }
            written => written?,
        };
        Counters::add(&self.counters.flushed_bytes, bytes);
        work.epochs.trim(work.start);
        let end = work.batches.last().map_or(work.flushed, |(last, _)| last.next_offset());
        Ok(Checkpoint {
            start: work.start,
            end,
            covered: work.covered,
            generation: work.generation,
            compacted: work.compacted,
            segments,
            epochs: work.epochs.clone(),
        })
    }

    /// Moves what is committed out of the part of memory that must stay.
    fn settle_flushed(&self, work: Work, checkpoint: Checkpoint) {
        let Work { log, batches, generation, epochs, .. } = work;
        // Before they are unpinned, so that no reader in between has to ask the disk. If the log was
        // truncated meanwhile, nobody will look for them under this generation.
        for (batch, _) in &batches {
            let key = Key { log: log.id, generation, base: batch.base_offset() };
            self.shared.sidecar.keep_own(key, batch);
        }
        let mut state = log.state.lock();
        let before = state.tail_weight();
        state.segments = checkpoint.segments;
        state.flushed = checkpoint.end;
        state.covered = checkpoint.covered;
        let covered = checkpoint.covered.of(state.lane);
        state.truncated_at = state.truncated_at.filter(|truncated| covered <= truncated.0);
        state.set_epochs(epochs);
        let unpinned = state.unpin(checkpoint.end);
        self.complete_switch(&log, &mut state);
        self.note_clean(&log, &mut state);
        let freed = before - state.tail_weight();
        drop(state);
        drop(unpinned);
        self.shared.unpin(freed);
    }

    /// Takes a log whose lock is held off the flusher's list, or puts it to its end if there is more.
    pub(super) fn note_clean(&self, log: &Arc<Log>, state: &mut State) {
        if let Some(since) = state.dirty_since.take() {
            let mut dirty = self.shared.dirty.lock();
            dirty.since.remove(&(since, log.id));
            dirty.due.remove(&log.id);
        }
        if state.is_dirty() {
            self.mark_dirty(log, state);
        }
    }

    /// Says what a failed write means: a full disk passes, anything else does not.
    pub(super) fn judge(&self, error: &Error) {
        if error.is_disk_full() {
            Counters::add(&self.counters.flushes_put_off, 1);
            self.look_at_space();
            // It is tried again every second; one line is enough.
            if !self.counters.is_put_off.swap(true, Ordering::Relaxed) {
                tracing::warn!(error = engine::full_message(error), "disk is full, flushing waits");
            }
        } else {
            self.shared.fail(error);
        }
    }

    /// Looks how much space is free.
    pub(super) fn look_at_space(&self) {
        match self.disk.free_space(&self.dir) {
            Ok(free) => self.shared.space.note_free(free),
            Err(error) => tracing::warn!(%error, "free space is unknown"),
        }
    }
}

impl Work {
    /// Appends the batches to the log's segments. Returns the bytes.
    fn append_to(&mut self, row: &mut SegmentRow<'_>) -> Result<u64, Error> {
        let mut bytes = 0;
        for (batch, appended_at) in &self.batches {
            // What was trimmed meanwhile needs no place.
            if self.start < batch.next_offset() {
                row.append(batch, *appended_at)?;
                bytes += ByteSize::of_len(batch.len()).0;
            }
            self.epochs.note(batch.header.leader_epoch, batch.base_offset());
        }
        Ok(bytes)
    }

    /// The batches of idempotent producers: what was trimmed says what is true of them, too.
    fn idempotent(&self) -> Vec<(Batch, Timestamp)> {
        let named = self.batches.iter().filter(|(batch, _)| batch.header.producer_id.is_some());
        named.cloned().collect()
    }

    /// What can be written of a log now.
    fn take(log: &Arc<Log>) -> Option<Self> {
        let state = log.state.lock();
        let due = state.due()?;
        Some(Self {
            log: Arc::clone(log),
            batches: due.batches,
            start: state.start,
            flushed: state.flushed,
            generation: state.generation,
            compacted: state.compacted,
            covered: due.covered,
            settings: Arc::clone(&state.settings),
            segments: state.segments.clone(),
            epochs: state.epochs(),
        })
    }
}
