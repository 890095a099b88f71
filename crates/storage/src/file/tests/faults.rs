//! What the engine does when the disk fails, fills up, or lies.

use std::path::{Path, PathBuf};

use rafka_core::{Batch, ByteSize, Offset, Timestamp};

use super::{Bench, DIR, small_settings};
use crate::contract::sample;
use crate::disk::Disk;
use crate::disk::faulty::Verb;
use crate::{AppendError, Durability, Engine as _, Error, LogId, LogSettings, ReadError};

const NOW: Timestamp = Timestamp(1_000_000_000);
const ALL: ByteSize = ByteSize::mib(64);

pub(super) fn bench() -> (Bench, LogId) {
    let bench = Bench::new(1, small_settings());
    let log = open(&bench, sample::small_segments());
    (bench, log)
}

pub(super) fn open(bench: &Bench, settings: LogSettings) -> LogId {
    bench.engine.open(&[(sample::name(1, 0), settings)]).expect("the disk works")[0].0
}

/// Appends `count` batches of one record of `bytes` each, and returns what they were.
pub(super) fn append(bench: &Bench, log: LogId, count: i64, bytes: usize) -> Vec<Batch> {
    let base = bench.engine.bounds(log).expect("open").end;
    let fill = u8::try_from(base.0 % 251).expect("small");
    let batches: Vec<Batch> =
        (0..count).map(|index| sample::batch(base + index, &vec![fill; bytes])).collect();
    for batch in &batches {
        bench.engine.append(log, std::slice::from_ref(batch), NOW).expect("there is room");
    }
    batches
}

pub(super) fn read_all(bench: &Bench, log: LogId) -> Vec<Batch> {
    let bounds = bench.engine.bounds(log).expect("open");
    let (mut from, mut all) = (bounds.start, Vec::<Batch>::new());
    while from < bounds.end {
        all.extend(bench.engine.read(log, from, bounds.end, ALL).expect("nothing is damaged"));
        from = all.last().expect("there is more").next_offset();
    }
    all
}

fn segment(base: i64, extension: &str) -> PathBuf {
    let name = sample::name(1, 0);
    Path::new(DIR)
        .join("logs")
        .join(name.topic.to_string())
        .join("0")
        .join(format!("{base:020}.{extension}"))
}

#[test]
fn after_a_failed_journal_write_nothing_is_acked_and_reads_go_on() {
    let (mut bench, log) = bench();
    let acked = append(&bench, log, 3, 100);
    bench.engine.step();
    bench.disk.fail(Verb::Write, "journal", 0);
    append(&bench, log, 2, 100);
    bench.engine.step();
    assert_eq!(bench.reports.durable(log), Some(Offset(3)));
    assert_eq!(bench.reports.failures().len(), 1, "told once");
    let refused = bench.engine.append(log, &[sample::batch(Offset(5), b"v")], NOW);
    assert!(matches!(refused, Err(AppendError::Failed(Error::Dead(_)))), "{refused:?}");
    assert!(bench.engine.truncate(log, Offset(1)).is_err());
    assert!(bench.engine.stats().is_dead);
    assert_eq!(bench.engine.read(log, Offset(0), Offset(3), ALL).expect("in memory"), acked);
    bench.disk.crash();
    bench.reopen().expect("what is durable is sound");
    let log = open(&bench, sample::small_segments());
    assert_eq!(read_all(&bench, log)[..3], acked);
}

#[test]
fn a_failed_sync_of_a_segment_fences_the_engine_and_costs_nothing() {
    let (mut bench, log) = bench();
    let acked = append(&bench, log, 10, 300);
    bench.engine.step();
    bench.disk.fail(Verb::Sync, "logs", 0);
    assert!(bench.engine.flush().is_err());
    // A second sync would say that all is well, and lie.
    assert!(bench.engine.flush().is_err());
    bench.engine.tick();
    assert_eq!(bench.reports.failures().len(), 1);
    assert_eq!(read_all(&bench, log), acked);
    bench.disk.crash();
    bench.reopen().expect("the journal has it all");
    let log = open(&bench, sample::small_segments());
    assert_eq!(read_all(&bench, log), acked);
    bench.engine.flush().expect("the new process may write again");
    assert_eq!(read_all(&bench, log), acked);
}

