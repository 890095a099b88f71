//! `OffsetCommit`: how far a group has come.

use rafka_broker::group::{CommitOffsets, CommittedOffset, OffsetToCommit};
use rafka_core::{ErrorCode, Offset, PartitionIndex, TopicName};
use rafka_kafka_wire::offset_commit::{
    Request, RequestPartition, RequestTopic, Response, ResponsePartition, ResponseTopic,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::OffsetCommit, 2..=9);

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let committed = match common::group(&request.group_id) {
        Ok(group) => {
            let commit = CommitOffsets {
                group,
                member: request.member_id.to_string(),
                instance: request.group_instance_id.as_deref().map(str::to_owned),
                generation: request.generation_id_or_member_epoch,
                offsets: request.topics.iter().flat_map(offsets).collect(),
            };
            gateway.broker.groups().commit_offsets(commit).await
        }
        Err(error) => Err(error),
    };
    let failed = committed.as_ref().err().map(|error| error.code);
    let mut results = committed.unwrap_or_default().into_iter();
    let topics = request.topics.iter().map(|topic| {
        let is_valid = TopicName::new(&topic.name).is_ok();
        let partition = |partition: &RequestPartition<'_>| {
            let result = match failed {
                Some(code) => Err(code),
                None if is_valid => results.next().expect("an answer to each offset").result,
                None => Err(ErrorCode::UnknownTopicOrPartition),
            };
            ResponsePartition {
                partition_index: partition.partition_index,
                error_code: result.err().map_or(common::NONE, ErrorCode::code),
            }
        };
        let partitions = topic.partitions.iter().map(partition).collect();
        ResponseTopic { name: topic.name.clone(), partitions, ..ResponseTopic::default() }
    });
    context.answer(&Response { topics: topics.collect(), ..Response::default() })
}

/// The offsets of a topic; none of one that cannot exist.
fn offsets(topic: &RequestTopic<'_>) -> Vec<OffsetToCommit> {
    let Ok(name) = TopicName::new(&topic.name) else { return Vec::new() };
    let offset = |partition: &RequestPartition<'_>| OffsetToCommit {
        topic: name.clone(),
        partition: PartitionIndex(partition.partition_index),
        committed: CommittedOffset {
            offset: Offset(partition.committed_offset),
            leader_epoch: common::epoch(partition.committed_leader_epoch),
            metadata: partition.committed_metadata.as_deref().unwrap_or_default().to_owned(),
        },
    };
    topic.partitions.iter().map(offset).collect()
}
