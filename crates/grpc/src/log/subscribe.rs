//! A subscription: the node is a member of a consumer group for a client that only reads.

mod member;
mod positions;
mod session;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rafka_core::assignor::Assignor;
use rafka_core::{ByteSize, GroupId, TopicName};
use rafka_proto::v1::{self, SubscribeRequest, SubscribeResponse};
use tokio::sync::mpsc;
use tonic::Status;

use super::fetch;
use super::reader::Manner;
use crate::convert;
use crate::gateway::Gateway;
use member::Member;
use positions::Reset;
use session::Session;

/// One message on its way to the transport; the session itself holds the next.
const MESSAGES_QUEUED_MAX: usize = 1;

const TOPICS_MAX: usize = 1000;
const SESSION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(45);
const REBALANCE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// What fits a group's own limits is the coordinator's to judge.
const TIMEOUT_MAX: Duration = Duration::from_hours(24);

/// How long the session waits for records before it looks around.
const WAIT: Duration = Duration::from_secs(5);

/// What a client subscribes to, checked.
#[derive(Debug, Clone)]
struct Subscription {
    group: GroupId,
    topics: BTreeSet<TopicName>,
    assignor: Assignor,
    reset: Reset,
    commit_interval: Option<Duration>,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    bytes_max: ByteSize,
    manner: Manner,
    client_id: String,
    client_host: String,
    instance: Option<String>,
}

/// Checks the request and lets a task serve it; what it sends arrives at the receiver.
///
/// # Errors
/// If the request is malformed or all places for readers are taken.
pub(super) fn start(
    gateway: Arc<Gateway>,
    request: SubscribeRequest,
    client_host: String,
) -> Result<mpsc::Receiver<Result<SubscribeResponse, Status>>, Status> {
    let place = gateway.reader()?;
    let subscription = check(&gateway, request, client_host)?;
    let (messages, receiver) = mpsc::channel(MESSAGES_QUEUED_MAX);
    let member = Member::new(Arc::clone(&gateway), subscription.clone());
    let session = Session::new(Arc::clone(&gateway), subscription, member, messages);
    gateway.tasks.spawn(async move {
        session.run().await;
        drop(place);
    });
    Ok(receiver)
}

fn check(
    gateway: &Gateway,
    request: SubscribeRequest,
    client_host: String,
) -> Result<Subscription, Status> {
    let refuse = |error: rafka_broker::Error| convert::invalid(error.message);
    let count = request.topics.len();
    if count == 0 || TOPICS_MAX < count {
        let message = format!("topics has {count} items: 1 to {TOPICS_MAX} are allowed");
        return Err(convert::invalid(message));
    }
    let topics = request.topics.iter().map(|topic| convert::topic_name(topic).map_err(refuse));
    let assignor = match v1::Assignor::try_from(request.assignor) {
        Ok(v1::Assignor::Range) => Assignor::Range,
        Ok(v1::Assignor::RoundRobin) => Assignor::RoundRobin,
        Err(_) => return Err(unknown("assignor", request.assignor)),
    };
    let reset = match v1::OffsetReset::try_from(request.offset_reset) {
        Ok(v1::OffsetReset::Latest) => Reset::Latest,
        Ok(v1::OffsetReset::Earliest) => Reset::Earliest,
        Ok(v1::OffsetReset::None) => Reset::Refuse,
        Err(_) => return Err(unknown("offset_reset", request.offset_reset)),
    };
    let span = |field, millis, default| convert::span(field, millis, default, TIMEOUT_MAX);
    let commit_interval =
        span("auto_commit_interval_ms", request.auto_commit_interval_ms, Duration::ZERO)?;
    let bytes_max = fetch::bytes_max(gateway, request.max_bytes);
    let isolation = convert::isolation(request.isolation)?;
    let manner = Manner { isolation, bytes_max, bytes_min: ByteSize(1), wait_max: WAIT };
    let client_id = Some(request.client_id).filter(|id| !id.is_empty());
    Ok(Subscription {
        group: convert::group_id(&request.group).map_err(refuse)?,
        topics: topics.collect::<Result<_, _>>()?,
        assignor,
        reset,
        commit_interval: Some(commit_interval).filter(|interval| !interval.is_zero()),
        session_timeout: span(
            "session_timeout_ms",
            request.session_timeout_ms,
            SESSION_TIMEOUT_DEFAULT,
        )?,
        rebalance_timeout: span(
            "rebalance_timeout_ms",
            request.rebalance_timeout_ms,
            REBALANCE_TIMEOUT_DEFAULT,
        )?,
        bytes_max,
        manner,
        client_id: client_id.unwrap_or_else(|| "grpc".to_owned()),
        client_host,
        instance: request.instance_id,
    })
}

fn unknown(field: &str, value: i32) -> Status {
    convert::invalid(format!("{field} {value} is unknown"))
}
