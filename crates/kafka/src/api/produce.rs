//! `Produce`: batches in, passed on as they came.

use std::time::Duration;

use bytes::Bytes;
use rafka_broker::produce::{
    self, Acks, Appended, PartitionBatches, Transaction, TransactionVersion,
};
use rafka_broker::{Error, Pending, RefusedRecord, Room, TopicRef};
use rafka_core::batch;
use rafka_core::{Batch, ErrorCode, PartitionIndex};
use rafka_kafka_wire::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, Request, Response,
    TopicProduceResponse,
};
use rafka_kafka_wire::{ApiKey, Reader};
use uuid::Uuid;

use super::{Answer, Api, Context, Started, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

/// Versions 0 to 2 are refused and advertised all the same: librdkafka up to 2.11 compresses only
/// where version 0 is (KAFKA-18659).
pub(super) const API: Api = Api { key: ApiKey::Produce, versions: 3..=13, advertised_min: 0 };

/// From here on by the rules of transaction version 2: by its first batch a partition becomes part of
/// the transaction (KIP-890).
const V2_FROM: i16 = 12;

/// From here on clients know that a transaction can be aborted after any error.
const ABORTABLE_FROM: i16 = 11;

const TIMEOUT_MAX: Duration = Duration::from_mins(10);

/// A batch stays where it came if it is at least this share of its frame: the storage counts the
/// batch, and the rest of the frame is memory that nobody counts.
const OWN_SHARE: (usize, usize) = (7, 8);

/// A place in the answer.
enum Slot {
    Refused(Error),
    /// The next acknowledgement belongs here.
    Sent,
}

struct Topic {
    name: String,
    id: Uuid,
    /// The number of each partition, and what became of it.
    slots: Vec<(i32, Slot)>,
}

/// Appends in the order of the calls. The answer comes when all is acknowledged.
pub(super) async fn start(
    gateway: &Gateway,
    context: Context,
    mut reader: Reader<'_>,
    room: Room,
) -> Result<Started, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let acks = match request.acks {
        -1 => Some(Acks::All),
        0 => Some(Acks::None),
        1 => Some(Acks::Leader),
        _ => None,
    };
    let frame_bytes = frame_bytes(&request);
    let (mut topics, mut partitions) = (Vec::new(), Vec::new());
    for data in request.topic_data {
        let topic = common::topic(&data.name, data.topic_id);
        let mut slots = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let index = partition.index;
            let made = match (&topic, acks) {
                (_, None) => Err(unknown_acks(request.acks)),
                (Err(error), _) => Err(error.clone()),
                (Ok(topic), Some(_)) => batches(topic, partition, frame_bytes),
            };
            slots.push(match made {
                Ok(batches) => {
                    partitions.push(batches);
                    (index, Slot::Sent)
                }
                Err(error) => (index, Slot::Refused(error)),
            });
        }
        topics.push(Topic { name: data.name.into_owned(), id: data.topic_id, slots });
    }
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let version =
        if context.version < V2_FROM { TransactionVersion::V1 } else { TransactionVersion::V2 };
    let produce = produce::Request {
        acks: acks.unwrap_or(Acks::All),
        timeout: timeout.min(TIMEOUT_MAX),
        transaction: request
            .transactional_id
            .map(|id| Transaction { id: id.into_owned(), version }),
        partitions,
    };
    let pending = gateway.broker.produce(produce).await;
    if acks == Some(Acks::None) {
        return unanswered(topics, pending).await.map(Started::Answered);
    }
    Ok(Started::Waits { answer: Box::pin(answer(context, topics, pending)), room })
}

async fn answer(context: Context, topics: Vec<Topic>, pending: Pending) -> Result<Answer, Closed> {
    let mut acks = pending.await.into_iter();
    let responses = topics.into_iter().map(|topic| {
        let partition_responses = topic.slots.into_iter().map(|(index, slot)| {
            let result = match slot {
                Slot::Refused(error) => Err(error),
                Slot::Sent => acks.next().expect("an answer to each batch").result,
            };
            answered(index, told(context.version, result))
        });
        TopicProduceResponse {
            name: topic.name.into(),
            topic_id: topic.id,
            partition_responses: partition_responses.collect(),
        }
    });
    context.answer(&Response { responses: responses.collect(), ..Response::default() })
}

