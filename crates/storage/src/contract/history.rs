//! Random histories: the engine and a vector do the same things and must say the same.

use std::collections::BTreeMap;

use rafka_core::batch::Record;
use rafka_core::producer_state::ProducerTable;
use rafka_core::rng::{self, Rng, RngExt as _};
use rafka_core::{
    Batch, ByteSize, Epoch, EpochHistory, Offset, ProducerEpoch, ProducerId, Timestamp,
};

use super::model::ModelLog;
use super::{Subject, sample};
use crate::{CleanReport, Engine, ReadError};

const LOGS: u128 = 3;
const STEPS: usize = 150;

/// Plays one random history. A failure names the seed, which repeats it.
///
/// # Panics
/// If the engine differs from the model.
pub fn random_histories_match_the_model(subject: &mut dyn Subject, seed: u64) {
    let mut history = History {
        subject,
        rng: rng::from_seed(seed),
        logs: Vec::new(),
        now: Timestamp(1_000_000_000),
        epoch: Epoch(0),
        names_used: 0,
        seed,
    };
    for _ in 0..LOGS {
        history.create();
    }
    for _ in 0..STEPS {
        history.step();
    }
    history.restart();
}

struct History<'a> {
    subject: &'a mut dyn Subject,
    rng: Rng,
    logs: Vec<ModelLog>,
    now: Timestamp,
    epoch: Epoch,
    names_used: u128,
    seed: u64,
}

