//! Pure: how a consumer reads, commits, and takes part in its group.

use std::time::Duration;

use rafka_client::admin::Isolation;
use rafka_client::settings::{InvalidSettings, at_least};
use rafka_core::assignor::Assignor;
use rafka_core::{ByteSize, GroupId};

/// Where to start in a partition without a committed offset, or whose offset no longer exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// At the first record there is.
    Earliest,
    /// At the end: only what arrives from now on. The default, as in Kafka.
    #[default]
    Latest,
    /// Nowhere: `poll` fails, and the user seeks.
    None,
}

/// The settings of a [`Consumer`](crate::Consumer).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The group. Needed to subscribe and to commit. Default none.
    pub group: Option<String>,
    /// The member's own name (KIP-345): after a restart within the session timeout it gets its
    /// partitions back without a rebalance, and `close` does not leave the group. Default none.
    pub instance_id: Option<String>,
    /// How the group shares partitions out, the preferred way first. Default range, round-robin.
    /// With the cooperative one alone the consumer goes on reading through rebalances and gives up
    /// only what moves; beside another it gives up everything, as that one needs it.
    pub assignors: Vec<Assignor>,
    /// Where to start without a committed offset. Default latest.
    pub offset_reset: OffsetReset,
    /// How often what `poll` gave is committed, at the next `poll`; none is never. Default 5 s.
    pub auto_commit_interval: Option<Duration>,
    /// How far to read. Default read uncommitted.
    pub isolation: Isolation,
    /// The most records that one `poll` gives. Default 500.
    pub poll_records_max: usize,
    /// The longest time between two `poll`s; beyond it the member leaves its group, so that others
    /// get its partitions. Default 5 min.
    pub poll_interval_max: Duration,
    /// The silence after which the group takes the member for dead. Default 45 s.
    pub session_timeout: Duration,
    /// The time between two signs of life; at most a third of `session_timeout`. Default 3 s.
    pub heartbeat_interval: Duration,
    /// The most record bytes in one message from a node. Default 1 MiB.
    pub fetch_bytes_max: ByteSize,
    /// How long a node waits before it says that there is nothing new. Default 500 ms.
    pub fetch_wait_max: Duration,
    /// The memory for what was fetched and not yet given to `poll`; each connection may exceed it by
    /// one message. Default 16 MiB.
    pub prefetch_bytes: ByteSize,
    /// The most that one batch may take after decompression. Default 64 MiB.
    pub batch_inflated_bytes_max: ByteSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            group: None,
            instance_id: None,
            assignors: vec![Assignor::Range, Assignor::RoundRobin],
            offset_reset: OffsetReset::Latest,
            auto_commit_interval: Some(Duration::from_secs(5)),
            isolation: Isolation::ReadUncommitted,
            poll_records_max: 500,
            poll_interval_max: Duration::from_secs(300),
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            fetch_bytes_max: ByteSize::mib(1),
            fetch_wait_max: Duration::from_millis(500),
            prefetch_bytes: ByteSize::mib(16),
            batch_inflated_bytes_max: ByteSize::mib(64),
        }
    }
}

/// A message carries its limits in 32 bits.
const FETCH_BYTES_MOST: ByteSize = ByteSize::gib(1);

impl Settings {
    /// Whether partitions are kept while the member joins again.
    pub(crate) fn is_cooperative(&self) -> bool {
        self.assignors.iter().all(|assignor| assignor.is_cooperative())
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first one that cannot work, by its key.
    pub fn validate(&self) -> Result<(), InvalidSettings> {
        if let Some(group) = &self.group {
            GroupId::new(group).map_err(|invalid| {
                InvalidSettings::new("group", format!("{group:?}"), format!("valid: {invalid}"))
            })?;
        }
        if self.assignors.is_empty() {
            return Err(InvalidSettings::new("assignors", "empty", "at least one"));
        }
        if self.poll_records_max == 0 {
            return Err(InvalidSettings::new("poll_records_max", 0, "at least 1"));
        }
        let millisecond = Duration::from_millis(1);
        at_least("heartbeat_interval", self.heartbeat_interval, millisecond)?;
        at_least("session_timeout", self.session_timeout, self.heartbeat_interval * 3)?;
        at_least("poll_interval_max", self.poll_interval_max, millisecond)?;
        at_least("fetch_wait_max", self.fetch_wait_max, millisecond)?;
        if let Some(interval) = self.auto_commit_interval {
            at_least("auto_commit_interval", interval, millisecond)?;
        }
        if !(ByteSize(1)..=FETCH_BYTES_MOST).contains(&self.fetch_bytes_max) {
            let rule = format!("from 1 B to {FETCH_BYTES_MOST}");
            return Err(InvalidSettings::new("fetch_bytes_max", self.fetch_bytes_max, rule));
        }
        if self.prefetch_bytes < self.fetch_bytes_max {
            let rule = "at least fetch_bytes_max";
            return Err(InvalidSettings::new("prefetch_bytes", self.prefetch_bytes, rule));
        }
        if self.batch_inflated_bytes_max < self.fetch_bytes_max {
            let (key, size) = ("batch_inflated_bytes_max", self.batch_inflated_bytes_max);
            return Err(InvalidSettings::new(key, size, "at least fetch_bytes_max"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Settings::default().validate(), Ok(()));
    }

    #[test]
    fn a_value_that_cannot_work_is_refused_by_its_key() {
        let check = |key: &str, change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            assert_eq!(settings.validate().expect_err(key).key(), key);
        };
        check("group", |settings| settings.group = Some(String::new()));
        check("assignors", |settings| settings.assignors.clear());
        check("poll_records_max", |settings| settings.poll_records_max = 0);
        check("heartbeat_interval", |settings| settings.heartbeat_interval = Duration::ZERO);
        check("session_timeout", |settings| settings.session_timeout = Duration::from_secs(8));
        check("poll_interval_max", |settings| settings.poll_interval_max = Duration::ZERO);
        check("fetch_wait_max", |settings| settings.fetch_wait_max = Duration::ZERO);
        check("auto_commit_interval", |settings| {
            settings.auto_commit_interval = Some(Duration::ZERO);
        });
        check("fetch_bytes_max", |settings| settings.fetch_bytes_max = ByteSize(0));
        check("prefetch_bytes", |settings| settings.prefetch_bytes = ByteSize::kib(1));
        check("batch_inflated_bytes_max", |settings| {
            settings.batch_inflated_bytes_max = ByteSize::kib(1);
        });
    }
}
