//! What is durable when: over power cuts, full and failing disks, damage and snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rafka_core::rng::{self, RngExt as _};
use rafka_core::{ByteSize, TopicId, TopicName};
use rafka_storage::disk::faulty::{FaultyDisk, Verb};

use super::*;
use crate::inspect;
use crate::partition::{Replica, StorageEpoch};
use crate::root::{Addresses, SessionEpoch};
use crate::shard::{self, NewTopic};

const PATH: &str = "/data/metadata.redb";
const NODE: Uuid = Uuid::from_u128(77);

fn disk(seed: u64) -> FaultyDisk {
    let disk = FaultyDisk::new(seed);
    disk.create_dir_all(Path::new("/data")).expect("a healthy disk");
    disk.sync_dir(Path::new("/")).expect("a healthy disk");
    disk
}

fn open(disk: &FaultyDisk) -> Result<Writer, OpenError> {
    let settings =
        Settings { shards: crate::ShardCount::new(2).expect("valid"), ..Settings::default() };
    let place = Place::File { disk: Arc::new(disk.clone()), path: PathBuf::from(PATH) };
    Writer::open(place, NODE, &settings, &mut rng::from_seed(1), Box::new(|_, _| {}))
}

fn create(writer: &Writer, number: u128) -> Proposed {
    let name = topic_name(number);
    let replica = Replica { node: NodeId(0), storage: StorageEpoch(0) };
    let topic = NewTopic {
        id: TopicId(Uuid::from_u128(number)),
        name: name.clone(),
        configs: BTreeMap::new(),
        partitions: vec![std::iter::once(replica).collect(); 3],
    };
    let shard = writer.view.read().shard_of(&name);
    Proposed::from(Command::Shard(shard, shard::Command::CreateTopic(topic)))
}

fn topic_name(number: u128) -> TopicName {
    TopicName::new(&format!("topic-{number}")).expect("valid")
}

fn grant() -> Proposed {
    Proposed::from(Command::Root(root::Command::GrantProducerIds { node: NodeId(0) }))
}

fn topics(writer: &Writer) -> BTreeSet<u128> {
    writer.view.read().topics().iter().map(|topic| topic.id.0.as_u128()).collect()
}

#[test]
fn what_was_answered_survives_power_cuts_and_kills_at_any_point() {
    for seed in 0..60 {
        let mut rng = rng::from_seed(seed);
        let disk = disk(seed);
        let mut acked = BTreeSet::new();
        let mut tried = BTreeSet::new();
        let mut version = 0;
        for life in 0..6 {
            disk.die_after(rng.random_range(0..60));
            if let Ok(mut writer) = open(&disk) {
                let found = topics(&writer);
                assert!(acked.is_subset(&found), "seed {seed}, life {life}: {acked:?} {found:?}");
                assert!(found.is_subset(&tried), "seed {seed}, life {life}: {tried:?} {found:?}");
                let view = writer.view.read().clone();
                assert!(version <= view.version(), "seed {seed}, life {life}: versions go back");
                while !disk.is_dead() && writer.dead().is_none() {
                    let first = tried.len() as u128;
                    let batch: Vec<_> =
                        (first..first + 3).map(|number| create(&writer, number)).collect();
                    tried.extend(first..first + 3);
                    let results = writer.commit(&batch);
                    for (number, result) in (first..).zip(results) {
                        if let Ok(outcome) = result {
                            acked.insert(number);
                            version = outcome.version;
                        }
                    }
                }
            }
            if rng.random() { disk.crash() } else { disk.kill() }
        }
        let writer = open(&disk).expect("a healthy disk");
        assert!(acked.is_subset(&topics(&writer)), "seed {seed}");
        assert!(topics(&writer).is_subset(&tried), "seed {seed}");
    }
}

