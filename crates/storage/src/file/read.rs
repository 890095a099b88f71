//! Reading: from memory if it is there, from a segment otherwise.

use std::sync::Arc;

use rafka_core::{Batch, ByteSize, Offset, Timestamp};

use super::Inner;
use super::log::{Log, Phase};
use super::write;
use crate::engine::full_message;
use crate::segment::{Segment, Wanted};
use crate::sidecar::Key;
use crate::tail::{self, Taken};
use crate::{Bounds, Error, LogId, ReadError, TimedOffset};

/// A read starts anew when the log was cut or cleaned under it. That is rare; more than this often in
/// a row, and the failure is taken for what it is.
const ATTEMPTS: u32 = 10;

/// What a read wants.
#[derive(Debug, Clone, Copy)]
struct Range {
    from: Offset,
    below: Offset,
    limit: ByteSize,
}

/// A segment, and the state of the log in which it was found.
struct Found {
    segment: Segment,
    generation: u32,
    /// Nothing above this is read from segments.
    readable: Offset,
}

impl Inner {
    pub(super) fn bounds(&self, log: LogId) -> Result<Bounds, Error> {
        Ok(self.shared.log(log)?.state.lock().bounds())
    }

    pub(super) fn size(&self, log: LogId) -> Result<ByteSize, Error> {
        Ok(ByteSize(self.shared.log(log)?.state.lock().bytes()))
    }

    pub(super) fn read_hot(
        &self,
        log: LogId,
        from: Offset,
        below: Offset,
        limit: ByteSize,
    ) -> Option<Result<Vec<Batch>, ReadError>> {
        let log = match self.shared.log(log) {
            Ok(log) => log,
            Err(error) => return Some(Err(error.into())),
        };
        let answer = self.read_memory(&log, Range { from, below, limit }).transpose();
        match &answer {
            Some(_) => self.shared.sidecar.note_hit(),
            None => self.shared.sidecar.note_miss(),
        }
        answer
    }

    pub(super) fn read(
        &self,
        log: LogId,
        from: Offset,
        below: Offset,
        limit: ByteSize,
    ) -> Result<Vec<Batch>, ReadError> {
        let log = self.shared.log(log)?;
        let mut range = Range { from, below, limit };
        let mut attempts = ATTEMPTS;
        loop {
            if let Some(batches) = self.read_memory(&log, range)? {
                return Ok(batches);
            }
            // None if they went since memory was looked at: look again.
            let Some(found) = find(&log, range.from) else { continue };
            let below = range.below.min(found.readable);
            let wanted = Wanted { from: range.from, below, limit: range.limit };
            let mut batches = Vec::new();
            let read = self.store.read(&log.name, &found.segment, wanted, &mut batches);
            attempts -= 1;
            if 0 < attempts && !found.still_holds(&log) {
                range.from = from;
                continue;
            }
            read.map_err(|error| found.explain(range.from, error))?;
            let end = found.segment.end.min(found.readable);
            if !batches.is_empty() || range.below <= end {
                self.keep(&log, found.generation, &batches);
                return Ok(batches);
            }
            // Compaction has left nothing between here and the segment's end.
            range.from = end;
        }
    }

    /// What memory holds of the range. `None`: not what comes first.
    fn read_memory(&self, log: &Arc<Log>, range: Range) -> Result<Option<Vec<Batch>>, ReadError> {
        let Range { from, below, limit } = range;
        let (key, in_segments) = {
            let state = log.state.lock();
            state.check_open(log.id)?;
            state.check_range(from)?;
            if below.min(state.end) <= from {
                return Ok(Some(Vec::new()));
            }
            // Compaction may have left nothing between here and the tail.
            if state.segment_from(from, |_| true).is_none() {
                let tail = state.tail.as_ref();
                return Ok(Some(tail.map_or_else(Vec::new, |tail| tail.read(from, below, limit))));
            }
            (Key { log: log.id, generation: state.generation, base: from }, state.in_segments())
        };
        let mut taken = Taken::new(limit);
        let next = self.shared.sidecar.read(key, below.min(in_segments), &mut taken);
        if taken.batches.is_empty() {
            return Ok(None);
        }
        if next == in_segments {
            let state = log.state.lock();
            // Unless the tail has moved on meanwhile.
            if (state.generation, state.in_segments()) == (key.generation, in_segments) {
                for entry in state.tail.iter().flat_map(|tail| tail.iter()) {
                    if below < entry.batch.next_offset() || !taken.take(&entry.batch) {
                        break;
                    }
                }
            }
        }
        Ok(Some(taken.batches))
    }

