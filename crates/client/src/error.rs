//! What can go wrong between a client and a node.

use std::time::Duration;

use rafka_core::ErrorCode;

use crate::address::Address;
use crate::settings::InvalidSettings;

/// A call that failed.
///
/// Cheap enough to be handed to every record of a failed batch.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings cannot work. Nothing was sent.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// No connection to the node, or it broke. The call may have taken effect if it was sent.
    #[error("cannot {operation} at {address}: {message}")]
    Unreachable {
        /// What was asked.
        operation: &'static str,
        /// The node.
        address: Address,
        /// What the transport says.
        message: String,
    },
    /// The node has failed so often that it is left alone for a while. Nothing was sent.
    #[error("cannot {operation} at {address}: its circuit breaker is open after repeated failures")]
    BreakerOpen {
        /// What was asked.
        operation: &'static str,
        /// The node.
        address: Address,
    },
    /// The node did not answer in time. The call may have taken effect.
    #[error("cannot {operation} at {address}: no answer within {limit:?}")]
    NoAnswer {
        /// What was asked.
        operation: &'static str,
        /// The node.
        address: Address,
        /// The time that it had.
        limit: Duration,
    },
    /// The node refused the whole call at the gRPC level.
    #[error("cannot {operation} at {address}: {message} ({code:?})")]
    Status {
        /// What was asked.
        operation: &'static str,
        /// The node.
        address: Address,
        /// The status code.
        code: tonic::Code,
        /// The node's reason.
        message: String,
    },
    /// The node refused with one of Kafka's errors.
    #[error("{} [{code}]", of(subject, message))]
    Refused {
        /// The topic, partition, group or setting that it is about.
        subject: String,
        /// The error.
        code: ErrorCode,
        /// The node's reason.
        message: String,
    },
    /// The node's answer makes no sense to this client.
    #[error("cannot understand the answer to {operation}: {what}")]
    Malformed {
        /// What was asked.
        operation: &'static str,
        /// What is wrong with the answer.
        what: String,
    },
    /// All attempts failed, or the time for them ran out.
    #[error("gave up to {operation} after {attempts} attempts: {last}")]
    GaveUp {
        /// What was asked.
        operation: &'static str,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        #[source]
        last: Box<Error>,
    },
}

/// What it is about, and the reason, which may name that itself.
fn of(subject: &str, message: &str) -> String {
    if message.contains(subject) { message.to_owned() } else { format!("{subject}: {message}") }
}

impl Error {
    /// Whether the same call may succeed later. Once the client gave up, that is for its caller
    /// to try: the error stays retriable.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::BreakerOpen { .. } | Self::NoAnswer { .. } => true,
            Self::Refused { code, .. } => code.is_retriable(),
            Self::Status { code, .. } => is_retriable_status(*code),
            Self::GaveUp { last, .. } => last.is_retriable(),
            Self::Settings(_) | Self::Malformed { .. } => false,
        }
    }

    /// Kafka's code, if the node gave one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::GaveUp { last, .. } => last.code(),
            Self::Settings(_)
            | Self::Unreachable { .. }
            | Self::BreakerOpen { .. }
            | Self::NoAnswer { .. }
            | Self::Status { .. }
            | Self::Malformed { .. } => None,
        }
    }

    /// Whether the node could not be reached at all, or was lost.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::BreakerOpen { .. } | Self::NoAnswer { .. } => true,
            Self::GaveUp { last, .. } => last.is_unreachable(),
            Self::Settings(_)
            | Self::Status { .. }
            | Self::Refused { .. }
            | Self::Malformed { .. } => false,
        }
    }

    /// A gRPC status as an error of `operation` at `address`.
    #[must_use]
    pub fn from_status(operation: &'static str, address: &Address, status: &tonic::Status) -> Self {
        let address = address.clone();
        let message = message_of(status);
        if is_transport(status) {
            return Self::Unreachable { operation, address, message };
        }
        Self::Status { operation, address, code: status.code(), message }
    }

    /// A Kafka error by its number, as messages carry it.
    #[must_use]
    pub fn refused(subject: impl ToString, code: i32, message: &str) -> Self {
        let code = i16::try_from(code).ok().and_then(ErrorCode::from_code);
        let code = code.unwrap_or(ErrorCode::UnknownServer);
        let message = if message.is_empty() { code.text() } else { message };
        let subject = subject.to_string();
        // A node's sentence may begin with what it is about: once is enough.
        let reason = message.strip_prefix(&subject).and_then(|rest| rest.strip_prefix(": "));
        let message = reason.unwrap_or(message).to_owned();
        Self::Refused { subject, code, message }
    }
}

/// Whether the connection is at fault rather than the node's answer.
///
/// tonic reports a connection that breaks under a call as `Unavailable`, `Unknown`, `Cancelled` or
/// `Internal` with the cause attached; a status that the node sent has none.
pub(crate) fn is_transport(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::Unavailable || std::error::Error::source(status).is_some()
}

fn is_retriable_status(code: tonic::Code) -> bool {
    use tonic::Code;
    matches!(
        code,
        Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::DeadlineExceeded
    )
}

/// The status's message with its root cause, which is what a person needs ("connection refused").
fn message_of(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(inner) = cause {
        if inner.source().is_none() {
            let root = inner.to_string();
            if !text.contains(&root) {
                text = if text.is_empty() { root } else { format!("{text}: {root}") };
            }
        }
        cause = inner.source();
    }
    if text.is_empty() { format!("{:?}", status.code()) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        Address::parse("localhost:9192").expect("a sound address")
    }

    #[test]
    fn retriable_is_what_may_succeed_later() {
        let refused = |code: ErrorCode| Error::refused("topic t", i32::from(code.code()), "");
        let status = |code| {
            Error::from_status("list topics", &address(), &tonic::Status::new(code, "because"))
        };
        let check = |error: Error, expected: bool| {
            assert_eq!(error.is_retriable(), expected, "{error}");
            let gave_up = Error::GaveUp { operation: "x", attempts: 3, last: Box::new(error) };
            assert_eq!(gave_up.is_retriable(), expected, "{gave_up}");
        };
        check(refused(ErrorCode::NotLeaderOrFollower), true);
        check(refused(ErrorCode::TopicAlreadyExists), false);
        check(status(tonic::Code::Unavailable), true);
        check(status(tonic::Code::ResourceExhausted), true);
        check(status(tonic::Code::InvalidArgument), false);
        check(Error::BreakerOpen { operation: "x", address: address() }, true);
        check(Error::Malformed { operation: "x", what: "y".to_owned() }, false);
    }

    #[test]
    fn an_error_names_its_subject_code_and_reason() {
        let error = Error::refused("topic orders", 36, "it exists");
        assert_eq!(error.to_string(), "topic orders: it exists [TOPIC_ALREADY_EXISTS (36)]");
        assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists));
        let twice = Error::refused("topic orders", 36, "topic orders: it exists");
        assert_eq!(twice.to_string(), error.to_string());
        let unknown = Error::refused("topic orders", 32_000, "");
        assert_eq!(unknown.code(), Some(ErrorCode::UnknownServer));
    }
}
