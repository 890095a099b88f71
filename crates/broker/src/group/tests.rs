//! One group on a bench: time, waiters and the log are in the hands of the test.

mod expiry;
mod fuzz;
mod join;
mod offsets;
mod session;
mod static_members;
mod transactions;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rafka_core::batch::{BatchBuilder, EndMarker, Outcome};
use rafka_core::compression::Compression;
use rafka_core::consumer_protocol::Subscription;
use rafka_core::{
    Batch, Epoch, ErrorCode, GroupId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Rng, Time,
    Timestamp, TopicId, TopicName, rng,
};

use super::Settings;
use super::effects::{Append, Effects, Refusal, Reply, Turn, Waiter};
use super::loader::Loader;
use super::log::{Topic, TopicList, Topics};
use super::machine::Group;
use super::ops::{
    CommitOffsets, CommittedOffset, FetchOffsets, GroupState, Heartbeat, Join, Joined,
    OffsetToCommit, PartitionResult, Protocol, Sync, Synced, Within,
};

pub(super) const SECOND: Duration = Duration::from_secs(1);
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);
/// Some day in 2026.
const TODAY: Timestamp = Timestamp(1_780_000_000_000);

pub(super) fn group_id(id: &str) -> GroupId {
    GroupId::new(id).expect("the id is valid")
}

pub(super) fn topic(name: &str) -> TopicName {
    TopicName::new(name).expect("the name is valid")
}

/// Topics by name: their ids and partition counts.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownTopics {
    pub(super) version: u64,
    pub(super) by_name: BTreeMap<TopicName, Topic>,
}

impl TopicList for KnownTopics {
    fn version(&self) -> u64 {
        self.version
    }

    fn by_name(&self, name: &TopicName) -> Option<Topic> {
        self.by_name.get(name).copied()
    }

    fn name_of(&self, id: TopicId) -> Option<TopicName> {
        let found = self.by_name.iter().find(|(_, topic)| topic.id == id);
        found.map(|(name, _)| name.clone())
    }

    fn names(&self) -> Vec<TopicName> {
        self.by_name.keys().cloned().collect()
    }
}

/// Every name is a topic of one partition, but for these.
struct AllBut(Vec<TopicName>);

impl TopicList for AllBut {
    fn version(&self) -> u64 {
        0
    }

    fn by_name(&self, name: &TopicName) -> Option<Topic> {
        let topic = Topic { id: TopicId::from_random(0), partition_count: 1 };
        (!self.0.contains(name)).then_some(topic)
    }

    fn name_of(&self, _id: TopicId) -> Option<TopicName> {
        None
    }

    fn names(&self) -> Vec<TopicName> {
        Vec::new()
    }
}

/// Every name is a topic of one partition, but for these.
pub(super) fn all_but(gone: &[&str]) -> Topics {
    Topics::new(AllBut(gone.iter().map(|name| topic(name)).collect()))
}

/// Asks for all offsets.
pub(super) fn everything() -> FetchOffsets {
    FetchOffsets { group: group_id("g"), partitions: None, member: None, require_stable: false }
}

pub(super) struct Bench {
    pub(super) group: Group,
    pub(super) now: Time,
    pub(super) timestamp: Timestamp,
    pub(super) settings: Settings,
    pub(super) log: Vec<Batch>,
    /// What joins and syncs see.
    pub(super) topics: Topics,
    appends: VecDeque<Append>,
    replies: BTreeMap<Waiter, Reply>,
    waiters: u64,
    rng: Rng,
}

impl Bench {
    pub(super) fn new() -> Self {
        let settings =
            Settings { group_rebalance_delay_initial: Duration::ZERO, ..Settings::default() };
        Self {
            group: Group::new(group_id("g")),
            now: Time(1),
            timestamp: TODAY,
            settings,
            log: Vec::new(),
            topics: all_but(&[]),
            appends: VecDeque::new(),
            replies: BTreeMap::new(),
            waiters: 0,
            rng: rng::from_seed(7),
        }
    }

