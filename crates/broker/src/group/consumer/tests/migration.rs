//! Members of both protocols in one group, and groups that change from one to the other.

use bytes::Bytes;
use rafka_core::consumer_protocol::{Assignment, Subscription, TopicPartitions as Named};

use super::*;
use crate::group::effects::Refusal;
use crate::group::ops::{GroupType, Join, Joined, Leave, LeavingMember, Protocol};
use crate::group::settings::MigrationPolicy;
use crate::group::tests::{commit, newcomer, sync};

/// A classic member that can let go of single partitions, and says what it owns.
fn classic(member: &str, generation: i32, owned: &[i32]) -> Join {
    let partitions: Vec<PartitionIndex> = owned.iter().copied().map(PartitionIndex).collect();
    let mut subscription = Subscription::new(vec!["t".to_owned()]);
    subscription.generation = generation;
    if !partitions.is_empty() {
        subscription.owned = vec![Named { topic: "t".to_owned(), partitions }];
    }
    let metadata = subscription.encode().expect("it is short");
    let protocol = Protocol { name: "cooperative-sticky".to_owned(), metadata };
    Join { member: member.to_owned(), protocols: vec![protocol], ..newcomer(&["t"]) }
}

impl World {
    fn classic_joins(&mut self, join: Join) -> Result<Joined, Refusal> {
        let waiter = self.bench.join(join);
        self.bench.settle();
        self.bench.joined(waiter)
    }

    /// The partitions of "t" that a classic member is told to own.
    fn synced(&mut self, member: &str, generation: i32) -> Result<Vec<i32>, i16> {
        let waiter = self.bench.sync(sync(member, generation));
        self.bench.settle();
        let synced = self.bench.synced(waiter).map_err(ErrorCode::code)?;
        let assignment = Assignment::decode(&synced.assignment).expect("it is one");
        let all = assignment.partitions.into_iter().flat_map(|topic| topic.partitions);
        Ok(all.map(|partition| partition.0).collect())
    }

    /// A classic group with one member that owns all four partitions of "t".
    fn of_one_classic_member() -> (Self, String) {
        let mut world = Self::new(&[("t", 4)]);
        let joined = world.classic_joins(classic("", -1, &[])).expect("it may join");
        let partitions = [0, 1, 2, 3].map(PartitionIndex).to_vec();
        let assignment = Assignment {
            partitions: vec![Named { topic: "t".to_owned(), partitions }],
            user_data: None,
        };
        let bytes: Bytes = assignment.encode().expect("it is short");
        let mut request = sync(&joined.member, 1);
        request.assignments = vec![(joined.member.clone(), bytes)];
        let waiter = world.bench.sync(request);
        world.bench.settle();
        world.bench.synced(waiter).expect("it leads");
        (world, joined.member)
    }

    fn kind_of(&self) -> GroupType {
        self.bench.group.describe().kind
    }

    fn code(&mut self, member: &str, generation: i32) -> i16 {
        self.bench.beat(member, None, generation).map_or_else(ErrorCode::code, |()| 0)
    }

    /// The log says what the group is.
    fn check_log(&mut self) {
        let topics = Topics::new(self.topics.clone());
        let again = self.bench.reloaded().expect("it is in the log");
        let group = &self.bench.group;
        assert_eq!(again.describe_consumers(&topics), group.describe_consumers(&topics));
    }
}

#[test]
fn the_first_member_of_the_new_kind_takes_a_classic_group_along() {
    let (mut world, old) = World::of_one_classic_member();
    assert_eq!(world.joins("new", &["t"]), (2, 0));
    assert_eq!((world.kind_of(), world.kind()), (GroupType::Consumer, GroupState::Reconciling));
    world.check_log();
    // The classic member is told to join again, and what to let go.
    assert_eq!(world.code(&old, 1), 27);
    assert_eq!(world.synced(&old, 1), Err(27));
    let joined = world.classic_joins(classic(&old, 1, &[0, 1, 2, 3])).expect("it is a member");
    assert_eq!((joined.generation, &*joined.leader, joined.members.len()), (1, "", 0));
    let kept = world.synced(&old, 1).expect("it is told what to keep");
    assert_eq!(kept.len(), 2);
    assert_eq!(world.code(&old, 1), 27, "until it has let go");
    assert_eq!(world.beat(alive("new", 2)).expect("it is a member").assignment, None);
    let joined = world.classic_joins(classic(&old, 1, &kept)).expect("it is a member");
    assert_eq!(joined.generation, 2);
    assert_eq!(world.synced(&old, 2), Ok(kept));
    assert_eq!(world.code(&old, 2), 0);
    assert_eq!(told(&world.beat(alive("new", 2)).expect("it is a member")), (2, 2));
    assert_eq!(world.kind(), GroupState::Stable);
    world.check_log();
}

