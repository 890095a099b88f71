//! The promises on transactions, one test each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rafka_core::batch::{EndMarker, Outcome};
use rafka_core::rng::{self, Rng, RngExt as _};
use rafka_core::{Batch, ByteSize, Epoch, Offset, ProducerId, Timestamp};

use super::{Subject, sample};
use crate::{Cleanup, Engine, LogId, LogSettings, Recovered};

const NOW: Timestamp = Timestamp(1_000_000_000);
const FIRST: ProducerId = ProducerId(1);
const SECOND: ProducerId = ProducerId(2);
const THIRD: ProducerId = ProducerId(3);

fn open(subject: &dyn Subject, settings: LogSettings) -> (Arc<dyn Engine>, LogId, Recovered) {
    let engine = subject.engine();
    let mut opened = engine.open(&[(sample::name(1, 0), settings)]).expect("it can be opened");
    let (log, recovered) = opened.remove(0);
    (engine, log, recovered)
}

/// Appends batches, each of which makes a segment of its own where there are any.
fn append(subject: &mut dyn Subject, log: LogId, batches: &[Batch]) {
    for batch in batches {
        let engine = subject.engine();
        engine.append(log, std::slice::from_ref(batch), NOW).expect("there is room");
        subject.settle();
        subject.flush();
    }
}

fn aborted(engine: &dyn Engine, log: LogId, from: i64, below: i64) -> Vec<(i64, i64, i64)> {
    let found = engine.aborted(log, Offset(from), Offset(below)).expect("the log is open");
    found.iter().map(|e| (e.producer.0, e.first_offset.0, e.last_offset.0)).collect()
}

fn read_from(engine: &dyn Engine, log: LogId, mut from: Offset) -> Vec<Batch> {
    let end = engine.bounds(log).expect("the log is open").end;
    let mut all = Vec::new();
    while from < end {
        let batches = engine.read(log, from, end, ByteSize::gib(1)).expect("nothing is damaged");
        let Some(last) = batches.last() else { break };
        from = last.next_offset();
        all.extend(batches);
    }
    all
}

/// The offsets that a consumer sees who reads what is committed: it goes by the list of aborted
/// transactions and by markers alone, as Kafka's do.
fn committed(engine: &dyn Engine, log: LogId, from: Offset) -> Vec<i64> {
    let end = engine.bounds(log).expect("the log is open").end;
    let batches = read_from(engine, log, from);
    let mut aborted = engine.aborted(log, from, end).expect("the log is open");
    aborted.sort_by_key(|ended| ended.first_offset);
    let mut ahead = aborted.into_iter().peekable();
    let mut dropped = BTreeSet::new();
    let mut values = Vec::new();
    for batch in batches {
        while let Some(begun) = ahead.next_if(|ended| ended.first_offset <= batch.last_offset()) {
            dropped.insert(begun.producer);
        }
        let id = batch.header.producer_id;
        if batch.header.attributes.is_control() {
            if EndMarker::of(&batch).is_some_and(|marker| marker.outcome == Outcome::Abort) {
                dropped.remove(&id);
            }
        } else if !batch.header.attributes.is_transactional() || !dropped.contains(&id) {
            values.extend(sample::records_of(&batch).iter().map(|record| record.offset.0));
        }
    }
    values
}

