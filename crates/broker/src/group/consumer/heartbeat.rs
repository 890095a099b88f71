//! Pure: the heartbeats of next-generation members, with which they do everything.

use std::collections::BTreeSet;
use std::sync::Arc;

use rafka_core::{ErrorCode, Rng, TopicName, rng::RngExt as _};
use uuid::Uuid;

use super::ops::{
    ConsumerHeartbeat, ConsumerInstruction, JOIN_EPOCH, LEAVE_STATIC_EPOCH, TopicPartitions,
};
use super::reconcile::Current;
use super::{Assignor, Consumers, Member, Profile, Share, subscription};
use crate::group::effects::{Reply, Turn, Waiter};
use crate::group::join::TEXT_BYTES_MAX;
use crate::group::log::Topics;
use crate::group::machine::{Group, State};

/// Topics that one member may name. They are one record of the log.
const TOPICS_MAX: usize = 10_000;

impl Group {
    /// A next-generation member shows life, with whatever else it has to say.
    pub(in crate::group) fn consumer_heartbeat(
        &mut self,
        beat: ConsumerHeartbeat,
        topics: &Topics,
        waiter: Waiter,
        turn: &mut Turn<'_>,
    ) {
        match self.try_consumer_heartbeat(beat, topics, turn) {
            Ok(instruction) => {
                self.answer_when_durable(Reply::Consumer(waiter, Ok(instruction)), turn);
                self.downgrade_if_classic(turn);
            }
            Err(code) => {
                turn.reply(Reply::Consumer(waiter, Err(code)));
                self.persist(turn);
            }
        }
    }

    fn try_consumer_heartbeat(
        &mut self,
        beat: ConsumerHeartbeat,
        topics: &Topics,
        turn: &mut Turn<'_>,
    ) -> Result<ConsumerInstruction, ErrorCode> {
        check_request(&beat)?;
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let is_joining = beat.member_epoch == JOIN_EPOCH;
        if self.consumers.is_none() && !is_joining {
            return Err(ErrorCode::GroupIdNotFound);
        }
        if beat.member_epoch < 0 {
            return self.consumer_leaves(&beat, turn);
        }
        let assignor = match beat.assignor.as_deref() {
            Some(name) => Some(Assignor::from_name(name).ok_or(ErrorCode::UnsupportedAssignor)?),
            None => None,
        };
        let pattern = beat.regex.as_deref().filter(|pattern| !pattern.is_empty());
        let pattern = pattern.map(|text| Ok((text, subscription::compile(text)?))).transpose()?;
        if !matches!(self.state, State::Empty | State::Consuming) {
            self.upgrade(topics, turn)?;
        }
        self.check_consumer_room(&beat, turn)?;
        let id = self.seat_consumer(&beat, turn)?;
        let consumers = self.consumers.as_mut().expect("a group with a member has members");
        if let Some((text, compiled)) = &pattern {
            consumers.match_new(text, compiled, topics);
        }
        if consumers.hear(&id, &beat, assignor) {
            consumers.forget_unused_regexes();
            consumers.bump();
        }
        consumers.look_at(topics, turn.now);
        let is_new_target = consumers.aim(topics);
        let owned = beat.owned.as_ref().map(share);
        let is_given_other = consumers.reconcile(&id, owned.as_ref(), turn.now);
        consumers.touch(&id, turn);
        let Current { epoch, assigned, .. } = &consumers.members[&id].current;
        let is_full = beat.rebalance_timeout.is_some()
            && (beat.topics.is_some() || beat.regex.is_some())
            && beat.owned.is_some();
        let is_told = is_joining || is_full || is_given_other;
        let instruction = ConsumerInstruction {
            member: id.as_ref().to_owned(),
            member_epoch: *epoch,
            heartbeat_interval: turn.settings.group_consumer_heartbeat_interval,
            assignment: is_told.then(|| listed(assigned)),
        };
        if is_new_target {
            self.subscribed = Some(consumers.subscribed());
            self.plan_expiry(turn.now);
        }
        Ok(instruction)
    }

    fn check_consumer_room(
        &self,
        beat: &ConsumerHeartbeat,
        turn: &Turn<'_>,
    ) -> Result<(), ErrorCode> {
        let members_max = usize::try_from(turn.settings.group_members_max).unwrap_or(usize::MAX);
        let Some(consumers) = &self.consumers else { return Ok(()) };
        let is_known = consumers.members.contains_key(&*beat.member)
            || beat.instance.as_deref().is_some_and(|name| consumers.statics.contains_key(name));
        let is_full = !is_known && members_max <= consumers.members.len();
        let pattern = beat.regex.as_deref().filter(|pattern| !pattern.is_empty());
        let has_room = pattern.is_none_or(|pattern| consumers.has_room_for(pattern));
        if is_full || !has_room { Err(ErrorCode::GroupMaxSizeReached) } else { Ok(()) }
    }

