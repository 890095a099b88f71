//! Truncating, trimming, deleting and configuring logs.

use std::io;
use std::sync::Arc;

use rafka_core::producer_state::{Ended, ProducerTable};
use rafka_core::{Offset, Timestamp, TopicPartition};

use super::Inner;
use super::log::{Log, Phase, State};
use crate::journal::{Driver, Entry, Journal, Sequence};
use crate::manifest::{Change, Checkpoint};
use crate::segment::Segment;
use crate::{Bounds, Durability, Error, LogId, LogSettings, disk};

/// How often a change of lanes is helped along before a truncation gives up.
const SWITCH_ATTEMPTS: u32 = 8;

impl Inner {
    pub(super) fn truncate(&self, log: LogId, end: Offset) -> Result<Bounds, Error> {
        let log = self.shared.log(log)?;
        self.finish_switch(&log)?;
        let Some((lane, sequence)) = self.submit_truncation(&log, end)? else {
            return self.await_durable(&log);
        };
        // If one of them fails, the flusher leaves the log alone until a later call comes through.
        self.await_reported(lane, sequence)?;
        self.cut_segments(&log)?;
        let mut state = log.state.lock();
        state.check_open(log.id)?;
        state.phase = Phase::Open;
        // What is left was submitted before the cut, so that it is durable with it.
        state.durable = state.end;
        Ok(state.bounds())
    }

    /// Cuts memory and submits the cut to the journal, or finds one that was not finished. `None`:
    /// there is nothing to cut.
    fn submit_truncation(
        &self,
        log: &Arc<Log>,
        end: Offset,
    ) -> Result<Option<(Durability, Sequence)>, Error> {
        let mut state = log.state.lock();
        state.check_open(log.id)?;
        self.shared.check_alive()?;
        if state.end <= end {
            let is_unfinished = matches!(state.phase, Phase::Truncating(_));
            let unfinished = state.truncated_at.filter(|_| is_unfinished);
            return Ok(unfinished.map(|sequence| (state.lane, sequence)));
        }
        let end = end.max(state.start);
        self.mark_dirty(log, &mut state);
        let (lane, entry) = (state.lane, Entry::Truncate { log: log.id, end });
        let sequence = self.shared.lanes.of(lane).submit(self.journal(lane), log, entry, None)?;
        state.truncated_at = Some(sequence);
        let durable = state.durable;
        let freed = state.truncate_memory(end);
        // A batch that the log starts inside of may have gone: nothing is left then.
        state.end = state.end.max(state.start);
        state.durable = durable.min(state.end);
        state.phase = state.phase.truncating(state.end);
        drop(state);
        self.shared.unpin(freed);
        Ok(Some((lane, sequence)))
    }

    /// Cuts the segments to where the log was truncated, and makes that durable.
    pub(super) fn cut_segments(&self, log: &Arc<Log>) -> Result<(), Error> {
        let _maintenance = self.maintenance.lock();
        let (mut cut, end) = {
            let state = log.state.lock();
            let Phase::Truncating(end) = state.phase else { return Ok(()) };
            if state.flushed <= end {
                return Ok(());
            }
            (state.checkpoint(), end)
        };
        let dropped = self.cut_row(&log.name, &mut cut.segments, end)?;
        cut.end = cut.segments.last().map_or(cut.start, |last| last.end).max(cut.start);
        cut.compacted = cut.compacted.min(cut.end);
        let mut state = log.state.lock();
        let truncated = state.truncated_at.expect("a log is cut where it was truncated");
        cut.covered.raise(state.lane, truncated.next().0);
        drop(state);
        cut.epochs.truncate(cut.end);
        let mut changes = vec![Change::Checkpoint(log.id, cut.clone())];
        if !self.producers(log)?.is_empty() {
            let left = self.producers_of(&log.name, &cut.segments);
            changes.push(Change::Producers(log.id, left));
        }
        self.commit(&changes)?;
        state = log.state.lock();
        state.settle_cut(cut);
        self.note_clean(log, &mut state);
        drop(state);
        self.remove_segments(&log.name, &dropped);
        Ok(())
    }

    /// Cuts a row of segments to those below `end`. Returns those that are gone.
    fn cut_row(
        &self,
        name: &TopicPartition,
        segments: &mut Vec<Segment>,
        end: Offset,
    ) -> Result<Vec<Segment>, Error> {
        let keep = segments.partition_point(|segment| segment.end <= end);
        let mut dropped = segments.split_off(keep);
        if let Some(first) = dropped.first()
            && let Some(left) = self.store.truncated(name, first, end)?
        {
            segments.push(left);
            dropped.remove(0);
        }
        Ok(dropped)
    }

    /// What is known of a log's producers below `flushed`. The caller holds the maintenance lock.
    pub(super) fn producers(&self, log: &Log) -> Result<ProducerTable, Error> {
        let known = self.manifest.producers(&[log.id])?;
        Ok(known.into_iter().next().unwrap_or_default())
    }

