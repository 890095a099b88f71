//! Consumer groups through kills, power cuts and jumps of the calendar.

use std::time::Duration;

use rafka_broker::group::{
    CommitOffsets, CommittedOffset, ConsumerHeartbeat, ConsumerInstruction, FetchOffsets,
    Heartbeat, JOIN_EPOCH, Join, JoinError, Joined, OffsetToCommit, Protocol, Sync,
};
use rafka_broker::{Error, group};
use rafka_core::rng::{self, RngExt as _};
use rafka_core::{ByteSize, ErrorCode, GroupId, Offset, PartitionIndex, TopicName};
use rafka_storage::disk::Disk as _;
use rafka_storage::disk::faulty::Verb;

use crate::client::{WAIT, batch, code, produce};
use crate::node::{DIR, Node, TODAY, small};

const SESSION: Duration = Duration::from_secs(30);

fn group_id() -> GroupId {
    GroupId::new("workers").expect("a valid id")
}

fn commit(topic: &TopicName, member: &Member, offset: i64) -> CommitOffsets {
    let committed =
        CommittedOffset { offset: Offset(offset), leader_epoch: None, metadata: String::new() };
    let offsets =
        vec![OffsetToCommit { topic: topic.clone(), partition: PartitionIndex(0), committed }];
    CommitOffsets {
        group: group_id(),
        member: member.id.clone(),
        instance: None,
        generation: member.generation,
        offsets,
    }
}

/// A member of the group; the default is a consumer in no group.
#[derive(Debug, Clone)]
struct Member {
    id: String,
    generation: i32,
}

fn nobody() -> Member {
    Member { id: String::new(), generation: -1 }
}

async fn committed(node: &Node, topic: &TopicName, member: &Member, at: i64) -> Result<(), Error> {
    let results =
        node.drive(node.broker.groups().commit_offsets(commit(topic, member, at))).await?;
    results[0].result.map_err(Error::from)
}

async fn position(node: &Node, topic: &TopicName) -> Option<i64> {
    let partitions = Some(vec![(topic.clone(), PartitionIndex(0))]);
    let fetch = FetchOffsets { group: group_id(), partitions, member: None, require_stable: false };
    let found = loop {
        match node.drive(node.broker.groups().fetch_offsets(fetch.clone())).await {
            // As a client does while the node reads what its groups had committed.
            Err(error) if error.is_retriable() => continue,
            found => break found.expect("a known group"),
        }
    };
    found[0].committed.as_ref().map(|committed| committed.offset.0)
}

async fn join(node: &Node, id: &str) -> Joined {
    let join = |member: &str| Join {
        group: group_id(),
        member: member.to_owned(),
        instance: None,
        client_id: "test".to_owned(),
        client_host: "here".to_owned(),
        session_timeout: SESSION,
        rebalance_timeout: SESSION,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol { name: "range".to_owned(), metadata: bytes::Bytes::new() }],
        member_id_required: true,
        skip_assignment_known: true,
    };
    match node.drive(node.broker.groups().join(join(id))).await {
        Err(JoinError::MemberIdRequired { member }) => {
            node.drive(node.broker.groups().join(join(&member))).await.expect("it may join")
        }
        joined => joined.expect("it may join"),
    }
}

/// Joins and syncs until the member is part of a stable group of one.
async fn member(node: &Node) -> Member {
    let joined = join(node, "").await;
    let sync = Sync {
        group: group_id(),
        member: joined.member.clone(),
        instance: None,
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments: vec![(joined.member.clone(), bytes::Bytes::from_static(b"all"))],
    };
    node.drive(node.broker.groups().sync(sync)).await.expect("it leads");
    Member { id: joined.member, generation: joined.generation }
}

async fn beat(node: &Node, member: &Member) -> Result<(), Error> {
    let beat = Heartbeat {
        group: group_id(),
        member: member.id.clone(),
        instance: None,
        generation: member.generation,
    };
    node.drive(node.broker.groups().heartbeat(beat)).await
}

/// A heartbeat of a next-generation member, tried again while the node reads its groups.
async fn consumer_beat(node: &Node, epoch: i32) -> Result<ConsumerInstruction, Error> {
    let joins = epoch == JOIN_EPOCH;
    let beat = ConsumerHeartbeat {
        group: group_id(),
        member: "m".to_owned(),
        member_epoch: epoch,
        instance: None,
        rack: None,
        rebalance_timeout: joins.then_some(SESSION),
        topics: joins.then(|| vec!["orders".to_owned()]),
        regex: joins.then(|| "orders-.*".to_owned()),
        assignor: None,
        owned: joins.then(Vec::new),
        client_id: "test".to_owned(),
        client_host: "here".to_owned(),
    };
    loop {
        match node.drive(node.broker.groups().consumer_heartbeat(beat.clone())).await {
            Err(error) if error.is_retriable() => {}
            answer => return answer,
        }
    }
}

