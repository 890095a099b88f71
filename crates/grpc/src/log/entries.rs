//! The entries of a produce request: from the wire to the broker's batches, and the acks back.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use rafka_broker::produce::{
    self, PartitionAck, PartitionBatches, Transaction, TransactionVersion,
};
use rafka_broker::{Error, TopicRef};
use rafka_core::{Batch, ErrorCode, PartitionIndex};
use rafka_proto::v1::produce_partition::Data;
use rafka_proto::v1::{self, ProducePartition, ProduceRequest, ProducedPartition};
use tonic::Status;

use super::plain::{self, Plain};
use crate::convert;
use crate::gateway::Gateway;

/// A batch stays where it came if it is at least this share of its frame: the storage counts the
/// batch, and the rest of the frame is memory that nobody counts.
const OWN_SHARE_NUMERATOR: usize = 7;
const OWN_SHARE_DENOMINATOR: usize = 8;

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const TIMEOUT_MAX: Duration = Duration::from_mins(10);

/// A request that the broker can carry out.
pub(super) struct Prepared {
    pub(super) request_id: u64,
    pub(super) produce: produce::Request,
    /// What the answer will consist of, in order.
    pub(super) slots: Vec<Slot>,
}

/// A place in the answer.
pub(super) struct Slot {
    /// The place with everything but the result.
    answer: ProducedPartition,
    /// Why nothing was sent to the broker; `None` if the next ack belongs here.
    refused: Option<Error>,
}

/// Makes batches of everything in a request that came in a message of `frame_bytes`.
///
/// # Errors
/// If the request as a whole is malformed. What is wrong with one entry becomes its answer.
pub(super) async fn prepare(
    gateway: &Gateway,
    request: ProduceRequest,
    frame_bytes: usize,
) -> Result<Prepared, Status> {
    let ProduceRequest { request_id, acks, timeout_ms, partitions, transactional_id } = request;
    let acks = match v1::Acks::try_from(acks) {
        Ok(v1::Acks::All) => produce::Acks::All,
        Ok(v1::Acks::Leader) => produce::Acks::Leader,
        Ok(v1::Acks::None) => produce::Acks::None,
        Err(_) => return Err(convert::invalid(format!("acks {acks} is unknown: 0 to 2 are"))),
    };
    let timeout = convert::span("timeout_ms", timeout_ms, TIMEOUT_DEFAULT, TIMEOUT_MAX)?;
    convert::check_items("partitions", partitions.len())?;
    let transaction =
        transactional_id.map(|id| Transaction { id, version: TransactionVersion::V2 });
    let produce = produce::Request { acks, timeout, transaction, partitions: Vec::new() };
    let mut prepared = Prepared { request_id, produce, slots: Vec::new() };
    for (entry, partition) in (0_u32..).zip(partitions) {
        prepared.add(gateway, entry, partition, frame_bytes).await;
    }
    Ok(prepared)
}

impl Prepared {
    async fn add(
        &mut self,
        gateway: &Gateway,
        entry: u32,
        partition: ProducePartition,
        frame_bytes: usize,
    ) {
        let ProducePartition { topic: name, topic_id, partition: index, data } = partition;
        let place = |partition, record_indexes| ProducedPartition {
            topic: name.clone(),
            partition,
            entry,
            record_indexes,
            ..ProducedPartition::default()
        };
        let made = match (convert::topic_ref(&name, &topic_id), data) {
            (Err(error), _) => Err(error),
            (Ok(_), None) => Err(no_data()),
            (Ok(topic), Some(Data::Batches(bytes))) => batches(&topic, index, bytes, frame_bytes)
                .map(|batches| {
                    let record_indexes = Vec::new();
                    (topic, vec![Plain { partition: index, batches, record_indexes }])
                }),
            (Ok(_), Some(Data::Records(_))) if self.produce.transaction.is_some() => {
                let message = "plain records cannot be part of a transaction: send batches";
                Err(Error::new(ErrorCode::InvalidRequest, message))
            }
            (Ok(topic), Some(Data::Records(records))) => {
                plain::batches(gateway, &topic, index, records).await.map(|plain| (topic, plain))
            }
        };
        match made {
            Ok((topic, parts)) => {
                for Plain { partition, batches, record_indexes } in parts {
                    let answer = place(partition, record_indexes);
                    self.slots.push(Slot { answer, refused: None });
                    let (topic, partition) = (topic.clone(), PartitionIndex(partition));
                    let sent = PartitionBatches { topic, partition, batches };
                    self.produce.partitions.push(sent);
                }
            }
            Err(error) => {
                let answer = place(index, Vec::new());
                self.slots.push(Slot { answer, refused: Some(error) });
            }
        }
    }
}

/// Puts the acks, which are in the order of what was sent, into their places.
pub(super) fn answers(slots: Vec<Slot>, acks: Vec<PartitionAck>) -> Vec<ProducedPartition> {
    let mut acks = acks.into_iter();
    let answer = |Slot { answer, refused }: Slot| {
        let result = match refused {
            Some(error) => Err(error),
            None => acks.next().map_or_else(|| Err(ErrorCode::UnknownServer.into()), |a| a.result),
        };
        match result {
            Ok(appended) => ProducedPartition {
                base_offset: appended.base_offset.0,
                log_append_time_ms: appended.append_time.map_or(-1, |time| time.0),
                log_start_offset: appended.log_start.0,
                ..answer
            },
            Err(error) => ProducedPartition {
                error: Some(convert::error(&error)),
                base_offset: -1,
                log_append_time_ms: -1,
                log_start_offset: -1,
                ..answer
            },
        }
    };
    slots.into_iter().map(answer).collect()
}

fn no_data() -> Error {
    let message = "the entry has neither batches nor records";
    Error::new(ErrorCode::InvalidRequest, message)
}

/// Splits raw bytes into batches and verifies their checksums.
///
/// # Errors
/// If they are malformed, with topic, partition and position.
fn batches(
    topic: &TopicRef,
    partition: i32,
    mut bytes: Bytes,
    frame_bytes: usize,
) -> Result<Vec<Batch>, Error> {
    if bytes.is_empty() {
        return Err(no_data());
    }
    let total = bytes.len();
    let own_len_min = frame_bytes / OWN_SHARE_DENOMINATOR * OWN_SHARE_NUMERATOR;
    let mut batches = Vec::new();
    loop {
        let position = total - bytes.len();
        match Batch::split_first(&mut bytes) {
            // It would keep the whole frame in memory for as long as it is read.
            Ok(Some(batch)) if batch.len() < own_len_min => batches.push(batch.detached()),
            Ok(Some(batch)) => batches.push(batch),
            Ok(None) => return Ok(batches),
            Err(error) => {
                let index = batches.len();
                let message = format!(
                    "topic {topic}, partition {partition}: batch {index}, at byte {position} of \
                     {total}, is malformed: {error}"
                );
                return Err(Error::new(error.code(), Cow::Owned(message)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
