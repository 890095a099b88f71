//! The start: lock, manifest, replay, and the journal goes on behind it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use rafka_core::rng::RngExt as _;
use rafka_core::{ByteSize, Timestamp};
use uuid::{Builder, Uuid};

use super::log::{Log, Phase, State};
use super::shared::Shared;
use super::stats::Counters;
use super::{Inner, Maintenance, Started, Surroundings};
use crate::disk::{self, Lock, Open};
use crate::journal::{self, Entry, Reach, Recovery, Sequence};
use crate::manifest::{self, Change, Contents, Manifest};
use crate::per_lane::{LANES, PerLane};
use crate::segment::Store;
use crate::sidecar::Sidecar;
use crate::tail::weight;
use crate::{Durability, Error, LogId, Settings};

/// The directory of the logs, in the data directory.
const LOGS: &str = "logs";

/// While replaying, memory is flushed from this share of the budget (a quarter) on.
const REPLAY_SHARE: u64 = 4;

/// What the replay has brought back.
#[derive(Debug, Default)]
struct Replayed {
    batches: u64,
    bytes: u64,
}

pub(super) fn recover(
    dir: &Path,
    settings: &Settings,
    surroundings: Surroundings,
) -> Result<(Inner, Started), Error> {
    let Surroundings { disk, clock, mut rng, observer, driver } = surroundings;
    let lock = claim(&*disk, dir)?;
    // Before the first segment, whose writer syncs all names from this directory on.
    let logs = dir.join(LOGS);
    check_manifest(&*disk, dir)?;
    disk.create_dir_all(&logs).map_err(disk::failed("create", &logs))?;
    disk.sync_dir(dir).map_err(disk::failed("sync", dir))?;
    let manifest = Manifest::open(Arc::clone(&disk), dir)?;
    let contents = manifest.load()?;
    let (is_new, was_clean) = (contents.node.is_none(), contents.is_clean());
    let node = name_node(&manifest, &contents, rng.random())?;
    let sidecar = Sidecar::new(settings.sidecar_budget());
    let shared = Arc::new(Shared::new(clock, observer, sidecar, settings.disk_reserve_bytes));
    let garbage = contents.deleted.clone();
    let maintenance =
        Maintenance { log_next: contents.log_next, garbage, rng, lanes: contents.lanes };
    let reach =
        PerLane { fsync: contents.reach(Durability::Fsync), os: contents.reach(Durability::Os) };
    restore(&shared, contents);
    let handles_max = usize::try_from(settings.open_files_max).expect("validated");
    let inner = Inner {
        store: Store::new(Arc::clone(&disk), dir, handles_max),
        shared,
        disk,
        dir: dir.to_owned(),
        node,
        settings: settings.clone(),
        driver,
        journals: Default::default(),
        manifest,
        maintenance: Mutex::new(maintenance),
        cleaning: Mutex::new(()),
        distinct_settings: Mutex::default(),
        counters: Counters::default(),
        is_stopped: AtomicBool::new(false),
        lock: Mutex::new(Some(lock)),
    };
    inner.look_at_space();
    let replayed = inner.replay(&reach)?;
    let logs = inner.shared.logs.read().by_id.len();
    let started = Started {
        node,
        is_new,
        was_clean,
        logs,
        replayed_batches: replayed.batches,
        replayed_bytes: ByteSize(replayed.bytes),
    };
    Ok((inner, started))
}

/// Makes the directory ours.
pub(super) fn claim(disk: &dyn disk::Disk, dir: &Path) -> Result<Lock, Error> {
    disk.create_dir_all(dir).map_err(disk::failed("create", dir))?;
    // Its own name, if it is new. The root has none.
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        disk.sync_dir(parent).map_err(disk::failed("sync", parent))?;
    }
    let path = dir.join("lock");
    disk.lock(&path).map_err(|cause| match cause.kind() {
        io::ErrorKind::WouldBlock => Error::Locked(dir.to_owned()),
        _ => disk::failed("lock", &path)(cause),
    })
}

/// Refuses a directory that has lost its manifest: a new one would make nobody's what is there.
pub(super) fn check_manifest(disk: &dyn disk::Disk, dir: &Path) -> Result<(), Error> {
    let path = dir.join(manifest::FILE_NAME);
    match disk.open(&path, Open::READ) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // Whatever else is wrong with it shows when it is used.
        Ok(_) | Err(_) => return Ok(()),
    }
    // A volume that is mounted there may bring names of its own, `lost+found` say.
    let is_topic = |name: &String| Uuid::parse_str(name).is_ok();
    let holds_logs = disk::names_in(disk, &dir.join(LOGS))?.iter().any(is_topic);
    if holds_logs || journal::exists(disk, dir)? {
        return Err(Error::Missing { path, why: "the directory holds logs or a journal" });
    }
    Ok(())
}

/// The identity of the directory, which is made at its first start.
fn name_node(manifest: &Manifest, contents: &Contents, random: u128) -> Result<Uuid, Error> {
    if let Some(node) = contents.node {
        return Ok(node);
    }
    let node = Builder::from_random_bytes(random.to_be_bytes()).into_uuid();
    manifest.commit(&[Change::Node(node)])?;
    Ok(node)
}

