//! What holds for members, sessions, producer ids and configs of nodes.

use super::*;

fn founded() -> Root {
    let mut root = Root::default();
    root.apply(&found(1)).expect("not founded yet");
    root.apply(&Command::Join { uuid: Uuid::from_u128(10) }).expect("founded");
    root
}

fn found(cluster: u128) -> Command {
    Command::Found { cluster: Uuid::from_u128(cluster), shards: ShardCount::default() }
}

fn begin(node: i32, is_intact: bool) -> Command {
    let address = Address { host: "::1".to_owned(), port: 9192 };
    let addresses = Addresses::from([("grpc".to_owned(), address)]);
    Command::BeginSession { node: NodeId(node), addresses, is_intact }
}

#[test]
fn a_cluster_is_founded_once() {
    let mut root = Root::default();
    assert_eq!(root.apply(&begin(0, true)), Err(Refused::NotFounded));
    assert_eq!(root.apply(&found(1)), Ok(vec![Effect::Founded]));
    assert_eq!(root.apply(&found(1)), Ok(Vec::new()), "said again, it changes nothing");
    assert_eq!(root.apply(&found(2)), Err(Refused::AlreadyFounded));
}

#[test]
fn node_ids_count_from_0_and_follow_the_identity() {
    let mut root = founded();
    assert_eq!(root.node_of(Uuid::from_u128(10)), Some(NodeId(0)));
    let join = Command::Join { uuid: Uuid::from_u128(11) };
    assert_eq!(root.apply(&join), Ok(vec![Effect::Joined(NodeId(1))]));
    assert_eq!(root.apply(&join), Ok(Vec::new()));
    assert_eq!(root.members().len(), 2);
}

#[test]
fn every_start_is_a_new_session_and_only_lost_data_a_new_storage_epoch() {
    let mut root = founded();
    for (is_intact, session, storage) in [(true, 1, 0), (false, 2, 1), (true, 3, 1)] {
        let begun = Effect::SessionBegun { node: NodeId(0), session: SessionEpoch(session) };
        assert_eq!(root.apply(&begin(0, is_intact)), Ok(vec![begun]));
        assert_eq!(root.members()[&NodeId(0)].storage, StorageEpoch(storage));
    }
    assert_eq!(root.members()[&NodeId(0)].addresses["grpc"].to_string(), "[::1]:9192");
    assert_eq!(root.apply(&begin(7, true)), Err(Refused::UnknownNode(NodeId(7))));
}

#[test]
fn no_producer_id_is_given_out_twice() {
    let mut root = founded();
    let mut next = 0;
    for _ in 0..5 {
        let effects = root.apply(&Command::GrantProducerIds { node: NodeId(0) });
        let block = ProducerId(next)..ProducerId(next + 1000);
        assert_eq!(effects, Ok(vec![Effect::ProducerIds(block)]));
        next += 1000;
    }
    root.producer_id_next = i64::MAX - 999;
    let before = root.clone();
    let refused = root.apply(&Command::GrantProducerIds { node: NodeId(0) });
    assert_eq!(refused, Err(Refused::Exhausted("producer ids")));
    assert_eq!(root, before);
}

#[test]
fn configs_of_a_node_are_set_and_removed() {
    let mut root = founded();
    let alter = |node: Option<i32>, value: Option<&str>| Command::AlterConfigs {
        node: node.map(NodeId),
        changes: BTreeMap::from([("log.retention.ms".to_owned(), value.map(str::to_owned))]),
    };
    let changed = Ok(vec![Effect::NodeConfigsChanged]);
    assert_eq!(root.apply(&alter(None, Some("1"))), changed);
    assert_eq!(root.apply(&alter(None, Some("1"))), Ok(Vec::new()));
    assert_eq!(root.apply(&alter(Some(0), Some("2"))), changed);
    assert_eq!(root.topic_defaults(None), Layer::from([(Key::RetentionMs, "1".to_owned())]));
    assert_eq!(root.topic_defaults(Some(NodeId(0)))[&Key::RetentionMs], "2");
    assert_eq!(root.apply(&alter(Some(0), None)), changed);
    assert_eq!(root.configs(Some(NodeId(0))), None);
    assert_eq!(root.apply(&alter(Some(9), None)), Err(Refused::UnknownNode(NodeId(9))));
}

#[test]
fn configs_of_a_group_are_set_removed_and_bounded() {
    let mut root = founded();
    let group = |name: &str| GroupId::new(name).expect("a valid id");
    let alter = |name: &str, value: Option<&str>| Command::AlterGroupConfigs {
        group: group(name),
        changes: BTreeMap::from([("a.key".to_owned(), value.map(str::to_owned))]),
    };
    let changed = Ok(vec![Effect::GroupConfigsChanged(group("g"))]);
    assert_eq!(root.apply(&alter("g", None)), Ok(Vec::new()));
    assert_eq!(root.apply(&alter("g", Some("1"))), changed);
    assert_eq!(root.apply(&alter("g", Some("1"))), Ok(Vec::new()));
    assert_eq!(root.group_configs(&group("g")).expect("it has some")["a.key"], "1");
    assert_eq!(Root::restore(&root.snapshot()), Ok(root.clone()));
    for number in 1..CONFIGURED_GROUPS_MAX {
        root.apply(&alter(&number.to_string(), Some("1"))).expect("within the bound");
    }
    assert_eq!(root.apply(&alter("one more", Some("1"))), Err(Refused::TooManyConfiguredGroups));
    assert_eq!(root.apply(&alter("g", Some("2"))), changed, "it has some already");
    assert_eq!(root.apply(&alter("g", None)), changed);
    assert_eq!(root.group_configs(&group("g")), None);
    assert_eq!(root.configured_groups().count(), CONFIGURED_GROUPS_MAX - 1);
}

#[test]
fn a_snapshot_from_before_groups_had_configs_is_read() {
    let root = founded();
    let mut bytes = root.snapshot();
    assert_eq!((bytes[0], bytes.pop()), (2, Some(0)), "and no groups with configs at its end");
    bytes[0] = 1;
    assert_eq!(Root::restore(&bytes), Ok(root));
}
