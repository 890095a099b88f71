//! Pure: the settings of consumer groups, under Kafka's names.

use std::time::Duration;

use rafka_core::setting::{InvalidSetting, in_range, span_in_range};
use rafka_core::{ByteSize, duration};
use serde::{Deserialize, Serialize};

const GROUPS_BYTES_MIN: ByteSize = ByteSize::mib(1);
/// Groups take this share of the memory ...
const GROUPS_SHARE: u64 = 8;
/// ... but not more than this, unless they are told to.
const GROUPS_BYTES_MAX: ByteSize = ByteSize::mib(128);

/// How consumer groups behave. All changes need a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The shortest session timeout a member may ask for, 1 ms to the longest. Default 6 s.
    /// Kafka's `group.min.session.timeout.ms`.
    #[serde(with = "duration")]
    pub group_session_timeout_min: Duration,
    /// The longest session timeout a member may ask for, up to 24 h. Default 30 min.
    /// Kafka's `group.max.session.timeout.ms`.
    #[serde(with = "duration")]
    pub group_session_timeout_max: Duration,
    /// How long the first rebalance of an empty group waits for more members, 0 to 5 min.
    /// Default 100 ms: enough for members that start together, too short to be felt (Kafka: 3 s).
    /// Kafka's `group.initial.rebalance.delay.ms`.
    #[serde(with = "duration")]
    pub group_rebalance_delay_initial: Duration,
    /// After how much silence a member of a next-generation group (KIP-848) is taken for dead, 1 ms to
    /// 24 h. Default 45 s. Kafka's `group.consumer.session.timeout.ms`.
    #[serde(with = "duration")]
    pub group_consumer_session_timeout: Duration,
    /// How often a member of a next-generation group sends a heartbeat, 1 ms to
    /// `group_consumer_session_timeout`. Default 5 s. Kafka's
    /// `group.consumer.heartbeat.interval.ms`.
    #[serde(with = "duration")]
    pub group_consumer_heartbeat_interval: Duration,
    /// Whether a group of classic consumers becomes a next-generation group when a member of that kind
    /// joins (`upgrade`), turns back when the last of them has gone (`downgrade`), both
    /// (`bidirectional`) or neither (`disabled`). Default `bidirectional`. Kafka's
    /// `group.consumer.migration.policy`.
    pub group_consumer_migration_policy: MigrationPolicy,
    /// Members of one group, 1 to 10000; more are refused. Default 1000.
    /// Kafka's `group.max.size`.
    pub group_members_max: u32,
    /// Groups that this node coordinates, 1 to 1000000; more are refused for the time being.
    /// Default 100000.
    pub groups_max: u32,
    /// Memory of all groups that this node coordinates, members and offsets, 1 MiB to 64 GiB;
    /// new members and new offsets beyond it are refused for the time being. By default an eighth of
    /// the memory that the process may use, at most 128 MiB.
    pub groups_bytes_max: Option<ByteSize>,
    /// How long offsets outlive their group's last member, or their commit where a group has no
    /// members at all, 1 min to 3650 d. Default 7 d. Kafka's `offsets.retention.minutes`.
    #[serde(with = "duration")]
    pub offsets_retention: Duration,
    /// The longest text that may go with a committed offset, 0 B to 32767 B. Default 4 KiB.
    /// Kafka's `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: ByteSize,
    /// Partitions of `__consumer_offsets` when it is made, 1 to 1000; later changes do not change
    /// it. Default 50. Kafka's `offsets.topic.num.partitions`.
    pub offsets_topic_partitions: u32,
}

/// Which groups change between the classic protocol and the next while they have members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MigrationPolicy {
    /// From the classic one to the next, and back.
    Bidirectional,
    /// From the classic one to the next only.
    Upgrade,
    /// From the next to the classic one only.
    Downgrade,
    /// None.
    Disabled,
}