#[test]
fn a_classic_member_may_join_one_that_is_of_the_new_kind() {
    let mut world = World::new(&[("t", 2)]);
    world.joins("new", &["t"]);
    let asked = Join { member_id_required: true, ..classic("", -1, &[]) };
    let Err(Refusal::MemberIdRequired(id)) = world.classic_joins(asked) else {
        panic!("it is given an id first");
    };
    let joined = world.classic_joins(classic(&id, -1, &[])).expect("it may join");
    assert_eq!((joined.generation, &*joined.protocol), (2, "cooperative-sticky"));
    assert_eq!(world.synced(&id, 2), Ok(Vec::new()));
    assert_eq!(world.code(&id, 2), 0, "nothing is free yet");
    let kept = world.beat(alive("new", 1)).expect("it is a member").assignment;
    world.beat(owning("new", 1, kept.expect("it is told"))).expect("it is a member");
    assert_eq!(world.code(&id, 2), 27, "something is");
    world.classic_joins(classic(&id, 2, &[])).expect("it is a member");
    assert_eq!(world.synced(&id, 2).map(|it| it.len()), Ok(1));
    let foreign = Join { protocol_type: "connect".to_owned(), ..classic("", -1, &[]) };
    let refusal = Refusal::Code(ErrorCode::InconsistentGroupProtocol);
    assert_eq!(world.classic_joins(foreign), Err(refusal));
}

#[test]
fn a_group_turns_back_when_the_last_member_of_the_new_kind_has_gone() {
    let check = |goes: fn(&mut World)| {
        let (mut world, old) = World::of_one_classic_member();
        world.joins("new", &["t"]);
        let rejoin = classic(&old, 1, &[]);
        world.classic_joins(rejoin).expect("it is a member");
        goes(&mut world);
        world.bench.settle();
        assert_eq!(world.kind_of(), GroupType::Classic);
        assert_eq!(world.kind(), GroupState::PreparingRebalance);
        // Whoever takes over meanwhile makes it join, too.
        let again = world.bench.reloaded().expect("it is in the log").describe();
        assert_eq!((again.kind, again.members.len()), (GroupType::Classic, 1));
        assert_eq!((again.state, again.generation), (GroupState::PreparingRebalance, 2));
        assert_eq!(world.code(&old, 2), 27);
        let joined = world.classic_joins(classic(&old, 2, &[])).expect("it is a member");
        assert_eq!((joined.leader, 2 < joined.generation), (old, true));
    };
    check(|world| drop(world.beat(alive("new", LEAVE_EPOCH)).expect("it may leave")));
    check(|world| {
        let old = world.bench.group.describe().members[0].id.clone();
        let old =
            if old == "new" { world.bench.group.describe().members[1].id.clone() } else { old };
        for _ in 0..8 {
            world.bench.pass(6 * SECOND);
            world.bench.beat(&old, None, 2).ok();
        }
    });
}

