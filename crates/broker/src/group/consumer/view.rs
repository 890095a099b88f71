//! Pure: next-generation groups as operators see them.

use std::sync::Arc;

use super::ops::{AssignedTopic, ConsumerGroupDescription, ConsumerMemberDescription};
use super::{Consumers, Member, Share};
use crate::group::log::Topics;
use crate::group::machine::Group;
use crate::group::ops::{GroupState, MemberDescription};

impl Group {
    /// The group as the next-generation group that it is; `None` if it is another.
    pub(in crate::group) fn describe_consumers(
        &self,
        topics: &Topics,
    ) -> Option<ConsumerGroupDescription> {
        let consumers = self.consumers.as_ref()?;
        Some(ConsumerGroupDescription {
            group: self.id.clone(),
            state: self.kind(),
            epoch: consumers.epoch,
            assignment_epoch: consumers.target_epoch,
            assignor: consumers.assignor().name().to_owned(),
            members: consumers.describe(topics),
        })
    }
}

impl Consumers {
    /// The state of a group of these members, of which there are some.
    pub(in crate::group) fn kind(&self) -> GroupState {
        if self.target_epoch < self.epoch {
            GroupState::Assigning
        } else if self.is_stable() {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// The group's epoch.
    pub(in crate::group) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The name of the assignor in use.
    pub(in crate::group) fn assignor_name(&self) -> &'static str {
        self.assignor().name()
    }

    fn describe(&self, topics: &Topics) -> Vec<ConsumerMemberDescription> {
        let member = |(id, member): (&Arc<str>, &Member)| {
            let profile = &member.profile;
            ConsumerMemberDescription {
                id: id.as_ref().to_owned(),
                instance: profile.instance.as_deref().map(str::to_owned),
                rack: profile.rack.clone(),
                epoch: member.current.epoch,
                is_classic: profile.classic.is_some(),
                client_id: profile.client_id.clone(),
                client_host: profile.client_host.clone(),
                topics: profile.topics.iter().cloned().collect(),
                regex: profile.regex.clone(),
                assigned: named(&member.current.assigned, topics),
                target: self.target_of(id).map(|share| named(share, topics)).unwrap_or_default(),
            }
        };
        self.members.iter().map(member).collect()
    }

    /// The members as those of a classic group are described: what they say and own is not opaque
    /// here, and so left out.
    pub(in crate::group) fn members(&self) -> Vec<MemberDescription> {
        let member = |(id, member): (&Arc<str>, &Member)| MemberDescription {
            id: id.as_ref().to_owned(),
            instance: member.profile.instance.as_deref().map(str::to_owned),
            client_id: member.profile.client_id.clone(),
            client_host: member.profile.client_host.clone(),
            metadata: bytes::Bytes::new(),
            assignment: bytes::Bytes::new(),
        };
        self.members.iter().map(member).collect()
    }
}

fn named(share: &Share, topics: &Topics) -> Vec<AssignedTopic> {
    let named = |(id, partitions): (&_, &std::collections::BTreeSet<_>)| {
        let name = topics.name_of(*id)?;
        Some(AssignedTopic { id: *id, name, partitions: partitions.iter().copied().collect() })
    };
    share.iter().filter_map(named).collect()
}
