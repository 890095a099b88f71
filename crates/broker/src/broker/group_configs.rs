//! The configuration of consumer groups.

use std::collections::BTreeMap;

use rafka_core::GroupId;
use rafka_metadata::topic_config::Source;

use super::{Broker, topics};
use crate::Error;
use crate::group::{self, configs};
use crate::group_configs::GroupConfig;

impl Broker {
    /// Every configuration key of a group, which need not exist.
    #[must_use]
    pub fn describe_group_configs(&self, group: &GroupId) -> Vec<GroupConfig> {
        let view = self.inner.metadata.view();
        let own = view.state().root().group_configs(group);
        let config = |spec: &configs::Spec| {
            let own = own.and_then(|own| own.get(spec.name));
            let mut layers = Vec::from_iter(own.map(|value| (Source::Group, value.clone())));
            let default = spec.value(&group::Settings::default());
            let of_node = spec.value(&self.inner.settings.groups);
            if of_node != default {
                layers.push((Source::Settings, of_node));
            }
            layers.push((Source::Default, default));
            GroupConfig {
                name: spec.name,
                default_name: spec.default_name,
                layers,
                documentation: spec.documentation,
            }
        };
        configs::SPECS.iter().map(config).collect()
    }

    /// Sets configuration keys of a group, or with `None` takes them back. They hold from the next
    /// heartbeat of each member on.
    ///
    /// # Errors
    /// If one is invalid (then none was changed), too many groups have some, or it cannot be made
    /// durable.
    ///
    /// # Cancel safety
    /// Dropped early, all are changed or none.
    pub async fn alter_group_configs(
        &self,
        group: GroupId,
        changes: BTreeMap<String, Option<String>>,
        validate_only: bool,
    ) -> Result<(), Error> {
        let metadata = &self.inner.metadata;
        let view = metadata.view();
        let mut after = view.state().root().group_configs(&group).cloned().unwrap_or_default();
        for (name, value) in &changes {
            match value {
                Some(value) => after.insert(name.clone(), value.clone()),
                None => after.remove(name),
            };
        }
        configs::check(&self.inner.settings.groups, &after)?;
        if validate_only {
            return Ok(());
        }
        metadata.alter_group_configs(group, changes).await.map_err(topics::refused)
    }

    /// The groups that have configuration of their own, in the order of their ids.
    #[must_use]
    pub fn configured_groups(&self) -> Vec<GroupId> {
        self.inner.metadata.view().state().root().configured_groups().cloned().collect()
    }
}
