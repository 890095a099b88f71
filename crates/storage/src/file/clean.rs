//! Retention and compaction of a log, beside appends and reads.

use std::collections::BTreeSet;
use std::sync::Arc;

use rafka_core::rng::RngExt as _;
use rafka_core::{ByteSize, Offset, ProducerId, Timestamp};

use super::Inner;
use super::log::{Log, Phase};
use crate::compaction::{self, Job, Outcome};
use crate::manifest::{Change, Checkpoint};
use crate::retention::{self, Extent};
use crate::segment::Segment;
use crate::{CleanReport, Error, LogId};

/// The memory for the keys of one pass: some 250 000 of them. More keys take more passes.
const KEY_BYTES_MAX: ByteSize = ByteSize::mib(16);

impl Inner {
    pub(super) fn clean(
        &self,
        log: LogId,
        below: Offset,
        now: Timestamp,
    ) -> Result<CleanReport, Error> {
        let _cleaning = self.cleaning.lock();
        let log = self.shared.log(log)?;
        self.sweep(&log);
        let mut report = CleanReport::default();
        self.expire(&log, below, now, &mut report)?;
        self.compact(&log, below, now, &mut report)?;
        report.start = log.state.lock().start;
        Ok(report)
    }

    /// Removes what an earlier process left half-done in the log's directory. Once.
    fn sweep(&self, log: &Arc<Log>) {
        let _maintenance = self.maintenance.lock();
        let segments = {
            let mut state = log.state.lock();
            if std::mem::replace(&mut state.is_swept, true) {
                return;
            }
            state.segments.clone()
        };
        match self.store.sweep(&log.name, &segments) {
            Ok(0) => {}
            Ok(files) => tracing::info!(name = %log.name, files, "unfinished files removed"),
            Err(error) => tracing::warn!(name = %log.name, %error, "unfinished files left behind"),
        }
    }

    fn expire(
        &self,
        log: &Arc<Log>,
        below: Offset,
        now: Timestamp,
        report: &mut CleanReport,
    ) -> Result<(), Error> {
        let start = {
            let state = log.state.lock();
            state.check_open(log.id)?;
            let below = below.min(state.flushed).min(state.end);
            let extents = state.segments.iter().map(Extent::from);
            let count = retention::expired(extents, state.bytes(), &state.settings, below, now);
            let Some(last) = count.checked_sub(1).and_then(|last| state.segments.get(last)) else {
                return Ok(());
            };
            last.end
        };
        let removed = self.raise_start(log, start)?;
        report.segments_deleted += ByteSize::of_len(removed.len()).0;
        report.bytes_freed += removed.iter().map(|segment| segment.batch_bytes).sum::<u64>();
        Ok(())
    }

    fn compact(
        &self,
        log: &Arc<Log>,
        below: Offset,
        now: Timestamp,
        report: &mut CleanReport,
    ) -> Result<(), Error> {
        let (segments, compacted, until, settings, generation) = {
            let mut state = log.state.lock();
            state.check_open(log.id)?;
            let mut segments = state.segments.clone();
            // The last one is still appended to; it is taken along when the log is idle.
            if state.is_dirty() {
                segments.pop();
            }
            let below = below.min(state.flushed).min(state.end);
            let until = compaction::due(&segments, state.compacted, &state.settings, below, now);
            let Some(until) = until else { return Ok(()) };
            state.generation = state.generation.wrapping_add(1);
            let settings = Arc::clone(&state.settings);
            (segments, state.compacted, until, settings, state.generation)
        };
        // The marker of what was aborted may be in memory yet.
        let aborted = self.aborted(log.id, Offset::ZERO, until)?;
        let active: BTreeSet<ProducerId> = {
            let _maintenance = self.maintenance.lock();
            let known = self.producers(log)?;
            let recovered = log.state.lock().recovered(known);
            recovered.producers.last_batches().map(|(id, _)| id).collect()
        };
        let job = Job {
            store: &self.store,
            disk: &*self.disk,
            name: log.name,
            segments: &segments,
            compacted,
            until,
            generation,
            settings: &settings,
            now,
            key_bytes_max: KEY_BYTES_MAX,
            seed: self.maintenance.lock().rng.random(),
            aborted: &aborted,
        };
        let mut outcome = compaction::compact(&job, &|producer| active.contains(&producer))?;
        let rest = segments.len() - outcome.replaced.len();
        outcome.segments.truncate(outcome.segments.len() - rest);
        if self.replace(log, &outcome)? {
            self.remove_segments(&log.name, &outcome.replaced);
            report.bytes_freed += outcome.bytes_freed;
            report.records_compacted += outcome.records_removed;
        } else {
            self.remove_segments(&log.name, &outcome.segments);
        }
        Ok(())
    }

    /// Puts compacted segments into the place of those that they replace. False: the log was cut or
    /// trimmed meanwhile, and the work was for nothing.
    fn replace(&self, log: &Arc<Log>, outcome: &Outcome) -> Result<bool, Error> {
        let _maintenance = self.maintenance.lock();
        self.shared.check_alive()?;
        let compacted = {
            let state = log.state.lock();
            let unchanged = state.segments.starts_with(&outcome.replaced);
            if state.phase != Phase::Open || !unchanged {
                return Ok(false);
            }
            let kept = state.segments.iter().skip(outcome.replaced.len());
            let segments: Vec<Segment> = outcome.segments.iter().chain(kept).cloned().collect();
            Checkpoint { segments, compacted: outcome.compacted, ..state.checkpoint() }
        };
        self.commit(&[
            Change::Checkpoint(log.id, compacted.clone()),
            Change::Unmarked(log.id, outcome.unmarked.clone()),
        ])?;
        let mut state = log.state.lock();
        state.segments = compacted.segments;
        state.compacted = compacted.compacted;
        // What was cached or is being read now is of before.
        state.generation = state.generation.wrapping_add(1);
        Ok(true)
    }
}
