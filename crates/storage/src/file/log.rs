//! What the engine knows of one log, and the steps that change it.

use std::sync::Arc;

use parking_lot::Mutex;
use rafka_core::producer_state::ProducerTable;
use rafka_core::{Batch, EpochHistory, Offset, Time, Timestamp, TopicPartition};

use crate::journal::Sequence;
use crate::manifest::{Checkpoint, Covered};
use crate::segment::Segment;
use crate::tail::{Entry, Tail};
use crate::{Bounds, Durability, Error, LogId, LogSettings, ReadError, Recovered};

/// A log and its lock. Lock order: a log before anything that [`Shared`](super::Shared) guards; no
/// two logs at once.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) id: LogId,
    pub(super) name: TopicPartition,
    pub(super) state: Mutex<State>,
}

/// Where a batch in memory stands: its place in the journal, or not yet submitted because the log
/// is changing lanes.
pub(super) type Place = Option<Sequence>;

/// What calls may do with a log now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// A truncation to this offset is on its way: the flusher leaves the log alone until its
    /// segments are cut.
    Truncating(Offset),
    Deleted,
}

impl Phase {
    /// Also truncated to `end`.
    pub(super) fn truncating(self, end: Offset) -> Self {
        match self {
            Self::Open => Self::Truncating(end),
            Self::Truncating(before) => Self::Truncating(before.min(end)),
            Self::Deleted => Self::Deleted,
        }
    }
}

/// The changing part of a log.
///
/// An idle log costs this and its places in two maps: what only busy logs need is boxed.
#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: Arc<LogSettings>,
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) durable: Offset,
    /// Everything below this is in segments, or below `start`.
    pub(super) flushed: Offset,
    pub(super) phase: Phase,
    /// Where appends go.
    pub(super) lane: Durability,
    /// Where they are to go once everything submitted is flushed.
    pub(super) next_lane: Option<Durability>,
    /// Raised with every truncation and compaction, so that caches and readers notice, and no file
    /// name is used twice. See [`Checkpoint::generation`].
    pub(super) generation: u32,
    /// Where the last compaction came to.
    pub(super) compacted: Offset,
    /// Whether what an earlier process left half-done was removed.
    pub(super) is_swept: bool,
    /// Up to where the journals are not needed for this log any more.
    pub(super) covered: Covered,
    /// The last truncation that no checkpoint covers.
    pub(super) truncated_at: Option<Sequence>,
    /// Since when something waits to be flushed.
    pub(super) dirty_since: Option<Time>,
    pub(super) segments: Vec<Segment>,
    pub(super) tail: Option<Box<Tail<Place>>>,
    /// The leader epochs of what is below `flushed`.
    pub(super) epochs: Option<Box<EpochHistory>>,
}

/// What the flusher takes of a log.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) batches: Vec<(Batch, Timestamp)>,
    /// The checkpoint will cover this.
    pub(super) covered: Covered,
}

