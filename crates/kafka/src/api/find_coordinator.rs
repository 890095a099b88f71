//! `FindCoordinator`: which node looks after a group or a transactional id.

use std::borrow::Cow;

use rafka_broker::Error;
use rafka_broker::topics::Node;
use rafka_core::ErrorCode;
use rafka_kafka_wire::find_coordinator::{Coordinator, Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::FindCoordinator, 0..=6);

/// From here on a request asks for several.
const BATCHED_FROM: i16 = 4;
/// The kind of coordinator that groups have.
const GROUP: i8 = 0;
/// And that of transactional ids.
const TRANSACTION: i8 = 1;

pub(super) fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let find = |key: &str| match request.key_type {
        GROUP => common::group(key).and_then(|_group| gateway.node()),
        TRANSACTION if !key.is_empty() => gateway.node(),
        TRANSACTION => {
            let message = "a transactional id is not empty";
            Err(Error::new(ErrorCode::InvalidRequest, message))
        }
        other => {
            let message = format!("there are no coordinators of kind {other} here");
            Err(Error::new(ErrorCode::InvalidRequest, message))
        }
    };
    if BATCHED_FROM <= context.version {
        let keys = request.coordinator_keys.iter();
        let coordinators = keys.map(|key| coordinator(key.clone(), find(key))).collect();
        return context.answer(&Response { coordinators, ..Response::default() });
    }
    let Coordinator { node_id, host, port, error_code, error_message, .. } =
        coordinator(Cow::Borrowed(""), find(&request.key));
    context.answer(&Response {
        node_id,
        host,
        port,
        error_code,
        error_message,
        ..Response::default()
    })
}

fn coordinator<'a>(key: Cow<'a, str>, found: Result<Node, Error>) -> Coordinator<'a> {
    match found {
        Ok(node) => Coordinator {
            key,
            node_id: node.id.0,
            host: node.host.into(),
            port: i32::from(node.port),
            error_code: common::NONE,
            error_message: None,
        },
        Err(error) => Coordinator {
            key,
            node_id: -1,
            host: "".into(),
            port: -1,
            error_code: error.code.code(),
            error_message: Some(error.message),
        },
    }
}
