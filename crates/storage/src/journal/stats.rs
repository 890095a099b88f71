//! Pure: what the journal counts.

use std::time::Duration;

/// The upper bounds of the latency buckets: doubling from 64 µs, the time that a fast disk needs,
/// to 2 s, which is an outage.
pub const LATENCY_BOUNDS: [Duration; 16] = {
    let mut bounds = [Duration::ZERO; 16];
    let mut index = 0;
    while index < bounds.len() {
        bounds[index] = Duration::from_micros(64 << index);
        index += 1;
    }
    bounds
};

/// What a lane has written since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Writes that were completed. Each made one group durable.
    pub writes: u64,
    /// Records in them, seals included.
    pub records: u64,
    /// Bytes in them, padding included.
    pub bytes: u64,
    /// The time that they took, together.
    pub time: Duration,
    /// How many took at most the bound of [`LATENCY_BOUNDS`] and more than the one before. The last
    /// counts what took longer than all.
    pub latency: [u64; LATENCY_BOUNDS.len() + 1],
}

impl Stats {
    pub(super) fn note(&mut self, records: usize, bytes: usize, elapsed: Duration) {
        self.writes += 1;
        self.records += records as u64;
        self.bytes += bytes as u64;
        self.time += elapsed;
        self.latency[LATENCY_BOUNDS.partition_point(|bound| *bound < elapsed)] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_write_is_counted_in_one_bucket() {
        let mut stats = Stats::default();
        for micros in [1, 64, 65, 10_000_000] {
            stats.note(2, 4096, Duration::from_micros(micros));
        }
        assert_eq!((stats.writes, stats.records, stats.bytes), (4, 8, 4 * 4096));
        assert_eq!((stats.latency[0], stats.latency[1], stats.latency[16]), (2, 1, 1));
        assert_eq!(stats.latency.iter().sum::<u64>(), stats.writes);
    }
}
