//! The same journal with its own threads, on the disk of the machine.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rafka_core::{ByteSize, SystemClock, rng};
use uuid::Uuid;

use super::super::{
    DataDir, Driver, Journal, Reach, Recovery, Sequence, Settings, Sink, Surroundings,
};
use super::world::{Replayed, append, offsets};
use crate::disk::faulty::{FaultyDisk, Verb};
use crate::disk::{Disk, OsDisk};
use crate::{Durability, Error};

const PATIENCE: Duration = Duration::from_secs(30);

/// Passes on what it is told.
struct Pass(SyncSender<Result<Sequence, String>>);

impl Sink for Pass {
    fn durable(&self, _: Durability, below: Sequence) {
        self.0.send(Ok(below)).ok();
    }

    fn failed(&self, _: Durability, error: &Error) {
        self.0.send(Err(error.to_string())).ok();
    }
}

type News = Receiver<Result<Sequence, String>>;

fn open(disk: Arc<dyn Disk>, dir: &Path, lane: Durability) -> (Journal, News, Replayed) {
    let settings = Settings {
        file_bytes: ByteSize::kib(256),
        bytes_max: ByteSize::mib(1),
        ..Settings::default()
    };
    let mut replayed = Vec::new();
    let recovery = Recovery::scan(
        disk,
        DataDir { path: dir, node: Uuid::nil() },
        (lane, Reach::UNKNOWN),
        settings,
        &mut |at, entry| {
            replayed.push((at, entry));
            Ok(())
        },
    )
    .unwrap();
    let (sender, news) = sync_channel(10_000);
    let surroundings = Surroundings {
        clock: Arc::new(SystemClock::new()),
        rng: rng::from_seed(1),
        driver: Driver::Threads,
    };
    let journal = recovery.start(Sequence(0), Arc::new(Pass(sender)), surroundings).unwrap();
    (journal, news, replayed)
}

/// Waits until everything below `below` is acked, and returns how far it is by then.
fn wait_for(news: &News, below: Sequence) -> Sequence {
    loop {
        let acked = news.recv_timeout(PATIENCE).expect("the journal goes on").expect("no failure");
        if below <= acked {
            return acked;
        }
    }
}

#[test]
fn many_submitters_are_all_acked_and_replayed() {
    for lane in [Durability::Fsync, Durability::Os] {
        let place = tempfile::tempdir().unwrap();
        let (journal, news, _) = open(Arc::new(OsDisk), place.path(), lane);
        std::thread::scope(|scope| {
            for log in 0..4 {
                let journal = &journal;
                scope.spawn(move || {
                    for offset in 0..50 {
                        let sequence = journal.submit(append(log, offset, 500)).unwrap();
                        if offset == 20 {
                            journal.release(Sequence(sequence.0 / 2));
                        }
                    }
                });
            }
        });
        wait_for(&news, Sequence(201));
        journal.stop().unwrap();
        let stats = journal.stats();
        assert!(200 <= stats.records && stats.writes <= stats.records, "{stats:?}");
        drop(journal);
        let (journal, _, replayed) = open(Arc::new(OsDisk), place.path(), lane);
        assert_eq!(offsets(&replayed).len(), 200, "all in the first file");
        journal.stop().unwrap();
    }
}

#[test]
fn writes_that_wait_at_the_bound_go_on_when_files_are_released() {
    let place = tempfile::tempdir().unwrap();
    let (journal, news, _) = open(Arc::new(OsDisk), place.path(), Durability::Os);
    let count = 400;
    (0..count).for_each(|offset| {
        journal.submit(append(1, offset, 10_000)).unwrap();
    });
    loop {
        let below = news.recv_timeout(PATIENCE).expect("the journal goes on").unwrap();
        if below == Sequence(401) {
            break;
        }
        journal.release(below);
    }
    assert!(journal.usage().total <= ByteSize::mib(1));
    journal.stop().unwrap();
}

