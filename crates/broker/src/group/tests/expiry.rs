//! What is forgotten, and when; what comes back out of the log.

use super::*;

const WEEK: Duration = Duration::from_hours(7 * 24);
const MINUTE: Duration = Duration::from_mins(1);

/// Lets time pass, with a log that takes everything at once.
fn pass(bench: &mut Bench, span: Duration) {
    let end = bench.now + span;
    while let Some(next) = bench.group.next_deadline().filter(|next| *next <= end) {
        let wait = next - bench.now;
        bench.pass(wait);
        bench.settle();
    }
    let rest = end - bench.now;
    bench.pass(rest);
    bench.settle();
}

#[test]
fn offsets_outlive_the_last_member_by_the_retention() {
    let (mut bench, ids) = Bench::stable(1);
    bench.commit(commit(&ids[0], 2, &[("t", 1)]));
    bench.settle();
    bench.settings.group_session_timeout_max = 2 * WEEK;
    let leader = Join { session_timeout: 2 * WEEK, ..again(&ids[0]) };
    let waiter = bench.join(leader);
    assert_eq!(join_code(bench.joined(waiter)), 0);
    bench.share(&ids);
    pass(&mut bench, 2 * WEEK - MINUTE);
    assert_eq!(bench.committed("t"), Some(1), "a member that subscribes keeps its offsets");
    pass(&mut bench, MINUTE);
    assert_eq!(bench.group.kind(), GroupState::Empty);
    pass(&mut bench, WEEK - MINUTE);
    assert_eq!(bench.committed("t"), Some(1), "six days and more after the last member");
    pass(&mut bench, 5 * MINUTE);
    assert!(bench.group.is_void(), "offsets and group are forgotten");
    assert!(bench.reloaded().is_none(), "in the log too");
}

#[test]
fn offsets_without_members_live_from_their_commit() {
    let mut bench = Bench::new();
    bench.commit(commit("", -1, &[("t", 1)]));
    bench.settle();
    pass(&mut bench, WEEK / 2);
    bench.commit(commit("", -1, &[("u", 2)]));
    bench.settle();
    pass(&mut bench, WEEK / 2 + MINUTE);
    assert_eq!((bench.committed("t"), bench.committed("u")), (None, Some(2)));
    pass(&mut bench, WEEK / 2 + MINUTE);
    assert!(bench.group.is_void());
}

#[test]
fn offsets_of_topics_that_nobody_subscribes_to_expire_in_a_live_group() {
    let (mut bench, ids) = Bench::stable(1);
    bench.settings.group_session_timeout_max = 2 * WEEK;
    bench.commit(commit(&ids[0], 2, &[("t", 1), ("before", 2)]));
    bench.settle();
    let waiter = bench.join(Join { session_timeout: 2 * WEEK, ..again(&ids[0]) });
    assert_eq!(join_code(bench.joined(waiter)), 0);
    bench.share(&ids);
    pass(&mut bench, WEEK - MINUTE);
    assert_eq!(bench.committed("before"), Some(2));
    pass(&mut bench, 2 * MINUTE);
    assert_eq!((bench.committed("t"), bench.committed("before")), (Some(1), None));
    assert_eq!(bench.group.kind(), GroupState::Stable);
}

#[test]
fn an_empty_group_without_offsets_goes_soon() {
    let (mut bench, _) = Bench::stable(1);
    pass(&mut bench, SESSION);
    assert_eq!(bench.group.kind(), GroupState::Empty);
    assert!(!bench.group.is_void(), "the log still speaks of it");
    pass(&mut bench, MINUTE);
    assert!(bench.group.is_void());
    assert!(bench.reloaded().is_none());
}

#[test]
fn a_stable_group_comes_back_out_of_the_log_as_it_was() {
    let (mut bench, ids) = Bench::stable(3);
    bench.commit(commit(&ids[0], 2, &[("t", 1), ("u", 2)]));
    bench.commit(commit(&ids[1], 2, &[("t", 3)]));
    bench.settle();
    bench.pass(5 * SECOND);
    let mut again = bench.reloaded().expect("the group is in the log");
    assert_eq!(again.describe(), bench.group.describe());
    assert_eq!(again.fetch(&everything()), bench.group.fetch(&everything()));
    assert_eq!(members(&again), members(&bench.group));
    again.roster.check();
    // The members have their whole session timeout again, and are then out.
    std::mem::swap(&mut bench.group, &mut again);
    bench.pass(SESSION - SECOND);
    assert_eq!(bench.beat(&ids[1], None, 2), Ok(()));
    assert_eq!(bench.beat(&ids[0], None, 1), Err(ErrorCode::IllegalGeneration));
    bench.pass(SECOND);
    assert_eq!(bench.group.roster.len(), 1);
}

#[test]
fn retention_goes_on_over_a_reload_and_a_calendar_that_jumps_does_not_shorten_it() {
    let (mut bench, ids) = Bench::stable(1);
    bench.commit(commit(&ids[0], 2, &[("t", 1)]));
    bench.settle();
    pass(&mut bench, SESSION + WEEK / 2);
    bench.group = bench.reloaded().expect("the group is in the log");
    assert_eq!((bench.group.kind(), bench.group.generation), (GroupState::Empty, 3));
    // From now on only the monotonic clock counts.
    bench.timestamp = bench.timestamp.plus(100 * WEEK);
    pass(&mut bench, WEEK / 2 - MINUTE);
    assert_eq!(bench.committed("t"), Some(1));
    bench.timestamp = bench.timestamp.minus(300 * WEEK);
    pass(&mut bench, 5 * MINUTE);
    assert_eq!(bench.committed("t"), None);
    assert!(bench.group.is_void());
}
