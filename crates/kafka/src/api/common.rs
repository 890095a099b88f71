//! What several APIs need: names, ids, epochs and errors as Kafka writes them.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rafka_broker::fetch::Isolation;
use rafka_broker::topics::{Description, PartitionDescription};
use rafka_broker::{Broker, Error, TopicRef};
use rafka_core::{Epoch, ErrorCode, GroupId, NodeId, PartitionIndex, TopicId, TopicName};
use uuid::Uuid;

/// No error.
pub(super) const NONE: i16 = 0;

/// What a client may do with the cluster, one bit each under Kafka's number of the operation. While
/// there is no authorizer that is everything, as in Kafka: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION,
/// DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE.
pub(super) const CLUSTER_OPERATIONS: i32 =
    1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// The same with a topic: READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS,
/// ALTER_CONFIGS.
pub(super) const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// Says that nobody asked.
pub(super) const OPERATIONS_UNSAID: i32 = i32::MIN;

/// The topic of this name.
///
/// # Errors
/// If no topic can have it.
pub(super) fn named(name: &str) -> Result<TopicRef, Error> {
    let name = TopicName::new(name);
    name.map(TopicRef::Name)
        .map_err(|invalid| Error::new(ErrorCode::InvalidTopic, invalid.to_string()))
}

/// The topic of a request that names topics by id from some version on.
///
/// # Errors
/// As [`named`]; a name that no topic can have is that of a topic which does not exist.
pub(super) fn topic(name: &str, id: Uuid) -> Result<TopicRef, Error> {
    if !id.is_nil() {
        return Ok(TopicRef::Id(TopicId(id)));
    }
    named(name).map_err(|error| Error::new(ErrorCode::UnknownTopicOrPartition, error.message))
}

/// The name of a topic that a request of groups is about, which names topics by id from version 10
/// on.
///
/// # Errors
/// If no topic can have the name, or none has the id.
pub(super) fn topic_of_group(
    broker: &Broker,
    version: i16,
    name: &str,
    id: Uuid,
) -> Result<TopicName, ErrorCode> {
    const IDS_FROM: i16 = 10;
    if version < IDS_FROM {
        return TopicName::new(name).map_err(|_invalid| ErrorCode::UnknownTopicOrPartition);
    }
    let known = broker.identify_topic(&TopicRef::Id(TopicId(id)));
    known.map(|(name, _)| name).map_err(|error| error.code)
}

/// Nodes as Kafka writes them.
pub(super) fn numbers(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}

/// The group of this id.
///
/// # Errors
/// If no group can have it.
pub(super) fn group(id: &str) -> Result<GroupId, Error> {
    GroupId::new(id).map_err(|invalid| Error::new(ErrorCode::InvalidGroupId, invalid.to_string()))
}

/// The names that a request names more than once.
pub(super) fn doubled<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}

/// What a request asks for, each once: otherwise a small request that asks for something large again
/// and again would be answered with all the memory there is.
pub(super) fn once<'a, T, K: Ord>(
    asked: &'a [T],
    key: impl Fn(&'a T) -> K,
) -> impl Iterator<Item = &'a T> {
    let mut seen = BTreeSet::new();
    asked.iter().filter(move |one| seen.insert(key(one)))
}

/// The code of an outcome.
pub(super) fn code<T>(outcome: &Result<T, Error>) -> i16 {
    outcome.as_ref().err().map_or(NONE, |error| error.code.code())
}

/// The partition of this number.
///
/// # Errors
/// If the topic has none.
pub(super) fn partition(
    topic: &Description,
    index: PartitionIndex,
) -> Result<&PartitionDescription, Error> {
    let found = usize::try_from(index.0).ok().and_then(|index| topic.partitions.get(index));
    found.ok_or_else(|| {
        let message = format!("topic {} has no partition {index}", topic.name);
        Error::new(ErrorCode::UnknownTopicOrPartition, message)
    })
}

/// The code of a partition: that of one without a leader says so.
pub(super) fn leader_code(partition: &PartitionDescription) -> i16 {
    if partition.leader.is_some() { NONE } else { ErrorCode::LeaderNotAvailable.code() }
}

/// The leader epoch that a client knows; -1 if it knows none.
pub(super) fn epoch(number: i32) -> Option<Epoch> {
    (0 <= number).then_some(Epoch(number))
}

/// Up to which point a client reads.
pub(super) fn isolation(level: i8) -> Isolation {
    if level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
}

/// An id as Kafka shows it: 22 characters of base64.
pub(super) fn id_text(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// What clients are told that know no other word for it.
pub(super) fn before_fencing(code: ErrorCode) -> ErrorCode {
    if code == ErrorCode::ProducerFenced { ErrorCode::InvalidProducerEpoch } else { code }
}

/// What clients are told that do not know that a transaction can be aborted after any error.
pub(super) fn before_abortable(code: ErrorCode) -> ErrorCode {
    if code == ErrorCode::TransactionAbortable { ErrorCode::InvalidTxnState } else { code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_as_those_of_kafka_do() {
        assert_eq!(id_text(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(id_text(Uuid::max()).len(), 22);
    }
}