impl State {
    pub(super) fn new(settings: Arc<LogSettings>) -> Self {
        Self {
            lane: settings.durability,
            settings,
            start: Offset::ZERO,
            end: Offset::ZERO,
            durable: Offset::ZERO,
            flushed: Offset::ZERO,
            phase: Phase::Open,
            next_lane: None,
            generation: 0,
            compacted: Offset::ZERO,
            is_swept: false,
            covered: Covered::default(),
            truncated_at: None,
            dirty_since: None,
            segments: Vec::new(),
            tail: None,
            epochs: None,
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds { start: self.start, end: self.end, durable: self.durable }
    }

    /// That the log was not deleted since the caller found it.
    pub(super) fn check_open(&self, log: LogId) -> Result<(), Error> {
        if self.phase == Phase::Deleted { Err(Error::UnknownLog(log)) } else { Ok(()) }
    }

    pub(super) fn check_range(&self, from: Offset) -> Result<(), ReadError> {
        if self.start <= from && from <= self.end {
            return Ok(());
        }
        Err(ReadError::OutOfRange { from, start: self.start, end: self.end })
    }

    /// A log as its checkpoint describes it.
    pub(super) fn restored(checkpoint: Checkpoint) -> Self {
        let mut state = Self::new(Arc::default());
        let Checkpoint { start, end, covered, generation, compacted, segments, epochs } =
            checkpoint;
        state.start = start;
        state.flushed = end;
        state.end = end;
        state.durable = end;
        state.covered = covered;
        state.generation = generation;
        state.compacted = compacted;
        state.segments = segments;
        state.set_epochs(epochs);
        state
    }

    /// Ends the replay, during which the log may have ended below its start: a later trimming is in
    /// the checkpoint already, while the batches that it went by come from the journal. In the `os`
    /// lane a power cut may have taken them.
    pub(super) fn end_replay(&mut self) {
        self.end = self.end.max(self.start);
        self.durable = self.end;
    }

    /// What the manifest is to say of the log.
    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            start: self.start,
            end: self.flushed,
            covered: self.covered,
            generation: self.generation,
            compacted: self.compacted,
            segments: self.segments.clone(),
            epochs: self.epochs(),
        }
    }

    /// The leader epochs of what is below `flushed`.
    pub(super) fn epochs(&self) -> EpochHistory {
        self.epochs.as_deref().cloned().unwrap_or_default()
    }

    pub(super) fn set_epochs(&mut self, epochs: EpochHistory) {
        self.epochs = (!epochs.entries().is_empty()).then(|| Box::new(epochs));
    }

    /// What the log is known to hold of epochs and producers up to its end; `producers` are those
    /// below `flushed`.
    pub(super) fn recovered(&self, mut producers: ProducerTable) -> Recovered {
        let mut epochs = self.epochs();
        for entry in self.tail.iter().flat_map(|tail| tail.iter()) {
            let header = &entry.batch.header;
            epochs.note(header.leader_epoch, header.base_offset);
            producers.note(&entry.batch, entry.appended_at);
        }
        Recovered { bounds: self.bounds(), epochs, producers }
    }

    /// The bytes of all batches, as they would be read.
    pub(super) fn bytes(&self) -> u64 {
        let flushed: u64 = self.segments.iter().map(|segment| segment.batch_bytes).sum();
        flushed + self.tail.as_ref().map_or(0, |tail| tail.bytes().0)
    }

    /// Everything below this is read from segments, everything from here on from memory.
    pub(super) fn in_segments(&self) -> Offset {
        match self.phase {
            // What lies above is to be cut off.
            Phase::Truncating(end) => self.flushed.min(end),
            Phase::Open | Phase::Deleted => self.flushed,
        }
    }

    /// The first segment that may hold something at `from` or above that is read from segments, and
    /// that `fits`.
    pub(super) fn segment_from(
        &self,
        from: Offset,
        fits: impl Fn(&Segment) -> bool,
    ) -> Option<&Segment> {
        let in_segments = self.in_segments();
        if in_segments <= from {
            return None;
        }
        let first = self.segments.partition_point(|segment| segment.end <= from);
        let segment = self.segments.iter().skip(first).find(|segment| fits(segment))?;
        (segment.base < in_segments).then_some(segment)
    }

    pub(super) fn tail_weight(&self) -> u64 {
        self.tail.as_ref().map_or(0, |tail| tail.weight())
    }

    pub(super) fn pin(&mut self, batch: Batch, appended_at: Timestamp, place: Place) {
        self.end = batch.next_offset();
        self.tail.get_or_insert_default().push(Entry { batch, appended_at, note: place });
    }

    /// Everything submitted that ends at or below `end` became durable. Returns how far the log is
    /// durable now, if that is news.
    ///
    /// A submitted batch may have been truncated meanwhile: then no more than the log's end.
    pub(super) fn note_durable(&mut self, end: Offset) -> Option<Offset> {
        let durable = end.min(self.end);
        if self.phase == Phase::Deleted || durable <= self.durable {
            return None;
        }
        self.durable = durable;
        Some(durable)
    }

    /// Drops what reaches above `end` from memory. Returns the weight that this freed.
    ///
    /// The end may lie below the log's start then, if all between was only in memory.
    pub(super) fn truncate_memory(&mut self, end: Offset) -> u64 {
        let weight = self.tail_weight();
        let left = self.tail.as_mut().and_then(|tail| tail.truncate(end));
        // Without a tail the end lies in the segments or at their end; `cut_segments` knows better.
        self.end = left.unwrap_or_else(|| end.min(self.flushed));
        self.durable = self.durable.min(self.end);
        self.generation = self.generation.wrapping_add(1);
        self.free_empty_tail();
        weight - self.tail_weight()
    }

    /// What can be flushed: the durable batches at the front of the tail.
    pub(super) fn due(&self) -> Option<Due> {
        if self.phase != Phase::Open {
            return None;
        }
        let mut due = Due { batches: Vec::new(), covered: self.covered };
        let mut covered = self.truncated_at;
        for entry in self.tail.iter().flat_map(|tail| tail.iter()) {
            let (Some(place), true) = (entry.note, entry.batch.next_offset() <= self.durable)
            else {
                break;
            };
            covered = covered.max(Some(place));
            due.batches.push((entry.batch.clone(), entry.appended_at));
        }
        due.covered.raise(self.lane, covered?.next().0);
        Some(due)
    }

    /// Takes what a checkpoint covers out of the tail.
    pub(super) fn unpin(&mut self, flushed: Offset) -> Vec<Entry<Place>> {
        let mut unpinned = Vec::new();
        let Some(tail) = &mut self.tail else { return unpinned };
        while tail.first().is_some_and(|first| first.batch.next_offset() <= flushed) {
            unpinned.extend(tail.pop_first());
        }
        self.free_empty_tail();
        unpinned
    }

    fn free_empty_tail(&mut self) {
        if self.tail.as_ref().is_some_and(|tail| tail.is_empty()) {
            self.tail = None;
        }
    }

    /// The first place in the journal that this log still needs.
    pub(super) fn uncovered(&self) -> Option<Sequence> {
        let first = self.tail.as_ref().and_then(|tail| tail.first()?.note);
        match (self.truncated_at, first) {
            // A truncation needs what it cuts to stay behind it, never before it.
            (Some(truncated), Some(first)) => Some(truncated.min(first)),
            (truncated, first) => truncated.or(first),
        }
    }

    /// Whether something waits for the flusher, now or later.
    pub(super) fn is_dirty(&self) -> bool {
        self.tail.is_some() || self.truncated_at.is_some()
    }
}
