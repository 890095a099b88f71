//! `DescribeConfigs`: what is set for topics, and what holds where nothing is.

use rafka_broker::Error;
use rafka_broker::topics::{ConfigEntry, Kind, Source};
use rafka_core::ErrorCode;
use rafka_kafka_wire::describe_configs::{
    DescribeConfigsResult, Request, Resource, ResourceResult, Response, Synonym,
};
use rafka_kafka_wire::{ApiKey, Reader};
use uuid::Uuid;

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::DescribeConfigs, 1..=4);

/// Kafka's number for topics. Those of brokers and groups are not served.
const TOPIC: i8 = 2;

pub(super) fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let results = request.resources.iter().map(|resource| {
        let entries = describe(gateway, resource);
        let error_code = common::code(&entries);
        let (entries, error_message) = match entries {
            Ok(entries) => (entries, None),
            Err(error) => (Vec::new(), Some(error.message)),
        };
        let is_asked = |entry: &ConfigEntry| {
            let keys = resource.configuration_keys.as_ref();
            keys.is_none_or(|keys| keys.iter().any(|key| *key == entry.key.spec().name))
        };
        let shown = entries.into_iter().filter(is_asked).map(|entry| shown(entry, &request));
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            configs: shown.collect(),
        }
    });
    let results = results.collect();
    context.answer(&Response { results, ..Response::default() })
}

fn describe(gateway: &Gateway, resource: &Resource<'_>) -> Result<Vec<ConfigEntry>, Error> {
    check_type(resource.resource_type)?;
    gateway.broker.describe_configs(&common::topic(&resource.resource_name, Uuid::nil())?)
}

/// Checks that a resource is a topic.
///
/// # Errors
/// If it is not.
pub(super) fn check_type(resource_type: i8) -> Result<(), Error> {
    if resource_type == TOPIC {
        return Ok(());
    }
    let message = "only the configs of topics are looked after here: those of nodes are in their \
                   configuration files";
    Err(Error::new(ErrorCode::InvalidRequest, message))
}

fn shown(entry: ConfigEntry, request: &Request<'_>) -> ResourceResult<'static> {
    let spec = entry.key.spec();
    let config_source = source(entry.source);
    let synonym = Synonym {
        name: if entry.source == Source::Topic { spec.name } else { spec.broker_name }.into(),
        value: Some(entry.value.clone().into()),
        source: config_source,
    };
    ResourceResult {
        name: spec.name.into(),
        value: Some(entry.value.into()),
        config_source,
        synonyms: if request.include_synonyms { vec![synonym] } else { Vec::new() },
        config_type: kind(spec.kind),
        documentation: request.include_documentation.then_some(spec.documentation.into()),
        ..ResourceResult::default()
    }
}

/// Kafka's number for where a value comes from.
pub(super) fn source(source: Source) -> i8 {
    match source {
        Source::Topic => 1,
        Source::Node => 2,
        Source::Cluster => 3,
        Source::Settings => 4,
        Source::Default => 5,
    }
}

/// Kafka's number for a type.
fn kind(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Choice(_) => 2,
        Kind::Int { .. } => 3,
        Kind::Long { .. } => 5,
        Kind::Double { .. } => 6,
        Kind::List(_) => 7,
    }
}
