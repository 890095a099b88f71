//! Joining and rebalancing.

use super::*;

fn offering(names: &[&str]) -> Join {
    let protocol = |name: &&str| Protocol { name: (*name).to_owned(), metadata: Bytes::new() };
    Join { protocols: names.iter().map(protocol).collect(), ..newcomer(&[]) }
}

#[test]
fn the_first_member_leads_and_only_the_leader_learns_of_the_others() {
    let mut bench = Bench::new();
    let first = bench.join(newcomer(&["t"]));
    let first = bench.joined(first).expect("it is alone");
    assert_eq!((first.generation, first.protocol.as_str()), (1, "range"));
    assert_eq!(first.leader, first.member);
    assert!(first.member.starts_with("c-"), "{}", first.member);
    assert_eq!(first.members.len(), 1);
    assert_eq!(first.members[0].metadata, subscription(&["t"]));

    let second = bench.join(newcomer(&["t"]));
    assert!(bench.is_waiting(second), "the first has not joined again");
    assert_eq!(bench.beat(&first.member, None, 1), Err(ErrorCode::RebalanceInProgress));
    let rejoin = bench.join(again(&first.member));
    let (leader, second) = (bench.joined(rejoin), bench.joined(second));
    let (leader, second) = (leader.expect("all are here"), second.expect("all are here"));
    assert_eq!((leader.generation, second.generation), (2, 2));
    assert_eq!((&leader.leader, &second.leader), (&first.member, &first.member));
    assert_eq!((leader.members.len(), second.members.len()), (2, 0));
}

#[test]
fn a_newcomer_is_first_given_an_id_and_the_rebalance_waits_for_it() {
    let mut bench = Bench::new();
    let polite = || Join { member_id_required: true, ..newcomer(&["t"]) };
    let waiter = bench.join(polite());
    let Err(Refusal::MemberIdRequired(id)) = bench.joined(waiter) else {
        panic!("it was to be given an id");
    };
    assert_eq!(bench.group.kind(), GroupState::Empty);
    let waiter = bench.join(Join { member: id.clone(), ..polite() });
    assert_eq!(bench.joined(waiter).expect("it is alone").member, id);

    // Another id is given out; the first member's rebalance waits until its owner is given up.
    let waiter = bench.join(polite());
    assert_eq!(join_code(bench.joined(waiter)), 79);
    let waiter = bench.join(Join { rebalance_timeout: REBALANCE, ..again(&id) });
    assert_eq!(join_code(bench.joined(waiter)), 0, "its own join was lost: same generation");
    let news = Join { member: id.clone(), ..newcomer(&["u"]) };
    let waiter = bench.join(news);
    bench.pass(SESSION - SECOND);
    assert!(bench.is_waiting(waiter));
    bench.pass(SECOND);
    assert_eq!(bench.joined(waiter).expect("nobody else came").generation, 2);
}

#[test]
fn an_id_that_was_given_out_is_forgotten_with_its_group_if_nobody_comes() {
    let mut bench = Bench::new();
    let waiter = bench.join(Join { member_id_required: true, ..newcomer(&["t"]) });
    assert_eq!(join_code(bench.joined(waiter)), 79);
    assert!(!bench.group.is_void());
    bench.pass(SESSION);
    assert!(bench.group.is_void());
}

#[test]
fn joins_that_break_a_rule_are_refused_with_kafkas_code() {
    let check = |join: Join, expected: i16| {
        let (mut bench, _) = Bench::stable(1);
        let waiter = bench.join(join.clone());
        assert_eq!(join_code(bench.joined(waiter)), expected, "{join:?}");
        assert_eq!(bench.group.kind(), GroupState::Stable, "{join:?}");
    };
    let good = || newcomer(&["t"]);
    check(Join { session_timeout: Duration::from_millis(5999), ..good() }, 26);
    check(Join { session_timeout: Duration::from_millis(1_800_001), ..good() }, 26);
    check(Join { protocols: Vec::new(), ..good() }, 23);
    check(Join { protocol_type: String::new(), ..good() }, 23);
    check(Join { protocol_type: "connect".to_owned(), ..good() }, 23);
    check(offering(&["sticky"]), 23);
    check(offering(&["range", "range"]), 42);
    check(Join { client_id: "x".repeat(4097), ..good() }, 42);
    check(Join { instance: Some(String::new()), ..good() }, 42);
    let many: Vec<String> = (0..33).map(|number| number.to_string()).collect();
    check(offering(&many.iter().map(String::as_str).collect::<Vec<_>>()), 42);
    check(again("nobody"), 25);
    check(Join { instance: Some("i".to_owned()), ..again("nobody") }, 25);
    let mut bench = Bench::new();
    let waiter = bench.join(again("nobody"));
    assert_eq!(join_code(bench.joined(waiter)), 25);
    assert!(bench.group.is_void());
}

#[test]
fn a_full_group_takes_nobody_more_but_lets_its_members_join_again() {
    let (mut bench, ids) = Bench::stable(2);
    bench.settings.group_members_max = 2;
    let waiter = bench.join(newcomer(&["t"]));
    assert_eq!(join_code(bench.joined(waiter)), 81);
    let polite = bench.join(Join { member_id_required: true, ..newcomer(&["t"]) });
    assert_eq!(join_code(bench.joined(polite)), 81);
    let huge = Protocol { name: "range".to_owned(), metadata: vec![0; 4 << 20].into() };
    let waiter = bench.join(Join { protocols: vec![huge], ..again(&ids[0]) });
    assert_eq!(join_code(bench.joined(waiter)), 81, "all of it is one record in the log");
    let waiters = [bench.join(again(&ids[0])), bench.join(again(&ids[1]))];
    assert_eq!(waiters.map(|waiter| join_code(bench.joined(waiter))), [0, 0]);
}

