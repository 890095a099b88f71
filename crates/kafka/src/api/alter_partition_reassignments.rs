//! `AlterPartitionReassignments`: partitions stay where they are while a cluster is one node.

use rafka_broker::Error;
use rafka_core::{ErrorCode, NodeId};
use rafka_kafka_wire::alter_partition_reassignments::{
    ReassignablePartition, ReassignablePartitionResponse, ReassignableTopicResponse, Request,
    Response,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::AlterPartitionReassignments, 0..=1);

pub(super) fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let responses = request.topics.iter().map(|topic| {
        let partition = |partition: &ReassignablePartition| {
            let result = reassign(gateway, &topic.name, partition);
            ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code: common::code(&result),
                error_message: result.err().map(|error| error.message),
            }
        };
        let partitions = topic.partitions.iter().map(partition).collect();
        ReassignableTopicResponse { name: topic.name.clone(), partitions }
    });
    context.answer(&Response {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses: responses.collect(),
        ..Response::default()
    })
}

fn reassign(gateway: &Gateway, topic: &str, asked: &ReassignablePartition) -> Result<(), Error> {
    let partition = common::partition(gateway, topic, asked.partition_index)?;
    let Some(replicas) = &asked.replicas else {
        return Err(ErrorCode::NoReassignmentInProgress.into());
    };
    let replicas: Vec<NodeId> = replicas.iter().map(|node| NodeId(*node)).collect();
    if replicas == partition.replicas {
        return Ok(());
    }
    let message = format!(
        "the replicas of topic {topic}, partition {} are on {:?}, and there is no other node",
        asked.partition_index,
        partition.replicas.iter().map(|node| node.0).collect::<Vec<_>>()
    );
    Err(Error::new(ErrorCode::InvalidReplicaAssignment, message))
}
