//! The coordinator over a log in memory, under paused time.

mod load;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rafka_core::{Batch, ByteSize, Offset, Time, Timestamp, rng};
use tokio::sync::watch;

use super::*;
use crate::group::Topics;
use crate::group::ops::LeavingMember;
use crate::group::tests::{
    SECOND, again, all_but, assignments, commit, group_id, newcomer, sync, topic,
};

const PARTITIONS: u32 = 4;

/// The clocks of paused time.
#[derive(Debug)]
struct PausedClock(tokio::time::Instant);

impl Clock for PausedClock {
    fn now(&self) -> Time {
        Time::default() + self.0.elapsed()
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp(1_780_000_000_000).plus(self.0.elapsed())
    }
}

/// What the partitions hold, and what the log is told to do.
#[derive(Debug)]
struct MemoryLog {
    partitions: Mutex<BTreeMap<PartitionIndex, Vec<Batch>>>,
    is_there: Mutex<bool>,
    /// Appends numbered from 0 are durable below this.
    durable: watch::Sender<u64>,
    appended: Mutex<u64>,
    /// Appends that end out of turn.
    early: Mutex<Vec<u64>>,
    refusal: Mutex<Option<Error>>,
    /// Topics that do not exist. Every other has one partition.
    gone: Mutex<BTreeSet<TopicName>>,
    /// Groups that have a session timeout of their own.
    own_session_timeout: Mutex<BTreeMap<GroupId, Duration>>,
    /// When it was read.
    reads: Mutex<Vec<tokio::time::Instant>>,
    /// Reads wait while this is set.
    is_reading_held: watch::Sender<bool>,
}

impl MemoryLog {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            partitions: Mutex::default(),
            is_there: Mutex::new(true),
            durable: watch::Sender::new(u64::MAX),
            appended: Mutex::default(),
            early: Mutex::default(),
            refusal: Mutex::default(),
            gone: Mutex::default(),
            own_session_timeout: Mutex::default(),
            reads: Mutex::default(),
            is_reading_held: watch::Sender::new(false),
        })
    }

    /// Lets the appends numbered below `count` become durable, and no others.
    fn durable_below(&self, count: u64) {
        self.durable.send_replace(count);
    }

    /// Damages the first batch of the group's partition; returns what was there.
    fn damage(&self) -> Vec<Batch> {
        let partition = partition_of(&group_id("g"), PARTITIONS);
        let mut partitions = self.partitions.lock();
        let held = partitions.get_mut(&partition).expect("it has a batch");
        let whole = held.clone();
        held[0].records = whole[0].records.slice(..whole[0].records.len() - 1);
        whole
    }
}

impl OffsetsLog for MemoryLog {
    fn partition_count(&self) -> Option<u32> {
        self.is_there.lock().then_some(PARTITIONS)
    }

    fn topics(&self) -> Option<Topics> {
        let gone = self.gone.lock().clone();
        let gone: Vec<&str> = gone.iter().map(TopicName::as_str).collect();
        Some(all_but(&gone))
    }

    fn own_settings(&self, group: &GroupId, settings: &Settings) -> Option<Settings> {
        let timeout = self.own_session_timeout.lock().get(group).copied()?;
        Some(Settings { group_consumer_session_timeout: timeout, ..settings.clone() })
    }

    fn ensure_topic(&self) -> BoxFuture<'static, Result<u32, Error>> {
        *self.is_there.lock() = true;
        Box::pin(std::future::ready(Ok(PARTITIONS)))
    }

    fn append(
        &self,
        partition: PartitionIndex,
        epoch: Epoch,
        batches: Vec<Batch>,
        _within: Option<Within>,
    ) -> BoxFuture<'static, Result<(), Error>> {
        if let Some(refusal) = self.refusal.lock().clone() {
            return Box::pin(std::future::ready(Err(refusal)));
        }
        let mut partitions = self.partitions.lock();
        let held = partitions.entry(partition).or_default();
        for mut batch in batches {
            batch.header.base_offset = held.last().map_or(Offset::ZERO, Batch::next_offset);
            batch.header.leader_epoch = epoch;
            held.push(batch);
        }
        let mut appended = self.appended.lock();
        let (number, mut durable) = (*appended, self.durable.subscribe());
        *appended += 1;
        if self.early.lock().contains(&number) {
            return Box::pin(std::future::ready(Ok(())));
        }
        Box::pin(async move {
            let waited = durable.wait_for(|count| number < *count).await;
            waited.map(drop).map_err(|_gone| ErrorCode::NotLeaderOrFollower.into())
        })
    }

    fn read(
        &self,
        partition: PartitionIndex,
        _epoch: Epoch,
        from: Offset,
        _limit: ByteSize,
    ) -> BoxFuture<'static, Result<Vec<Batch>, Error>> {
        self.reads.lock().push(tokio::time::Instant::now());
        let partitions = self.partitions.lock();
        let held = partitions.get(&partition).map(Vec::as_slice).unwrap_or_default();
        // One batch at a time, so that a load takes many reads.
        let next = held.iter().find(|batch| from <= batch.base_offset()).cloned();
        let mut is_held = self.is_reading_held.subscribe();
        Box::pin(async move {
            let waited = is_held.wait_for(|held| !held).await;
            waited.map_err(|_gone| Error::from(ErrorCode::NotLeaderOrFollower))?;
            Ok(next.into_iter().collect())
        })
    }
}

