//! Pure: the vocabulary of the API and that of the broker, one into the other.

use std::time::Duration;

use rafka_broker::{Error, TopicRef, fetch};
use rafka_core::{Epoch, ErrorCode, GroupId, TopicId, TopicName};
use rafka_proto::v1;
use tonic::Status;

/// The most items that a list in a request may hold.
pub(crate) const ITEMS_MAX: usize = 10_000;

/// The broker's error as an item of an answer carries it.
pub(crate) fn error(error: &Error) -> v1::Error {
    v1::Error {
        code: i32::from(error.code.code()),
        message: error.message.clone().into_owned(),
        retriable: error.is_retriable(),
    }
}

/// A topic by the two fields that may name it; the id counts if it is there.
///
/// # Errors
/// If the id has another length than 16, or the name is no topic name.
pub(crate) fn topic_ref(name: &str, id: &[u8]) -> Result<TopicRef, Error> {
    if id.is_empty() {
        return topic_name(name).map(TopicRef::Name);
    }
    let id = <[u8; 16]>::try_from(id).map_err(|_length| {
        let message = format!("a topic id has 16 bytes, this one has {}", id.len());
        Error::new(ErrorCode::InvalidRequest, message)
    })?;
    Ok(TopicRef::Id(TopicId(uuid::Uuid::from_bytes(id))))
}

/// A topic by its name.
///
/// # Errors
/// If it is none.
pub(crate) fn topic_name(name: &str) -> Result<TopicName, Error> {
    TopicName::new(name).map_err(|error| Error::new(ErrorCode::InvalidTopic, error.to_string()))
}

/// A group by its id.
///
/// # Errors
/// If it is none.
pub(crate) fn group_id(id: &str) -> Result<GroupId, Error> {
    GroupId::new(id).map_err(|error| Error::new(ErrorCode::InvalidGroupId, error.to_string()))
}

/// An optional leader epoch; -1 is none, as in Kafka.
pub(crate) fn epoch(epoch: Option<i32>) -> Option<Epoch> {
    epoch.filter(|epoch| 0 <= *epoch).map(Epoch)
}

/// How far a reader may see.
///
/// # Errors
/// If the number is not one of the enum's.
pub(crate) fn isolation(value: i32) -> Result<fetch::Isolation, Status> {
    match v1::Isolation::try_from(value) {
        Ok(v1::Isolation::ReadUncommitted) => Ok(fetch::Isolation::ReadUncommitted),
        Ok(v1::Isolation::ReadCommitted) => Ok(fetch::Isolation::ReadCommitted),
        Err(_) => Err(invalid(format!("isolation {value} is unknown: it may be 0 or 1"))),
    }
}

/// The request is malformed.
pub(crate) fn invalid(message: impl Into<String>) -> Status {
    Status::invalid_argument(message)
}

/// The status of a call that failed as a whole.
pub(crate) fn status(error: &Error) -> Status {
    let message = error.to_string();
    match error.code {
        ErrorCode::RequestTimedOut => Status::deadline_exceeded(message),
        // Kafka calls it retriable, as another replica may have it whole.
        ErrorCode::CorruptMessage => Status::data_loss(message),
        code if code.is_retriable() => Status::unavailable(message),
        ErrorCode::InvalidRequest | ErrorCode::InvalidGroupId | ErrorCode::InvalidTopic => {
            Status::invalid_argument(message)
        }
        ErrorCode::UnknownServer => Status::internal(message),
        _ => Status::failed_precondition(message),
    }
}

/// Checks that a list has at least one item and not too many.
///
/// # Errors
/// Names the field.
pub(crate) fn check_items(field: &str, found: usize) -> Result<(), Status> {
    match found {
        0 => Err(invalid(format!("{field} is empty: name at least one"))),
        _ => check_items_max(field, found),
    }
}

/// Checks that a list has not too many items.
///
/// # Errors
/// Names the field.
pub(crate) fn check_items_max(field: &str, found: usize) -> Result<(), Status> {
    if found <= ITEMS_MAX {
        return Ok(());
    }
    Err(invalid(format!("{field} has {found} items: at most {ITEMS_MAX} are allowed")))
}

/// A span in milliseconds, 0 meaning `default`.
///
/// # Errors
/// If it is above `max`.
pub(crate) fn span(
    field: &str,
    millis: u32,
    default: Duration,
    max: Duration,
) -> Result<Duration, Status> {
    if millis == 0 {
        return Ok(default);
    }
    let span = Duration::from_millis(u64::from(millis));
    if max < span {
        let max = max.as_millis();
        return Err(invalid(format!("{field} is {millis}: at most {max} is allowed")));
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_named_by_its_id_or_else_its_name() {
        let id = [7; 16];
        let check = |name, id: &[u8], expected: Result<&str, ErrorCode>| {
            let found = topic_ref(name, id);
            let found = found.map(|topic| topic.to_string()).map_err(|error| error.code);
            assert_eq!(found, expected.map(str::to_owned), "{name:?} {id:?}");
        };
        check("orders", &[], Ok("orders"));
        check("", &id, Ok("07070707-0707-0707-0707-070707070707"));
        check("orders", &id, Ok("07070707-0707-0707-0707-070707070707"));
        check("orders", &id[1..], Err(ErrorCode::InvalidRequest));
        check("", &[], Err(ErrorCode::InvalidTopic));
        check("a/b", &[], Err(ErrorCode::InvalidTopic));
    }

    #[test]
    fn lists_are_bounded_and_the_field_is_named() {
        assert!(check_items("partitions", 1).is_ok());
        assert!(check_items("partitions", ITEMS_MAX).is_ok());
        let empty = check_items("partitions", 0).expect_err("nothing to do");
        assert_eq!(empty.message(), "partitions is empty: name at least one");
        let many = check_items("topics", ITEMS_MAX + 1).expect_err("too many");
        assert_eq!(many.message(), "topics has 10001 items: at most 10000 are allowed");
    }

    #[test]
    fn a_span_of_zero_is_the_default_and_too_long_ones_are_refused() {
        let (default, max) = (Duration::from_secs(1), Duration::from_secs(2));
        let check = |millis| span("timeout_ms", millis, default, max);
        assert_eq!(check(0).expect("the default"), default);
        assert_eq!(check(2000).expect("the most"), max);
        let error = check(2001).expect_err("too long");
        assert_eq!(error.message(), "timeout_ms is 2001: at most 2000 is allowed");
    }
}
