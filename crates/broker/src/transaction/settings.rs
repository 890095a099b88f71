//! Pure: the settings of transactions, under Kafka's names.

use std::time::Duration;

use rafka_core::setting::{InvalidSetting, in_range, span_in_range};
use rafka_core::{ByteSize, duration};
use serde::{Deserialize, Serialize};

const BYTES_MIN: ByteSize = ByteSize::mib(1);
/// Transactions take this share of the memory ...
const BYTES_SHARE: u64 = 32;
/// ... but not more than this, unless they are told to.
const BYTES_MAX: ByteSize = ByteSize::mib(64);

/// How transactions behave. All changes need a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The longest time that a producer may ask for its transactions, 1 ms to 24 d. Default 15 min.
    /// Kafka's `transaction.max.timeout.ms`.
    #[serde(with = "duration")]
    pub transaction_timeout_max: Duration,
    /// How long a transactional id that does nothing is remembered, 1 min to 3650 d. Default 7 d.
    /// Kafka's `transactional.id.expiration.ms`.
    #[serde(with = "duration")]
    pub transactional_id_expiration: Duration,
    /// Transactional ids that this node coordinates, 1 to 1000000; more are refused for the time
    /// being. Default 100000.
    pub transactional_ids_max: u32,
    /// Memory of all transactional ids that this node coordinates, 1 MiB to 64 GiB; new ids and new
    /// partitions beyond it are refused for the time being. By default a 32nd of the memory that the
    /// process may use, at most 64 MiB.
    pub transactions_bytes_max: Option<ByteSize>,
    /// Partitions of `__transaction_state` when it is made, 1 to 1000; later changes do not change
    /// it. Default 50. Kafka's `transaction.state.log.num.partitions`.
    pub transactions_topic_partitions: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            transaction_timeout_max: Duration::from_mins(15),
            transactional_id_expiration: Duration::from_hours(7 * 24),
            transactional_ids_max: 100_000,
            transactions_bytes_max: None,
            transactions_topic_partitions: 50,
        }
    }
}

impl Settings {
    /// Works out the bound that was not given from the memory that the process may use.
    pub fn fit(&mut self, memory: Option<ByteSize>) {
        let share = ByteSize::share(memory, BYTES_SHARE, BYTES_MAX).max(BYTES_MIN);
        self.transactions_bytes_max.get_or_insert(share);
    }

    /// The bound of what transactions take.
    #[must_use]
    pub fn transactions_budget(&self) -> ByteSize {
        self.transactions_bytes_max.unwrap_or(BYTES_MAX)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the first value that is out of range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let day = Duration::from_hours(24);
        // The protocol and the log count milliseconds in 31 bits.
        let timeouts = Duration::from_millis(1)..=day * 24;
        span_in_range("transaction_timeout_max", self.transaction_timeout_max, timeouts)?;
        let expirations = Duration::from_mins(1)..=day * 3650;
        let expiration = self.transactional_id_expiration;
        span_in_range("transactional_id_expiration", expiration, expirations)?;
        in_range("transactional_ids_max", self.transactional_ids_max, 1..=1_000_000)?;
        if let Some(bytes) = self.transactions_bytes_max {
            in_range("transactions_bytes_max", bytes, BYTES_MIN..=ByteSize::gib(64))?;
        }
        let partitions = self.transactions_topic_partitions;
        in_range("transactions_topic_partitions", partitions, 1..=1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let check = |change: fn(&mut Settings), expected: &str| {
            let mut settings = Settings::default();
            change(&mut settings);
            let error = settings.validate().expect_err(expected).to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        assert_eq!(Settings::default().validate(), Ok(()));
        check(
            |s| s.transaction_timeout_max = Duration::from_hours(25 * 24),
            "transaction_timeout_max is 25 d:",
        );
        check(
            |s| s.transactional_id_expiration = Duration::ZERO,
            "transactional_id_expiration is 0 s:",
        );
        check(|s| s.transactional_ids_max = 0, "transactional_ids_max is 0:");
        check(|s| s.transactions_bytes_max = Some(ByteSize(1)), "transactions_bytes_max is 1 B:");
        check(|s| s.transactions_topic_partitions = 0, "transactions_topic_partitions is 0:");
    }
}
