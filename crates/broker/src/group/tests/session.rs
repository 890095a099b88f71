//! Assignments, heartbeats, leaving, silence.

use super::*;
use crate::group::ops::LeavingMember;

fn leaving(id: &str, instance: Option<&str>) -> LeavingMember {
    LeavingMember { id: id.to_owned(), instance: instance.map(str::to_owned) }
}

/// A group of two whose generation is complete and whose leader has not synced, with its ids.
fn completing() -> (Bench, Vec<String>) {
    let (mut bench, ids) = Bench::stable(2);
    let second = bench.join(Join { member: ids[1].clone(), ..newcomer(&["u"]) });
    let first = bench.join(again(&ids[0]));
    assert_eq!([first, second].map(|waiter| join_code(bench.joined(waiter))), [0, 0]);
    (bench, ids)
}

#[test]
fn a_follower_gets_its_assignment_once_the_leaders_is_durable() {
    let (mut bench, ids) = completing();
    let follower = bench.sync(sync(&ids[1], 3));
    assert!(bench.is_waiting(follower));
    let assignments = assignments(&ids);
    let leader = bench.sync(Sync { assignments, ..sync(&ids[0], 3) });
    assert!(bench.is_waiting(follower) && bench.is_waiting(leader), "not durable yet");
    assert_eq!(bench.group.kind(), GroupState::CompletingRebalance);
    bench.settle();
    assert_eq!(bench.group.kind(), GroupState::Stable);
    let assignment = |answer: Result<Synced, ErrorCode>| answer.expect("durable").assignment;
    assert_eq!(assignment(bench.synced(leader)), ids[0]);
    assert_eq!(assignment(bench.synced(follower)), ids[1]);
    let late = bench.sync(sync(&ids[1], 3));
    let late = bench.synced(late).expect("the group is stable");
    assert_eq!(late.assignment, ids[1]);
    assert_eq!((late.protocol_type.as_str(), late.protocol.as_str()), ("consumer", "range"));
}

#[test]
fn members_the_leader_left_out_get_nothing_and_strangers_are_passed_over() {
    let (mut bench, ids) = completing();
    let follower = bench.sync(sync(&ids[1], 3));
    let assignments = assignments(&[ids[0].clone(), "stranger".to_owned()]);
    bench.sync(Sync { assignments, ..sync(&ids[0], 3) });
    bench.settle();
    assert_eq!(bench.synced(follower).expect("durable").assignment, Bytes::new());
    assert!(!bench.group.roster.contains("stranger"));
}

