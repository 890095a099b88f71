//! What a producer has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use rafka_client::{Latencies, LatencySummary};
use rafka_core::ByteSize;

/// Counters, written by the sending side and by `send`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) records_sent: AtomicU64,
    pub(crate) records_acked: AtomicU64,
    pub(crate) records_failed: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) batches_sent: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) links_lost: AtomicU64,
    pub(crate) latencies: Latencies,
}

/// The numbers of a producer at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Records that `send` took.
    pub records_sent: u64,
    /// Records that were delivered.
    pub records_acked: u64,
    /// Records that were not.
    pub records_failed: u64,
    /// Batches put on a connection, repeats included.
    pub batches_sent: u64,
    /// Their bytes.
    pub bytes_sent: ByteSize,
    /// Batches that had to be sent again.
    pub retries: u64,
    /// Connections that broke or could not be made.
    pub links_lost: u64,
    /// From the first `send` into a batch to its delivery.
    pub latency: LatencySummary,
    /// Memory taken by records that are not delivered yet.
    pub buffer_bytes: ByteSize,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self, buffer_bytes: ByteSize) -> Metrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Metrics {
            records_sent: read(&self.records_sent),
            records_acked: read(&self.records_acked),
            records_failed: read(&self.records_failed),
            batches_sent: read(&self.batches_sent),
            bytes_sent: ByteSize(read(&self.bytes_sent)),
            retries: read(&self.retries),
            links_lost: read(&self.links_lost),
            latency: self.latencies.summary(),
            buffer_bytes,
        }
    }
}
