//! The promises that random histories meet too seldom, one test each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use rafka_core::{Batch, ByteSize, Epoch, Offset, Timestamp};

use super::{Subject, sample};
use crate::{Appended, Bounds, Cleanup, Engine, Error, LogId, LogSettings, ReadError};

const NOW: Timestamp = Timestamp(1_000_000_000);
const ALL: ByteSize = ByteSize::gib(1);

fn create(subject: &dyn Subject, settings: LogSettings) -> (Arc<dyn Engine>, LogId) {
    let engine = subject.engine();
    let opened = engine.open(&[(sample::name(1, 0), settings)]).expect("a log can be created");
    (engine, opened[0].0)
}

/// Appends `count` batches of one record, each of about `bytes`, and writes them out.
fn fill(subject: &mut dyn Subject, log: LogId, count: i64, bytes: usize) -> Vec<Batch> {
    let engine = subject.engine();
    let base = engine.bounds(log).expect("the log is open").end;
    let batches: Vec<_> =
        (0..count).map(|index| sample::batch(base + index, &vec![7; bytes])).collect();
    for batch in &batches {
        engine.append(log, std::slice::from_ref(batch), NOW).expect("there is room");
        // One by one, so that segments roll where their size says.
        subject.settle();
        subject.flush();
    }
    batches
}

fn read_all(engine: &dyn Engine, log: LogId) -> Vec<Batch> {
    let bounds = engine.bounds(log).expect("the log is open");
    let mut all: Vec<Batch> = Vec::new();
    let mut from = bounds.start;
    while from < bounds.end {
        let batches = engine.read(log, from, bounds.end, ALL).expect("nothing is damaged");
        let Some(last) = batches.last() else { break };
        from = last.next_offset();
        all.extend(batches);
    }
    all
}

/// A log that was never seen begins at 0, and the same name opens the same log.
///
/// # Panics
/// If the engine does not keep it.
pub fn a_new_log_is_empty_and_is_found_again(subject: &mut dyn Subject) {
    let (engine, log) = create(subject, LogSettings::default());
    assert_eq!(engine.bounds(log).expect("it is open"), Bounds::default());
    assert!(engine.read(log, Offset(0), Offset(0), ALL).expect("0 is the end").is_empty());
    assert_eq!(engine.size(log).expect("it is open"), ByteSize(0));
    assert!(engine.existing().expect("readable").contains(&sample::name(1, 0)));
    engine.append(log, &[sample::batch(Offset(0), b"v")], NOW).expect("there is room");
    let two = [
        (sample::name(1, 0), LogSettings::default()),
        (sample::name(1, 1), LogSettings::default()),
    ];
    let opened = engine.open(&two).expect("both can be opened");
    assert_eq!(opened[0].0, log);
    assert_eq!(opened[0].1.bounds.end, Offset(1));
    assert_ne!(opened[1].0, log);
    assert_eq!(opened[1].1.bounds.end, Offset(0));
}

/// A deleted log is gone, and a new one of its name shares neither id nor data with it.
///
/// # Panics
/// If the engine does not keep it.
pub fn a_log_deleted_and_created_again_has_nothing_of_the_old_one(subject: &mut dyn Subject) {
    let (engine, old) = create(subject, LogSettings::default());
    fill(subject, old, 3, 100);
    engine.append(old, &[sample::batch(Offset(3), b"pinned")], NOW).expect("there is room");
    engine.delete(&[sample::name(1, 0), sample::name(9, 9)]).expect("a missing log is no error");
    assert!(matches!(engine.bounds(old), Err(Error::UnknownLog(id)) if id == old));
    let (_, new) = create(subject, LogSettings::default());
    assert_ne!(old, new);
    assert_eq!(engine.bounds(new).expect("it is open"), Bounds::default());
    assert!(read_all(engine.as_ref(), new).is_empty());
    subject.settle();
    if subject.restart() {
        let (engine, again) = create(subject, LogSettings::default());
        assert_eq!(again, new);
        assert_eq!(engine.bounds(again).expect("it is open"), Bounds::default());
    }
}

/// Offsets that do not ascend are the caller's bug.
///
/// # Panics
/// If the engine takes them.
pub fn an_append_below_the_end_is_refused_loudly(subject: &mut dyn Subject) {
    let (engine, log) = create(subject, LogSettings::default());
    let batch = sample::batch(Offset(5), b"v");
    engine.append(log, std::slice::from_ref(&batch), NOW).expect("gaps are allowed");
    let again = || engine.append(log, std::slice::from_ref(&batch), NOW);
    assert!(catch_unwind(AssertUnwindSafe(again)).is_err(), "offset 5 was appended twice");
    assert_eq!(engine.bounds(log).expect("it is open").end, Offset(6));
    assert_eq!(read_all(engine.as_ref(), log), [batch]);
}

