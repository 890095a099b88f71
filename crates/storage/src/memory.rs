//! The engine that keeps everything in memory: for tests, demos, and topics nobody would miss.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rafka_core::batch::Outcome;
use rafka_core::producer_state::{Ended, ProducerTable};
use rafka_core::rng::RngExt as _;
use rafka_core::{Batch, ByteSize, EpochHistory, Offset, Rng, Timestamp, TopicPartition};

use crate::tail::{self, Entry, Tail, end_after, weight};
use crate::{
    AppendError, Appended, Bounds, CleanReport, Directory, Engine, Error, LogId, LogSettings,
    ReadError, Recovered, TimedOffset,
};

mod clean;

/// See the module. Everything appended is at once as durable as it will ever be.
///
/// Beyond its bound appends answer that the disk is full; retention and deletion make room.
#[derive(Debug)]
pub struct MemoryEngine {
    bound: ByteSize,
    used: AtomicU64,
    logs: RwLock<Logs>,
    /// Seeds the hashes of keys in compaction.
    seed: u128,
}

#[derive(Debug, Default)]
struct Logs {
    by_id: BTreeMap<LogId, Arc<Mutex<Log>>>,
    by_name: BTreeMap<TopicPartition, LogId>,
    created: u64,
}

#[derive(Debug, Default)]
struct Log {
    settings: LogSettings,
    start: Offset,
    end: Offset,
    /// Each batch with the time when a compaction first covered it.
    tail: Tail<Option<Timestamp>>,
    epochs: EpochHistory,
    /// Everything below this was compacted before.
    compacted: Offset,
    deleted: bool,
}

impl MemoryEngine {
    /// An engine that holds at most `bound` bytes, counted as batches with what describes them.
    #[must_use]
    pub fn new(bound: ByteSize, rng: &mut Rng) -> Self {
        Self { bound, used: AtomicU64::new(0), logs: RwLock::default(), seed: rng.random() }
    }

    /// The bytes that are held.
    #[must_use]
    pub fn used(&self) -> ByteSize {
        ByteSize(self.used.load(Ordering::Relaxed))
    }

    fn log(&self, log: LogId) -> Result<Arc<Mutex<Log>>, Error> {
        self.logs.read().by_id.get(&log).cloned().ok_or(Error::UnknownLog(log))
    }

    /// Does something to a log, and counts what it holds afterwards.
    fn change<T>(&self, log: LogId, change: impl FnOnce(&mut Log) -> T) -> Result<T, Error> {
        let (id, log) = (log, self.log(log)?);
        let mut log = log.lock();
        log.check_open(id)?;
        let before = log.tail.weight();
        let outcome = change(&mut log);
        let after = log.tail.weight();
        self.used.fetch_add(after, Ordering::Relaxed);
        self.used.fetch_sub(before, Ordering::Relaxed);
        Ok(outcome)
    }

    /// Takes `bytes` of the bound, if that many are left.
    fn reserve(&self, bytes: u64) -> Result<(), AppendError> {
        let taken = self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= self.bound.0)
        });
        taken.map(drop).map_err(|used| AppendError::DiskFull {
            free: ByteSize(self.bound.0.saturating_sub(used)),
            reserve: ByteSize(0),
        })
    }
}

impl Log {
    fn bounds(&self) -> Bounds {
        Bounds { start: self.start, end: self.end, durable: self.end }
    }

    /// That the log was not deleted since the caller found it.
    fn check_open(&self, log: LogId) -> Result<(), Error> {
        if self.deleted { Err(Error::UnknownLog(log)) } else { Ok(()) }
    }

    fn check_range(&self, from: Offset) -> Result<(), ReadError> {
        if self.start <= from && from <= self.end {
            return Ok(());
        }
        Err(ReadError::OutOfRange { from, start: self.start, end: self.end })
    }