#[tokio::test]
async fn a_next_generation_member_goes_on_where_it_was_after_a_power_cut() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 2, &[]).await;
    let joined = consumer_beat(&node, JOIN_EPOCH).await.expect("it may join");
    let share = joined.assignment.expect("it joins");
    assert_eq!((joined.member_epoch, share.len(), share[0].1.len()), (1, 1, 2));
    let member = Member { id: "m".to_owned(), generation: 1 };
    committed(&node, &topic, &member, 7).await.expect("it is in this epoch");
    let node = node.power_cut().await;
    let again = consumer_beat(&node, 1).await.expect("it is still a member");
    assert_eq!((again.member_epoch, again.assignment), (1, None));
    assert_eq!(position(&node, &topic).await, Some(7));
    let late = committed(&node, &topic, &Member { generation: 2, ..member }, 8).await;
    assert_eq!(code(&late), Some(ErrorCode::StaleMemberEpoch));
    // A topic that its pattern matches comes: the next heartbeats bring it.
    node.create_topic("orders-late", 1, &[]).await;
    let news = loop {
        let instruction = consumer_beat(&node, 1).await.expect("it is a member");
        if instruction.assignment.is_some() {
            break instruction;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((news.member_epoch, news.assignment.map(|share| share.len())), (2, Some(2)));
    node.bury().await;
}

#[tokio::test]
async fn a_group_goes_by_its_own_settings_also_after_a_power_cut() {
    let node = Node::new(small()).await;
    node.create_topic("orders", 2, &[]).await;
    let set = |name: &str, value: Option<&str>| {
        std::collections::BTreeMap::from([(name.to_owned(), value.map(str::to_owned))])
    };
    let (interval, timeout) = ("consumer.heartbeat.interval.ms", "consumer.session.timeout.ms");
    let alter = |node: &Node, changes, validate_only| {
        let broker = node.broker.clone();
        async move { broker.alter_group_configs(group_id(), changes, validate_only).await }
    };
    alter(&node, set(interval, Some("20000")), true).await.expect("it could be set");
    assert!(node.broker.configured_groups().is_empty(), "it was only asked whether");
    alter(&node, set(interval, Some("20000")), false).await.expect("it is valid");
    let long = alter(&node, set(interval, Some("46000")), false).await;
    assert_eq!(code(&long), Some(ErrorCode::InvalidConfig), "longer than its session");
    let joined = consumer_beat(&node, JOIN_EPOCH).await.expect("it may join");
    assert_eq!(joined.heartbeat_interval, Duration::from_secs(20));
    let node = node.power_cut().await;
    let told = consumer_beat(&node, 1).await.expect("it is still a member");
    assert_eq!(told.heartbeat_interval, Duration::from_secs(20));
    // A session that is over at once.
    alter(&node, set(interval, Some("1")), false).await.expect("it is valid");
    alter(&node, set(timeout, Some("1")), false).await.expect("it is valid");
    while consumer_beat(&node, 1).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let gone = consumer_beat(&node, 1).await;
    assert_eq!(code(&gone), Some(ErrorCode::UnknownMemberId));
    let back = alter(&node, set(interval, None), false).await;
    assert_eq!(
        code(&back),
        Some(ErrorCode::InvalidConfig),
        "the node's is longer than its session"
    );
    alter(&node, set(timeout, None), false).await.expect("it may go back");
    alter(&node, set(interval, None), false).await.expect("it may go back");
    assert!(node.broker.configured_groups().is_empty());
    node.bury().await;
}

#[tokio::test]
async fn a_committed_offset_never_goes_back_wherever_the_node_dies() {
    for seed in 0..6 {
        let mut rng = rng::from_seed(seed);
        let mut node = Node::new(small()).await;
        let topic = node.create_topic("orders", 1, &[]).await;
        let (mut acked, mut tried) = (-1, -1);
        for life in 0..4 {
            node.place.disk.die_after(rng.random_range(0..25));
            while !node.place.disk.is_dead() {
                tried += 1;
                if committed(&node, &topic, &nobody(), tried).await.is_ok() {
                    acked = tried;
                }
            }
            node = if rng.random() { node.power_cut().await } else { node.kill().await };
            let found = position(&node, &topic).await.unwrap_or(-1);
            let range = acked..=tried;
            assert!(range.contains(&found), "seed {seed}, life {life}: {found} not in {range:?}");
            acked = found;
        }
        node.bury().await;
    }
}

#[tokio::test]
async fn a_commit_that_cannot_be_written_is_neither_acked_nor_shown() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    committed(&node, &topic, &nobody(), 5).await.expect("the disk works");
    node.place.disk.fail(Verb::Write, "journal", 0);
    let refused = committed(&node, &topic, &nobody(), 6).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(position(&node, &topic).await, Some(5));
    let node = node.power_cut().await;
    assert!(matches!(position(&node, &topic).await, Some(5 | 6)), "it may have been written");
    committed(&node, &topic, &nobody(), 7).await.expect("the disk works again");
    assert_eq!(position(&node, &topic).await, Some(7));
}

