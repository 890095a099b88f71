//! `OffsetForLeaderEpoch`: where an epoch ended, so that a client notices that its past was cut off.

use rafka_broker::offsets::EpochRequest;
use rafka_core::{Epoch, PartitionIndex};
use rafka_kafka_wire::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult, Request, Response,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::OffsetForLeaderEpoch, 2..=4);

pub(super) fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let topics = request.topics.iter().map(|topic| {
        let name = common::topic(&topic.topic, uuid::Uuid::nil());
        let end = |partition: &OffsetForLeaderPartition| {
            let asked = name.clone().map(|topic| EpochRequest {
                topic,
                partition: PartitionIndex(partition.partition),
                current: common::epoch(partition.current_leader_epoch),
                epoch: Epoch(partition.leader_epoch),
            });
            let found = asked.and_then(|asked| gateway.broker.epoch_end(&asked));
            let (leader_epoch, end_offset) = match &found {
                Ok(Some((epoch, end))) => (epoch.0, end.0),
                Ok(None) | Err(_) => (-1, -1),
            };
            EpochEndOffset {
                error_code: found.err().map_or(common::NONE, |error| error.code.code()),
                partition: partition.partition,
                leader_epoch,
                end_offset,
            }
        };
        let partitions = topic.partitions.iter().map(end).collect();
        OffsetForLeaderTopicResult { topic: topic.topic.clone(), partitions }
    });
    context.answer(&Response { topics: topics.collect(), ..Response::default() })
}
