//! `CreatePartitions`: topics get more partitions.

use rafka_broker::Error;
use rafka_core::ErrorCode;
use rafka_kafka_wire::create_partitions::{Request, Response, Topic, TopicResult};
use rafka_kafka_wire::{ApiKey, Reader};
use uuid::Uuid;

use super::{Answer, Api, Context, assignment, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::CreatePartitions, 0..=3);

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let mut results: Vec<TopicResult<'_>> = Vec::with_capacity(request.topics.len());
    let doubled = common::doubled(request.topics.iter().map(|topic| &*topic.name));
    for topic in &request.topics {
        let is_doubled = doubled.contains(&*topic.name);
        if is_doubled && results.iter().any(|answered| answered.name == topic.name) {
            continue;
        }
        let result = if is_doubled {
            Err(Error::new(ErrorCode::InvalidRequest, "the request names the topic twice"))
        } else {
            create(gateway, topic, request.validate_only).await
        };
        results.push(TopicResult {
            name: topic.name.clone(),
            error_code: common::code(&result),
            error_message: result.err().map(|error| error.message),
        });
    }
    context.answer(&Response { results, ..Response::default() })
}

async fn create(gateway: &Gateway, topic: &Topic<'_>, validate_only: bool) -> Result<(), Error> {
    let reference = common::topic(&topic.name, Uuid::nil())?;
    let known = gateway.broker.partition_count(&reference)?;
    let total = u32::try_from(topic.count).map_err(|_negative| ErrorCode::InvalidPartitions)?;
    // Fewer than there are is refused with its own code further down.
    if let (Some(assignments), Some(added)) = (&topic.assignments, total.checked_sub(known)) {
        if usize::try_from(added).ok() != Some(assignments.len()) {
            return Err(assignment::invalid(format!(
                "replicas are assigned for {} partitions, and {added} would be added",
                assignments.len()
            )));
        }
        for one in assignments {
            assignment::check(gateway, &one.broker_ids)?;
        }
    }
    gateway.broker.create_partitions(reference, total, validate_only).await
}
