//! ListOffsets.

use rafka_broker::fetch::Isolation;
use rafka_broker::offsets::{Found, Request, Spec};
use rafka_broker::{Broker, Error};
use rafka_core::{ErrorCode, PartitionIndex, Timestamp};
use rafka_proto::v1::list_offsets_partition::At;
use rafka_proto::v1::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListedOffset, OffsetPosition,
};
use tonic::Status;

use crate::convert;

pub(super) async fn list(
    broker: &Broker,
    request: ListOffsetsRequest,
) -> Result<ListOffsetsResponse, Status> {
    convert::check_items("partitions", request.partitions.len())?;
    let isolation = convert::isolation(request.isolation)?;
    let questions: Vec<Result<Request, Error>> =
        request.partitions.iter().map(|partition| question(partition, isolation)).collect();
    let asked = questions.iter().filter_map(|question| question.as_ref().ok().cloned()).collect();
    let mut answers = broker.list_offsets(asked).await.into_iter();
    let results = questions.into_iter().map(|question| {
        question.and_then(|_| answers.next().unwrap_or(Err(ErrorCode::UnknownServer.into())))
    });
    let partitions = request.partitions.into_iter().zip(results).map(|(p, r)| listed(p, r));
    Ok(ListOffsetsResponse { partitions: partitions.collect() })
}

fn question(partition: &ListOffsetsPartition, isolation: Isolation) -> Result<Request, Error> {
    let invalid = |message| Error::new(ErrorCode::InvalidRequest, message);
    let spec = match partition.at {
        Some(At::TimestampMs(time)) if 0 <= time => Spec::At(Timestamp(time)),
        Some(At::TimestampMs(_)) => return Err(invalid("timestamp_ms is negative")),
        Some(At::Position(position)) => match OffsetPosition::try_from(position) {
            Ok(OffsetPosition::Earliest) => Spec::Earliest,
            Ok(OffsetPosition::Latest) => Spec::Latest,
            Ok(OffsetPosition::Unspecified) | Err(_) => {
                return Err(invalid("position must be EARLIEST or LATEST"));
            }
        },
        None => return Err(invalid("say position or timestamp_ms")),
    };
    Ok(Request {
        topic: convert::topic_ref(&partition.topic, &partition.topic_id)?,
        partition: PartitionIndex(partition.partition),
        spec,
        isolation,
        leader_epoch: convert::epoch(partition.current_leader_epoch),
    })
}

fn listed(partition: ListOffsetsPartition, result: Result<Found, Error>) -> ListedOffset {
    let ListOffsetsPartition { topic, partition, .. } = partition;
    match result {
        Ok(found) => ListedOffset {
            topic,
            partition,
            error: None,
            offset: found.offset.0,
            timestamp_ms: found.timestamp.0,
            leader_epoch: found.leader_epoch.0,
        },
        Err(error) => ListedOffset {
            topic,
            partition,
            error: Some(convert::error(&error)),
            offset: -1,
            timestamp_ms: -1,
            leader_epoch: -1,
        },
    }
}
