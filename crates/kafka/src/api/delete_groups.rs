//! `DeleteGroups`: empty groups go, with their offsets.

use rafka_kafka_wire::delete_groups::{DeletableGroupResult, Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::DeleteGroups, 0..=2);

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let named: Vec<_> = request.groups_names.iter().map(|name| common::group(name)).collect();
    let valid = named.iter().filter_map(|group| group.as_ref().ok()).cloned().collect();
    let mut deleted = gateway.broker.groups().delete_groups(valid).await.into_iter();
    let results = request.groups_names.iter().zip(named).map(|(name, group)| {
        let result = match group {
            Ok(_) => deleted.next().expect("an answer to each group").1,
            Err(error) => Err(error),
        };
        DeletableGroupResult { group_id: name.clone(), error_code: common::code(&result) }
    });
    context.answer(&Response { results: results.collect(), ..Response::default() })
}
