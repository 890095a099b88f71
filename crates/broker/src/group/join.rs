//! Pure: joining a group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rafka_core::{ErrorCode, Rng, Time, rng::RngExt as _};
use uuid::Uuid;

use super::Settings;
use super::effects::{Refusal, Reply, Turn, Waiter};
use super::log::Topics;
use super::machine::{Group, State, Write};
use super::ops::{Join, Joined, JoinedMember};
use super::roster::{Joining, Member, Profile};

/// How long a newcomer may wait for its first generation. It cannot send heartbeats yet, and a
/// client that has given up joins again as another newcomer, so this is what bounds the ghosts.
const NEWCOMER_TIMEOUT: Duration = Duration::from_mins(5);

/// The longest id, name or address of a member. They are written into the log behind 16-bit
/// lengths; nothing that people use comes near.
pub(super) const TEXT_BYTES_MAX: usize = 4096;

/// Assignors that one member may offer. Real ones offer one or two.
const PROTOCOLS_MAX: usize = 32;

/// What all members of a group may take together: their record is one record of the log.
pub(super) const ROSTER_BYTES_MAX: usize = 4 << 20;

impl Group {
    /// A member wants to join. The answer may come now, or with the end of the rebalance.
    pub(super) fn join(
        &mut self,
        join: Join,
        topics: &Topics,
        waiter: Waiter,
        turn: &mut Turn<'_>,
    ) {
        if let Err(refusal) = self.try_join(join, topics, waiter, turn) {
            turn.reply(Reply::Join(waiter, Err(refusal)));
        }
    }

    fn try_join(
        &mut self,
        join: Join,
        topics: &Topics,
        waiter: Waiter,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        check_request(&join, turn.settings)?;
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable.into());
        }
        if self.is_consuming() {
            return self.join_consumers(join, topics, waiter, turn);
        }
        self.check_room(&join, turn.settings)?;
        let is_same_kind = self.state == State::Empty
            || self.protocol_type.as_deref() == Some(join.protocol_type.as_str());
        if !is_same_kind || !self.roster.supports(&join.protocols) {
            return Err(ErrorCode::InconsistentGroupProtocol.into());
        }
        if join.member.is_empty() {
            self.join_as_newcomer(join, waiter, turn)
        } else {
            self.join_again(join, waiter, turn)
        }
    }

    fn check_room(&self, join: &Join, settings: &Settings) -> Result<(), ErrorCode> {
        let instance = join.instance.as_deref();
        let is_known = self.roster.contains(&join.member)
            || instance.is_some_and(|instance| self.roster.holder(instance).is_some());
        let members_max = usize::try_from(settings.group_members_max).unwrap_or(usize::MAX);
        let is_full = members_max <= self.roster.len() || members_max <= self.pending.len();
        if !is_known && is_full && !self.pending.contains_key(&*join.member) {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        let bytes: usize = join.protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum();
        if ROSTER_BYTES_MAX < self.roster.bytes() + bytes {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        Ok(())
    }

    fn join_as_newcomer(
        &mut self,
        join: Join,
        waiter: Waiter,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let id = new_member_id(&join, turn.rng);
        let holder = join.instance.as_deref().and_then(|instance| self.roster.holder(instance));
        if let Some(before) = holder.map(Arc::clone) {
            self.replace_static(&before, &id, join, waiter, turn);
        } else if join.instance.is_none() && join.member_id_required {
            self.pending.insert(Arc::clone(&id), turn.now + join.session_timeout);
            return Err(Refusal::MemberIdRequired(id.as_ref().to_owned()));
        } else {
            self.admit(&id, join, waiter, turn);
        }
        Ok(())
    }

    fn join_again(
        &mut self,
        join: Join,
        waiter: Waiter,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let id: Arc<str> = join.member.as_str().into();
        if self.pending.contains_key(&id) && join.instance.is_none() {
            self.admit(&id, join, waiter, turn);
            return Ok(());
        }
        self.check_member(&id, join.instance.as_deref())?;
        let member = self.roster.get(&id).ok_or(ErrorCode::UnknownMemberId)?;
        let is_unchanged = member.profile().protocols == join.protocols;
        let is_news = match self.state {
            State::Empty | State::Consuming | State::Dead => {
                return Err(ErrorCode::UnknownMemberId.into());
            }
            State::Preparing(_) => true,
            // The answer to its join was lost; the generation stands.
            State::Completing { .. } => !is_unchanged,
            // A leader that joins again asks for a rebalance: its view of the topics changed.
            State::Stable => self.is_leader(&id) || !is_unchanged,
        };
        if is_news {
            self.rejoin(&id, join, waiter, turn);
            self.rebalance(turn);
        } else {
            self.roster.touch(&id, turn.now);
            turn.reply(Reply::Join(waiter, Ok(self.joined(&id))));
        }
        Ok(())
    }

    /// Takes a newcomer in.
    fn admit(&mut self, id: &Arc<str>, join: Join, waiter: Waiter, turn: &mut Turn<'_>) {
        self.pending.remove(id);
        // An empty group of the other kind becomes one of this kind.
        let _before = self.end_consumers(turn);
        if self.roster.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(Arc::clone(id));
        }
        let joining = joining(&join, waiter);
        let instance = join.instance.as_deref().map(Arc::from);
        self.roster.insert(id, Member::new(instance, profile(join)));
        self.roster.await_join(id, joining);
        self.roster.expect_by(id, Some(turn.now + NEWCOMER_TIMEOUT));
        if let State::Preparing(preparing) = &mut self.state
            && let Some(initial) = &mut preparing.initial
        {
            initial.has_grown = true;
        }
        self.rebalance(turn);
    }

    /// Lets a member wait for the next generation.
    fn rejoin(&mut self, id: &Arc<str>, join: Join, waiter: Waiter, turn: &mut Turn<'_>) {
        let joining = joining(&join, waiter);
        self.roster.update(id, profile(join));
        if let Some(superseded) = self.roster.await_join(id, joining) {
            turn.refuse_join(superseded.waiter, ErrorCode::RebalanceInProgress);
        }
        let is_new = self.roster.get(id).is_some_and(|member| member.is_new);
        let deadline = is_new.then(|| turn.now + NEWCOMER_TIMEOUT);
        self.roster.expect_by(id, deadline);
    }

    /// A static member has restarted: it takes its place over under a new id, and the old id is
    /// fenced. A stable group goes on without a rebalance, unless the vote would change.
    fn replace_static(
        &mut self,
        before: &Arc<str>,
        id: &Arc<str>,
        join: Join,
        waiter: Waiter,
        turn: &mut Turn<'_>,
    ) {
        self.refuse_waiting(before, ErrorCode::FencedInstanceId, turn);
        let member = self.roster.remove(before).expect("the holder of an instance is a member");
        let leader_before = self.leader.clone().expect("a group with members has a leader");
        if leader_before == *before {
            self.leader = Some(Arc::clone(id));
        }
        self.roster.insert(id, member);
        self.rejoin(id, join, waiter, turn);
        let is_vote_same = self.roster.select_protocol() == self.protocol;
        if self.state == State::Stable && is_vote_same {
            self.roster.touch(id, turn.now);
            self.subscribed = self.read_subscriptions();
            self.plan_expiry(turn.now);
            let write = Write::StaticMember { member: Arc::clone(id), leader_before };
            self.write_group(write, turn);
        } else {
            self.rebalance(turn);
        }
    }

    /// The static member's new id is durable: its join is answered, if no rebalance has begun.
    pub(super) fn end_static_join(
        &mut self,
        id: &Arc<str>,
        leader_before: &Arc<str>,
        result: Result<(), ErrorCode>,
        turn: &mut Turn<'_>,
    ) {
        if self.state != State::Stable {
            return;
        }
        let Some(joining) = self.roster.take_join(id) else { return };
        self.roster.touch(id, turn.now);
        let mut joined = self.joined(id);
        if joining.skip_assignment_known {
            joined.skip_assignment = self.is_leader(id);
        } else {
            // A client that would share the work out anew must not learn that it leads.
            joined.leader = leader_before.as_ref().to_owned();
            joined.members.clear();
        }
        let reply = result.map(|()| joined).map_err(Refusal::Code);
        turn.reply(Reply::Join(joining.waiter, reply));
    }

    /// What a member of this generation is told.
    pub(super) fn joined(&self, id: &Arc<str>) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = if self.is_leader(id) {
            let shown = |(id, member): (&Arc<str>, &Member)| JoinedMember {
                id: id.as_ref().to_owned(),
                instance: member.instance().map(str::to_owned),
                metadata: member.metadata(&protocol),
            };
            self.roster.iter().map(shown).collect()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol,
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
            member: id.as_ref().to_owned(),
            skip_assignment: false,
            members,
        }
    }

    /// Forgets the ids that newcomers did not come back with. Whether there were any.
    pub(super) fn drop_pending(&mut self, now: Time) -> bool {
        let before = self.pending.len();
        self.pending.retain(|_, deadline| now < *deadline);
        self.pending.len() < before
    }
}

