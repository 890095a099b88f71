//! One contract for both disks, and what only the faulty one does.

use std::path::PathBuf;

use super::faulty::{FaultyDisk, Verb};
use super::*;

fn on_both(check: impl Fn(&dyn Disk, &Path)) {
    let place = tempfile::tempdir().expect("the system has room for a test");
    check(&OsDisk, place.path());
    let disk = FaultyDisk::new(1);
    disk.create_dir_all(Path::new("/data")).expect("nothing fails here");
    check(&disk, Path::new("/data"));
}

#[test]
fn what_was_written_reads_back() {
    on_both(|disk, dir| {
        let path = dir.join("file");
        assert_eq!(disk.open(&path, Open::EXISTING).unwrap_err().kind(), io::ErrorKind::NotFound);
        let file = disk.open(&path, Open::CREATE).unwrap();
        file.write_at(10, b"hello").unwrap();
        assert_eq!(file.len().unwrap(), 15);
        let mut out = [1; 8];
        assert_eq!(file.read_at(8, &mut out).unwrap(), 7);
        assert_eq!(&out[..7], b"\0\0hello");
        assert_eq!(file.read_at(15, &mut out).unwrap(), 0);
        assert!(read_exact_at(&*file, 8, &mut out).is_err());
        file.allocate(100).unwrap();
        file.allocate(50).unwrap();
        assert_eq!(file.len().unwrap(), 100);
        file.set_len(12).unwrap();
        file.set_len(15).unwrap();
        file.sync_data().unwrap();
        let file = disk.open(&path, Open::READ).unwrap();
        read_exact_at(&*file, 10, &mut out[..5]).unwrap();
        assert_eq!(&out[..5], b"he\0\0\0");
        assert!(file.write_at(0, b"x").is_err());
    });
}

#[test]
fn direct_writes_of_whole_blocks_reach_the_file() {
    on_both(|disk, dir| {
        let path = dir.join("file");
        disk.open(&path, Open::CREATE).unwrap().allocate(4 * BLOCK as u64).unwrap();
        let file = disk.open(&path, Open::DIRECT).unwrap();
        let mut buffer = AlignedBuffer::zeroed(2 * BLOCK);
        buffer.as_mut_slice().fill(7);
        file.write_at(BLOCK as u64, buffer.as_slice()).unwrap();
        let mut found = vec![0; 4 * BLOCK];
        let reader = disk.open(&path, Open::READ).unwrap();
        read_exact_at(&*reader, 0, &mut found).unwrap();
        let expected: Vec<u8> = [0, 7, 7, 0].iter().flat_map(|byte| [*byte; BLOCK]).collect();
        assert!(found == expected);
    });
}

#[test]
fn names_come_go_and_are_listed_in_order() {
    on_both(|disk, dir| {
        let sub = dir.join("a/b");
        disk.create_dir_all(&sub).unwrap();
        for name in ["z", "m", "k"] {
            disk.open(&sub.join(name), Open::CREATE).unwrap();
        }
        disk.rename(&sub.join("z"), &sub.join("c")).unwrap();
        disk.rename(&sub.join("m"), &sub.join("k")).unwrap();
        disk.sync_dir(&sub).unwrap();
        disk.sync_fs(&sub).unwrap();
        assert_eq!(disk.list(&sub).unwrap(), ["c", "k"]);
        assert!(disk.remove(&sub).is_err());
        disk.remove(&sub.join("c")).unwrap();
        disk.remove(&sub.join("k")).unwrap();
        disk.remove(&sub).unwrap();
        assert_eq!(disk.list(&sub).unwrap_err().kind(), io::ErrorKind::NotFound);
        let free = disk.free_space(dir).unwrap();
        assert!(ByteSize::mib(1) < free && free <= disk.total_space(dir).unwrap());
    });
}

