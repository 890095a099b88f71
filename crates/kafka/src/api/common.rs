//! What several APIs need: names, ids, epochs and errors as Kafka writes them.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rafka_broker::fetch::Isolation;
use rafka_broker::topics::PartitionDescription;
use rafka_broker::{Error, TopicRef};
use rafka_core::{Epoch, ErrorCode, GroupId, NodeId, TopicId, TopicName};
use uuid::Uuid;

use crate::gateway::Gateway;

/// No error.
pub(super) const NONE: i16 = 0;

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

/// A partition of the topic of this name.
///
/// # Errors
/// If there is none.
pub(super) fn partition(
    gateway: &Gateway,
    name: &str,
    index: i32,
) -> Result<PartitionDescription, Error> {
    let description = gateway.broker.describe_topic(&topic(name, Uuid::nil())?)?;
    let found = description.partitions.into_iter().find(|found| found.index.0 == index);
    found.ok_or_else(|| ErrorCode::UnknownTopicOrPartition.into())
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

/// The code of an outcome.
pub(super) fn code<T>(outcome: &Result<T, Error>) -> i16 {
    outcome.as_ref().err().map_or(NONE, |error| error.code.code())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_as_those_of_kafka_do() {
        assert_eq!(id_text(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(id_text(Uuid::max()).len(), 22);
    }
}
