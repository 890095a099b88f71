//! Joining, moving towards the target, leaving, falling silent.

use super::*;

#[test]
fn the_first_member_gets_everything_and_the_second_its_half_once_it_is_let_go() {
    let mut world = World::new(&[("t", 4)]);
    assert_eq!(world.joins("a", &["t"]), (1, 4));
    assert_eq!(world.kind(), GroupState::Stable);
    // Nothing is free yet: the newcomer is in the new epoch, with nothing.
    assert_eq!(world.joins("b", &["t"]), (2, 0));
    assert_eq!(world.kind(), GroupState::Reconciling);
    // The first is told to let two go, and stays in its epoch until it has.
    let instruction = world.beat(alive("a", 1)).expect("it is a member");
    assert_eq!(told(&instruction), (1, 2));
    let kept = instruction.assignment.expect("it is told");
    assert_eq!(world.beat(alive("b", 2)).expect("it is a member").assignment, None);
    assert_eq!(world.beat(alive("a", 1)).expect("it has not said so yet").member_epoch, 1);
    let instruction = world.beat(owning("a", 1, kept)).expect("it is a member");
    assert_eq!((instruction.member_epoch, instruction.assignment), (2, None));
    assert_eq!(told(&world.beat(alive("b", 2)).expect("it is a member")), (2, 2));
    assert_eq!(world.kind(), GroupState::Stable);
    let mut all = [world.owned("a"), world.owned("b")].concat();
    all.sort();
    assert_eq!(all, [0, 1, 2, 3].map(|partition| ("t".to_owned(), partition)));
}

#[test]
fn a_member_that_leaves_or_falls_silent_leaves_its_partitions_to_the_others() {
    let mut world = World::new(&[("t", 2)]);
    world.joins("a", &["t"]);
    let gone = world.beat(alive("a", LEAVE_EPOCH)).expect("it may leave");
    assert_eq!((gone.member_epoch, gone.assignment), (LEAVE_EPOCH, None));
    assert_eq!(world.kind(), GroupState::Empty);
    assert_eq!(world.refused(alive("a", 1)), 25);
    assert_eq!(world.joins("b", &["t"]), (3, 2));
    world.bench.pass(40 * SECOND);
    assert_eq!(world.joins("c", &["t"]), (4, 0));
    // Only the one is silent for too long.
    world.bench.pass(6 * SECOND);
    world.bench.settle();
    assert_eq!(world.refused(alive("b", 3)), 25);
    assert_eq!(told(&world.beat(alive("c", 4)).expect("it lives")), (5, 2));
}

#[test]
fn who_does_not_let_go_in_time_is_dropped() {
    let mut world = World::new(&[("t", 2)]);
    world.joins("a", &["t"]);
    world.joins("b", &["t"]);
    let asked = world.beat(alive("a", 1)).expect("it is a member");
    assert_eq!(told(&asked), (1, 1));
    for _ in 0..6 {
        assert_eq!(world.refused(alive("a", 1)), 0, "its session goes on");
        world.bench.pass(5 * SECOND);
        world.beat(alive("b", 2)).expect("it is a member");
    }
    world.bench.settle();
    assert_eq!(world.refused(alive("a", 1)), 25);
    assert_eq!(world.owned("b").len(), 2);
}

#[test]
fn members_are_told_apart_by_their_epochs() {
    let mut world = World::new(&[("t", 2)]);
    world.joins("a", &["t"]);
    world.joins("b", &["t"]);
    let kept = world.beat(alive("a", 1)).expect("it is a member").assignment.expect("it is told");
    // The answer that brings the next epoch is lost: the member comes again with the one before.
    for _ in 0..2 {
        let again = world.beat(owning("a", 1, kept.clone())).expect("it is a member");
        assert_eq!(again.member_epoch, 2);
    }
    assert_eq!(world.refused(alive("a", 1)), 110, "it does not say what it owns");
    let foreign = vec![(kept[0].0, vec![PartitionIndex(0), PartitionIndex(1)])];
    assert_eq!(world.refused(owning("a", 1, foreign)), 110, "it owns what it may not");
    assert_eq!(world.refused(alive("a", 3)), 110, "from the future");
    assert_eq!(world.refused(alive("a", 2)), 0);
    assert_eq!(told(&world.beat(join("a", &["t"])).expect("it may begin again")), (2, 1));
}