#[test]
fn commands_of_a_batch_that_fails_are_neither_shown_nor_followed_by_others() {
    let disk = disk(1);
    let mut writer = open(&disk).expect("a healthy disk");
    let before = writer.view.read().version();
    disk.fail(Verb::Sync, "metadata", 0);
    let batch = [create(&writer, 1), create(&writer, 1)];
    for result in writer.commit(&batch) {
        assert!(matches!(result, Err(ProposeError::Failed(_))), "{result:?}");
    }
    assert_eq!(writer.view.read().version(), before);
    assert!(topics(&writer).is_empty());
    let after = create(&writer, 2);
    assert!(matches!(writer.commit(&[after]).as_slice(), [Err(ProposeError::Dead(_))]));
}

#[test]
fn a_full_disk_refuses_and_works_again_when_there_is_room() {
    let disk = disk(2);
    let mut writer = open(&disk).expect("a healthy disk");
    let used = ByteSize::of_len(disk.contents(Path::new(PATH)).len());
    disk.set_capacity(Some(used));
    let mut number = 0;
    loop {
        number += 1;
        let batch: Vec<_> = (0..50).map(|n| create(&writer, number * 50 + n)).collect();
        let results = writer.commit(&batch);
        if results.contains(&Err(ProposeError::DiskFull)) {
            break;
        }
        assert!(number < 1000, "the disk never fills");
    }
    let before = topics(&writer);
    disk.set_capacity(None);
    let more = create(&writer, 1);
    assert!(matches!(writer.commit(&[more]).as_slice(), [Ok(_)]));
    assert_eq!(topics(&writer).len(), before.len() + 1);
    let expected = topics(&writer);
    drop(writer);
    assert_eq!(topics(&open(&disk).expect("a healthy disk")), expected);
}

#[test]
fn a_refusal_and_a_command_that_changes_nothing_write_nothing() {
    let disk = disk(3);
    let mut writer = open(&disk).expect("a healthy disk");
    let topic = create(&writer, 1);
    writer.commit(std::slice::from_ref(&topic))[0].as_ref().expect("a new topic");
    let (changes, version) = (disk.changes(), writer.view.read().version());
    let join = Proposed::from(Command::Root(root::Command::Join { uuid: NODE }));
    let results = writer.commit(&[topic, join]);
    let exists = Refused::TopicExists(topic_name(1));
    assert_eq!(results[0], Err(ProposeError::Refused(exists)));
    assert_eq!(results[1], Ok(Outcome { version, effects: Vec::new() }));
    assert_eq!((disk.changes(), writer.view.read().version()), (changes, version));
}

#[test]
fn a_long_log_becomes_a_snapshot_and_start_up_reads_no_more_than_twice_the_state() {
    let disk = disk(4);
    let mut writer = open(&disk).expect("a healthy disk");
    for _ in 0..200 {
        let batch: Vec<_> = (0..100).map(|_| grant()).collect();
        assert!(writer.commit(&batch).iter().all(Result::is_ok));
    }
    let (version, state) = (writer.view.read().version(), writer.state.clone());
    drop(writer);
    let (_, saved) = Store::open(Arc::new(disk.clone()), Path::new(PATH)).expect("a healthy disk");
    let root = saved.iter().find(|saved| saved.group == Group::Root).expect("it has commands");
    assert!(root.snapshot.is_some());
    let bytes: usize = root.commands.iter().map(|(_, command)| command.len()).sum();
    assert!(bytes <= LOG_COST_MIN + 100 * 10, "{bytes}");
    let writer = open(&disk).expect("a healthy disk");
    assert_eq!((writer.view.read().version(), &writer.state), (version, &state));
}

#[test]
fn many_restarts_of_many_partitions_are_not_replayed_one_by_one() {
    let disk = disk(5);
    let mut writer = open(&disk).expect("a healthy disk");
    let mut topic = create(&writer, 1);
    let Command::Shard(index, shard::Command::CreateTopic(new)) = &mut topic.command else {
        unreachable!("it creates a topic")
    };
    let index = *index;
    new.partitions = vec![new.partitions[0].clone(); 10_000];
    let topic = Proposed::from(topic.command.clone());
    assert!(writer.commit(&[topic])[0].is_ok());
    for session in 1..20 {
        let begin = shard::Command::BeginSession {
            node: NodeId(0),
            session: SessionEpoch(session),
            storage: StorageEpoch(0),
        };
        assert!(writer.commit(&[Proposed::from(Command::Shard(index, begin))])[0].is_ok());
    }
    drop(writer);
    let (_, saved) = Store::open(Arc::new(disk), Path::new(PATH)).expect("a healthy disk");
    let shard = saved.iter().find(|saved| saved.group == Group::Shard(index)).expect("it is there");
    assert!(shard.commands.len() <= 2, "{} commands to replay", shard.commands.len());
}