    pub(super) fn act<R>(&mut self, act: impl FnOnce(&mut Group, &mut Turn<'_>) -> R) -> R {
        let mut turn = Turn {
            now: self.now,
            timestamp: self.timestamp,
            settings: &self.settings,
            rng: &mut self.rng,
            effects: Effects::default(),
        };
        let result = act(&mut self.group, &mut turn);
        let Effects { replies, appends } = turn.effects;
        for reply in replies {
            let (Reply::Join(waiter, _)
            | Reply::Sync(waiter, _)
            | Reply::Offsets(waiter, _)
            | Reply::Deleted(waiter, _)
            | Reply::Consumer(waiter, _)) = reply;
            let before = self.replies.insert(waiter, reply);
            assert_eq!(before, None, "{waiter:?} was answered twice");
        }
        self.appends.extend(appends);
        self.group.roster.check();
        if let Some(consumers) = &self.group.consumers {
            consumers.check();
        }
        result
    }

    pub(super) fn waiter(&mut self) -> Waiter {
        self.waiters += 1;
        Waiter(self.waiters)
    }

    /// The oldest write that is on its way ends so.
    pub(super) fn settle_one(&mut self, result: Result<(), ErrorCode>) {
        let append = self.appends.pop_front().expect("something is on its way into the log");
        if result.is_ok() {
            self.land(&append);
        }
        self.act(|group, turn| group.written(append.ticket, result, turn));
    }

    fn land(&mut self, append: &Append) {
        for record in &append.records {
            let mut builder = BatchBuilder::new(Compression::None);
            if let Some(Within { producer, epoch, .. }) = append.within {
                builder.producer(producer, epoch, 0);
                builder.transactional();
            }
            builder.push(self.timestamp, Some(&record.key), record.value.as_deref(), &[]);
            self.log.push(builder.build().expect("no codec is there to fail"));
        }
    }

    /// A transaction ends, and its marker is durable.
    pub(super) fn end(&mut self, producer: i64, outcome: Outcome) {
        let marker = EndMarker { outcome, coordinator_epoch: Epoch(0) };
        let producer = ProducerId(producer);
        self.log.push(marker.to_batch(producer, ProducerEpoch(0), self.timestamp));
        self.act(|group, turn| group.end_transaction(producer, outcome, turn));
    }

    pub(super) fn commit_within(&mut self, producer: i64, commit: CommitOffsets) -> Waiter {
        let (producer, epoch) = (ProducerId(producer), ProducerEpoch(0));
        self.try_commit(commit, Some(Within { producer, epoch, since: None }))
    }

    /// Everything that is on its way into the log becomes durable.
    pub(super) fn settle(&mut self) {
        while !self.appends.is_empty() {
            self.settle_one(Ok(()));
        }
    }

    pub(super) fn is_writing(&self) -> bool {
        !self.appends.is_empty()
    }

    /// Lets time pass, and the group do what is due in it.
    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(deadline) = self.group.next_deadline().filter(|time| *time <= end) {
            self.move_to(deadline);
            self.act(Group::tick);
            let next = self.group.next_deadline();
            assert!(next.is_none_or(|next| self.now < next), "the timer would spin at {next:?}");
        }
        self.move_to(end);
    }

    fn move_to(&mut self, time: Time) {
        let time = time.max(self.now);
        self.timestamp = self.timestamp.plus(time - self.now);
        self.now = time;
    }

    pub(super) fn join(&mut self, join: Join) -> Waiter {
        let waiter = self.waiter();
        let topics = self.topics.clone();
        self.act(|group, turn| group.join(join, &topics, waiter, turn));
        waiter
    }

    pub(super) fn sync(&mut self, sync: Sync) -> Waiter {
        let waiter = self.waiter();
        let topics = self.topics.clone();
        self.act(|group, turn| group.sync(sync, &topics, waiter, turn));
        waiter
    }

    pub(super) fn commit(&mut self, commit: CommitOffsets) -> Waiter {
        self.try_commit(commit, None)
    }

    fn try_commit(&mut self, commit: CommitOffsets, within: Option<Within>) -> Waiter {
        let waiter = self.waiter();
        // The topic "gone" is none; every other has one partition.
        let topics = all_but(&["gone"]);
        self.act(|group, turn| group.commit(commit, within, &topics, waiter, turn));
        waiter
    }

    pub(super) fn beat(
        &mut self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        let beat = Heartbeat {
            group: self.group.id.clone(),
            member: member.to_owned(),
            instance: instance.map(str::to_owned),
            generation,
        };
        self.act(|group, turn| group.heartbeat(&beat, turn))
    }

    pub(super) fn answer(&mut self, waiter: Waiter) -> Option<Reply> {
        self.replies.remove(&waiter)
    }

    pub(super) fn is_waiting(&self, waiter: Waiter) -> bool {
        !self.replies.contains_key(&waiter)
    }

    pub(super) fn joined(&mut self, waiter: Waiter) -> Result<Joined, Refusal> {
        match self.answer(waiter) {
            Some(Reply::Join(_, answer)) => answer,
            other => panic!("not the answer to a join: {other:?}"),
        }
    }

    pub(super) fn synced(&mut self, waiter: Waiter) -> Result<Synced, ErrorCode> {
        match self.answer(waiter) {
            Some(Reply::Sync(_, answer)) => answer,
            other => panic!("not the answer to a sync: {other:?}"),
        }
    }

    pub(super) fn offsets(&mut self, waiter: Waiter) -> Result<Vec<PartitionResult>, ErrorCode> {
        match self.answer(waiter) {
            Some(Reply::Offsets(_, answer)) => answer,
            other => panic!("not the answer about offsets: {other:?}"),
        }
    }

    pub(super) fn deleted(&mut self, waiter: Waiter) -> Result<(), ErrorCode> {
        match self.answer(waiter) {
            Some(Reply::Deleted(_, answer)) => answer,
            other => panic!("not the answer to a deletion: {other:?}"),
        }
    }

