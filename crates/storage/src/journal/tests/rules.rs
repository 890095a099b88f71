//! The rules of the write path: order, groups, files, reach, seals, failures.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rafka_core::{ByteSize, Offset};

use super::super::{Dumped, Entry, Reach, Sequence, Settings, dump, verify};
use super::world::{DIR, World, append, disk, files, offsets, scan, small};
use crate::disk::faulty::Verb;
use crate::disk::{Disk, Open};
use crate::{Durability, Error, LogId};

#[test]
fn what_is_acked_is_replayed_in_order() {
    let disk = disk(1);
    let world = World::open(&disk);
    let entries = [append(1, 0, 10), append(2, 0, 9000), append(1, 1, 10)];
    let truncate = Entry::Truncate { log: LogId(2), end: Offset(0) };
    let mut expected = Vec::new();
    for entry in entries.into_iter().chain([truncate]) {
        expected.push((world.journal.submit(entry.clone()).unwrap(), entry));
    }
    assert_eq!(world.sink.told().reports, 0, "nothing is durable before it is written");
    world.journal.settle();
    assert_eq!(world.sink.told().durable, Sequence(5));
    disk.crash();
    assert_eq!(World::open(&disk).replayed, expected);
}

#[test]
fn only_the_contiguous_prefix_is_acked() {
    let disk = disk(1);
    let world = World::open(&disk);
    let jobs: Vec<_> = (0..3)
        .map(|offset| {
            world.submit(offset, 10);
            world.journal.take_write().expect("something is queued")
        })
        .collect();
    let [first, second, third] = <[_; 3]>::try_from(jobs).expect("three were taken");
    world.journal.run_write(third);
    world.journal.run_write(second);
    assert_eq!(world.sink.told().reports, 0, "the first is still in flight");
    disk.crash();
    // The hole is the first record: what lies behind it was not acked and does not count.
    let (recovery, replayed) = scan(&disk, Durability::Fsync, &small()).unwrap();
    assert_eq!((recovery.end(), replayed.len()), (Sequence(1), 0));
    drop(first);
}

#[test]
fn what_queues_goes_out_as_one_group_up_to_the_limit() {
    let world = World::open(&disk(1));
    (0..20).for_each(|offset| {
        world.submit(offset, 900);
    });
    let job = world.journal.take_write().expect("something is queued");
    let (first, end) = job.sequences();
    assert_eq!(first, Sequence(1));
    assert!((7..=8).contains(&(end.0 - first.0)), "8 KiB hold 7 or 8, not {end}");
    world.journal.settle();
    world.submit(20, 20_000);
    world.submit(21, 10);
    let large = world.journal.take_write().expect("something is queued");
    assert_eq!(large.sequences(), (Sequence(21), Sequence(22)), "a larger one goes alone");
}

#[test]
fn records_go_on_over_many_files_which_are_used_again() {
    let disk = disk(1);
    let world = World::open(&disk);
    let mut first_seen = world.files("wal");
    for offset in 0..200 {
        world.submit(offset, 3000);
        world.journal.settle();
        if 10 <= offset {
            world.journal.release(Sequence(u64::try_from(offset).unwrap() - 8));
        }
        first_seen.retain(|path| world.files("wal").contains(path));
    }
    assert!(first_seen.is_empty(), "the first file was released");
    let usage = world.journal.usage();
    assert!(usage.total <= ByteSize::kib(6 * 64), "few files carry it all: {usage:?}");
    disk.crash();
    let found = offsets(&World::open(&disk).replayed);
    assert_eq!(found.last(), Some(&199));
    assert!(found.len() < 100, "released records are not replayed for ever");
    assert!(found.windows(2).all(|pair| pair[0] + 1 == pair[1]));
}

#[test]
fn a_record_larger_than_a_file_gets_one_of_its_own() {
    let disk = disk(1);
    let world = World::open(&disk);
    world.submit(0, 10);
    world.submit(1, 200_000);
    world.submit(2, 10);
    world.journal.settle();
    assert_eq!(world.sink.told().durable, Sequence(4));
    let settings = small();
    let too_large = append(1, 3, settings.batch_bytes_max().as_usize());
    let error = world.journal.submit(too_large).unwrap_err();
    assert!(
        matches!(error, Error::Io { cause, .. } if cause.kind() == io::ErrorKind::InvalidInput)
    );
    disk.crash();
    assert_eq!(offsets(&World::open(&disk).replayed), [0, 1, 2]);
}