struct Node {
    coordinator: Coordinator,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Node {
    fn start(log: &Arc<MemoryLog>, settings: Settings) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let coordinator = Coordinator::start(
            settings,
            Arc::clone(log) as Arc<dyn OffsetsLog>,
            Arc::new(PausedClock(tokio::time::Instant::now())),
            rng::from_seed(1),
            (&tasks, stop.clone()),
        );
        Self { coordinator, tasks, stop }
    }

    async fn leading(log: &Arc<MemoryLog>, epoch: i32) -> Self {
        let settings =
            Settings { group_rebalance_delay_initial: Duration::ZERO, ..Settings::default() };
        let node = Self::start(log, settings);
        node.lead_all(epoch).await;
        node
    }

    async fn lead_all(&self, epoch: i32) {
        for partition in 0..i32::try_from(PARTITIONS).expect("there are four") {
            self.coordinator.lead(PartitionIndex(partition), Epoch(epoch)).await;
        }
    }

    async fn fetched(&self) -> Option<i64> {
        let fetch = FetchOffsets {
            group: group_id("g"),
            partitions: Some(vec![(topic("t"), PartitionIndex(0))]),
            member: None,
            require_stable: false,
        };
        let fetched = self.coordinator.fetch_offsets(fetch).await.expect("it can be asked");
        fetched[0].committed.as_ref().map(|committed| committed.offset.0)
    }

