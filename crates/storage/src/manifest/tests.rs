//! The manifest against a model, over cuts of power, full disks and damaged files.

use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::producer_state::Verdict;
use rafka_core::rng::{self, RngExt as _};
use rafka_core::{
    ByteSize, Epoch, PartitionIndex, ProducerEpoch, ProducerId, Rng, Timestamp, TopicId,
};

use super::tables::{CHECKPOINTS, FORMAT, META};
use super::*;
use crate::disk::faulty::{FaultyDisk, Verb};
use crate::per_lane::LANES;

const DIR: &str = "/data";

fn disk(seed: u64) -> FaultyDisk {
    let disk = FaultyDisk::new(seed);
    disk.create_dir_all(Path::new(DIR)).expect("a new disk has room");
    disk.sync_fs(Path::new(DIR)).expect("the disk works");
    disk
}

fn open_manifest(disk: &FaultyDisk) -> Result<Manifest, Error> {
    Manifest::open(Arc::new(disk.clone()), Path::new(DIR))
}

fn contents(disk: &FaultyDisk) -> Contents {
    open_manifest(disk).and_then(|manifest| manifest.load()).expect("the manifest is whole")
}

fn checkpoint(rng: &mut Rng) -> Checkpoint {
    let start = rng.random_range(0..1_000);
    let mut end = start;
    let segments = (0..rng.random_range(0..5))
        .map(|_| {
            let base = end + rng.random_range(0..3);
            end = base + rng.random_range(1..1_000);
            Segment {
                base: Offset(base),
                generation: rng.random(),
                end: Offset(end),
                file_len: rng.random(),
                batch_bytes: rng.random(),
                index_entries: rng.random(),
                max_timestamp: Timestamp(rng.random()),
                first_append: Timestamp(rng.random()),
                last_append: Timestamp(rng.random()),
            }
        })
        .collect();
    let mut epochs = EpochHistory::default();
    for n in 0..rng.random_range(0..4) {
        epochs.note(Epoch(n * 2 + rng.random_range(0..2)), Offset(start + i64::from(n)));
    }
    Checkpoint {
        start: Offset(start),
        end: Offset(end),
        covered: Covered { fsync: rng.random(), os: rng.random() },
        generation: rng.random(),
        compacted: Offset(rng.random()),
        segments,
        epochs,
    }
}

/// Some changes, and what the contents are after them.
fn changes(rng: &mut Rng, contents: &Contents) -> (Vec<Change>, Contents) {
    let mut after = contents.clone();
    let mut changes = Vec::new();
    for _ in 0..rng.random_range(1..8) {
        let log = after.logs.get(rng.random_range(0..after.logs.len().max(1))).map(|log| log.id);
        let change = match (rng.random_range(0..7), log) {
            (0, _) => {
                let of = LANES[rng.random_range(0..2)];
                let lane = Lane {
                    in_use: rng.random(),
                    file: rng.random(),
                    released: Sequence(rng.random()),
                };
                *after.lanes.of_mut(of) = lane;
                Change::Lane(of, lane)
            }
            (1, _) => {
                let node = Uuid::from_u128(rng.random());
                after.node = Some(node);
                Change::Node(node)
            }
            (2, Some(log)) => {
                let at = after.logs.iter().position(|known| known.id == log);
                let gone = after.logs.remove(at.expect("it was found there"));
                after.deleted.push((log, gone.name));
                after.deleted.sort_unstable_by_key(|(id, _)| *id);
                Change::Delete(log)
            }
            (3, _) if !after.deleted.is_empty() => Change::Removed(after.deleted.remove(0).0),
            (4 | 5, Some(log)) => {
                let checkpoint = checkpoint(rng);
                let known = after.logs.iter_mut().find(|known| known.id == log);
                known.expect("it was found there").checkpoint = checkpoint.clone();
                Change::Checkpoint(log, checkpoint)
            }
            _ => {
                let id = LogId(after.log_next + rng.random_range(0..3));
                let topic = TopicId::from_random(rng.random());
                let name = TopicPartition { topic, partition: PartitionIndex(rng.random()) };
                after.log_next = id.0 + 1;
                after.logs.push(Log { id, name, checkpoint: Checkpoint::default() });
                Change::Create(id, name)
            }
        };
        changes.push(change);
    }
    (changes, after)
}

#[test]
fn what_was_committed_is_there_after_any_end_of_the_process() {
    for seed in 0..10 {
        let rng = &mut rng::from_seed(seed);
        let disk = disk(seed);
        let mut expected = Contents::default();
        for round in 0..12 {
            let manifest = open_manifest(&disk).expect("the manifest is whole");
            assert_eq!(manifest.load().expect("it is whole"), expected, "seed {seed} {round}");
            for _ in 0..rng.random_range(1..4) {
                let (changes, after) = changes(rng, &expected);
                manifest.commit(&changes).expect("the disk works");
                expected = after;
            }
            match rng.random_range(0..3) {
                0 => drop(manifest),
                1 => disk.kill(),
                _ => disk.crash(),
            }
        }
    }
}