#[test]
fn the_protocol_most_members_like_best_wins_among_those_all_know() {
    let check = |offers: &[&[&str]], expected: &str| {
        let mut bench = Bench::new();
        bench.settings.group_rebalance_delay_initial = SECOND;
        let waiters: Vec<Waiter> = offers.iter().map(|names| bench.join(offering(names))).collect();
        bench.pass(2 * SECOND);
        for waiter in waiters {
            assert_eq!(bench.joined(waiter).expect("they share one").protocol, expected);
        }
    };
    check(&[&["a", "b"], &["b", "a"], &["b", "a"]], "b");
    check(&[&["a", "b", "c"], &["b", "c"], &["c", "b"]], "b");
    check(&[&["a", "b"], &["b", "a"]], "a");
}

#[test]
fn the_first_rebalance_waits_as_long_as_members_keep_coming() {
    let mut bench = Bench::new();
    bench.settings.group_rebalance_delay_initial = 3 * SECOND;
    let first = bench.join(newcomer(&["t"]));
    bench.pass(2 * SECOND);
    let second = bench.join(newcomer(&["t"]));
    bench.pass(2 * SECOND);
    assert!(bench.is_waiting(first), "somebody came: three seconds more");
    bench.pass(2 * SECOND);
    let first = bench.joined(first).expect("nobody came any more");
    assert_eq!((first.generation, first.members.len()), (1, 2));
    assert_eq!(bench.joined(second).expect("the same").generation, 1);

    // It does not wait longer than the members want to.
    let mut bench = Bench::new();
    bench.settings.group_rebalance_delay_initial = 3 * SECOND;
    let impatient = || Join { rebalance_timeout: 7 * SECOND, ..newcomer(&["t"]) };
    let first = bench.join(impatient());
    for _ in 0..6 {
        bench.pass(SECOND);
        bench.join(impatient());
    }
    bench.pass(SECOND);
    assert_eq!(bench.joined(first).expect("seven seconds are over").members.len(), 7);
}

#[test]
fn who_does_not_join_again_in_time_is_out_and_another_leads() {
    let (mut bench, ids) = Bench::stable(3);
    let waiters = [bench.join(Join { member: ids[1].clone(), ..newcomer(&["u"]) })];
    let third = bench.join(again(&ids[2]));
    for _ in 0..REBALANCE.as_secs() {
        let beat = bench.beat(&ids[0], None, 2);
        assert_eq!(beat, Err(ErrorCode::RebalanceInProgress), "it lives, but does not join");
        bench.pass(SECOND);
    }
    let (second, third) = (bench.joined(waiters[0]), bench.joined(third));
    let (second, third) = (second.expect("in time"), third.expect("in time"));
    assert_eq!((second.generation, third.generation), (3, 3));
    assert_eq!(second.leader, third.leader);
    assert!(ids[1..].contains(&second.leader));
    assert_eq!(second.members.len() + third.members.len(), 2);
    assert_eq!(bench.beat(&ids[0], None, 3), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_join_whose_answer_was_lost_gets_the_same_generation_again() {
    let mut bench = Bench::new();
    let waiter = bench.join(newcomer(&["t"]));
    let first = bench.joined(waiter).expect("it is alone");
    let waiter = bench.join(again(&first.member));
    assert_eq!(bench.joined(waiter), Ok(first.clone()));
    let waiter = bench.join(Join { member: first.member, ..newcomer(&["u"]) });
    assert_eq!(bench.joined(waiter).expect("it is alone").generation, 2);
}

#[test]
fn in_a_stable_group_a_follower_may_ask_again_and_a_leader_or_a_change_rebalances() {
    let check = |member: usize, topics: &[&str], rebalances: bool| {
        let (mut bench, ids) = Bench::stable(2);
        let waiter = bench.join(Join { member: ids[member].clone(), ..newcomer(topics) });
        assert_eq!(bench.is_waiting(waiter), rebalances, "{member} {topics:?}");
    };
    check(1, &["t"], false);
    check(1, &["u"], true);
    check(0, &["t"], true);
}

#[test]
fn a_second_join_of_a_member_supersedes_its_first() {
    let (mut bench, ids) = Bench::stable(2);
    let first = bench.join(Join { member: ids[1].clone(), ..newcomer(&["u"]) });
    let second = bench.join(Join { member: ids[1].clone(), ..newcomer(&["u"]) });
    assert_eq!(join_code(bench.joined(first)), 27);
    bench.join(again(&ids[0]));
    assert_eq!(join_code(bench.joined(second)), 0);
}

#[test]
fn a_newcomer_that_never_gets_into_a_generation_is_given_up() {
    let (mut bench, ids) = Bench::stable(1);
    let forever = Duration::from_hours(10);
    bench.settings.group_session_timeout_max = forever;
    let join = Join { rebalance_timeout: forever, ..newcomer(&["t"]) };
    let newcomer = bench.join(join);
    for _ in 0..299 {
        assert_eq!(code(bench.beat(&ids[0], None, 2)), 27);
        bench.pass(SECOND);
    }
    assert!(bench.is_waiting(newcomer));
    bench.pass(SECOND);
    assert_eq!(join_code(bench.joined(newcomer)), 25);
}

#[test]
fn when_the_coordinator_goes_everyone_who_waits_is_told() {
    let (mut bench, ids) = Bench::stable(2);
    let join = bench.join(Join { member: ids[1].clone(), ..newcomer(&["u"]) });
    let commit = bench.commit(commit(&ids[0], 2, &[("t", 1)]));
    bench.act(|group, turn| group.abandon(ErrorCode::NotCoordinator, turn));
    assert_eq!(join_code(bench.joined(join)), 16);
    assert_eq!(codes(bench.offsets(commit)), [16]);
}
