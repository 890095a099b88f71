//! `DeleteRecords`: what lies before an offset goes.

use rafka_broker::Error;
use rafka_broker::offsets::DeleteRecords;
use rafka_core::{ErrorCode, Offset, PartitionIndex};
use rafka_kafka_wire::delete_records::{
    Partition, PartitionResult, Request, Response, TopicResult,
};
use rafka_kafka_wire::{ApiKey, Reader};
use uuid::Uuid;

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::DeleteRecords, 0..=2);

/// Stands for the high watermark.
const ALL: i64 = -1;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let result = delete(gateway, &topic.name, partition).await;
            partitions.push(PartitionResult {
                partition_index: partition.partition_index,
                error_code: common::code(&result),
                low_watermark: result.map_or(-1, |start| start.0),
            });
        }
        topics.push(TopicResult { name: topic.name.clone(), partitions });
    }
    context.answer(&Response { topics, ..Response::default() })
}

async fn delete(gateway: &Gateway, topic: &str, partition: &Partition) -> Result<Offset, Error> {
    let topic = common::topic(topic, Uuid::nil())?;
    let before = match partition.offset {
        ALL => None,
        offset @ 0.. => Some(Offset(offset)),
        _ => return Err(ErrorCode::OffsetOutOfRange.into()),
    };
    let partition = PartitionIndex(partition.partition_index);
    let order = DeleteRecords { topic, partition, before };
    gateway.broker.delete_records(vec![order]).await.remove(0)
}