#[test]
fn a_commit_is_whole_or_absent_wherever_the_power_is_cut() {
    for seed in 0..60 {
        let rng = &mut rng::from_seed(seed);
        let disk = disk(seed);
        let manifest = open_manifest(&disk).expect("the disk works");
        let (first, before) = changes(rng, &Contents::default());
        manifest.commit(&first).expect("the disk works");
        let (second, after) = changes(rng, &before);
        disk.die_after(rng.random_range(0..12));
        let committed = manifest.commit(&second).is_ok();
        drop(manifest);
        if rng.random_bool(0.5) {
            disk.crash();
        } else {
            disk.kill();
        }
        // A second death, in the middle of the repair.
        disk.die_after(rng.random_range(0..12));
        drop(open_manifest(&disk));
        disk.crash();
        let found = contents(&disk);
        let whole = found == after || (found == before && !committed);
        assert!(whole, "seed {seed} committed {committed}: {found:?}");
    }
}

#[test]
fn a_manifest_is_founded_whole_or_not_at_all() {
    for changes in 0..40 {
        let disk = disk(changes);
        disk.die_after(changes);
        let opened = open_manifest(&disk).is_ok();
        disk.crash();
        assert_eq!(contents(&disk), Contents::default(), "after {changes} changes");
        if opened {
            return;
        }
    }
    panic!("founding takes more changes than were tried");
}

#[test]
fn a_full_disk_refuses_the_commit_and_recovers_without_a_restart() {
    let disk = disk(1);
    let rng = &mut rng::from_seed(1);
    let manifest = open_manifest(&disk).expect("the disk works");
    disk.set_capacity(Some(ByteSize::kib(64)));
    let mut expected = Contents::default();
    let refused = (0..200).find_map(|_| {
        let (changes, after) = changes(rng, &expected);
        let result = manifest.commit(&changes);
        if result.is_ok() {
            expected = after;
        }
        result.err()
    });
    let refused = refused.expect("64 KiB do not hold them all");
    assert!(refused.is_disk_full(), "{refused}");
    disk.set_capacity(None);
    assert_eq!(manifest.load().expect("it is whole"), expected);
    let (changes, after) = changes(rng, &expected);
    manifest.commit(&changes).expect("there is room again");
    disk.crash();
    assert_eq!(contents(&disk), after);
}

#[test]
fn after_a_failed_sync_nothing_is_committed_any_more() {
    let disk = disk(1);
    let manifest = open_manifest(&disk).expect("the disk works");
    disk.fail(Verb::Sync, FILE_NAME, 0);
    let change = [Change::Lane(Durability::Fsync, Lane::default())];
    assert!(matches!(manifest.commit(&change), Err(Error::Io { verb: "write", .. })));
    assert!(manifest.commit(&change).is_err());
}

#[test]
fn other_versions_are_refused_by_name() {
    let refused = |key: &str| {
        let disk = disk(1);
        let manifest = open_manifest(&disk).expect("the disk works");
        let name = TopicPartition { topic: TopicId::from_random(1), partition: PartitionIndex(0) };
        manifest.commit(&[Change::Create(LogId(5), name)]).expect("the disk works");
        manifest
            .with_database(|database| {
                let transaction = database.begin_write().expect("the disk works");
                if key == FORMAT {
                    let mut table = transaction.open_table(META).expect("it is there");
                    table.insert(FORMAT, 9_u32.to_be_bytes().as_slice()).expect("it fits");
                } else {
                    let mut table = transaction.open_table(CHECKPOINTS).expect("it is there");
                    table.insert(5, [9_u8, 1, 2].as_slice()).expect("it fits");
                }
                transaction.commit().expect("the disk works");
                Ok(())
            })
            .expect("nothing fails in it");
        drop(manifest);
        open_manifest(&disk).and_then(|manifest| manifest.load()).expect_err("it is of another")
    };
    for (key, of_key) in [(FORMAT, VERSION), ("a checkpoint", codec::VERSION.into())] {
        match refused(key) {
            Error::UnknownVersion { path, found: 9, known } if known == of_key => {
                assert_eq!(path, Path::new(DIR).join(FILE_NAME));
            }
            other => panic!("{key}: {other}"),
        }
    }
}

#[test]
fn a_damaged_manifest_is_refused_by_name_or_holds_what_it_held() {
    let disk = disk(1);
    let rng = &mut rng::from_seed(9);
    let mut expected = Contents::default();
    let manifest = open_manifest(&disk).expect("the disk works");
    for _ in 0..20 {
        let (changes, after) = changes(rng, &expected);
        manifest.commit(&changes).expect("the disk works");
        expected = after;
    }
    drop(manifest);
    let path = Path::new(DIR).join(FILE_NAME);
    let sound = disk.contents(&path);
    let mut refused = 0;
    for round in 0..150 {
        let mut bytes = sound.clone();
        let from = rng.random_range(0..bytes.len());
        let to = (from + rng.random_range(1..2_000)).min(bytes.len());
        match rng.random_range(0..4) {
            0 => bytes[from] ^= 1 << rng.random_range(0..8),
            1 => bytes[from..to].fill(0),
            2 => rng.fill(&mut bytes[from..to]),
            _ => bytes.truncate(from),
        }
        disk.put(&path, &bytes);
        match open_manifest(&disk).and_then(|manifest| manifest.load()) {
            Ok(found) => assert_eq!(found, expected, "round {round}"),
            Err(error) => {
                assert!(error.to_string().contains(FILE_NAME), "round {round}: {error}");
                refused += 1;
            }
        }
    }
    assert!(0 < refused);
}

