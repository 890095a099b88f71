//! Long random histories, and arbitrary bytes: what holds for all groups whatever happens.

use std::collections::BTreeMap;

use rafka_core::rng::{self, Rng, RngExt as _};
use rafka_core::{Epoch, GroupId, NodeId, PartitionIndex, TopicPartition};
use uuid::Uuid;

use super::*;
use crate::group::ShardCount;
use crate::partition::{Assignment, PartitionEpoch, Replica, Replicas, StorageEpoch};
use crate::root::{Address, Addresses, SessionEpoch};
use crate::shard::{NewTopic, PartitionChange};

const NODES: i32 = 4;

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())]
}

fn replicas(rng: &mut Rng) -> Replicas {
    let count = rng.random_range(0..5);
    (0..count)
        .map(|_| Replica {
            node: NodeId(rng.random_range(0..NODES)),
            storage: StorageEpoch(rng.random_range(0..2)),
        })
        .collect()
}

fn all_replicas(rng: &mut Rng) -> Vec<Replicas> {
    // Now and then more than a chunk of partitions, most often without a mistake.
    let count = if rng.random_ratio(1, 20) { 300 } else { rng.random_range(0..4) };
    let node = NodeId(rng.random_range(0..NODES));
    let plain: Replicas = std::iter::once(Replica { node, storage: StorageEpoch(0) }).collect();
    if rng.random_ratio(1, 4) {
        (0..count).map(|_| replicas(rng)).collect()
    } else {
        vec![plain; count]
    }
}

fn changes(rng: &mut Rng, names: &[&str]) -> BTreeMap<String, Option<String>> {
    let name = pick(rng, names).to_owned();
    BTreeMap::from([(name, pick(rng, &[None, Some("1"), Some("2")]).map(str::to_owned))])
}

fn root_command(rng: &mut Rng) -> root::Command {
    let node = NodeId(rng.random_range(0..NODES + 1));
    match rng.random_range(0..6) {
        4 => root::Command::AlterGroupConfigs {
            group: GroupId::new(pick(rng, &["g", "h"])).expect("a valid id"),
            changes: changes(rng, &["consumer.session.timeout.ms", "unknown"]),
        },
        0 => root::Command::Join { uuid: Uuid::from_u128(rng.random_range(0..4)) },
        1 => root::Command::GrantProducerIds { node },
        2 => root::Command::AlterConfigs {
            node: pick(rng, &[None, Some(node)]),
            changes: changes(rng, &["log.retention.ms", "unknown"]),
        },
        3 => root::Command::Found {
            cluster: Uuid::from_u128(rng.random_range(0..2)),
            shards: ShardCount::default(),
        },
        _ => {
            let address = Address { host: "localhost".to_owned(), port: rng.random() };
            let addresses = Addresses::from([("grpc".to_owned(), address)]);
            root::Command::BeginSession { node, addresses, is_intact: rng.random() }
        }
    }
}

fn change(rng: &mut Rng, topic: &crate::Topic) -> shard::Command {
    let partition = PartitionIndex(rng.random_range(0..3));
    let known = topic.partitions.get(partition);
    let mut nodes =
        || (0..rng.random_range(0..3)).map(|_| NodeId(rng.random_range(0..NODES))).collect();
    let (adding, removing, isr, elr) = (nodes(), nodes(), nodes(), nodes());
    let leader = pick(rng, &[None, Some(NodeId(0)), Some(NodeId(1))]);
    let to = match known {
        Some(known) if rng.random_ratio(3, 4) => Assignment {
            replicas: known.replicas().iter().copied().collect(),
            isr: known.isr().collect(),
            leader: if rng.random() { known.leader() } else { leader },
            ..Assignment { replicas: Replicas::new(), adding, removing, isr, elr, leader }
        },
        _ => Assignment { replicas: replicas(rng), adding, removing, isr, elr, leader },
    };
    let stale = PartitionEpoch(rng.random_range(0..3));
    let expected = known.map_or(stale, |known| if rng.random() { known.epoch() } else { stale });
    let is_unclean = rng.random_ratio(1, 4);
    shard::Command::ChangePartition(PartitionChange {
        topic: topic.id,
        partition,
        expected,
        to,
        is_unclean,
    })
}

