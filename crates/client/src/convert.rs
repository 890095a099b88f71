//! Between the messages of the API and the words of this crate.

use std::fmt;

use rafka_core::{ErrorCode, PartitionIndex, TopicId, TopicName};
use rafka_proto::v1;

use crate::error::Error;
use crate::view::TopicPartition;

/// What the item of an answer says about `subject`.
///
/// # Errors
/// The error that it carries.
pub fn check(subject: impl fmt::Display, error: Option<&v1::Error>) -> Result<(), Error> {
    error.map_or(Ok(()), |error| Err(Error::refused(subject, error.code, &error.message)))
}

/// Kafka's code of an item, if it failed.
#[must_use]
pub fn code_of(error: Option<&v1::Error>) -> Option<ErrorCode> {
    let code = i16::try_from(error?.code).ok().and_then(ErrorCode::from_code);
    Some(code.unwrap_or(ErrorCode::UnknownServer))
}

pub(crate) fn malformed(operation: &'static str, what: impl fmt::Display) -> Error {
    Error::Malformed { operation, what: what.to_string() }
}

pub(crate) fn topic_name(operation: &'static str, name: &str) -> Result<TopicName, Error> {
    TopicName::new(name).map_err(|invalid| malformed(operation, invalid))
}

pub(crate) fn topic_id(operation: &'static str, id: &[u8]) -> Result<TopicId, Error> {
    let bytes = id.try_into().map_err(|_wrong_length| malformed(operation, "topic id"))?;
    Ok(TopicId(uuid::Uuid::from_bytes(bytes)))
}

pub(crate) fn partition(
    operation: &'static str,
    topic: &str,
    partition: i32,
) -> Result<TopicPartition, Error> {
    Ok(TopicPartition::new(topic_name(operation, topic)?, PartitionIndex(partition)))
}

/// A count of the API, which is never negative.
pub(crate) fn count(operation: &'static str, count: i32) -> Result<u32, Error> {
    u32::try_from(count)
        .map_err(|_negative| malformed(operation, format_args!("a count of {count}")))
}

/// As many answers as questions, or the answer is malformed.
pub(crate) fn same_count<A>(
    operation: &'static str,
    answers: Vec<A>,
    questions: usize,
) -> Result<Vec<A>, Error> {
    if answers.len() == questions {
        return Ok(answers);
    }
    Err(malformed(operation, format_args!("{} answers to {questions} questions", answers.len())))
}

/// The one answer to the one question.
pub(crate) fn only<A>(operation: &'static str, answers: Vec<A>) -> Result<A, Error> {
    let mut answers = same_count(operation, answers, 1)?;
    answers.pop().ok_or_else(|| malformed(operation, "no answer"))
}