/// Makes the logs that the manifest names.
fn restore(shared: &Shared, contents: Contents) {
    let mut logs = shared.logs.write();
    for manifest::Log { id, name, checkpoint } in contents.logs {
        let log = Arc::new(Log { id, name, state: Mutex::new(State::restored(checkpoint)) });
        logs.by_id.insert(id, Arc::clone(&log));
        logs.by_name.insert(name, log);
    }
}

impl Inner {
    /// Replays both lanes, and then starts their journals: a lane that is refused costs the other
    /// nothing.
    fn replay(&self, reach: &PerLane<Reach>) -> Result<Replayed, Error> {
        let mut replayed = Replayed::default();
        let mut found = Vec::new();
        for lane in LANES {
            let reach = *reach.of(lane);
            found.push((lane, self.replay_lane(lane, reach, &mut replayed)?));
        }
        for (lane, recovery) in found {
            // The usual lane is always there; the other one costs files, and few use it.
            if lane == Durability::Fsync || Sequence::FIRST < recovery.end() {
                let mut maintenance = self.maintenance.lock();
                self.start_journal(&mut maintenance, lane, recovery)?;
            }
        }
        for log in self.shared.logs.read().by_id.values() {
            log.state.lock().end_replay();
        }
        match self.release(&mut self.maintenance.lock()) {
            // A node with a full disk should serve what it has.
            Err(error) if !error.is_disk_full() => Err(error),
            Ok(()) | Err(_) => Ok(replayed),
        }
    }

    fn replay_lane(
        &self,
        lane: Durability,
        reach: Reach,
        replayed: &mut Replayed,
    ) -> Result<Recovery, Error> {
        // When they were appended is not known; that they are young keeps them longest.
        let now = self.shared.clock.timestamp();
        let mut replay = |sequence, entry| match entry {
            Entry::Append { log, batch } => {
                let Some(log) = self.wants(log, lane, sequence) else { return Ok(()) };
                replayed.batches += 1;
                replayed.bytes += ByteSize::of_len(batch.len()).0;
                self.replay_append(&log, lane, sequence, (batch, now))
            }
            Entry::Truncate { log, end } => {
                let Some(log) = self.wants(log, lane, sequence) else { return Ok(()) };
                self.replay_truncation(&log, lane, sequence, end)
            }
        };
        let (disk, settings) = (Arc::clone(&self.disk), self.settings.journal.clone());
        let recovery = Recovery::scan(disk, self.data_dir(), (lane, reach), settings, &mut replay)?;
        if recovery.is_bare() && self.maintenance.lock().lanes.of(lane).in_use {
            let path = journal::files_of(&self.dir, lane);
            return Err(Error::Missing { path, why: "the last stop did not write everything out" });
        }
        Ok(recovery)
    }

    /// The log of a record, if the record is not in its checkpoint.
    fn wants(&self, log: LogId, lane: Durability, sequence: Sequence) -> Option<Arc<Log>> {
        // An unknown log was deleted after the record was written.
        let log = self.shared.log(log).ok()?;
        let covered = log.state.lock().covered.of(lane);
        (covered <= sequence.0).then_some(log)
    }

    fn replay_append(
        &self,
        log: &Arc<Log>,
        lane: Durability,
        sequence: Sequence,
        (batch, appended_at): (rafka_core::Batch, Timestamp),
    ) -> Result<(), Error> {
        let mut state = log.state.lock();
        if batch.base_offset() < state.end {
            let (base, end) = (batch.base_offset(), state.end);
            let what = format!("record {sequence} begins at {base}, log {} ends at {end}", log.id);
            return Err(Error::Corrupt { path: self.dir.join("journal"), position: 0, what });
        }
        // As one slice of what was read from the journal it would keep all of that.
        let batch = batch.detached();
        self.shared.sidecar.pin(weight(&batch));
        state.lane = lane;
        self.mark_dirty(log, &mut state);
        state.pin(batch, appended_at, Some(sequence));
        state.durable = state.end;
        drop(state);
        let sidecar = &self.shared.sidecar;
        if sidecar.pinned() < sidecar.budget() / REPLAY_SHARE {
            return Ok(());
        }
        match self.flush_all() {
            // It was in memory before, too, and a node with a full disk should serve what it has.
            Err(error) if error.is_disk_full() => Ok(()),
            flushed => flushed,
        }
    }

    fn replay_truncation(
        &self,
        log: &Arc<Log>,
        lane: Durability,
        sequence: Sequence,
        end: rafka_core::Offset,
    ) -> Result<(), Error> {
        let mut state = log.state.lock();
        state.lane = lane;
        self.mark_dirty(log, &mut state);
        state.truncated_at = Some(sequence);
        if state.end <= end {
            return Ok(());
        }
        let freed = state.truncate_memory(end);
        state.phase = Phase::Truncating(state.end);
        drop(state);
        self.shared.unpin(freed);
        self.cut_segments(log)?;
        log.state.lock().phase = Phase::Open;
        Ok(())
    }
}
