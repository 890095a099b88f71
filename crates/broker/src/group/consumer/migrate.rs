//! Pure: a group with members from the classic protocol to the next and back.
//!
//! The first member of the new kind turns a group of classic consumers into a next-generation group
//! that has them as its members; when the last of the new kind has gone, it turns back.

use std::collections::BTreeSet;
use std::sync::Arc;

use rafka_core::consumer_protocol::{Assignment, PROTOCOL_TYPE, Subscription};
use rafka_core::{ErrorCode, TopicName};

use super::classic::{self, Classic};
use super::reconcile::{Current, Progress};
use super::restore::keep_new;
use super::{Consumers, Member, Profile, Share};
use crate::group::effects::Turn;
use crate::group::log::Topics;
use crate::group::machine::{Group, State, Write};
use crate::group::roster::{self, Roster};

impl Group {
    /// Makes the classic group, which has members, a next-generation group, if it can be one. Its
    /// members are told to join again.
    pub(super) fn upgrade(
        &mut self,
        topics: &Topics,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        let is_allowed = turn.settings.group_consumer_migration_policy.may_upgrade();
        if !is_allowed || self.protocol_type.as_deref() != Some(PROTOCOL_TYPE) {
            return Err(ErrorCode::GroupIdNotFound);
        }
        let members_max = usize::try_from(turn.settings.group_members_max).unwrap_or(usize::MAX);
        if members_max <= self.roster.len() {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        if self.state != State::Stable {
            // Between generations nobody knows who owns what. The member tries again.
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        let consumers = self.upgraded(topics, turn).ok_or(ErrorCode::GroupIdNotFound)?;
        self.refuse_members(ErrorCode::RebalanceInProgress, turn);
        self.roster = Roster::default();
        self.pending.clear();
        (self.leader, self.protocol, self.sync_by) = (None, None, None);
        self.subscribed = Some(consumers.subscribed());
        self.consumers = Some(Box::new(consumers));
        self.state = State::Consuming;
        self.is_recorded = true;
        self.plan_expiry(turn.now);
        Ok(())
    }

    /// The classic members with what they own, as far as the group knows. `None` if one of them says
    /// what is no subscription.
    fn upgraded(&self, topics: &Topics, turn: &Turn<'_>) -> Option<Consumers> {
        let selected = self.roster.select_protocol();
        let protocol = self.protocol.clone().or(selected)?;
        let epoch = self.generation;
        let mut consumers = Consumers { epoch, target_epoch: epoch, ..Consumers::default() };
        consumers.dirty.classic = true;
        consumers.dirty.group = true;
        consumers.dirty.target_epoch = true;
        let mut owned = BTreeSet::new();
        let mut claims = Vec::new();
        for (id, member) in self.roster.iter() {
            let subscription = Subscription::decode(&member.metadata(&protocol)).ok()?;
            let assignment = match member.assignment() {
                none if none.is_empty() => Assignment::default(),
                some => Assignment::decode(some).ok()?,
            };
            let mut assigned = classic::share_of(&assignment.partitions, topics);
            // A leader may have given a partition out twice: the first has it.
            let _is_all = keep_new(&mut assigned, &mut owned);
            claims.push((Arc::clone(id), classic::owned(&subscription, topics)));
            let known = member.profile();
            let profile = Profile {
                instance: member.instance().map(Arc::from),
                rack: subscription.rack,
                client_id: known.client_id.clone(),
                client_host: known.client_host.clone(),
                rebalance_timeout: known.rebalance_timeout,
                topics: subscription
                    .topics
                    .iter()
                    .filter_map(|it| TopicName::new(it).ok())
                    .collect(),
                regex: None,
                assignor: None,
                classic: Some(Classic {
                    session_timeout: known.session_timeout,
                    protocols: known.protocols.clone(),
                }),
            };
            let expires_at = turn.now + known.session_timeout;
            let current = Current {
                epoch,
                previous_epoch: epoch,
                progress: Progress::Stable,
                assigned: assigned.clone(),
                revoking: Share::new(),
            };
            consumers.insert(id, Member { profile, current, expires_at, revoke_by: None });
            consumers.target.insert(Arc::clone(id), assigned);
            consumers.dirty.note_member(id);
            consumers.dirty.targets.insert(Arc::clone(id));
            consumers.dirty.current.insert(Arc::clone(id));
        }
        for (id, mut claim) in claims {
            // It may still be about to let go of what it owned before this generation.
            let _is_all = keep_new(&mut claim, &mut owned);
            consumers.change(&id, |member| {
                for (topic, partitions) in claim {
                    member.current.assigned.entry(topic).or_default().extend(partitions);
                }
            });
        }
        Some(consumers)
    }

    /// Makes the group a classic one if only classic members are left. They are told to join again.
    pub(super) fn downgrade_if_classic(&mut self, turn: &mut Turn<'_>) {
        let is_classic = self.consumers.as_ref().is_some_and(|consumers| consumers.is_classic());
        if !is_classic || !turn.settings.group_consumer_migration_policy.may_downgrade() {
            return;
        }
        let Some(consumers) = self.end_consumers(turn) else { return };
        for (id, member) in &consumers.members {
            let Profile { instance, client_id, client_host, rebalance_timeout, classic, .. } =
                member.profile.clone();
            let Some(classic) = classic else { continue };
            let profile = roster::Profile {
                client_id,
                client_host,
                session_timeout: classic.session_timeout,
                rebalance_timeout,
                protocols: classic.protocols,
            };
            let mut member = roster::Member::new(instance, profile);
            (member.is_new, member.is_synced) = (false, true);
            self.roster.insert(id, member);
            self.roster.touch(id, turn.now);
        }
        self.protocol = self.roster.select_protocol();
        // No member can be in an epoch above it.
        self.generation = consumers.target_epoch;
        self.state = State::Stable;
        // Without a leader: whoever takes over from here tells every member to join, too.
        self.leader = None;
        self.write_group(Write::Group, turn);
        self.leader = self.roster.iter().next().map(|(id, _)| Arc::clone(id));
        self.rebalance(turn);
    }
}