/// Offsets may be missing in between; a read goes on at the next batch there is.
///
/// # Panics
/// If the engine does not keep it.
pub fn gaps_are_kept_and_read_across(subject: &mut dyn Subject) {
    let (engine, log) = create(subject, sample::small_segments());
    let batches: Vec<_> =
        [3, 10, 11, 40, 100, 1000].map(|base| sample::batch(Offset(base), &[1; 700])).into();
    for (index, batch) in batches.iter().enumerate() {
        engine.append(log, std::slice::from_ref(batch), NOW).expect("there is room");
        if index < 4 {
            subject.settle();
            subject.flush();
        }
    }
    let check = |from: i64, first: usize| {
        let found = engine.read(log, Offset(from), Offset(1001), ALL).expect("in range");
        assert_eq!(found.first(), batches.get(first), "from {from}");
    };
    for (from, first) in [(0, 0), (3, 0), (4, 1), (11, 2), (12, 3), (40, 3), (41, 4), (101, 5)] {
        check(from, first);
    }
    check(1001, 6);
    assert_eq!(read_all(engine.as_ref(), log), batches);
}

/// A limit never makes a log unreadable.
///
/// # Panics
/// If the engine does not keep it.
pub fn a_batch_larger_than_the_limit_is_read_alone(subject: &mut dyn Subject) {
    let (engine, log) = create(subject, LogSettings::default());
    let batches = fill(subject, log, 3, 5000);
    for limit in [0, 1, 5000, 9999] {
        let found = engine.read(log, Offset(1), Offset(3), ByteSize(limit)).expect("in range");
        assert_eq!(found, batches[1..2], "limit {limit}");
    }
    let two = engine.read(log, Offset(1), Offset(3), ByteSize(20_000)).expect("in range");
    assert_eq!(two, batches[1..]);
    let below = engine.read(log, Offset(1), Offset(2), ByteSize(20_000)).expect("in range");
    assert_eq!(below, batches[1..2], "nothing above the given end is shown");
}

/// What lies outside of a log is told from what is not there yet.
///
/// # Panics
/// If the engine does not keep it.
pub fn offsets_outside_of_the_log_are_out_of_range(subject: &mut dyn Subject) {
    let (engine, log) = create(subject, LogSettings::default());
    fill(subject, log, 5, 10);
    engine.trim(log, Offset(2)).expect("the disk works");
    for from in [-1, 0, 1, 6, i64::MAX] {
        let blocking = engine.read(log, Offset(from), Offset(5), ALL);
        assert!(
            matches!(blocking, Err(ReadError::OutOfRange { start: Offset(2), end: Offset(5), .. })),
            "{from}: {blocking:?}"
        );
        if let Some(hot) = engine.read_hot(log, Offset(from), Offset(5), ALL) {
            assert!(matches!(hot, Err(ReadError::OutOfRange { .. })), "{from}: {hot:?}");
        }
    }
    assert!(engine.read(log, Offset(5), Offset(5), ALL).expect("the end is in range").is_empty());
}

/// What was truncated is not read, not after new appends, not after a restart.
///
/// # Panics
/// If the engine does not keep it.
pub fn a_truncated_log_ends_at_a_batch_edge_and_never_shows_the_old_end_again(
    subject: &mut dyn Subject,
) {
    let (engine, log) = create(subject, sample::small_segments());
    let records = |value: &'static [u8]| [(NOW, None, Some(value)); 4];
    let at = |base: i64, epoch: i32, value: &'static [u8]| {
        sample::batch_of(Offset(base), Epoch(epoch), &records(value))
    };
    let old: Vec<_> = (0..10).map(|index| at(index * 4, 1, b"old")).collect();
    engine.append(log, &old[..8], NOW).expect("there is room");
    subject.settle();
    subject.flush();
    engine.append(log, &old[8..], NOW).expect("there is room");
    let bounds = engine.truncate(log, Offset(18)).expect("the disk works");
    assert_eq!((bounds.end, bounds.durable), (Offset(16), Offset(16)), "inside of batch 16 to 20");
    assert_eq!(read_all(engine.as_ref(), log), old[..4]);
    subject.reports().forget(log);
    engine.append(log, &[at(16, 2, b"new")], NOW).expect("there is room");
    let expected: Vec<_> = old[..4].iter().cloned().chain([at(16, 2, b"new")]).collect();
    assert_eq!(read_all(engine.as_ref(), log), expected);
    subject.settle();
    assert_eq!(engine.bounds(log).expect("it is open").durable, Offset(20));
    subject.flush();
    assert_eq!(read_all(engine.as_ref(), log), expected);
    if subject.restart() {
        let (engine, log) = create(subject, sample::small_segments());
        assert_eq!(read_all(engine.as_ref(), log), expected);
        let opened = engine.open(&[(sample::name(1, 0), sample::small_segments())]);
        let epochs = opened.expect("it exists").remove(0).1.epochs;
        assert_eq!(epochs.entries(), [(Epoch(1), Offset(0)), (Epoch(2), Offset(16))]);
    }
}

