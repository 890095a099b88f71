//! Administration: list and delete groups.

use rafka_broker::Error;
use rafka_broker::group::{Coordinator, GroupListing, GroupState, GroupType};
use rafka_proto::v1::{
    self, DeleteGroupsRequest, DeleteGroupsResponse, DeletedGroup, ListGroupsRequest,
    ListGroupsResponse, ListedGroup,
};
use tonic::Status;

use super::check_groups;
use crate::convert;

pub(super) async fn list(
    groups: &Coordinator,
    request: &ListGroupsRequest,
) -> Result<ListGroupsResponse, Status> {
    let mut states = Vec::new();
    for wanted in &request.states {
        let state = v1::GroupState::try_from(*wanted).ok().and_then(known).ok_or_else(|| {
            convert::invalid(format!("states has {wanted}: 1 to 7 are states of a group"))
        })?;
        if !states.contains(&state) {
            states.push(state);
        }
    }
    let mut kinds = Vec::new();
    for wanted in &request.types {
        let kind = match v1::GroupType::try_from(*wanted) {
            Ok(v1::GroupType::Classic) => GroupType::Classic,
            Ok(v1::GroupType::Consumer) => GroupType::Consumer,
            Ok(v1::GroupType::Unknown) | Err(_) => {
                let text = format!("types has {wanted}: 1 and 2 are types of a group");
                return Err(convert::invalid(text));
            }
        };
        kinds.push(kind);
    }
    let listed = groups.list(states, kinds).await.map_err(|error| convert::status(&error))?;
    let shown = |listing: GroupListing| ListedGroup {
        group: listing.group.to_string(),
        protocol_type: listing.protocol_type.unwrap_or_default(),
        state: state(listing.state).into(),
        r#type: kind(listing.kind).into(),
    };
    let mut groups: Vec<ListedGroup> = listed.into_iter().map(shown).collect();
    groups.sort_by(|left, right| left.group.cmp(&right.group));
    Ok(ListGroupsResponse { groups })
}

pub(super) async fn delete(
    groups: &Coordinator,
    request: DeleteGroupsRequest,
) -> Result<DeleteGroupsResponse, Status> {
    check_groups(request.groups.len())?;
    let ids: Vec<Result<_, Error>> =
        request.groups.iter().map(|group| convert::group_id(group)).collect();
    let asked = ids.iter().filter_map(|id| id.as_ref().ok().cloned()).collect();
    let mut deleted = groups.delete_groups(asked).await.into_iter();
    let answer = |(group, id): (String, Result<_, Error>)| {
        let result = id.and_then(|_| match deleted.next() {
            Some((_, result)) => result,
            None => Err(rafka_core::ErrorCode::UnknownServer.into()),
        });
        DeletedGroup { group, error: result.err().map(|error| convert::error(&error)) }
    };
    let groups = request.groups.into_iter().zip(ids).map(answer).collect();
    Ok(DeleteGroupsResponse { groups })
}

fn known(state: v1::GroupState) -> Option<GroupState> {
    Some(match state {
        v1::GroupState::Unknown => return None,
        v1::GroupState::PreparingRebalance => GroupState::PreparingRebalance,
        v1::GroupState::CompletingRebalance => GroupState::CompletingRebalance,
        v1::GroupState::Stable => GroupState::Stable,
        v1::GroupState::Dead => GroupState::Dead,
        v1::GroupState::Empty => GroupState::Empty,
        v1::GroupState::Assigning => GroupState::Assigning,
        v1::GroupState::Reconciling => GroupState::Reconciling,
    })
}

pub(super) fn state(state: GroupState) -> v1::GroupState {
    match state {
        GroupState::PreparingRebalance => v1::GroupState::PreparingRebalance,
        GroupState::CompletingRebalance => v1::GroupState::CompletingRebalance,
        GroupState::Stable => v1::GroupState::Stable,
        GroupState::Dead => v1::GroupState::Dead,
        GroupState::Empty => v1::GroupState::Empty,
        GroupState::Assigning => v1::GroupState::Assigning,
        GroupState::Reconciling => v1::GroupState::Reconciling,
    }
}

pub(super) fn kind(kind: GroupType) -> v1::GroupType {
    match kind {
        GroupType::Classic => v1::GroupType::Classic,
        GroupType::Consumer => v1::GroupType::Consumer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_number_and_back() {
        for broker_state in GroupState::ALL {
            assert_eq!(known(state(broker_state)), Some(broker_state));
        }
        assert_eq!(known(v1::GroupState::Unknown), None);
    }
}
