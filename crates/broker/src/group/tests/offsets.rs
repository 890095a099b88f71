//! Committing, fetching and deleting offsets and groups.

use super::*;
use crate::group::expiry::PAUSE;

fn simple(offsets: &[(&str, i64)]) -> CommitOffsets {
    commit("", -1, offsets)
}

fn delete_offsets(bench: &mut Bench, topics: &[&str]) -> Waiter {
    let waiter = bench.waiter();
    let partitions = topics.iter().map(|name| (topic(name), PartitionIndex(0))).collect();
    bench.act(|group, turn| group.delete_offsets(partitions, waiter, turn));
    waiter
}

fn delete(bench: &mut Bench) -> Waiter {
    let waiter = bench.waiter();
    bench.act(|group, turn| group.delete(waiter, turn));
    waiter
}

#[test]
fn an_offset_is_answered_and_shown_once_it_is_durable() {
    let (mut bench, ids) = Bench::stable(1);
    let waiter = bench.commit(commit(&ids[0], 2, &[("t", 5), ("u", 6)]));
    assert!(bench.is_waiting(waiter));
    assert_eq!(bench.committed("t"), None, "nothing is shown early");
    bench.settle();
    assert_eq!(codes(bench.offsets(waiter)), [0, 0]);
    assert_eq!((bench.committed("t"), bench.committed("u")), (Some(5), Some(6)));
    assert_eq!(bench.group.fetch(&everything()).expect("all may ask").len(), 2);
    assert_eq!(bench.committed("never"), None);
}

