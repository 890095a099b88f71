//! Pure: groups as operators see them.

use std::sync::Arc;

use super::machine::Group;
use super::ops::{GroupDescription, GroupListing, GroupState, GroupType, MemberDescription};
use super::roster::Member;

impl Group {
    pub(super) fn listing(&self) -> GroupListing {
        GroupListing {
            group: self.id.clone(),
            protocol_type: self.protocol_type.clone(),
            state: self.kind(),
            kind: self.group_type(),
        }
    }

    fn group_type(&self) -> GroupType {
        if self.consumers.is_some() { GroupType::Consumer } else { GroupType::Classic }
    }

    pub(super) fn describe(&self) -> GroupDescription {
        let state = self.kind();
        // Until the group is stable, no member has what the others think it has.
        let protocol = self.protocol.as_deref().filter(|_| state == GroupState::Stable);
        let member = |(id, member): (&Arc<str>, &Member)| MemberDescription {
            id: id.as_ref().to_owned(),
            instance: member.instance().map(str::to_owned),
            client_id: member.profile().client_id.clone(),
            client_host: member.profile().client_host.clone(),
            metadata: protocol.map(|protocol| member.metadata(protocol)).unwrap_or_default(),
            assignment: protocol.map(|_| member.assignment().clone()).unwrap_or_default(),
        };
        let mut description = GroupDescription {
            group: self.id.clone(),
            kind: self.group_type(),
            state,
            protocol_type: self.protocol_type.clone(),
            protocol: protocol.map(str::to_owned),
            generation: self.generation,
            leader: self.leader.as_deref().map(str::to_owned),
            members: self.roster.iter().map(member).collect(),
        };
        if let Some(consumers) = &self.consumers {
            description.protocol = Some(consumers.assignor_name().to_owned());
            description.generation = consumers.epoch();
            description.members = consumers.members();
        }
        description
    }
}
