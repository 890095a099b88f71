//! The calls of the group protocol, one attempt each.

use std::time::Duration;

use rafka_client::convert::check;
use rafka_client::{Client, Error, v1};
use rafka_core::ErrorCode;
use rafka_core::assignor::Assignor;
use rafka_core::consumer_protocol::{PROTOCOL_TYPE, Subscription};

use super::assign::Joined;
use crate::settings::Settings;

/// Beyond the time that the group itself waits, for the way there and back.
const GRACE: Duration = Duration::from_secs(5);

/// Who a member is in its group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Membership {
    /// Empty before it was let in.
    pub(crate) member_id: String,
    /// -1 outside of a generation.
    pub(crate) generation: i32,
}

impl Membership {
    pub(crate) fn none() -> Self {
        Self { member_id: String::new(), generation: -1 }
    }
}

/// The outcome of joining.
pub(crate) struct Join {
    pub(crate) membership: Membership,
    pub(crate) protocol: String,
    /// The members, if this one leads and has to assign.
    pub(crate) to_assign: Option<Vec<Joined>>,
    pub(crate) leads: bool,
}

/// Joining did not work. A member id that the group gave is worth keeping.
pub(crate) struct NotJoined {
    pub(crate) error: Error,
    pub(crate) member_id: Option<String>,
}

impl From<Error> for NotJoined {
    fn from(error: Error) -> Self {
        Self { error, member_id: None }
    }
}

/// The group as one member calls it.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) client: Client,
    pub(crate) id: String,
    pub(crate) settings: Settings,
}

impl Group {
    fn subject(&self) -> String {
        format!("group {}", self.id)
    }

    pub(crate) async fn join(
        &self,
        member_id: &str,
        subscription: &Subscription,
    ) -> Result<Join, NotJoined> {
        let settings = &self.settings;
        let metadata = subscription.encode().map_err(|cause| Error::Malformed {
            operation: "join the group",
            what: cause.to_string(),
        })?;
        let protocol = |assignor: &Assignor| v1::GroupProtocol {
            name: assignor.name().to_owned(),
            metadata: metadata.clone(),
        };
        let request = v1::JoinGroupRequest {
            group: self.id.clone(),
            session_timeout_ms: millis(settings.session_timeout),
            rebalance_timeout_ms: millis(settings.poll_interval_max),
            member_id: member_id.to_owned(),
            instance_id: settings.instance_id.clone(),
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocols: settings.assignors.iter().map(protocol).collect(),
            client_id: self.client.settings().client_id.clone(),
        };
        let node = self.client.any_node()?;
        let limit = settings.poll_interval_max + GRACE;
        let mut groups = node.groups();
        let call = groups.join_group(request);
        let answer = node.ask_within("join the group", limit, call).await?;
        if let Err(error) = check(self.subject(), answer.error.as_ref()) {
            let member_id = (!answer.member_id.is_empty()).then_some(answer.member_id);
            return Err(NotJoined { error, member_id });
        }
        let leads = answer.leader == answer.member_id;
        let joined = |member: v1::JoinedMember| Joined {
            id: member.member_id,
            instance: member.instance_id,
            metadata: member.metadata,
        };
        let members = answer.members.into_iter().map(joined).collect();
        Ok(Join {
            membership: Membership { member_id: answer.member_id, generation: answer.generation },
            protocol: answer.protocol,
            to_assign: (leads && !answer.skip_assignment).then_some(members),
            leads,
        })
    }

    pub(crate) async fn sync(
        &self,
        join: &Join,
        assignments: Vec<(String, bytes::Bytes)>,
    ) -> Result<bytes::Bytes, Error> {
        let assignment = |(member_id, assignment)| v1::MemberAssignment { member_id, assignment };
        let request = v1::SyncGroupRequest {
            group: self.id.clone(),
            generation: join.membership.generation,
            member_id: join.membership.member_id.clone(),
            instance_id: self.settings.instance_id.clone(),
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocol: join.protocol.clone(),
            assignments: assignments.into_iter().map(assignment).collect(),
        };
        let node = self.client.any_node()?;
        let limit = self.settings.poll_interval_max + GRACE;
        let mut groups = node.groups();
        let call = groups.sync_group(request);
        let answer = node.ask_within("sync with the group", limit, call).await?;
        check(self.subject(), answer.error.as_ref())?;
        Ok(answer.assignment)
    }

    pub(crate) async fn heartbeat(&self, membership: &Membership) -> Result<(), Error> {
        let request = v1::HeartbeatRequest {
            group: self.id.clone(),
            generation: membership.generation,
            member_id: membership.member_id.clone(),
            instance_id: self.settings.instance_id.clone(),
        };
        let node = self.client.any_node()?;
        let limit = self.settings.session_timeout / 2;
        let mut groups = node.groups();
        let call = groups.heartbeat(request);
        let answer = node.ask_within("heartbeat", limit, call).await?;
        check(self.subject(), answer.error.as_ref())
    }

    pub(crate) async fn leave(&self, membership: &Membership) -> Result<(), Error> {
        let request = v1::LeaveGroupRequest {
            group: self.id.clone(),
            members: vec![v1::LeavingMember {
                member_id: membership.member_id.clone(),
                instance_id: self.settings.instance_id.clone(),
            }],
        };
        let node = self.client.any_node()?;
        let answer = node.ask("leave the group", node.groups().leave_group(request)).await?;
        check(self.subject(), answer.error.as_ref())
    }
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

/// What an error of the group means for a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The group is rebalancing: join again.
    Rejoin,
    /// The generation is over and the partitions belong to others.
    Lost,
    /// The group has forgotten the member: join anew.
    Forgotten,
    /// The same call may succeed later.
    Later,
    /// It will not.
    Never,
}

impl Meaning {
    pub(crate) fn of(error: &Error) -> Self {
        match error.code() {
            Some(ErrorCode::RebalanceInProgress | ErrorCode::MemberIdRequired) => Self::Rejoin,
            Some(ErrorCode::IllegalGeneration) => Self::Lost,
            Some(ErrorCode::UnknownMemberId) => Self::Forgotten,
            _ if error.is_retriable() => Self::Later,
            _ => Self::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_a_group_has_its_meaning() {
        let check = |code: ErrorCode, expected| {
            let error = Error::refused("group g", i32::from(code.code()), "");
            assert_eq!(Meaning::of(&error), expected, "{error}");
        };
        check(ErrorCode::RebalanceInProgress, Meaning::Rejoin);
        check(ErrorCode::MemberIdRequired, Meaning::Rejoin);
        check(ErrorCode::IllegalGeneration, Meaning::Lost);
        check(ErrorCode::UnknownMemberId, Meaning::Forgotten);
        check(ErrorCode::NotCoordinator, Meaning::Later);
        check(ErrorCode::CoordinatorLoadInProgress, Meaning::Later);
        check(ErrorCode::FencedInstanceId, Meaning::Never);
        check(ErrorCode::InconsistentGroupProtocol, Meaning::Never);
        check(ErrorCode::GroupMaxSizeReached, Meaning::Never);
    }
}
