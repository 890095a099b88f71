//! Pure: what a step of a group is given, and what it wants done.

use rafka_core::{ErrorCode, Rng, Time, Timestamp};

use super::Settings;
use super::consumer::ops::ConsumerInstruction;
use super::ops::{Joined, PartitionResult, Synced, Within};
use super::record::Record;

/// Who waits for an answer. Given by the caller, never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Waiter(pub(super) u64);

/// A write that a group has asked for. Counted from 0 by each group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket(pub(super) u64);

/// The moment and the means of one step.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) now: Time,
    pub(super) timestamp: Timestamp,
    pub(super) settings: &'a Settings,
    pub(super) rng: &'a mut Rng,
    pub(super) effects: Effects,
}

/// What must happen because of a step: answers at once, writes in this order.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) replies: Vec<Reply>,
    pub(super) appends: Vec<Append>,
}

/// Records for the group's partition of the log.
///
/// The group must be told, in the order of its tickets, when they are durable or refused.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) ticket: Ticket,
    pub(super) records: Vec<Record>,
    /// The transaction that they are part of.
    pub(super) within: Option<Within>,
}

/// Why a member did not join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    MemberIdRequired(String),
    Code(ErrorCode),
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

/// An answer to who waited for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Join(Waiter, Result<Joined, Refusal>),
    Sync(Waiter, Result<Synced, ErrorCode>),
    Offsets(Waiter, Result<Vec<PartitionResult>, ErrorCode>),
    Deleted(Waiter, Result<(), ErrorCode>),
    Consumer(Waiter, Result<ConsumerInstruction, ErrorCode>),
}

impl Reply {
    /// The same answer, if what it rests on did not come about.
    pub(super) fn refused(self, code: ErrorCode) -> Self {
        match self {
            Self::Join(waiter, _) => Self::Join(waiter, Err(Refusal::Code(code))),
            Self::Sync(waiter, _) => Self::Sync(waiter, Err(code)),
            Self::Offsets(waiter, _) => Self::Offsets(waiter, Err(code)),
            Self::Deleted(waiter, _) => Self::Deleted(waiter, Err(code)),
            Self::Consumer(waiter, _) => Self::Consumer(waiter, Err(code)),
        }
    }
}

impl Turn<'_> {
    pub(super) fn reply(&mut self, reply: Reply) {
        self.effects.replies.push(reply);
    }

    pub(super) fn refuse_join(&mut self, waiter: Waiter, code: ErrorCode) {
        self.reply(Reply::Join(waiter, Err(Refusal::Code(code))));
    }
}
