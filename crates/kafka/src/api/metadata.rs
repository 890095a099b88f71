//! `Metadata`: nodes, topics, and who leads their partitions.

use rafka_broker::topics::{Description, PartitionDescription};
use rafka_broker::{Error, TopicRef};
use rafka_core::{ErrorCode, TopicId, TopicName};
use rafka_kafka_wire::metadata::{
    Request, RequestTopic, Response, ResponseBroker, ResponsePartition, ResponseTopic,
};
use rafka_kafka_wire::{ApiKey, Reader};
use uuid::Uuid;

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::Metadata, 0..=13);

/// From here on a topic of an error may have no name.
const NAMELESS_FROM: i16 = 12;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let topics = match &request.topics {
        // Version 0 has no null: there an empty list means all.
        Some(topics) if !(topics.is_empty() && context.version == 0) => {
            let mut found = Vec::with_capacity(topics.len());
            for topic in common::once(topics, |topic| (&topic.name, topic.topic_id)) {
                found.push(look_up(gateway, context, &request, topic).await);
            }
            found
        }
        _ => all(gateway),
    };
    let topics = authorized(topics, request.include_topic_authorized_operations);
    let cluster = gateway.cluster();
    let brokers = cluster.nodes.into_iter().map(|node| ResponseBroker {
        node_id: node.id.0,
        host: node.host.into(),
        port: i32::from(node.port),
        rack: None,
    });
    context.answer(&Response {
        brokers: brokers.collect(),
        cluster_id: Some(common::id_text(cluster.cluster_id).into()),
        controller_id: cluster.controller.0,
        topics,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            common::CLUSTER_OPERATIONS
        } else {
            common::OPERATIONS_UNSAID
        },
        ..Response::default()
    })
}

/// Says of the topics that are there what may be done with them, if that was asked.
fn authorized(mut topics: Vec<ResponseTopic<'_>>, is_asked: bool) -> Vec<ResponseTopic<'_>> {
    for topic in topics.iter_mut().filter(|topic| is_asked && topic.error_code == common::NONE) {
        topic.topic_authorized_operations = common::TOPIC_OPERATIONS;
    }
    topics
}

fn all(gateway: &Gateway) -> Vec<ResponseTopic<'static>> {
    let broker = &gateway.broker;
    let listed = broker.list_topics().into_iter();
    // One that was deleted meanwhile is no longer one of them.
    listed
        .filter_map(|topic| broker.describe_topic(&TopicRef::Id(topic.id)).ok())
        .map(described)
        .collect()
}

async fn look_up<'a>(
    gateway: &Gateway,
    context: &Context,
    request: &Request<'_>,
    topic: &'a RequestTopic<'a>,
) -> ResponseTopic<'a> {
    let (name, id) = (topic.name.as_deref(), topic.topic_id);
    let found = match name {
        _ if !id.is_nil() => gateway.broker.describe_topic(&TopicRef::Id(TopicId(id))),
        Some(name) => by_name(gateway, name, request.allow_auto_topic_creation).await,
        None => Err(ErrorCode::InvalidRequest.into()),
    };
    match found {
        Ok(description) => described(description),
        Err(error) => {
            let unnamed = if context.version < NAMELESS_FROM { Some("") } else { None };
            unknown(name.or(unnamed), id, &error)
        }
    }
}

async fn by_name(gateway: &Gateway, name: &str, may_create: bool) -> Result<Description, Error> {
    let topic = common::named(name)?;
    match (gateway.broker.describe_topic(&topic), TopicName::new(name)) {
        (Err(error), Ok(name))
            if may_create && error.code == ErrorCode::UnknownTopicOrPartition =>
        {
            gateway.broker.topic_or_create(&name).await
        }
        (found, _) => found,
    }
}

fn unknown<'a>(name: Option<&'a str>, id: Uuid, error: &Error) -> ResponseTopic<'a> {
    ResponseTopic {
        error_code: error.code.code(),
        name: name.map(Into::into),
        topic_id: id,
        ..ResponseTopic::default()
    }
}

fn described(topic: Description) -> ResponseTopic<'static> {
    ResponseTopic {
        name: Some(topic.name.to_string().into()),
        topic_id: topic.id.0,
        is_internal: topic.internal,
        partitions: topic.partitions.iter().map(partition).collect(),
        ..ResponseTopic::default()
    }
}

fn partition(partition: &PartitionDescription) -> ResponsePartition {
    ResponsePartition {
        error_code: common::leader_code(partition),
        partition_index: partition.index.0,
        leader_id: partition.leader.map_or(-1, |node| node.0),
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: common::numbers(&partition.replicas),
        isr_nodes: common::numbers(&partition.isr),
        offline_replicas: Vec::new(),
    }
}
