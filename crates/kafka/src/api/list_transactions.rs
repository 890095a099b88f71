//! `ListTransactions`: the transactional ids that this node coordinates (KIP-664).

use std::time::Duration;

use rafka_broker::transaction::{Filter, Listing, State};
use rafka_core::ProducerId;
use rafka_kafka_wire::list_transactions::{Request, Response, TransactionState};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::ListTransactions, 0..=2);

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let (mut states, mut unknown_state_filters) = (Vec::new(), Vec::new());
    for name in &request.state_filters {
        match State::from_name(name) {
            Some(state) => states.push(state),
            None => unknown_state_filters.push(name.clone()),
        }
    }
    let is_unknown_alone = states.is_empty() && !unknown_state_filters.is_empty();
    let pattern = request.transactional_id_pattern.as_deref().filter(|text| !text.is_empty());
    let filter = Filter {
        states,
        producers: request.producer_id_filters.iter().map(|id| ProducerId(*id)).collect(),
        longer_than: u64::try_from(request.duration_filter).ok().map(Duration::from_millis),
        pattern: pattern.map(str::to_owned),
    };
    let listed = match gateway.broker.transactions().list(filter).await {
        // No id is in a state that nobody knows.
        Ok(_) if is_unknown_alone => Vec::new(),
        Ok(listed) => listed,
        Err(error) => {
            let error_code = error.code.code();
            let response = Response { error_code, unknown_state_filters, ..Response::default() };
            return context.answer(&response);
        }
    };
    let shown = |listing: Listing| TransactionState {
        transactional_id: listing.id.into(),
        producer_id: listing.producer.0,
        transaction_state: listing.state.name().into(),
    };
    let transaction_states = listed.into_iter().map(shown).collect();
    context.answer(&Response { unknown_state_filters, transaction_states, ..Response::default() })
}
