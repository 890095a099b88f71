//! `ListConfigResources`: whose configs there are to describe.

use rafka_core::ErrorCode;
use rafka_kafka_wire::list_config_resources::{ConfigResource, Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::{Answer, Api, Context};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::ListConfigResources, 0..=1);

/// Before, it was about metrics of clients alone.
const TYPES_FROM: i16 = 1;

/// Kafka's types. Of loggers and of metrics of clients there are none here.
const TYPES: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

pub(super) fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request = context.read(&mut reader)?;
    let asked = &request.resource_types;
    if asked.iter().any(|kind| !TYPES.contains(kind)) {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return context.answer(&Response { error_code, ..Response::default() });
    }
    let mut config_resources = Vec::new();
    let is_asked = |kind: &i8| asked.is_empty() || asked.contains(kind);
    let kinds = TYPES.into_iter().filter(|kind| TYPES_FROM <= context.version && is_asked(kind));
    for resource_type in kinds {
        let names = names(gateway, resource_type).into_iter();
        config_resources
            .extend(names.map(|name| ConfigResource { resource_name: name.into(), resource_type }));
    }
    context.answer(&Response { config_resources, ..Response::default() })
}

fn names(gateway: &Gateway, kind: i8) -> Vec<String> {
    let broker = &gateway.broker;
    match kind {
        TOPIC => broker.list_topics().iter().map(|topic| topic.name.to_string()).collect(),
        BROKER => gateway.cluster().nodes.iter().map(|node| node.id.to_string()).collect(),
        GROUP => broker.configured_groups().iter().map(|group| group.as_str().to_owned()).collect(),
        _ => Vec::new(),
    }
}