#[test]
fn a_failed_read_is_that_reads_alone() {
    let (mut bench, log) = bench();
    let batches = append(&bench, log, 30, 300);
    bench.engine.step();
    bench.engine.flush().expect("the disk works");
    bench.disk.kill();
    bench.reopen().expect("sound");
    let log_again = open(&bench, sample::small_segments());
    assert_eq!(log, log_again);
    bench.disk.fail(Verb::Read, ".log", 0);
    let failed = bench.engine.read(log, Offset(0), Offset(30), ALL);
    assert!(matches!(failed, Err(ReadError::Failed(Error::Io { .. }))), "{failed:?}");
    assert_eq!(read_all(&bench, log), batches);
    assert!(bench.reports.failures().is_empty(), "a failed read ends nothing");
}

#[test]
fn a_log_takes_nothing_behind_a_truncation_that_failed_until_one_succeeds() {
    let (mut bench, log) = bench();
    let mut batches = append(&bench, log, 30, 300);
    bench.engine.step();
    bench.engine.flush().expect("the disk works");
    bench.disk.kill();
    bench.reopen().expect("sound");
    open(&bench, sample::small_segments());
    // What is left of the last segment cannot be told.
    bench.disk.fail(Verb::Read, ".log", 0);
    assert!(bench.engine.truncate(log, Offset(28)).is_err());
    let end = bench.engine.bounds(log).expect("open").end;
    let refused = bench.engine.append(log, &[sample::batch(end, b"v")], NOW);
    assert!(
        matches!(refused, Err(AppendError::Failed(Error::Truncating(id))) if id == log),
        "{refused:?}"
    );
    let left = bench.engine.truncate(log, Offset(28)).expect("the disk works again");
    assert_eq!(left.end, Offset(28));
    batches.truncate(28);
    batches.extend(append(&bench, log, 2, 100));
    assert!(read_all(&bench, log) == batches);
    bench.engine.step();
    bench.disk.kill();
    bench.reopen().expect("sound");
    open(&bench, sample::small_segments());
    assert!(read_all(&bench, log) == batches);
}

/// Fills the disk until appends are refused.
fn fill(bench: &Bench, log: LogId) -> Vec<Batch> {
    let mut batches = Vec::new();
    for _ in 0..10_000 {
        let base = bench.engine.bounds(log).expect("open").end;
        let batch = sample::batch(base, &[9; 4000]);
        match bench.engine.append(log, std::slice::from_ref(&batch), NOW) {
            Ok(_) => batches.push(batch),
            Err(AppendError::DiskFull { .. }) => return batches,
            Err(error) => panic!("{error}"),
        }
        bench.engine.step();
        bench.engine.flush().ok();
    }
    panic!("the disk is never full");
}

#[test]
fn a_full_disk_refuses_appends_serves_everything_else_and_recovers() {
    let (bench, log) = bench();
    let other = [(sample::name(2, 0), sample::small_segments())];
    let other_log = bench.engine.open(&other).expect("the disk works")[0].0;
    append(&bench, other_log, 20, 4000);
    bench.engine.step();
    bench.engine.flush().expect("there is space");
    bench.disk.set_capacity(Some(ByteSize::mib(3)));
    let batches = fill(&bench, log);
    let refused = bench.engine.append(log, &[sample::batch(Offset(99_999), b"v")], NOW);
    assert!(matches!(refused, Err(AppendError::DiskFull { .. })));
    assert!(bench.engine.stats().is_disk_full);
    assert_eq!(read_all(&bench, log), batches);
    assert_eq!(bench.engine.trim(log, Offset(1)).expect("trims").start, Offset(1));
    let end = bench.engine.bounds(log).expect("open").end;
    bench.engine.truncate(log, Offset(end.0 - 1)).expect("truncates");
    bench.reports.forget(log);
    bench.engine.delete(&[sample::name(2, 0)]).expect("deletes");
    let mut settings = sample::small_segments();
    settings.retention_bytes = Some(ByteSize::kib(16));
    bench.engine.configure(log, settings).expect("open");
    let report = bench.engine.clean(log, Offset(end.0 - 1), NOW).expect("cleans");
    assert!(0 < report.segments_deleted);
    bench.engine.step();
    append(&bench, log, 1, 4000);
    bench.engine.step();
    assert_eq!(bench.engine.bounds(log).expect("open").durable, end);
    assert!(bench.reports.failures().is_empty(), "a full disk is no failure");
}

