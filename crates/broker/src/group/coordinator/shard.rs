//! Pure: the groups of one partition of `__consumer_offsets`, and their writes on the way.

use std::collections::{BTreeMap, VecDeque};

use rafka_core::{Epoch, ErrorCode, GroupId, Time};

use crate::group::effects::Ticket;
use crate::group::loader::Loader;
use crate::group::machine::Group;

/// A partition that this node leads.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) epoch: Epoch,
    pub(super) phase: Phase,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// The log is being read. Its groups cannot be asked anything yet.
    Loading(Loader),
    Ready(Groups),
}

/// The groups of a partition.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) by_id: BTreeMap<GroupId, Slot>,
    /// Writes on their way, the oldest first.
    writes: VecDeque<InFlight>,
    /// The number of the oldest of them.
    first: u64,
}

/// A group and when the timer will look at it: never too late, but maybe too early.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) group: Group,
    pub(super) planned: Option<Time>,
}

#[derive(Debug)]
struct InFlight {
    group: GroupId,
    ticket: Ticket,
    result: Option<Result<(), ErrorCode>>,
}

impl Groups {
    /// Notes a write, and gives it a number.
    pub(super) fn launch(&mut self, group: GroupId, ticket: Ticket) -> u64 {
        self.writes.push_back(InFlight { group, ticket, result: None });
        self.first + u64::try_from(self.writes.len()).expect("a length fits 64 bits") - 1
    }

    /// Notes how a write ended.
    pub(super) fn land(&mut self, number: u64, result: Result<(), ErrorCode>) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(write) = index.and_then(|index| self.writes.get_mut(index)) {
            write.result = Some(result);
        }
    }

    /// The oldest write, once it has ended: groups learn of their writes in the log's order, so
    /// that what they remember is what the log says.
    pub(super) fn next_landed(&mut self) -> Option<(GroupId, Ticket, Result<(), ErrorCode>)> {
        let result = self.writes.front()?.result?;
        let write = self.writes.pop_front()?;
        self.first += 1;
        Some((write.group, write.ticket, result))
    }
}