    fn truncate(&mut self, end: Offset) {
        if self.end <= end {
            return;
        }
        self.end = self.tail.truncate(end).unwrap_or(self.start).max(self.start);
        self.compacted = self.compacted.min(self.end);
        self.epochs.truncate(self.end);
    }

    /// What the batches say of those who sent them. Nobody asks but who opens the log.
    fn producers(&self) -> ProducerTable {
        let mut producers = ProducerTable::default();
        for entry in self.tail.iter() {
            producers.note(&entry.batch, entry.appended_at);
        }
        producers
    }

    /// What the markers say of aborted transactions.
    fn aborted(&self) -> Vec<Ended> {
        let mut producers = ProducerTable::default();
        let ended =
            self.tail.iter().filter_map(|entry| producers.note(&entry.batch, entry.appended_at));
        ended.filter(|ended| ended.outcome == Outcome::Abort).collect()
    }

    fn trim(&mut self, start: Offset) {
        self.start = self.start.max(start.min(self.end));
        while self.tail.first().is_some_and(|first| first.batch.next_offset() <= self.start) {
            self.tail.pop_first();
        }
        self.epochs.trim(self.start);
    }
}

impl Engine for MemoryEngine {
    fn open(
        &self,
        logs: &[(TopicPartition, LogSettings)],
    ) -> Result<Vec<(LogId, Recovered)>, Error> {
        let mut known = self.logs.write();
        let mut opened = Vec::with_capacity(logs.len());
        for (name, settings) in logs {
            let id = known.open(name);
            let mut log = known.by_id[&id].lock();
            log.settings = settings.clone();
            let recovered = Recovered {
                bounds: log.bounds(),
                epochs: log.epochs.clone(),
                producers: log.producers(),
            };
            drop(log);
            opened.push((id, recovered));
        }
        Ok(opened)
    }

    fn existing(&self) -> Result<BTreeSet<TopicPartition>, Error> {
        Ok(self.logs.read().by_name.keys().copied().collect())
    }

