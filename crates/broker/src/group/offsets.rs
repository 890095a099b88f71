//! Pure: committed offsets: how far a group has come.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rafka_core::batch::Outcome;
use rafka_core::{ErrorCode, Offset, PartitionIndex, ProducerId, Time, Timestamp, TopicName};

use super::effects::{Reply, Turn, Waiter};
use super::log::Topics;
use super::machine::{Group, State, Write};
use super::ops::{
    CommitOffsets, CommittedOffset, FetchOffsets, FetchedOffset, OffsetToCommit, PartitionResult,
    Position, Within,
};
use super::record::{self, Record};

/// What an offset costs beside its texts: a generous guess.
const OVERHEAD_BYTES: usize = 160;

/// A partition by the name of its topic, as groups know it.
pub(super) type Partition = (TopicName, PartitionIndex);

/// A committed offset with its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) committed: CommittedOffset,
    pub(super) committed_at: Timestamp,
    /// When it may be forgotten, unless the group's members keep it longer.
    pub(super) kept_until: Time,
}

/// The committed offsets of a group.
#[derive(Debug, Clone, Default)]
pub(super) struct Offsets {
    entries: BTreeMap<Partition, Entry>,
    bytes: usize,
}

/// Offsets on their way into the log.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) waiter: Waiter,
    pub(super) results: Vec<PartitionResult>,
    pub(super) entries: Vec<(Partition, Entry)>,
    pub(super) within: Option<CommitWithin>,
}

/// The transaction of a commit.
#[derive(Debug)]
pub(super) struct CommitWithin {
    pub(super) producer: ProducerId,
    /// How it has ended while the commit was on its way.
    pub(super) ended: Option<Outcome>,
}

/// Offsets on their way out.
#[derive(Debug)]
pub(super) struct Deletion {
    pub(super) reason: DeletionReason,
    pub(super) partitions: Vec<Partition>,
}

#[derive(Debug)]
pub(super) enum DeletionReason {
    Asked { waiter: Waiter, results: Vec<PartitionResult> },
    Expired,
    TopicGone,
}

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, partition: &Partition) -> Option<&Entry> {
        self.entries.get(partition)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Partition, &Entry)> {
        self.entries.iter()
    }

    pub(super) fn insert(&mut self, partition: Partition, entry: Entry) {
        self.remove(&partition);
        self.bytes += entry_bytes(&partition, &entry);
        self.entries.insert(partition, entry);
    }

    pub(super) fn remove(&mut self, partition: &Partition) {
        if let Some(entry) = self.entries.remove(partition) {
            self.bytes -= entry_bytes(partition, &entry);
        }
    }
}

pub(super) fn entry_bytes(partition: &Partition, entry: &Entry) -> usize {
    OVERHEAD_BYTES + partition.0.as_str().len() + entry.committed.metadata.len()
}

impl Group {
    /// Remembers how far the group has come in `topics`. The answer comes once that is durable.
    pub(super) fn commit(
        &mut self,
        commit: CommitOffsets,
        within: Option<Within>,
        topics: &Topics,
        waiter: Waiter,
        turn: &mut Turn<'_>,
    ) {
        let checked = match within {
            None => self.check_commit(&commit),
            Some(_) => self.check_commit_within(&commit),
        };
        if let Err(code) = checked {
            turn.reply(Reply::Offsets(waiter, Err(code)));
            return;
        }
        self.keep_alive(&commit.member, turn);
        let metadata_max = turn.settings.offset_metadata_bytes_max.as_usize();
        let kept_until = turn.now + turn.settings.offsets_retention;
        let (mut results, mut entries) = (Vec::new(), Vec::new());
        for OffsetToCommit { topic, partition, committed } in commit.offsets {
            let result = if !topics.has_partition(&topic, partition) {
                // Kept, it would be where a later topic of that name begins.
                Err(ErrorCode::UnknownTopicOrPartition)
            } else if metadata_max < committed.metadata.len() {
                Err(ErrorCode::OffsetMetadataTooLarge)
            } else if committed.offset < Offset::ZERO {
                Err(ErrorCode::OffsetOutOfRange)
            } else {
                let committed_at = turn.timestamp;
                let entry = Entry { committed, committed_at, kept_until };
                entries.push(((topic.clone(), partition), entry));
                Ok(())
            };
            results.push(PartitionResult { topic, partition, result });
        }
        if entries.is_empty() {
            turn.reply(Reply::Offsets(waiter, Ok(results)));
            return;
        }
        let record = |(partition, entry): &(Partition, Entry)| {
            record::offset(&self.id, partition, &entry.committed, entry.committed_at)
        };
        let records = entries.iter().map(record).collect();
        let producer = within.map(|within| within.producer);
        let commit_within = producer.map(|producer| CommitWithin { producer, ended: None });
        let commit = Commit { waiter, results, entries, within: commit_within };
        self.write_within(records, Write::Commit(commit), within, turn);
    }

