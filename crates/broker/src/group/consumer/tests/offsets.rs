//! Offsets of next-generation groups, and what outlives them.

use super::*;
use crate::group::ops::FetchOffsets;
use crate::group::tests::{commit, everything};

fn codes(world: &mut World, waiter: Waiter) -> i16 {
    world.bench.settle();
    match world.bench.offsets(waiter) {
        Ok(results) => results[0].result.map_or_else(ErrorCode::code, |()| 0),
        Err(code) => code.code(),
    }
}

#[test]
fn members_commit_and_fetch_in_their_epoch() {
    let mut world = World::new(&[("t", 1)]);
    let simple = world.bench.commit(commit("", -1, &[("t", 1)]));
    assert_eq!(codes(&mut world, simple), 0, "the group is empty");
    world.joins("a", &["t"]);
    let check_commit = |world: &mut World, member: &str, epoch: i32, code: i16| {
        let waiter = world.bench.commit(commit(member, epoch, &[("t", 2)]));
        assert_eq!(codes(world, waiter), code, "{member} in {epoch}");
    };
    check_commit(&mut world, "a", 1, 0);
    check_commit(&mut world, "a", 2, 113);
    check_commit(&mut world, "a", 0, 113);
    check_commit(&mut world, "b", 1, 25);
    check_commit(&mut world, "", -1, 25);
    let check_fetch = |member: Option<(&str, i32)>, code: i16| {
        let member = member.map(|(id, epoch)| (id.to_owned(), epoch));
        let fetched = world.bench.group.fetch(&FetchOffsets { member, ..everything() });
        assert_eq!(fetched.map_or_else(ErrorCode::code, |_| 0), code);
    };
    check_fetch(None, 0);
    check_fetch(Some(("a", 1)), 0);
    check_fetch(Some(("a", 3)), 113);
    check_fetch(Some(("b", 1)), 25);
}

#[test]
fn a_group_with_members_is_not_deleted_and_an_empty_one_leaves_nothing() {
    let mut world = World::new(&[("t", 1), ("u", 1)]);
    let regex = Some("t.*".to_owned());
    world.beat(ConsumerHeartbeat { regex, ..join("a", &["u"]) }).expect("it may join");
    let waiter = world.bench.commit(commit("a", 1, &[("t", 2), ("v", 1)]));
    assert_eq!(codes(&mut world, waiter), 0);
    let delete = |world: &mut World| {
        let waiter = world.bench.waiter();
        world.bench.act(|group, turn| group.delete(waiter, turn));
        world.bench.settle();
        match world.bench.answer(waiter) {
            Some(Reply::Deleted(_, result)) => result.map_or_else(ErrorCode::code, |()| 0),
            other => panic!("not the answer to a deletion: {other:?}"),
        }
    };
    assert_eq!(delete(&mut world), 68);
    let forget = |world: &mut World, name: &str| {
        let (waiter, at) = (world.bench.waiter(), vec![(topic(name), PartitionIndex(0))]);
        world.bench.act(|group, turn| group.delete_offsets(at, waiter, turn));
        codes(world, waiter)
    };
    assert_eq!((forget(&mut world, "t"), forget(&mut world, "v")), (86, 0));
    world.beat(alive("a", LEAVE_EPOCH)).expect("it may leave");
    let again = world.bench.reloaded().expect("it has offsets");
    assert_eq!((again.kind(), again.describe().generation), (GroupState::Empty, 2));
    assert_eq!(delete(&mut world), 0);
    assert!(world.bench.group.is_void());
    assert!(world.bench.reloaded().is_none(), "no record is left");
}

#[test]
fn an_empty_group_without_offsets_is_forgotten() {
    let mut world = World::new(&[("t", 1)]);
    world.joins("a", &["t"]);
    world.beat(alive("a", LEAVE_EPOCH)).expect("it may leave");
    world.bench.pass(120 * SECOND);
    world.bench.settle();
    assert!(world.bench.group.is_void());
    assert!(world.bench.reloaded().is_none());
}

#[test]
fn what_the_group_does_not_want_any_more_expires_and_nothing_else() {
    let mut world = World::new(&[("t", 1), ("u", 1)]);
    world.bench.settings.group_consumer_session_timeout = 100 * 24 * 3600 * SECOND;
    world.joins("a", &["t"]);
    for name in ["t", "u"] {
        let waiter = world.bench.commit(commit("a", 1, &[(name, 2)]));
        assert_eq!(codes(&mut world, waiter), 0);
    }
    world.beat(alive("a", 1)).expect("it is a member");
    world.bench.pass(8 * 24 * 3600 * SECOND);
    world.bench.settle();
    assert_eq!((world.bench.committed("t"), world.bench.committed("u")), (Some(2), None));
}
