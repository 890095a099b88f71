//! `AddPartitionsToTxn`: a producer says where its transaction will write.

use rafka_broker::group::PartitionResult as Added;
use rafka_broker::transaction::{AddPartitions, Partition};
use rafka_core::{ErrorCode, PartitionIndex, ProducerEpoch, ProducerId, TopicName};
use rafka_kafka_wire::add_partitions_to_txn::{PartitionResult, Request, Response, TopicResult};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

/// Later versions are spoken between brokers.
pub(super) const API: Api = Api::new(ApiKey::AddPartitionsToTxn, 0..=3);

/// From here on clients know that a producer can be fenced.
const FENCED_FROM: i16 = 2;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let added = add(gateway, &request).await;
    let failed = added.as_ref().err().map(|code| {
        if context.version < FENCED_FROM { common::before_fencing(*code) } else { *code }
    });
    let mut results = added.unwrap_or_default().into_iter();
    let topics = request.v3_and_below_topics.iter().map(|topic| {
        let partition = |index: &i32| {
            let result = match failed {
                Some(code) => Err(code),
                None => results.next().expect("an answer to each partition").result,
            };
            PartitionResult {
                partition_index: *index,
                partition_error_code: result.err().map_or(common::NONE, ErrorCode::code),
            }
        };
        let results_by_partition = topic.partitions.iter().map(partition).collect();
        TopicResult { name: topic.name.clone(), results_by_partition }
    });
    let results_by_topic_v3_and_below = topics.collect();
    context.answer(&Response { results_by_topic_v3_and_below, ..Response::default() })
}

async fn add(gateway: &Gateway, request: &Request<'_>) -> Result<Vec<Added>, ErrorCode> {
    let mut partitions: Vec<Partition> = Vec::new();
    for topic in &request.v3_and_below_topics {
        // What cannot be a topic's name is none.
        let name = TopicName::new(&topic.name);
        let name = name.map_err(|_invalid| ErrorCode::UnknownTopicOrPartition)?;
        let indexes = topic.partitions.iter().map(|index| PartitionIndex(*index));
        partitions.extend(indexes.map(|index| (name.clone(), index)));
    }
    let producer = (
        ProducerId(request.v3_and_below_producer_id),
        ProducerEpoch(request.v3_and_below_producer_epoch),
    );
    let id = request.v3_and_below_transactional_id.to_string();
    let add = AddPartitions { id, producer, partitions };
    gateway.broker.transactions().add_partitions(add).await.map_err(|error| error.code)
}
