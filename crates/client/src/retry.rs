//! Pure: when to try again: exponential backoff with full jitter, bounded in number and in time.

use std::time::Duration;

use rafka_core::rng::{Rng, RngExt as _};

use crate::settings::{InvalidSettings, at_least};

/// How often and for how long a call is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The most attempts of one call, the first included. 1 means no retry. Default 12.
    pub attempts_max: u32,
    /// The upper end of the wait before the second attempt; it doubles with each. Default 50 ms.
    pub backoff_min: Duration,
    /// The most that a wait may be. Default 2 s.
    pub backoff_max: Duration,
    /// The time after which a call gives up, all attempts and waits included. Default 60 s.
    pub total: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            attempts_max: 12,
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            total: Duration::from_secs(60),
        }
    }
}

impl Settings {
    pub(crate) fn validate(&self) -> Result<(), InvalidSettings> {
        if self.attempts_max == 0 {
            return Err(InvalidSettings::new("retry.attempts_max", "0", "at least 1"));
        }
        at_least("retry.backoff_min", self.backoff_min, Duration::from_millis(1))?;
        at_least("retry.backoff_max", self.backoff_max, self.backoff_min)?;
        at_least("retry.total", self.total, Duration::from_millis(1))
    }

    /// The wait after `failures` failed attempts in a row, at least one.
    ///
    /// Any span up to `backoff_min` doubled `failures - 1` times, at most `backoff_max`: full
    /// jitter, so that clients that failed together do not come back together.
    #[must_use]
    pub fn wait(&self, failures: u32, rng: &mut Rng) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let ceiling = self.backoff_min.saturating_mul(1 << doublings).min(self.backoff_max);
        let ceiling = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(rng.random_range(0..=ceiling))
    }
}

#[cfg(test)]
mod tests {
    use rafka_core::rng;

    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_are_fully_jittered() {
        let settings = Settings::default();
        let mut rng = rng::from_seed(1);
        for failures in 1..=100_u32 {
            let doubled = settings.backoff_min.saturating_mul(1 << (failures - 1).min(20));
            let ceiling = doubled.min(settings.backoff_max);
            let waits: Vec<_> = (0..200).map(|_| settings.wait(failures, &mut rng)).collect();
            let longest = waits.iter().max().expect("200 waits");
            assert!(*longest <= ceiling, "{failures}: {longest:?}");
            assert!(ceiling.mul_f64(0.9) < *longest, "{failures}: {longest:?}");
            assert!(*waits.iter().min().expect("200 waits") < ceiling.mul_f64(0.1));
        }
    }

    #[test]
    fn the_same_seed_waits_the_same() {
        let waits = || {
            let mut rng = rng::from_seed(7);
            (1..9).map(|n| Settings::default().wait(n, &mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(waits(), waits());
    }

    #[test]
    fn settings_without_an_attempt_are_refused_by_name() {
        let none = Settings { attempts_max: 0, ..Settings::default() };
        let refused = none.validate().expect_err("no attempt");
        assert!(refused.to_string().contains("retry.attempts_max"));
        let inverted = Settings { backoff_max: Duration::from_millis(1), ..Settings::default() };
        assert!(inverted.validate().is_err());
        assert!(Settings::default().validate().is_ok());
    }
}