    /// Those who commit in a transaction need not say which member they are; if they do, they must
    /// be current.
    fn check_commit_within(&self, commit: &CommitOffsets) -> Result<(), ErrorCode> {
        let is_outsider =
            commit.generation < 0 && commit.member.is_empty() && commit.instance.is_none();
        if is_outsider && self.state != State::Dead {
            return Ok(());
        }
        match self.check_commit(commit) {
            // The transaction decides what counts, not the rebalance.
            Err(ErrorCode::RebalanceInProgress) => Ok(()),
            Err(ErrorCode::StaleMemberEpoch) => Err(ErrorCode::IllegalGeneration),
            checked => checked,
        }
    }

    fn check_commit(&self, commit: &CommitOffsets) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let is_outsider = commit.generation < 0;
        if is_outsider && self.state == State::Empty {
            return Ok(());
        }
        if is_outsider && commit.member.is_empty() && commit.instance.is_none() {
            // The members decide how far their group has come, while there are any.
            return Err(ErrorCode::UnknownMemberId);
        }
        let is_group_unknown = self.generation == 0 && self.state == State::Empty;
        if is_group_unknown {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.state == State::Consuming {
            return self.check_consumer(&commit.member, commit.generation);
        }
        self.check_member(&commit.member, commit.instance.as_deref())?;
        if commit.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            // The member knows the new generation but not yet what it owns in it.
            State::Completing { .. } => Err(ErrorCode::RebalanceInProgress),
            State::Preparing(_) | State::Stable | State::Empty | State::Consuming | State::Dead => {
                Ok(())
            }
        }
    }

    pub(super) fn end_commit(
        &mut self,
        mut commit: Commit,
        result: Result<(), ErrorCode>,
        turn: &mut Turn<'_>,
    ) {
        match (result, commit.within) {
            (Err(code), _) => refuse(&mut commit.results, code),
            (Ok(()), None) => self.count_last(commit.entries),
            (Ok(()), Some(CommitWithin { producer, ended: None })) => {
                for (partition, entry) in commit.entries {
                    let bytes = entry_bytes(&partition, &entry);
                    self.undecided.insert(producer, partition, bytes, entry);
                }
            }
            (Ok(()), Some(CommitWithin { ended: Some(Outcome::Commit), .. })) => {
                self.count_last(commit.entries);
            }
            (Ok(()), Some(CommitWithin { ended: Some(Outcome::Abort), .. })) => {}
        }
        turn.reply(Reply::Offsets(commit.waiter, Ok(commit.results)));
    }

    /// From now on the group has come so far: it is what the log says last.
    fn count_last(&mut self, entries: Vec<(Partition, Entry)>) {
        for (partition, _) in &entries {
            // What a transaction wrote before it will not take it back.
            self.undecided.remove(partition);
        }
        self.count(entries);
    }

    /// From now on the group has come so far.
    fn count(&mut self, entries: Vec<(Partition, Entry)>) {
        for (partition, entry) in entries {
            self.expire_by(&partition, &entry);
            self.offsets.insert(partition, entry);
        }
    }

    /// A producer's transaction has ended, and that is durable.
    pub(super) fn end_transaction(
        &mut self,
        producer: ProducerId,
        outcome: Outcome,
        turn: &Turn<'_>,
    ) {
        for write in self.writes.values_mut() {
            if let Write::Commit(Commit { within: Some(within), .. }) = write
                && within.producer == producer
            {
                within.ended = Some(outcome);
            }
        }
        let counting = self.undecided.end(producer, outcome);
        self.count(counting);
        self.plan_expiry(turn.now);
    }

    /// How far the group has come, as far as that is durable: everywhere, or where it is asked.
    pub(super) fn fetch(&self, fetch: &FetchOffsets) -> Result<Vec<FetchedOffset>, ErrorCode> {
        if self.state == State::Consuming
            && let Some((member, epoch)) = &fetch.member
        {
            self.check_consumer(member, *epoch)?;
        }
        let fetched = |at: &Partition| FetchedOffset {
            topic: at.0.clone(),
            partition: at.1,
            committed: self.offsets.get(at).map(|entry| entry.committed.clone()),
            is_unstable: fetch.require_stable && self.is_undecided(at),
        };
        let nothing = |(topic, partition): &Partition| FetchedOffset {
            topic: topic.clone(),
            partition: *partition,
            committed: None,
            is_unstable: false,
        };
        let is_dead = self.state == State::Dead;
        Ok(match &fetch.partitions {
            None if is_dead => Vec::new(),
            Some(partitions) if is_dead => partitions.iter().map(nothing).collect(),
            None => {
                let known = self.offsets.iter().map(|(at, _)| at);
                let undecided = self.undecided.partitions().filter(|_| fetch.require_stable);
                known.chain(undecided).collect::<BTreeSet<_>>().into_iter().map(fetched).collect()
            }
            Some(partitions) => partitions.iter().map(fetched).collect(),
        })
    }

    /// Whether an open transaction may change how far the group has come there.
    pub(super) fn is_undecided(&self, partition: &Partition) -> bool {
        self.undecided.contains(partition)
            || self.writes.values().any(|write| {
                let Write::Commit(Commit { within: Some(_), entries, .. }) = write else {
                    return false;
                };
                entries.iter().any(|(at, _)| at == partition)
            })
    }

    /// Adds what lag is computed from.
    pub(super) fn positions(&self, out: &mut Vec<Position>) {
        out.extend(self.offsets.iter().map(|((topic, partition), entry)| Position {
            group: self.id.clone(),
            topic: topic.clone(),
            partition: *partition,
            offset: entry.committed.offset,
            committed_at: entry.committed_at,
        }));
    }

    /// Forgets how far the group had come. The answer comes once that is durable.
    pub(super) fn delete_offsets(
        &mut self,
        partitions: Vec<Partition>,
        waiter: Waiter,
        turn: &mut Turn<'_>,
    ) {
        let is_in_use = match (self.state, &self.subscribed) {
            (State::Dead, _) => Some(ErrorCode::GroupIdNotFound),
            (State::Empty, _) | (_, Some(_)) => None,
            _ => Some(ErrorCode::NonEmptyGroup),
        };
        if let Some(code) = is_in_use {
            turn.reply(Reply::Offsets(waiter, Err(code)));
            return;
        }
        let topics = self.subscribed.as_ref().filter(|_| self.state != State::Empty);
        let (mut results, mut deleted) = (Vec::new(), BTreeSet::new());
        for (topic, partition) in partitions {
            let is_subscribed = topics.is_some_and(|topics| topics.contains(topic.as_str()));
            let result =
                if is_subscribed { Err(ErrorCode::GroupSubscribedToTopic) } else { Ok(()) };
            if result.is_ok() && self.has_offset(&(topic.clone(), partition)) {
                deleted.insert((topic.clone(), partition));
            }
            results.push(PartitionResult { topic, partition, result });
        }
        if deleted.is_empty() {
            turn.reply(Reply::Offsets(waiter, Ok(results)));
        } else {
            let partitions = deleted.into_iter().collect();
            self.forget(DeletionReason::Asked { waiter, results }, partitions, turn);
        }
    }

    /// The topic is gone: a later topic of the same name shall not begin at its offsets.
    pub(super) fn forget_topic(&mut self, topic: &TopicName, turn: &mut Turn<'_>) {
        let known = self.known_partitions(|(name, _)| name == topic);
        let partitions: Vec<Partition> = known.into_iter().collect();
        if !partitions.is_empty() && self.state != State::Dead {
            self.forget(DeletionReason::TopicGone, partitions, turn);
        }
    }

    /// Takes out of the log what was not taken in from it, because its topics are gone.
    pub(super) fn forget_gone(&mut self, partitions: Vec<Partition>, turn: &mut Turn<'_>) {
        self.forget(DeletionReason::TopicGone, partitions, turn);
    }

    pub(super) fn forget(
        &mut self,
        reason: DeletionReason,
        partitions: Vec<Partition>,
        turn: &mut Turn<'_>,
    ) {
        let tombstone = |partition: &Partition| record::offset_tombstone(&self.id, partition);
        let records: Vec<Record> = partitions.iter().map(tombstone).collect();
        self.write(records, Write::Deletion(Deletion { reason, partitions }), turn);
    }

    pub(super) fn end_deletion(
        &mut self,
        deletion: Deletion,
        result: Result<(), ErrorCode>,
        turn: &mut Turn<'_>,
    ) {
        let Deletion { reason, partitions } = deletion;
        let is_topic_gone = matches!(reason, DeletionReason::TopicGone);
        if result.is_ok() || is_topic_gone {
            for partition in &partitions {
                self.offsets.remove(partition);
                self.undecided.remove(partition);
            }
        }
        self.plan_expiry(turn.now);
        if is_topic_gone && result.is_err() {
            let key = |partition: &Partition| record::offset_key(&self.id, partition);
            let keys: Vec<Bytes> = partitions.iter().map(key).collect();
            self.tell_again(keys, turn);
        }
        if let DeletionReason::Asked { waiter, mut results } = reason {
            if let Err(code) = result {
                refuse(&mut results, code);
            }
            turn.reply(Reply::Offsets(waiter, Ok(results)));
        }
    }

    /// Whether there is an offset, or will be once the commits under way are durable.
    fn has_offset(&self, partition: &Partition) -> bool {
        self.offsets.get(partition).is_some()
            || self.is_undecided(partition)
            || self.committing().any(|(committing, _)| committing == partition)
    }

    /// The wanted partitions with an offset, those of the commits and transactions under way
    /// included.
    pub(super) fn known_partitions(
        &self,
        wanted: impl Fn(&Partition) -> bool,
    ) -> BTreeSet<Partition> {
        let durable = self.offsets.iter().map(|(partition, _)| partition);
        let durable = durable.chain(self.undecided.partitions());
        let all = durable.chain(self.committing().map(|(partition, _)| partition));
        all.filter(|partition| wanted(partition)).cloned().collect()
    }

    fn committing(&self) -> impl Iterator<Item = &(Partition, Entry)> {
        self.writes.values().flat_map(|write| match write {
            Write::Commit(commit) => commit.entries.as_slice(),
            Write::Group
            | Write::Assignments
            | Write::StaticMember { .. }
            | Write::Deletion(_)
            | Write::GroupDeletion { .. }
            | Write::Consumers(_)
            | Write::Tombstones(_) => &[],
        })
    }
}

fn refuse(results: &mut [PartitionResult], code: ErrorCode) {
    for refused in results.iter_mut().filter(|result| result.result.is_ok()) {
        refused.result = Err(code);
    }
}
