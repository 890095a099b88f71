//! Pure: the configuration of consumer groups, as it is shown.

use rafka_metadata::topic_config::Source;

/// A configuration key of a group with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// Kafka's name.
    pub name: &'static str,
    /// The name of its default on the node.
    pub default_name: &'static str,
    /// Every value that was set, and the default, the strongest first: the first one holds.
    pub layers: Vec<(Source, String)>,
    /// What it does.
    pub documentation: &'static str,
}