    /// The aborted transactions of a log whose markers are at `from` or above and that began below
    /// `below`. Waits for a flush in progress.
    pub(super) fn aborted(
        &self,
        log: LogId,
        from: Offset,
        below: Offset,
    ) -> Result<Vec<Ended>, Error> {
        let log = self.shared.log(log)?;
        let _maintenance = self.maintenance.lock();
        let mut aborted = self.manifest.aborted(log.id, from, below)?;
        let has_markers = {
            let state = log.state.lock();
            state.check_open(log.id)?;
            let mut tail = state.tail.iter().flat_map(|tail| tail.iter());
            tail.any(|entry| entry.batch.header.attributes.is_control())
        };
        if has_markers {
            let mut producers = self.producers(&log)?;
            let state = log.state.lock();
            let tail = state.tail.iter().flat_map(|tail| tail.iter());
            let ended = tail.filter_map(|entry| producers.note(&entry.batch, entry.appended_at));
            aborted.extend(ended.filter(|ended| ended.is_aborted_within(from, below)));
        }
        Ok(aborted)
    }

    pub(super) fn forget_producers(&self, before: Timestamp) -> Result<(), Error> {
        let _maintenance = self.maintenance.lock();
        self.shared.check_alive()?;
        self.commit(&[Change::Forget(before)])
    }

    /// What segments say of idempotent producers.
    fn producers_of(&self, name: &TopicPartition, segments: &[Segment]) -> ProducerTable {
        let mut producers = ProducerTable::default();
        for segment in segments {
            let mut note = || -> Result<(), Error> {
                let opened = self.store.opened(name, segment)?;
                let mut frames = opened.frames();
                while let Some(frame) = frames.next()? {
                    if frame.unverified.producer_id.is_some() {
                        let batch = frames.batch(&frame)?;
                        producers.note(&batch, segment.last_append);
                    }
                }
                Ok(())
            };
            // A damaged batch makes its producer start anew, which is better than no truncation.
            if let Err(error) = note() {
                tracing::warn!(%name, %error, "producers of a damaged segment are unknown");
            }
        }
        producers
    }

    /// Waits until everything in the log is durable.
    fn await_durable(&self, log: &Arc<Log>) -> Result<Bounds, Error> {
        let last = {
            let state = log.state.lock();
            let place = state.tail.iter().flat_map(|tail| tail.iter()).rev().find_map(|e| e.note);
            place.map(|place| (state.lane, place))
        };
        if let Some((lane, place)) = last {
            self.await_reported(lane, place)?;
        }
        let state = log.state.lock();
        state.check_open(log.id)?;
        Ok(state.bounds())
    }

    /// Blocks until a record is durable and was reported.
    pub(super) fn await_reported(&self, lane: Durability, sequence: Sequence) -> Result<(), Error> {
        let reported = self.shared.lanes.of(lane);
        match self.driver {
            Driver::Threads => {
                reported.wait_reported(sequence, None, || !self.shared.is_alive());
            }
            Driver::Manual => {
                self.journal(lane).settle();
                if !reported.is_reported(sequence) {
                    // The journal may wait for what only a flush releases.
                    self.flush_all().ok();
                    self.journal(lane).settle();
                }
            }
        }
        if reported.is_reported(sequence) {
            return Ok(());
        }
        self.shared.check_alive()?;
        Err(disk::failed("write the journal in", &self.dir)(io::ErrorKind::StorageFull.into()))
    }

    /// The journal of a lane that a log is in.
    pub(super) fn journal(&self, lane: Durability) -> &Journal {
        self.journals.of(lane).get().expect("a log's lane begins when the log is opened")
    }

    pub(super) fn trim(&self, log: LogId, start: Offset) -> Result<Bounds, Error> {
        let log = self.shared.log(log)?;
        self.raise_start(&log, start)?;
        let state = log.state.lock();
        state.check_open(log.id)?;
        Ok(state.bounds())
    }

    /// Makes `start` the log's first offset, durably, and removes the segments below it. Returns
    /// those.
    pub(super) fn raise_start(&self, log: &Arc<Log>, start: Offset) -> Result<Vec<Segment>, Error> {
        let _maintenance = self.maintenance.lock();
        self.shared.check_alive()?;
        let mut trimmed = {
            let state = log.state.lock();
            state.check_open(log.id)?;
            let start = start.min(state.end);
            if start <= state.start {
                return Ok(Vec::new());
            }
            Checkpoint { start, ..state.checkpoint() }
        };
        let start = trimmed.start;
        let count = trimmed.segments.partition_point(|segment| segment.end <= start);
        let removed: Vec<Segment> = trimmed.segments.drain(..count).collect();
        trimmed.epochs.trim(start);
        self.commit(&[Change::Checkpoint(log.id, trimmed.clone())])?;
        let mut state = log.state.lock();
        // A truncation may have begun meanwhile; it cannot go below what readers were promised.
        state.start = start;
        state.end = state.end.max(start);
        state.segments = trimmed.segments;
        state.set_epochs(trimmed.epochs);
        drop(state);
        self.remove_segments(&log.name, &removed);
        Ok(removed)
    }

