//! `AlterConfigs`: all configs of a topic or node at once; what is not named goes back to its default.

use rafka_broker::Error;
use rafka_kafka_wire::alter_configs::{Request, Resource, ResourceResponse, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::configs::{self, Changes, Owner, invalid};
use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::AlterConfigs, 0..=2);

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let named = request.resources.iter().map(|one| (one.resource_type, &*one.resource_name));
    let doubled = configs::doubled(named);
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let result = if doubled.contains(&(resource.resource_type, &*resource.resource_name)) {
            Err(configs::doubly_named())
        } else {
            alter(gateway, resource, request.validate_only).await
        };
        responses.push(ResourceResponse {
            error_code: common::code(&result),
            error_message: result.err().map(|error| error.message),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
        });
    }
    context.answer(&Response { responses, ..Response::default() })
}

async fn alter(
    gateway: &Gateway,
    resource: &Resource<'_>,
    validate_only: bool,
) -> Result<(), Error> {
    let owner = Owner::of(resource.resource_type, &resource.resource_name)?;
    let own = owner.own_source();
    let set = owner.describe(gateway)?.into_iter().filter(|config| config.source == own);
    let mut changes: Changes = set.map(|config| (config.name.to_owned(), None)).collect();
    for config in &resource.configs {
        let Some(value) = &config.value else {
            return Err(invalid(format!("{} has no value", config.name)));
        };
        let before = changes.insert(config.name.to_string(), Some(value.to_string()));
        if before.is_some_and(|before| before.is_some()) {
            return Err(invalid(format!("the request names {} twice", config.name)));
        }
    }
    owner.alter(gateway, changes, validate_only).await
}
