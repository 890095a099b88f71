//! Pure: the groups of one partition of `__consumer_offsets`, and their writes on the way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rafka_core::batch::Outcome;
use rafka_core::rng::RngExt as _;
use rafka_core::{Epoch, ErrorCode, GroupId, ProducerId, Rng, Time, TopicName};

use crate::group::Topics;
use crate::group::effects::Ticket;
use crate::group::loader::Loader;
use crate::group::machine::Group;
use crate::group::offsets::Partition;

/// How long to wait at first before a log that could not be read is tried again.
const LOAD_PAUSE_MIN: Duration = Duration::from_secs(1);

/// How long at most: each attempt reads the same bytes again and logs the same error.
const LOAD_PAUSE_MAX: Duration = Duration::from_secs(60);

/// A partition that this node leads.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) epoch: Epoch,
    pub(super) phase: Phase,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// The log is being read. Its groups cannot be asked anything yet.
    Loading(Loading),
    Ready(Groups),
}

/// A partition whose log is being read.
#[derive(Debug)]
pub(super) struct Loading {
    pub(super) loader: Loader,
    /// The topics at the beginning of the leadership: who made one later has committed nothing
    /// before, whatever the log says of its name.
    topics: Option<Topics>,
    /// Those that were deleted since.
    forgotten: BTreeSet<TopicName>,
    /// Transactions that have ended since the beginning of the leadership.
    ended: Vec<(ProducerId, Outcome)>,
    /// Attempts to read on that have failed in a row.
    failures: u32,
}

impl Loading {
    pub(super) fn new(topics: Option<Topics>) -> Self {
        Self {
            loader: Loader::default(),
            topics,
            forgotten: BTreeSet::new(),
            ended: Vec::new(),
            failures: 0,
        }
    }

    pub(super) fn end_transaction(&mut self, producer: ProducerId, outcome: Outcome) {
        self.ended.push((producer, outcome));
    }

    pub(super) fn forget_topic(&mut self, topic: TopicName) {
        self.forgotten.insert(topic);
    }

    pub(super) fn progressed(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more attempt that failed.
    pub(super) fn next_pause(&mut self, rng: &mut Rng) -> Duration {
        let pause = LOAD_PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(LOAD_PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        // Partitions that failed together do not come back together.
        pause.mul_f64(rng.random_range(0.75..=1.0))
    }

    /// Ends the load: what was found, and by group the offsets that are to be forgotten, because
    /// their topics are gone.
    pub(super) fn finish(self) -> (Loader, BTreeMap<GroupId, Vec<Partition>>) {
        let Self { mut loader, topics, forgotten, ended, .. } = self;
        for (producer, outcome) in ended {
            loader.end_transaction(producer, outcome);
        }
        let is_gone = |topic: &TopicName| {
            forgotten.contains(topic)
                || topics.as_ref().is_some_and(|topics| !topics.contains(topic))
        };
        let gone = loader.leave_out(is_gone);
        (loader, gone)
    }
}

/// The groups of a partition.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) by_id: BTreeMap<GroupId, Slot>,
    /// Which groups' offsets open transactions commit.
    pub(super) transactions: BTreeMap<ProducerId, BTreeSet<GroupId>>,
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
