//! What the broker and its gateways count. Read by whoever shows metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the latency buckets, in microseconds: 50 µs to 10 s.
pub const LATENCY_BOUNDS_US: [u64; 16] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 5_000_000, 10_000_000,
];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub struct Latency {
    /// One for each bound, and one for what took longer than all of them.
    buckets: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Latency {
    pub(crate) fn observe(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < took_us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// How many fell into each bucket; the last one has no bound.
    #[must_use]
    pub fn buckets(&self) -> [u64; LATENCY_BOUNDS_US.len() + 1] {
        std::array::from_fn(|index| self.buckets[index].load(Ordering::Relaxed))
    }

    /// The sum of all observations.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.load(Ordering::Relaxed))
    }
}

/// Everything that the broker counts.
#[derive(Debug, Default)]
pub struct Stats {
    /// Produce requests.
    pub produce_requests: Counter,
    /// Partitions of produce requests that were answered with an error.
    pub produce_failures: Counter,
    /// Records appended.
    pub produce_records: Counter,
    /// Bytes appended, as batches.
    pub produce_bytes: Counter,
    /// From the arrival of a produce request to its last acknowledgement.
    pub produce_latency: Latency,
    /// Fetch requests.
    pub fetch_requests: Counter,
    /// Partitions of fetch requests that were answered with an error.
    pub fetch_failures: Counter,
    /// Bytes of batches handed to readers.
    pub fetch_bytes: Counter,
    /// Reads that memory could not answer.
    pub fetch_reads_cold: Counter,
}