#[test]
fn a_lock_has_one_holder() {
    on_both(|disk, dir| {
        let path = dir.join("lock");
        let held = disk.lock(&path).unwrap();
        assert_eq!(disk.lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        disk.lock(&path).unwrap();
    });
}

/// A disk with one durable file of three sectors of ones, and a handle on it.
fn with_file(seed: u64) -> (FaultyDisk, PathBuf, Arc<dyn File>) {
    let disk = FaultyDisk::new(seed);
    let path = PathBuf::from("/data/file");
    disk.put(&path, &[1; 3 * 512]);
    let file = disk.open(&path, Open::EXISTING).unwrap();
    (disk, path, file)
}

fn sectors(disk: &FaultyDisk, path: &Path) -> Vec<u8> {
    disk.contents(path).chunks(512).map(|sector| sector[0]).collect()
}

/// Whether each of `outcomes` is seen for some seed, and nothing else for any.
fn seen_exactly(outcomes: &[&[u8]], run: impl Fn(u64) -> Vec<u8>) {
    let seen: std::collections::BTreeSet<Vec<u8>> = (0..64).map(run).collect();
    let expected = outcomes.iter().map(|outcome| outcome.to_vec()).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_power_cut_keeps_any_subset_of_unsynced_sectors() {
    seen_exactly(&[&[1, 1, 1], &[2, 1, 1], &[1, 1, 2], &[2, 1, 2]], |seed| {
        let (disk, path, file) = with_file(seed);
        file.write_at(0, &[2; 512]).unwrap();
        file.write_at(1024, &[2; 512]).unwrap();
        disk.crash();
        sectors(&disk, &path)
    });
    seen_exactly(&[&[2, 1, 2]], |seed| {
        let (disk, path, file) = with_file(seed);
        file.write_at(0, &[2; 512]).unwrap();
        file.write_at(1024, &[2; 512]).unwrap();
        file.sync_data().unwrap();
        disk.crash();
        sectors(&disk, &path)
    });
}

#[test]
fn a_killed_process_loses_nothing_until_the_power_goes() {
    seen_exactly(&[&[1, 1, 1], &[2, 1, 1]], |seed| {
        let (disk, path, file) = with_file(seed);
        file.write_at(0, &[2; 512]).unwrap();
        disk.kill();
        assert_eq!(sectors(&disk, &path), [2, 1, 1]);
        assert!(file.write_at(0, &[3; 512]).is_err(), "the dead process cannot write");
        disk.crash();
        sectors(&disk, &path)
    });
}

#[test]
fn a_failed_sync_loses_the_data_whatever_later_ones_say() {
    seen_exactly(&[&[1, 1, 3]], |seed| {
        let (disk, path, file) = with_file(seed);
        disk.fail(Verb::Sync, "file", 0);
        file.write_at(0, &[2; 512]).unwrap();
        assert!(file.sync_data().is_err());
        assert_eq!(sectors(&disk, &path), [2, 1, 1]);
        file.write_at(1024, &[3; 512]).unwrap();
        file.sync_data().unwrap();
        disk.crash();
        sectors(&disk, &path)
    });
}

#[test]
fn unsynced_lengths_may_come_back() {
    seen_exactly(&[&[1], &[1, 1, 1]], |seed| {
        let (disk, path, file) = with_file(seed);
        file.set_len(512).unwrap();
        disk.crash();
        sectors(&disk, &path)
    });
}

#[test]
fn names_survive_a_power_cut_only_if_their_directory_was_synced() {
    let names = |synced: bool| {
        move |seed| {
            let (disk, path, _) = with_file(seed);
            disk.open(Path::new("/data/new"), Open::CREATE).unwrap();
            disk.rename(&path, Path::new("/data/renamed")).unwrap();
            if synced {
                disk.sync_dir(Path::new("/data")).unwrap();
            }
            disk.crash();
            disk.list(Path::new("/data")).unwrap().join(" ").into_bytes()
        }
    };
    seen_exactly(&[b"file", b"file new", b"new renamed"], names(false));
    seen_exactly(&[b"new renamed"], names(true));
}

#[test]
fn a_write_that_the_process_dies_in_may_be_torn() {
    let run = |seed| {
        let disk = FaultyDisk::new(seed);
        let path = PathBuf::from("/data/file");
        disk.put(&path, &[0; BLOCK]);
        let file = disk.open(&path, Open::DIRECT).unwrap();
        let mut buffer = AlignedBuffer::zeroed(BLOCK);
        buffer.as_mut_slice().fill(1);
        disk.die_after(0);
        assert!(file.write_at(0, buffer.as_slice()).is_err());
        assert!(disk.is_dead() && disk.list(Path::new("/data")).is_err());
        disk.crash();
        sectors(&disk, &path)
    };
    let seen: std::collections::BTreeSet<Vec<u8>> = (0..64).map(run).collect();
    assert!(seen.contains(&vec![0; 8]) && seen.contains(&vec![1; 8]) && 8 < seen.len());
    assert_eq!(run(7), run(7), "the same seed gives the same disk");
}

#[test]
fn a_full_disk_says_so_until_there_is_room() {
    let (disk, path, file) = with_file(1);
    disk.set_capacity(Some(ByteSize(2048)));
    assert_eq!(disk.free_space(&path).unwrap(), ByteSize(512));
    file.write_at(1536, &[1; 512]).unwrap();
    assert_eq!(file.write_at(2048, b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.allocate(2049).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.write_at(0, b"what is allocated can be written").unwrap();
    file.set_len(1024).unwrap();
    file.allocate(2048).unwrap();
}
