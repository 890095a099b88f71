//! What the journal's tests stand on: a disk, a clock, a sink that remembers, and batches.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Batch, ByteSize, Clock, Offset, Time, Timestamp, rng};
use uuid::Uuid;

use super::super::{
    DataDir, Driver, Entry, Journal, Reach, Recovery, Sequence, Settings, Sink, Surroundings,
};
use crate::disk::Disk as _;
use crate::disk::faulty::FaultyDisk;
use crate::{Durability, Error, LogId};

pub(super) const DIR: &str = "/data";

/// A clock that stands until it is moved.
#[derive(Debug, Default)]
pub(super) struct StillClock(AtomicU64);

impl StillClock {
    pub(super) fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).expect("tests move the clock a little");
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Clock for StillClock {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::Relaxed))
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp(0)
    }
}

/// A sink that remembers what it was told.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Told>);

#[derive(Debug, Default, Clone)]
pub(super) struct Told {
    pub(super) durable: Sequence,
    pub(super) reports: usize,
    pub(super) failures: Vec<String>,
}

impl Memory {
    pub(super) fn told(&self) -> Told {
        self.0.lock().clone()
    }
}

impl Sink for Memory {
    fn durable(&self, _: Durability, below: Sequence) {
        let mut told = self.0.lock();
        assert!(told.failures.is_empty(), "{below} was acked after a failure");
        assert!(told.durable < below, "{below} came after {}", told.durable);
        told.durable = below;
        told.reports += 1;
    }

    fn failed(&self, _: Durability, error: &Error) {
        self.0.lock().failures.push(error.to_string());
    }
}

/// Small files, so that tests see many of them.
pub(super) fn small() -> Settings {
    Settings {
        file_bytes: ByteSize::kib(64),
        bytes_max: ByteSize::mib(1),
        writers: 4,
        group_bytes_max: ByteSize::kib(8),
        mutant: None,
    }
}

/// A disk that holds the data directory, durably.
pub(super) fn disk(seed: u64) -> FaultyDisk {
    let disk = FaultyDisk::new(seed);
    disk.create_dir_all(Path::new(DIR)).expect("an empty disk has room");
    disk.sync_dir(Path::new("/")).expect("an empty disk has room");
    disk
}

pub(super) fn batch(offset: i64, value: &[u8]) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp(1), None, Some(value), &[]);
    let mut batch = builder.build().expect("nothing is compressed");
    batch.header.base_offset = Offset(offset);
    batch
}

pub(super) fn append(log: u64, offset: i64, bytes: usize) -> Entry {
    // A value that names its offset, so that no two entries are alike.
    let mut value = offset.to_le_bytes().to_vec();
    value.resize(bytes.max(8), 0xab);
    Entry::Append { log: LogId(log), batch: batch(offset, &value) }
}

/// What a scan replays.
pub(super) type Replayed = Vec<(Sequence, Entry)>;

pub(super) fn scan(
    disk: &FaultyDisk,
    lane: Durability,
    settings: &Settings,
) -> Result<(Recovery, Replayed), Error> {
    let mut replayed = Vec::new();
    let disk = Arc::new(disk.clone());
    let recovery = Recovery::scan(
        disk,
        DataDir { path: Path::new(DIR), node: Uuid::nil() },
        (lane, Reach::UNKNOWN),
        settings.clone(),
        &mut |at, entry| {
            replayed.push((at, entry));
            Ok(())
        },
    )?;
    Ok((recovery, replayed))
}

/// A journal that is driven by hand.
pub(super) struct World {
    pub(super) disk: FaultyDisk,
    pub(super) clock: Arc<StillClock>,
    pub(super) sink: Arc<Memory>,
    pub(super) journal: Journal,
    pub(super) replayed: Replayed,
}

impl World {
    pub(super) fn open(disk: &FaultyDisk) -> Self {
        Self::open_with(disk, Durability::Fsync, &small(), Sequence::default())
            .expect("nothing is wrong with the disk")
    }

    pub(super) fn open_with(
        disk: &FaultyDisk,
        lane: Durability,
        settings: &Settings,
        covered_below: Sequence,
    ) -> Result<Self, Error> {
        let (recovery, replayed) = scan(disk, lane, settings)?;
        let clock = Arc::new(StillClock::default());
        let sink = Arc::new(Memory::default());
        let surroundings = Surroundings {
            clock: Arc::<StillClock>::clone(&clock),
            rng: rng::from_seed(disk.changes()),
            driver: Driver::Manual,
        };
        let journal = recovery.start(covered_below, Arc::<Memory>::clone(&sink), surroundings)?;
        Ok(Self { disk: disk.clone(), clock, sink, journal, replayed })
    }

    /// Submits an append of about `bytes` to log 1.
    pub(super) fn submit(&self, offset: i64, bytes: usize) -> Sequence {
        self.journal.submit(append(1, offset, bytes)).expect("the journal lives")
    }

    /// The files of the journal with this extension.
    pub(super) fn files(&self, extension: &str) -> Vec<PathBuf> {
        files(&self.disk, extension)
    }
}

pub(super) fn files(disk: &FaultyDisk, extension: &str) -> Vec<PathBuf> {
    let directory = Path::new(DIR).join("journal");
    let names = disk.list(&directory).expect("the journal made its directory");
    names
        .into_iter()
        .filter(|name| name.ends_with(extension))
        .map(|name| directory.join(name))
        .collect()
}

/// The offsets of the replayed appends.
pub(super) fn offsets(replayed: &Replayed) -> Vec<i64> {
    let offset = |(_, entry): &(Sequence, Entry)| match entry {
        Entry::Append { batch, .. } => Some(batch.header.base_offset.0),
        Entry::Truncate { .. } => None,
    };
    replayed.iter().filter_map(offset).collect()
}