impl History<'_> {
    fn step(&mut self) {
        self.now = Timestamp(self.now.0 + self.rng.random_range(0..30_000));
        let log = self.rng.random_range(0..self.logs.len());
        match self.rng.random_range(0..100) {
            0..38 => self.append(log),
            38..62 => self.read(log),
            62..70 => self.find(log),
            70..74 => self.truncate(log),
            74..78 => self.trim(log),
            78..83 => self.clean(log),
            83..89 => self.subject.flush(),
            89..94 => self.settle(),
            94..96 => self.epoch = self.epoch.next(),
            96 => self.configure(log),
            97 => self.recreate(log),
            _ => self.restart(),
        }
        self.check_bounds(log);
    }

    fn create(&mut self) {
        // Half of the logs are further partitions of a topic that exists.
        self.names_used += 1;
        let partition = i32::from(self.rng.random_bool(0.5));
        let name = sample::name(self.names_used, partition);
        let settings = sample::random_settings(&mut self.rng);
        let engine = self.subject.engine();
        let opened = engine.open(&[(name, settings.clone())]).expect("a log can be created");
        let (id, recovered) = &opened[0];
        assert_eq!(recovered.bounds, crate::Bounds::default());
        assert!(self.logs.iter().all(|log| log.id != *id), "{id} is given twice");
        self.logs.push(ModelLog::new(name, *id, settings));
    }

    fn append(&mut self, log: usize) {
        let model = &mut self.logs[log];
        // Followers of compacted logs append across gaps.
        let gap = if self.rng.random_ratio(1, 20) { self.rng.random_range(1..10) } else { 0 };
        let mut base = model.end + gap;
        let mut batches = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let id = ProducerId(self.rng.random_range(-1..3));
            let producer = id.is_some().then(|| {
                let sequence = model.sequences.get(&id).copied().unwrap_or(0);
                (id, ProducerEpoch(0), sequence)
            });
            let batch = sample::random_batch(&mut self.rng, base, self.epoch, self.now, producer);
            if let Some((id, _, sequence)) = producer {
                model.sequences.insert(id, sequence + batch.header.last_offset_delta + 1);
            }
            base = batch.next_offset();
            batches.push(batch);
        }
        self.subject.engine().append(model.id, &batches, self.now).expect("there is room");
        for batch in batches {
            model.append(batch, self.now);
        }
    }

    fn read(&mut self, log: usize) {
        let model = &self.logs[log];
        let from = Offset(self.rng.random_range(-2..=model.end.0 + 2));
        let below = match model.batches.len() {
            0 => model.end,
            count => model.batches[self.rng.random_range(0..count)].0.next_offset(),
        };
        let below = if self.rng.random_bool(0.5) { model.end } else { below };
        let limit = ByteSize(self.rng.random_range(0..6000));
        let context = format!("seed {}: read {from} below {below}, {limit}", self.seed);
        let engine = self.subject.engine();
        if from < model.start || model.end < from {
            let error = engine.read(model.id, from, below, limit);
            assert!(matches!(error, Err(ReadError::OutOfRange { .. })), "{context}: {error:?}");
            return;
        }
        let expected = model.read(from, below, limit);
        let check = |found: Vec<_>, way: &str| {
            let row = expected.get(..found.len());
            assert_eq!(row, Some(found.as_slice()), "{context}, {way}");
            assert_eq!(
                found.is_empty(),
                expected.is_empty(),
                "{context}, {way}: a read ended early"
            );
        };
        if let Some(hot) = engine.read_hot(model.id, from, below, limit) {
            check(hot.expect("the offset is in range"), "from memory");
        }
        check(
            engine.read(model.id, from, below, limit).expect("the offset is in range"),
            "blocking",
        );
    }

    fn find(&mut self, log: usize) {
        let model = &self.logs[log];
        let at = Timestamp(self.now.0 - self.rng.random_range(-10_000..1_000_000));
        let below = Offset(self.rng.random_range(0..=model.end.0 + 1));
        let found = self.subject.engine().find_by_time(model.id, at, below);
        let expected = model.find_by_time(at, below);
        assert_eq!(
            found.expect("nothing is damaged"),
            expected,
            "seed {}: find {at} below {below}",
            self.seed
        );
    }

    fn truncate(&mut self, log: usize) {
        let model = &mut self.logs[log];
        let low = (model.end.0 - 60).max(model.start.0);
        let end = Offset(self.rng.random_range(low..=model.end.0));
        let bounds = self.subject.engine().truncate(model.id, end).expect("the disk works");
        model.truncate(end);
        assert_eq!(bounds.end, model.end, "seed {}: truncated to {end}", self.seed);
        self.subject.reports().forget(model.id);
    }

    fn trim(&mut self, log: usize) {
        let model = &mut self.logs[log];
        let high = model.end.0.min(model.start.0 + 80);
        let start = Offset(self.rng.random_range(0..=high));
        let bounds = self.subject.engine().trim(model.id, start).expect("the disk works");
        model.trim(start);
        assert_eq!(bounds.start, model.start, "seed {}: trimmed to {start}", self.seed);
    }

    fn clean(&mut self, log: usize) {
        let model = &mut self.logs[log];
        let below = Offset(self.rng.random_range(model.start.0..=model.end.0));
        let engine = self.subject.engine();
        let report = engine.clean(model.id, below, self.now).expect("the disk works");
        let before = model.clone();
        model.start = report.start;
        let times: BTreeMap<_, _> =
            before.batches.iter().map(|(batch, at)| (batch.base_offset(), *at)).collect();
        model.batches = read_all(engine.as_ref(), model)
            .into_iter()
            .map(|batch| {
                let at = times.get(&batch.base_offset()).copied().unwrap_or(self.now);
                (batch, at)
            })
            .collect();
        let context = format!("seed {}: clean below {below} gave {report:?}", self.seed);
        check_cleaned(&before, model, &report, (below, self.now), &context);
    }

    fn configure(&mut self, log: usize) {
        let model = &mut self.logs[log];
        model.settings = sample::random_settings(&mut self.rng);
        let settings = model.settings.clone();
        self.subject.engine().configure(model.id, settings).expect("the log is open");
    }

    fn recreate(&mut self, log: usize) {
        let old = self.logs.remove(log);
        let engine = self.subject.engine();
        engine.delete(&[old.name]).expect("the disk works");
        assert!(!engine.existing().expect("the manifest is sound").contains(&old.name));
        assert!(engine.bounds(old.id).is_err(), "seed {}: {} lives on", self.seed, old.id);
        self.create();
    }

    fn settle(&mut self) {
        self.subject.settle();
        for log in &self.logs {
            let bounds = self.subject.engine().bounds(log.id).expect("the log is open");
            assert_eq!(bounds.durable, log.end, "seed {}: {} is settled", self.seed, log.id);
        }
    }

    fn restart(&mut self) {
        self.settle();
        if !self.subject.restart() {
            return;
        }
        let engine = self.subject.engine();
        let names = engine.existing().expect("the manifest is sound");
        assert_eq!(names, self.logs.iter().map(|log| log.name).collect());
        let all: Vec<_> = self.logs.iter().map(|log| (log.name, log.settings.clone())).collect();
        let opened = engine.open(&all).expect("logs that exist can be opened");
        for (model, (id, recovered)) in self.logs.iter_mut().zip(opened) {
            let context = format!("seed {}: {} after a restart", self.seed, model.id);
            assert_eq!(id, model.id, "{context}");
            assert_eq!(recovered.bounds.durable, model.end, "{context}");
            // Of an epoch that has no batch left, an engine may know or not.
            let held = |epoch: Epoch| {
                model.batches.iter().any(|(batch, _)| batch.header.leader_epoch == epoch)
            };
            let live = |mut epochs: EpochHistory| -> Vec<_> {
                epochs.trim(model.start);
                epochs.entries().iter().filter(|(epoch, _)| held(*epoch)).copied().collect()
            };
            assert_eq!(live(recovered.epochs), live(model.epochs.clone()), "{context}");
            let live = |table: &ProducerTable| -> Vec<_> {
                table.last_batches().filter(|(_, base)| model.start <= *base).collect()
            };
            assert_eq!(live(&recovered.producers), live(&model.producers()), "{context}");
            let found = read_all(engine.as_ref(), model);
            let expected: Vec<_> = model.batches.iter().map(|(batch, _)| batch.clone()).collect();
            assert_eq!(found, expected, "{context}");
            self.subject.reports().forget(id);
        }
        for log in 0..self.logs.len() {
            self.check_bounds(log);
        }
    }

    fn check_bounds(&self, log: usize) {
        let Some(model) = self.logs.get(log) else { return };
        let bounds = self.subject.engine().bounds(model.id).expect("the log is open");
        let context = format!("seed {}: {}", self.seed, model.id);
        assert_eq!((bounds.start, bounds.end), (model.start, model.end), "{context}");
        assert!(bounds.durable <= bounds.end, "{context}: {bounds:?}");
        assert!(self.subject.reports().failures().is_empty(), "{context}");
    }
}

