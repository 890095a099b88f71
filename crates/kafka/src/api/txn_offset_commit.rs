//! `TxnOffsetCommit`: how far a group will have come when the transaction is committed.

use rafka_broker::group::{CommitOffsets, CommittedOffset, OffsetToCommit, PartitionResult};
use rafka_broker::produce::{Transaction, TransactionVersion};
use rafka_core::{ErrorCode, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicName};
use rafka_kafka_wire::txn_offset_commit::{
    Request, RequestPartition, RequestTopic, Response, ResponsePartition, ResponseTopic,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::TxnOffsetCommit, 0..=5);

/// Older clients may crash while a coordinator is loading (KAFKA-7296).
const LOADING_FROM: i16 = 2;
/// From here on clients know that a transaction can be aborted after any error.
const ABORTABLE_FROM: i16 = 4;
/// From here on by the rules of transaction version 2 (KIP-890).
const V2_FROM: i16 = 5;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let committed = commit(gateway, context, &request).await;
    let failed = committed.as_ref().err().map(|code| told(context.version, *code));
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
        ResponseTopic { name: topic.name.clone(), partitions }
    });
    context.answer(&Response { topics: topics.collect(), ..Response::default() })
}

fn told(version: i16, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::CoordinatorLoadInProgress if version < LOADING_FROM => {
            ErrorCode::CoordinatorNotAvailable
        }
        code if version < ABORTABLE_FROM => common::before_abortable(code),
        code => code,
    }
}

async fn commit(
    gateway: &Gateway,
    context: &Context,
    request: &Request<'_>,
) -> Result<Vec<PartitionResult>, ErrorCode> {
    let group = common::group(&request.group_id).map_err(|error| error.code)?;
    let commit = CommitOffsets {
        group,
        member: request.member_id.to_string(),
        instance: request.group_instance_id.as_deref().map(str::to_owned),
        generation: request.generation_id,
        offsets: request.topics.iter().flat_map(offsets).collect(),
    };
    let version =
        if context.version < V2_FROM { TransactionVersion::V1 } else { TransactionVersion::V2 };
    let transaction = Transaction { id: request.transactional_id.to_string(), version };
    let producer = (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch));
    let committed = gateway.broker.commit_offsets_in_transaction(commit, transaction, producer);
    committed.await.map_err(|error| error.code)
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
