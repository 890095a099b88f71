//! Pure: from one generation to the next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rafka_core::ErrorCode;
use rafka_core::consumer_protocol::{PROTOCOL_TYPE, Subscription};

use super::effects::{Reply, Turn};
use super::machine::{Group, Initial, Preparing, State, Write};

impl Group {
    /// The members changed: begins a rebalance, or moves the one that is on.
    pub(super) fn rebalance(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::Preparing(_) => self.try_complete_join(turn),
            State::Completing { .. } => {
                self.reset_assignments(ErrorCode::RebalanceInProgress, turn);
                self.prepare(turn);
            }
            State::Empty | State::Stable => self.prepare(turn),
            State::Consuming | State::Dead => {}
        }
    }

    fn prepare(&mut self, turn: &mut Turn<'_>) {
        let (timeout, delay) =
            (self.roster.rebalance_timeout(), turn.settings.group_rebalance_delay_initial);
        let is_first = self.state == State::Empty && delay != Duration::ZERO;
        self.sync_by = None;
        self.expiry_at = None;
        let initial = Initial { remaining: timeout.saturating_sub(delay), has_grown: false };
        let wait = if is_first { delay } else { timeout };
        self.state = State::Preparing(Preparing {
            complete_at: turn.now + wait,
            initial: is_first.then_some(initial),
        });
        self.try_complete_join(turn);
    }

    /// Ends the wait for members early if nobody is missing.
    pub(super) fn try_complete_join(&mut self, turn: &mut Turn<'_>) {
        let is_waiting_for_all = matches!(self.state, State::Preparing(p) if p.initial.is_none());
        if is_waiting_for_all && self.roster.all_joining() && self.pending.is_empty() {
            self.complete_join(turn);
        }
    }

    /// The time to wait for members is over.
    pub(super) fn end_waiting(&mut self, preparing: Preparing, turn: &mut Turn<'_>) {
        match preparing.initial {
            Some(Initial { has_grown: true, remaining }) if remaining != Duration::ZERO => {
                let delay = turn.settings.group_rebalance_delay_initial.min(remaining);
                let initial =
                    Initial { remaining: remaining.saturating_sub(delay), has_grown: false };
                let complete_at = turn.now + delay;
                self.state = State::Preparing(Preparing { complete_at, initial: Some(initial) });
            }
            _ => self.complete_join(turn),
        }
    }

    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        let is_missed = |member: &super::roster::Member| {
            member.joining().is_none() && member.instance().is_none()
        };
        for id in self.roster.ids(is_missed) {
            self.drop_member(&id, ErrorCode::UnknownMemberId, turn);
        }
        if !self.roster.is_empty() && !self.has_joined_leader() {
            // Only static members are left and none came back: they have until their sessions end.
            let complete_at = turn.now + self.wait_again();
            self.state = State::Preparing(Preparing { complete_at, initial: None });
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.roster.is_empty() {
            self.become_empty(turn);
        } else {
            self.begin_generation(turn);
        }
    }

    /// Never zero, or a rebalance timeout of zero would make the timer spin.
    fn wait_again(&self) -> Duration {
        self.roster.rebalance_timeout().max(Duration::from_secs(1))
    }

    /// Whether the leader has joined; if it has not, another that has becomes leader.
    fn has_joined_leader(&mut self) -> bool {
        let has_joined =
            |id: &Arc<str>| self.roster.get(id).is_some_and(|member| member.joining().is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let joined = self.roster.iter().find(|(_, member)| member.joining().is_some());
        let Some(elected) = joined.map(|(id, _)| Arc::clone(id)) else { return false };
        self.leader = Some(elected);
        true
    }

    fn become_empty(&mut self, turn: &mut Turn<'_>) {
        self.state = State::Empty;
        self.protocol = None;
        self.leader = None;
        self.subscribed = None;
        self.kept_until = turn.now + turn.settings.offsets_retention;
        self.plan_expiry(turn.now);
        self.write_group(Write::Group, turn);
    }

    fn begin_generation(&mut self, turn: &mut Turn<'_>) {
        self.protocol = self.roster.select_protocol();
        self.subscribed = self.read_subscriptions();
        self.state = State::Completing { writing: None };
        self.sync_by = Some(turn.now + self.wait_again());
        for id in self.roster.ids(|_| true) {
            let joining = self.roster.take_join(&id);
            if let Some(member) = self.roster.get_mut(&id) {
                member.is_synced = false;
                member.is_new = false;
            }
            if let Some(joining) = joining {
                self.roster.touch(&id, turn.now);
                turn.reply(Reply::Join(joining.waiter, Ok(self.joined(&id))));
            }
        }
    }

    /// The topics that the members subscribed to, if they are consumers and all can be read.
    pub(super) fn read_subscriptions(&self) -> Option<BTreeSet<String>> {
        let protocol = self.protocol.as_deref()?;
        if self.protocol_type.as_deref() != Some(PROTOCOL_TYPE) {
            return None;
        }
        let mut topics = BTreeSet::new();
        for (_, member) in self.roster.iter() {
            topics.extend(Subscription::decode(&member.metadata(protocol)).ok()?.topics);
        }
        Some(topics)
    }

    /// Takes all assignments back. Who waits for one is told why.
    pub(super) fn reset_assignments(&mut self, code: ErrorCode, turn: &mut Turn<'_>) {
        for id in self.roster.ids(|_| true) {
            self.roster.assign(&id, Bytes::new());
            let waiting = self.roster.get_mut(&id).and_then(|member| member.syncing.take());
            if let Some(waiter) = waiting {
                self.roster.touch(&id, turn.now);
                turn.reply(Reply::Sync(waiter, Err(code)));
            }
        }
    }

    /// Drops the members that were silent for too long, and the newcomers that did not come back.
    pub(super) fn drop_silent(&mut self, turn: &mut Turn<'_>) {
        let mut is_changed = self.drop_pending(turn.now);
        let mut is_smaller = false;
        while let Some(id) = self.roster.overdue(turn.now) {
            self.drop_member(&id, ErrorCode::UnknownMemberId, turn);
            is_smaller = true;
        }
        is_changed |= is_smaller;
        if is_smaller {
            self.rebalance(turn);
        } else if is_changed {
            self.try_complete_join(turn);
        }
    }

    /// Drops the members that did not ask for their assignment, if there are any.
    pub(super) fn drop_unsynced(&mut self, turn: &mut Turn<'_>) {
        self.sync_by = None;
        let late = self.roster.ids(|member| !member.is_synced);
        for id in &late {
            self.drop_member(id, ErrorCode::UnknownMemberId, turn);
        }
        if !late.is_empty() {
            self.rebalance(turn);
        }
    }

    /// Removes a member. What it waits for is answered with `code`. The caller then rebalances.
    pub(super) fn drop_member(&mut self, id: &Arc<str>, code: ErrorCode, turn: &mut Turn<'_>) {
        self.refuse_waiting(id, code, turn);
        self.roster.remove(id);
        if self.is_leader(id) {
            self.leader = self.roster.iter().next().map(|(id, _)| Arc::clone(id));
        }
    }

    /// Answers whatever a member waits for.
    pub(super) fn refuse_waiting(&mut self, id: &str, code: ErrorCode, turn: &mut Turn<'_>) {
        if let Some(joining) = self.roster.take_join(id) {
            turn.refuse_join(joining.waiter, code);
        }
        if let Some(waiter) = self.roster.get_mut(id).and_then(|member| member.syncing.take()) {
            turn.reply(Reply::Sync(waiter, Err(code)));
        }
    }
}
