//! Pure: the state of one group, with all of Kafka's classic protocol; the verbs are in the files
//! beside it. The members of a next-generation group are in `consumer`.
//!
//! ```text
//!            join                 all joined, or time is up        the leader's sync is durable
//!   Empty ────────▶ Preparing ─────────────────────▶ Completing ─────────────────────▶ Stable
//!     ▲             Rebalance ◀───────────────────── Rebalance                           │
//!     │              │     ▲    join, leave, silence                                     │
//!     └──────────────┘     └─────────────────────────────────────────────────────────────┘
//!      nobody joined                  join, leave, silence
//! ```
//! From Empty a group becomes Dead when it is deleted or has nothing to remember; then it goes. A
//! next-generation member makes an empty group Consuming, until the last of them has gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rafka_core::{ErrorCode, GroupId, Time};

use super::consumer::{Consumers, Persisting};
use super::effects::{Append, Reply, Ticket, Turn, Waiter};
use super::offsets::{Commit, Deletion, DeletionReason, Entry, Offsets};
use super::ops::{GroupState, Within};
use super::record::Record;
use super::roster::Roster;
use super::undecided::Undecided;

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) state: State,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<Arc<str>>,
    pub(super) roster: Roster,
    /// The members of a next-generation group, and what it remembers of itself when it is empty.
    pub(super) consumers: Option<Box<Consumers>>,
    /// Ids that were given to newcomers to join again with, and until when.
    pub(super) pending: BTreeMap<Arc<str>, Time>,
    /// When members that have not asked for their assignment are given up.
    pub(super) sync_by: Option<Time>,
    /// The topics that the members want, if all of them are consumers we can read.
    pub(super) subscribed: Option<BTreeSet<String>>,
    pub(super) offsets: Offsets,
    /// Offsets that count once the transactions of these producers are committed.
    pub(super) undecided: Undecided<Entry>,
    /// Until when an empty group that had members keeps its offsets.
    pub(super) kept_until: Time,
    /// When to look next for something to forget.
    pub(super) expiry_at: Option<Time>,
    /// Whether the log holds a record of the group itself, which a deletion must then undo.
    pub(super) is_recorded: bool,
    /// Keys of records of which the log refused to hear that they are no more. It is told again.
    pub(super) leftovers: BTreeSet<Bytes>,
    pub(super) writes: BTreeMap<Ticket, Write>,
    pub(super) next_ticket: u64,
}

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    Preparing(Preparing),
    /// With the leader's assignments on their way into the log, once it has sent them.
    Completing {
        writing: Option<Ticket>,
    },
    Stable,
    /// There are next-generation members.
    Consuming,
    Dead,
}

/// A rebalance that waits for members to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Preparing {
    pub(super) complete_at: Time,
    /// For the first rebalance of an empty group, which gives more members time to come.
    pub(super) initial: Option<Initial>,
}

/// How the first rebalance of an empty group waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Initial {
    /// How much longer it may be put off altogether.
    pub(super) remaining: Duration,
    /// Whether somebody came since the last look.
    pub(super) has_grown: bool,
}

/// What follows from a write once it is durable or refused.
#[derive(Debug)]
pub(super) enum Write {
    /// The group as it is now; nobody waits for it.
    Group,
    /// The leader's assignments.
    Assignments,
    /// A static member under a new id, which joins without a rebalance.
    StaticMember { member: Arc<str>, leader_before: Arc<str> },
    /// Offsets to remember.
    Commit(Commit),
    /// Offsets to forget.
    Deletion(Deletion),
    /// The whole group.
    GroupDeletion { waiter: Option<Waiter> },
    /// What changed in a next-generation group.
    Consumers(Persisting),
    /// What these keys stood for is no more.
    Tombstones(BTreeSet<Bytes>),
}

