//! `ElectLeaders`: whoever leads stays the leader while a cluster is one node.

use rafka_core::ErrorCode;
use rafka_kafka_wire::elect_leaders::{PartitionResult, ReplicaElectionResult, Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::ElectLeaders, 0..=2);

pub(super) fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    // Asked for all partitions, Kafka tells of those that needed an election: there are none.
    let asked = request.topic_partitions.unwrap_or_default();
    let results = asked.iter().map(|topic| {
        let partition = |index: &i32| {
            let code = match common::partition(gateway, &topic.topic, *index) {
                Ok(partition) if partition.leader.is_none() => {
                    ErrorCode::EligibleLeadersNotAvailable
                }
                Ok(_) => ErrorCode::ElectionNotNeeded,
                Err(error) => error.code,
            };
            PartitionResult {
                partition_id: *index,
                error_code: code.code(),
                error_message: Some(code.text().into()),
            }
        };
        let partition_result = topic.partitions.iter().map(partition).collect();
        ReplicaElectionResult { topic: topic.topic.clone(), partition_result }
    });
    let replica_election_results = results.collect();
    context.answer(&Response { replica_election_results, ..Response::default() })
}
