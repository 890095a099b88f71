//! `OffsetDelete`: a group forgets how far it had come in some partitions.

use rafka_broker::group::{DeleteOffsets, PartitionResult};
use rafka_core::{ErrorCode, PartitionIndex, TopicName};
use rafka_kafka_wire::offset_delete::{
    Request, RequestPartition, Response, ResponsePartition, ResponseTopic,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::OffsetDelete, 0..=0);

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let results = match delete(gateway, &request).await {
        Ok(results) => results,
        Err(code) => {
            let error_code = code.code();
            return context.answer(&Response { error_code, ..Response::default() });
        }
    };
    let mut results = results.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let is_valid = TopicName::new(&topic.name).is_ok();
        let partition = |partition: &RequestPartition| {
            let result = match is_valid {
                true => results.next().expect("an answer to each partition").result,
                false => Err(ErrorCode::UnknownTopicOrPartition),
            };
            ResponsePartition {
                partition_index: partition.partition_index,
                error_code: result.err().map_or(common::NONE, ErrorCode::code),
            }
        };
        let partitions = topic.partitions.iter().map(partition).collect();
        ResponseTopic { name: topic.name.clone(), partitions }
    });
    context.answer(&Response { topics: topics.collect(), ..Response::default() })
}

async fn delete(
    gateway: &Gateway,
    request: &Request<'_>,
) -> Result<Vec<PartitionResult>, ErrorCode> {
    let group = common::group(&request.group_id).map_err(|error| error.code)?;
    let mut partitions = Vec::new();
    for topic in &request.topics {
        // Nothing was committed for a topic that cannot exist.
        let Ok(name) = TopicName::new(&topic.name) else { continue };
        let indexes = topic.partitions.iter().map(|at| PartitionIndex(at.partition_index));
        partitions.extend(indexes.map(|index| (name.clone(), index)));
    }
    let delete = DeleteOffsets { group, partitions };
    gateway.broker.groups().delete_offsets(delete).await.map_err(|error| error.code)
}
