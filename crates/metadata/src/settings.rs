//! Pure: the settings of the metadata.

use rafka_core::setting::{self, InvalidSetting};
use serde::{Deserialize, Serialize};

use crate::group::ShardCount;
use crate::partition::REPLICAS_MAX;
use crate::topic::PARTITIONS_PER_TOPIC_MAX;
use crate::topic_config::TopicDefaults;

/// What a node's owner can choose about topics and metadata. A restart applies changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many shards the topics are divided into. A power of two from 1 to 1024, default 16. Read
    /// by the node that founds a cluster, and fixed from then on.
    pub shards: ShardCount,
    /// Partitions of a topic that is created without saying how many (Kafka's `num.partitions`).
    /// 1 to 100000, default 1.
    pub num_partitions: u32,
    /// Copies of a topic that is created without saying how many (Kafka's
    /// `default.replication.factor`). 1 to 16; none by default: three, or as many as there are nodes.
    pub default_replication_factor: Option<u16>,
    /// What topics get that say nothing themselves, under Kafka's broker names in snake case
    /// (`log_retention_ms`); see the reference of topic configs.
    pub topic_defaults: TopicDefaults,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            shards: ShardCount::default(),
            num_partitions: 1,
            default_replication_factor: None,
            topic_defaults: TopicDefaults::default(),
        }
    }
}

impl Settings {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// The first key that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        setting::in_range(
            "num_partitions",
            self.num_partitions as usize,
            1..=PARTITIONS_PER_TOPIC_MAX,
        )?;
        match self.default_replication_factor {
            None => Ok(()),
            Some(factor) => {
                let factor = usize::from(factor);
                setting::in_range("default_replication_factor", factor, 1..=REPLICAS_MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_with_their_defaults_and_written_back() {
        let settings: Settings = serde_json::from_str(
            r#"{"num_partitions": 4, "topic_defaults": {"log_retention_ms": 1}}"#,
        )
        .expect("valid");
        assert_eq!(settings.shards.count(), 16);
        assert_eq!(settings.num_partitions, 4);
        let written = serde_json::to_string(&Settings::default()).expect("written");
        let back: Settings = serde_json::from_str(&written).expect("read back");
        assert_eq!(back.validate(), Ok(()));
        assert!(serde_json::from_str::<Settings>(r#"{"partitions": 4}"#).is_err());
        assert!(serde_json::from_str::<Settings>(r#"{"shards": 3}"#).is_err());
    }

    #[test]
    fn what_is_out_of_range_is_named_with_the_range() {
        let settings = Settings { num_partitions: 0, ..Settings::default() };
        let error = settings.validate().expect_err("0 partitions");
        assert_eq!(error.to_string(), "num_partitions is 0: it must be from 1 to 100000");
        let settings = Settings { default_replication_factor: Some(17), ..Settings::default() };
        let error = settings.validate().expect_err("17 copies");
        assert_eq!(error.to_string(), "default_replication_factor is 17: it must be from 1 to 16");
    }
}
