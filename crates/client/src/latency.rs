//! A histogram of waits that can be written from several tasks, and its summary.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// The longest wait told apart from longer ones, in microseconds: ten minutes.
const MICROS_MAX: u64 = 600_000_000;
/// Two digits: 1 % error, 40 KiB a histogram.
const DIGITS: u8 = 2;

/// How long something took, over the life of a client.
#[derive(Debug)]
pub struct Latencies {
    histogram: Mutex<Histogram<u64>>,
}

/// What a histogram held at one moment. All values are within 1 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LatencySummary {
    /// How many waits were measured.
    pub count: u64,
    /// Half of them took at most this.
    pub p50: Duration,
    /// 99 of 100 took at most this.
    pub p99: Duration,
    /// 999 of 1000 took at most this.
    pub p999: Duration,
    /// The longest one.
    pub max: Duration,
}

impl Latencies {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        let histogram =
            Histogram::new_with_bounds(1, MICROS_MAX, DIGITS).expect("constant bounds are sound");
        Self { histogram: Mutex::new(histogram) }
    }

    /// Notes that `count` things took `span` each.
    pub fn note(&self, span: Duration, count: u64) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(MICROS_MAX).clamp(1, MICROS_MAX);
        self.histogram.lock().saturating_record_n(micros, count);
    }

    /// The summary of everything noted so far.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        let histogram = self.histogram.lock();
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        LatencySummary {
            count: histogram.len(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_micros(histogram.max()),
        }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_within_one_percent() {
        let latencies = Latencies::new();
        for millis in 1..=1000 {
            latencies.note(Duration::from_millis(millis), 1);
        }
        let summary = latencies.summary();
        let near = |found: Duration, millis: u64| {
            let expected = Duration::from_millis(millis);
            assert!(found.abs_diff(expected) <= expected / 100, "{found:?} is not {expected:?}");
        };
        assert_eq!(summary.count, 1000);
        near(summary.p50, 500);
        near(summary.p99, 990);
        near(summary.max, 1000);
    }

    #[test]
    fn waits_beyond_the_scale_count_as_the_longest() {
        let latencies = Latencies::new();
        latencies.note(Duration::from_secs(86_400), 3);
        assert_eq!(latencies.summary().count, 3);
        assert!(Duration::from_secs(590) < latencies.summary().max);
    }
}
