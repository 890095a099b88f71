//! `DescribeTopicPartitions`: topics, some partitions at a time (KIP-966).

use std::collections::BTreeSet;

use rafka_broker::topics::PartitionDescription;
use rafka_core::ErrorCode;
use rafka_kafka_wire::describe_topic_partitions::{
    Request, Response, ResponseCursor, ResponsePartition, ResponseTopic,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::DescribeTopicPartitions, 0..=0);

/// Kafka's default for `max.request.partition.size.limit`.
const PARTITIONS_MAX: usize = 2000;

pub(super) fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let names: BTreeSet<String> = if request.topics.is_empty() {
        gateway.broker.list_topics().into_iter().map(|topic| topic.name.to_string()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.to_string()).collect()
    };
    let first = request.cursor.as_ref().map_or("", |cursor| &*cursor.topic_name);
    let asked = usize::try_from(request.response_partition_limit).unwrap_or(PARTITIONS_MAX);
    let mut room = asked.clamp(1, PARTITIONS_MAX);
    let (mut topics, mut next_cursor) = (Vec::new(), None);
    for name in names.into_iter().filter(|name| first <= name.as_str()) {
        let from = request.cursor.as_ref().filter(|cursor| cursor.topic_name == name);
        let from = from.map_or(0, |cursor| cursor.partition_index);
        let found = common::named(&name).and_then(|it| gateway.broker.describe_topic(&it));
        let description = match found {
            Ok(description) => description,
            Err(error) => {
                topics.push(missing(name, error.code));
                continue;
            }
        };
        let rest = description.partitions.iter().filter(|partition| from <= partition.index.0);
        let partitions: Vec<ResponsePartition> = rest.clone().take(room).map(shown).collect();
        room -= partitions.len();
        let left_out = rest.map(|partition| partition.index.0).nth(partitions.len());
        if !partitions.is_empty() || left_out.is_none() {
            topics.push(ResponseTopic {
                name: Some(name.clone().into()),
                topic_id: description.id.0,
                is_internal: description.internal,
                partitions,
                ..ResponseTopic::default()
            });
        }
        if let Some(partition_index) = left_out {
            next_cursor = Some(ResponseCursor { topic_name: name.into(), partition_index });
            break;
        }
    }
    context.answer(&Response { topics, next_cursor, ..Response::default() })
}

fn missing(name: String, code: ErrorCode) -> ResponseTopic<'static> {
    let (error_code, name) = (code.code(), Some(name.into()));
    ResponseTopic { error_code, name, ..ResponseTopic::default() }
}

fn shown(partition: &PartitionDescription) -> ResponsePartition {
    let missing = ErrorCode::LeaderNotAvailable.code();
    ResponsePartition {
        error_code: if partition.leader.is_some() { common::NONE } else { missing },
        partition_index: partition.index.0,
        leader_id: partition.leader.map_or(-1, |node| node.0),
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: common::numbers(&partition.replicas),
        isr_nodes: common::numbers(&partition.isr),
        // None that are not in sync. The Java client does not expect that nothing is said.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        ..ResponsePartition::default()
    }
}
