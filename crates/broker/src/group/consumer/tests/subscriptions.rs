//! What members want, in topics that come and go.

use super::*;

#[test]
fn topics_that_change_change_the_assignment_with_the_next_heartbeat() {
    let mut world = World::new(&[("t", 1)]);
    assert_eq!(world.joins("a", &["t", "u", "no topic"]), (1, 1));
    world.set_topic("elsewhere", 7);
    let unmoved = world.beat(alive("a", 1)).expect("it is a member");
    assert_eq!((unmoved.member_epoch, unmoved.assignment), (1, None));
    world.set_topic("t", 3);
    assert_eq!(told(&world.beat(alive("a", 1)).expect("it is a member")), (2, 3));
    world.set_topic("u", 2);
    assert_eq!(told(&world.beat(alive("a", 2)).expect("it is a member")), (3, 5));
    world.delete_topic("t");
    // It lets go of the topic that is gone, and enters the epoch when it says so.
    let instruction = world.beat(alive("a", 3)).expect("it is a member");
    assert_eq!(told(&instruction), (3, 2));
    let owned = instruction.assignment.expect("it is told");
    assert_eq!(world.beat(owning("a", 3, owned)).expect("it is a member").member_epoch, 4);
    assert_eq!(world.kind(), GroupState::Stable);
}

#[test]
fn a_member_may_want_other_topics() {
    let mut world = World::new(&[("t", 1), ("u", 1)]);
    world.joins("a", &["t"]);
    let other = ConsumerHeartbeat {
        topics: Some(vec!["u".to_owned()]),
        owned: Some(Vec::new()),
        ..alive("a", 1)
    };
    assert_eq!(told(&world.beat(other).expect("it is a member")), (2, 1));
    assert_eq!(world.owned("a"), [("u".to_owned(), 0)]);
}

#[test]
fn patterns_match_whole_names_of_the_topics_that_there_are() {
    let mut world = World::new(&[("orders-a", 1), ("orders-b", 1), ("my-orders", 1)]);
    world.set_topic("__consumer_offsets", 50);
    let pattern = |text: &str| Some(text.to_owned());
    let beat = ConsumerHeartbeat { topics: None, regex: pattern("orders-.*"), ..join("a", &[]) };
    assert_eq!(told(&world.beat(beat).expect("it may join")), (1, 2));
    world.bench.pass(2 * SECOND);
    world.set_topic("orders-c", 3);
    assert_eq!(told(&world.beat(alive("a", 1)).expect("it is a member")), (2, 5));
    let all = ConsumerHeartbeat { regex: pattern("orders-a|.*"), ..alive("a", 2) };
    assert_eq!(told(&world.beat(all).expect("it is a member")), (3, 6), "but our own topics");
    let by_name = ConsumerHeartbeat {
        regex: pattern(""),
        topics: Some(vec!["my-orders".to_owned()]),
        owned: Some(Vec::new()),
        ..alive("a", 3)
    };
    assert_eq!(told(&world.beat(by_name).expect("it is a member")), (4, 1));
}

#[test]
fn patterns_that_are_malformed_or_too_large_are_refused() {
    let check = |pattern: &str, code: i16| {
        let mut world = World::new(&[]);
        let regex = Some(pattern.to_owned());
        assert_eq!(world.refused(ConsumerHeartbeat { regex, ..join("a", &[]) }), code, "{pattern}");
    };
    check("a(b|c)*", 0);
    check("a)|(b", 128);
    check("[", 128);
    check("(?=a)", 128);
    check(r"(a)\1", 128);
    check("(((a{100}){100}){100})", 128);
    check(&"a".repeat(5000), 128);
}

#[test]
fn a_group_knows_so_many_patterns_and_no_more() {
    let mut world = World::new(&[]);
    for number in 0..40 {
        let regex = Some(format!("p{number}"));
        let expected = if number < 32 { 0 } else { 81 };
        let beat = ConsumerHeartbeat { regex, ..join(&format!("m{number}"), &[]) };
        assert_eq!(world.refused(beat), expected, "{number}");
    }
}

#[test]
fn most_members_choose_the_assignor() {
    let mut world = World::new(&[("t", 1)]);
    let assignor = |world: &World| {
        let topics = Topics::new(world.topics.clone());
        world.bench.group.describe_consumers(&topics).expect("it is one").assignor
    };
    world.joins("a", &["t"]);
    assert_eq!(assignor(&world), "uniform");
    let wish = |name: &str, member: &str| ConsumerHeartbeat {
        assignor: Some(name.to_owned()),
        ..join(member, &["t"])
    };
    world.beat(wish("range", "b")).expect("it may join");
    assert_eq!(assignor(&world), "range");
    world.beat(wish("uniform", "c")).expect("it may join");
    assert_eq!(assignor(&world), "uniform");
}