/// All batches of a log, read piece by piece.
fn read_all(engine: &dyn Engine, model: &ModelLog) -> Vec<Batch> {
    let mut all: Vec<Batch> = Vec::new();
    let mut from = model.start;
    while from < model.end {
        let batches = engine
            .read(model.id, from, model.end, ByteSize::kib(3))
            .expect("the offset is in range and nothing is damaged");
        let Some(last) = batches.last() else { break };
        from = last.next_offset();
        all.extend(batches);
    }
    all
}

fn check_cleaned(
    before: &ModelLog,
    after: &ModelLog,
    report: &CleanReport,
    (below, now): (Offset, Timestamp),
    context: &str,
) {
    assert!(before.start <= report.start, "{context}");
    assert!(report.start <= below.max(before.start), "{context}: cleaned above the limit");
    let by_retention: Vec<_> =
        before.batches.iter().filter(|(batch, _)| batch.next_offset() <= report.start).collect();
    check_retention(before, &by_retention, now, context);
    let settings = &before.settings;
    let old: BTreeMap<Offset, Record> =
        before.records().map(|record| (record.offset, record)).collect();
    let new: BTreeMap<Offset, Record> =
        after.records().map(|record| (record.offset, record)).collect();
    for (offset, record) in &new {
        assert_eq!(old.get(offset), Some(record), "{context}: a record was made up or altered");
    }
    let kept = |record: &Record| {
        let superseded = || {
            record.key.is_none()
                || record.value.is_none()
                || old.range(record.offset.next()..).any(|(_, later)| later.key == record.key)
        };
        let compactable = settings.cleanup.compact && record.offset < below;
        new.contains_key(&record.offset) || (compactable && superseded())
    };
    for record in old.values().filter(|record| report.start <= record.offset) {
        assert!(kept(record), "{context}: the record at {} is lost", record.offset);
    }
    let above = |model: &ModelLog| -> Vec<_> {
        let batches = model.batches.iter().map(|(batch, _)| batch);
        batches.filter(|batch| below < batch.next_offset()).cloned().collect()
    };
    assert_eq!(above(before), above(after), "{context}: batches above the limit changed");
}

/// What retention removed was too old, or more than the log may hold.
fn check_retention(
    before: &ModelLog,
    removed: &[&(Batch, Timestamp)],
    now: Timestamp,
    context: &str,
) {
    if removed.is_empty() {
        return;
    }
    let settings = &before.settings;
    assert!(settings.cleanup.delete, "{context}: retention is off");
    let removed_bytes: u64 = removed.iter().map(|(batch, _)| ByteSize::of_len(batch.len()).0).sum();
    // A segment whose first part was trimmed still counts as a whole.
    let left_max = before.bytes() - removed_bytes + settings.segment_bytes.0;
    let is_over = settings.retention_bytes.is_some_and(|keep| keep.0 <= left_max);
    let all_old = settings.retention_age.is_some_and(|age| {
        removed.iter().all(|(batch, at)| batch.max_timestamp().max(*at).plus(age) <= now)
    });
    assert!(is_over || all_old, "{context}: retention took {} batches early", removed.len());
}
