//! The broker's settings.

use std::time::Duration;

use rafka_core::ByteSize;
use rafka_core::setting::{InvalidSetting, in_range, span_in_range};
use serde::{Deserialize, Serialize};

const PRODUCERS_BYTES_MIN: ByteSize = ByteSize::mib(1);
/// Producers take this share of the memory ...
const PRODUCERS_SHARE: u64 = 16;
/// ... but not more than this, unless they are told to.
const PRODUCERS_BYTES_MAX: ByteSize = ByteSize::mib(64);

/// How the broker behaves. Changes take effect at the next start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether a topic comes into being when somebody writes to it or asks for it by name.
    /// Kafka's `auto.create.topics.enable`. Default: true.
    pub auto_create_topics_enable: bool,
    /// How often retention and compaction look at every log. From 1 s to 1 d. Default: 5 min.
    /// Kafka's `log.retention.check.interval.ms`.
    #[serde(with = "rafka_core::duration")]
    pub retention_check_interval: Duration,
    /// How long an idempotent producer that does not write is remembered. From 1 min to 30 d.
    /// Default: 1 d. Kafka's `producer.id.expiration.ms`.
    #[serde(with = "rafka_core::duration")]
    pub producer_id_expiration: Duration,
    /// The memory for what all partitions know of idempotent producers, some 384 bytes for each
    /// producer and partition. From 1 MiB to 64 GiB. By default a sixteenth of the memory that the
    /// process may use, at most 64 MiB. When it fills up, those who wrote longest ago are forgotten:
    /// what they send again then is appended again.
    pub producers_bytes_max: Option<ByteSize>,
    /// What one fetch may return, whatever the client asks for. From 64 KiB to 1 GiB.
    /// Default: 55 MiB. Kafka's `fetch.max.bytes`.
    pub fetch_bytes_max: ByteSize,
    /// How many fetches may wait for records at the same time; further ones are answered with what
    /// there is. From 1 to 1000000. Default: 100000.
    pub fetch_waits_max: usize,
    /// How many reads may be at the disk at the same time; further ones wait. From 1 to 512.
    /// Default: 16.
    pub cold_reads_max: usize,
    /// Consumer groups.
    pub groups: crate::group::Settings,
    /// Transactions.
    pub transactions: crate::transaction::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            auto_create_topics_enable: true,
            retention_check_interval: Duration::from_mins(5),
            producer_id_expiration: Duration::from_hours(24),
            producers_bytes_max: None,
            fetch_bytes_max: ByteSize::mib(55),
            fetch_waits_max: 100_000,
            cold_reads_max: 16,
            groups: crate::group::Settings::default(),
            transactions: crate::transaction::Settings::default(),
        }
    }
}

impl Settings {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first one out of range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let intervals = Duration::from_secs(1)..=Duration::from_hours(24);
        span_in_range("retention_check_interval", self.retention_check_interval, intervals)?;
        let expirations = Duration::from_mins(1)..=Duration::from_hours(30 * 24);
        span_in_range("producer_id_expiration", self.producer_id_expiration, expirations)?;
        if let Some(bytes) = self.producers_bytes_max {
            in_range("producers_bytes_max", bytes, PRODUCERS_BYTES_MIN..=ByteSize::gib(64))?;
        }
        let sizes = ByteSize::kib(64)..=ByteSize::gib(1);
        in_range("fetch_bytes_max", self.fetch_bytes_max, sizes)?;
        in_range("fetch_waits_max", self.fetch_waits_max, 1..=1_000_000)?;
        in_range("cold_reads_max", self.cold_reads_max, 1..=512)?;
        self.groups.validate().map_err(|error| error.within("groups"))?;
        self.transactions.validate().map_err(|error| error.within("transactions"))
    }

    /// Works out the bounds that were not given from the memory that the process may use.
    pub fn fit(&mut self, memory: Option<ByteSize>) {
        let share = ByteSize::share(memory, PRODUCERS_SHARE, PRODUCERS_BYTES_MAX);
        self.producers_bytes_max.get_or_insert(share.max(PRODUCERS_BYTES_MIN));
        self.groups.fit(memory);
        self.transactions.fit(memory);
    }

    /// The bound of what is known of producers.
    #[must_use]
    pub fn producers_budget(&self) -> ByteSize {
        self.producers_bytes_max.unwrap_or(PRODUCERS_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_range_is_named_with_its_range() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let settings = Settings { cold_reads_max: 0, ..Settings::default() };
        let error = settings.validate().expect_err("0 reads would be none");
        assert_eq!(error.to_string(), "cold_reads_max is 0: it must be from 1 to 512");
    }
}
