//! Damage is told from a crash; and whatever a file holds, reading it ends well.

use std::path::{Path, PathBuf};

use rafka_core::ByteSize;
use rafka_core::rng::{self, RngExt as _};

use super::super::{Sequence, Settings, dump};
use super::world::{World, append, disk, offsets, scan, small};
use crate::disk::Disk as _;
use crate::disk::faulty::FaultyDisk;
use crate::{Durability, Error};

/// A journal with acked records in several files and two processes, after a power cut.
fn with_records(seed: u64) -> FaultyDisk {
    let disk = disk(seed);
    for process in 0..2 {
        let world = World::open(&disk);
        for offset in 0..40 {
            world.submit(process * 40 + offset, 2000);
            world.journal.settle();
        }
        disk.crash();
    }
    disk
}

#[test]
fn damage_below_a_named_durable_sequence_is_corruption() {
    let disk = with_records(1);
    let wal = super::world::files(&disk, "wal");
    assert_eq!(wal.len(), 7, "two processes, three files each, and one that is ready");
    for (path, position) in [(&wal[0], 4096 + 100), (&wal[1], 9 * 4096), (&wal[4], 8192 + 1000)] {
        disk.flip(path, position, 0x10);
        let error = scan(&disk, Durability::Fsync, &small()).unwrap_err();
        let Error::Corrupt { path: named, position: at, what } = error else {
            panic!("{error} is not what happened");
        };
        assert_eq!(&named, path, "{what}");
        assert!(at <= position && position < at + 4096, "{at} for {position}: {what}");
        disk.flip(path, position, 0x10);
    }
    scan(&disk, Durability::Fsync, &small()).expect("the damage is undone");
}

#[test]
fn a_missing_file_is_corruption() {
    for index in 0..3 {
        let disk = with_records(2);
        let wal = super::world::files(&disk, "wal");
        disk.remove(&wal[index]).unwrap();
        let result = scan(&disk, Durability::Fsync, &small());
        // The oldest file of all may be gone rightly: its successor knows where it begins.
        assert_eq!(result.is_err(), index != 0, "file {index}");
    }
}

#[test]
fn a_damaged_or_renamed_file_is_refused_by_name() {
    let refused = |damage: &dyn Fn(&FaultyDisk, &Path)| {
        let disk = with_records(3);
        let path = super::world::files(&disk, "wal").remove(3);
        damage(&disk, &path);
        scan(&disk, Durability::Fsync, &small()).unwrap_err().to_string()
    };
    let error = refused(&|disk, path| disk.flip(path, 20, 1));
    assert!(error.contains("fsync-") && error.contains("checksum"), "{error}");
    let error = refused(&|disk, path| disk.flip(path, 8, 1));
    assert!(error.contains("format version 2") && error.contains("up to 3"), "{error}");
    let error = refused(&|disk, path| disk.flip(path, 0, 1));
    assert!(error.contains("does not begin as"), "{error}");
    let error = refused(&|disk, path| disk.rename(path, &renamed(path)).unwrap());
    assert!(error.contains("of another name"), "{error}");
    let error = refused(&|disk, path| {
        let content = disk.contents(path);
        disk.put(path, &content[..content.len() - 1]);
    });
    assert!(error.contains("the file ends here"), "{error}");
}

fn renamed(path: &Path) -> PathBuf {
    path.with_file_name("fsync-0000004711.wal")
}

#[test]
fn an_unacked_tail_is_cut_and_never_comes_back() {
    let disk = disk(4);
    let world = World::open(&disk);
    world.submit(0, 10);
    world.journal.settle();
    world.submit(1, 10);
    let lost = world.journal.take_write().expect("something is queued");
    world.submit(2, 10);
    let behind = world.journal.take_write().expect("something is queued");
    world.journal.run_write(behind);
    drop(lost);
    disk.crash();
    for _ in 0..3 {
        let world = World::open(&disk);
        assert_eq!(offsets(&world.replayed), [0]);
        disk.crash();
    }
    let world = World::open(&disk);
    assert_eq!(world.submit(3, 10), Sequence(2));
    world.journal.settle();
    disk.crash();
    assert_eq!(offsets(&World::open(&disk).replayed), [0, 3]);
}

