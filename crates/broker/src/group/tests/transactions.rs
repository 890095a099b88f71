//! Offsets that are committed in transactions.

use super::*;

fn outsider(offsets: &[(&str, i64)]) -> CommitOffsets {
    commit("", -1, offsets)
}

impl Bench {
    /// Commits in a transaction, and lets that become durable.
    fn committed_within(&mut self, producer: i64, offsets: &[(&str, i64)]) {
        let waiter = self.commit_within(producer, outsider(offsets));
        self.settle();
        let results = self.offsets(waiter).expect("it is taken");
        assert!(results.iter().all(|result| result.result.is_ok()), "{results:?}");
    }

    /// Whether an open transaction may change the offset.
    fn is_unstable(&self, name: &str) -> bool {
        let partitions = Some(vec![(topic(name), PartitionIndex(0))]);
        let fetch = FetchOffsets { partitions, require_stable: true, ..everything() };
        self.group.fetch(&fetch).expect("all may ask")[0].is_unstable
    }

    /// Another coordinator finds the same in the log.
    fn check_log(&mut self) {
        let again = self.reloaded().unwrap_or_else(|| Group::new(group_id("g")));
        let stable = FetchOffsets { require_stable: true, ..everything() };
        assert_eq!(again.fetch(&stable), self.group.fetch(&stable));
    }
}

#[test]
fn they_count_once_the_transaction_is_committed_and_never_if_it_is_not() {
    let mut bench = Bench::new();
    bench.commit(outsider(&[("t", 1)]));
    bench.settle();
    bench.committed_within(7, &[("t", 5), ("u", 6)]);
    bench.committed_within(8, &[("v", 9)]);
    assert_eq!((bench.committed("t"), bench.committed("u")), (Some(1), None));
    assert!(bench.is_unstable("t") && bench.is_unstable("u"));
    let all = bench.group.fetch(&everything()).expect("all may ask");
    assert!(all.iter().all(|one| !one.is_unstable), "who does not ask is not told");
    bench.check_log();
    bench.end(7, Outcome::Commit);
    assert_eq!((bench.committed("t"), bench.committed("u")), (Some(5), Some(6)));
    assert!(!bench.is_unstable("t") && bench.is_unstable("v"));
    bench.check_log();
    bench.end(8, Outcome::Abort);
    assert_eq!((bench.committed("v"), bench.is_unstable("v")), (None, false));
    bench.committed_within(7, &[("t", 8)]);
    bench.end(7, Outcome::Abort);
    assert_eq!(bench.committed("t"), Some(5));
    bench.check_log();
}

#[test]
fn what_is_on_its_way_when_the_transaction_ends_ends_with_it() {
    for (outcome, expected) in [(Outcome::Commit, Some(5)), (Outcome::Abort, None)] {
        let mut bench = Bench::new();
        let waiter = bench.commit_within(7, outsider(&[("t", 5)]));
        assert!(bench.is_unstable("t"), "before it is durable");
        let producer = ProducerId(7);
        bench.act(|group, turn| group.end_transaction(producer, outcome, turn));
        bench.settle();
        assert!(bench.offsets(waiter).is_ok());
        assert_eq!((bench.committed("t"), bench.is_unstable("t")), (expected, false));
    }
}

#[test]
fn the_last_word_in_the_log_counts() {
    let mut bench = Bench::new();
    bench.committed_within(7, &[("t", 5), ("u", 5)]);
    bench.commit(outsider(&[("t", 9)]));
    bench.settle();
    bench.committed_within(8, &[("u", 6)]);
    bench.end(8, Outcome::Commit);
    bench.check_log();
    bench.end(7, Outcome::Commit);
    assert_eq!((bench.committed("t"), bench.committed("u")), (Some(9), Some(6)));
    bench.check_log();
}

