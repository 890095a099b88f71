//! `DescribeProducers`: who has written to partitions and is remembered (KIP-664).

use rafka_broker::{Error, TopicRef};
use rafka_core::PartitionIndex;
use rafka_core::producer_state::Described;
use rafka_kafka_wire::describe_producers::{
    PartitionResponse, ProducerState, Request, Response, TopicResponse,
};
use rafka_kafka_wire::{ApiKey, Reader};
use uuid::Uuid;

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::DescribeProducers, 0..=0);

pub(super) fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let topics = common::once(&request.topics, |topic| &topic.name).map(|asked| {
        let topic = common::topic(&asked.name, Uuid::nil());
        let partition = |index: &i32| match describe(gateway, &topic, *index) {
            Ok(producers) => PartitionResponse {
                partition_index: *index,
                active_producers: producers.into_iter().map(shown).collect(),
                ..PartitionResponse::default()
            },
            Err(error) => PartitionResponse {
                partition_index: *index,
                error_code: error.code.code(),
                error_message: Some(error.message),
                ..PartitionResponse::default()
            },
        };
        let partitions =
            common::once(&asked.partition_indexes, |index| *index).map(partition).collect();
        TopicResponse { name: asked.name.clone(), partitions }
    });
    let topics = topics.collect();
    context.answer(&Response { topics, ..Response::default() })
}

fn describe(
    gateway: &Gateway,
    topic: &Result<TopicRef, Error>,
    index: i32,
) -> Result<Vec<Described>, Error> {
    let topic = topic.as_ref().map_err(Error::clone)?;
    gateway.broker.describe_producers(topic, PartitionIndex(index))
}

fn shown(producer: Described) -> ProducerState {
    ProducerState {
        producer_id: producer.id.0,
        producer_epoch: i32::from(producer.epoch.0),
        last_sequence: producer.sequence_last.unwrap_or(-1),
        last_timestamp: producer.seen_at.0,
        coordinator_epoch: producer.coordinator_epoch.map_or(-1, |epoch| epoch.0),
        current_txn_start_offset: producer.transaction.map_or(-1, |offset| offset.0),
    }
}
