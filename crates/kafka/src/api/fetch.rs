//! `Fetch`: whole batches, as they are kept.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rafka_broker::fetch::{self, Fetched, Position};
use rafka_broker::{Error, TopicRef};
use rafka_core::{Batch, ByteSize, ErrorCode, Offset, PartitionIndex};
use rafka_kafka_wire::fetch::{
    AbortedTransaction, FetchableTopicResponse, Partition, PartitionData, Request, Response,
};
use rafka_kafka_wire::{ApiKey, Reader, Records};
use tokio::sync::OwnedSemaphorePermit;

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;
use crate::session::{self, Asked, Place, Session};

pub(super) const API: Api = Api::new(ApiKey::Fetch, 4..=18);

/// What a client waits at the most, whatever it asks for: it would have given up by then.
const WAIT_MAX: Duration = Duration::from_mins(5);
/// What a reader gets at once in any case. It gets more as far as there is room.
const SMALL_BYTES: ByteSize = ByteSize::kib(64);
/// From here on topics have ids in place of names.
const NAMELESS_FROM: i16 = 13;

/// What is asked for, without the request that it came in.
pub(super) struct Question {
    limits: fetch::Request,
    isolation_level: i8,
    /// What a session that the reader begins would know of it.
    kind: (i32, bool),
    asked: Result<Asked, ErrorCode>,
}

/// Takes a request in.
pub(super) fn ask(
    context: &Context,
    held: &mut Option<Session>,
    mut reader: Reader<'_>,
) -> Result<Question, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let names_ids = NAMELESS_FROM <= context.version;
    let kind = (request.session_epoch, names_ids);
    let isolation_level = request.isolation_level;
    let bytes_max = size(request.max_bytes);
    let limits = fetch::Request {
        bytes_max,
        bytes_min: size(request.min_bytes).min(bytes_max),
        wait_max: millis(request.max_wait_ms).min(WAIT_MAX),
        isolation: common::isolation(isolation_level),
        positions: Vec::new(),
    };
    let asked = session::ask(held, request, names_ids);
    Ok(Question { limits, isolation_level, kind, asked })
}

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    held: &mut Option<Session>,
    Question { limits, isolation_level, kind, asked }: Question,
) -> Result<Answer, Closed> {
    let asked = match asked {
        Ok(asked) => asked,
        Err(code) => {
            let error_code = code.code();
            return context.answer(&Response { error_code, ..Response::default() });
        }
    };
    let (told, session_id, room) = match asked {
        Asked::All(places) => {
            let (found, room) = find(gateway, limits, &places, isolation_level).await;
            let id = || (gateway.session_id.fetch_add(1, Ordering::Relaxed) & i32::MAX).max(1);
            match Session::begin(kind, places.clone(), &gateway.sessions, id) {
                Some(session) => {
                    let (session, told) = session.answered(found);
                    let id = held.insert(session).id();
                    (told, id, room)
                }
                None => (places.into_iter().zip(found).collect(), session::NONE, room),
            }
        }
        Asked::News(session) => {
            let (found, room) = find(gateway, limits, &session.places, isolation_level).await;
            let (session, news) = session.answered(found);
            let id = held.insert(session).id();
            (news, id, room)
        }
    };
    let responses = by_topic(told);
    match context.answer(&Response { session_id, responses, ..Response::default() })? {
        Answer::Frame { frame, .. } => Ok(Answer::Frame { frame, room }),
        Answer::Nothing => Ok(Answer::Nothing),
    }
}

/// Partitions that follow each other and are of one topic, together.
fn by_topic(told: Vec<(Place, PartitionData)>) -> Vec<FetchableTopicResponse<'static>> {
    let mut responses: Vec<FetchableTopicResponse<'static>> = Vec::new();
    for (Place { topic, .. }, data) in told {
        let is_same = |last: &&mut FetchableTopicResponse<'_>| {
            last.topic == topic.name.as_str() && last.topic_id == topic.id
        };
        match responses.last_mut().filter(is_same) {
            Some(last) => last.partitions.push(data),
            None => responses.push(FetchableTopicResponse {
                topic: topic.name.clone().into(),
                topic_id: topic.id,
                partitions: vec![data],
            }),
        }
    }
    responses
}

/// What there is at each place, in their order.
async fn find(
    gateway: &Gateway,
    limits: fetch::Request,
    places: &[Place],
    isolation_level: i8,
) -> (Vec<PartitionData>, Option<OwnedSemaphorePermit>) {
    let topics: Vec<Result<TopicRef, Error>> =
        places.iter().map(|place| common::topic(&place.topic.name, place.topic.id)).collect();
    let named = places.iter().zip(&topics);
    let positions =
        named.filter_map(|(place, topic)| Some(position(topic.as_ref().ok()?, &place.asked)));
    let positions = positions.collect();
    let (data, room) = read(gateway, fetch::Request { positions, ..limits }).await;
    let mut data = data.into_iter();
    let found = places.iter().zip(topics).map(|(place, topic)| {
        let found = match topic {
            Err(error) => Err(error),
            Ok(_) => data.next().expect("an answer to each question").result,
        };
        answered(&place.asked, found, isolation_level)
    });
    (found.collect(), room)
}

/// Reads what is there. If that is too little, waits for more, and holds nothing meanwhile.
async fn read(
    gateway: &Gateway,
    request: fetch::Request,
) -> (Vec<fetch::PartitionData>, Option<OwnedSemaphorePermit>) {
    let (data, room) = read_now(gateway, &request).await;
    if request.wait_max.is_zero() || fetch::is_enough(&data, request.bytes_min) {
        return (data, room);
    }
    drop((data, room));
    gateway.broker.wait_for(&request).await;
    read_now(gateway, &request).await
}

/// Reads what is there within the room that is left for large answers.
async fn read_now(
    gateway: &Gateway,
    request: &fetch::Request,
) -> (Vec<fetch::PartitionData>, Option<OwnedSemaphorePermit>) {
    let large = request.bytes_max.min(gateway.settings.fetch_bytes_max);
    let room = if SMALL_BYTES < large { gateway.room(large) } else { None };
    let bytes_max = if room.is_some() { large } else { large.min(SMALL_BYTES) };
    let now = fetch::Request { bytes_max, wait_max: Duration::ZERO, ..request.clone() };
    (gateway.broker.fetch(now).await, room)
}

fn position(topic: &TopicRef, partition: &Partition) -> Position {
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
