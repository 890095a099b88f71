//! Pure: counts as the fractions that reports and metrics show.

use std::time::Duration;

/// The count as a fraction: above 2^53 nobody looks at the last digit.
#[expect(clippy::cast_precision_loss, reason = "that is what this function is for")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// So many a second. Within no time at all: as many as can be written.
pub(crate) fn rate(count: u64, span: Duration) -> f64 {
    float(count) / span.as_secs_f64().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second() {
        assert!((rate(30, Duration::from_millis(1500)) - 20.0).abs() < 1e-9);
        assert!(rate(1, Duration::ZERO).is_finite());
    }
}
