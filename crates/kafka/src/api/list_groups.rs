//! `ListGroups`: the groups that this node coordinates.

use rafka_broker::group::{GroupListing, GroupState, GroupType};
use rafka_kafka_wire::list_groups::{ListedGroup, Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::ListGroups, 0..=5);

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let states: Vec<GroupState> =
        request.states_filter.iter().filter_map(|name| GroupState::from_name(name)).collect();
    let kinds: Vec<GroupType> =
        request.types_filter.iter().filter_map(|name| GroupType::from_name(name)).collect();
    // A filter of names that mean nothing here lets nothing through.
    let is_blank =
        |names: &[std::borrow::Cow<'_, str>], known: usize| !names.is_empty() && known == 0;
    if is_blank(&request.states_filter, states.len())
        || is_blank(&request.types_filter, kinds.len())
    {
        return context.answer(&Response::default());
    }
    context.answer(&match gateway.broker.groups().list(states, kinds).await {
        Ok(listed) => {
            Response { groups: listed.into_iter().map(shown).collect(), ..Response::default() }
        }
        Err(error) => Response { error_code: error.code.code(), ..Response::default() },
    })
}

fn shown(group: GroupListing) -> ListedGroup<'static> {
    ListedGroup {
        group_id: group.group.to_string().into(),
        protocol_type: group.protocol_type.unwrap_or_default().into(),
        group_state: group.state.name().into(),
        group_type: group.kind.name().into(),
    }
}