#[test]
fn who_is_committed_first_takes_nothing_from_what_was_said_after_it() {
    for outcome in [Outcome::Commit, Outcome::Abort] {
        let mut bench = Bench::new();
        bench.committed_within(7, &[("t", 5)]);
        bench.committed_within(8, &[("t", 6)]);
        bench.end(7, Outcome::Commit);
        assert_eq!(bench.committed("t"), Some(5));
        assert!(bench.is_unstable("t"), "the other transaction is open");
        bench.check_log();
        bench.end(8, outcome);
        let expected = if outcome == Outcome::Commit { 6 } else { 5 };
        assert_eq!((bench.committed("t"), bench.is_unstable("t")), (Some(expected), false));
        bench.check_log();
    }
}

#[test]
fn topics_and_groups_that_go_take_them_along() {
    let mut bench = Bench::new();
    bench.committed_within(7, &[("t", 5), ("u", 6)]);
    bench.act(|group, turn| group.forget_topic(&topic("t"), turn));
    bench.settle();
    bench.end(7, Outcome::Commit);
    assert_eq!((bench.committed("t"), bench.committed("u")), (None, Some(6)));
    bench.check_log();

    bench.committed_within(7, &[("t", 5)]);
    let waiter = bench.waiter();
    bench.act(|group, turn| group.delete(waiter, turn));
    bench.settle();
    assert_eq!(bench.deleted(waiter), Ok(()));
    bench.end(7, Outcome::Commit);
    assert!(bench.group.is_void());
    assert!(bench.reloaded().is_none());
}

#[test]
fn an_open_transaction_keeps_the_group_and_its_offsets() {
    let mut bench = Bench::new();
    bench.commit(outsider(&[("t", 1)]));
    bench.settle();
    bench.committed_within(7, &[("t", 5), ("u", 6)]);
    for _ in 0..9 {
        bench.pass(Duration::from_hours(24));
        bench.settle();
    }
    assert_eq!(bench.committed("t"), Some(1), "its retention is over, but it may be changed");
    assert!(!bench.group.is_void());
    bench.end(7, Outcome::Abort);
    for _ in 0..3 {
        bench.pass(Duration::from_hours(24));
        bench.settle();
    }
    assert!(bench.group.is_void(), "{:?}", bench.group);
}

#[test]
fn who_says_which_member_it_is_must_be_current() {
    let (mut bench, ids) = Bench::stable(1);
    let mut check = |commit: CommitOffsets, code: Option<ErrorCode>| {
        let waiter = bench.commit_within(7, commit);
        bench.settle();
        assert_eq!(bench.offsets(waiter).err(), code);
    };
    check(outsider(&[("t", 1)]), None);
    check(commit(&ids[0], 2, &[("t", 1)]), None);
    check(commit(&ids[0], 1, &[("t", 1)]), Some(ErrorCode::IllegalGeneration));
    check(commit("nobody", 2, &[("t", 1)]), Some(ErrorCode::UnknownMemberId));
    let instance = Some("other".to_owned());
    let stranger = CommitOffsets { instance, ..commit(&ids[0], 2, &[("t", 1)]) };
    check(stranger, Some(ErrorCode::UnknownMemberId));
    bench.join(newcomer(&["t"]));
    let waiter = bench.commit_within(7, commit(&ids[0], 2, &[("t", 2)]));
    bench.settle();
    assert!(bench.offsets(waiter).is_ok(), "a rebalance is no reason");
}

#[test]
fn what_the_log_refuses_is_not_part_of_the_transaction() {
    let mut bench = Bench::new();
    let waiter = bench.commit_within(7, outsider(&[("t", 5)]));
    bench.settle_one(Err(ErrorCode::InvalidTxnState));
    let refused = bench.offsets(waiter).expect("each partition has its own")[0].result;
    assert_eq!(refused, Err(ErrorCode::InvalidTxnState));
    assert!(!bench.is_unstable("t"));
    bench.end(7, Outcome::Commit);
    assert_eq!(bench.committed("t"), None);
}
