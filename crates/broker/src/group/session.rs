//! Pure: members in a generation: assignments, heartbeats, leaving.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rafka_core::ErrorCode;

use super::effects::{Reply, Ticket, Turn, Waiter};
use super::join::ROSTER_BYTES_MAX;
use super::log::Topics;
use super::machine::{Group, State, Write};
use super::ops::{Heartbeat, LeavingMember, Sync, Synced};

impl Group {
    /// A member asks for its assignment. The answer may come once the leader's is durable.
    pub(super) fn sync(
        &mut self,
        sync: Sync,
        topics: &Topics,
        waiter: Waiter,
        turn: &mut Turn<'_>,
    ) {
        if let Err(code) = self.try_sync(sync, topics, waiter, turn) {
            turn.reply(Reply::Sync(waiter, Err(code)));
        }
    }

    fn try_sync(
        &mut self,
        sync: Sync,
        topics: &Topics,
        waiter: Waiter,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if self.is_consuming() {
            return self.sync_consumers(&sync, topics, waiter, turn);
        }
        self.check_member(&sync.member, sync.instance.as_deref())?;
        if sync.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |said: &Option<String>, known: &Option<String>| {
            said.is_some() && known.is_some() && said != known
        };
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let id: Arc<str> = sync.member.as_str().into();
        match self.state {
            State::Empty | State::Consuming | State::Dead => Err(ErrorCode::UnknownMemberId),
            State::Preparing(_) => Err(ErrorCode::RebalanceInProgress),
            State::Completing { writing } => {
                if self.is_leader(&id) && writing.is_none() {
                    self.assign_all(sync.assignments, turn)?;
                }
                self.await_assignment(&id, waiter, turn);
                Ok(())
            }
            State::Stable => {
                if let Some(member) = self.roster.get_mut(&id) {
                    member.is_synced = true;
                }
                self.roster.touch(&id, turn.now);
                turn.reply(Reply::Sync(waiter, Ok(self.synced(&id))));
                Ok(())
            }
        }
    }

    fn await_assignment(&mut self, id: &Arc<str>, waiter: Waiter, turn: &mut Turn<'_>) {
        self.roster.expect_by(id, None);
        let Some(member) = self.roster.get_mut(id) else { return };
        member.is_synced = true;
        if let Some(superseded) = member.syncing.replace(waiter) {
            turn.reply(Reply::Sync(superseded, Err(ErrorCode::RebalanceInProgress)));
        }
    }

    /// Keeps the leader's assignments, and writes them down before anyone learns them.
    fn assign_all(
        &mut self,
        assignments: Vec<(String, Bytes)>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        assignments.retain(|id, _| self.roster.contains(id));
        let bytes: usize = assignments.values().map(Bytes::len).sum();
        if ROSTER_BYTES_MAX < bytes {
            return Err(ErrorCode::InvalidRequest);
        }
        for id in self.roster.ids(|_| true) {
            let assignment = assignments.remove(&*id).unwrap_or_default();
            self.roster.assign(&id, assignment);
        }
        let ticket = self.write_group(Write::Assignments, turn);
        self.state = State::Completing { writing: Some(ticket) };
        Ok(())
    }

    /// The assignments are durable, or will not be: everyone who waits is told.
    pub(super) fn end_assigning(
        &mut self,
        ticket: Ticket,
        result: Result<(), ErrorCode>,
        turn: &mut Turn<'_>,
    ) {
        // Otherwise a rebalance has begun meanwhile, and everyone has been told that.
        if self.state != (State::Completing { writing: Some(ticket) }) {
            return;
        }
        if let Err(code) = result {
            self.reset_assignments(code, turn);
            self.state = State::Completing { writing: None };
            self.rebalance(turn);
            return;
        }
        self.state = State::Stable;
        self.plan_expiry(turn.now);
        for id in self.roster.ids(|member| member.syncing.is_some()) {
            let waiting = self.roster.get_mut(&id).and_then(|member| member.syncing.take());
            if let Some(waiter) = waiting {
                self.roster.touch(&id, turn.now);
                turn.reply(Reply::Sync(waiter, Ok(self.synced(&id))));
            }
        }
    }

    fn synced(&self, id: &str) -> Synced {
        let assignment = self.roster.get(id).map(|member| member.assignment().clone());
        Synced {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: assignment.unwrap_or_default(),
        }
    }

    /// A member shows that it lives, and learns whether it must join again.
    pub(super) fn heartbeat(
        &mut self,
        beat: &Heartbeat,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if self.is_consuming() {
            return self.heartbeat_consumers(beat, turn);
        }
        self.check_member(&beat.member, beat.instance.as_deref())?;
        if beat.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.keep_alive(&beat.member, turn);
        match self.state {
            State::Empty | State::Consuming | State::Dead => Err(ErrorCode::UnknownMemberId),
            State::Preparing(_) => Err(ErrorCode::RebalanceInProgress),
            State::Completing { .. } | State::Stable => Ok(()),
        }
    }

    /// Gives a member its session timeout again, unless the group owes it an answer.
    pub(super) fn keep_alive(&mut self, id: &str, turn: &Turn<'_>) {
        let is_waiting =
            |member: &super::roster::Member| member.joining().is_some() || member.syncing.is_some();
        if self.roster.get(id).is_some_and(|member| !is_waiting(member)) {
            self.roster.touch(&id.into(), turn.now);
        }
    }

    /// Members leave. One answer for each, in their order.
    pub(super) fn leave(
        &mut self,
        members: &[LeavingMember],
        turn: &mut Turn<'_>,
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if self.is_consuming() {
            let results = members.iter().map(|member| self.leave_consumers(member)).collect();
            self.consumers_left(turn);
            return Ok(results);
        }
        let before = self.roster.len();
        let results = members.iter().map(|member| self.leave_one(member, turn)).collect();
        if self.roster.len() < before {
            self.rebalance(turn);
        } else {
            self.try_complete_join(turn);
        }
        Ok(results)
    }

    fn leave_one(&mut self, leaving: &LeavingMember, turn: &mut Turn<'_>) -> Result<(), ErrorCode> {
        if leaving.instance.is_none() && self.pending.remove(leaving.id.as_str()).is_some() {
            return Ok(());
        }
        let id: Arc<str> = match &leaving.instance {
            // An operator, who knows the instance but not the id of the moment.
            Some(instance) if leaving.id.is_empty() => {
                let holder = self.roster.holder(instance);
                Arc::clone(holder.ok_or(ErrorCode::UnknownMemberId)?)
            }
            instance => {
                self.check_member(&leaving.id, instance.as_deref())?;
                leaving.id.as_str().into()
            }
        };
        self.drop_member(&id, ErrorCode::UnknownMemberId, turn);
        Ok(())
    }
}