fn shard_command(rng: &mut Rng, state: &State) -> (ShardIndex, shard::Command) {
    let known: Vec<_> = (0..)
        .map(ShardIndex)
        .zip(state.shards())
        .flat_map(|(index, shard)| shard.topics().map(move |topic| (index, topic)))
        .collect();
    let id = TopicId(Uuid::from_u128(rng.random_range(0..64)));
    if known.is_empty() || rng.random_ratio(1, 4) {
        let text =
            pick(rng, &["a.b", "a_b", "t", "u", "v", "w.x.y", "w_x.y", "__consumer_offsets"]);
        let name = TopicName::new(text).expect("valid");
        let shard = state.root().foundation().expect("founded").shards.shard_of(&name);
        // Ids are drawn from 2^122 in truth: two shards never meet the same.
        let id = TopicId(Uuid::from_u128(u128::from(shard.0) << 8 | rng.random_range(0..64)));
        let partitions = all_replicas(rng);
        let configs = BTreeMap::from([("retention.ms".to_owned(), "1".to_owned())]);
        return (shard, shard::Command::CreateTopic(NewTopic { id, name, configs, partitions }));
    }
    let (shard, topic) = pick(rng, &known);
    let command = match rng.random_range(0..8) {
        0 if rng.random() => {
            let node = NodeId(rng.random_range(0..NODES));
            let deleted = state.shards()[usize::from(shard.0)].deleted(node);
            shard::Command::LogsDeleted { node, topics: deleted.chain([id]).take(2).collect() }
        }
        0 => shard::Command::DeleteTopic { topic: pick(rng, &[topic.id, id]) },
        1 => shard::Command::AlterConfigs {
            topic: topic.id,
            changes: changes(rng, &["retention.ms", "segment.ms"]),
        },
        2 => {
            let added = all_replicas(rng);
            let total = u32::try_from(topic.partitions.len() + added.len()).expect("small");
            let total = total.saturating_sub(rng.random_range(0..2));
            shard::Command::AddPartitions { topic: topic.id, total, added }
        }
        3..6 => change(rng, topic),
        _ => shard::Command::BeginSession {
            node: NodeId(rng.random_range(0..NODES)),
            session: SessionEpoch(rng.random_range(0..100)),
            storage: StorageEpoch(rng.random_range(0..2)),
        },
    };
    (shard, command)
}

fn founded(shards: u16) -> State {
    let mut state = State::default();
    let shards = ShardCount::new(shards).expect("a power of two");
    let found = root::Command::Found { cluster: Uuid::from_u128(7), shards };
    state.apply(&Command::Root(found)).expect("not founded yet");
    state
}

/// Bytes and back, each group by itself.
fn rebuilt(state: &State) -> State {
    let mut rebuilt = State::default();
    for group in state.groups() {
        rebuilt.restore(group, &state.snapshot(group)).expect("a snapshot of ours");
    }
    rebuilt
}

fn epochs(state: &State) -> BTreeMap<TopicPartition, (Epoch, PartitionEpoch)> {
    let topics = state.shards().iter().flat_map(|shard| shard.topics());
    topics
        .flat_map(|topic| {
            topic.partitions.iter().map(|(partition, entry)| {
                let key = TopicPartition { topic: topic.id, partition };
                (key, (entry.leader_epoch(), entry.epoch()))
            })
        })
        .collect()
}

fn check_shard(shard: &Shard) {
    let mut replicas = BTreeMap::<NodeId, u64>::new();
    let mut partitions = 0;
    for topic in shard.topics() {
        assert_eq!(shard.topic(&topic.name).map(|found| found.id), Some(topic.id));
        assert_eq!(shard.topic_by_id(topic.id).map(|found| &found.name), Some(&topic.name));
        for (_, partition) in topic.partitions.iter() {
            partitions += 1;
            for replica in partition.replicas() {
                *replicas.entry(replica.node).or_default() += 1;
            }
            assert!(partition.leader().is_none_or(|leader| partition.isr().any(|n| n == leader)));
        }
    }
    assert_eq!(shard.partition_count(), partitions);
    for node in (0..NODES).map(NodeId) {
        assert_eq!(shard.replica_count(node), replicas.get(&node).copied().unwrap_or(0));
    }
}