#[test]
fn what_was_acked_is_replayed_however_the_journal_was_left() {
    let place = tempfile::tempdir().unwrap();
    let mut acked: i64 = 0;
    for round in 0..12 {
        let (journal, news, replayed) = open(Arc::new(OsDisk), place.path(), Durability::Fsync);
        let found = offsets(&replayed);
        let count = i64::try_from(found.len()).unwrap();
        assert!(acked <= count, "{acked} were acked, {count} are there");
        assert_eq!(found, (0..count).collect::<Vec<_>>());
        let submitted: Vec<_> = (count..count + 40)
            .map(|offset| journal.submit(append(1, offset, 700)).unwrap())
            .collect();
        let mut below = Sequence::default();
        if round % 3 == 0 {
            journal.stop().unwrap();
        } else {
            below = wait_for(&news, submitted[20]);
        }
        drop(journal);
        below = news.try_iter().filter_map(Result::ok).last().unwrap_or(below);
        let of_these = submitted.iter().filter(|sequence| **sequence < below).count();
        assert!(20 <= of_these);
        acked = count + i64::try_from(of_these).unwrap();
    }
}

#[test]
fn an_idle_journal_seals_by_itself() {
    let place = tempfile::tempdir().unwrap();
    let (journal, news, _) = open(Arc::new(OsDisk), place.path(), Durability::Fsync);
    journal.submit(append(1, 0, 10)).unwrap();
    wait_for(&news, Sequence(3));
    journal.stop().unwrap();
}

#[test]
fn a_failure_ends_all_threads() {
    let disk = FaultyDisk::new(1);
    disk.put(Path::new("/data/placeholder"), b"");
    let (journal, news, _) = open(Arc::new(disk.clone()), Path::new("/data"), Durability::Fsync);
    disk.fail(Verb::Write, "wal", 0);
    journal.submit(append(1, 0, 10)).unwrap();
    let told = news.recv_timeout(PATIENCE).expect("the sink is told");
    assert!(told.unwrap_err().contains("cannot write"));
    assert!(matches!(journal.stop(), Err(Error::Dead(_))));
}

/// Panics at the first ack, and passes on what it is told afterwards.
struct Clumsy(SyncSender<String>);

impl Sink for Clumsy {
    fn durable(&self, _: Durability, below: Sequence) {
        std::panic::panic_any(format!("the sink does not like {below}"));
    }

    fn failed(&self, _: Durability, error: &Error) {
        self.0.send(error.to_string()).ok();
    }
}

#[test]
fn a_sink_that_panics_ends_the_journal_and_is_told_so() {
    let place = tempfile::tempdir().unwrap();
    let settings = Settings { file_bytes: ByteSize::kib(256), ..Settings::default() };
    let (disk, dir) = (Arc::new(OsDisk), place.path());
    let recovery = Recovery::scan(
        disk,
        DataDir { path: dir, node: Uuid::nil() },
        (Durability::Fsync, Reach::UNKNOWN),
        settings,
        &mut |_, _| Ok(()),
    );
    let surroundings = Surroundings {
        clock: Arc::new(SystemClock::new()),
        rng: rng::from_seed(1),
        driver: Driver::Threads,
    };
    let (sender, failures) = sync_channel(10);
    let sink = Arc::new(Clumsy(sender));
    let journal = recovery.unwrap().start(Sequence(0), sink, surroundings).unwrap();
    journal.submit(append(1, 0, 10)).unwrap();
    let told = failures.recv_timeout(PATIENCE).expect("whoever waits for an ack must learn of it");
    assert!(told.contains("panicked"), "{told}");
    assert!(matches!(journal.submit(append(1, 1, 10)), Err(Error::Dead(_))));
    assert!(matches!(journal.stop(), Err(Error::Dead(_))));
}

#[test]
fn a_journal_that_is_dropped_ends_its_threads() {
    let place = tempfile::tempdir().unwrap();
    let (journal, news, _) = open(Arc::new(OsDisk), place.path(), Durability::Fsync);
    journal.submit(append(1, 0, 10)).unwrap();
    drop(journal);
    // The sink goes with the last thread that could call it.
    while news.recv_timeout(PATIENCE).is_ok() {}
    assert!(matches!(news.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected)));
}