#[test]
fn a_disk_that_fills_up_during_a_flush_costs_the_attempt() {
    let (mut bench, log) = bench();
    let mut batches = append(&bench, log, 100, 2000);
    bench.engine.journal(Durability::Fsync).expect("begun").settle();
    // Not even the reserve is left.
    let used = ByteSize::gib(1024).0 - bench.disk_free().0;
    bench.disk.set_capacity(Some(ByteSize(used + 100_000)));
    assert!(bench.engine.flush().is_err());
    assert!(bench.reports.failures().is_empty());
    assert_eq!(read_all(&bench, log), batches);
    bench.disk.kill();
    bench.reopen().expect("a full disk can be started on");
    let log = open(&bench, sample::small_segments());
    assert_eq!(read_all(&bench, log), batches);
    bench.disk.set_capacity(None);
    bench.engine.step();
    bench.engine.flush().expect("there is space again");
    batches.extend(append(&bench, log, 1, 10));
    assert_eq!(read_all(&bench, log), batches);
    assert!(0 < bench.engine.stats().segments);
}

#[test]
fn a_flipped_bit_is_told_and_everything_else_stays_readable() {
    let (mut bench, _) = bench();
    let log = open(&bench, LogSettings::default());
    let batches = append(&bench, log, 10, 1000);
    bench.engine.step();
    bench.engine.flush().expect("the disk works");
    bench.disk.kill();
    bench.reopen().expect("sound");
    let log = open(&bench, LogSettings::default());
    let path = segment(0, "log");
    let len = bench.disk.contents(&path).len() as u64;
    bench.disk.flip(&path, len / 2, 0x10);
    let read = |from: i64| bench.engine.read(log, Offset(from), Offset(10), ByteSize(1));
    let damaged: Vec<i64> = (0..10)
        .filter(|from| match read(*from) {
            Ok(found) => {
                assert_eq!(found[0], batches[usize::try_from(*from).expect("small")]);
                false
            }
            Err(ReadError::Damaged { offset, next }) => {
                assert_eq!((offset.0, next.0), (*from, *from + 1));
                true
            }
            Err(error) => panic!("{error}"),
        })
        .collect();
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    // New records do not join the damage.
    let more = append(&bench, log, 3, 1000);
    bench.engine.step();
    bench.engine.flush().expect("the disk works");
    assert_eq!(bench.engine.read(log, Offset(10), Offset(13), ALL).expect("whole"), more);
}

#[test]
fn a_lost_index_is_made_again() {
    let (mut bench, _) = bench();
    let log = open(&bench, LogSettings::default());
    let batches = append(&bench, log, 60, 3000);
    bench.engine.step();
    bench.engine.flush().expect("the disk works");
    bench.disk.kill();
    bench.disk.remove(&segment(0, "index")).expect("there is an index");
    bench.reopen().expect("an index is not needed to start");
    let log = open(&bench, LogSettings::default());
    let middle = bench.engine.read(log, Offset(40), Offset(60), ByteSize(1)).expect("readable");
    assert_eq!(middle, batches[40..41]);
    assert_eq!(bench.engine.stats().indexes_rebuilt, 1);
    assert_eq!(read_all(&bench, log), batches);
}

