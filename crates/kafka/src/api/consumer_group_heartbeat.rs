//! `ConsumerGroupHeartbeat`: a next-generation member (KIP-848) does everything by it.

use std::time::Duration;

use rafka_broker::Error;
use rafka_broker::group::{ConsumerHeartbeat, ConsumerInstruction, TopicPartitions as Partitions};
use rafka_core::{ErrorCode, PartitionIndex, TopicId};
use rafka_kafka_wire::consumer_group_heartbeat::{Assignment, Request, Response, TopicPartitions};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::ConsumerGroupHeartbeat, 0..=1);

/// From here on members make their ids themselves.
const OWN_ID_FROM: i16 = 1;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let instruction = match heartbeat(context, request) {
        Ok(beat) => gateway.broker.groups().consumer_heartbeat(beat).await,
        Err(error) => Err(error),
    };
    let response = match instruction {
        Ok(instruction) => told(instruction),
        Err(error) => Response {
            error_code: error.code.code(),
            error_message: Some(error.message),
            ..Response::default()
        },
    };
    context.answer(&response)
}

fn heartbeat(context: &Context, request: Request<'_>) -> Result<ConsumerHeartbeat, Error> {
    if OWN_ID_FROM <= context.version && request.member_id.is_empty() {
        let message = "the member id is empty: from version 1 on members make it themselves";
        return Err(Error::new(ErrorCode::InvalidRequest, message));
    }
    let group = common::group(&request.group_id)
        .map_err(|error| Error::new(ErrorCode::InvalidRequest, error.message))?;
    let owned = |topics: Vec<TopicPartitions>| -> Partitions {
        let topic = |topic: TopicPartitions| {
            let partitions = topic.partitions.into_iter().map(PartitionIndex).collect();
            (TopicId(topic.topic_id), partitions)
        };
        topics.into_iter().map(topic).collect()
    };
    let names = request.subscribed_topic_names;
    Ok(ConsumerHeartbeat {
        group,
        member: request.member_id.into_owned(),
        member_epoch: request.member_epoch,
        instance: request.instance_id.map(Into::into),
        rack: request.rack_id.map(Into::into),
        rebalance_timeout: u64::try_from(request.rebalance_timeout_ms)
            .ok()
            .map(Duration::from_millis),
        topics: names.map(|names| names.into_iter().map(Into::into).collect()),
        regex: request.subscribed_topic_regex.map(Into::into),
        assignor: request.server_assignor.map(Into::into),
        owned: request.topic_partitions.map(owned),
        client_id: context.client_id.clone(),
        client_host: context.client_host(),
    })
}

fn told(instruction: ConsumerInstruction) -> Response<'static> {
    let assignment = |partitions: Partitions| {
        let topic = |(id, partitions): (TopicId, Vec<PartitionIndex>)| TopicPartitions {
            topic_id: id.0,
            partitions: partitions.into_iter().map(|partition| partition.0).collect(),
        };
        Assignment { topic_partitions: partitions.into_iter().map(topic).collect() }
    };
    let interval = instruction.heartbeat_interval.as_millis();
    Response {
        member_id: Some(instruction.member.into()),
        member_epoch: instruction.member_epoch,
        heartbeat_interval_ms: i32::try_from(interval).unwrap_or(i32::MAX),
        assignment: instruction.assignment.map(assignment),
        ..Response::default()
    }
}