    /// A stable group of so many members in generation 2, with their ids. The first one leads.
    pub(super) fn stable(members: usize) -> (Self, Vec<String>) {
        let mut bench = Self::new();
        let first = bench.join(newcomer(&["before"]));
        let first = bench.joined(first).expect("it is alone").member;
        let others: Vec<Waiter> = (1..members).map(|_| bench.join(newcomer(&["t"]))).collect();
        let leader = bench.join(again(&first));
        assert_eq!(bench.joined(leader).expect("all are here").generation, 2);
        let others = others.into_iter();
        let joined = others.map(|waiter| bench.joined(waiter).expect("all are here").member);
        let ids: Vec<String> = std::iter::once(first).chain(joined.collect::<Vec<_>>()).collect();
        bench.share(&ids);
        (bench, ids)
    }

    /// All members sync, and everything becomes durable. Each gets its own id for an assignment.
    pub(super) fn share(&mut self, ids: &[String]) {
        let generation = self.group.generation;
        let leader = self.group.leader.as_deref().expect("there is a leader").to_owned();
        for id in ids {
            let assignments = if *id == leader { assignments(ids) } else { Vec::new() };
            let waiter = self.sync(Sync { assignments, ..sync(id, generation) });
            self.settle();
            if *id != leader && self.is_waiting(waiter) {
                continue;
            }
            self.answer(waiter);
        }
        self.settle();
        assert_eq!(self.group.kind(), GroupState::Stable);
    }

    /// The group as another coordinator would find it in the log.
    pub(super) fn reloaded(&mut self) -> Option<Group> {
        let mut loader = Loader::default();
        for batch in &self.log {
            loader.take(batch).expect("readable");
        }
        let turn = Turn {
            now: self.now,
            timestamp: self.timestamp,
            settings: &self.settings,
            rng: &mut self.rng,
            effects: Effects::default(),
        };
        let mut groups = loader.finish(&turn);
        assert!(groups.len() <= 1);
        groups.pop()
    }

    /// Another coordinator takes over, when so many of the writes on their way have landed.
    pub(super) fn restart(&mut self, landed: usize) {
        let appends: Vec<Append> = self.appends.drain(..).collect();
        for append in appends.iter().take(landed) {
            self.land(append);
        }
        self.group = self.reloaded().unwrap_or_else(|| Group::new(group_id("g")));
        self.group.roster.check();
    }

    pub(super) fn write_count(&self) -> usize {
        self.appends.len()
    }

    pub(super) fn committed(&self, name: &str) -> Option<i64> {
        let partitions = Some(vec![(topic(name), PartitionIndex(0))]);
        let fetched = self.group.fetch(&FetchOffsets { partitions, ..everything() });
        fetched.expect("all may ask")[0].committed.as_ref().map(|committed| committed.offset.0)
    }
}

pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    Subscription::new(topics).encode().expect("short names fit")
}

pub(super) fn newcomer(topics: &[&str]) -> Join {
    let protocol = Protocol { name: "range".to_owned(), metadata: subscription(topics) };
    Join {
        group: group_id("g"),
        member: String::new(),
        instance: None,
        client_id: "c".to_owned(),
        client_host: "127.0.0.1".to_owned(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol],
        member_id_required: false,
        skip_assignment_known: false,
    }
}

pub(super) fn again(member: &str) -> Join {
    Join { member: member.to_owned(), ..newcomer(&["t"]) }
}

pub(super) fn sync(member: &str, generation: i32) -> Sync {
    Sync {
        group: group_id("g"),
        member: member.to_owned(),
        instance: None,
        generation,
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    }
}

pub(super) fn assignments(ids: &[String]) -> Vec<(String, Bytes)> {
    ids.iter().map(|id| (id.clone(), Bytes::from(id.clone()))).collect()
}

pub(super) fn commit(member: &str, generation: i32, offsets: &[(&str, i64)]) -> CommitOffsets {
    let offset = |(name, offset): &(&str, i64)| OffsetToCommit {
        topic: topic(name),
        partition: PartitionIndex(0),
        committed: CommittedOffset {
            offset: Offset(*offset),
            leader_epoch: None,
            metadata: String::new(),
        },
    };
    CommitOffsets {
        group: group_id("g"),
        member: member.to_owned(),
        instance: None,
        generation,
        offsets: offsets.iter().map(offset).collect(),
    }
}

/// Kafka's codes, for tables.
pub(super) fn code<T>(result: Result<T, ErrorCode>) -> i16 {
    result.map_or_else(ErrorCode::code, |_| 0)
}

pub(super) fn join_code(result: Result<Joined, Refusal>) -> i16 {
    match result {
        Ok(_) => 0,
        Err(Refusal::MemberIdRequired(_)) => 79,
        Err(Refusal::Code(code)) => code.code(),
    }
}

pub(super) fn codes(results: Result<Vec<PartitionResult>, ErrorCode>) -> Vec<i16> {
    match results {
        Ok(results) => results.into_iter().map(|result| code(result.result)).collect(),
        Err(error) => vec![error.code()],
    }
}

/// The members of a group with what they were given.
pub(super) fn members(group: &Group) -> BTreeMap<Arc<str>, (Option<String>, Bytes)> {
    let shown = |(id, member): (&Arc<str>, &super::roster::Member)| {
        let instance = member.instance().map(str::to_owned);
        (Arc::clone(id), (instance, member.assignment().clone()))
    };
    group.roster.iter().map(shown).collect()
}
