//! What holds for the topics of a shard.

use rafka_core::{Epoch, ErrorCode};
use smallvec::smallvec;

use super::*;
use crate::partition::{Assignment, PartitionEpoch, Replica};

fn name(text: &str) -> TopicName {
    TopicName::new(text).expect("a valid name")
}

fn id(number: u128) -> TopicId {
    TopicId(uuid::Uuid::from_u128(number))
}

fn replicas(nodes: &[i32]) -> Replicas {
    let replica = |node: &i32| Replica { node: NodeId(*node), storage: StorageEpoch(0) };
    nodes.iter().map(replica).collect()
}

fn create(number: u128, text: &str, partitions: &[&[i32]]) -> Command {
    Command::CreateTopic(NewTopic {
        id: id(number),
        name: name(text),
        configs: BTreeMap::new(),
        partitions: partitions.iter().map(|nodes| replicas(nodes)).collect(),
    })
}

fn shard_with(topics: &[(u128, &str, &[&[i32]])]) -> Shard {
    let mut shard = Shard::default();
    for (number, text, partitions) in topics {
        shard.apply(&create(*number, text, partitions)).expect("a new topic");
    }
    shard
}

fn refused(shard: &mut Shard, command: &Command) -> (i16, String) {
    let before = shard.clone();
    let refused = shard.apply(command).expect_err("refused");
    assert_eq!(*shard, before, "a refusal changes nothing");
    (refused.code().code(), refused.to_string())
}

#[test]
fn a_name_is_taken_by_what_kafka_holds_to_be_the_same() {
    let mut shard = shard_with(&[(1, "a.b", &[&[0]])]);
    assert_eq!(
        refused(&mut shard, &create(2, "a.b", &[&[0]])),
        (36, "topic a.b exists already".to_owned())
    );
    assert_eq!(
        refused(&mut shard, &create(2, "a_b", &[&[0]])),
        (
            17,
            "topic a_b collides with topic a.b: names must differ in more than . and _".to_owned()
        )
    );
    assert!(shard.topic(&name("a_b")).is_none(), "the other name finds nothing");
    assert!(shard.apply(&create(2, "a-b", &[&[0]])).is_ok());
    shard.apply(&Command::DeleteTopic { topic: id(1) }).expect("it exists");
    assert!(shard.apply(&create(3, "a_b", &[&[0]])).is_ok());
}

#[test]
fn impossible_topics_are_refused_with_kafka_s_codes() {
    let mut shard = shard_with(&[(1, "t", &[&[0]])]);
    let code = |shard: &mut Shard, command: &Command| refused(shard, command).0;
    assert_eq!(code(&mut shard, &create(2, "u", &[])), 37);
    assert_eq!(code(&mut shard, &create(2, "u", &[&[]])), 39);
    assert_eq!(code(&mut shard, &create(2, "u", &[&[0, 0]])), 39);
    assert_eq!(code(&mut shard, &create(1, "u", &[&[0]])), -1);
    let many: Vec<&[i32]> = vec![&[0]; PARTITIONS_PER_TOPIC_MAX + 1];
    assert_eq!(code(&mut shard, &create(2, "u", &many)), 37);
    assert_eq!(code(&mut shard, &Command::DeleteTopic { topic: id(9) }), 100);
}

#[test]
fn a_topic_created_again_is_another_one() {
    let mut shard = shard_with(&[(1, "t", &[&[0], &[0]])]);
    shard.apply(&Command::DeleteTopic { topic: id(1) }).expect("it exists");
    assert!(shard.topic_by_id(id(1)).is_none());
    assert_eq!((shard.topic_count(), shard.partition_count()), (0, 0));
    shard.apply(&create(2, "t", &[&[0]])).expect("the name is free");
    assert!(shard.topic_by_id(id(1)).is_none());
    assert_eq!(shard.topic(&name("t")).map(|topic| topic.id), Some(id(2)));
}

#[test]
fn a_deleted_topic_is_remembered_until_every_node_that_held_it_is_rid_of_it() {
    let mut shard = shard_with(&[(1, "t", &[&[0, 1], &[1, 0]]), (2, "u", &[&[0]])]);
    shard.apply(&Command::DeleteTopic { topic: id(1) }).expect("it exists");
    let held = |shard: &Shard, node| shard.deleted(NodeId(node)).collect::<Vec<_>>();
    assert_eq!((held(&shard, 0), held(&shard, 1)), (vec![id(1)], vec![id(1)]));
    let mut shard = Shard::restore(&shard.snapshot()).expect("a snapshot of ours");
    let done = |node| Command::LogsDeleted { node: NodeId(node), topics: vec![id(1), id(2)] };
    shard.apply(&done(1)).expect("never refused");
    assert_eq!((held(&shard, 0), held(&shard, 1)), (vec![id(1)], vec![]));
    shard.apply(&done(0)).expect("never refused");
    shard.apply(&done(0)).expect("never refused");
    assert_eq!(held(&shard, 0), []);
    assert!(shard.topic(&name("u")).is_some(), "a topic that lives is not touched");
}