#[test]
fn looking_at_a_manifest_does_not_need_a_clean_stop() {
    let disk = disk(1);
    let rng = &mut rng::from_seed(3);
    let manifest = open_manifest(&disk).expect("the disk works");
    let (changes, expected) = changes(rng, &Contents::default());
    manifest.commit(&changes).expect("the disk works");
    let path = Path::new(DIR).join(FILE_NAME);
    let bytes = disk.contents(&path);
    assert_eq!(read(&bytes, &path).expect("it is whole").0, expected);
    assert_eq!(disk.contents(&path), bytes);
    assert!(read(b"not a manifest", &path).is_err());
}

#[test]
fn producers_are_known_by_what_they_wrote_until_they_are_forgotten() {
    let disk = disk(1);
    let name = |n| TopicPartition { topic: TopicId::from_random(n), partition: PartitionIndex(0) };
    let wrote = |producer: i64, sequence: i32, at: i64| {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.producer(ProducerId(producer), ProducerEpoch(0), sequence);
        builder.push(Timestamp(at), None, Some(b"v"), &[]);
        let mut batch = builder.build().expect("no codec");
        batch.header.base_offset = Offset(at);
        (batch, Timestamp(at))
    };
    let check = |log: u64, expected: &[(i64, i64)]| {
        let manifest = open_manifest(&disk).expect("it is whole");
        let known = manifest.producers(&[LogId(9), LogId(log)]).expect("it is whole");
        assert!(known[0].is_empty());
        let last = known[1].last_batches().map(|(id, base)| (id.0, base.0));
        assert_eq!(last.collect::<Vec<_>>(), expected, "log {log}");
        manifest.close();
    };
    let commit = |changes: &[Change]| {
        let manifest = open_manifest(&disk).expect("it is whole");
        manifest.commit(changes).expect("the disk works");
        drop(manifest);
        disk.crash();
    };
    let (first, second) = (LogId(0), LogId(1));
    commit(&[Change::Create(first, name(0)), Change::Create(second, name(1))]);
    commit(&[
        Change::Wrote(first, vec![wrote(5, 0, 10), wrote(6, 0, 20), wrote(5, 1, 30)]),
        Change::Wrote(second, vec![wrote(5, 0, 40)]),
    ]);
    commit(&[Change::Wrote(first, vec![wrote(7, 0, 50)])]);
    check(0, &[(5, 30), (6, 20), (7, 50)]);
    check(1, &[(5, 40)]);
    // What was written before is still in its window.
    let known = open_manifest(&disk).expect("whole").producers(&[first]).expect("whole");
    let repeated = known[0].check(&wrote(5, 0, 0).0.header).expect("known");
    assert!(matches!(repeated, Verdict::Duplicate(entry) if entry.base_offset == Offset(10)));

    commit(&[Change::Forget(Timestamp(30))]);
    check(0, &[(5, 30), (7, 50)]);
    commit(&[Change::Producers(first, ProducerTable::default()), Change::Delete(second)]);
    check(0, &[]);
    check(1, &[]);
}

#[test]
fn an_idle_log_takes_next_to_nothing() {
    let disk = disk(1);
    let manifest = open_manifest(&disk).expect("the disk works");
    let create = |n: u64| {
        let topic = TopicId::from_random(u128::from(n / 100));
        let partition = PartitionIndex(i32::try_from(n % 100).expect("it is below 100"));
        Change::Create(LogId(n), TopicPartition { topic, partition })
    };
    manifest.commit(&(0..10_000).map(create).collect::<Vec<_>>()).expect("the disk works");
    let loaded = manifest.load().expect("it is whole");
    assert_eq!(loaded.logs.len(), 10_000);
    assert_eq!(loaded.log_next, 10_000);
    let stored = disk.contents(&Path::new(DIR).join(FILE_NAME)).len();
    assert!(stored < 10_000 * 200, "{stored} bytes");
}

#[test]
fn checkpoints_read_back_and_mutilated_ones_never_panic() {
    for seed in 0..300 {
        let rng = &mut rng::from_seed(seed);
        let checkpoint = checkpoint(rng);
        let bytes = codec::encode(&checkpoint);
        assert_eq!(codec::decode(&bytes), Ok(checkpoint.clone()), "seed {seed}");
        for len in 0..bytes.len() {
            assert!(codec::decode(&bytes[..len]).is_err(), "seed {seed} length {len}");
        }
        let mut flipped = bytes;
        let at = rng.random_range(0..flipped.len());
        flipped[at] ^= 1 << rng.random_range(0..8);
        assert_ne!(codec::decode(&flipped), Ok(checkpoint), "seed {seed} byte {at}");
    }
}
