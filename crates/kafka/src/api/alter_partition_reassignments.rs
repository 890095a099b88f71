//! `AlterPartitionReassignments`: replicas move to other nodes, of which there is none.

use rafka_broker::Error;
use rafka_broker::topics::{Description, PartitionDescription};
use rafka_core::{ErrorCode, PartitionIndex};
use rafka_kafka_wire::alter_partition_reassignments::{
    ReassignablePartition, ReassignablePartitionResponse, ReassignableTopic,
    ReassignableTopicResponse, Request, Response,
};
use rafka_kafka_wire::{ApiKey, Reader};
use uuid::Uuid;

use super::{Answer, Api, Context, assignment, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::AlterPartitionReassignments, 0..=1);

pub(super) fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let may_change_factor = request.allow_replication_factor_change;
    let responses =
        request.topics.iter().map(|topic| reassign_all(gateway, topic, may_change_factor));
    context.answer(&Response {
        responses: responses.collect(),
        allow_replication_factor_change: may_change_factor,
        ..Response::default()
    })
}

fn reassign_all<'a>(
    gateway: &Gateway,
    asked: &ReassignableTopic<'a>,
    may_change_factor: bool,
) -> ReassignableTopicResponse<'a> {
    let known = common::topic(&asked.name, Uuid::nil())
        .and_then(|topic| gateway.broker.describe_topic(&topic));
    let partitions = asked.partitions.iter().map(|partition| {
        let reassigned = match &known {
            Ok(topic) => reassign(gateway, topic, partition, may_change_factor),
            Err(error) => Err(error.clone()),
        };
        ReassignablePartitionResponse {
            partition_index: partition.partition_index,
            error_code: common::code(&reassigned),
            error_message: reassigned.err().map(|error| error.message),
        }
    });
    ReassignableTopicResponse { name: asked.name.clone(), partitions: partitions.collect() }
}

/// Replicas can be assigned to where they are; nothing is ever under way.
fn reassign(
    gateway: &Gateway,
    topic: &Description,
    asked: &ReassignablePartition,
    may_change_factor: bool,
) -> Result<(), Error> {
    let known: &PartitionDescription =
        common::partition(topic, PartitionIndex(asked.partition_index))?;
    let Some(replicas) = &asked.replicas else {
        return Err(ErrorCode::NoReassignmentInProgress.into());
    };
    assignment::check(gateway, replicas)?;
    if !may_change_factor && replicas.len() != known.replicas.len() {
        let message = "the replication factor would change, which the request does not allow";
        return Err(Error::new(ErrorCode::InvalidReplicationFactor, message));
    }
    Ok(())
}