impl MigrationPolicy {
    pub(super) fn may_upgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    pub(super) fn may_downgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            group_session_timeout_min: Duration::from_secs(6),
            group_session_timeout_max: Duration::from_mins(30),
            group_rebalance_delay_initial: Duration::from_millis(100),
            group_consumer_session_timeout: Duration::from_secs(45),
            group_consumer_heartbeat_interval: Duration::from_secs(5),
            group_consumer_migration_policy: MigrationPolicy::Bidirectional,
            group_members_max: 1000,
            groups_max: 100_000,
            groups_bytes_max: None,
            offsets_retention: Duration::from_hours(7 * 24),
            offset_metadata_bytes_max: ByteSize::kib(4),
            offsets_topic_partitions: 50,
        }
    }
}

impl Settings {
    /// Works out the bounds that were not given from the memory that the process may use.
    pub fn fit(&mut self, memory: Option<ByteSize>) {
        let share = ByteSize::share(memory, GROUPS_SHARE, GROUPS_BYTES_MAX).max(GROUPS_BYTES_MIN);
        self.groups_bytes_max.get_or_insert(share);
    }

    /// The bound of what groups take.
    #[must_use]
    pub fn groups_budget(&self) -> ByteSize {
        self.groups_bytes_max.unwrap_or(GROUPS_BYTES_MAX)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the first value that is out of range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let (millisecond, day) = (Duration::from_millis(1), Duration::from_hours(24));
        let longest = self.group_session_timeout_max;
        span_in_range("group_session_timeout_max", longest, millisecond..=day)?;
        let shortest = self.group_session_timeout_min;
        span_in_range("group_session_timeout_min", shortest, millisecond..=longest)?;
        let delay = self.group_rebalance_delay_initial;
        let delays = Duration::ZERO..=Duration::from_mins(5);
        span_in_range("group_rebalance_delay_initial", delay, delays)?;
        let session = self.group_consumer_session_timeout;
        span_in_range("group_consumer_session_timeout", session, millisecond..=day)?;
        let interval = self.group_consumer_heartbeat_interval;
        span_in_range("group_consumer_heartbeat_interval", interval, millisecond..=session)?;
        in_range("group_members_max", self.group_members_max, 1..=10_000)?;
        in_range("groups_max", self.groups_max, 1..=1_000_000)?;
        if let Some(bytes) = self.groups_bytes_max {
            in_range("groups_bytes_max", bytes, GROUPS_BYTES_MIN..=ByteSize::gib(64))?;
        }
        let retentions = Duration::from_mins(1)..=day * 3650;
        span_in_range("offsets_retention", self.offsets_retention, retentions)?;
        let texts = ByteSize(0)..=ByteSize(32_767);
        in_range("offset_metadata_bytes_max", self.offset_metadata_bytes_max, texts)?;
        in_range("offsets_topic_partitions", self.offsets_topic_partitions, 1..=1000)
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
            |s| s.group_session_timeout_min = Duration::from_hours(1),
            "group_session_timeout_min is 1 h:",
        );
        check(
            |s| s.group_session_timeout_max = Duration::from_hours(48),
            "group_session_timeout_max is 2 d:",
        );
        check(
            |s| s.group_rebalance_delay_initial = Duration::from_hours(1),
            "group_rebalance_delay_initial is 1 h:",
        );
        check(
            |s| s.group_consumer_session_timeout = Duration::ZERO,
            "group_consumer_session_timeout is 0 s:",
        );
        check(
            |s| s.group_consumer_heartbeat_interval = Duration::from_secs(46),
            "group_consumer_heartbeat_interval is 46 s:",
        );
        check(|s| s.group_members_max = 0, "group_members_max is 0:");
        check(|s| s.groups_max = 0, "groups_max is 0:");
        check(|s| s.groups_bytes_max = Some(ByteSize(1)), "groups_bytes_max is 1 B:");
        check(|s| s.offsets_retention = Duration::ZERO, "offsets_retention is 0 s:");
        check(
            |s| s.offset_metadata_bytes_max = ByteSize::kib(32),
            "offset_metadata_bytes_max is 32 KiB:",
        );
        check(|s| s.offsets_topic_partitions = 1001, "offsets_topic_partitions is 1001:");
    }
}
