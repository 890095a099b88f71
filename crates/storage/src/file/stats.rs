//! What the engine counts and shows.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rafka_core::ByteSize;

use super::Inner;
use crate::journal;
use crate::per_lane::LANES;
use crate::sidecar::SidecarStats;
use crate::{Durability, LogId};

/// What the engine has done since it started, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The lanes in use, each with what its journal has written, and the disk space that it takes.
    pub journals: Vec<(Durability, journal::Stats, journal::Usage)>,
    /// The memory for records.
    pub sidecar: SidecarStats,
    /// The logs that exist.
    pub logs: u64,
    /// The segments of all logs.
    pub segments: u64,
    /// The batches in them.
    pub segment_bytes: ByteSize,
    /// Rounds of writing to segments.
    pub flushes: u64,
    /// Rounds that were given up because the disk was full.
    pub flushes_put_off: u64,
    /// The bytes that were written to segments.
    pub flushed_bytes: ByteSize,
    /// Indexes that were lost or damaged, and made again.
    pub indexes_rebuilt: u64,
    /// Segment and index files that are open.
    pub open_files: u64,
    /// The free space of the disk when it was last looked at.
    pub disk_free: ByteSize,
    /// Whether appends are refused because it is below the reserve.
    pub is_disk_full: bool,
    /// Whether a failed write has ended all writing.
    pub is_dead: bool,
}

/// What only the engine itself can count.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) flushes: AtomicU64,
    pub(super) flushes_put_off: AtomicU64,
    pub(super) flushed_bytes: AtomicU64,
    /// Whether the last flush was put off.
    pub(super) is_put_off: AtomicBool,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

impl Inner {
    pub(super) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let journals = LANES.into_iter().filter_map(|lane| {
            let journal = self.journals.of(lane).get()?;
            Some((lane, journal.stats(), journal.usage()))
        });
        let ids: Vec<LogId> = self.shared.logs.read().by_id.keys().copied().collect();
        let (mut segments, mut segment_bytes) = (0, 0);
        for log in ids.iter().filter_map(|id| self.shared.log(*id).ok()) {
            let state = log.state.lock();
            segments += ByteSize::of_len(state.segments.len()).0;
            segment_bytes += state.segments.iter().map(|segment| segment.batch_bytes).sum::<u64>();
        }
        Stats {
            journals: journals.collect(),
            sidecar: self.shared.sidecar.stats(),
            logs: ByteSize::of_len(ids.len()).0,
            segments,
            segment_bytes: ByteSize(segment_bytes),
            flushes: read(&self.counters.flushes),
            flushes_put_off: read(&self.counters.flushes_put_off),
            flushed_bytes: ByteSize(read(&self.counters.flushed_bytes)),
            indexes_rebuilt: self.store.indexes_rebuilt(),
            open_files: ByteSize::of_len(self.store.handles_open()).0,
            disk_free: self.shared.space.free(),
            is_disk_full: self.shared.space.check().is_err(),
            is_dead: !self.shared.is_alive(),
        }
    }
}
