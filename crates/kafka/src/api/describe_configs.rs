//! `DescribeConfigs`: what is set for topics and nodes, and what holds where nothing is.

use rafka_broker::Error;
use rafka_broker::topics::Source;
use rafka_kafka_wire::describe_configs::{
    DescribeConfigsResult, Request, Resource, ResourceResult, Response, Synonym,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::configs::{self, Owner, Shown};
use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::DescribeConfigs, 1..=4);

pub(super) fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let asked = common::once(&request.resources, |one| (one.resource_type, &one.resource_name));
    let results = asked.map(|resource| {
        let entries = describe(gateway, &request, resource);
        let error_code = common::code(&entries);
        let (configs, error_message) = match entries {
            Ok(entries) => (entries, None),
            Err(error) => (Vec::new(), Some(error.message)),
        };
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            configs,
        }
    });
    let results = results.collect();
    context.answer(&Response { results, ..Response::default() })
}

fn describe(
    gateway: &Gateway,
    request: &Request<'_>,
    resource: &Resource<'_>,
) -> Result<Vec<ResourceResult<'static>>, Error> {
    let owner = Owner::of(resource.resource_type, &resource.resource_name)?;
    let keys = resource.configuration_keys.as_ref();
    let is_asked = |config: &Shown| keys.is_none_or(|keys| keys.iter().any(|k| *k == config.name));
    let all = owner.describe(gateway)?.into_iter().filter(is_asked);
    Ok(all.map(|config| shown(config, &owner, request)).collect())
}

fn shown(config: Shown, owner: &Owner, request: &Request<'_>) -> ResourceResult<'static> {
    let synonym = |(source, value): (Source, String)| Synonym {
        name: if source == owner.own_source() { config.name } else { config.default_name }.into(),
        value: Some(value.into()),
        source: configs::source(source),
    };
    let synonyms = config.layers.into_iter().filter(|_| request.include_synonyms).map(synonym);
    ResourceResult {
        name: config.name.into(),
        value: Some(config.value.into()),
        read_only: config.is_read_only,
        config_source: configs::source(config.source),
        synonyms: synonyms.collect(),
        config_type: config.kind,
        documentation: request.include_documentation.then_some(config.documentation.into()),
        ..ResourceResult::default()
    }
}