#[test]
fn recovery_is_idempotent_and_a_record_cannot_be_forged_in_a_payload() {
    let disk = disk(5);
    let world = World::open(&disk);
    // A payload full of what a journal file of this disk looks like.
    world.submit(0, 10);
    world.journal.settle();
    let image = disk.contents(&world.files("wal")[0]);
    let forged = super::world::batch(1, &image[..40_000]);
    world
        .journal
        .submit(super::super::Entry::Append { log: crate::LogId(1), batch: forged })
        .unwrap();
    world.journal.submit(append(1, 2, 10)).unwrap();
    world.journal.settle();
    disk.crash();
    let (first, replayed) = scan(&disk, Durability::Fsync, &small()).unwrap();
    let (second, again) = scan(&disk, Durability::Fsync, &small()).unwrap();
    assert_eq!((first.end(), &replayed), (second.end(), &again));
    assert_eq!(offsets(&replayed), [0, 1, 2]);
}

#[test]
fn what_looks_like_records_behind_the_end_costs_recovery_no_reading() {
    // More than is read at once.
    let settings =
        Settings { file_bytes: ByteSize::mib(4), bytes_max: ByteSize::mib(16), ..small() };
    let work = |forge: &dyn Fn(&mut [u8])| {
        let disk = disk(6);
        let world = World::open_with(&disk, Durability::Fsync, &settings, Sequence(0)).unwrap();
        world.submit(0, 10);
        world.journal.settle();
        disk.crash();
        let path = world.files("wal").remove(0);
        let mut content = disk.contents(&path);
        content.chunks_mut(4096).skip(2).for_each(forge);
        disk.put(&path, &content);
        let before = disk.bytes_read();
        let (recovery, replayed) = scan(&disk, Durability::Fsync, &settings).unwrap();
        assert_eq!((recovery.end(), offsets(&replayed)), (Sequence(2), vec![0]));
        disk.bytes_read() - before
    };
    let empty = work(&|_| {});
    let hostile = work(&|block| {
        // A length of half the file, and a durable sequence that nobody reached.
        block[..4].copy_from_slice(&2_000_000_u32.to_le_bytes());
        block[8..24].copy_from_slice(&[0x7f; 16]);
        block[32] = 1;
    });
    assert!(0 < empty && hostile <= empty, "{hostile} bytes were read instead of {empty}");
}

/// Reads a damaged journal: it may be refused, or opens twice alike. Never a panic.
fn survives(disk: &FaultyDisk) {
    for path in super::world::files(disk, "wal") {
        dump(disk, &path, &mut |_| {}).ok();
    }
    let Ok((recovery, found)) = scan(disk, Durability::Fsync, &small()) else {
        return;
    };
    let end = recovery.end();
    let Ok(world) = World::open_with(disk, Durability::Fsync, &small(), Sequence(0)) else {
        return;
    };
    assert_eq!(world.replayed, found);
    disk.crash();
    let (again, found_again) = scan(disk, Durability::Fsync, &small()).expect("it opened before");
    assert_eq!((again.end(), found_again), (end, found));
}

#[test]
fn arbitrary_files_are_refused_or_open_twice_alike() {
    let path = Path::new("/data/journal/fsync-0000000001.wal");
    bolero::check!().for_each(|bytes: &[u8]| {
        let disk = FaultyDisk::new(1);
        disk.put(path, bytes);
        survives(&disk);
    });
}

#[test]
fn damaged_files_are_refused_or_open_twice_alike() {
    for seed in 0..60 {
        let mut rng = rng::from_seed(seed);
        let disk = with_records(seed);
        for _ in 0..rng.random_range(1..4) {
            let wal = super::world::files(&disk, "wal");
            let path = &wal[rng.random_range(0..wal.len())];
            let mut content = disk.contents(path);
            let at = rng.random_range(0..content.len());
            match rng.random_range(0..4) {
                0 => content[at] ^= 1 << rng.random_range(0..8),
                1 => content.truncate(at),
                2 => {
                    let end = content.len().min(at + 4096);
                    content[at..end].fill(rng.random());
                }
                _ => {
                    let from = at / 4096 * 4096;
                    let to = rng.random_range(0..content.len()) / 4096 * 4096;
                    content.copy_within(from..from + 4096, to);
                }
            }
            disk.put(path, &content);
        }
        survives(&disk);
    }
}