/// An open transaction is known to whoever opens the log, and an aborted one to whoever reads it,
/// wherever in it the reading begins.
///
/// # Panics
/// If the engine does not keep it.
pub fn transactions_are_known_wherever_their_batches_are(subject: &mut dyn Subject) {
    let settings = LogSettings { segment_bytes: ByteSize(1), ..LogSettings::default() };
    let (_, log, _) = open(subject, settings.clone());
    let batches = [
        sample::transactional(Offset(0), FIRST, 0, b"a"),
        sample::transactional(Offset(1), SECOND, 0, b"a"),
        sample::transactional(Offset(2), FIRST, 1, b"a"),
        sample::marker(Offset(3), Epoch(0), FIRST, Outcome::Abort),
        sample::transactional(Offset(4), THIRD, 0, b"a"),
        sample::transactional(Offset(5), FIRST, 2, b"a"),
        sample::marker(Offset(6), Epoch(0), THIRD, Outcome::Abort),
        sample::marker(Offset(7), Epoch(0), FIRST, Outcome::Commit),
    ];
    for appended in 0..=batches.len() {
        if let Some(batch) = appended.checked_sub(1).and_then(|last| batches.get(last)) {
            subject.engine().append(log, std::slice::from_ref(batch), NOW).expect("there is room");
            subject.settle();
            // Some are found in memory, some on the disk.
            if appended % 3 == 0 {
                subject.flush();
                subject.restart();
            }
        }
        let (engine, log, recovered) = open(subject, settings.clone());
        let open: Vec<_> = recovered.producers.open().map(|(at, id)| (at.0, id.0)).collect();
        let expected: &[(i64, i64)] = match appended {
            0 => &[],
            1 => &[(0, 1)],
            2 | 3 => &[(0, 1), (1, 2)],
            4 => &[(1, 2)],
            5 => &[(1, 2), (4, 3)],
            6 => &[(1, 2), (4, 3), (5, 1)],
            7 => &[(1, 2), (5, 1)],
            _ => &[(1, 2)],
        };
        assert_eq!(open, expected, "after {appended} batches");
        let both: &[(i64, i64, i64)] = match appended {
            0..=3 => &[],
            4..=6 => &[(1, 0, 3)],
            _ => &[(1, 0, 3), (3, 4, 6)],
        };
        assert_eq!(aborted(engine.as_ref(), log, 0, 8), both, "after {appended} batches");
    }
    let engine = subject.engine();
    let check = |from, below, expected: &[(i64, i64, i64)]| {
        assert_eq!(aborted(engine.as_ref(), log, from, below), expected, "{from} to {below}");
    };
    check(2, 3, &[(1, 0, 3)]);
    check(3, 4, &[(1, 0, 3)]);
    check(4, 5, &[(3, 4, 6)]);
    check(5, 6, &[(3, 4, 6)]);
    check(7, 8, &[]);
    assert_eq!(committed(engine.as_ref(), log, Offset(0)), [1, 5]);
    assert_eq!(committed(engine.as_ref(), log, Offset(5)), [5]);
    // What is cut off never was.
    engine.truncate(log, Offset(6)).expect("the disk works");
    check(0, 6, &[(1, 0, 3)]);
    let (_, _, recovered) = open(subject, settings);
    let open: Vec<_> = recovered.producers.open().map(|(at, id)| (at.0, id.0)).collect();
    assert_eq!(open, [(1, 2), (4, 3), (5, 1)]);
    engine.trim(log, Offset(4)).expect("the disk works");
    check(0, 6, &[]);
}

/// Compaction drops what was aborted and lets it replace nothing; markers go when nothing of their
/// transaction is left, after the time for tombstones. Nobody sees an aborted record meanwhile.
///
/// # Panics
/// If the engine does not keep it.
pub fn compaction_drops_what_was_aborted_and_later_its_marker(subject: &mut dyn Subject) {
    let settings = LogSettings {
        cleanup: Cleanup { delete: false, compact: true },
        segment_bytes: ByteSize(1),
        cleanable_ratio_min: 0.0,
        ..LogSettings::default()
    };
    let retention = settings.delete_retention;
    let (_, log, _) = open(subject, settings);
    append(
        subject,
        log,
        &[
            sample::transactional(Offset(0), FIRST, 0, b"a"),
            sample::marker(Offset(1), Epoch(0), FIRST, Outcome::Commit),
            sample::transactional(Offset(2), SECOND, 0, b"a"),
            sample::marker(Offset(3), Epoch(0), SECOND, Outcome::Abort),
            sample::transactional(Offset(4), SECOND, 1, b"b"),
            sample::marker(Offset(5), Epoch(0), SECOND, Outcome::Commit),
        ],
    );
    let clean = |subject: &mut dyn Subject, now: Timestamp| {
        subject.settle();
        subject.flush();
        let engine = subject.engine();
        let end = engine.bounds(log).expect("it is open").end;
        engine.clean(log, end, now).expect("the disk works");
        let all = read_from(engine.as_ref(), log, Offset(0));
        let markers = all.iter().filter(|batch| batch.header.attributes.is_control());
        let markers: Vec<i64> = markers.map(|marker| marker.base_offset().0).collect();
        (committed(engine.as_ref(), log, Offset(0)), markers)
    };
    assert_eq!(clean(subject, NOW), (vec![0, 4], vec![1, 3, 5]));
    let later = NOW.plus(retention).plus(Duration::from_secs(1));
    append(
        subject,
        log,
        &[sample::batch_of(Offset(6), Epoch(0), &[(NOW, Some(b"b"), Some(b"6"))])],
    );
    // Nothing of the aborted transaction is left, and nothing of the one that wrote `b`.
    assert_eq!(clean(subject, later), (vec![0, 6], vec![1]));
    assert_eq!(aborted(subject.engine().as_ref(), log, 0, 7), []);
    append(
        subject,
        log,
        &[sample::batch_of(Offset(7), Epoch(0), &[(NOW, Some(b"a"), Some(b"7"))])],
    );
    assert_eq!(clean(subject, later), (vec![6, 7], vec![]));
}

