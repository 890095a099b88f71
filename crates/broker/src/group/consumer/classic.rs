//! Pure: members of a next-generation group that still speak the classic protocol.
//!
//! They join, sync and send heartbeats as ever, but nobody waits for anybody: the coordinator has
//! shared the work out, no member leads, and who must take another step is told to join again.

use std::sync::Arc;
use std::time::Duration;

use rafka_core::consumer_protocol::{Assignment, PROTOCOL_TYPE, Subscription, TopicPartitions};
use rafka_core::{ErrorCode, TopicName, TopicPartition};

use super::reconcile::{Current, Progress};
use super::{Consumers, Member, Profile, Share};
use crate::group::effects::{Refusal, Reply, Turn, Waiter};
use crate::group::join::new_member_id;
use crate::group::log::Topics;
use crate::group::machine::{Group, State};
use crate::group::ops::{Heartbeat, Join, Joined, LeavingMember, Protocol, Sync, Synced};

/// What a member says of itself that only the classic protocol has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Classic {
    pub(super) session_timeout: Duration,
    pub(super) protocols: Vec<Protocol>,
}

impl Group {
    /// A classic member joins, or joins again. It is answered at once.
    pub(in crate::group) fn join_consumers(
        &mut self,
        join: Join,
        topics: &Topics,
        waiter: Waiter,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let members_max = usize::try_from(turn.settings.group_members_max).unwrap_or(usize::MAX);
        let consumers = self.consumers.as_mut().ok_or(ErrorCode::UnknownMemberId)?;
        let holder = join.instance.as_deref().and_then(|it| consumers.statics.get(it)).cloned();
        let is_known = holder.is_some() || consumers.members.contains_key(&*join.member);
        if !is_known && members_max <= consumers.members.len() {
            return Err(ErrorCode::GroupMaxSizeReached.into());
        }
        let subscription = consumers.read_classic(&join)?;
        if holder.as_ref().is_some_and(|it| !join.member.is_empty() && **it != *join.member) {
            return Err(ErrorCode::FencedInstanceId.into());
        }
        let id: Arc<str> = match consumers.id_of(&join.member) {
            Some(id) => id,
            // Somebody comes with the id it was given. One that was dropped must let everything go.
            None if !join.member.is_empty() && !subscription.owned.is_empty() => {
                return Err(ErrorCode::UnknownMemberId.into());
            }
            None if !join.member.is_empty() => join.member.as_str().into(),
            None => new_member_id(&join, turn.rng),
        };
        if join.member.is_empty() && join.instance.is_none() && join.member_id_required {
            return Err(Refusal::MemberIdRequired(id.as_ref().to_owned()));
        }
        if let Some(before) = holder.filter(|before| *before != id) {
            consumers.replace(&before, &id);
        }
        let owned = owned(&subscription, topics);
        let protocol = join.protocols.first().map(|protocol| protocol.name.clone());
        if consumers.seat_classic(&id, join, &subscription, turn) {
            consumers.forget_unused_regexes();
            consumers.bump();
        }
        consumers.look_at(topics, turn.now);
        let is_new_target = consumers.aim(topics);
        consumers.change(&id, |member| {
            // It came in time. What it has to let go of now, it is given time for anew.
            member.revoke_by = None;
        });
        consumers.reconcile(&id, Some(&owned), turn.now);
        consumers.ask_to_let_go(&id, turn);
        let joined = Joined {
            generation: consumers.members[&id].current.epoch,
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocol: protocol.unwrap_or_default(),
            leader: String::new(),
            member: id.as_ref().to_owned(),
            skip_assignment: false,
            members: Vec::new(),
        };
        if is_new_target {
            self.subscribed = Some(consumers.subscribed());
            self.plan_expiry(turn.now);
        }
        self.answer_when_durable(Reply::Join(waiter, Ok(joined)), turn);
        self.downgrade_if_classic(turn);
        Ok(())
    }