#[test]
fn assignments_that_the_log_refuses_are_taken_back_and_shared_out_anew() {
    let (mut bench, ids) = completing();
    let follower = bench.sync(sync(&ids[1], 3));
    let leader = bench.sync(Sync { assignments: assignments(&ids), ..sync(&ids[0], 3) });
    bench.settle_one(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!([leader, follower].map(|waiter| code(bench.synced(waiter))), [15, 15]);
    assert_eq!(bench.group.kind(), GroupState::PreparingRebalance);
    assert!(bench.group.roster.iter().all(|(_, member)| member.assignment().is_empty()));
}

#[test]
fn assignments_that_come_too_late_change_nothing() {
    let (mut bench, ids) = completing();
    let leader = bench.sync(Sync { assignments: assignments(&ids), ..sync(&ids[0], 3) });
    let newcomer = bench.join(newcomer(&["t"]));
    assert_eq!(code(bench.synced(leader)), 27);
    let rejoined = [bench.join(again(&ids[0])), bench.join(again(&ids[1])), newcomer];
    assert_eq!(rejoined.map(|waiter| join_code(bench.joined(waiter))), [0, 0, 0]);
    assert_eq!(bench.group.generation, 4);
    // The write of the generation before ends only now: it says nothing of this one.
    bench.settle();
    assert_eq!(bench.group.kind(), GroupState::CompletingRebalance);
}

#[test]
fn syncs_are_refused_with_kafkas_code() {
    let check = |bench: &mut Bench, sync: Sync, expected: i16| {
        let waiter = bench.sync(sync.clone());
        assert_eq!(code(bench.synced(waiter)), expected, "{sync:?}");
    };
    let (mut bench, ids) = completing();
    let bench = &mut bench;
    check(bench, sync("nobody", 3), 25);
    check(bench, Sync { instance: Some("i".to_owned()), ..sync(&ids[0], 3) }, 25);
    check(bench, sync(&ids[0], 2), 22);
    let other = || Some("other".to_owned());
    check(bench, Sync { protocol_type: other(), ..sync(&ids[0], 3) }, 23);
    check(bench, Sync { protocol: other(), ..sync(&ids[0], 3) }, 23);
    let huge = vec![(ids[0].clone(), Bytes::from(vec![0; (4 << 20) + 1]))];
    check(bench, Sync { assignments: huge, ..sync(&ids[0], 3) }, 42);
    bench.join(newcomer(&["t"]));
    check(bench, sync(&ids[0], 3), 27);
    check(&mut Bench::new(), sync("nobody", 0), 25);
}

#[test]
fn who_does_not_sync_in_time_is_out() {
    let (mut bench, ids) = completing();
    let follower = bench.sync(sync(&ids[1], 3));
    for _ in 0..REBALANCE.as_secs() {
        assert_eq!(bench.beat(&ids[0], None, 3), Ok(()));
        bench.pass(SECOND);
    }
    assert_eq!(code(bench.synced(follower)), 27, "the leader never shared the work out");
    assert_eq!(bench.beat(&ids[0], None, 3), Err(ErrorCode::UnknownMemberId));
    let follower = bench.join(again(&ids[1]));
    assert_eq!(bench.joined(follower).expect("it is alone").leader, ids[1]);

    let (mut bench, ids) = completing();
    bench.sync(Sync { assignments: assignments(&ids), ..sync(&ids[0], 3) });
    bench.settle();
    for _ in 0..REBALANCE.as_secs() {
        assert_eq!([&ids[0], &ids[1]].map(|id| code(bench.beat(id, None, 3))), [0, 0]);
        bench.pass(SECOND);
    }
    assert_eq!(bench.beat(&ids[1], None, 3), Err(ErrorCode::UnknownMemberId));
    assert_eq!(bench.beat(&ids[0], None, 3), Err(ErrorCode::RebalanceInProgress));
}

#[test]
fn heartbeats_are_answered_with_kafkas_code() {
    let (mut bench, ids) = Bench::stable(2);
    assert_eq!(code(bench.beat(&ids[0], None, 2)), 0);
    assert_eq!(code(bench.beat(&ids[0], None, 1)), 22);
    assert_eq!(code(bench.beat("nobody", None, 2)), 25);
    assert_eq!(code(bench.beat(&ids[0], Some("i"), 2)), 25);
    bench.join(newcomer(&["t"]));
    assert_eq!(code(bench.beat(&ids[0], None, 2)), 27);
    let (mut bench, ids) = completing();
    assert_eq!(code(bench.beat(&ids[0], None, 3)), 0, "it has joined and may not have synced");
    assert_eq!(code(Bench::new().beat("nobody", None, 0)), 25);
}

#[test]
fn a_silent_member_is_out_after_its_session_timeout_and_a_live_one_is_not() {
    let (mut bench, ids) = Bench::stable(2);
    for _ in 0..9 {
        bench.pass(SECOND);
        assert_eq!(bench.beat(&ids[0], None, 2), Ok(()));
    }
    assert_eq!(bench.group.roster.len(), 2);
    bench.pass(SECOND);
    assert_eq!(bench.group.roster.len(), 1, "ten seconds without a word");
    assert_eq!(code(bench.beat(&ids[0], None, 2)), 27);
    bench.pass(SESSION);
    bench.settle();
    assert_eq!((bench.group.kind(), bench.group.generation), (GroupState::Empty, 3));
    assert_eq!(bench.group.leader, None);
}

#[test]
fn members_leave_one_by_one_or_together() {
    let (mut bench, ids) = Bench::stable(3);
    let waiter = bench.join(Join { member_id_required: true, ..newcomer(&["t"]) });
    let Err(Refusal::MemberIdRequired(pending)) = bench.joined(waiter) else {
        panic!("it was to be given an id");
    };
    let all = [
        leaving(&ids[0], None),
        leaving("nobody", None),
        leaving(&pending, None),
        leaving("", None),
        leaving("", Some("i")),
        leaving(&ids[1], Some("i")),
    ];
    let results = bench.act(|group, turn| group.leave(&all, turn)).expect("the group lives");
    let codes: Vec<i16> = results.into_iter().map(code).collect();
    assert_eq!(codes, [0, 25, 0, 25, 25, 25]);
    assert_eq!(bench.group.kind(), GroupState::PreparingRebalance);
    assert_eq!(bench.group.roster.len(), 2);

    let rest = [leaving(&ids[1], None), leaving(&ids[2], None)];
    let results = bench.act(|group, turn| group.leave(&rest, turn)).expect("the group lives");
    assert_eq!(results, [Ok(()), Ok(())]);
    bench.settle();
    assert_eq!(bench.group.kind(), GroupState::Empty);
    assert_eq!(bench.act(|group, turn| group.leave(&[], turn)), Ok(Vec::new()));
}

#[test]
fn the_last_one_missing_leaves_and_the_rebalance_ends() {
    let (mut bench, ids) = Bench::stable(2);
    let waiter = bench.join(Join { member: ids[1].clone(), ..newcomer(&["u"]) });
    assert!(bench.is_waiting(waiter));
    let gone = [leaving(&ids[0], None)];
    let results = bench.act(|group, turn| group.leave(&gone, turn));
    assert_eq!(results, Ok(vec![Ok(())]));
    assert_eq!(bench.joined(waiter).expect("nobody is missing").leader, ids[1]);
}

#[test]
fn a_group_is_described_with_what_its_members_can_rely_on() {
    let (mut bench, ids) = Bench::stable(1);
    let described = bench.group.describe();
    assert_eq!(described.state, GroupState::Stable);
    assert_eq!(described.protocol.as_deref(), Some("range"));
    assert_eq!(described.leader.as_ref(), Some(&ids[0]));
    let member = &described.members[0];
    assert_eq!((&member.client_id, &member.client_host), (&"c".to_owned(), &"127.0.0.1".into()));
    assert_eq!(
        (&member.metadata, &member.assignment[..]),
        (&subscription(&["t"]), ids[0].as_bytes())
    );
    bench.join(newcomer(&["t"]));
    let described = bench.group.describe();
    assert_eq!((described.state.name(), described.protocol), ("PreparingRebalance", None));
    assert!(described.members.iter().all(|member| member.assignment.is_empty()));
}
