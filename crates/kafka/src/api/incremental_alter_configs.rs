//! `IncrementalAlterConfigs`: single configs, set, taken back, or lists of them changed.

use rafka_broker::Error;
use rafka_core::ErrorCode;
use rafka_kafka_wire::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig, Request, Response,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::configs::{self, Changes, Owner, Shown, invalid};
use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::IncrementalAlterConfigs, 0..=1);

/// Kafka's numbers for what shall be done with a config.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

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
        responses.push(AlterConfigsResourceResponse {
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
    resource: &AlterConfigsResource<'_>,
    validate_only: bool,
) -> Result<(), Error> {
    let owner = Owner::of(resource.resource_type, &resource.resource_name)?;
    let known = owner.describe(gateway)?;
    let mut changes = Changes::new();
    for config in &resource.configs {
        let name = config.name.clone().into_owned();
        if changes.insert(name, changed(config, &known)?).is_some() {
            return Err(invalid(format!("the request names {} twice", config.name)));
        }
    }
    // What cannot be set is not set: taking it back changes nothing. Kafka's tools take back what a
    // broker need not know, such as the limits of a replication that is over.
    let is_known = |name: &str| known.iter().any(|one| one.name == name && !one.is_read_only);
    changes.retain(|name, value| value.is_some() || is_known(name));
    owner.alter(gateway, changes, validate_only).await
}

/// The value that a config shall have; `None` for its default.
fn changed(config: &AlterableConfig<'_>, known: &[Shown]) -> Result<Option<String>, Error> {
    let name = &config.name;
    if config.config_operation == DELETE {
        return Ok(None);
    }
    let value = config.value.as_deref().ok_or_else(|| invalid(format!("{name} has no value")))?;
    if config.config_operation == SET {
        return Ok(Some(value.to_owned()));
    }
    let Some(list) = known.iter().find(|known| known.name == *name && known.is_list) else {
        let message = format!("{name} is no list that something could be added to or taken from");
        return Err(Error::new(ErrorCode::InvalidConfig, message));
    };
    let mut words: Vec<&str> = list.value.split(',').map(str::trim).collect();
    let given: Vec<&str> = value.split(',').map(str::trim).collect();
    match config.config_operation {
        APPEND => {
            words.retain(|word| !given.contains(word));
            words.extend(given);
        }
        SUBTRACT => words.retain(|word| !given.contains(word)),
        other => return Err(invalid(format!("{other} is no operation on a config"))),
    }
    Ok(Some(words.join(",")))
}