#[test]
fn what_the_log_refuses_is_not_committed() {
    let (mut bench, ids) = Bench::stable(1);
    bench.commit(commit(&ids[0], 2, &[("t", 5)]));
    bench.settle();
    let waiter = bench.commit(commit(&ids[0], 2, &[("t", 6), ("t", -1)]));
    bench.settle_one(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(codes(bench.offsets(waiter)), [15, 1]);
    assert_eq!(bench.committed("t"), Some(5));
}

#[test]
fn what_does_not_exist_is_not_committed_to() {
    let (mut bench, ids) = Bench::stable(1);
    let mut mixed = commit(&ids[0], 2, &[("gone", 5), ("t", 6), ("t", 7), ("t", 8)]);
    mixed.offsets[2].partition = PartitionIndex(1);
    mixed.offsets[3].partition = PartitionIndex(-1);
    let waiter = bench.commit(mixed);
    bench.settle();
    assert_eq!(codes(bench.offsets(waiter)), [3, 0, 3, 3]);
    assert_eq!(
        (bench.group.fetch(&everything()).expect("all may ask").len(), bench.committed("t")),
        (1, Some(6))
    );

    let log = bench.log.len();
    let waiter = bench.commit(commit(&ids[0], 2, &[("gone", 5)]));
    assert_eq!(codes(bench.offsets(waiter)), [3], "there is nothing to wait for");
    assert_eq!(bench.log.len(), log);
}

#[test]
fn commits_are_refused_with_kafkas_code() {
    let check = |bench: &mut Bench, commit: CommitOffsets, expected: &[i16]| {
        let waiter = bench.commit(commit.clone());
        bench.settle();
        assert_eq!(codes(bench.offsets(waiter)), expected, "{commit:?}");
    };
    let (mut bench, ids) = Bench::stable(2);
    let (bench, t) = (&mut bench, &[("t", 5)][..]);
    check(bench, commit(&ids[0], 2, t), &[0]);
    check(bench, commit(&ids[0], 1, t), &[22]);
    check(bench, commit(&ids[0], -1, t), &[22]);
    check(bench, commit("nobody", 2, t), &[25]);
    check(bench, simple(t), &[25]);
    let mut long = commit(&ids[0], 2, &[("t", 5), ("t", 6)]);
    long.offsets[0].committed.metadata = "x".repeat(4097);
    long.offsets[1].committed.metadata = "x".repeat(4096);
    check(bench, long, &[12, 0]);
    let second = bench.join(Join { member: ids[1].clone(), ..newcomer(&["u"]) });
    check(bench, commit(&ids[0], 2, t), &[0]);
    bench.join(again(&ids[0]));
    assert_eq!(join_code(bench.joined(second)), 0);
    check(bench, commit(&ids[0], 2, t), &[22]);
    check(bench, commit(&ids[0], 3, t), &[27]);

    let mut unknown = Bench::new();
    check(&mut unknown, commit("member", 0, t), &[22]);
    check(&mut unknown, commit("member", 7, t), &[22]);
    assert!(unknown.group.is_void());
    check(&mut unknown, simple(t), &[0]);
}

#[test]
fn an_empty_list_is_a_commit_of_nothing() {
    let (mut bench, ids) = Bench::stable(1);
    let log = bench.log.len();
    let waiter = bench.commit(commit(&ids[0], 2, &[]));
    assert_eq!(codes(bench.offsets(waiter)), []);
    assert_eq!(bench.log.len(), log);
    let mut bench = Bench::new();
    let waiter = bench.commit(simple(&[]));
    assert_eq!(codes(bench.offsets(waiter)), []);
    assert!(bench.group.is_void(), "it does not bring a group about");
}

#[test]
fn a_commit_shows_that_its_member_lives() {
    let (mut bench, ids) = Bench::stable(1);
    for offset in 0..5 {
        bench.pass(8 * SECOND);
        let waiter = bench.commit(commit(&ids[0], 2, &[("t", offset)]));
        bench.settle();
        assert_eq!(codes(bench.offsets(waiter)), [0]);
    }
}

#[test]
fn only_an_empty_group_can_be_reset_by_an_operator() {
    let (mut bench, ids) = Bench::stable(1);
    bench.commit(commit(&ids[0], 2, &[("t", 100)]));
    bench.settle();
    let waiter = bench.commit(simple(&[("t", 0)]));
    assert_eq!(codes(bench.offsets(waiter)), [25]);
    bench.pass(SESSION);
    bench.settle();
    let waiter = bench.commit(simple(&[("t", 0)]));
    bench.settle();
    assert_eq!(codes(bench.offsets(waiter)), [0]);
    assert_eq!(bench.committed("t"), Some(0));
}

#[test]
fn offsets_are_deleted_where_no_member_needs_them() {
    let (mut bench, ids) = Bench::stable(1);
    bench.commit(commit(&ids[0], 2, &[("t", 1), ("u", 2)]));
    bench.settle();
    let waiter = delete_offsets(&mut bench, &["t", "u", "never"]);
    assert!(bench.is_waiting(waiter));
    assert_eq!(bench.committed("u"), Some(2), "until it is durable");
    bench.settle();
    assert_eq!(codes(bench.offsets(waiter)), [86, 0, 0]);
    assert_eq!((bench.committed("t"), bench.committed("u")), (Some(1), None));
    bench.pass(SESSION);
    bench.settle();
    let waiter = delete_offsets(&mut bench, &["t"]);
    bench.settle_one(Err(ErrorCode::NotCoordinator));
    assert_eq!(codes(bench.offsets(waiter)), [16]);
    assert_eq!(bench.committed("t"), Some(1));
    let waiter = delete_offsets(&mut bench, &["t"]);
    bench.settle();
    assert_eq!(codes(bench.offsets(waiter)), [0]);

    let mut bench = Bench::new();
    let worker = Join { protocol_type: "connect".to_owned(), ..newcomer(&["t"]) };
    bench.join(worker);
    let waiter = delete_offsets(&mut bench, &["t"]);
    assert_eq!(codes(bench.offsets(waiter)), [68], "what its members need cannot be known");
}

#[test]
fn an_empty_group_is_deleted_with_everything_in_the_log() {
    let (mut bench, ids) = Bench::stable(1);
    bench.commit(commit(&ids[0], 2, &[("t", 1)]));
    bench.settle();
    let waiter = delete(&mut bench);
    assert_eq!(code(bench.deleted(waiter)), 68);
    bench.pass(SESSION);
    bench.settle();
    // A commit is on its way: the deletion behind it takes it along.
    let late = bench.commit(simple(&[("u", 2)]));
    let waiter = delete(&mut bench);
    assert!(bench.is_waiting(waiter));
    assert_eq!(bench.group.kind(), GroupState::Dead);
    let offsets = delete_offsets(&mut bench, &["t"]);
    assert_eq!(codes(bench.offsets(offsets)), [69]);
    let again = delete(&mut bench);
    assert_eq!(code(bench.deleted(again)), 69);
    let waiters = [bench.join(newcomer(&["t"])), bench.join(super::again(&ids[0]))];
    assert_eq!(waiters.map(|waiter| join_code(bench.joined(waiter))), [15, 15]);
    let synced = bench.sync(sync(&ids[0], 2));
    assert_eq!(code(bench.synced(synced)), 15);
    assert_eq!(code(bench.beat(&ids[0], None, 2)), 15);
    assert_eq!(
        bench.act(|group, turn| group.leave(&[], turn)),
        Err(ErrorCode::CoordinatorNotAvailable)
    );
    let refused = bench.commit(simple(&[("t", 1)]));
    assert_eq!(codes(bench.offsets(refused)), [15]);
    assert_eq!(bench.group.fetch(&everything()), Ok(Vec::new()));
    bench.settle();
    assert_eq!(codes(bench.offsets(late)), [0]);
    assert_eq!(bench.deleted(waiter), Ok(()));
    assert!(bench.group.is_void());
    assert!(bench.reloaded().is_none(), "and nothing comes back from the log");
}

#[test]
fn a_deletion_that_the_log_refuses_leaves_the_group() {
    let mut bench = Bench::new();
    bench.commit(simple(&[("t", 1)]));
    bench.settle();
    let waiter = delete(&mut bench);
    bench.settle_one(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(code(bench.deleted(waiter)), 15);
    assert_eq!((bench.group.kind(), bench.committed("t")), (GroupState::Empty, Some(1)));
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    let (mut bench, ids) = Bench::stable(1);
    bench.commit(commit(&ids[0], 2, &[("t", 100), ("u", 7)]));
    bench.settle();
    bench.commit(commit(&ids[0], 2, &[("t", 200)]));
    bench.act(|group, turn| group.forget_topic(&topic("t"), turn));
    bench.settle();
    assert_eq!((bench.committed("t"), bench.committed("u")), (None, Some(7)));
    let reloaded = bench.reloaded().expect("the group is in the log");
    assert_eq!(reloaded.fetch(&everything()), bench.group.fetch(&everything()));
}

#[test]
fn a_log_that_refuses_to_hear_of_a_deleted_topic_is_told_again() {
    let (mut bench, ids) = Bench::stable(1);
    bench.commit(commit(&ids[0], 2, &[("t", 100), ("u", 7), ("v", 9)]));
    bench.settle();
    for gone in ["t", "v"] {
        bench.act(|group, turn| group.forget_topic(&topic(gone), turn));
        bench.settle_one(Err(ErrorCode::CoordinatorNotAvailable));
    }
    assert_eq!((bench.committed("t"), bench.committed("v")), (None, None), "the topics are gone");
    // A topic of the same name comes, and its first offset before the log is told.
    bench.commit(commit(&ids[0], 2, &[("v", 1)]));
    bench.settle();
    for _ in 0..=PAUSE.as_secs() / 5 {
        bench.pass(Duration::from_secs(5));
        assert_eq!(bench.beat(&ids[0], None, 2), Ok(()));
    }
    assert!(bench.is_writing());
    bench.settle();
    let reloaded = bench.reloaded().expect("the group is in the log");
    assert_eq!(reloaded.fetch(&everything()), bench.group.fetch(&everything()));
    assert_eq!((bench.committed("t"), bench.committed("v")), (None, Some(1)));
}