/// Whatever transactions there are, and however often the log is compacted and the engine started
/// again: a reader of what is committed finds the latest committed value of every key, and never an
/// aborted one, wherever it begins.
///
/// # Panics
/// If the engine does not keep it.
pub fn compaction_is_not_seen_by_committed_readers(subject: &mut dyn Subject, seed: u64) {
    let mut rng = rng::from_seed(seed);
    let settings = LogSettings {
        cleanup: Cleanup { delete: false, compact: true },
        segment_bytes: ByteSize(rng.random_range(200..2000)),
        cleanable_ratio_min: 0.0,
        delete_retention: Duration::from_secs(100),
        ..LogSettings::default()
    };
    let (_, log, _) = open(subject, settings.clone());
    let mut now = NOW;
    let mut history = History::default();
    for _ in 0..rng.random_range(20..120) {
        now = now.plus(Duration::from_secs(rng.random_range(0..40)));
        let batch = history.next(&mut rng);
        subject.engine().append(log, &[batch], now).expect("there is room");
        let chance = rng.random_range(0..10);
        if 3 < chance {
            continue;
        }
        subject.settle();
        if chance < 2 {
            subject.flush();
        } else if chance == 2 {
            subject.restart();
            open(subject, settings.clone());
        }
        // Also while the marker that ends a transaction is still in memory alone.
        if chance == 1 || chance == 3 {
            let below = history.last_stable_offset();
            subject.engine().clean(log, below, now).expect("the disk works");
        }
    }
    subject.settle();
    let engine = subject.engine();
    for from in [0, rng.random_range(0..history.end.0), rng.random_range(0..history.end.0)] {
        let seen: BTreeSet<i64> =
            committed(engine.as_ref(), log, Offset(from)).into_iter().collect();
        history.check(&seen, from, seed);
    }
}

/// What was written in transactions: the key and offset of each record.
#[derive(Default)]
struct History {
    end: Offset,
    /// Of each producer: how many batches it wrote, and what in its open transaction.
    producers: [(i32, Vec<(u8, i64)>); 3],
    /// The last record of each key that was committed.
    latest: BTreeMap<u8, i64>,
    committed: BTreeSet<i64>,
}

impl History {
    /// Another batch of some producer, or the end of its transaction.
    fn next(&mut self, rng: &mut Rng) -> Batch {
        let index = rng.random_range(0..3);
        let (id, end) = ([FIRST, SECOND, THIRD][index], self.end);
        let (sequence, open) = &mut self.producers[index];
        let batch = if open.is_empty() || rng.random_ratio(2, 3) {
            let key = rng.random_range(0..6);
            open.push((key, end.0));
            *sequence += 1;
            sample::transactional(end, id, *sequence - 1, &[key])
        } else {
            let abort = rng.random_bool(0.5);
            for (key, offset) in open.drain(..).filter(|_| !abort) {
                self.committed.insert(offset);
                let latest = self.latest.entry(key).or_insert(offset);
                *latest = offset.max(*latest);
            }
            let outcome = if abort { Outcome::Abort } else { Outcome::Commit };
            sample::marker(end, Epoch(0), id, outcome)
        };
        self.end = batch.next_offset();
        batch
    }

    fn open(&self) -> impl Iterator<Item = i64> + '_ {
        self.producers.iter().flat_map(|(_, open)| open.iter().map(|(_, offset)| *offset))
    }

    fn last_stable_offset(&self) -> Offset {
        self.open().min().map_or(self.end, Offset)
    }

    /// Holds what a reader saw from an offset on against what was committed.
    fn check(&self, seen: &BTreeSet<i64>, from: i64, seed: u64) {
        // The engine shows what is undecided: to stop before it is the caller's business.
        let undecided: BTreeSet<i64> = self.open().collect();
        for offset in seen.difference(&undecided) {
            assert!(self.committed.contains(offset), "seed {seed} from {from}: {offset} is seen");
        }
        for (key, offset) in self.latest.iter().filter(|(_, offset)| from <= **offset) {
            assert!(
                seen.contains(offset),
                "seed {seed} from {from}: key {key} at {offset} is lost"
            );
        }
    }
}
