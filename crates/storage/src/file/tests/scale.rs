//! Many logs, little memory.

use std::mem::size_of;
use std::time::{Duration, Instant};

use rafka_core::{ByteSize, Offset, Timestamp};

use super::super::log::Log;
use super::{Bench, small_settings};
use crate::contract::sample;
use crate::{Engine as _, LogId, LogSettings, Settings};

const NOW: Timestamp = Timestamp(1_000_000_000);

fn open_many(bench: &Bench, count: i32) -> Vec<LogId> {
    let logs: Vec<_> =
        (0..count).map(|index| (sample::name(7, index), LogSettings::default())).collect();
    let opened = bench.engine.open(&logs).expect("the disk works");
    opened.into_iter().map(|(log, _)| log).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the promise is one of real time")]
fn ten_thousand_idle_logs_are_there_again_within_a_second() {
    let mut bench = Bench::new(1, small_settings());
    open_many(&bench, 10_000);
    bench.disk.kill();
    let began = Instant::now();
    let started = bench.reopen().expect("sound");
    let logs = open_many(&bench, 10_000);
    assert_eq!((started.logs, logs.len()), (10_000, 10_000));
    let elapsed = began.elapsed();
    assert!(
        elapsed < Duration::from_secs(5),
        "an unoptimised build may take that, not {elapsed:?}"
    );
}

#[test]
fn an_idle_log_takes_less_than_500_bytes() {
    // Its own memory with the two counts of its Arc, and its places in both maps, whose nodes are
    // at least half full.
    let log = size_of::<Log>() + 2 * size_of::<usize>();
    let by_id = size_of::<(LogId, usize)>();
    let by_name = size_of::<(rafka_core::TopicPartition, usize)>();
    let bytes = log + 2 * (by_id + by_name);
    assert!(bytes <= 500, "{bytes} bytes");
}

#[test]
fn appends_wait_for_room_and_are_told_when_there_is_some() {
    let bench = Bench::new(2, small_settings());
    let log = open_many(&bench, 1)[0];
    let mut base = 0;
    while bench.engine.has_room() {
        let batch = sample::batch(Offset(base), &[1; 3000]);
        bench.engine.append(log, &[batch], NOW).expect("the disk is large");
        base += 1;
    }
    let stats = bench.engine.stats().sidecar;
    assert!(stats.budget.0 / 2 <= stats.pinned.0 && stats.pinned.0 < stats.budget.0, "{stats:?}");
    assert_eq!(bench.reports.rooms(), 0);
    // The journal is smaller than that: its files are written, released, and written again.
    for _ in 0..3 {
        bench.engine.step();
    }
    assert!(bench.engine.has_room());
    assert_eq!(bench.reports.rooms(), 1);
    let stats = bench.engine.stats().sidecar;
    assert!(stats.cached.0 + stats.pinned.0 <= stats.budget.0, "{stats:?}");
    assert_eq!(bench.engine.bounds(log).expect("open").durable, Offset(base));
}

#[test]
fn a_journal_larger_than_the_memory_is_replayed_through_it() {
    let mut settings = small_settings();
    settings.journal.bytes_max = ByteSize::mib(8);
    settings.sidecar_bytes = Some(ByteSize::mib(8));
    let mut bench = Bench::new(3, settings.clone());
    let log = open_many(&bench, 1)[0];
    for base in 0..1000 {
        let batch = sample::batch(Offset(base), &[1; 3000]);
        bench.engine.append(log, &[batch], NOW).expect("the disk is large");
    }
    bench.engine.journal(crate::Durability::Fsync).expect("begun").settle();
    bench.disk.kill();
    bench.settings = Settings { sidecar_bytes: Some(ByteSize::mib(1)), ..settings };
    let started = bench.reopen().expect("sound");
    assert_eq!(started.replayed_batches, 1000);
    let stats = bench.engine.stats();
    assert!(stats.sidecar.pinned.0 <= stats.sidecar.budget.0 / 4, "{stats:?}");
    let log = open_many(&bench, 1)[0];
    assert_eq!(bench.engine.bounds(log).expect("open").durable, Offset(1000));
}

#[test]
fn what_is_old_is_flushed_and_the_journal_forgets_it() {
    let bench = Bench::new(4, small_settings());
    let logs = open_many(&bench, 40);
    for log in &logs {
        bench.engine.append(*log, &[sample::batch(Offset(0), b"v")], NOW).expect("there is room");
    }
    bench.engine.step();
    assert_eq!(bench.engine.stats().segments, 0, "little and young: not yet");
    bench.clock.advance(Duration::from_secs(11));
    bench.engine.tick();
    let stats = bench.engine.stats();
    assert_eq!((stats.segments, stats.flushes), (40, 1));
    assert_eq!(stats.sidecar.pinned, ByteSize(0));
    let hot = bench.engine.read_hot(logs[0], Offset(0), Offset(1), ByteSize(1));
    assert!(hot.is_some_and(|read| read.is_ok()), "what was flushed is still in memory");
}