fn check_request(join: &Join, settings: &Settings) -> Result<(), ErrorCode> {
    let timeouts = settings.group_session_timeout_min..=settings.group_session_timeout_max;
    if !timeouts.contains(&join.session_timeout) {
        return Err(ErrorCode::InvalidSessionTimeout);
    }
    let names: BTreeSet<&str> = join.protocols.iter().map(|p| p.name.as_str()).collect();
    if join.protocol_type.is_empty() || names.is_empty() {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    let instance = join.instance.as_deref().unwrap_or_default();
    let texts = [&join.member, &join.client_id, &join.client_host, &join.protocol_type];
    let mut texts = texts.into_iter().map(String::as_str).chain([instance]).chain(names.clone());
    let is_sound = names.len() == join.protocols.len()
        && names.len() <= PROTOCOLS_MAX
        && texts.all(|text| text.len() <= TEXT_BYTES_MAX)
        && join.instance.as_deref() != Some("");
    if is_sound { Ok(()) } else { Err(ErrorCode::InvalidRequest) }
}

/// As Kafka makes them: recognisable for people, unique by chance.
pub(super) fn new_member_id(join: &Join, rng: &mut Rng) -> Arc<str> {
    let unique = uuid::Builder::from_random_bytes(rng.random()).into_uuid();
    let prefix = join.instance.as_deref().unwrap_or(&join.client_id);
    format!("{prefix}-{}", Uuid::hyphenated(unique)).into()
}

fn joining(join: &Join, waiter: Waiter) -> Joining {
    Joining { waiter, skip_assignment_known: join.skip_assignment_known }
}

fn profile(join: Join) -> Profile {
    Profile {
        client_id: join.client_id,
        client_host: join.client_host,
        session_timeout: join.session_timeout,
        rebalance_timeout: join.rebalance_timeout,
        protocols: join.protocols,
    }
}