#[test]
fn a_static_member_that_comes_back_finds_its_partitions() {
    let mut world = World::new(&[("t", 4)]);
    let i = |beat: ConsumerHeartbeat| ConsumerHeartbeat { instance: Some("i".to_owned()), ..beat };
    assert_eq!(told(&world.beat(static_join("a", "i", &["t"])).expect("it may join")), (1, 4));
    assert_eq!(world.refused(static_join("b", "i", &["t"])), 111, "the first one lives");
    let gone = world.beat(i(alive("a", LEAVE_STATIC_EPOCH))).expect("it may leave");
    assert_eq!(gone.member_epoch, LEAVE_STATIC_EPOCH);
    assert_eq!(world.refused(i(alive("a", 1))), 110);
    // Nobody else gets them meanwhile.
    assert_eq!(told(&world.beat(static_join("b", "i", &["t"])).expect("it is free")), (1, 4));
    assert_eq!(world.refused(i(alive("a", 1))), 82);
    assert_eq!(world.refused(i(alive("a", LEAVE_EPOCH))), 82);
    assert_eq!(
        world.refused(ConsumerHeartbeat { instance: Some("j".to_owned()), ..alive("b", 1) }),
        25
    );
    // One that does not come back is dropped like any other.
    world.beat(i(alive("b", LEAVE_STATIC_EPOCH))).expect("it may leave");
    world.bench.pass(46 * SECOND);
    assert_eq!(world.kind(), GroupState::Empty);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let check = |change: fn(&mut ConsumerHeartbeat), code: i16| {
        let mut world = World::new(&[("t", 1)]);
        let mut beat = join("a", &["t"]);
        change(&mut beat);
        assert_eq!(world.refused(beat), code);
        assert!(code == 0 || world.bench.group.is_void(), "{code} leaves nothing behind");
    };
    check(|_| {}, 0);
    check(|beat| beat.member = String::new(), 0);
    check(|beat| beat.topics = Some(Vec::new()), 0);
    check(|beat| beat.assignor = Some("range".to_owned()), 0);
    check(|beat| beat.member_epoch = -3, 42);
    check(|beat| beat.member_epoch = LEAVE_STATIC_EPOCH, 42);
    check(|beat| beat.member_epoch = 1, 69);
    check(|beat| beat.member_epoch = LEAVE_EPOCH, 69);
    check(|beat| beat.rebalance_timeout = None, 42);
    check(|beat| beat.topics = None, 42);
    check(|beat| beat.owned = None, 42);
    check(|beat| beat.owned = Some(vec![(TopicId::from_random(1), Vec::new())]), 42);
    check(|beat| beat.instance = Some(String::new()), 42);
    check(|beat| beat.rack = Some(String::new()), 42);
    check(|beat| beat.client_id = "c".repeat(5000), 42);
    check(|beat| beat.assignor = Some("sticky".to_owned()), 112);
    check(|beat| beat.regex = Some("(".to_owned()), 128);
}

#[test]
fn a_group_takes_so_many_members_and_no_more() {
    let mut world = World::new(&[("t", 1)]);
    world.bench.settings.group_members_max = 1;
    world.joins("a", &["t"]);
    assert_eq!(world.refused(join("b", &["t"])), 81);
    assert_eq!(world.refused(join("a", &["t"])), 0, "who is in may join again");
}

#[test]
fn an_answer_waits_for_the_log_and_what_it_refused_goes_with_the_next_change() {
    let mut world = World::new(&[("t", 1)]);
    let first = world.send(join("a", &["t"]));
    let second = world.send(join("a", &["t"]));
    assert!(world.bench.is_waiting(first) && world.bench.is_waiting(second));
    world.bench.settle_one(Err(ErrorCode::CoordinatorNotAvailable));
    for waiter in [first, second] {
        assert_eq!(world.answer(waiter), Err(ErrorCode::CoordinatorNotAvailable));
    }
    assert_eq!(world.joins("a", &["t"]), (1, 1));
    let again = world.bench.reloaded().expect("it is in the log");
    assert_eq!((again.kind(), again.describe().members.len()), (GroupState::Stable, 1));
}

#[test]
fn an_empty_group_becomes_one_of_the_other_kind() {
    let mut world = World::new(&[("t", 1)]);
    world.joins("a", &["t"]);
    let classic = crate::group::tests::newcomer(&["t"]);
    world.beat(alive("a", LEAVE_EPOCH)).expect("it may leave");
    let waiter = world.bench.join(classic);
    let joined = world.bench.joined(waiter).expect("the group is empty");
    assert_eq!(joined.generation, 1);
    // The member never syncs; once it is gone, the group is free again.
    world.bench.pass(600 * SECOND);
    world.bench.settle();
    assert_eq!(world.joins("b", &["t"]), (1, 1));
    let again = world.bench.reloaded().expect("it is in the log");
    assert_eq!(again.describe(), world.bench.group.describe());
}
