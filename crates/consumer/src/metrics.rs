//! What a consumer has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use rafka_client::{Latencies, LatencySummary};
use rafka_core::ByteSize;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) polls: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) streams_opened: AtomicU64,
    pub(crate) streams_lost: AtomicU64,
    pub(crate) rebalances: AtomicU64,
    pub(crate) commits_failed: AtomicU64,
    pub(crate) commits: Latencies,
}

/// The numbers of a consumer at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Calls of `poll`, and records asked for on a stream.
    pub polls: u64,
    /// Records that were given.
    pub records: u64,
    /// Their keys and values.
    pub bytes: ByteSize,
    /// Fetch streams that were opened: to begin, after changes of what is read, after failures.
    pub streams_opened: u64,
    /// Fetch streams that failed.
    pub streams_lost: u64,
    /// How often the group gave this consumer its partitions.
    pub rebalances: u64,
    /// How long commits took that succeeded.
    pub commits: LatencySummary,
    /// Commits that failed.
    pub commits_failed: u64,
    /// Memory taken by what was fetched and not yet given.
    pub prefetched_bytes: ByteSize,
    /// Records that can be read and were not given yet, as far as is known, over all partitions.
    pub lag: u64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self, prefetched_bytes: ByteSize, lag: u64) -> Metrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Metrics {
            polls: read(&self.polls),
            records: read(&self.records),
            bytes: ByteSize(read(&self.bytes)),
            streams_opened: read(&self.streams_opened),
            streams_lost: read(&self.streams_lost),
            rebalances: read(&self.rebalances),
            commits: self.commits.summary(),
            commits_failed: read(&self.commits_failed),
            prefetched_bytes,
            lag,
        }
    }
}