#[tokio::test]
async fn a_group_goes_on_while_the_disk_has_no_room_for_records() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    committed(&node, &topic, &nobody(), 0).await.expect("there is room");
    let disk = node.place.disk.clone();
    let reserve = node.place.settings.storage.disk_reserve_bytes.0;
    disk.set_capacity(Some(ByteSize::gib(1)));
    let used = ByteSize::gib(1).0 - disk.free_space(DIR.as_ref()).expect("it says").0;
    disk.set_capacity(Some(ByteSize(used + reserve * 7 / 8)));
    node.engine.step();
    let refused = produce(&node, &topic, batch(TODAY, b"a record")).await;
    assert_eq!(code(&refused), Some(ErrorCode::KafkaStorageError));
    committed(&node, &topic, &nobody(), 1).await.expect("it comes out of the reserve");
    assert_eq!(position(&node, &topic).await, Some(1));
    let member = member(&node).await;
    beat(&node, &member).await.expect("it is a member");
    // The last half is for what frees space.
    disk.set_capacity(Some(ByteSize(used + reserve / 8)));
    node.engine.step();
    let refused = committed(&node, &topic, &nobody(), 2).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn a_member_goes_on_after_a_power_cut_and_zombies_are_told_what_they_are() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    let member = member(&node).await;
    committed(&node, &topic, &member, 3).await.expect("it is in the group");
    let node = node.power_cut().await;
    assert_eq!(position(&node, &topic).await, Some(3));
    assert_eq!(beat(&node, &member).await, Ok(()), "nobody has to join again");
    committed(&node, &topic, &member, 4).await.expect("it still is");
    let before = Member { generation: member.generation - 1, ..member.clone() };
    let stranger = Member { id: "stranger".to_owned(), ..member.clone() };
    for (zombie, expected) in
        [(&before, ErrorCode::IllegalGeneration), (&stranger, ErrorCode::UnknownMemberId)]
    {
        assert_eq!(code(&beat(&node, zombie).await), Some(expected));
        assert_eq!(code(&committed(&node, &topic, zombie, 1).await), Some(expected));
    }
    assert_eq!(position(&node, &topic).await, Some(4), "it never goes back");
}

#[tokio::test]
async fn an_empty_commit_is_fine_and_offsets_go_with_their_topic() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    committed(&node, &topic, &nobody(), 3).await.expect("the disk works");
    let empty = CommitOffsets { offsets: Vec::new(), ..commit(&topic, &nobody(), 0) };
    let result = node.drive(node.broker.groups().commit_offsets(empty)).await;
    assert_eq!(result, Ok(Vec::new()));
    node.broker.delete_topic(topic.clone().into()).await.expect("it exists");
    let again = node.create_topic("orders", 1, &[]).await;
    // Nothing is shown before it is durable, which holds for the offset's end as well.
    let forgotten = async {
        while position(&node, &again).await.is_some() {
            node.engine.step();
        }
    };
    tokio::time::timeout(WAIT, forgotten).await.expect("the new topic is another");
    let node = node.power_cut().await;
    assert_eq!(position(&node, &again).await, None);
}

#[tokio::test]
async fn offsets_go_with_their_topic_also_when_the_node_dies_between_the_two() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    committed(&node, &topic, &nobody(), 3).await.expect("the disk works");
    // The journal stands still: the topic is durably gone, the end of its offsets is not.
    node.broker.delete_topic(topic.clone().into()).await.expect("it exists");
    let node = node.power_cut().await;
    let again = node.create_topic("orders", 1, &[]).await;
    assert_eq!(position(&node, &again).await, None);
    let node = node.stop().await.start().await.expect("it stopped in order");
    assert_eq!(position(&node, &again).await, None);
    committed(&node, &again, &nobody(), 1).await.expect("the disk works");
    assert_eq!(position(&node.kill().await, &again).await, Some(1));
}

#[tokio::test]
async fn nothing_is_committed_where_there_is_no_topic_or_partition() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    let mut both = commit(&topic, &nobody(), 3);
    both.offsets.push(OffsetToCommit { partition: PartitionIndex(1), ..both.offsets[0].clone() });
    let results = node.drive(node.broker.groups().commit_offsets(both)).await.expect("answered");
    let results: Vec<_> = results.iter().map(|partition| partition.result).collect();
    assert_eq!(results, [Ok(()), Err(ErrorCode::UnknownTopicOrPartition)]);
    let other = TopicName::new("others").expect("a valid name");
    let refused = committed(&node, &other, &nobody(), 1).await;
    assert_eq!(code(&refused), Some(ErrorCode::UnknownTopicOrPartition));
    let other = node.create_topic("others", 1, &[]).await;
    assert_eq!(position(&node, &other).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_calendar_expels_nobody_and_silence_does() {
    let node = Node::new(small()).await;
    let member = member(&node).await;
    for off in [3_600_000, -3_600_000, 0] {
        node.place.clock.set_off(off);
        assert_eq!(beat(&node, &member).await, Ok(()), "{off}");
    }
    tokio::time::sleep(SESSION * 2).await;
    assert_eq!(code(&beat(&node, &member).await), Some(ErrorCode::UnknownMemberId));
    let described = node.broker.groups().describe(group_id()).await.expect("it is known");
    assert_eq!(described.state, group::GroupState::Empty);
}
