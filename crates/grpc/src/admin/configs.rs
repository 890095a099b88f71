//! Configurations of topics.

use std::collections::BTreeSet;

use rafka_broker::topics::{ConfigEntry, Source};
use rafka_broker::{Broker, Error, TopicRef};
use rafka_core::ErrorCode;
use rafka_proto::v1::{
    AlterConfigsRequest, AlterConfigsResponse, AlteredConfigs, ConfigAlteration, ConfigResource,
    ConfigResourceType, DescribeConfigsRequest, DescribeConfigsResponse, DescribedConfig,
    DescribedConfigs,
};
use tonic::Status;

use crate::convert;

pub(super) fn describe(
    broker: &Broker,
    request: DescribeConfigsRequest,
) -> Result<DescribeConfigsResponse, Status> {
    convert::check_items("resources", request.resources.len())?;
    convert::check_items_max("names", request.names.len())?;
    let names: BTreeSet<&str> = request.names.iter().map(String::as_str).collect();
    let is_wanted = |entry: &ConfigEntry| names.is_empty() || names.contains(entry.key.spec().name);
    let resources = request.resources.into_iter().map(|resource| {
        let found = topic(Some(&resource)).and_then(|topic| broker.describe_configs(&topic));
        let (error, configs) = match found {
            Ok(entries) => (None, entries.iter().filter(|e| is_wanted(e)).map(shown).collect()),
            Err(error) => (Some(convert::error(&error)), Vec::new()),
        };
        DescribedConfigs { resource: Some(resource), error, configs }
    });
    Ok(DescribeConfigsResponse { resources: resources.collect() })
}

fn shown(entry: &ConfigEntry) -> DescribedConfig {
    let spec = entry.key.spec();
    DescribedConfig {
        name: spec.name.to_owned(),
        value: entry.value.clone(),
        is_default: entry.source != Source::Topic,
        documentation: spec.documentation.to_owned(),
    }
}

pub(super) async fn alter(
    broker: &Broker,
    request: AlterConfigsRequest,
) -> Result<AlterConfigsResponse, Status> {
    convert::check_items("alterations", request.alterations.len())?;
    let mut resources = Vec::with_capacity(request.alterations.len());
    for ConfigAlteration { resource, set, delete } in request.alterations {
        let set = set.into_iter().map(|entry| (entry.name, Some(entry.value)));
        let changes: Vec<_> = set.chain(delete.into_iter().map(|name| (name, None))).collect();
        let altered = match topic(resource.as_ref()) {
            Ok(topic) => broker.alter_configs(topic, changes, request.validate_only).await,
            Err(error) => Err(error),
        };
        let error = altered.err().map(|error| convert::error(&error));
        resources.push(AlteredConfigs { resource, error });
    }
    Ok(AlterConfigsResponse { resources })
}

/// The topic whose configuration is meant.
fn topic(resource: Option<&ConfigResource>) -> Result<TopicRef, Error> {
    let refuse = |message| Err(Error::new(ErrorCode::InvalidRequest, message));
    let Some(resource) = resource else { return refuse("the resource is missing") };
    match ConfigResourceType::try_from(resource.r#type) {
        Ok(ConfigResourceType::Topic) => convert::topic_name(&resource.name).map(TopicRef::Name),
        Ok(ConfigResourceType::Unspecified) | Err(_) => refuse("the resource's type must be TOPIC"),
    }
}
