//! `ElectLeaders`: partitions get the leaders that they should have, which those of one node do.

use rafka_broker::topics::PartitionDescription;
use rafka_broker::{Error, TopicRef};
use rafka_core::{ErrorCode, PartitionIndex};
use rafka_kafka_wire::elect_leaders::{
    PartitionResult, ReplicaElectionResult, Request, Response, TopicPartitions,
};
use rafka_kafka_wire::{ApiKey, Reader};
use uuid::Uuid;

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::ElectLeaders, 0..=2);

/// Who shall lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Election {
    /// The first replica.
    Preferred,
    /// Any, where none leads.
    Unclean,
}

pub(super) fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let election = match request.election_type {
        0 => Election::Preferred,
        1 => Election::Unclean,
        // Versions that can ask for another kind have a place to say that there is none.
        _ => {
            let error_code = ErrorCode::InvalidRequest.code();
            return context.answer(&Response { error_code, ..Response::default() });
        }
    };
    let replica_election_results = match &request.topic_partitions {
        Some(topics) => topics.iter().map(|topic| elect(gateway, topic, election)).collect(),
        None => all(gateway, election),
    };
    context.answer(&Response { replica_election_results, ..Response::default() })
}

fn elect<'a>(
    gateway: &Gateway,
    asked: &TopicPartitions<'a>,
    election: Election,
) -> ReplicaElectionResult<'a> {
    let known = common::topic(&asked.topic, Uuid::nil())
        .and_then(|topic| gateway.broker.describe_topic(&topic));
    let elected = |index: i32| -> Result<(), Error> {
        let topic = known.as_ref().map_err(Error::clone)?;
        elected(common::partition(topic, PartitionIndex(index))?, election)
    };
    ReplicaElectionResult {
        topic: asked.topic.clone(),
        partition_result: asked
            .partitions
            .iter()
            .map(|index| result(*index, elected(*index)))
            .collect(),
    }
}

/// What there is to say of all partitions: those that have their leader are passed over.
fn all(gateway: &Gateway, election: Election) -> Vec<ReplicaElectionResult<'static>> {
    let listed = gateway.broker.list_topics().into_iter();
    let topics = listed.filter_map(|topic| {
        let topic = gateway.broker.describe_topic(&TopicRef::Id(topic.id)).ok()?;
        let refused = topic.partitions.iter().filter_map(|partition| {
            let elected = elected(partition, election);
            let is_led =
                matches!(&elected, Err(error) if error.code == ErrorCode::ElectionNotNeeded);
            (!is_led).then(|| result(partition.index.0, elected))
        });
        let partition_result: Vec<_> = refused.collect();
        let topic = topic.name.to_string().into();
        (!partition_result.is_empty()).then_some(ReplicaElectionResult { topic, partition_result })
    });
    topics.collect()
}

/// Whether the partition got another leader: on a node alone none can.
fn elected(partition: &PartitionDescription, election: Election) -> Result<(), Error> {
    let code = match (partition.leader, election) {
        (Some(leader), Election::Preferred) if partition.replicas.first() != Some(&leader) => {
            ErrorCode::PreferredLeaderNotAvailable
        }
        (Some(_), _) => ErrorCode::ElectionNotNeeded,
        (None, Election::Preferred) => ErrorCode::PreferredLeaderNotAvailable,
        (None, Election::Unclean) => ErrorCode::EligibleLeadersNotAvailable,
    };
    Err(code.into())
}

fn result(index: i32, elected: Result<(), Error>) -> PartitionResult<'static> {
    PartitionResult {
        partition_id: index,
        error_code: common::code(&elected),
        error_message: elected.err().map(|error| error.message),
    }
}