    pub(super) fn delete(&self, names: &[TopicPartition]) -> Result<(), Error> {
        let mut maintenance = self.maintenance.lock();
        self.shared.check_alive()?;
        let mut logs: Vec<Arc<Log>> = {
            let known = self.shared.logs.read();
            names.iter().filter_map(|name| known.by_name.get(name).cloned()).collect()
        };
        logs.sort_by_key(|log| log.id);
        logs.dedup_by_key(|log| log.id);
        if logs.is_empty() {
            return Ok(());
        }
        let changes: Vec<Change> = logs.iter().map(|log| Change::Delete(log.id)).collect();
        self.commit(&changes)?;
        let mut known = self.shared.logs.write();
        for log in &logs {
            known.by_id.remove(&log.id);
            known.by_name.remove(&log.name);
        }
        drop(known);
        for log in logs {
            let mut state = log.state.lock();
            state.phase = Phase::Deleted;
            let freed = state.tail_weight();
            (state.tail, state.truncated_at) = (None, None);
            self.note_clean(&log, &mut state);
            drop(state);
            self.shared.unpin(freed);
            maintenance.garbage.push((log.id, log.name));
        }
        self.shared.signal.kick();
        Ok(())
    }

    pub(super) fn configure(&self, log: LogId, settings: &LogSettings) -> Result<(), Error> {
        let log = self.shared.log(log)?;
        self.begin_lane(settings.durability)?;
        self.apply_settings(&log, settings)
    }

    /// Gives a log settings whose lane has begun.
    pub(super) fn apply_settings(
        &self,
        log: &Arc<Log>,
        settings: &LogSettings,
    ) -> Result<(), Error> {
        let settings = self.shared_settings(settings);
        let mut state = log.state.lock();
        state.check_open(log.id)?;
        let lane = settings.durability;
        state.settings = settings;
        if state.next_lane.unwrap_or(state.lane) != lane {
            if state.is_dirty() {
                // What is in the old lane is flushed first: a replay knows no order between lanes.
                state.next_lane = Some(lane);
                drop(state);
                self.shared.note_due(log);
            } else {
                state.lane = lane;
            }
        }
        Ok(())
    }

    /// Settings like these, in one place for all logs that have them.
    fn shared_settings(&self, settings: &LogSettings) -> Arc<LogSettings> {
        let mut distinct = self.distinct_settings.lock();
        if let Some(known) = distinct.iter().find(|known| known.as_ref() == settings) {
            return Arc::clone(known);
        }
        // Only what nobody uses any more is in this list alone.
        distinct.retain(|known| 1 < Arc::strong_count(known));
        let settings = Arc::new(settings.clone());
        distinct.push(Arc::clone(&settings));
        settings
    }

    /// Moves a log whose lock is held to its next lane, once nothing of it is left in the old one.
    pub(super) fn complete_switch(&self, log: &Arc<Log>, state: &mut State) {
        let Some(next) = state.next_lane else { return };
        let is_drained = state.truncated_at.is_none() && state.uncovered().is_none();
        if !is_drained {
            return;
        }
        state.lane = next;
        state.next_lane = None;
        let Some(mut tail) = state.tail.take() else { return };
        for entry in tail.iter_mut() {
            match self.submit(log, state, &entry.batch) {
                Ok(sequence) => entry.note = Some(sequence),
                // The journal is dead, and whoever waits has been told.
                Err(_) => break,
            }
        }
        state.tail = Some(tail);
    }

    /// Returns when the log is not changing lanes.
    fn finish_switch(&self, log: &Arc<Log>) -> Result<(), Error> {
        for _ in 0..SWITCH_ATTEMPTS {
            if log.state.lock().next_lane.is_none() {
                return Ok(());
            }
            self.await_durable(log)?;
            self.flush_logs(&[Arc::clone(log)])?;
        }
        Err(disk::failed("flush", &self.dir)(io::ErrorKind::TimedOut.into()))
    }

    /// Commits to the manifest, and judges a failure.
    pub(super) fn commit(&self, changes: &[Change]) -> Result<(), Error> {
        self.manifest.commit(changes).inspect_err(|error| self.judge(error))
    }

    /// Removes segments that the manifest does not name any more. What cannot be removed is swept
    /// after the next start.
    pub(super) fn remove_segments(&self, name: &TopicPartition, segments: &[Segment]) {
        for segment in segments {
            if let Err(error) = self.store.remove(name, segment) {
                tracing::warn!(%name, %error, "segment left behind");
            }
        }
        if !segments.is_empty() {
            self.look_at_space();
        }
    }
}

impl State {
    /// Takes over what a truncation left in the segments.
    fn settle_cut(&mut self, cut: Checkpoint) {
        self.flushed = cut.end;
        if self.tail.is_none() {
            self.end = cut.end;
        }
        self.durable = self.durable.min(self.end);
        self.covered = cut.covered;
        self.compacted = cut.compacted;
        self.segments = cut.segments;
        self.truncated_at = None;
        self.set_epochs(cut.epochs);
    }
}
