//! The configuration of nodes.

use std::collections::BTreeMap;

use rafka_core::{ErrorCode, NodeId};
use rafka_metadata::topic_config::{self, InvalidConfig, Source};

use super::{Broker, topics};
use crate::Error;
use crate::node_configs::{self, NodeConfig};

impl Broker {
    /// Every configuration key of a node with its value and where that comes from; without a node,
    /// what was set for all of them.
    ///
    /// # Errors
    /// If it is another node than this one: only that one knows.
    pub fn describe_node_configs(&self, node: Option<NodeId>) -> Result<Vec<NodeConfig>, Error> {
        let metadata = &self.inner.metadata;
        let view = metadata.view();
        let of_topics = node_configs::of_topics(view.describe_defaults());
        let Some(node) = node else {
            return Ok(of_topics.filter_map(of_cluster).collect());
        };
        self.check_own(node)?;
        let settings = node_configs::of_settings(&self.inner.settings, metadata.settings());
        let mut configs: Vec<NodeConfig> = of_topics.chain(settings).collect();
        configs.sort_by_key(|config| config.name);
        Ok(configs)
    }

    /// Sets what topics get that say nothing themselves, on this node or, without one, on all;
    /// `None` takes a value back.
    ///
    /// # Errors
    /// If one is invalid, or can only be changed by the node's settings: then none was changed. If it
    /// cannot be made durable.
    ///
    /// # Cancel safety
    /// Dropped early, all are changed or none.
    pub async fn alter_node_configs(
        &self,
        node: Option<NodeId>,
        changes: BTreeMap<String, Option<String>>,
        validate_only: bool,
    ) -> Result<(), Error> {
        if let Some(node) = node {
            self.check_own(node)?;
        }
        for (name, value) in &changes {
            self.check_change(name, value.as_deref())?;
        }
        if validate_only {
            return Ok(());
        }
        self.inner.metadata.alter_node_configs(node, changes).await.map_err(topics::refused)
    }

    fn check_change(&self, name: &str, value: Option<&str>) -> Result<(), Error> {
        let invalid =
            |error: InvalidConfig| Error::new(ErrorCode::InvalidConfig, error.to_string());
        let key = topic_config::find_default(name).map_err(|unknown| {
            let metadata = self.inner.metadata.settings();
            let read_only = node_configs::of_settings(&self.inner.settings, metadata);
            if read_only.iter().any(|config| config.name == name) {
                let message = format!(
                    "{name} cannot be changed while the node runs: change its settings and start \
                     it again"
                );
                return Error::new(ErrorCode::InvalidRequest, message);
            }
            invalid(unknown)
        })?;
        value.map_or(Ok(()), |value| {
            topic_config::check_value(key, value).map_err(|error| invalid_value(name, error))
        })
    }

    fn check_own(&self, node: NodeId) -> Result<(), Error> {
        let own = self.inner.metadata.view().node();
        if node == own {
            return Ok(());
        }
        let message = format!("this is node {own}: ask node {node} itself");
        Err(Error::new(ErrorCode::InvalidRequest, message))
    }
}

/// What was set for all nodes, whatever this one has itself.
fn of_cluster(config: NodeConfig) -> Option<NodeConfig> {
    let layers = config.layers.into_iter().filter(|(source, _)| *source == Source::Cluster);
    let layers: Vec<_> = layers.collect();
    let (source, value) = layers.first().cloned()?;
    Some(NodeConfig { value, source, layers, ..config })
}

/// Kafka's code for it where a node is concerned, with the name that the node has for the key.
fn invalid_value(name: &str, error: InvalidConfig) -> Error {
    let message = match error {
        InvalidConfig::InvalidValue { value, accepted, .. } => {
            format!("{name} is {value:?}, and must be {accepted}")
        }
        other @ InvalidConfig::UnknownKey { .. } => other.to_string(),
    };
    Error::new(ErrorCode::InvalidRequest, message)
}