#[test]
fn a_damaged_file_is_refused_by_name_and_never_panics() {
    let healthy = disk(6);
    let mut writer = open(&healthy).expect("a healthy disk");
    let topics: Vec<_> = (0..200).map(|number| create(&writer, number)).collect();
    assert!(writer.commit(&topics).iter().all(Result::is_ok));
    let state = writer.state.clone();
    drop(writer);
    let content = healthy.contents(Path::new(PATH));
    let mut rng = rng::from_seed(6);
    let mut refusals = 0;
    for round in 0..150 {
        let damaged = disk(round);
        damaged.put(Path::new(PATH), &content);
        let position = rng.random_range(0..content.len());
        damaged.flip(Path::new(PATH), position as u64, 1 << rng.random_range(0..8));
        match open(&damaged) {
            // The flipped bit means nothing, or redb fell back on its other copy.
            Ok(writer) => assert_eq!(writer.state, state, "round {round}, position {position}"),
            Err(error) => {
                assert!(error.to_string().contains(PATH), "{error}");
                refusals += 1;
            }
        }
    }
    assert!(refusals != 0, "no flip was found");
}

#[test]
fn a_look_into_the_file_shows_what_a_start_would_find() {
    let disk = disk(10);
    let mut writer = open(&disk).expect("a healthy disk");
    let topics: Vec<_> = (0..5).map(|number| create(&writer, number)).collect();
    assert!(writer.commit(&topics).iter().all(Result::is_ok));
    // The writer is still at work: nothing was closed.
    let path = Path::new(PATH);
    let contents = inspect::read(&disk.contents(path), path).expect("a healthy file");
    assert_eq!(contents.state, writer.state);
    let commands: usize = contents.groups.iter().map(|group| group.commands.len()).sum();
    assert_eq!(commands, 2 + 5, "the founding, the joining, the topics");
    let cut = inspect::read(&disk.contents(path)[..1000], path).expect_err("cut short");
    assert!(cut.to_string().contains(PATH), "{cut}");
}

#[test]
fn the_metadata_of_another_node_is_refused() {
    let disk = disk(7);
    drop(open(&disk).expect("a healthy disk"));
    let place = Place::File { disk: Arc::new(disk), path: PathBuf::from(PATH) };
    let other = Uuid::from_u128(78);
    let opened = Writer::open(
        place,
        other,
        &Settings::default(),
        &mut rng::from_seed(1),
        Box::new(|_, _| {}),
    );
    assert!(matches!(opened.map(drop), Err(OpenError::Foreign { node, .. }) if node == other));
}

#[test]
fn the_number_of_shards_stays_what_the_founding_made_it() {
    let disk = disk(8);
    drop(open(&disk).expect("a healthy disk"));
    let place = Place::File { disk: Arc::new(disk), path: PathBuf::from(PATH) };
    let settings = Settings::default();
    let writer = Writer::open(place, NODE, &settings, &mut rng::from_seed(1), Box::new(|_, _| {}))
        .expect("a healthy disk");
    assert_eq!(settings.shards.count(), 16);
    assert_eq!(writer.state.shards().len(), 2);
}

#[test]
fn a_session_survives_a_restart_in_every_group() {
    let disk = disk(9);
    let mut writer = open(&disk).expect("a healthy disk");
    let begin = root::Command::BeginSession {
        node: NodeId(0),
        addresses: Addresses::new(),
        is_intact: true,
    };
    assert!(writer.commit(&[Proposed::from(Command::Root(begin))])[0].is_ok());
    drop(writer);
    let writer = open(&disk).expect("a healthy disk");
    assert_eq!(writer.view.read().members()[&NodeId(0)].session, SessionEpoch(1));
}