    /// Finds the member that the heartbeat is of, or takes a new one in.
    fn seat_consumer(
        &mut self,
        beat: &ConsumerHeartbeat,
        turn: &mut Turn<'_>,
    ) -> Result<Arc<str>, ErrorCode> {
        if beat.member_epoch != JOIN_EPOCH {
            let consumers = self.consumers.as_ref().ok_or(ErrorCode::GroupIdNotFound)?;
            let id = consumers.check_identity(&beat.member, beat.instance.as_deref())?;
            consumers.members[&id].current.check_epoch(beat)?;
            return Ok(id);
        }
        if let Some(consumers) = &self.consumers
            && let Some(instance) = beat.instance.as_deref()
            && let Some(holder) = consumers.statics.get(instance)
            && **holder != *beat.member
            && consumers.members[holder].current.epoch != LEAVE_STATIC_EPOCH
            && consumers.members[holder].profile.classic.is_none()
        {
            return Err(ErrorCode::UnreleasedInstanceId);
        }
        let consumers = self.begin_consumers(turn);
        let id: Arc<str> = match consumers.id_of(&beat.member) {
            Some(id) => return Ok(id),
            None if beat.member.is_empty() => random_id(turn.rng),
            None => beat.member.as_str().into(),
        };
        let holder = beat.instance.as_deref().and_then(|name| consumers.statics.get(name));
        if let Some(before) = holder.cloned() {
            consumers.replace(&before, &id);
        } else {
            let expires_at = turn.now + turn.settings.group_consumer_session_timeout;
            consumers.insert(&id, Member::new(beat, expires_at));
            consumers.dirty.note_member(&id);
            consumers.dirty.current.insert(Arc::clone(&id));
        }
        self.state = State::Consuming;
        Ok(id)
    }

    /// Members of this kind from now on, if there are not already.
    fn begin_consumers(&mut self, turn: &Turn<'_>) -> &mut Consumers {
        self.pending.clear();
        if self.consumers.is_none() {
            self.protocol_type = Some(rafka_core::consumer_protocol::PROTOCOL_TYPE.to_owned());
            self.plan_expiry(turn.now);
        }
        let was_recorded = std::mem::replace(&mut self.is_recorded, true);
        self.consumers.get_or_insert_with(|| {
            let mut consumers = Consumers::default();
            consumers.dirty.classic = was_recorded;
            Box::new(consumers)
        })
    }

    fn consumer_leaves(
        &mut self,
        beat: &ConsumerHeartbeat,
        turn: &mut Turn<'_>,
    ) -> Result<ConsumerInstruction, ErrorCode> {
        let consumers = self.consumers.as_mut().ok_or(ErrorCode::GroupIdNotFound)?;
        let id = consumers.check_identity(&beat.member, beat.instance.as_deref())?;
        if beat.member_epoch == LEAVE_STATIC_EPOCH {
            consumers.change(&id, |member| member.current.epoch = LEAVE_STATIC_EPOCH);
            consumers.dirty.current.insert(Arc::clone(&id));
        } else {
            consumers.remove(&id);
            self.consumers_went(turn);
        }
        Ok(ConsumerInstruction {
            member: beat.member.clone(),
            member_epoch: beat.member_epoch,
            heartbeat_interval: std::time::Duration::ZERO,
            assignment: None,
        })
    }

    /// Drops the members that were silent, or kept what they should have let go, for too long.
    pub(in crate::group) fn drop_overdue_consumers(&mut self, turn: &mut Turn<'_>) {
        let Some(consumers) = &mut self.consumers else { return };
        let overdue = consumers.overdue(turn.now);
        if overdue.is_empty() {
            return;
        }
        for id in &overdue {
            consumers.remove(id);
        }
        self.consumers_went(turn);
        self.persist(turn);
        self.downgrade_if_classic(turn);
    }

    /// Members have gone. The others learn of it with their next heartbeats.
    pub(super) fn consumers_went(&mut self, turn: &Turn<'_>) {
        let Some(consumers) = &mut self.consumers else { return };
        if consumers.is_empty() {
            self.state = State::Empty;
            self.subscribed = None;
            self.kept_until = turn.now + turn.settings.offsets_retention;
        } else {
            self.subscribed = Some(consumers.subscribed());
        }
        self.plan_expiry(turn.now);
    }

    /// Whether a member of a next-generation group may commit or fetch offsets in this epoch.
    pub(in crate::group) fn check_consumer(
        &self,
        member: &str,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        let known = self.consumers.as_ref().and_then(|consumers| consumers.members.get(member));
        let known = known.ok_or(ErrorCode::UnknownMemberId)?;
        match &known.profile.classic {
            _ if known.current.epoch == epoch => Ok(()),
            Some(_) => Err(ErrorCode::IllegalGeneration),
            None => Err(ErrorCode::StaleMemberEpoch),
        }
    }
}

impl Consumers {
    /// Who the member is, if it is who it says it is.
    pub(super) fn check_identity(
        &self,
        member: &str,
        instance: Option<&str>,
    ) -> Result<Arc<str>, ErrorCode> {
        match instance.map(|instance| self.statics.get(instance)) {
            Some(None) => Err(ErrorCode::UnknownMemberId),
            Some(Some(holder)) if **holder != *member => Err(ErrorCode::FencedInstanceId),
            _ => self.id_of(member).ok_or(ErrorCode::UnknownMemberId),
        }
    }

