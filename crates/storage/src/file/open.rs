//! Opening logs, and beginning the lane that they ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use rafka_core::TopicPartition;
use rafka_core::producer_state::ProducerTable;
use rafka_core::rng::{self, RngExt as _};

use super::log::{Log, State};
use super::{Inner, Maintenance};
use crate::journal::{self, DataDir, Recovery, Sequence};
use crate::manifest::{self, Change};
use crate::{Durability, Error, LogId, LogSettings, Recovered};

impl Inner {
    pub(super) fn open_logs(
        &self,
        logs: &[(TopicPartition, LogSettings)],
    ) -> Result<Vec<(LogId, Recovered)>, Error> {
        for (_, settings) in logs {
            self.begin_lane(settings.durability)?;
        }
        let names: Vec<TopicPartition> = logs.iter().map(|(name, _)| *name).collect();
        let found = self.find_or_create(&names)?;
        for (log, (_, settings)) in found.iter().zip(logs) {
            self.apply_settings(log, settings)?;
        }
        // Nothing moves from memory to the manifest meanwhile.
        let _maintenance = self.maintenance.lock();
        let ids: Vec<LogId> = found.iter().map(|log| log.id).collect();
        let producers = self.manifest.producers(&ids)?;
        let recovered = |(log, producers): (&Arc<Log>, ProducerTable)| {
            (log.id, log.state.lock().recovered(producers))
        };
        Ok(found.iter().zip(producers).map(recovered).collect())
    }

    /// The logs of these names. Those that do not exist are created in one durable step.
    fn find_or_create(&self, names: &[TopicPartition]) -> Result<Vec<Arc<Log>>, Error> {
        let mut maintenance = self.maintenance.lock();
        let missing: BTreeSet<TopicPartition> = {
            let known = self.shared.logs.read();
            names.iter().filter(|name| !known.by_name.contains_key(name)).copied().collect()
        };
        if !missing.is_empty() {
            self.create(&mut maintenance, &missing)?;
        }
        let known = self.shared.logs.read();
        let find = |name| Arc::clone(known.by_name.get(name).expect("found or just created"));
        Ok(names.iter().map(find).collect())
    }

    fn create(
        &self,
        maintenance: &mut Maintenance,
        names: &BTreeSet<TopicPartition>,
    ) -> Result<(), Error> {
        self.shared.check_alive()?;
        let mut changes = self.clear_way(maintenance, names)?;
        let ids = (maintenance.log_next..).map(LogId);
        let created: Vec<(LogId, TopicPartition)> = ids.zip(names.iter().copied()).collect();
        changes.extend(created.iter().map(|(id, name)| Change::Create(*id, *name)));
        self.commit(&changes)?;
        let settings = Arc::default();
        let mut known = self.shared.logs.write();
        for (id, name) in created {
            maintenance.log_next = id.0 + 1;
            let log =
                Arc::new(Log { id, name, state: Mutex::new(State::new(Arc::clone(&settings))) });
            known.by_id.insert(id, Arc::clone(&log));
            known.by_name.insert(name, log);
        }
        Ok(())
    }

    /// Removes what deleted logs of these names have left: their directory is to be used again.
    fn clear_way(
        &self,
        maintenance: &mut Maintenance,
        names: &BTreeSet<TopicPartition>,
    ) -> Result<Vec<Change>, Error> {
        let in_the_way = |(_, name): &mut (LogId, TopicPartition)| names.contains(name);
        let mut changes = Vec::new();
        for (log, name) in maintenance.garbage.extract_if(.., in_the_way) {
            self.store.remove_log(&name)?;
            changes.push(Change::Removed(log));
        }
        Ok(changes)
    }

    /// Begins a lane that no log has used since the start.
    pub(super) fn begin_lane(&self, lane: Durability) -> Result<(), Error> {
        if self.journals.of(lane).get().is_some() {
            return Ok(());
        }
        let mut maintenance = self.maintenance.lock();
        if self.journals.of(lane).get().is_some() {
            return Ok(());
        }
        self.shared.check_alive()?;
        // It was empty at the start, or it would have begun then.
        let settings = self.settings.journal.clone();
        let disk = Arc::clone(&self.disk);
        let dir = self.data_dir();
        let reach = maintenance.lanes.of(lane).reach(Sequence(0), LogId(maintenance.log_next));
        let recovery = Recovery::scan(disk, dir, (lane, reach), settings, &mut |_, _| Ok(()))?;
        self.start_journal(&mut maintenance, lane, recovery)
    }

    pub(super) fn data_dir(&self) -> DataDir<'_> {
        DataDir { path: &self.dir, node: self.node }
    }

    /// Starts the journal of a lane behind what was found in it. It is there before the manifest
    /// says that it must be.
    pub(super) fn start_journal(
        &self,
        maintenance: &mut Maintenance,
        lane: Durability,
        recovery: Recovery,
    ) -> Result<(), Error> {
        let covered = {
            let known = self.shared.logs.read();
            let covered = known.by_id.values().map(|log| log.state.lock().covered.of(lane));
            Sequence(covered.max().unwrap_or(0))
        };
        let first = recovery.end().max(covered);
        let surroundings = journal::Surroundings {
            clock: Arc::clone(&self.shared.clock),
            rng: rng::from_seed(maintenance.rng.random()),
            driver: self.driver,
        };
        let mut known = *maintenance.lanes.of(lane);
        // Of a lane without records the next one is the first, and a checkpoint may be far ahead.
        if recovery.begin().is_none() && known.released.max(Sequence::FIRST) < first {
            known.released = first;
            self.note_lane(maintenance, lane, known)?;
        }
        self.shared.lanes.of(lane).note_reported(first);
        let sink = Arc::clone(&self.shared) as Arc<dyn journal::Sink>;
        let journal = recovery.start(first, sink, surroundings)?;
        let known = manifest::Lane { in_use: true, file: journal.file(), ..known };
        self.note_lane(maintenance, lane, known)?;
        let is_fresh = self.journals.of(lane).set(journal).is_ok();
        assert!(is_fresh, "a lane begins once, with the maintenance lock held");
        Ok(())
    }

    /// Makes durable what a lane must hold from now on.
    pub(super) fn note_lane(
        &self,
        maintenance: &mut Maintenance,
        lane: Durability,
        known: manifest::Lane,
    ) -> Result<(), Error> {
        self.commit(&[Change::Lane(lane, known)])?;
        *maintenance.lanes.of_mut(lane) = known;
        Ok(())
    }
}
