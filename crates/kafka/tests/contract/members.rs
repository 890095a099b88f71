//! Members of classic groups that break a rule, and those who come after them.

use bytes::Bytes;
use rafka_kafka_wire::{heartbeat, join_group, leave_group, offset_commit, sync_group};

use crate::support::{Client, Node, ask};

const VERSION: i16 = 5;

/// A request to join that breaks no rule.
fn joining(group: &str, member: &str, instance: Option<&str>) -> join_group::Request<'static> {
    join_group::Request {
        group_id: group.to_owned().into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member.to_owned().into(),
        group_instance_id: instance.map(|id| id.to_owned().into()),
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range")],
        ..join_group::Request::default()
    }
}

fn protocol(name: &'static str) -> join_group::RequestProtocol<'static> {
    join_group::RequestProtocol { name: name.into(), metadata: Bytes::from_static(b"wants") }
}

/// The code, the generation and the member's id.
async fn ask_to_join(client: &mut Client, request: &join_group::Request<'_>) -> (i16, i32, String) {
    ask!(client, VERSION, *request => join_group::Response<'_>, |r| {
        (r.error_code, r.generation_id, r.member_id.to_string())
    })
}

/// Joins, with an id that the node gives if `member` is empty.
async fn join(client: &mut Client, group: &str, instance: Option<&str>) -> (i32, String) {
    let (code, generation, id) = ask_to_join(client, &joining(group, "", instance)).await;
    if code == 0 {
        return (generation, id);
    }
    assert_eq!(code, 79, "an id is needed, and given");
    let (code, generation, joined) = ask_to_join(client, &joining(group, &id, instance)).await;
    assert_eq!((code, &joined), (0, &id));
    (generation, id)
}

async fn sync(client: &mut Client, (group, generation, member): (&str, i32, &str)) -> i16 {
    let request = sync_group::Request {
        group_id: group.to_owned().into(),
        generation_id: generation,
        member_id: member.to_owned().into(),
        ..sync_group::Request::default()
    };
    ask!(client, 3, request => sync_group::Response<'_>, |r| r.error_code)
}

async fn beat(
    client: &mut Client,
    (group, generation, member): (&str, i32, &str),
    instance: Option<&str>,
) -> i16 {
    let request = heartbeat::Request {
        group_id: group.to_owned().into(),
        generation_id: generation,
        member_id: member.to_owned().into(),
        group_instance_id: instance.map(|id| id.to_owned().into()),
    };
    ask!(client, 3, request => heartbeat::Response, |r| r.error_code)
}

async fn commit(
    client: &mut Client,
    (group, generation, member): (&str, i32, &str),
    instance: Option<&str>,
    metadata: &str,
) -> i16 {
    let partition = offset_commit::RequestPartition {
        committed_offset: 7,
        committed_leader_epoch: -1,
        committed_metadata: Some(metadata.to_owned().into()),
        ..offset_commit::RequestPartition::default()
    };
    let request = offset_commit::Request {
        group_id: group.to_owned().into(),
        generation_id_or_member_epoch: generation,
        member_id: member.to_owned().into(),
        group_instance_id: instance.map(|id| id.to_owned().into()),
        topics: vec![offset_commit::RequestTopic {
            name: "orders".into(),
            partitions: vec![partition],
            ..offset_commit::RequestTopic::default()
        }],
        ..offset_commit::Request::default()
    };
    ask!(client, 7, request => offset_commit::Response<'_>, |r| {
        r.topics[0].partitions[0].error_code
    })
}

#[tokio::test]
async fn who_joins_wrongly_is_told_why() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let base = || joining("g", "", None);
    for (request, expected) in [
        (join_group::Request { group_id: "".into(), ..base() }, 24),
        (join_group::Request { session_timeout_ms: 5_999, ..base() }, 26),
        (join_group::Request { session_timeout_ms: 1_800_001, ..base() }, 26),
        (join_group::Request { member_id: "stranger".into(), ..base() }, 25),
        (join_group::Request { protocol_type: "".into(), ..base() }, 23),
        (join_group::Request { protocols: vec![], ..base() }, 23),
    ] {
        let (code, _, _) = ask_to_join(&mut client, &request).await;
        assert_eq!(code, expected, "{request:?}");
    }
    let (generation, id) = join(&mut client, "g", None).await;
    assert_eq!(generation, 1);
    assert_eq!(sync(&mut client, ("g", 1, &id)).await, 0);
    let mut other = node.connect().await;
    for request in [
        join_group::Request { protocol_type: "connect".into(), ..base() },
        join_group::Request { protocols: vec![protocol("other")], ..base() },
    ] {
        let (code, _, _) = ask_to_join(&mut other, &request).await;
        assert_eq!(code, 23, "{request:?}");
    }
}

#[tokio::test]
async fn members_of_another_time_and_strangers_are_told_what_they_are() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let (generation, id) = join(&mut client, "g", None).await;
    assert_eq!(sync(&mut client, ("g", generation, &id)).await, 0);
    for (generation, member, expected) in
        [(generation, &*id, 0), (generation + 1, &id, 22), (generation, "stranger", 25)]
    {
        let who = ("g", generation, member);
        assert_eq!(beat(&mut client, who, None).await, expected);
        assert_eq!(commit(&mut client, who, None, "").await, expected);
        assert_eq!(sync(&mut client, who).await, expected);
    }
    assert_eq!(commit(&mut client, ("g", -1, ""), None, "").await, 25, "the group has members");
    assert_eq!(commit(&mut client, ("alone", -1, ""), None, "").await, 0);
    let (fits, too_long) = ("x".repeat(4096), "x".repeat(4097));
    assert_eq!(commit(&mut client, ("alone", -1, ""), None, &fits).await, 0);
    assert_eq!(commit(&mut client, ("alone", -1, ""), None, &too_long).await, 12);
}

#[tokio::test]
async fn a_static_member_that_comes_back_takes_its_place_and_fences_the_one_before() {
    let node = Node::start().await;
    let mut first = node.connect().await;
    let (generation, before) = join(&mut first, "g", Some("instance")).await;
    assert_eq!(sync(&mut first, ("g", generation, &before)).await, 0);
    let mut second = node.connect().await;
    let (again, after) = join(&mut second, "g", Some("instance")).await;
    assert_ne!(before, after);
    assert_eq!(again, generation, "nobody has to join again");
    let zombie = ("g", generation, &*before);
    assert_eq!(beat(&mut first, zombie, Some("instance")).await, 82);
    assert_eq!(commit(&mut first, zombie, Some("instance"), "").await, 82);
    let (code, _, _) = ask_to_join(&mut first, &joining("g", &before, Some("instance"))).await;
    assert_eq!(code, 82);
    assert_eq!(beat(&mut second, ("g", generation, &after), Some("instance")).await, 0);
    let leaving = |member: &str| leave_group::Request {
        group_id: "g".into(),
        members: vec![leave_group::MemberIdentity {
            member_id: member.to_owned().into(),
            group_instance_id: Some("instance".into()),
            ..leave_group::MemberIdentity::default()
        }],
        ..leave_group::Request::default()
    };
    for (member, expected) in [(&before, 82), (&after, 0), (&after, 25)] {
        let request = leaving(member);
        let code =
            ask!(second, 4, request => leave_group::Response<'_>, |r| r.members[0].error_code);
        assert_eq!(code, expected);
    }
}
