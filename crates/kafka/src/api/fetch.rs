//! `Fetch`: whole batches, as they are kept.

use std::time::Duration;

use bytes::Bytes;
use rafka_broker::Error;
use rafka_broker::fetch::{self, Fetched, Position};
use rafka_core::{Batch, ByteSize, ErrorCode, Offset, PartitionIndex};
use rafka_kafka_wire::fetch::{
    AbortedTransaction, FetchableTopicResponse, Partition, PartitionData, Request, Response,
};
use rafka_kafka_wire::{ApiKey, Reader, Records};
use tokio::sync::OwnedSemaphorePermit;

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::Fetch, 4..=18);

/// What a client waits at the most, whatever it asks for: it would have given up by then.
const WAIT_MAX: Duration = Duration::from_mins(5);
/// The most that a reader at the end of its logs gets at once. One that is behind gets more, as far as
/// there is room.
const TAIL_BYTES: ByteSize = ByteSize::kib(64);
/// The number of a fetch that belongs to no session: an answer to it opens none.
const NO_SESSION: i32 = 0;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    // No session is ever opened, so that a client can only know of one from another node's life.
    if request.session_id != NO_SESSION {
        let error_code = ErrorCode::FetchSessionIdNotFound.code();
        return context.answer(&Response { error_code, ..Response::default() });
    }
    let mut asked = Vec::new();
    let mut refused = Vec::new();
    for topic in &request.topics {
        match common::topic(&topic.topic, topic.topic_id) {
            Ok(name) => asked.extend(topic.partitions.iter().map(|one| position(&name, one))),
            Err(error) => refused.push(error),
        }
    }
    let (data, room) = read(
        gateway,
        fetch::Request {
            bytes_max: size(request.max_bytes),
            bytes_min: size(request.min_bytes),
            wait_max: millis(request.max_wait_ms).min(WAIT_MAX),
            isolation: common::isolation(request.isolation_level),
            positions: asked,
        },
    )
    .await;
    let (mut data, mut refused) = (data.into_iter(), refused.into_iter());
    let responses = request.topics.iter().map(|topic| {
        let is_asked = common::topic(&topic.topic, topic.topic_id).is_ok();
        let error = if is_asked { None } else { refused.next() };
        let partitions = topic.partitions.iter().map(|one| {
            let found = match &error {
                Some(error) => Err(error.clone()),
                None => data.next().expect("an answer to each question").result,
            };
            answered(one, found, request.isolation_level)
        });
        FetchableTopicResponse {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        }
    });
    let response = Response { responses: responses.collect(), ..Response::default() };
    match context.answer(&response)? {
        Answer::Frame { frame, .. } => Ok(Answer::Frame { frame, room }),
        Answer::Nothing => Ok(Answer::Nothing),
    }
}

/// Reads what is there within the room that is left for large answers; whoever has to wait for more
/// waits for little, and holds no room meanwhile.
async fn read(
    gateway: &Gateway,
    request: fetch::Request,
) -> (Vec<fetch::PartitionData>, Option<OwnedSemaphorePermit>) {
    let large = request.bytes_max.min(gateway.settings.fetch_bytes_max);
    let room = if TAIL_BYTES < large { gateway.room(large) } else { None };
    if room.is_some() {
        let now = fetch::Request { bytes_max: large, wait_max: Duration::ZERO, ..request.clone() };
        let data = gateway.broker.fetch(now).await;
        let found = data.iter().filter_map(|partition| partition.result.as_ref().ok());
        let bytes: usize = found.flat_map(|fetched| &fetched.batches).map(Batch::len).sum();
        let is_refused = data.iter().any(|partition| partition.result.is_err());
        if request.bytes_min <= ByteSize::of_len(bytes) || is_refused || request.wait_max.is_zero()
        {
            return (data, room);
        }
    }
    drop(room);
    let bytes_max = large.min(TAIL_BYTES);
    let bytes_min = request.bytes_min.min(bytes_max);
    let data = gateway.broker.fetch(fetch::Request { bytes_max, bytes_min, ..request }).await;
    (data, None)
}

fn position(topic: &rafka_broker::TopicRef, partition: &Partition) -> Position {
    Position {
        topic: topic.clone(),
        partition: PartitionIndex(partition.partition),
        offset: Offset(partition.fetch_offset),
        bytes_max: size(partition.partition_max_bytes),
        leader_epoch: common::epoch(partition.current_leader_epoch),
    }
}

fn answered(
    partition: &Partition,
    found: Result<Fetched, Error>,
    isolation_level: i8,
) -> PartitionData {
    let partition_index = partition.partition;
    match found {
        Ok(fetched) => PartitionData {
            partition_index,
            high_watermark: fetched.high_watermark.0,
            last_stable_offset: fetched.last_stable_offset.0,
            log_start_offset: fetched.log_start.0,
            aborted_transactions: (isolation_level == 1).then(|| aborted(&fetched)),
            preferred_read_replica: -1,
            records: Some(records(fetched.batches)),
            ..PartitionData::default()
        },
        Err(error) => PartitionData {
            partition_index,
            error_code: error.code.code(),
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            preferred_read_replica: -1,
            records: Some(Records::default()),
            ..PartitionData::default()
        },
    }
}

fn aborted(fetched: &Fetched) -> Vec<AbortedTransaction> {
    let transaction = |aborted: &fetch::Aborted| AbortedTransaction {
        producer_id: aborted.producer.0,
        first_offset: aborted.first_offset.0,
    };
    fetched.aborted.iter().map(transaction).collect()
}

/// The batches as pieces: headers are written anew, the records are those that are kept.
fn records(batches: Vec<Batch>) -> Records {
    let pieces = |batch: Batch| [Bytes::copy_from_slice(&batch.header_bytes()), batch.records];
    batches.into_iter().flat_map(pieces).collect()
}

fn size(bytes: i32) -> ByteSize {
    ByteSize(u64::try_from(bytes).unwrap_or(0))
}

fn millis(number: i32) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(0))
}