    fn keep(&self, log: &Log, generation: u32, batches: &[Batch]) {
        for batch in batches {
            let key = Key { log: log.id, generation, base: batch.base_offset() };
            self.shared.sidecar.keep(key, batch);
        }
    }

    pub(super) fn find_by_time(
        &self,
        log: LogId,
        at: Timestamp,
        below: Offset,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let log = self.shared.log(log)?;
        let mut attempts = ATTEMPTS;
        let mut cursor = None;
        loop {
            let (start, from, found) = {
                let state = log.state.lock();
                state.check_open(log.id)?;
                let from = cursor.unwrap_or(state.start).max(state.start);
                let found = Found::first(&state, from, |segment| at <= segment.max_timestamp);
                let Some(found) = found else {
                    let batches = state.tail.as_ref().map(|tail| tail.not_older(at, from, below));
                    let start = state.start;
                    drop(state);
                    return Ok(tail::find(&batches.unwrap_or_default(), at, start, below));
                };
                (state.start, from, found)
            };
            let until = below.min(found.readable);
            let result = self.find_in_segment(&log, &found.segment, (at, start.max(from)), until);
            attempts -= 1;
            if 0 < attempts && !found.still_holds(&log) {
                cursor = None;
                continue;
            }
            let result = result.map_err(|error| found.explain(from, error))?;
            if let Some(record) = result.filter(|record| record.offset < until) {
                return Ok(Some(record));
            }
            let end = found.segment.end.min(found.readable);
            if below <= end {
                return Ok(None);
            }
            cursor = Some(end);
        }
    }

    /// The first record of a segment at or above `start` that is not older than `at`.
    fn find_in_segment(
        &self,
        log: &Log,
        segment: &Segment,
        (at, start): (Timestamp, Offset),
        below: Offset,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let found = self.store.find_by_time(&log.name, segment, at, below)?;
        if found.is_none_or(|found| start <= found.offset) {
            return Ok(found);
        }
        // The log begins inside of this segment, and what the index led to lies before.
        let mut from = start;
        loop {
            let mut batches = Vec::new();
            let wanted = Wanted { from, below: segment.end, limit: ByteSize::mib(1) };
            self.store.read(&log.name, segment, wanted, &mut batches)?;
            let Some(last) = batches.last() else { return Ok(None) };
            let found = tail::find(&batches, at, start, segment.end);
            if found.is_some() {
                return Ok(found);
            }
            from = last.next_offset();
        }
    }
}

/// The segment that a read from this offset has to ask.
fn find(log: &Log, from: Offset) -> Option<Found> {
    Found::first(&log.state.lock(), from, |_| true)
}

impl Found {
    /// The first segment that ends above `from` and `fits`.
    fn first(
        state: &super::log::State,
        from: Offset,
        fits: impl Fn(&Segment) -> bool,
    ) -> Option<Self> {
        let segment = state.segment_from(from, fits)?.clone();
        Some(Self { segment, generation: state.generation, readable: state.in_segments() })
    }

    /// A segment whose file is gone, or cut to less than its head, is damage like any other: its
    /// readers learn where they may go on.
    fn explain(&self, offset: Offset, error: ReadError) -> ReadError {
        match error {
            ReadError::Failed(error) if write::is_damage(&error) => {
                tracing::error!(error = full_message(&error), "a segment is lost");
                ReadError::Damaged { offset, next: self.segment.end.min(self.readable) }
            }
            error => error,
        }
    }

    /// Whether the log has been neither cut nor cleaned where the segment is.
    fn still_holds(&self, log: &Log) -> bool {
        let state = log.state.lock();
        let name = |segment: &Segment| (segment.base, segment.generation);
        state.phase != Phase::Deleted
            && state.generation == self.generation
            && state.segments.iter().any(|segment| name(segment) == name(&self.segment))
    }
}