    /// A classic member asks what it shall own.
    pub(in crate::group) fn sync_consumers(
        &mut self,
        sync: &Sync,
        topics: &Topics,
        waiter: Waiter,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        let consumers = self.consumers.as_mut().ok_or(ErrorCode::UnknownMemberId)?;
        let id = consumers.classic_id(&sync.member, sync.instance.as_deref())?;
        let Member { profile, current, .. } = &consumers.members[&id];
        let knows = |name: &String| {
            let mut known = profile.classic.iter().flat_map(|classic| &classic.protocols);
            known.any(|protocol| protocol.name == *name)
        };
        if sync.generation != current.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        if sync.protocol_type.as_deref().is_some_and(|it| it != PROTOCOL_TYPE)
            || sync.protocol.as_ref().is_some_and(|name| !knows(name))
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // One that has joined to let something go is first told what to keep.
        if current.epoch < consumers.epoch && current.progress != Progress::Revoking {
            consumers.ask_to_join(&id, turn);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let assignment = encoded(&current.assigned, topics)?;
        let synced = Synced {
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocol: sync.protocol.clone().unwrap_or_else(|| profile.protocol()),
            assignment,
        };
        consumers.touch(&id, turn);
        self.answer_when_durable(Reply::Sync(waiter, Ok(synced)), turn);
        Ok(())
    }

    /// A classic member shows that it lives, and learns whether it must join again.
    pub(in crate::group) fn heartbeat_consumers(
        &mut self,
        beat: &Heartbeat,
        turn: &Turn<'_>,
    ) -> Result<(), ErrorCode> {
        let consumers = self.consumers.as_mut().ok_or(ErrorCode::UnknownMemberId)?;
        let id = consumers.classic_id(&beat.member, beat.instance.as_deref())?;
        if beat.generation != consumers.members[&id].current.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        consumers.touch(&id, turn);
        if consumers.has_a_step_to_make(&id) {
            consumers.ask_to_join(&id, turn);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// A classic member leaves, or an operator takes a static one out.
    pub(in crate::group) fn leave_consumers(
        &mut self,
        leaving: &LeavingMember,
    ) -> Result<(), ErrorCode> {
        let consumers = self.consumers.as_mut().ok_or(ErrorCode::UnknownMemberId)?;
        let id = match &leaving.instance {
            Some(instance) if leaving.id.is_empty() => {
                let holder = consumers.statics.get(&**instance);
                let holder = holder.ok_or(ErrorCode::UnknownMemberId)?;
                consumers.classic_id(holder, Some(instance))?
            }
            instance => consumers.classic_id(&leaving.id, instance.as_deref())?,
        };
        consumers.remove(&id);
        Ok(())
    }
}

impl Consumers {
    /// What a classic member wants, if it can be one of this group.
    fn read_classic(&self, join: &Join) -> Result<Subscription, ErrorCode> {
        let others = self.members.iter().filter(|(id, _)| ***id != *join.member);
        let mut others = others.filter_map(|(_, member)| member.profile.classic.as_ref());
        let is_common = |protocol: &Protocol| {
            others.clone().all(|it| it.protocols.iter().any(|known| known.name == protocol.name))
        };
        let has_common = join.protocols.iter().any(is_common) || others.next().is_none();
        if join.protocol_type != PROTOCOL_TYPE || !has_common {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let metadata = join.protocols.first().map(|protocol| &protocol.metadata);
        let subscription = metadata.and_then(|metadata| Subscription::decode(metadata).ok());
        subscription.ok_or(ErrorCode::InconsistentGroupProtocol)
    }

    /// Takes a classic member in, or what it says anew. Whether what the group wants has changed.
    fn seat_classic(
        &mut self,
        id: &Arc<str>,
        join: Join,
        subscription: &Subscription,
        turn: &Turn<'_>,
    ) -> bool {
        let names = subscription.topics.iter();
        let profile = Profile {
            instance: join.instance.as_deref().map(Arc::from),
            rack: subscription.rack.clone(),
            client_id: join.client_id,
            client_host: join.client_host,
            rebalance_timeout: join.rebalance_timeout,
            topics: names.filter_map(|name| TopicName::new(name).ok()).collect(),
            regex: None,
            assignor: None,
            classic: Some(Classic {
                session_timeout: join.session_timeout,
                protocols: join.protocols,
            }),
        };
        let is_aimed_at = self.target.contains_key(id);
        let before = self.members.get(id).map(|member| &member.profile);
        let wants = |it: &Profile| (it.topics.clone(), it.regex.clone(), it.assignor);
        let is_news = !is_aimed_at || before.map(wants) != Some(wants(&profile));
        match before {
            Some(before) if *before == profile => {}
            Some(_) => {
                self.change(id, |member| member.profile = profile);
                self.dirty.note_member(id);
            }
            None => {
                let (current, expires_at) = (Current::new(), turn.now);
                self.insert(id, Member { profile, current, expires_at, revoke_by: None });
                self.dirty.note_member(id);
                self.dirty.current.insert(Arc::clone(id));
            }
        }
        self.touch(id, turn);
        is_news
    }

    /// Who a classic member is, if it is who it says it is.
    fn classic_id(&self, member: &str, instance: Option<&str>) -> Result<Arc<str>, ErrorCode> {
        let id = self.check_identity(member, instance)?;
        let is_classic = self.members[&id].profile.classic.is_some();
        if is_classic { Ok(id) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether joining again would bring a member further.
    fn has_a_step_to_make(&self, id: &str) -> bool {
        let Some(Member { current, .. }) = self.members.get(id) else { return false };
        let is_free = |(topic, partition): (_, &_)| {
            !self.owners.contains_key(&TopicPartition { topic, partition: *partition })
        };
        let mut wanted = self.target_of(id).into_iter().flatten();
        current.epoch < self.epoch
            || match current.progress {
                Progress::Stable => false,
                Progress::Revoking => true,
                Progress::Waiting => wanted
                    .any(|(topic, at)| at.iter().any(|partition| is_free((*topic, partition)))),
            }
    }

    /// The member has been told to join again: it has its rebalance timeout for that.
    fn ask_to_join(&mut self, id: &Arc<str>, turn: &Turn<'_>) {
        let is_asked = self.members.get(id).is_none_or(|member| member.revoke_by.is_some());
        if !is_asked {
            self.change(id, |member| {
                member.revoke_by = Some(turn.now + member.profile.rebalance_timeout);
            });
        }
    }

    /// A member that is to let partitions go joins again when it has.
    fn ask_to_let_go(&mut self, id: &Arc<str>, turn: &Turn<'_>) {
        let progress = self.members.get(id).map(|member| member.current.progress);
        if progress == Some(Progress::Revoking) {
            self.ask_to_join(id, turn);
        }
    }

    /// Whether all members, of whom there are some, speak the classic protocol.
    pub(super) fn is_classic(&self) -> bool {
        let mut members = self.members.values();
        !self.is_empty() && members.all(|member| member.profile.classic.is_some())
    }
}

impl Profile {
    /// The name of the protocol that a classic member likes best.
    fn protocol(&self) -> String {
        let best = self.classic.as_ref().and_then(|classic| classic.protocols.first());
        best.map(|protocol| protocol.name.clone()).unwrap_or_default()
    }
}

/// What a classic member says that it owns, in topics that there are.
pub(super) fn owned(subscription: &Subscription, topics: &Topics) -> Share {
    share_of(&subscription.owned, topics)
}

/// Partitions by the names of their topics, in topics that there are.
pub(super) fn share_of(listed: &[TopicPartitions], topics: &Topics) -> Share {
    let mut share = Share::new();
    for TopicPartitions { topic, partitions } in listed {
        let found = TopicName::new(topic).ok().and_then(|name| topics.get(&name));
        if let Some(found) = found.filter(|_| !partitions.is_empty()) {
            share.entry(found.id).or_default().extend(partitions);
        }
    }
    share
}

/// What a classic member owns, as an `Assignment` of the consumer protocol.
fn encoded(share: &Share, topics: &Topics) -> Result<bytes::Bytes, ErrorCode> {
    let named = share.iter().filter_map(|(id, partitions)| {
        let topic = topics.name_of(*id)?.as_str().to_owned();
        Some(TopicPartitions { topic, partitions: partitions.iter().copied().collect() })
    });
    let assignment = Assignment { partitions: named.collect(), user_data: None };
    assignment.encode().map_err(|_too_long| ErrorCode::UnknownServer)
}

impl Group {
    /// Whether this is a next-generation group with members.
    pub(in crate::group) fn is_consuming(&self) -> bool {
        self.state == State::Consuming
    }

    /// Classic members have left, if any.
    pub(in crate::group) fn consumers_left(&mut self, turn: &mut Turn<'_>) {
        self.consumers_went(turn);
        self.persist(turn);
        self.downgrade_if_classic(turn);
    }
}
