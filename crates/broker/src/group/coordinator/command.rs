//! What the handle asks of the owner, and who waits for the answers.

use std::collections::BTreeMap;

use rafka_core::batch::Outcome;
use rafka_core::{Epoch, ErrorCode, GroupId, PartitionIndex, ProducerId, TopicName};
use tokio::sync::oneshot;

use crate::group::Topics;
use crate::group::consumer::ops::{
    ConsumerGroupDescription, ConsumerHeartbeat, ConsumerInstruction,
};
use crate::group::effects::{Refusal, Reply, Waiter};
use crate::group::offsets::Partition;
use crate::group::ops::{
    CommitOffsets, FetchOffsets, FetchedOffset, GroupDescription, GroupListing, GroupState,
    GroupType, Heartbeat, Join, Joined, Leave, PartitionResult, Position, Sync, Synced, Within,
};

/// Where an answer goes.
pub(super) type To<T> = oneshot::Sender<Result<T, ErrorCode>>;

#[derive(Debug)]
pub(super) enum Command {
    Lead {
        partition: PartitionIndex,
        epoch: Epoch,
        topics: Option<Topics>,
    },
    Resign {
        partition: PartitionIndex,
    },
    ForgetTopic {
        topic: TopicName,
    },
    EndTransaction {
        partition: PartitionIndex,
        producer: ProducerId,
        outcome: Outcome,
        reply: oneshot::Sender<()>,
    },
    Group {
        partition: PartitionIndex,
        group: GroupId,
        op: Op,
    },
    List {
        states: Vec<GroupState>,
        kinds: Vec<GroupType>,
        reply: To<Vec<GroupListing>>,
    },
    Positions {
        reply: oneshot::Sender<Vec<Position>>,
    },
}

/// A request to one group.
#[derive(Debug)]
pub(super) enum Op {
    Join { join: Join, reply: oneshot::Sender<Result<Joined, Refusal>> },
    Sync { sync: Sync, reply: To<Synced> },
    Heartbeat { beat: Heartbeat, reply: To<()> },
    Leave { leave: Leave, reply: To<Vec<Result<(), ErrorCode>>> },
    Commit { commit: CommitOffsets, within: Option<Within>, reply: To<Vec<PartitionResult>> },
    Fetch { fetch: FetchOffsets, reply: To<Vec<FetchedOffset>> },
    DeleteOffsets { partitions: Vec<Partition>, reply: To<Vec<PartitionResult>> },
    Delete { reply: To<()> },
    Describe { reply: To<GroupDescription> },
    Consumer { beat: Box<ConsumerHeartbeat>, reply: To<ConsumerInstruction> },
    DescribeConsumers { reply: To<ConsumerGroupDescription> },
}

impl Command {
    /// Answers what will not be done.
    pub(super) fn refuse(self, code: ErrorCode) {
        match self {
            Self::Group { op, .. } => op.refuse(code),
            Self::List { reply, .. } => answer(reply, Err(code)),
            Self::Positions { reply } => drop(reply),
            Self::EndTransaction { reply, .. } => drop(reply),
            Self::Lead { .. } | Self::Resign { .. } | Self::ForgetTopic { .. } => {}
        }
    }
}

impl Op {
    /// Answers what will not be done.
    pub(super) fn refuse(self, code: ErrorCode) {
        match self {
            Self::Join { reply, .. } => answer(reply, Err(Refusal::Code(code))),
            Self::Sync { reply, .. } => answer(reply, Err(code)),
            Self::Heartbeat { reply, .. } | Self::Delete { reply } => answer(reply, Err(code)),
            Self::Leave { reply, .. } => answer(reply, Err(code)),
            Self::Commit { reply, .. } | Self::DeleteOffsets { reply, .. } => {
                answer(reply, Err(code));
            }
            Self::Fetch { reply, .. } => answer(reply, Err(code)),
            Self::Describe { reply } => answer(reply, Err(code)),
            Self::Consumer { reply, .. } => answer(reply, Err(code)),
            Self::DescribeConsumers { reply } => answer(reply, Err(code)),
        }
    }
}

/// Those who wait for a group to answer.
#[derive(Debug, Default)]
pub(super) struct Desk {
    next: u64,
    joins: BTreeMap<Waiter, oneshot::Sender<Result<Joined, Refusal>>>,
    syncs: BTreeMap<Waiter, To<Synced>>,
    offsets: BTreeMap<Waiter, To<Vec<PartitionResult>>>,
    deletions: BTreeMap<Waiter, To<()>>,
    consumers: BTreeMap<Waiter, To<ConsumerInstruction>>,
}

impl Desk {
    fn number(&mut self) -> Waiter {
        self.next += 1;
        Waiter(self.next)
    }

    pub(super) fn await_join(&mut self, to: oneshot::Sender<Result<Joined, Refusal>>) -> Waiter {
        let waiter = self.number();
        self.joins.insert(waiter, to);
        waiter
    }

    pub(super) fn await_sync(&mut self, to: To<Synced>) -> Waiter {
        let waiter = self.number();
        self.syncs.insert(waiter, to);
        waiter
    }

    pub(super) fn await_offsets(&mut self, to: To<Vec<PartitionResult>>) -> Waiter {
        let waiter = self.number();
        self.offsets.insert(waiter, to);
        waiter
    }

    pub(super) fn await_deletion(&mut self, to: To<()>) -> Waiter {
        let waiter = self.number();
        self.deletions.insert(waiter, to);
        waiter
    }

    pub(super) fn await_consumer(&mut self, to: To<ConsumerInstruction>) -> Waiter {
        let waiter = self.number();
        self.consumers.insert(waiter, to);
        waiter
    }

    pub(super) fn deliver(&mut self, reply: Reply) {
        match reply {
            Reply::Join(waiter, answer) => send(self.joins.remove(&waiter), answer),
            Reply::Sync(waiter, answer) => send(self.syncs.remove(&waiter), answer),
            Reply::Offsets(waiter, answer) => send(self.offsets.remove(&waiter), answer),
            Reply::Deleted(waiter, answer) => send(self.deletions.remove(&waiter), answer),
            Reply::Consumer(waiter, answer) => send(self.consumers.remove(&waiter), answer),
        }
    }
}

fn send<A>(to: Option<oneshot::Sender<A>>, answer: A) {
    let to = to.expect("a group answers each waiter once, and only those it was given");
    self::answer(to, answer);
}

/// Answers. Who went away meanwhile does not hear it, and nothing else changes.
pub(super) fn answer<A>(to: oneshot::Sender<A>, value: A) {
    let _gone = to.send(value);
}
