//! Configurations of topics.

use std::sync::Arc;

use rafka_proto::v1;

use super::Admin;
use crate::convert::{check, only};
use crate::error::Error;
use crate::node::Node;

/// One setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigDescription {
    /// Kafka's name of it.
    pub name: String,
    /// The value in force.
    pub value: String,
    /// Whether that is the default rather than set on the topic.
    pub is_default: bool,
    /// What it does.
    pub documentation: String,
}

/// A change of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Give the setting of this name this value.
    Set(String, String),
    /// Give the setting of this name its default again.
    Reset(String),
}

fn resource(topic: &str) -> v1::ConfigResource {
    v1::ConfigResource { r#type: v1::ConfigResourceType::Topic.into(), name: topic.to_owned() }
}

impl Admin {
    /// The settings of a topic, by name.
    ///
    /// # Errors
    /// With `UNKNOWN_TOPIC_OR_PARTITION`, or if no node answers in time.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn topic_configs(&self, topic: &str) -> Result<Vec<ConfigDescription>, Error> {
        let operation = "describe configs";
        let ask = |node: Arc<Node>| async move {
            let request =
                v1::DescribeConfigsRequest { resources: vec![resource(topic)], names: Vec::new() };
            let answer = node.ask(operation, node.admin().describe_configs(request)).await?;
            only(operation, answer.resources)
        };
        let described = self.client.call(operation, ask).await?;
        check(format_args!("topic {topic}"), described.error.as_ref())?;
        let config = |config: v1::DescribedConfig| ConfigDescription {
            name: config.name,
            value: config.value,
            is_default: config.is_default,
            documentation: config.documentation,
        };
        Ok(described.configs.into_iter().map(config).collect())
    }

    /// Changes settings of a topic: all of them, or none.
    ///
    /// # Errors
    /// With `INVALID_CONFIG`, `UNKNOWN_TOPIC_OR_PARTITION`, or if no node answers in time.
    ///
    /// # Cancel safety
    /// Dropped, the changes may have been made.
    pub async fn alter_topic_configs(
        &self,
        topic: &str,
        changes: &[ConfigChange],
    ) -> Result<(), Error> {
        let operation = "alter configs";
        let mut alteration =
            v1::ConfigAlteration { resource: Some(resource(topic)), ..Default::default() };
        for change in changes {
            match change {
                ConfigChange::Set(name, value) => {
                    let entry = v1::ConfigEntry { name: name.clone(), value: value.clone() };
                    alteration.set.push(entry);
                }
                ConfigChange::Reset(name) => alteration.delete.push(name.clone()),
            }
        }
        let alteration = &alteration;
        let ask = |node: Arc<Node>| async move {
            let request = v1::AlterConfigsRequest {
                alterations: vec![alteration.clone()],
                validate_only: false,
            };
            let answer = node.ask(operation, node.admin().alter_configs(request)).await?;
            only(operation, answer.resources)
        };
        let altered = self.client.call(operation, ask).await?;
        check(format_args!("topic {topic}"), altered.error.as_ref())
    }
}
