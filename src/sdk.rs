//! The SDK as the commands use it, and what its errors mean to a person.

use std::time::Duration;

use rafka_client::admin::Admin;
use rafka_client::{Client, Error, Settings};
use rafka_core::{ErrorCode, GroupId, TopicName};
use tonic::Code;

use crate::cli::Global;
use crate::exit::{Exit, Failure, Outcome};

/// A person waits: a node that does not answer is told of soon.
const ATTEMPTS_MAX: u32 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What to do before a group that has members can be moved or deleted.
pub(crate) const STOP_CONSUMERS: &str = "stop the group's consumers first";

/// The settings of a client that talks to the nodes of --brokers.
pub(crate) fn settings(global: &Global) -> Settings {
    let mut settings = Settings::new(&global.addresses());
    settings.client_id = "rafka-cli".to_owned();
    settings.connect_timeout = CONNECT_TIMEOUT.min(global.timeout);
    settings.request_timeout = global.timeout;
    settings.retry.attempts_max = ATTEMPTS_MAX;
    settings.retry.total = global.timeout;
    settings
}

/// A client of the nodes of --brokers. It connects with its first call.
pub(crate) fn client(global: &Global) -> Outcome<Client> {
    Client::new(settings(global)).map_err(|error| explain(error, global))
}

/// The calls of administration.
pub(crate) fn admin(global: &Global) -> Outcome<Admin> {
    Ok(client(global)?.admin())
}

/// A topic's name as it was given.
pub(crate) fn topic_name(name: &str) -> Outcome<TopicName> {
    TopicName::new(name).map_err(|error| Failure::new(Exit::Usage, error))
}

/// A group's id as it was given.
pub(crate) fn group_id(id: &str) -> Outcome<GroupId> {
    GroupId::new(id).map_err(|error| Failure::new(Exit::Usage, error))
}

/// Says what a failed call means, and what to do next.
pub(crate) fn explain(error: Error, global: &Global) -> Failure {
    let code = error.code();
    let (exit, hint) = match code {
        Some(ErrorCode::UnknownTopicOrPartition) => {
            (Exit::NotFound, Some("`rafka topic list` shows the topics there are".to_owned()))
        }
        Some(ErrorCode::GroupIdNotFound) => {
            (Exit::NotFound, Some("`rafka group list` shows the groups there are".to_owned()))
        }
        Some(ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId) => {
            (Exit::Failed, Some(STOP_CONSUMERS.to_owned()))
        }
        Some(ErrorCode::InvalidConfig) => {
            (Exit::Failed, Some("docs/reference/topic-configs.md lists the settings".to_owned()))
        }
        Some(ErrorCode::RequestTimedOut) => (Exit::Timeout, None),
        None if error.is_unreachable() || is_garbled(&error) => {
            (Exit::Unreachable, Some(unreachable(global)))
        }
        Some(_) | None => (Exit::Failed, None),
    };
    let failure = Failure::new(exit, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Whether what came back was no gRPC: something else listens there.
fn is_garbled(error: &Error) -> bool {
    match error {
        // What was inferred from an answer that is none of ours; a node says other things.
        Error::Status { code: Code::Internal | Code::Unimplemented, message, .. } => {
            ["grpc-status header missing", "protocol error"]
                .iter()
                .any(|it| message.starts_with(it))
        }
        Error::GaveUp { last, .. } => is_garbled(last),
        _ => false,
    }
}

/// What to do when no node answers.
pub(crate) fn unreachable(global: &Global) -> String {
    let addresses = global.addresses();
    format!(
        "does a node speak gRPC at {addresses}? `rafka dev` starts one here, --brokers HOST:PORT \
         names another; `curl http://HOST:9644/readyz` asks a node whether it is ready"
    )
}