#[test]
fn partitions_are_only_added_and_only_to_what_the_proposer_saw() {
    let mut shard = shard_with(&[(1, "t", &[&[0], &[0]])]);
    let add = |total: u32, count: usize| Command::AddPartitions {
        topic: id(1),
        total,
        added: vec![replicas(&[0]); count],
    };
    assert_eq!(
        refused(&mut shard, &add(2, 0)),
        (37, "topic t has 2 partitions already; 2 is not more".to_owned())
    );
    assert_eq!(refused(&mut shard, &add(1, 1)).0, 37);
    assert_eq!(
        refused(&mut shard, &add(4, 1)),
        (37, "topic t has 2 partitions by now: look again before adding to them".to_owned())
    );
    let effects = shard.apply(&add(4, 2)).expect("two more");
    let [Effect::PartitionsAdded { topic, first }] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!((topic.partitions.len(), *first), (4, PartitionIndex(2)));
    assert_eq!(shard.replica_count(NodeId(0)), 4);
}

#[test]
fn configs_are_set_and_go_back_to_the_default() {
    let mut shard = shard_with(&[(1, "t", &[&[0]])]);
    let alter = |value: Option<&str>| Command::AlterConfigs {
        topic: id(1),
        changes: BTreeMap::from([("retention.ms".to_owned(), value.map(str::to_owned))]),
    };
    assert_eq!(shard.apply(&alter(Some("5"))).map(|effects| effects.len()), Ok(1));
    assert_eq!(shard.apply(&alter(Some("5"))), Ok(Vec::new()));
    let configs = |shard: &Shard| shard.topic(&name("t")).map(|topic| topic.configs.clone());
    let expected = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
    assert_eq!(configs(&shard), Some(expected));
    shard.apply(&alter(None)).expect("it exists");
    assert_eq!(configs(&shard), Some(BTreeMap::new()));
}

#[test]
fn one_command_ends_all_leaderships_of_a_restarted_node() {
    let mut shard =
        shard_with(&[(1, "a", &[&[0], &[1], &[0]]), (2, "b", &[&[1, 0]]), (3, "c", &[&[0, 1]])]);
    let begin = |session| Command::BeginSession {
        node: NodeId(0),
        session: SessionEpoch(session),
        storage: StorageEpoch(0),
    };
    let effects = shard.apply(&begin(1)).expect("a new session");
    let changed: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::PartitionsChanged { topic, partitions } => {
                Some((topic.name.as_str(), partitions.iter().map(|index| index.0).collect()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(changed, [("a", vec![0, 2]), ("c", vec![0])]);
    let epoch = |shard: &Shard, topic: &str, index| {
        let topic = shard.topic(&name(topic)).expect("it exists");
        topic.partitions.get(PartitionIndex(index)).expect("it exists").leader_epoch()
    };
    assert_eq!(epoch(&shard, "a", 0), Epoch(1));
    assert_eq!(epoch(&shard, "a", 1), Epoch(0));
    assert_eq!(epoch(&shard, "b", 0), Epoch(0));
    assert_eq!(shard.apply(&begin(1)), Ok(Vec::new()), "the same session again changes nothing");
    shard.apply(&begin(3)).expect("a newer session");
    assert_eq!(epoch(&shard, "a", 0), Epoch(2));
    assert_eq!(
        refused(&mut shard, &begin(2)),
        (77, "session 2 of node 0 is over: the current one is 3".to_owned())
    );
}

#[test]
fn a_change_made_for_an_older_epoch_is_refused() {
    let mut shard = shard_with(&[(1, "t", &[&[0, 1]])]);
    let change = |expected| {
        Command::ChangePartition(PartitionChange {
            topic: id(1),
            partition: PartitionIndex(0),
            expected: PartitionEpoch(expected),
            to: Assignment {
                replicas: replicas(&[0, 2]),
                adding: smallvec![NodeId(2)],
                removing: smallvec![],
                isr: smallvec![NodeId(0)],
                elr: smallvec![],
                leader: Some(NodeId(0)),
            },
            is_unclean: false,
        })
    };
    shard.apply(&change(0)).expect("it is at epoch 0");
    assert_eq!(
        refused(&mut shard, &change(0)),
        (95, "partition 0 of topic t is at epoch 1, not 0".to_owned())
    );
    let counts = [0, 1, 2].map(|node| shard.replica_count(NodeId(node)));
    assert_eq!(counts, [1, 0, 1]);
    let Command::ChangePartition(mut missing) = change(1) else { unreachable!() };
    missing.partition = PartitionIndex(1);
    let refused = shard.apply(&Command::ChangePartition(missing)).expect_err("one partition");
    assert_eq!(refused.code(), ErrorCode::UnknownTopicOrPartition);
}
