//! `DescribeTransactions`: transactional ids with their open transactions (KIP-664).

use rafka_broker::transaction::Description;
use rafka_kafka_wire::describe_transactions::{Request, Response, TopicData, TransactionState};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::DescribeTransactions, 0..=0);

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let mut transaction_states = Vec::with_capacity(request.transactional_ids.len());
    for id in &request.transactional_ids {
        let mut shown = match gateway.broker.transactions().describe(id).await {
            Ok(description) => shown(description),
            Err(error) => {
                TransactionState { error_code: error.code.code(), ..TransactionState::default() }
            }
        };
        shown.transactional_id = id.clone();
        transaction_states.push(shown);
    }
    context.answer(&Response { transaction_states, ..Response::default() })
}

fn shown(description: Description) -> TransactionState<'static> {
    let mut topics: Vec<TopicData<'static>> = Vec::new();
    // They are in their order: those of one topic lie together.
    for (topic, partition) in description.partitions {
        match topics.last_mut().filter(|last| last.topic == topic.as_str()) {
            Some(last) => last.partitions.push(partition.0),
            None => topics
                .push(TopicData { topic: topic.to_string().into(), partitions: vec![partition.0] }),
        }
    }
    TransactionState {
        transaction_state: description.state.name().into(),
        transaction_timeout_ms: i32::try_from(description.timeout.as_millis()).unwrap_or(i32::MAX),
        transaction_start_time_ms: description.started_at.map_or(-1, |at| at.0),
        producer_id: description.producer.0.0,
        producer_epoch: description.producer.1.0,
        topics,
        ..TransactionState::default()
    }
}