    async fn commit(&self, offset: i64) -> Result<Vec<PartitionResult>, Error> {
        self.coordinator.commit_offsets(commit("", -1, &[("t", offset)])).await
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> i16 {
    result.map_or_else(|error| error.code.code(), |_| 0)
}

fn join_code(result: Result<Joined, JoinError>) -> i16 {
    match result {
        Ok(_) => 0,
        Err(JoinError::MemberIdRequired { .. }) => 79,
        Err(JoinError::Failed(error)) => error.code.code(),
    }
}

fn beat(member: &str, generation: i32) -> Heartbeat {
    Heartbeat { group: group_id("g"), member: member.to_owned(), instance: None, generation }
}

/// Lets everything run that can.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn two_members_share_the_work_and_a_silent_one_loses_its_part() {
    let node = Node::leading(&MemoryLog::new(), 1).await;
    let groups = &node.coordinator;
    let first = groups.join(newcomer(&["t"])).await.expect("it is alone");
    let (second, leader) = tokio::join!(groups.join(newcomer(&["t"])), async {
        settle().await;
        assert_eq!(code(groups.heartbeat(beat(&first.member, 1)).await), 27);
        groups.join(again(&first.member)).await
    });
    let (leader, second) = (leader.expect("both are here"), second.expect("both are here"));
    assert_eq!((leader.generation, leader.members.len()), (2, 2));
    let ids = [leader.member.clone(), second.member.clone()];
    let (follower, _) = tokio::join!(groups.sync(sync(&ids[1], 2)), async {
        settle().await;
        groups.sync(Sync { assignments: assignments(&ids), ..sync(&ids[0], 2) }).await
    });
    assert_eq!(follower.expect("the leader has shared the work out").assignment, ids[1]);

    // Nobody asks anything, and still the silent one is found out in time.
    tokio::time::sleep(9 * SECOND).await;
    assert_eq!(code(groups.heartbeat(beat(&ids[0], 2)).await), 0);
    tokio::time::sleep(2 * SECOND).await;
    let described = groups.describe(group_id("g")).await.expect("it is known");
    assert_eq!((described.members.len(), &described.members[0].id), (1, &ids[0]));
    let leave = LeavingMember { id: ids[0].clone(), instance: None };
    let left = groups.leave(Leave { group: group_id("g"), members: vec![leave] }).await;
    assert_eq!(left.expect("it is known")[0].result, Ok(()));
    let listed = groups.list(vec![GroupState::Empty], Vec::new()).await.expect("all is loaded");
    assert_eq!(listed.len(), 1);
    assert_eq!(groups.list(vec![GroupState::Stable], Vec::new()).await.expect("all is loaded"), []);
}

#[tokio::test(start_paused = true)]
async fn the_topic_is_made_when_the_first_group_comes() {
    let log = MemoryLog::new();
    *log.is_there.lock() = false;
    let node = Node::leading(&log, 1).await;
    assert_eq!(join_code(node.coordinator.join(newcomer(&["t"])).await), 0);
    assert!(*log.is_there.lock());
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_of_a_groups_partition_serves_it_and_only_once_it_is_loaded() {
    let log = MemoryLog::new();
    let node = Node::start(&log, Settings::default());
    let groups = &node.coordinator;
    assert_eq!(join_code(groups.join(newcomer(&["t"])).await), 16);
    assert_eq!(code(node.commit(1).await), 16);
    assert_eq!(groups.list(Vec::new(), Vec::new()).await, Ok(Vec::new()));

    log.is_reading_held.send_replace(true);
    node.lead_all(1).await;
    assert_eq!(join_code(groups.join(newcomer(&["t"])).await), 14);
    assert_eq!(code(groups.describe(group_id("g")).await), 14);
    assert_eq!(code(groups.list(Vec::new(), Vec::new()).await), 14);
    log.is_reading_held.send_replace(false);
    settle().await;
    assert_eq!(join_code(groups.join(newcomer(&["t"])).await), 0);

    for partition in 0..4 {
        groups.resign(PartitionIndex(partition)).await;
    }
    assert_eq!(code(groups.describe(group_id("g")).await), 16);
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_answered_and_shown_once_it_is_durable() {
    let log = MemoryLog::new();
    let node = Node::leading(&log, 1).await;
    node.commit(1).await.expect("the log takes it");
    log.durable_below(1);
    let committing = node.commit(2);
    tokio::pin!(committing);
    let early = tokio::time::timeout(60 * SECOND, &mut committing).await;
    assert!(early.is_err(), "it is not durable");
    assert_eq!(node.fetched().await, Some(1));
    log.durable_below(2);
    assert_eq!(committing.await.expect("durable")[0].result, Ok(()));
    assert_eq!(node.fetched().await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn offsets_follow_the_order_of_the_log_whatever_becomes_known_first() {
    let log = MemoryLog::new();
    let node = Node::leading(&log, 1).await;
    log.durable_below(0);
    log.early.lock().push(1);
    let (first, second, shown) = tokio::join!(node.commit(1), node.commit(2), async {
        settle().await;
        let early = node.fetched().await;
        log.durable_below(9);
        early
    });
    assert_eq!(shown, None, "the second is known to be durable, the first is not");
    assert_eq!((code(first), code(second)), (0, 0));
    assert_eq!(node.fetched().await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn what_the_log_refuses_is_told_and_nothing_is_changed() {
    let log = MemoryLog::new();
    let node = Node::leading(&log, 1).await;
    node.commit(1).await.expect("the log takes it");
    let check = async |refusal: ErrorCode, expected: ErrorCode| {
        *log.refusal.lock() = Some(refusal.into());
        let results = node.commit(2).await.expect("the commit as such is fine");
        assert_eq!(results[0].result, Err(expected), "{refusal}");
        assert_eq!(node.fetched().await, Some(1));
    };
    check(ErrorCode::KafkaStorageError, ErrorCode::CoordinatorNotAvailable).await;
    check(ErrorCode::NotEnoughReplicas, ErrorCode::CoordinatorNotAvailable).await;
    check(ErrorCode::RequestTimedOut, ErrorCode::CoordinatorNotAvailable).await;
    check(ErrorCode::NotLeaderOrFollower, ErrorCode::NotCoordinator).await;
    check(ErrorCode::MessageTooLarge, ErrorCode::InvalidCommitOffsetSize).await;
    *log.refusal.lock() = None;
    assert_eq!(code(node.commit(3).await), 0);
}

#[tokio::test(start_paused = true)]
async fn a_group_outlives_its_coordinator() {
    let log = MemoryLog::new();
    let before = Node::leading(&log, 1).await;
    let joined = before.coordinator.join(newcomer(&["t"])).await.expect("it is alone");
    let ids = [joined.member.clone()];
    let assigned = Sync { assignments: assignments(&ids), ..sync(&ids[0], 1) };
    before.coordinator.sync(assigned).await.expect("it leads");
    let committed = commit(&ids[0], 1, &[("t", 77)]);
    before.coordinator.commit_offsets(committed).await.expect("durable");
    let described = before.coordinator.describe(group_id("g")).await;
    let waiting = before.coordinator.join(newcomer(&["t"]));
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(SECOND, &mut waiting).await.is_err());
    for partition in 0..4 {
        before.coordinator.resign(PartitionIndex(partition)).await;
    }
    assert_eq!(join_code(waiting.await), 16, "it shall look for the next coordinator");

    let after = Node::leading(&log, 2).await;
    assert_eq!(after.coordinator.describe(group_id("g")).await, described);
    assert_eq!(after.fetched().await, Some(77));
    assert_eq!(code(after.coordinator.heartbeat(beat(&ids[0], 1)).await), 0);
    let positions = after.coordinator.positions().await.expect("it runs");
    assert_eq!((positions.len(), positions[0].offset), (1, Offset(77)));
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!(code(after.coordinator.heartbeat(beat(&ids[0], 1)).await), 25);
}

#[tokio::test(start_paused = true)]
async fn a_write_of_a_leadership_before_says_nothing_to_the_next() {
    let log = MemoryLog::new();
    let node = Node::leading(&log, 1).await;
    log.durable_below(0);
    let committing = node.commit(1);
    tokio::pin!(committing);
    assert!(tokio::time::timeout(SECOND, &mut committing).await.is_err());
    node.lead_all(1).await;
    assert!(tokio::time::timeout(SECOND, &mut committing).await.is_err(), "it leads already");
    node.lead_all(2).await;
    let results = committing.await;
    assert_eq!(code(results), 16);
    assert_eq!(node.fetched().await, Some(1), "it was in the log, as the answer left open");
    log.durable_below(9);
    settle().await;
    assert_eq!(node.fetched().await, Some(1));
    node.lead_all(1).await;
    assert_eq!(code(node.commit(2).await), 0, "an old leadership does not come back");
}

#[tokio::test(start_paused = true)]
async fn stopping_sends_everyone_away_and_lets_writes_arrive() {
    let log = MemoryLog::new();
    let node = Node::leading(&log, 1).await;
    let joined = node.coordinator.join(newcomer(&["t"])).await.expect("it is alone");
    log.durable_below(0);
    let committing = node.coordinator.commit_offsets(commit("", -1, &[("t", 1)]));
    assert_eq!(code(committing.await), 25, "the group has a member");
    let other = CommitOffsets { group: group_id("h"), ..commit("", -1, &[("t", 1)]) };
    let (commit, newcomer, ()) = tokio::join!(
        node.coordinator.commit_offsets(other),
        node.coordinator.join(newcomer(&["t"])),
        async {
            settle().await;
            node.stop.cancel();
            tokio::time::sleep(SECOND).await;
            log.durable_below(9);
        }
    );
    assert_eq!(commit.expect("it arrived in time")[0].result, Ok(()));
    assert_eq!(join_code(newcomer), 16);
    node.coordinator.ended().await;
    node.tasks.close();
    node.tasks.wait().await;
    assert_eq!(code(node.coordinator.heartbeat(beat(&joined.member, 1)).await), 15);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_never_arrives_does_not_keep_the_coordinator_from_stopping() {
    let log = MemoryLog::new();
    let node = Node::leading(&log, 1).await;
    log.durable_below(0);
    let (commit, ()) = tokio::join!(node.commit(1), async {
        settle().await;
        node.stop.cancel();
    });
    assert_eq!(code(commit), 16, "it may have been done");
    node.coordinator.ended().await;
}

#[tokio::test(start_paused = true)]
async fn what_there_is_goes_on_when_there_is_no_room_for_more() {
    let small = Settings { groups_max: 1, ..Settings::default() };
    let node = Node::start(&MemoryLog::new(), small);
    node.lead_all(1).await;
    settle().await;
    assert_eq!(code(node.commit(1).await), 0);
    let other = CommitOffsets { group: group_id("h"), ..commit("", -1, &[("t", 1)]) };
    assert_eq!(code(node.coordinator.commit_offsets(other.clone()).await), 15);
    assert_eq!(code(node.commit(2).await), 0);
    let deleted = node.coordinator.delete_groups(vec![group_id("g"), group_id("x")]).await;
    let codes: Vec<i16> = deleted.into_iter().map(|(_, result)| code(result)).collect();
    assert_eq!(codes, [0, 69]);
    assert_eq!(code(node.coordinator.commit_offsets(other).await), 0);

    let small = Settings { groups_bytes_max: Some(ByteSize(2000)), ..Settings::default() };
    let node = Node::start(&MemoryLog::new(), small);
    node.lead_all(1).await;
    settle().await;
    let names: Vec<String> = (0..30).map(|number| format!("t{number}")).collect();
    let mut codes = Vec::new();
    for name in &names {
        let commit = commit("", -1, &[(name.as_str(), 1)]);
        codes.push(code(node.coordinator.commit_offsets(commit).await));
    }
    assert_eq!((codes[0], codes[29]), (0, 15));
    assert_eq!(join_code(node.coordinator.join(newcomer(&["t"])).await), 15);
    let held = commit("", -1, &[(names[0].as_str(), 2)]);
    assert_eq!(code(node.coordinator.commit_offsets(held).await), 0, "it takes no more room");
}

#[tokio::test(start_paused = true)]
async fn a_large_commit_goes_into_several_batches_and_comes_back_whole() {
    let log = MemoryLog::new();
    let node = Node::leading(&log, 1).await;
    let names: Vec<String> = (0..10_000).map(|number| format!("topic-{number:05}")).collect();
    let offsets: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 7)).collect();
    let results = node.coordinator.commit_offsets(commit("", -1, &offsets)).await;
    assert!(results.expect("the log takes it").iter().all(|result| result.result.is_ok()));
    let largest = log.partitions.lock().values().flatten().map(Batch::len).max();
    assert!(largest.is_some_and(|len| len < 300 << 10), "{largest:?}");
    let after = Node::leading(&log, 2).await;
    assert_eq!(after.coordinator.positions().await.expect("it runs").len(), 10_000);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_takes_its_offsets_along_in_every_group() {
    let node = Node::leading(&MemoryLog::new(), 1).await;
    for id in ["g", "h", "i"] {
        let commit = CommitOffsets { group: group_id(id), ..commit("", -1, &[("t", 1), ("u", 2)]) };
        node.coordinator.commit_offsets(commit).await.expect("the log takes it");
    }
    node.coordinator.forget_topic(topic("t")).await;
    settle().await;
    let left = node.coordinator.positions().await.expect("it runs");
    let left: Vec<&str> = left.iter().map(|position| position.topic.as_str()).collect();
    assert_eq!(left, ["u", "u", "u"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_committed_to_a_topic_that_does_not_exist() {
    let log = MemoryLog::new();
    let node = Node::leading(&log, 1).await;
    log.gone.lock().insert(topic("t"));
    let results = node.commit(5).await.expect("the commit as such is fine");
    assert_eq!(results[0].result, Err(ErrorCode::UnknownTopicOrPartition));
    assert!(log.partitions.lock().is_empty(), "nothing is stored");
    log.gone.lock().clear();
    assert_eq!(node.commit(6).await.expect("the log takes it")[0].result, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn errors_name_the_group() {
    let node = Node::leading(&MemoryLog::new(), 1).await;
    let error = node.coordinator.describe(group_id("nobody")).await.expect_err("it is unknown");
    assert_eq!(
        error.to_string(),
        "GROUP_ID_NOT_FOUND (69): group nobody: The group does not exist."
    );
    let delete = DeleteOffsets { group: group_id("nobody"), partitions: Vec::new() };
    assert_eq!(code(node.coordinator.delete_offsets(delete).await), 69);
    assert_eq!(code(node.coordinator.heartbeat(beat("m", 1)).await), 25);
    assert_eq!(node.fetched().await, None, "who is not known has committed nothing");
    assert_eq!(
        node.coordinator.list(Vec::new(), Vec::new()).await,
        Ok(Vec::new()),
        "and none of it stays"
    );
}
