//! Drives an engine through random operations until it dies, and starts it again.

use rafka_core::batch::Outcome;
use rafka_core::rng::{self, Rng, RngExt as _};
use rafka_core::{Batch, ByteSize, Epoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use super::model::{Death, Expected, Fault, ensure};
use crate::contract::sample;
use crate::file::tests::{Bench, small_settings};
use crate::journal::{Mutant, WriteJob};
use crate::per_lane::LANES;
use crate::{AppendError, Bounds, Cleanup, Durability, Engine as _, LogSettings};

const NOW: Timestamp = Timestamp(1_000_000_000);
const LOGS_MAX: usize = 5;
const TRANSACTIONAL: ProducerId = ProducerId(1);

/// One disk, and what was done to it.
pub(super) struct Lives {
    bench: Bench,
    rng: Rng,
    logs: Vec<Expected>,
    /// Writes of the journals that are under way.
    in_flight: Vec<(Durability, WriteJob)>,
    epoch: Epoch,
    names: u128,
    death: Death,
    /// What was done, for whoever looks for the cause of a fault.
    pub(super) diary: Vec<String>,
}

impl Lives {
    pub(super) fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut settings = small_settings();
        settings.journal.mutant = mutant;
        Self {
            bench: Bench::new(seed, settings),
            rng: rng::from_seed(seed ^ 0xC0FFEE),
            logs: Vec::new(),
            in_flight: Vec::new(),
            epoch: Epoch(0),
            names: 0,
            death: Death::Kill,
            diary: Vec::new(),
        }
    }

    fn note(&mut self, what: impl Into<String>) {
        self.diary.push(what.into());
    }

    /// Does random things, until the process dies of itself or has lived long enough.
    pub(super) fn live(&mut self) {
        if self.rng.random_ratio(3, 4) {
            let changes = self.rng.random_range(0..150);
            self.note(format!("life: dies after {changes} changes"));
            self.bench.disk.die_after(changes);
        }
        self.epoch = self.epoch.next();
        for _ in 0..self.rng.random_range(5..120) {
            self.step();
            self.hear();
            if self.bench.disk.is_dead() {
                break;
            }
        }
    }

    fn step(&mut self) {
        if self.logs.is_empty() {
            return self.create();
        }
        let log = self.rng.random_range(0..self.logs.len());
        match self.rng.random_range(0..100) {
            0..45 => self.append(log),
            45..70 => self.write_journals(),
            70..78 => self.bench.engine.tick(),
            78..84 => self.flush(),
            84..88 => self.truncate(log),
            88..91 => self.trim(log),
            91..94 => self.clean(log),
            94..96 => self.upkeep(),
            96 => self.switch(log),
            97 => self.delete(log),
            _ => self.create(),
        }
    }

    /// Takes in what was reported durable.
    fn hear(&mut self) {
        for log in &mut self.logs {
            if let Some(end) = self.bench.reports.durable(log.id) {
                log.note_acked(end);
            }
        }
    }

    fn create(&mut self) {
        if LOGS_MAX <= self.logs.len() {
            return;
        }
        self.names += 1;
        let name = sample::name(self.names, 0);
        let settings = self.settings();
        match self.bench.engine.open(&[(name, settings.clone())]) {
            Ok(opened) => {
                self.note(format!("create {}: {:?}", opened[0].0, settings.durability));
                self.logs.push(Expected::new(name, opened[0].0, settings));
            }
            Err(_) => {
                let mut log = Expected::new(name, crate::LogId(u64::MAX), settings);
                log.may_be_gone = true;
                self.logs.push(log);
            }
        }
    }

    fn settings(&mut self) -> LogSettings {
        let compact = self.rng.random_ratio(1, 3);
        let os = self.rng.random_ratio(1, 3);
        LogSettings {
            durability: if os { Durability::Os } else { Durability::Fsync },
            segment_bytes: ByteSize(self.rng.random_range(500..6000)),
            cleanup: Cleanup { delete: !compact, compact },
            retention_bytes: Some(ByteSize(self.rng.random_range(1000..20_000))),
            ..sample::small_segments()
        }
    }

    fn append(&mut self, log: usize) {
        let log = &mut self.logs[log];
        let mut base = log.end();
        let mut batches = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let id = ProducerId(self.rng.random_range(-1..2));
            let producer = id
                .is_some()
                .then(|| (id, ProducerEpoch(0), log.sequences.get(&id).copied().unwrap_or(0)));
            let mut batch = batch(&mut self.rng, base, self.epoch, producer);
            if let Some((id, _, sequence)) = producer {
                let next = sequence + batch.header.last_offset_delta + 1;
                log.sequences.insert(id, next);
            }
            // Compaction of what is undecided would be the caller's mistake.
            if id == TRANSACTIONAL && !log.settings.cleanup.compact {
                batch.header.attributes.set_transactional();
                batch = Batch::seal(batch.header, batch.records).expect("no codec is used");
            }
            base = batch.next_offset();
            batches.push(batch);
            if id == TRANSACTIONAL && self.rng.random_ratio(1, 2) {
                let abort = self.rng.random_bool(0.5);
                let outcome = if abort { Outcome::Abort } else { Outcome::Commit };
                batches.push(sample::marker(base, self.epoch, id, outcome));
                base = base.next();
            }
        }
        self.diary.push(format!("append to {}: {} to {base}", log.id, log.end()));
        match self.bench.engine.append(log.id, &batches, NOW) {
            Ok(_) => log.batches.extend(batches),
            // A dead journal may have taken a part of it.
            Err(AppendError::Failed(_)) => log.batches.extend(batches),
            Err(AppendError::DiskFull { .. }) => log.recount_sequences(),
        }
    }

    /// Lets some writes begin and some end, in any order.
    fn write_journals(&mut self) {
        for lane in LANES {
            let Some(journal) = self.bench.engine.journal(lane) else { continue };
            for _ in 0..self.rng.random_range(0..4) {
                self.in_flight.extend(journal.take_write().map(|job| (lane, job)));
            }
        }
        for _ in 0..self.rng.random_range(0..4) {
            if !self.in_flight.is_empty() {
                let next = self.rng.random_range(0..self.in_flight.len());
                self.end_write(next);
            }
        }
    }

    fn end_write(&mut self, index: usize) {
        let (lane, job) = self.in_flight.swap_remove(index);
        let (first, end) = job.sequences();
        self.diary.push(format!("write {lane:?} {first} to {end}"));
        let journal = self.bench.engine.journal(lane).expect("it gave out the write");
        journal.run_write(job);
    }

    /// Lets all writes end: what blocks waits for them.
    fn end_writes(&mut self) {
        while !self.in_flight.is_empty() {
            let next = self.rng.random_range(0..self.in_flight.len());
            self.end_write(next);
        }
        self.hear();
    }

    fn upkeep(&mut self) {
        for lane in LANES {
            let Some(journal) = self.bench.engine.journal(lane) else { continue };
            for _ in 0..self.rng.random_range(0..4) {
                journal.upkeep();
            }
        }
    }

    fn flush(&mut self) {
        self.hear();
        let flushed = self.bench.engine.flush();
        self.note(format!("flush: {flushed:?}"));
        if flushed.is_ok() {
            self.logs.iter_mut().filter(|log| !log.may_be_gone).for_each(Expected::note_flushed);
        }
    }

    fn truncate(&mut self, log: usize) {
        self.end_writes();
        let log = &mut self.logs[log];
        let (low, end) = (log.cleaned.max(*log.start.start()).0, log.end().0);
        let to = Offset(self.rng.random_range((end - 60).max(low)..=end));
        log.begin_truncation(to);
        let truncated = self.bench.engine.truncate(log.id, to);
        self.diary.push(format!("truncate {} to {to}: {truncated:?}", log.id));
        if truncated.is_ok() {
            log.end_truncation(to);
        }
        self.bench.reports.forget(log.id);
    }

    fn trim(&mut self, log: usize) {
        let log = &mut self.logs[log];
        let (start, end) = (*log.start.start(), log.acked);
        let to = Offset(self.rng.random_range(start.0..=end.0.max(start.0)));
        let trimmed = self.bench.engine.trim(log.id, to);
        self.diary.push(format!("trim {} to {to}: {trimmed:?}", log.id));
        if trimmed.is_ok() {
            log.trim(to);
        } else {
            log.start = start..=to;
        }
    }

    fn clean(&mut self, log: usize) {
        let log = &mut self.logs[log];
        log.cleaned = log.acked;
        let cleaned = self.bench.engine.clean(log.id, log.acked, NOW);
        self.diary.push(format!("clean {} below {}: {cleaned:?}", log.id, log.acked));
        match cleaned {
            Ok(report) => log.trim(report.start),
            Err(_) => log.start = *log.start.start()..=log.acked.max(*log.start.start()),
        }
    }

    /// Changes what acked means for a log.
    fn switch(&mut self, log: usize) {
        // With everything durable, the next flush ends the change. More than one step, since the log
        // may be in the middle of one already.
        self.end_writes();
        for _ in 0..3 {
            self.bench.engine.step();
        }
        self.hear();
        let log = &mut self.logs[log];
        log.settings.durability = match log.settings.durability {
            Durability::Fsync => Durability::Os,
            Durability::Os => Durability::Fsync,
        };
        // Until then it is as weak as the weaker one.
        log.is_solid_lane = false;
        self.diary.push(format!("switch {} to {:?}", log.id, log.settings.durability));
        self.bench.engine.configure(log.id, log.settings.clone()).ok();
    }

    fn delete(&mut self, log: usize) {
        let name = self.logs[log].name;
        let deleted = self.bench.engine.delete(&[name]);
        self.note(format!("delete {}: {deleted:?}", self.logs[log].id));
        if deleted.is_ok() {
            self.logs.remove(log);
        } else {
            self.logs[log].may_be_gone = true;
        }
    }

    pub(super) fn die(&mut self) {
        if !self.bench.disk.is_dead() {
            // Writes that were under way end or do not, in no order.
            while !self.in_flight.is_empty() && self.rng.random_bool(0.5) {
                let next = self.rng.random_range(0..self.in_flight.len());
                self.end_write(next);
            }
        }
        self.in_flight.clear();
        self.hear();
        self.death = self.end_process(Death::Kill);
    }

    /// Kills the process or cuts the power. Says what is the worst that happened by now.
    fn end_process(&mut self, worst: Death) -> Death {
        if self.rng.random_bool(0.5) {
            self.note("power cut");
            self.bench.disk.crash();
            Death::PowerCut
        } else {
            self.note("kill");
            self.bench.disk.kill();
            worst
        }
    }

    /// Starts again, perhaps after further deaths on the way, and looks at what is there.
    pub(super) fn recover(&mut self) -> Result<(), Fault> {
        for _ in 0..self.rng.random_range(0..3) {
            let changes = self.rng.random_range(0..40);
            self.bench.disk.die_after(changes);
            let started = self.bench.reopen();
            self.note(format!("start, dies after {changes} changes: {started:?}"));
            self.death = self.end_process(self.death);
        }
        let started = self.bench.reopen().map_err(|error| {
            let message = crate::engine::full_message(&error);
            format!("cannot start: {message}")
        })?;
        self.note(format!("start: {started:?}"));
        let engine = &self.bench.engine;
        let existing = engine.existing().expect("read at the start");
        let names: Vec<_> = self.logs.iter().map(|log| log.name).collect();
        for name in &existing {
            ensure!(names.contains(name), "a deleted log came back");
        }
        let is_there = |log: &Expected| existing.contains(&log.name);
        for log in &self.logs {
            ensure!(log.may_be_gone || is_there(log), "log {} is gone", log.id);
        }
        self.logs.retain(is_there);
        for log in &mut self.logs {
            let opened = engine.open(&[(log.name, log.settings.clone())]);
            let (id, recovered) = opened.map_err(|error| error.to_string())?.remove(0);
            if log.may_be_gone {
                log.id = id;
            }
            ensure!(log.id == id, "log {} has become {id}", log.id);
            let found = read_all(engine, id)?;
            let Bounds { start, end, .. } = recovered.bounds;
            let aborted = engine.aborted(id, start, end).map_err(|error| error.to_string())?;
            log.check(&found, (&recovered, &aborted), self.death)?;
        }
        Ok(())
    }
}

fn read_all(engine: &crate::FileEngine, log: crate::LogId) -> Result<Vec<Batch>, Fault> {
    let bounds = engine.bounds(log).map_err(|error| error.to_string())?;
    let (mut from, mut all) = (bounds.start, Vec::<Batch>::new());
    while from < bounds.end {
        let read = engine.read(log, from, bounds.end, ByteSize::kib(8));
        let batches = read.map_err(|error| format!("log {log} at {from}: {error}"))?;
        let Some(last) = batches.last() else { break };
        from = last.next_offset();
        all.extend(batches);
    }
    Ok(all)
}

/// A batch whose records all have one of few keys, and a value of their own.
fn batch(rng: &mut Rng, base: Offset, epoch: Epoch, producer: Option<sample::Producer>) -> Batch {
    let values: Vec<([u8; 1], Vec<u8>)> = (0..rng.random_range(1..6))
        .map(|_| ([rng.random_range(0..12)], vec![rng.random(); rng.random_range(8..400)]))
        .collect();
    let records: Vec<sample::Sample<'_>> = values
        .iter()
        .map(|(key, value)| (NOW, Some(key.as_slice()), Some(value.as_slice())))
        .collect();
    sample::batch_by(base, epoch, producer, &records)
}
