//! Pure: the configuration of a node, under Kafka's names: what can be read of it, and what of that can
//! be changed while it runs.

use std::time::Duration;

use rafka_metadata::topic_config::{ConfigEntry, Kind, Source};

use self::NodeConfigKind::{Boolean, Int, Long, Text};
use crate::Settings;
use crate::group::MigrationPolicy;

/// A configuration key of a node with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Kafka's name.
    pub name: &'static str,
    /// The value, as text.
    pub value: String,
    /// What it takes.
    pub kind: NodeConfigKind,
    /// Where the value comes from.
    pub source: Source,
    /// Every value that was set, and the default, the strongest first: the first one holds.
    pub layers: Vec<(Source, String)>,
    /// Whether only the node's settings can change it, and a restart.
    pub is_read_only: bool,
    /// What it does.
    pub documentation: &'static str,
}

/// The type of a node's configuration key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeConfigKind {
    /// `true` or `false`.
    Boolean,
    /// A text.
    Text,
    /// A 32-bit number.
    Int,
    /// A 64-bit number.
    Long,
    /// A fraction.
    Double,
    /// Words with commas between.
    List,
}

/// What topics get that say nothing themselves: this can be changed while the node runs.
pub(crate) fn of_topics(defaults: Vec<ConfigEntry>) -> impl Iterator<Item = NodeConfig> {
    defaults.into_iter().map(|ConfigEntry { key, value, source, layers }| {
        let spec = key.spec();
        let kind = match spec.kind {
            Kind::Boolean => Boolean,
            Kind::Choice(_) => Text,
            Kind::Int { .. } => Int,
            Kind::Long { .. } => Long,
            Kind::Double { .. } => NodeConfigKind::Double,
            Kind::List(_) => NodeConfigKind::List,
        };
        NodeConfig {
            name: spec.broker_name,
            value,
            kind,
            source,
            layers,
            is_read_only: false,
            documentation: spec.documentation,
        }
    })
}

/// What the settings of the node say. `metadata` are those of the metadata.
pub(crate) fn of_settings(
    settings: &Settings,
    metadata: &rafka_metadata::Settings,
) -> Vec<NodeConfig> {
    let default_metadata = rafka_metadata::Settings::default();
    let now = values(settings, metadata);
    let defaults = values(&Settings::default(), &default_metadata);
    let config = |((name, value, kind, documentation), default): (Value, Value)| {
        let mut layers = vec![(Source::Default, default.1)];
        if value != layers[0].1 {
            layers.insert(0, (Source::Settings, value.clone()));
        }
        let source = layers[0].0;
        NodeConfig { name, value, kind, source, layers, is_read_only: true, documentation }
    };
    now.into_iter().zip(defaults).map(config).collect()
}

/// Name, value, type, and what it does.
type Value = (&'static str, String, NodeConfigKind, &'static str);

fn values(settings: &Settings, metadata: &rafka_metadata::Settings) -> Vec<Value> {
    let mut values = of_node(settings, metadata);
    values.extend(of_groups(&settings.groups));
    values.extend(of_transactions(&settings.transactions));
    values
}

fn of_node(settings: &Settings, metadata: &rafka_metadata::Settings) -> Vec<Value> {
    vec![
        (
            "auto.create.topics.enable",
            settings.auto_create_topics_enable.to_string(),
            Boolean,
            "Whether a topic comes into being when somebody writes to it or asks for it.",
        ),
        (
            "num.partitions",
            metadata.num_partitions.to_string(),
            Int,
            "Partitions of a topic that is created without saying how many.",
        ),
        (
            "default.replication.factor",
            metadata.default_replication_factor.map_or(1, i32::from).to_string(),
            Int,
            "Copies of a topic that is created without saying how many.",
        ),
        (
            "log.retention.check.interval.ms",
            millis(settings.retention_check_interval),
            Long,
            "How often retention and compaction look at every log.",
        ),
        (
            "producer.id.expiration.ms",
            millis(settings.producer_id_expiration),
            Int,
            "How long an idempotent producer that does not write is remembered.",
        ),
        (
            "fetch.max.bytes",
            settings.fetch_bytes_max.0.to_string(),
            Int,
            "What one fetch may return, whatever the client asks for.",
        ),
    ]
}

fn of_groups(groups: &crate::group::Settings) -> Vec<Value> {
    let policy = match groups.group_consumer_migration_policy {
        MigrationPolicy::Bidirectional => "bidirectional",
        MigrationPolicy::Upgrade => "upgrade",
        MigrationPolicy::Downgrade => "downgrade",
        MigrationPolicy::Disabled => "disabled",
    };
    vec![
        (
            "group.min.session.timeout.ms",
            millis(groups.group_session_timeout_min),
            Int,
            "The shortest session timeout that a member of a classic group may ask for.",
        ),
        (
            "group.max.session.timeout.ms",
            millis(groups.group_session_timeout_max),
            Int,
            "The longest session timeout that a member of a classic group may ask for.",
        ),
        (
            "group.initial.rebalance.delay.ms",
            millis(groups.group_rebalance_delay_initial),
            Int,
            "How long the first rebalance of an empty group waits for more members.",
        ),
        ("group.max.size", groups.group_members_max.to_string(), Int, "Members of one group."),
        (
            "group.consumer.session.timeout.ms",
            millis(groups.group_consumer_session_timeout),
            Int,
            "After how much silence a member of a next-generation group is taken for dead.",
        ),
        (
            "group.consumer.heartbeat.interval.ms",
            millis(groups.group_consumer_heartbeat_interval),
            Int,
            "How often a member of a next-generation group sends a heartbeat.",
        ),
        (
            "group.consumer.migration.policy",
            policy.to_owned(),
            Text,
            "Which groups change between the classic protocol and the next while they have members.",
        ),
        (
            "offsets.retention.minutes",
            minutes(groups.offsets_retention),
            Int,
            "How long offsets outlive their group's last member.",
        ),
        (
            "offset.metadata.max.bytes",
            groups.offset_metadata_bytes_max.0.to_string(),
            Int,
            "The longest text that may go with a committed offset.",
        ),
        (
            "offsets.topic.num.partitions",
            groups.offsets_topic_partitions.to_string(),
            Int,
            "Partitions of __consumer_offsets when it is made.",
        ),
    ]
}

fn of_transactions(transactions: &crate::transaction::Settings) -> Vec<Value> {
    vec![
        (
            "transaction.max.timeout.ms",
            millis(transactions.transaction_timeout_max),
            Int,
            "The longest time that a producer may ask for its transactions.",
        ),
        (
            "transactional.id.expiration.ms",
            millis(transactions.transactional_id_expiration),
            Int,
            "How long a transactional id that does nothing is remembered.",
        ),
        (
            "transaction.state.log.num.partitions",
            transactions.transactions_topic_partitions.to_string(),
            Int,
            "Partitions of __transaction_state when it is made.",
        ),
    ]
}

fn millis(span: Duration) -> String {
    span.as_millis().to_string()
}

fn minutes(span: Duration) -> String {
    (span.as_secs() / 60).to_string()
}