    fn delete(&self, logs: &[TopicPartition]) -> Result<(), Error> {
        let mut known = self.logs.write();
        for name in logs {
            let Some(id) = known.by_name.remove(name) else { continue };
            let log = known.by_id.remove(&id).expect("every name has its log");
            let mut log = log.lock();
            log.deleted = true;
            self.used.fetch_sub(log.tail.weight(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn configure(&self, log: LogId, settings: LogSettings) -> Result<(), Error> {
        self.change(log, |log| log.settings = settings)
    }

    fn append(
        &self,
        log: LogId,
        batches: &[Batch],
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        let (id, log) = (log, self.log(log)?);
        let mut log = log.lock();
        log.check_open(id)?;
        let end = end_after(log.end, batches);
        self.reserve(batches.iter().map(weight).sum())?;
        for batch in batches {
            log.epochs.note(batch.header.leader_epoch, batch.base_offset());
            // Copied, so that it does not keep the frame alive that it came in.
            log.tail.push(Entry { batch: batch.detached(), appended_at: now, note: None });
        }
        log.end = end;
        Ok(Appended::Durable)
    }

    /// Always: memory that is full makes [`Engine::append`] fail, since waiting would not help.
    fn has_room(&self) -> bool {
        true
    }

    fn read_hot(
        &self,
        log: LogId,
        from: Offset,
        below: Offset,
        limit: ByteSize,
    ) -> Option<Result<Vec<Batch>, ReadError>> {
        Some(self.read(log, from, below, limit))
    }

    fn read(
        &self,
        log: LogId,
        from: Offset,
        below: Offset,
        limit: ByteSize,
    ) -> Result<Vec<Batch>, ReadError> {
        let log = self.log(log)?;
        let log = log.lock();
        log.check_range(from)?;
        Ok(log.tail.read(from, below, limit))
    }

    fn find_by_time(
        &self,
        log: LogId,
        at: Timestamp,
        below: Offset,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let log = self.log(log)?;
        let (start, batches) = {
            let log = log.lock();
            (log.start, log.tail.not_older(at, log.start, below))
        };
        Ok(tail::find(&batches, at, start, below))
    }

    fn bounds(&self, log: LogId) -> Result<Bounds, Error> {
        Ok(self.log(log)?.lock().bounds())
    }

    fn size(&self, log: LogId) -> Result<ByteSize, Error> {
        Ok(self.log(log)?.lock().tail.bytes())
    }

    fn directory(&self) -> Result<Option<Directory>, Error> {
        Ok(None)
    }

    fn truncate(&self, log: LogId, end: Offset) -> Result<Bounds, Error> {
        self.change(log, |log| {
            log.truncate(end);
            log.bounds()
        })
    }

    fn trim(&self, log: LogId, start: Offset) -> Result<Bounds, Error> {
        self.change(log, |log| {
            log.trim(start);
            log.bounds()
        })
    }

    fn clean(&self, log: LogId, below: Offset, now: Timestamp) -> Result<CleanReport, Error> {
        self.change(log, |log| log.clean(below, now, self.seed))
    }

    /// It remembers none beside the batches themselves.
    fn forget_producers(&self, _before: Timestamp) -> Result<(), Error> {
        Ok(())
    }

    fn aborted(&self, log: LogId, from: Offset, below: Offset) -> Result<Vec<Ended>, Error> {
        let (id, log) = (log, self.log(log)?);
        let log = log.lock();
        log.check_open(id)?;
        let within = |ended: &Ended| ended.is_aborted_within(from, below);
        Ok(log.aborted().into_iter().filter(within).collect())
    }

    fn stop(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl Logs {
    fn open(&mut self, name: &TopicPartition) -> LogId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        self.created += 1;
        let id = LogId(self.created);
        self.by_id.insert(id, Arc::default());
        self.by_name.insert(*name, id);
        id
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rafka_core::rng;

    use super::*;
    use crate::contract::{Reports, Subject, sample};

    struct InMemory {
        engine: Arc<MemoryEngine>,
        reports: Reports,
    }

    impl Subject for InMemory {
        fn engine(&self) -> Arc<dyn Engine> {
            Arc::clone(&self.engine) as Arc<dyn Engine>
        }

        fn reports(&self) -> &Reports {
            &self.reports
        }

        fn settle(&mut self) {}

        fn flush(&mut self) {}

        fn restart(&mut self) -> bool {
            false
        }
    }

    fn in_memory(seed: u64) -> InMemory {
        let engine = MemoryEngine::new(ByteSize::mib(16), &mut rng::from_seed(seed));
        InMemory { engine: Arc::new(engine), reports: Reports::default() }
    }

    crate::contract_suite!(in_memory, 30);

    #[test]
    fn a_full_memory_refuses_appends_and_takes_them_again_after_cleaning() {
        let engine = MemoryEngine::new(ByteSize::kib(64), &mut rng::from_seed(0));
        let mut settings = sample::small_segments();
        settings.retention_bytes = Some(ByteSize::kib(8));
        let log = engine.open(&[(sample::name(1, 0), settings)]).expect("memory opens")[0].0;
        let append = |base: i64| {
            engine.append(log, &[sample::batch(Offset(base), &[7; 1000])], Timestamp(1000))
        };
        let refused =
            (0..1000).find(|base| append(*base).is_err()).expect("64 KiB are not endless");
        assert!(matches!(append(refused), Err(AppendError::DiskFull { .. })));
        assert!(engine.used() <= ByteSize::kib(64));
        assert!(engine.read(log, Offset(0), Offset(refused), ByteSize(1)).is_ok());
        engine.clean(log, Offset(refused), Timestamp(1000)).expect("memory cleans");
        assert_eq!(append(refused).expect("there is room again"), Appended::Durable);
        engine.delete(&[sample::name(1, 0)]).expect("memory deletes");
        assert_eq!(engine.used(), ByteSize(0));
    }
}