#[test]
fn classic_members_that_do_not_join_in_time_or_fall_silent_are_dropped() {
    let (mut world, old) = World::of_one_classic_member();
    world.joins("new", &["t"]);
    // It goes on as if nothing were, for longer than its rebalance timeout.
    for _ in 0..12 {
        assert_eq!(world.code(&old, 1), 27);
        world.bench.pass(5 * SECOND);
        world.beat(alive("new", 2)).expect("it is a member");
    }
    world.bench.settle();
    assert_eq!(world.code(&old, 1), 25);
    assert_eq!(world.owned("new").len(), 4);
    let refusal = Err(Refusal::Code(ErrorCode::UnknownMemberId));
    assert_eq!(world.classic_joins(classic(&old, 1, &[0])), refusal, "it must let go first");
    let joined = world.classic_joins(classic("", -1, &[])).expect("it may join");
    world.bench.pass(11 * SECOND);
    assert_eq!(world.code(&joined.member, joined.generation), 25, "its own session counts");
}

#[test]
fn classic_members_commit_in_their_generation_and_leave() {
    let (mut world, old) = World::of_one_classic_member();
    world.joins("new", &["t"]);
    for (generation, code) in [(1, 0), (2, 22)] {
        let waiter = world.bench.commit(commit(&old, generation, &[("t", 5)]));
        world.bench.settle();
        let result = world.bench.offsets(waiter).map_or_else(ErrorCode::code, |_| 0);
        assert_eq!(result, code);
    }
    assert_eq!(world.code(&old, 7), 22);
    assert_eq!(world.code("new", 2), 25, "it speaks the other protocol");
    let leave = |world: &mut World, id: &str| {
        let member = LeavingMember { id: id.to_owned(), instance: None };
        let Leave { members, .. } = Leave { group: group_id("g"), members: vec![member] };
        let left = world.bench.act(|group, turn| group.leave(&members, turn)).expect("it is there");
        world.bench.settle();
        left[0].map_or_else(ErrorCode::code, |()| 0)
    };
    assert_eq!(leave(&mut world, "new"), 25);
    assert_eq!(leave(&mut world, &old), 0);
    assert_eq!(told(&world.beat(alive("new", 2)).expect("it is a member")), (3, 4));
    world.check_log();
}

#[test]
fn a_static_member_takes_its_place_from_one_protocol_to_the_other() {
    let mut world = World::new(&[("t", 2)]);
    let instance = Some("i".to_owned());
    let old = Join { instance: instance.clone(), ..classic("", -1, &[]) };
    let joined = world.classic_joins(old.clone()).expect("it may join");
    let new = static_join("new", "i", &["t"]);
    assert_eq!(world.refused(new.clone()), 14, "nobody knows yet who owns what");
    let waiter = world
        .bench
        .sync(crate::group::ops::Sync { instance: instance.clone(), ..sync(&joined.member, 1) });
    world.bench.settle();
    world.bench.synced(waiter).expect("it leads");
    assert_eq!(told(&world.beat(new).expect("it takes over")).1, 2);
    assert_eq!(world.bench.group.describe().members.len(), 1);
    // And back, whereby the group turns back as well.
    let waiter = world.bench.join(old);
    world.bench.settle();
    let back = world.bench.joined(waiter).expect("it takes over");
    assert_eq!(world.kind_of(), GroupType::Classic);
    let gone = ConsumerHeartbeat { instance, ..alive("new", 2) };
    assert_eq!(world.refused(gone), 69);
    assert_eq!(
        world.bench.beat(&back.member, Some("i"), back.generation),
        Err(ErrorCode::RebalanceInProgress)
    );
}

#[test]
fn groups_that_may_not_change_stay_as_they_are() {
    let (mut world, _) = World::of_one_classic_member();
    world.bench.settings.group_consumer_migration_policy = MigrationPolicy::Downgrade;
    assert_eq!(world.refused(join("new", &["t"])), 69);
    world.bench.settings.group_consumer_migration_policy = MigrationPolicy::Upgrade;
    assert_eq!(world.refused(join("new", &["t"])), 0);
    world.beat(alive("new", LEAVE_EPOCH)).expect("it may leave");
    assert_eq!(world.kind_of(), GroupType::Consumer);
    let mut world = World::new(&[("t", 1)]);
    let foreign = Join { protocol_type: "connect".to_owned(), ..classic("", -1, &[]) };
    world.classic_joins(foreign).expect("it may join");
    assert_eq!(world.refused(join("new", &["t"])), 69, "it is no group of consumers");
}
