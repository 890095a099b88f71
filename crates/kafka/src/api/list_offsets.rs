//! `ListOffsets`: where partitions begin and end, and reach a time.

use rafka_broker::Error;
use rafka_broker::offsets::{self, Spec};
use rafka_core::{Epoch, ErrorCode, Offset, PartitionIndex, Timestamp};
use rafka_kafka_wire::list_offsets::{
    Partition, PartitionResponse, Request, Response, TopicResponse,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::ListOffsets, 1..=11);

/// From here on an answer carries the leader epoch.
const EPOCH_FROM: i16 = 4;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const YOUNGEST: i64 = -3;
/// The earliest on this node, which has all there is.
const EARLIEST_HERE: i64 = -4;
/// The end of what lies in remote storage, and the start of what is still to go there.
const REMOTE: [i64; 2] = [-5, -6];

/// What is told of an offset that there is not.
const NOWHERE: offsets::Found =
    offsets::Found { offset: Offset(-1), timestamp: Timestamp::NONE, leader_epoch: Epoch(-1) };

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let isolation = common::isolation(request.isolation_level);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let name = common::topic(&topic.name, uuid::Uuid::nil());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let found = match (&name, spec(partition.timestamp)) {
                (Err(error), _) => Err(error.clone()),
                // There is no remote storage, and so nothing in it.
                (Ok(topic), _) if REMOTE.contains(&partition.timestamp) => {
                    gateway.broker.partition_count(topic).map(|_exists| NOWHERE)
                }
                (_, Err(error)) => Err(error),
                (Ok(topic), Ok(spec)) => {
                    let asked = offsets::Request {
                        topic: topic.clone(),
                        partition: PartitionIndex(partition.partition_index),
                        spec,
                        isolation,
                        leader_epoch: common::epoch(partition.current_leader_epoch),
                    };
                    gateway.broker.list_offsets(vec![asked]).await.remove(0)
                }
            };
            partitions.push(answered(context, partition, found));
        }
        topics.push(TopicResponse { name: topic.name.clone(), partitions });
    }
    context.answer(&Response { topics, ..Response::default() })
}

fn spec(timestamp: i64) -> Result<Spec, Error> {
    match timestamp {
        LATEST => Ok(Spec::Latest),
        EARLIEST | EARLIEST_HERE => Ok(Spec::Earliest),
        YOUNGEST => Ok(Spec::Youngest),
        // What later versions mean by them, earlier ones do not know.
        ..0 => Err(ErrorCode::UnsupportedVersion.into()),
        time => Ok(Spec::At(Timestamp(time))),
    }
}

fn answered(
    context: &Context,
    partition: &Partition,
    found: Result<offsets::Found, Error>,
) -> PartitionResponse {
    let partition_index = partition.partition_index;
    let has_epoch = EPOCH_FROM <= context.version;
    match found {
        Ok(found) => PartitionResponse {
            partition_index,
            error_code: common::NONE,
            timestamp: found.timestamp.0,
            offset: found.offset.0,
            leader_epoch: if has_epoch { found.leader_epoch.0 } else { -1 },
        },
        Err(error) => PartitionResponse {
            partition_index,
            error_code: error.code.code(),
            timestamp: -1,
            offset: -1,
            leader_epoch: -1,
        },
    }
}