/// Tells a client that wants no answer of an error in the only way there is: as in Kafka, its
/// connection is closed, and it asks anew where its partitions are.
async fn unanswered(topics: Vec<Topic>, pending: Pending) -> Result<Answer, Closed> {
    let refused = topics.into_iter().find_map(|topic| {
        topic.slots.into_iter().find_map(|(_, slot)| match slot {
            Slot::Refused(error) => Some(error),
            Slot::Sent => None,
        })
    });
    let failed = pending.await.into_iter().find_map(|ack| ack.result.err());
    match refused.or(failed) {
        Some(error) => Err(Closed::Unanswered(error)),
        None => Ok(Answer::Nothing),
    }
}

/// The outcome in words that clients of this version know.
fn told(version: i16, result: Result<Appended, Error>) -> Result<Appended, Error> {
    result.map_err(|error| {
        if ABORTABLE_FROM <= version {
            return error;
        }
        Error { code: common::before_abortable(error.code), ..error }
    })
}

fn answered(index: i32, result: Result<Appended, Error>) -> PartitionProduceResponse<'static> {
    match result {
        Ok(appended) => PartitionProduceResponse {
            index,
            base_offset: appended.base_offset.0,
            log_append_time_ms: appended.append_time.map_or(-1, |time| time.0),
            log_start_offset: appended.log_start.0,
            ..PartitionProduceResponse::default()
        },
        Err(error) => PartitionProduceResponse {
            index,
            error_code: error.code.code(),
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: error.records.into_iter().map(refused).collect(),
            error_message: Some(error.message),
            ..PartitionProduceResponse::default()
        },
    }
}

fn refused(record: RefusedRecord) -> BatchIndexAndErrorMessage<'static> {
    BatchIndexAndErrorMessage {
        batch_index: record.index,
        batch_index_error_message: Some(record.message),
    }
}

/// The one batch of a partition, its checksum verified.
fn batches(
    topic: &TopicRef,
    data: PartitionProduceData,
    frame_bytes: usize,
) -> Result<PartitionBatches, Error> {
    let index = data.index;
    let wrong = |code, what: &str| {
        let message = format!("topic {topic}, partition {index}: {what}");
        Err(Error::new(code, message))
    };
    let mut bytes: Bytes = data.records.unwrap_or_default().into_bytes();
    let batch = match Batch::split_first(&mut bytes) {
        Ok(Some(batch)) if bytes.is_empty() => batch,
        Ok(Some(_)) => return wrong(ErrorCode::InvalidRecord, "it holds more than one batch"),
        Ok(None) => return wrong(ErrorCode::InvalidRecord, "it holds no batch"),
        Err(error @ batch::Error::Magic(_)) => {
            return wrong(ErrorCode::InvalidRecord, &error.to_string());
        }
        Err(error) => return wrong(error.code(), &error.to_string()),
    };
    let (part, whole) = OWN_SHARE;
    // A small batch would keep the whole frame in memory for as long as it is read.
    let batch = if batch.len() < frame_bytes / whole * part { batch.detached() } else { batch };
    let (topic, partition) = (topic.clone(), PartitionIndex(index));
    Ok(PartitionBatches { topic, partition, batches: vec![batch] })
}

/// What the records of a request take, which is nearly all of its frame.
fn frame_bytes(request: &Request<'_>) -> usize {
    let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    partitions.filter_map(|data| data.records.as_ref()).map(rafka_kafka_wire::Records::len).sum()
}

fn unknown_acks(acks: i16) -> Error {
    let message = format!("acks {acks} is unknown: -1, 0 and 1 are");
    Error::new(ErrorCode::InvalidRequiredAcks, message)
}
