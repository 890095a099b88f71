//! `DeleteTopics`: topics go, with everything in them.

use std::borrow::Cow;

use rafka_broker::{Error, TopicRef};
use rafka_core::{ErrorCode, TopicId};
use rafka_kafka_wire::delete_topics::{DeletableTopicResult, DeleteTopicState, Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};
use uuid::Uuid;

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::DeleteTopics, 1..=6);

/// From here on a topic may be named by its id.
const IDS_FROM: i16 = 6;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let named = |name: Cow<'_, str>| DeleteTopicState {
        name: Some(name.into_owned().into()),
        topic_id: Uuid::nil(),
    };
    let topics = if context.version < IDS_FROM {
        request.topic_names.into_iter().map(named).collect()
    } else {
        request.topics
    };
    let mut responses = Vec::with_capacity(topics.len());
    for topic in topics {
        responses.push(delete(gateway, topic).await);
    }
    context.answer(&Response { responses, ..Response::default() })
}

async fn delete<'a>(gateway: &Gateway, topic: DeleteTopicState<'a>) -> DeletableTopicResult<'a> {
    let DeleteTopicState { name, topic_id } = topic;
    let reference = match &name {
        Some(name) if topic_id.is_nil() => common::topic(name, topic_id),
        None => Ok(TopicRef::Id(TopicId(topic_id))),
        Some(_) => {
            let message = "a topic is named by its name or by its id, not by both";
            Err(Error::new(ErrorCode::InvalidRequest, message))
        }
    };
    match reference.and_then(|topic| gateway.broker.describe_topic(&topic)) {
        Ok(known) => {
            let deleted = gateway.broker.delete_topic(TopicRef::Id(known.id)).await;
            DeletableTopicResult {
                name: Some(known.name.to_string().into()),
                topic_id: known.id.0,
                error_code: common::code(&deleted),
                error_message: deleted.err().map(|error| error.message),
            }
        }
        Err(error) => DeletableTopicResult {
            name,
            topic_id,
            error_code: error.code.code(),
            error_message: Some(error.message),
        },
    }
}