    /// Takes in what a member says. Whether what it wants has changed.
    fn hear(
        &mut self,
        id: &Arc<str>,
        beat: &ConsumerHeartbeat,
        assignor: Option<Assignor>,
    ) -> bool {
        let is_aimed_at = self.target.contains_key(id);
        let Some(member) = self.members.get(id) else { return false };
        let says_nothing = beat.topics.is_none()
            && beat.regex.is_none()
            && beat.assignor.is_none()
            && beat.rack.is_none()
            && beat.rebalance_timeout.is_none()
            && member.profile.classic.is_none();
        if is_aimed_at && says_nothing {
            return false;
        }
        let mut profile = member.profile.clone();
        profile.classic = None;
        profile.client_id.clone_from(&beat.client_id);
        profile.client_host.clone_from(&beat.client_host);
        if beat.rack.is_some() {
            profile.rack.clone_from(&beat.rack);
        }
        if let Some(timeout) = beat.rebalance_timeout {
            profile.rebalance_timeout = timeout;
        }
        if let Some(topics) = &beat.topics {
            profile.topics = topics.iter().filter_map(|name| TopicName::new(name).ok()).collect();
        }
        if let Some(pattern) = &beat.regex {
            profile.regex = Some(pattern.clone()).filter(|pattern| !pattern.is_empty());
        }
        profile.assignor = assignor.or(profile.assignor);
        let wants = |it: &Profile| (it.topics.clone(), it.regex.clone(), it.assignor);
        let is_news = !is_aimed_at || wants(&profile) != wants(&member.profile);
        if profile != member.profile {
            self.change(id, |member| member.profile = profile);
            self.dirty.note_member(id);
        }
        is_news
    }
}

impl Current {
    /// Whether the member is in its epoch, or comes again because an answer was lost.
    fn check_epoch(&self, beat: &ConsumerHeartbeat) -> Result<(), ErrorCode> {
        let is_repeated = || {
            let owns_no_more = |owned: &TopicPartitions| {
                share(owned).iter().all(|(topic, owned)| {
                    self.assigned.get(topic).is_some_and(|assigned| owned.is_subset(assigned))
                })
            };
            beat.member_epoch == self.previous_epoch
                && beat.owned.as_ref().is_some_and(owns_no_more)
        };
        if beat.member_epoch == self.epoch || is_repeated() {
            Ok(())
        } else {
            Err(ErrorCode::FencedMemberEpoch)
        }
    }
}

impl Member {
    /// A newcomer. The rest of what it says is heard afterwards, as from every member.
    fn new(beat: &ConsumerHeartbeat, expires_at: rafka_core::Time) -> Self {
        Self {
            profile: Profile {
                instance: beat.instance.as_deref().map(Arc::from),
                rack: beat.rack.clone(),
                client_id: beat.client_id.clone(),
                client_host: beat.client_host.clone(),
                rebalance_timeout: beat.rebalance_timeout.unwrap_or_default(),
                topics: BTreeSet::new(),
                regex: None,
                assignor: None,
                classic: None,
            },
            current: Current::new(),
            expires_at,
            revoke_by: None,
        }
    }
}

fn check_request(beat: &ConsumerHeartbeat) -> Result<(), ErrorCode> {
    let joins = beat.member_epoch == JOIN_EPOCH;
    let has_id = !beat.member.is_empty() || joins;
    let has_identity = beat.member_epoch != LEAVE_STATIC_EPOCH || beat.instance.is_some();
    let says_all = !joins
        || (beat.rebalance_timeout.is_some()
            && beat.owned.as_ref().is_some_and(Vec::is_empty)
            && (beat.topics.is_some() || beat.regex.as_ref().is_some_and(|it| !it.is_empty())));
    let is_empty = |text: &Option<String>| text.as_deref() == Some("");
    let texts = [&beat.member, &beat.client_id, &beat.client_host];
    let options = [&beat.instance, &beat.rack];
    let mut texts = texts.into_iter().chain(options.into_iter().flatten());
    let is_sound = LEAVE_STATIC_EPOCH <= beat.member_epoch
        && has_id
        && has_identity
        && says_all
        && !is_empty(&beat.instance)
        && !is_empty(&beat.rack)
        && texts.all(|text| text.len() <= TEXT_BYTES_MAX)
        && beat.topics.as_ref().is_none_or(|topics| topics.len() <= TOPICS_MAX);
    if is_sound { Ok(()) } else { Err(ErrorCode::InvalidRequest) }
}

fn random_id(rng: &mut Rng) -> Arc<str> {
    let unique = uuid::Builder::from_random_bytes(rng.random()).into_uuid();
    Uuid::hyphenated(unique).to_string().into()
}

fn share(listed: &TopicPartitions) -> Share {
    let mut share = Share::new();
    for (topic, partitions) in listed {
        share.entry(*topic).or_default().extend(partitions.iter().copied());
    }
    share
}

pub(super) fn listed(share: &Share) -> TopicPartitions {
    share.iter().map(|(topic, at)| (*topic, at.iter().copied().collect())).collect()
}
