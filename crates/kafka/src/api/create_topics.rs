//! `CreateTopics`: topics come into being, or it is told why not.

use rafka_broker::Error;
use rafka_broker::topics::{Create, Description};
use rafka_core::{ErrorCode, TopicName};
use rafka_kafka_wire::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfigs, CreatableTopicResult,
    Request, Response,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, assignment, common, configs};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::CreateTopics, 2..=7);

/// Leaves a number to the node.
const UNSAID: i32 = -1;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let mut topics: Vec<CreatableTopicResult<'_>> = Vec::with_capacity(request.topics.len());
    let doubled = common::doubled(request.topics.iter().map(|topic| &*topic.name));
    for topic in &request.topics {
        let is_doubled = doubled.contains(&*topic.name);
        if is_doubled && topics.iter().any(|answered| answered.name == topic.name) {
            continue;
        }
        let created = if is_doubled {
            Err(Error::new(ErrorCode::InvalidRequest, "the request names the topic twice"))
        } else {
            create(gateway, topic, request.validate_only).await
        };
        topics.push(match created {
            Ok(description) => created_as(gateway, topic, &description, request.validate_only),
            Err(error) => refused(topic, error),
        });
    }
    context.answer(&Response { topics, ..Response::default() })
}

async fn create(
    gateway: &Gateway,
    topic: &CreatableTopic<'_>,
    validate_only: bool,
) -> Result<Description, Error> {
    let name = TopicName::new(&topic.name)
        .map_err(|invalid| Error::new(ErrorCode::InvalidTopic, invalid.to_string()))?;
    let (partitions, replication_factor) = match &topic.assignments[..] {
        [] => (partitions(topic.num_partitions)?, replicas(topic.replication_factor)?),
        assignments => (Some(assigned(gateway, topic, assignments)?), Some(1)),
    };
    let configs = topic.configs.iter().map(|config| {
        let value = config.value.clone().ok_or_else(|| {
            Error::new(ErrorCode::InvalidConfig, format!("{} has no value", config.name))
        });
        Ok((config.name.clone().into_owned(), value?.into_owned()))
    });
    let configs = configs.collect::<Result<Vec<_>, Error>>()?;
    let order = Create { name, partitions, replication_factor, configs, validate_only };
    gateway.broker.create_topic(order).await
}

fn partitions(number: i32) -> Result<Option<u32>, Error> {
    match u32::try_from(number) {
        Ok(number @ 1..) => Ok(Some(number)),
        _ if number == UNSAID => Ok(None),
        _ => Err(ErrorCode::InvalidPartitions.into()),
    }
}

fn replicas(number: i16) -> Result<Option<u16>, Error> {
    match u16::try_from(number) {
        Ok(number @ 1..) => Ok(Some(number)),
        _ if i32::from(number) == UNSAID => Ok(None),
        _ => Err(ErrorCode::InvalidReplicationFactor.into()),
    }
}

/// How many partitions are assigned: each once, and to the only node that there is.
fn assigned(
    gateway: &Gateway,
    topic: &CreatableTopic<'_>,
    assignments: &[CreatableReplicaAssignment],
) -> Result<u32, Error> {
    let numbers = (topic.num_partitions, i32::from(topic.replication_factor));
    if numbers != (UNSAID, UNSAID) {
        let message = "replicas are assigned: the numbers of partitions and replicas must be -1";
        return Err(Error::new(ErrorCode::InvalidRequest, message));
    }
    let mut indexes: Vec<i32> = assignments.iter().map(|one| one.partition_index).collect();
    indexes.sort_unstable();
    let count = u32::try_from(indexes.len()).map_err(|_many| ErrorCode::InvalidPartitions)?;
    if !indexes.into_iter().map(u32::try_from).eq((0..count).map(Ok)) {
        let message = "the partitions to which replicas are assigned are not 0, 1, 2 and so on, \
                       each once";
        return Err(assignment::invalid(message));
    }
    for one in assignments {
        assignment::check(gateway, &one.broker_ids)?;
    }
    Ok(count)
}

fn created_as<'a>(
    gateway: &Gateway,
    topic: &CreatableTopic<'a>,
    description: &Description,
    validate_only: bool,
) -> CreatableTopicResult<'a> {
    // What was only tried has no configs that could be described.
    let reference = description.name.clone().into();
    let entries = gateway.broker.describe_configs(&reference).ok();
    let entries = entries.filter(|_| !validate_only).unwrap_or_default();
    let configs = entries.into_iter().map(|entry| CreatableTopicConfigs {
        name: entry.key.spec().name.into(),
        config_source: configs::source(entry.source),
        value: Some(entry.value.into()),
        ..CreatableTopicConfigs::default()
    });
    CreatableTopicResult {
        name: topic.name.clone(),
        topic_id: if validate_only { uuid::Uuid::nil() } else { description.id.0 },
        num_partitions: i32::try_from(description.partitions.len()).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(description.replication_factor).unwrap_or(i16::MAX),
        configs: Some(configs.collect()),
        ..CreatableTopicResult::default()
    }
}

fn refused<'a>(topic: &CreatableTopic<'a>, error: Error) -> CreatableTopicResult<'a> {
    CreatableTopicResult {
        name: topic.name.clone(),
        error_code: error.code.code(),
        error_message: Some(error.message),
        configs: Some(Vec::new()),
        ..CreatableTopicResult::default()
    }
}