/// The start moves up only, may lie inside of a batch, and stays over a restart.
///
/// # Panics
/// If the engine does not keep it.
pub fn trimming_moves_the_start_for_good(subject: &mut dyn Subject) {
    let (engine, log) = create(subject, sample::small_segments());
    let batches = fill(subject, log, 10, 900);
    let start = |to: i64| engine.trim(log, Offset(to)).expect("the disk works").start;
    assert_eq!(start(4), Offset(4));
    assert_eq!(start(2), Offset(4));
    assert_eq!(read_all(engine.as_ref(), log), batches[4..]);
    assert_eq!(start(10), Offset(10));
    assert!(read_all(engine.as_ref(), log).is_empty());
    let next = fill(subject, log, 2, 900);
    assert_eq!(next[0].base_offset(), Offset(10), "an empty log goes on where it was");
    if subject.restart() {
        let (engine, log) = create(subject, sample::small_segments());
        assert_eq!(engine.bounds(log).expect("it is open").start, Offset(10));
        assert_eq!(read_all(engine.as_ref(), log), next);
    }
}

/// Every call on a log that is not there says so.
///
/// # Panics
/// If a call does anything else.
pub fn an_unknown_log_is_an_error_and_not_a_panic(subject: &mut dyn Subject) {
    let engine = subject.engine();
    let log = LogId(77);
    let unknown = |error: Error| assert!(matches!(error, Error::UnknownLog(LogId(77))), "{error}");
    unknown(engine.bounds(log).expect_err("unknown"));
    unknown(engine.size(log).expect_err("unknown"));
    unknown(engine.truncate(log, Offset(0)).expect_err("unknown"));
    unknown(engine.trim(log, Offset(0)).expect_err("unknown"));
    unknown(engine.clean(log, Offset(0), NOW).expect_err("unknown"));
    unknown(engine.configure(log, LogSettings::default()).expect_err("unknown"));
    assert!(engine.append(log, &[sample::batch(Offset(0), b"v")], NOW).is_err());
    assert!(engine.read(log, Offset(0), Offset(0), ALL).is_err());
    assert!(engine.find_by_time(log, NOW, Offset(0)).is_err());
    assert!(engine.read_hot(log, Offset(0), Offset(0), ALL).is_none_or(|answer| answer.is_err()));
}

/// Many readers of the same batches get the same memory.
///
/// # Panics
/// If a read copies.
pub fn a_tail_read_by_many_is_held_once(subject: &mut dyn Subject) {
    let (engine, log) = create(subject, LogSettings::default());
    let batch = sample::batch(Offset(0), &[1; 100_000]);
    let appended = engine.append(log, &[batch], NOW).expect("there is room");
    if appended == Appended::Pending {
        subject.settle();
        assert_eq!(subject.reports().durable(log), Some(Offset(1)));
    }
    let read = || {
        let hot = engine.read_hot(log, Offset(0), Offset(1), ALL).expect("just appended");
        hot.expect("in range").remove(0).records
    };
    let first = read();
    for _ in 0..20 {
        assert_eq!(read().as_ptr(), first.as_ptr());
    }
}

