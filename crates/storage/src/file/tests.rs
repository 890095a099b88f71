//! The file engine on a disk in memory, stepped by hand, and on a real one with its threads.

mod concurrent;
mod crash;
mod faults;
mod lanes;
mod lost;
mod scale;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rafka_core::rng;
use rafka_core::{Time, Timestamp};

use super::*;
use crate::contract::{Reports, Subject};
use crate::disk::OsDisk;
use crate::disk::faulty::FaultyDisk;
use crate::journal;
use crate::per_lane::LANES;

/// Where the directory is on a disk in memory.
const DIR: &str = "/data";

/// A clock that goes when it is told to.
#[derive(Debug, Default)]
pub(super) struct HandClock {
    elapsed: Mutex<std::time::Duration>,
}

impl HandClock {
    pub(super) fn advance(&self, by: std::time::Duration) {
        *self.elapsed.lock() += by;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Time {
        Time::default() + *self.elapsed.lock()
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp(1_000_000_000).plus(*self.elapsed.lock())
    }
}

/// The machine's time on the calendar of the tests, who tell an engine when they append.
#[derive(Debug)]
struct TestDate(rafka_core::SystemClock);

impl Clock for TestDate {
    fn now(&self) -> Time {
        self.0.now()
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp(1_000_000_000)
    }
}

/// Small enough that journals roll, recycle and press, and that segments matter.
pub(super) fn small_settings() -> Settings {
    Settings {
        sidecar_bytes: Some(ByteSize::mib(1)),
        disk_reserve_bytes: ByteSize::kib(64),
        open_files_max: 8,
        journal: journal::Settings {
            file_bytes: ByteSize::kib(64),
            bytes_max: ByteSize::kib(512),
            group_bytes_max: ByteSize::kib(16),
            ..journal::Settings::default()
        },
    }
}

/// An engine that a test steps.
pub(super) struct Bench {
    pub(super) disk: FaultyDisk,
    pub(super) clock: Arc<HandClock>,
    pub(super) reports: Arc<Reports>,
    pub(super) settings: Settings,
    pub(super) seed: u64,
    pub(super) engine: Arc<FileEngine>,
}

impl Bench {
    pub(super) fn new(seed: u64, settings: Settings) -> Self {
        let disk = FaultyDisk::new(seed);
        let clock = Arc::new(HandClock::default());
        let reports = Arc::new(Reports::default());
        let engine =
            open(&disk, &clock, &reports, &settings, seed).expect("an empty disk can be used").0;
        Self { disk, clock, reports, settings, seed, engine: Arc::new(engine) }
    }

    /// Starts the engine again on what the disk holds. The old one must be gone.
    pub(super) fn reopen(&mut self) -> Result<Started, Error> {
        self.seed += 1;
        self.reports = Arc::new(Reports::default());
        let (engine, started) =
            open(&self.disk, &self.clock, &self.reports, &self.settings, self.seed)?;
        self.engine = Arc::new(engine);
        Ok(started)
    }
}

fn open(
    disk: &FaultyDisk,
    clock: &Arc<HandClock>,
    reports: &Arc<Reports>,
    settings: &Settings,
    seed: u64,
) -> Result<(FileEngine, Started), Error> {
    let surroundings = Surroundings {
        disk: Arc::new(disk.clone()),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        rng: rng::from_seed(seed),
        observer: Arc::new(Arc::clone(reports)),
        driver: Driver::Manual,
    };
    FileEngine::open(Path::new(DIR), settings, surroundings)
}

impl Subject for Bench {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine) as Arc<dyn Engine>
    }

    fn reports(&self) -> &Reports {
        &self.reports
    }

    fn settle(&mut self) {
        self.engine.step();
    }

    fn flush(&mut self) {
        self.engine.step();
        self.engine.flush().expect("the disk works");
    }

    fn restart(&mut self) -> bool {
        // Every other time as after a kill: what is durable is there either way.
        if self.seed.is_multiple_of(2) {
            self.engine.stop().expect("the disk works");
        }
        self.disk.kill();
        self.reopen().expect("what was left can be opened");
        true
    }
}

fn by_hand(seed: u64) -> Bench {
    Bench::new(seed, small_settings())
}

mod by_hand_on_a_disk_in_memory {
    use super::by_hand;

    crate::contract_suite!(by_hand, 60);
}

/// An engine with threads, on the machine's disk.
struct Real {
    dir: PathBuf,
    _temporary: tempfile::TempDir,
    reports: Arc<Reports>,
    engine: Arc<FileEngine>,
    seed: u64,
}

fn real(seed: u64) -> Real {
    let temporary = tempfile::tempdir().expect("there is a place for temporary files");
    let dir = temporary.path().join("data");
    let (engine, reports) = open_real(&dir, seed);
    Real { dir, _temporary: temporary, reports, engine, seed }
}

fn open_real(dir: &Path, seed: u64) -> (Arc<FileEngine>, Arc<Reports>) {
    let reports = Arc::new(Reports::default());
    let surroundings = Surroundings {
        disk: Arc::new(OsDisk),
        clock: Arc::new(TestDate(rafka_core::SystemClock::new())),
        rng: rng::from_seed(seed),
        observer: Arc::new(Arc::clone(&reports)),
        driver: Driver::Threads,
    };
    let (engine, _) = FileEngine::open(dir, &small_settings(), surroundings).expect("it opens");
    (Arc::new(engine), reports)
}

impl Subject for Real {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine) as Arc<dyn Engine>
    }

    fn reports(&self) -> &Reports {
        &self.reports
    }

    fn settle(&mut self) {
        self.engine.inner.settle();
    }

    fn flush(&mut self) {
        self.engine.flush().expect("the disk works");
    }

    fn restart(&mut self) -> bool {
        self.engine.stop().expect("the disk works");
        self.seed += 1;
        (self.engine, self.reports) = open_real(&self.dir, self.seed);
        true
    }
}

impl Inner {
    /// Blocks until everything submitted is durable.
    fn settle(&self) {
        for lane in LANES {
            if let Some(last) = self.shared.lanes.of(lane).last_submitted() {
                self.await_reported(lane, last).expect("the disk works");
            }
        }
    }
}

mod threaded_on_the_machines_disk {
    use super::real;

    crate::contract_suite!(real, 5);
}
