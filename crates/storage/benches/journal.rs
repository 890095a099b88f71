//! What the journal gains over append and fdatasync, on the disk that holds the target directory.
//!
//! Both sides make groups of the same size durable, from four submitters that each wait for their
//! own group before the next: `cargo bench -p rafka-storage --bench journal`.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use parking_lot::{Condvar, Mutex};
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Batch, SystemClock, Timestamp, rng};
use rafka_storage::disk::OsDisk;
use rafka_storage::journal::{
    DataDir, Driver, Entry, Journal, Reach, Recovery, Sequence, Settings, Sink, Surroundings,
};
use rafka_storage::{Durability, Error, LogId};
use uuid::Uuid;

const SUBMITTERS: u64 = 4;

fn main() {
    let place = tempfile::Builder::new()
        .prefix("journal-bench-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("the target directory can be written");
    let mut criterion = Criterion::default()
        .sample_size(20)
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    for bytes in [4 << 10, 64 << 10] {
        let mut group = criterion.benchmark_group("durable_groups");
        group.throughput(Throughput::Bytes(bytes as u64));
        let id = format!("{} KiB", bytes >> 10);
        let journal = Lane::open(&place.path().join(format!("journal-{bytes}")));
        let batch = batch(bytes);
        group.bench_function(BenchmarkId::new("journal", &id), |bencher| {
            bencher.iter_custom(|rounds| timed(rounds, |rounds| journal.append(&batch, rounds)));
        });
        journal.journal.stop().expect("nothing fails here");
        let file = File::create(place.path().join(format!("append-{bytes}")));
        let file = Mutex::new(file.expect("the directory can be written"));
        let data = batch.to_bytes();
        group.bench_function(BenchmarkId::new("append and fdatasync", &id), |bencher| {
            bencher.iter_custom(|rounds| {
                timed(rounds, |rounds| {
                    for _ in 0..rounds {
                        let mut file = file.lock();
                        file.write_all(&data).expect("there is room");
                        file.sync_data().expect("the disk works");
                    }
                })
            });
        });
        group.finish();
    }
    criterion.final_summary();
}

/// The time that `rounds` take, shared by the submitters.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn timed(rounds: u64, work: impl Fn(u64) + Sync) -> Duration {
    let began = Instant::now();
    thread::scope(|scope| {
        for submitter in 0..SUBMITTERS {
            let share = rounds / SUBMITTERS + u64::from(submitter < rounds % SUBMITTERS);
            let work = &work;
            scope.spawn(move || work(share));
        }
    });
    began.elapsed()
}

/// A batch of about `bytes` in all.
fn batch(bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp(1), None, Some(&vec![7; bytes - 200]), &[]);
    builder.build().expect("nothing is compressed")
}

/// A journal, and how far it is durable.
struct Lane {
    journal: Journal,
    durable: Arc<Durable>,
}

#[derive(Default)]
struct Durable {
    below: Mutex<Sequence>,
    moved: Condvar,
}

impl Sink for Durable {
    fn durable(&self, _: Durability, below: Sequence) {
        *self.below.lock() = below;
        self.moved.notify_all();
    }

    fn failed(&self, _: Durability, error: &Error) {
        unreachable!("{error}");
    }
}

impl Lane {
    fn open(dir: &Path) -> Self {
        let disk = Arc::new(OsDisk);
        let settings = Settings::default();
        let recovery = Recovery::scan(
            disk,
            DataDir { path: dir, node: Uuid::nil() },
            (Durability::Fsync, Reach::UNKNOWN),
            settings,
            &mut |_, _| Ok(()),
        )
        .expect("the directory is new");
        let durable = Arc::new(Durable::default());
        let surroundings = Surroundings {
            clock: Arc::new(SystemClock::new()),
            rng: rng::from_seed(1),
            driver: Driver::Threads,
        };
        let sink = Arc::<Durable>::clone(&durable);
        let journal = recovery
            .start(Sequence::default(), sink, surroundings)
            .expect("the directory can be written");
        Self { journal, durable }
    }

    fn append(&self, batch: &Batch, rounds: u64) {
        for _ in 0..rounds {
            let entry = Entry::Append { log: LogId(1), batch: batch.clone() };
            let sequence = self.journal.submit(entry).expect("the journal lives");
            let mut below = self.durable.below.lock();
            while *below <= sequence {
                self.durable.moved.wait(&mut below);
            }
            drop(below);
            self.journal.release(sequence);
        }
    }
}