/// The size grows with what is appended and shrinks with what is cleaned.
///
/// # Panics
/// If it does not.
pub fn the_size_follows_what_the_log_holds(subject: &mut dyn Subject) {
    let mut settings = sample::small_segments();
    settings.retention_bytes = Some(ByteSize(0));
    let (engine, log) = create(subject, settings);
    let batches = fill(subject, log, 20, 500);
    let bytes: u64 = batches.iter().map(|batch| ByteSize::of_len(batch.len()).0).sum();
    let size = || engine.size(log).expect("it is open").0;
    assert_eq!(size(), bytes);
    let pinned = sample::batch(Offset(20), b"v");
    engine.append(log, std::slice::from_ref(&pinned), NOW).expect("there is room");
    let bytes = bytes + ByteSize::of_len(pinned.len()).0;
    assert_eq!(size(), bytes);
    let report = engine.clean(log, Offset(21), NOW).expect("the disk works");
    assert!(Offset(0) < report.start && 0 < report.segments_deleted, "{report:?}");
    assert!(size() < bytes / 2 && 0 < report.bytes_freed, "{report:?} left {}", size());
    assert_eq!(engine.bounds(log).expect("it is open").start, report.start);
}

/// Retention by size stops before the log would hold less than it may.
///
/// # Panics
/// If it takes more, or nothing.
pub fn retention_by_size_leaves_at_least_that_much(subject: &mut dyn Subject) {
    let mut settings = sample::small_segments();
    settings.retention_bytes = Some(ByteSize(6000));
    let (engine, log) = create(subject, settings);
    fill(subject, log, 30, 500);
    let report = engine.clean(log, Offset(30), NOW).expect("the disk works");
    let left = engine.size(log).expect("it is open").0;
    assert!((6000..6000 + 2 * 2048).contains(&left), "{left} bytes are left, {report:?}");
    let below = engine.clean(log, report.start, NOW).expect("the disk works");
    assert_eq!(below.start, report.start);
    assert_eq!(read_all(engine.as_ref(), log)[0].base_offset(), report.start);
}

/// Retention by time goes by the newest record of a segment, and by when it came.
///
/// # Panics
/// If it takes what is young, or leaves all that is old.
pub fn retention_by_time_deletes_nothing_younger(subject: &mut dyn Subject) {
    let mut settings = sample::small_segments();
    settings.retention_age = Some(Duration::from_secs(100));
    let (engine, log) = create(subject, settings);
    // The records claim to be of 1970 and were appended now.
    fill(subject, log, 30, 500);
    let clean = |seconds: u64| {
        let now = NOW.plus(Duration::from_secs(seconds));
        engine.clean(log, Offset(30), now).expect("the disk works").start
    };
    assert_eq!(clean(99), Offset(0), "the clock of the producer decides nothing");
    assert!(Offset(20) < clean(200), "all closed segments are old");
}

/// After compaction every key reads as its latest value, at its own offset.
///
/// # Panics
/// If a value is lost, or nothing was compacted.
pub fn a_compacted_log_keeps_the_latest_of_every_key(subject: &mut dyn Subject) {
    let mut settings = sample::small_segments();
    settings.cleanup = Cleanup { delete: false, compact: true };
    settings.delete_retention = Duration::ZERO;
    let (engine, log) = create(subject, settings.clone());
    let keys: Vec<[u8; 1]> = (0..5).map(|key| [key]).collect();
    for index in 0..200_u8 {
        let key = &keys[usize::from(index) % keys.len()];
        let value = [index; 50];
        let record = (NOW, Some(key.as_slice()), Some(value.as_slice()));
        let batch = sample::batch_of(Offset(i64::from(index)), Epoch(0), &[record]);
        engine.append(log, &[batch], NOW).expect("there is room");
        subject.settle();
        subject.flush();
    }
    let report =
        engine.clean(log, Offset(200), NOW.plus(Duration::from_secs(1))).expect("the disk works");
    assert!(100 < report.records_compacted, "{report:?}");
    let check = |engine: &dyn Engine, log| {
        let records: Vec<_> = read_all(engine, log).iter().flat_map(sample::records_of).collect();
        assert!(records.len() < 100, "{} records are left", records.len());
        for (index, key) in keys.iter().enumerate() {
            let latest = records.iter().rfind(|record| record.key.as_deref() == Some(key));
            let latest = latest.expect("the key is there");
            let expected = u8::try_from(195 + index).expect("small");
            assert_eq!(latest.offset, Offset(i64::from(expected)));
            assert_eq!(latest.value.as_deref(), Some([expected; 50].as_slice()));
        }
    };
    check(engine.as_ref(), log);
    assert_eq!(engine.bounds(log).expect("it is open").end, Offset(200));
    if subject.restart() {
        let (engine, log) = create(subject, settings);
        check(engine.as_ref(), log);
        assert_eq!(engine.bounds(log).expect("it is open").end, Offset(200));
    }
}
