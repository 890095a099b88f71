//! Members that keep their place over a restart (KIP-345).

use super::*;
use crate::group::ops::LeavingMember;

fn instance(name: &str) -> Join {
    Join { instance: Some(name.to_owned()), ..newcomer(&["t"]) }
}

/// A stable group of the static members `a`, who leads, and `b`.
fn stable() -> (Bench, [String; 2]) {
    let mut bench = Bench::new();
    let first = bench.join(instance("a"));
    let first = bench.joined(first).expect("it is alone").member;
    let second = bench.join(instance("b"));
    bench.join(Join { member: first.clone(), ..instance("a") });
    let second = bench.joined(second).expect("both are here").member;
    let ids = [first, second];
    bench.share(&ids);
    (bench, ids)
}

#[test]
fn a_restarted_member_takes_its_place_over_without_a_rebalance() {
    let (mut bench, ids) = stable();
    assert!(ids[1].starts_with("b-"), "{}", ids[1]);
    let waiter = bench.join(instance("b"));
    assert!(bench.is_waiting(waiter), "its new id is not durable yet");
    bench.settle();
    let joined = bench.joined(waiter).expect("its place was kept");
    assert_eq!((joined.generation, &joined.leader), (2, &ids[0]));
    assert_ne!(joined.member, ids[1]);
    assert_eq!(bench.group.kind(), GroupState::Stable);
    let waiter = bench.sync(sync(&joined.member, 2));
    assert_eq!(bench.synced(waiter).expect("stable").assignment, ids[1], "its old assignment");
}

#[test]
fn the_id_before_is_fenced_everywhere() {
    let (mut bench, ids) = stable();
    bench.join(instance("b"));
    bench.settle();
    let old = &ids[1];
    let b = || Some("b".to_owned());
    assert_eq!(code(bench.beat(old, Some("b"), 2)), 82);
    let waiter = bench.sync(Sync { instance: b(), ..sync(old, 2) });
    assert_eq!(code(bench.synced(waiter)), 82);
    let waiter = bench.commit(CommitOffsets { instance: b(), ..commit(old, 2, &[("t", 1)]) });
    assert_eq!(codes(bench.offsets(waiter)), [82]);
    let waiter = bench.join(Join { member: old.clone(), ..instance("b") });
    assert_eq!(join_code(bench.joined(waiter)), 82);
    let leaving = [LeavingMember { id: old.clone(), instance: b() }];
    let left = bench.act(|group, turn| group.leave(&leaving, turn));
    assert_eq!(left, Ok(vec![Err(ErrorCode::FencedInstanceId)]));
    assert_eq!(code(bench.beat(old, None, 2)), 25, "without its instance it is just unknown");
}

#[test]
fn a_restarted_leader_does_not_share_the_work_out_again() {
    let check = |skip_assignment_known: bool| {
        let (mut bench, ids) = stable();
        let waiter = bench.join(Join { skip_assignment_known, ..instance("a") });
        bench.settle();
        (bench.joined(waiter).expect("its place was kept"), ids)
    };
    let (joined, _) = check(true);
    assert!(joined.skip_assignment);
    assert_eq!((&joined.leader, joined.members.len()), (&joined.member, 2));
    let (joined, ids) = check(false);
    assert!(!joined.skip_assignment);
    assert_eq!((&joined.leader, joined.members.len()), (&ids[0], 0), "it must not think it leads");
}

#[test]
fn a_join_that_is_under_way_is_fenced_when_another_takes_the_place() {
    let (mut bench, ids) = stable();
    let waiting = bench.join(Join { member: ids[0].clone(), ..instance("a") });
    assert!(bench.is_waiting(waiting), "a leader that joins again rebalances");
    let twin = bench.join(instance("a"));
    assert_eq!(join_code(bench.joined(waiting)), 82);
    let b = bench.join(Join { member: ids[1].clone(), ..instance("b") });
    let (twin, b) = (bench.joined(twin).expect("all are here"), bench.joined(b));
    assert_eq!(b.expect("all are here").leader, twin.member);
    let syncing = bench.sync(Sync { instance: Some("a".to_owned()), ..sync(&twin.member, 3) });
    bench.join(instance("a"));
    assert_eq!(code(bench.synced(syncing)), 82);
}

#[test]
fn a_place_whose_log_record_is_refused_is_not_given() {
    let (mut bench, _) = stable();
    let waiter = bench.join(instance("b"));
    bench.settle_one(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(join_code(bench.joined(waiter)), 15);
    let waiter = bench.join(instance("b"));
    bench.settle();
    assert_eq!(join_code(bench.joined(waiter)), 0, "it may come back");
}

#[test]
fn a_rebalance_begins_if_the_vote_would_change() {
    let (mut bench, ids) = stable();
    let protocols = ["other", "range"]
        .map(|name| Protocol { name: name.to_owned(), metadata: subscription(&["t"]) });
    // Both can do "other" from now on, and a vote of two to none decides for it.
    let a =
        bench.join(Join { member: ids[0].clone(), protocols: protocols.to_vec(), ..instance("a") });
    let b = bench.join(Join { protocols: protocols.to_vec(), ..instance("b") });
    assert_eq!(bench.joined(a).expect("both are here").protocol, "other");
    assert_eq!(bench.joined(b).expect("both are here").protocol, "other");
}

#[test]
fn a_static_member_that_misses_a_rebalance_stays_until_its_session_ends() {
    let (mut bench, ids) = stable();
    let short = Join { rebalance_timeout: 5 * SECOND, ..instance("a") };
    // Both get the short timeout, so that the rebalance ends before the sessions.
    let b = bench.join(Join { rebalance_timeout: 5 * SECOND, ..instance("b") });
    bench.settle();
    let b = bench.joined(b).expect("its place was kept").member;
    let a = bench.join(Join { member: ids[0].clone(), ..short });
    bench.pass(5 * SECOND);
    let a = bench.joined(a).expect("the rebalance is over");
    assert_eq!(a.members.len(), 2, "b is still a member");
    assert!(bench.group.roster.contains(&b));
    for _ in 0..5 {
        assert_eq!(bench.beat(&a.member, Some("a"), 3), Ok(()));
        bench.pass(SECOND);
    }
    assert!(!bench.group.roster.contains(&b), "its session is over");
}

#[test]
fn a_rebalance_in_which_nobody_joins_waits_for_the_static_members() {
    let (mut bench, ids) = stable();
    let long = Join { session_timeout: 300 * SECOND, ..instance("b") };
    bench.join(long);
    bench.settle();
    let gone = [LeavingMember { id: String::new(), instance: Some("a".to_owned()) }];
    let left = bench.act(|group, turn| group.leave(&gone, turn));
    assert_eq!(left, Ok(vec![Ok(())]), "an operator knows the instance only");
    assert!(!bench.group.roster.contains(&ids[0]));
    bench.pass(2 * REBALANCE);
    assert_eq!(bench.group.kind(), GroupState::PreparingRebalance);
    assert_eq!(bench.group.roster.len(), 1);
    bench.pass(300 * SECOND);
    bench.settle();
    assert_eq!(bench.group.kind(), GroupState::Empty);
}
