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

pub(super) const API: Api = Api::new(ApiKey::OffsetCommit, 2..=10);

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let topics: Vec<_> = request
        .topics
        .iter()
        .map(|topic| {
            let version = context.version;
            common::topic_of_group(&gateway.broker, version, &topic.name, topic.topic_id)
        })
        .collect();
    let committed = match common::group(&request.group_id) {
        Ok(group) => {
            let known = request.topics.iter().zip(&topics);
            let commit = CommitOffsets {
                group,
                member: request.member_id.to_string(),
                instance: request.group_instance_id.as_deref().map(str::to_owned),
                generation: request.generation_id_or_member_epoch,
                offsets: known
                    .filter_map(|(topic, name)| Some(offsets(topic, name.as_ref().ok()?)))
                    .flatten()
                    .collect(),
            };
            gateway.broker.groups().commit_offsets(commit).await
        }
        Err(error) => Err(error),
    };
    let failed = committed.as_ref().err().map(|error| error.code);
    let mut results = committed.unwrap_or_default().into_iter();
    let topics = request.topics.iter().zip(topics).map(|(topic, name)| {
        let partition = |partition: &RequestPartition<'_>| {
            let result = match (&name, failed) {
                (Err(code), _) => Err(*code),
                (Ok(_), Some(code)) => Err(code),
                (Ok(_), None) => results.next().expect("an answer to each offset").result,
            };
            ResponsePartition {
                partition_index: partition.partition_index,
                error_code: result.err().map_or(common::NONE, ErrorCode::code),
            }
        };
        let partitions = topic.partitions.iter().map(partition).collect();
        ResponseTopic { name: topic.name.clone(), topic_id: topic.topic_id, partitions }
    });
    context.answer(&Response { topics: topics.collect(), ..Response::default() })
}

/// The offsets of a topic.
fn offsets(topic: &RequestTopic<'_>, name: &TopicName) -> impl Iterator<Item = OffsetToCommit> {
    topic.partitions.iter().map(|partition| OffsetToCommit {
        topic: name.clone(),
        partition: PartitionIndex(partition.partition_index),
        committed: CommittedOffset {
            offset: Offset(partition.committed_offset),
            leader_epoch: common::epoch(partition.committed_leader_epoch),
            metadata: partition.committed_metadata.as_deref().unwrap_or_default().to_owned(),
        },
    })
}
