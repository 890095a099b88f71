//! `AddPartitionsToTxn`: where transactions will write, or whether they may.

use rafka_broker::group::PartitionResult as Added;
use rafka_broker::transaction::{AddPartitions, Partition};
use rafka_core::{ErrorCode, PartitionIndex, ProducerEpoch, ProducerId, TopicName};
use rafka_kafka_wire::add_partitions_to_txn::{
    AddPartitionsToTxnResult, PartitionResult, Request, Response, Topic, TopicResult, Transaction,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::AddPartitionsToTxn, 0..=5);

/// From here on clients know that a producer can be fenced.
const FENCED_FROM: i16 = 2;
/// From here on a request holds several transactions, and may ask about them without a change: brokers
/// speak so to each other.
const BATCHED_FROM: i16 = 4;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    if context.version < BATCHED_FROM {
        let transaction = Transaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        };
        let results_by_topic_v3_and_below = one(gateway, context, &transaction).await;
        return context.answer(&Response { results_by_topic_v3_and_below, ..Response::default() });
    }
    let mut results_by_transaction = Vec::with_capacity(request.transactions.len());
    for transaction in &request.transactions {
        results_by_transaction.push(AddPartitionsToTxnResult {
            transactional_id: transaction.transactional_id.clone(),
            topic_results: one(gateway, context, transaction).await,
        });
    }
    context.answer(&Response { results_by_transaction, ..Response::default() })
}

/// Adds the partitions of one transaction, or verifies them.
async fn one<'a>(
    gateway: &Gateway,
    context: &Context,
    transaction: &Transaction<'a>,
) -> Vec<TopicResult<'a>> {
    let added = add(gateway, transaction).await;
    let failed = added.as_ref().err().map(|code| {
        if context.version < FENCED_FROM { common::before_fencing(*code) } else { *code }
    });
    let mut results = added.unwrap_or_default().into_iter();
    let topics = transaction.topics.iter().map(|topic: &Topic<'a>| {
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
    topics.collect()
}

async fn add(gateway: &Gateway, transaction: &Transaction<'_>) -> Result<Vec<Added>, ErrorCode> {
    let mut partitions: Vec<Partition> = Vec::new();
    for topic in &transaction.topics {
        // What cannot be a topic's name is none.
        let name = TopicName::new(&topic.name);
        let name = name.map_err(|_invalid| ErrorCode::UnknownTopicOrPartition)?;
        let indexes = topic.partitions.iter().map(|index| PartitionIndex(*index));
        partitions.extend(indexes.map(|index| (name.clone(), index)));
    }
    let producer = (ProducerId(transaction.producer_id), ProducerEpoch(transaction.producer_epoch));
    let id = transaction.transactional_id.to_string();
    let asked = AddPartitions { id, producer, partitions };
    let transactions = gateway.broker.transactions();
    let results = if transaction.verify_only {
        transactions.verify_partitions(asked).await
    } else {
        transactions.add_partitions(asked).await
    };
    results.map_err(|error| error.code)
}