#[test]
fn at_the_bound_writes_wait_until_files_are_released() {
    let world = World::open(&disk(1));
    let mut sequence = Sequence(0);
    for offset in 0..600 {
        sequence = world.submit(offset, 3000);
        world.journal.settle();
    }
    let usage = world.journal.usage();
    assert!(usage.total <= usage.max && ByteSize(0) < usage.queued, "{usage:?}");
    let durable = world.sink.told().durable;
    assert!(durable < sequence);
    let below = world.journal.must_release().expect("the bound is reached");
    assert!(world.journal.oldest() < below && below <= durable);
    world.journal.release(below);
    world.journal.settle();
    assert!(durable < world.sink.told().durable, "room for one file more");
    while world.sink.told().durable <= sequence {
        world.journal.release(world.sink.told().durable);
        world.journal.settle();
    }
    assert_eq!(world.journal.usage().queued, ByteSize(0));
}

#[test]
fn a_stop_at_the_bound_says_what_was_left() {
    let world = World::open(&disk(1));
    (0..600).for_each(|offset| {
        world.submit(offset, 3000);
    });
    let error = world.journal.stop().unwrap_err();
    assert!(matches!(error, Error::Io { cause, .. } if cause.kind() == io::ErrorKind::StorageFull));
    assert!(matches!(world.journal.submit(append(1, 1, 1)), Err(Error::Dead(_))));
}

#[test]
fn an_idle_journal_seals_what_it_wrote_once() {
    let disk = disk(1);
    let world = World::open(&disk);
    world.submit(0, 10);
    world.journal.settle();
    assert!(world.journal.take_write().is_none(), "it is not idle yet");
    world.clock.advance(Duration::from_millis(51));
    let seal = world.journal.take_write().expect("a seal is due");
    world.journal.run_write(seal);
    world.clock.advance(Duration::from_secs(1));
    assert!(world.journal.take_write().is_none(), "one seal is enough");
    // With the seal, even the last acked record cannot go missing unseen.
    let path = world.files("wal").remove(0);
    disk.flip(&path, 4096 + 50, 1);
    disk.crash();
    assert!(matches!(scan(&disk, Durability::Fsync, &small()), Err(Error::Corrupt { .. })));
}

#[test]
fn the_os_lane_neither_seals_nor_names_what_may_be_lost() {
    let disk = disk(1);
    let world = World::open_with(&disk, Durability::Os, &small(), Sequence(0)).unwrap();
    world.submit(0, 10);
    world.journal.settle();
    world.clock.advance(Duration::from_millis(51));
    assert!(world.journal.take_write().is_none());
    disk.kill();
    let reopened = World::open_with(&disk, Durability::Os, &small(), Sequence(0)).unwrap();
    assert_eq!(offsets(&reopened.replayed), [0], "the kernel had it");
}

#[test]
fn after_a_failed_write_nothing_is_acked_or_taken() {
    let disk = disk(1);
    let world = World::open(&disk);
    world.submit(0, 10);
    let first = world.journal.take_write().expect("something is queued");
    world.submit(1, 10);
    let second = world.journal.take_write().expect("something is queued");
    world.submit(2, 10);
    disk.fail(Verb::Write, "wal", 0);
    world.journal.run_write(second);
    world.journal.run_write(first);
    world.journal.settle();
    let told = world.sink.told();
    assert_eq!((told.reports, told.failures.len()), (0, 1), "{told:?}");
    let error = world.journal.submit(append(1, 3, 10)).unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
    assert!(matches!(world.journal.stop(), Err(Error::Dead(_))));
}

#[test]
fn failures_while_a_file_is_prepared_kill_the_journal() {
    for (verb, name) in [(Verb::Sync, "spare"), (Verb::SyncDir, "journal"), (Verb::Rename, "spare")]
    {
        let disk = disk(1);
        let world = World::open(&disk);
        disk.fail(verb, name, 0);
        (0..60).for_each(|offset| {
            world.submit(offset, 3000);
        });
        world.journal.settle();
        assert_eq!(world.sink.told().failures.len(), 1, "{verb:?}");
        disk.crash();
        let found = offsets(&World::open(&disk).replayed);
        let acked = usize::try_from(world.sink.told().durable.0.max(1) - 1).unwrap();
        assert!(acked <= found.len(), "{verb:?}");
    }
}

