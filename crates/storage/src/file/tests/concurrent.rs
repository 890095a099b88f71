//! Readers, a writer and a cleaner at once, with the engine's own threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rafka_core::rng::{self, RngExt as _};
use rafka_core::{Batch, ByteSize, Epoch, Offset, Timestamp};

use super::{Bench, real, small_settings};
use crate::contract::{Subject as _, sample};
use crate::{Cleanup, Engine, LogId, ReadError};

const NOW: Timestamp = Timestamp(1_000_000_000);
const APPENDS: i64 = 1000;

/// A batch whose one record says where it is.
fn batch(base: i64) -> Batch {
    let key = [u8::try_from(base % 7).expect("small")];
    let value = [base.to_be_bytes().as_slice(), &[7; 600]].concat();
    let record = (NOW, Some(key.as_slice()), Some(value.as_slice()));
    sample::batch_of(Offset(base), Epoch(0), &[record])
}

/// Reads from somewhere, and looks whether each record is where it says.
fn read_some(engine: &dyn Engine, log: LogId, from: i64) {
    let end = engine.bounds(log).expect("open").end;
    let mut last = Offset(-1);
    match engine.read(log, Offset(from.min(end.0)), end, ByteSize::kib(16)) {
        Ok(batches) => {
            for record in batches.iter().flat_map(sample::records_of) {
                assert!(last < record.offset && from.min(end.0) <= record.offset.0);
                last = record.offset;
                let value = record.value.expect("every record has one");
                assert_eq!(value[..8], record.offset.0.to_be_bytes());
            }
        }
        Err(ReadError::OutOfRange { from, start, .. }) => assert!(from < start),
        Err(error) => panic!("read from {from}: {error:?}"),
    }
}

#[test]
fn reads_stay_right_while_the_log_is_written_flushed_trimmed_and_compacted() {
    let subject = real(1);
    let engine = subject.engine();
    let mut compacted = sample::small_segments();
    compacted.cleanup = Cleanup { delete: false, compact: true };
    let mut retained = sample::small_segments();
    retained.retention_bytes = Some(ByteSize::kib(64));
    let opened = engine
        .open(&[(sample::name(1, 0), compacted), (sample::name(2, 0), retained)])
        .expect("opens");
    let logs = [opened[0].0, opened[1].0];
    let is_written = AtomicBool::new(false);
    let goes_on = || !is_written.load(Ordering::Relaxed);
    thread::scope(|scope| {
        for seed in 0..2 {
            let engine = &engine;
            scope.spawn(move || {
                let mut rng = rng::from_seed(seed);
                while goes_on() {
                    let log = logs[rng.random_range(0..2)];
                    read_some(engine.as_ref(), log, rng.random_range(0..APPENDS));
                }
            });
        }
        scope.spawn(|| {
            while goes_on() {
                for log in logs {
                    subject.engine.flush().expect("the disk works");
                    let below = engine.bounds(log).expect("open").durable;
                    engine.clean(log, below, NOW).expect("the disk works");
                }
            }
        });
        for base in 0..APPENDS {
            for log in logs {
                engine.append(log, &[batch(base)], NOW).expect("there is room");
            }
            while !engine.has_room() {
                thread::yield_now();
            }
        }
        is_written.store(true, Ordering::Relaxed);
    });
    let end = engine.bounds(logs[0]).expect("open").end;
    assert_eq!(end, Offset(APPENDS));
    for key in 0..7 {
        let latest = (0..APPENDS).rfind(|base| base % 7 == key).expect("written");
        let found = engine.read(logs[0], Offset(latest), end, ByteSize(1)).expect("in range");
        assert_eq!(found, [batch(latest)], "the latest of key {key}");
    }
}

#[test]
fn a_truncation_that_failed_halfway_is_finished_by_the_next() {
    use crate::disk::faulty::Verb;
    let bench = Bench::new(1, small_settings());
    let settings = crate::LogSettings::default();
    let log = bench.engine.open(&[(sample::name(1, 0), settings)]).expect("opens")[0].0;
    for base in 0..20 {
        bench.engine.append(log, &[batch(base)], NOW).expect("there is room");
    }
    bench.engine.step();
    bench.engine.flush().expect("the disk works");
    bench.disk.fail(Verb::Read, ".log", 0);
    assert!(bench.engine.truncate(log, Offset(10)).is_err());
    bench.reports.forget(log);
    let new = sample::batch_of(Offset(10), Epoch(1), &[(NOW, None, Some(b"new".as_slice()))]);
    assert!(bench.engine.append(log, std::slice::from_ref(&new), NOW).is_err());
    bench.engine.step();
    bench.engine.flush().expect("what is cut halfway is left alone");
    let expected: Vec<Batch> = (0..10).map(batch).chain([new.clone()]).collect();
    let read = |below: i64| {
        bench.engine.read(log, Offset(0), Offset(below), ByteSize::mib(1)).expect("whole")
    };
    assert_eq!(read(20), expected[..10], "up to where it was cut");
    bench.engine.truncate(log, Offset(10)).expect("the disk works again");
    bench.engine.append(log, &[new], NOW).expect("there is room");
    bench.engine.step();
    let found = bench.engine.read(log, Offset(10), Offset(11), ByteSize::mib(1)).expect("whole");
    assert_eq!(found, expected[10..], "and never what was cut off");
    bench.engine.flush().expect("the disk works");
    assert_eq!(read(11), expected);
}