impl Group {
    pub(super) fn new(id: GroupId) -> Self {
        Self {
            id,
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            roster: Roster::default(),
            consumers: None,
            pending: BTreeMap::new(),
            sync_by: None,
            subscribed: None,
            offsets: Offsets::default(),
            undecided: Undecided::default(),
            kept_until: Time::default(),
            expiry_at: None,
            is_recorded: false,
            leftovers: BTreeSet::new(),
            writes: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    pub(super) fn kind(&self) -> GroupState {
        match self.state {
            State::Empty => GroupState::Empty,
            State::Preparing(_) => GroupState::PreparingRebalance,
            State::Completing { .. } => GroupState::CompletingRebalance,
            State::Stable => GroupState::Stable,
            State::Consuming => {
                self.consumers.as_ref().map_or(GroupState::Empty, |consumers| consumers.kind())
            }
            State::Dead => GroupState::Dead,
        }
    }

    /// Whether there is nothing left that anyone could ask for, here or in the log.
    pub(super) fn is_void(&self) -> bool {
        matches!(self.state, State::Empty | State::Dead)
            && self.roster.is_empty()
            && self.pending.is_empty()
            && self.offsets.is_empty()
            && self.undecided.is_empty()
            && !self.is_recorded
            && self.leftovers.is_empty()
            && self.writes.is_empty()
    }

    /// An estimate of the memory it takes, on the large side.
    pub(super) fn bytes(&self) -> usize {
        const GROUP_BYTES: usize = 512;
        let pending: usize = self.pending.keys().map(|id| id.len() + 64).sum();
        let consumers = self.consumers.as_ref().map_or(0, |consumers| consumers.bytes());
        let leftovers: usize = self.leftovers.iter().map(|key| key.len() + 64).sum();
        let members = self.roster.bytes() + consumers + pending + leftovers;
        let offsets = self.offsets.bytes() + self.undecided.bytes();
        GROUP_BYTES + self.id.as_str().len() + offsets + members
    }

    /// When [`Group::tick`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let complete_at = match self.state {
            State::Preparing(preparing) => Some(preparing.complete_at),
            State::Empty
            | State::Completing { .. }
            | State::Stable
            | State::Consuming
            | State::Dead => None,
        };
        let given_up = self.pending.values().min().copied();
        let silent = self.roster.next_deadline();
        let overdue = self.consumers.as_ref().and_then(|consumers| consumers.next_deadline());
        let timers = [complete_at, given_up, self.sync_by, self.expiry_at, silent, overdue];
        timers.into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        self.drop_silent(turn);
        self.drop_overdue_consumers(turn);
        if let State::Preparing(preparing) = self.state
            && preparing.complete_at <= turn.now
        {
            self.end_waiting(preparing, turn);
        }
        if self.sync_by.is_some_and(|time| time <= turn.now) {
            self.drop_unsynced(turn);
        }
        if self.expiry_at.is_some_and(|time| time <= turn.now) {
            self.expire(turn);
        }
    }

    /// Asks for records to be written; the result comes back to [`Group::written`].
    pub(super) fn write(
        &mut self,
        records: Vec<Record>,
        write: Write,
        turn: &mut Turn<'_>,
    ) -> Ticket {
        self.write_within(records, write, None, turn)
    }

    /// The same for what is part of a transaction.
    pub(super) fn write_within(
        &mut self,
        records: Vec<Record>,
        write: Write,
        within: Option<Within>,
        turn: &mut Turn<'_>,
    ) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.writes.insert(ticket, write);
        turn.effects.appends.push(Append { ticket, records, within });
        ticket
    }

    /// Learns that a write is durable, or refused with this error.
    ///
    /// Tickets come back in the order in which they were given out.
    pub(super) fn written(
        &mut self,
        ticket: Ticket,
        result: Result<(), ErrorCode>,
        turn: &mut Turn<'_>,
    ) {
        let write = self.writes.remove(&ticket);
        match write.expect("a ticket comes back once") {
            Write::Group => {}
            Write::Assignments => self.end_assigning(ticket, result, turn),
            Write::StaticMember { member, leader_before } => {
                self.end_static_join(&member, &leader_before, result, turn);
            }
            Write::Commit(commit) => self.end_commit(commit, result, turn),
            Write::Deletion(deletion) => self.end_deletion(deletion, result, turn),
            Write::GroupDeletion { waiter } => self.end_group_deletion(waiter, result, turn),
            Write::Consumers(persisting) => self.end_persisting(persisting, result, turn),
            Write::Tombstones(keys) => self.end_burying(keys, result, turn),
        }
    }

    /// Answers the members that wait for their generation or assignment.
    pub(super) fn refuse_members(&mut self, code: ErrorCode, turn: &mut Turn<'_>) {
        for id in self.roster.ids(|_| true) {
            self.refuse_waiting(&id, code, turn);
        }
    }

    /// Answers everyone who still waits: this node coordinates the group no longer.
    pub(super) fn abandon(&mut self, code: ErrorCode, turn: &mut Turn<'_>) {
        self.refuse_members(code, turn);
        for write in std::mem::take(&mut self.writes).into_values() {
            match write {
                Write::Commit(Commit { waiter, .. })
                | Write::Deletion(Deletion {
                    reason: DeletionReason::Asked { waiter, .. }, ..
                }) => {
                    turn.reply(Reply::Offsets(waiter, Err(code)));
                }
                Write::GroupDeletion { waiter: Some(waiter) } => {
                    turn.reply(Reply::Deleted(waiter, Err(code)));
                }
                Write::Consumers(persisting) => persisting.abandon(code, turn),
                Write::Group
                | Write::Tombstones(_)
                | Write::Assignments
                | Write::StaticMember { .. }
                | Write::Deletion(_)
                | Write::GroupDeletion { waiter: None } => {}
            }
        }
    }

    /// Whether `member` is who it says it is.
    pub(super) fn check_member(
        &self,
        member: &str,
        instance: Option<&str>,
    ) -> Result<(), ErrorCode> {
        match instance.map(|instance| self.roster.holder(instance)) {
            Some(None) => Err(ErrorCode::UnknownMemberId),
            Some(Some(holder)) if **holder != *member => Err(ErrorCode::FencedInstanceId),
            _ if !self.roster.contains(member) => Err(ErrorCode::UnknownMemberId),
            _ => Ok(()),
        }
    }

    pub(super) fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }
}
