//! Logs that change what acked means while they are written.

use rafka_core::{Offset, Timestamp};

use super::{Bench, small_settings};
use crate::contract::sample;
use crate::{Durability, Engine as _, LogId, LogSettings};

const NOW: Timestamp = Timestamp(1_000_000_000);

fn settings(durability: Durability) -> LogSettings {
    LogSettings { durability, ..LogSettings::default() }
}

fn append(bench: &Bench, log: LogId) {
    let base = bench.engine.bounds(log).expect("open").end;
    bench.engine.append(log, &[sample::batch(base, b"v")], NOW).expect("there is room");
}

#[test]
fn a_change_of_lanes_keeps_the_order_and_acks_everything() {
    let mut bench = Bench::new(3, small_settings());
    let name = sample::name(1, 0);
    let log = bench.engine.open(&[(name, settings(Durability::Fsync))]).expect("opens")[0].0;
    append(&bench, log);
    bench.engine.configure(log, settings(Durability::Os)).expect("open");
    append(&bench, log);
    let os = bench.engine.journal(Durability::Os).expect("the lane has begun");
    assert!(os.take_write().is_none(), "what comes later waits for what came before");
    bench.engine.step();
    bench.engine.step();
    assert_eq!(bench.reports.durable(log), Some(Offset(2)));
    append(&bench, log);
    let os = bench.engine.journal(Durability::Os).expect("the lane has begun");
    let job = os.take_write().expect("now it goes there");
    os.run_write(job);
    assert_eq!(bench.reports.durable(log), Some(Offset(3)));
    // Back again, and truncated while it changes.
    bench.engine.configure(log, settings(Durability::Fsync)).expect("open");
    append(&bench, log);
    assert_eq!(bench.engine.truncate(log, Offset(3)).expect("the disk works").durable, Offset(3));
    bench.disk.kill();
    bench.reopen().expect("sound");
    let opened = bench.engine.open(&[(name, settings(Durability::Fsync))]).expect("opens");
    assert_eq!(opened[0].1.bounds.end, Offset(3));
}

#[test]
fn the_os_lane_costs_nothing_until_a_log_asks_for_it() {
    let bench = Bench::new(4, small_settings());
    assert!(bench.engine.journal(Durability::Os).is_none());
    assert_eq!(bench.engine.stats().journals.len(), 1);
    let name = sample::name(1, 0);
    bench.engine.open(&[(name, settings(Durability::Os))]).expect("opens");
    assert_eq!(bench.engine.stats().journals.len(), 2);
}