#[test]
fn a_full_disk_is_waited_for_not_died_of() {
    let disk = disk(1);
    let world = World::open(&disk);
    disk.set_capacity(Some(ByteSize::kib(100)));
    (0..60).for_each(|offset| {
        world.submit(offset, 3000);
    });
    world.journal.settle();
    let told = world.sink.told();
    assert!(told.failures.is_empty() && told.durable < Sequence(60), "{told:?}");
    assert!(1 < told.reports, "what is allocated is still written");
    disk.set_capacity(None);
    world.journal.settle();
    assert!(world.sink.told().durable < Sequence(60), "it asks again after a while only");
    world.clock.advance(Duration::from_secs(2));
    world.journal.settle();
    assert_eq!(world.sink.told().durable, Sequence(61));
}

#[test]
fn a_start_skips_sequences_that_a_checkpoint_covers() {
    let disk = disk(1);
    let world = World::open_with(&disk, Durability::Os, &small(), Sequence(50)).unwrap();
    assert_eq!(world.submit(0, 10), Sequence(50));
    world.journal.settle();
    disk.kill();
    for _ in 0..3 {
        let world = World::open_with(&disk, Durability::Os, &small(), Sequence(90)).unwrap();
        assert_eq!(offsets(&world.replayed), [0]);
        disk.kill();
    }
    let (recovery, _) = scan(&disk, Durability::Os, &small()).unwrap();
    assert_eq!(recovery.end(), Sequence(90));
}

#[test]
fn files_without_records_do_not_pile_up() {
    let disk = disk(1);
    for _ in 0..20 {
        let world = World::open(&disk);
        world.journal.settle();
        disk.crash();
    }
    let count = files(&disk, "wal").len() + files(&disk, "spare").len();
    assert!(count <= 4, "{count} files of nothing");
}

#[test]
fn lanes_do_not_see_each_other() {
    let disk = disk(1);
    let fsync = World::open(&disk);
    let os = World::open_with(&disk, Durability::Os, &small(), Sequence(0)).unwrap();
    fsync.submit(1, 10);
    os.submit(2, 10);
    os.submit(3, 10);
    fsync.journal.stop().unwrap();
    os.journal.stop().unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let found = verify(&shared, Path::new(DIR), None, &|_| Reach::UNKNOWN).unwrap();
    assert_eq!(found.map(|lane| (lane.files, lane.records)), [(1, 1), (1, 2)]);
    assert_eq!(offsets(&scan(&disk, Durability::Os, &small()).unwrap().1), [2, 3]);
}

#[test]
fn a_dump_shows_every_piece_of_a_file() {
    let disk = disk(1);
    let world = World::open(&disk);
    world.submit(7, 10);
    world.journal.submit(Entry::Truncate { log: LogId(3), end: Offset(5) }).unwrap();
    world.journal.stop().unwrap();
    let mut pieces = Vec::new();
    dump(&disk, &world.files("wal")[0], &mut |piece| pieces.push(piece)).unwrap();
    let text = |piece: &Dumped| match piece {
        Dumped::File { incarnation, begins, .. } => format!("file {incarnation} {begins:?}"),
        Dumped::Record { position, sequence, durable, log, entry, .. } => {
            let what = entry.as_ref().map_or("seal", |entry| match entry {
                Entry::Append { .. } => "append",
                Entry::Truncate { .. } => "truncate",
            });
            let log = log.map(|log| log.0);
            format!("{position} {what} {sequence} below {durable} of {log:?}")
        }
        Dumped::End { .. } => "end".to_owned(),
    };
    let shown: Vec<String> = pieces.iter().map(text).collect();
    let record_two = match &pieces[2] {
        Dumped::Record { position, .. } => *position,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        shown,
        [
            "file 2 Some((Sequence(1), Sequence(1)))".to_owned(),
            "4096 append 1 below 1 of Some(1)".to_owned(),
            format!("{record_two} truncate 2 below 1 of Some(3)"),
            "8192 seal 3 below 3 of None".to_owned(),
            "end".to_owned(),
        ]
    );
}

#[test]
fn settings_out_of_reach_of_a_file_on_disk_do_not_matter() {
    let disk = disk(1);
    World::open(&disk).journal.stop().unwrap();
    let world = World::open(&disk);
    world.submit(0, 10);
    world.journal.stop().unwrap();
    let larger = Settings { file_bytes: ByteSize::kib(128), ..small() };
    let world = World::open_with(&disk, Durability::Fsync, &larger, Sequence(0)).unwrap();
    assert_eq!(offsets(&world.replayed), [0]);
    let opened = disk.open(&world.files("wal")[1], Open::READ).unwrap();
    assert_eq!(opened.len().unwrap(), 128 << 10);
}