fn check_history(seed: u64, shards: u16) {
    let mut rng = rng::from_seed(seed);
    let mut state = founded(shards);
    // The snapshot from which the rest is replayed.
    let mut replayed = rebuilt(&state);
    for step in 0..150 {
        let command = if rng.random_ratio(1, 5) {
            Command::Root(root_command(&mut rng))
        } else {
            let (shard, command) = shard_command(&mut rng, &state);
            Command::Shard(shard, command)
        };
        let before = (state.clone(), epochs(&state));
        let result = state.apply(&command);
        let has_changed = state != before.0;
        let has_effects = result.as_ref().is_ok_and(|effects| !effects.is_empty());
        assert_eq!(has_changed, has_effects, "seed {seed}, step {step}: {command:?} {result:?}");
        for (partition, now) in epochs(&state) {
            let was = before.1.get(&partition);
            assert!(
                was.is_none_or(|was| was.0 <= now.0 && was.1 <= now.1),
                "seed {seed}, step {step}: epochs of {partition} go back: {was:?}, {now:?}"
            );
        }
        if has_changed {
            let bytes = command.encode();
            let command = Command::decode(command.group(), &bytes).expect("a command of ours");
            replayed.apply(&command).expect("it was accepted once");
        }
        assert_eq!(replayed, state, "seed {seed}, step {step}: {command:?}");
        if rng.random_ratio(1, 20) {
            replayed = rebuilt(&state);
        }
    }
    state.shards().iter().for_each(|shard| check_shard(shard));
}

#[test]
fn a_snapshot_and_the_commands_since_give_the_same_state() {
    for seed in 0..60 {
        check_history(seed, 16);
        check_history(seed, 1);
    }
}

#[test]
fn a_topic_is_refused_by_every_shard_but_its_own() {
    let mut state = founded(16);
    let name = TopicName::new("t").expect("valid");
    let own = state.root().foundation().expect("founded").shards.shard_of(&name);
    let replica = Replica { node: NodeId(0), storage: StorageEpoch(0) };
    for shard in (0..17).map(ShardIndex).filter(|shard| *shard != own) {
        let topic = NewTopic {
            id: TopicId(Uuid::from_u128(1)),
            name: name.clone(),
            configs: BTreeMap::new(),
            partitions: vec![std::iter::once(replica).collect()],
        };
        let command = Command::Shard(shard, shard::Command::CreateTopic(topic));
        let refused = Refused::WrongShard { name: name.clone(), shard };
        assert_eq!(state.apply(&command), Err(refused));
    }
}

#[test]
fn arbitrary_bytes_are_refused_or_mean_what_they_are_written_as() {
    bolero::check!().with_type::<(u8, u8, Vec<u8>)>().for_each(|(kind, version, bytes)| {
        // Most random bytes would stop at the version.
        let bytes = [&[version % 3], bytes.as_slice()].concat();
        let group = if kind % 2 == 0 { Group::Root } else { Group::Shard(ShardIndex(0)) };
        if let Ok(command) = Command::decode(group, &bytes) {
            assert_eq!(Command::decode(group, &command.encode()), Ok(command.clone()));
            founded(1).apply(&command).ok();
        }
        let mut state = founded(1);
        if state.restore(group, &bytes).is_ok() {
            let snapshot = state.snapshot(group);
            let mut again = founded(1);
            again.restore(group, &snapshot).expect("a snapshot of ours");
            assert_eq!(again.snapshot(group), snapshot);
        }
    });
}

#[test]
fn damaged_commands_and_snapshots_never_panic() {
    for seed in 0..40 {
        let mut rng = rng::from_seed(seed);
        let mut state = founded(1);
        for _ in 0..40 {
            let (shard, command) = shard_command(&mut rng, &state);
            let command = Command::Shard(shard, command);
            state.apply(&command).ok();
            let mut bytes = command.encode();
            damage(&mut rng, &mut bytes);
            if let Ok(command) = Command::decode(command.group(), &bytes) {
                state.clone().apply(&command).ok();
            }
        }
        for group in state.groups() {
            let mut bytes = state.snapshot(group);
            damage(&mut rng, &mut bytes);
            let mut damaged = founded(1);
            if damaged.restore(group, &bytes).is_ok() {
                damaged.shards().iter().for_each(|shard| check_shard(shard));
            }
        }
    }
}

fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let place = rng.random_range(1..bytes.len());
    match rng.random_range(0..3) {
        0 => bytes.truncate(place),
        1 => bytes[place] = rng.random(),
        _ => bytes.insert(place, rng.random()),
    }
}