#[test]
fn a_lost_segment_is_told_and_everything_else_stays_readable() {
    for is_there in [false, true] {
        let (mut bench, log) = bench();
        let batches = append(&bench, log, 60, 3000);
        bench.engine.step();
        bench.engine.flush().expect("the disk works");
        bench.disk.kill();
        let path = segment(0, "log");
        bench.disk.remove(&path).expect("it is there");
        if is_there {
            bench.disk.put(&path, b"");
        }
        bench.reopen().expect("a segment is not needed to start");
        let log = open(&bench, sample::small_segments());
        let lost = bench.engine.read(log, Offset(0), Offset(60), ALL);
        let Err(ReadError::Damaged { offset: Offset(0), next }) = lost else { panic!("{lost:?}") };
        assert!(next < Offset(60), "the other segments are there");
        let rest = bench.engine.read(log, next, Offset(60), ALL).expect("readable");
        assert_eq!(rest[0], batches[usize::try_from(next.0).expect("small")]);
        let by_time = bench.engine.find_by_time(log, Timestamp(0), Offset(60));
        assert!(matches!(by_time, Err(ReadError::Damaged { .. })), "{by_time:?}");
    }
}

#[test]
fn one_process_at_a_time_has_the_directory() {
    let (bench, _) = bench();
    let second = super::open(&bench.disk, &bench.clock, &bench.reports, &bench.settings, 9);
    assert!(matches!(second, Err(Error::Locked(dir)) if dir == Path::new(DIR)));
    bench.engine.stop().expect("the disk works");
    let third = super::open(&bench.disk, &bench.clock, &bench.reports, &bench.settings, 9);
    assert!(third.is_ok(), "a stopped engine has given it back");
}

#[test]
fn a_clean_stop_leaves_nothing_to_replay_and_the_identity_stays() {
    let (mut bench, log) = bench();
    append(&bench, log, 5, 100);
    bench.engine.stop().expect("the disk works");
    let refused = bench.engine.append(log, &[sample::batch(Offset(5), b"v")], NOW);
    assert!(refused.is_err(), "nothing is taken after the stop");
    let first = bench.reopen().expect("sound");
    assert!(first.was_clean && !first.is_new && first.logs == 1);
    assert_eq!(first.replayed_batches, 0);
    let log = open(&bench, sample::small_segments());
    append(&bench, log, 5, 100);
    bench.engine.step();
    bench.disk.kill();
    let second = bench.reopen().expect("sound");
    assert!(!second.was_clean);
    assert_eq!((second.replayed_batches, second.node), (5, first.node));
}

#[test]
fn what_a_journal_cannot_hold_is_refused_whole() {
    let (bench, log) = bench();
    let batches = [sample::batch(Offset(0), b"v"), sample::batch(Offset(1), &[7; 200_000])];
    assert!(bench.engine.append(log, &batches, NOW).is_err());
    assert_eq!(bench.engine.bounds(log).expect("open").end, Offset(0));
    bench.engine.step();
    assert_eq!(bench.reports.durable(log), None);
    append(&bench, log, 1, 100);
}

impl Bench {
    fn disk_free(&self) -> ByteSize {
        self.disk.set_capacity(Some(ByteSize::gib(1024)));
        self.disk.free_space(Path::new(DIR)).expect("a number")
    }
}

#[test]
fn a_directory_made_for_another_lane_is_served_as_it_is_asked_for() {
    let (mut bench, _) = bench();
    let os = LogSettings { durability: Durability::Os, ..sample::small_segments() };
    let log = open(&bench, os.clone());
    let batches = append(&bench, log, 5, 100);
    bench.engine.step();
    assert_eq!(bench.reports.durable(log), Some(Offset(5)));
    bench.disk.kill();
    bench.reopen().expect("sound");
    let log = open(&bench, LogSettings { durability: Durability::Fsync, ..os });
    assert_eq!(read_all(&bench, log), batches, "a kill loses nothing of the os lane");
}
