//! The running journal: its handle, and the threads behind it.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rafka_core::Clock;

use super::files::Files;
use super::job::Scratch;
use super::machine::{Machine, Next, Report, Stopping};
use super::upkeep::{self, Failure};
use super::{Driver, Entry, Sequence, Sink, Stats, Usage, WriteJob};
use crate::{Durability, Error};

/// A running journal of one lane. Dropping it without [`Journal::stop`] leaves the queue unwritten.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    driver: Driver,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    writers: Vec<JoinHandle<()>>,
    upkeep: Option<JoinHandle<()>>,
}

struct Shared {
    machine: Mutex<Machine>,
    /// Waited on by writers.
    work: Condvar,
    /// Waited on by the upkeep.
    upkeep: Condvar,
    files: Files,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn Sink>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the machine: its queue holds what producers sent.
        f.debug_struct("Shared").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Journal {
    pub(super) fn begin(
        machine: Machine,
        files: Files,
        clock: Arc<dyn Clock>,
        sink: Arc<dyn Sink>,
        driver: Driver,
    ) -> Result<Self, Error> {
        let writers = files.settings.writers;
        let shared = Arc::new(Shared {
            machine: Mutex::new(machine),
            work: Condvar::new(),
            upkeep: Condvar::new(),
            files,
            clock,
            sink,
        });
        let journal = Self { shared, driver, threads: Mutex::new(Threads::default()) };
        if driver == Driver::Threads {
            // If one cannot be started, dropping the journal stops those that were.
            let mut threads = journal.threads.lock();
            threads.upkeep = Some(journal.spawn("upkeep", Shared::upkeep_loop)?);
            for _ in 0..writers {
                threads.writers.push(journal.spawn("write", Shared::write_loop)?);
            }
        }
        Ok(journal)
    }

    fn spawn(&self, role: &str, run: fn(&Shared)) -> Result<JoinHandle<()>, Error> {
        let shared = Arc::clone(&self.shared);
        let spawned = thread::Builder::new().name(format!("journal-{role}")).spawn(move || {
            let watch = DeathWatch { shared: &shared };
            run(&shared);
            drop(watch);
        });
        spawned.map_err(crate::disk::failed("start a thread for", &self.shared.files.directory))
    }

    /// Takes an entry and gives it its sequence. Does not block and does no I/O. What is queued has
    /// no bound here: the caller holds the entries in memory anyway, and bounds that.
    ///
    /// # Errors
    /// If the journal is dead or was stopped, or the batch is larger than
    /// [`Settings::batch_bytes_max`](super::Settings::batch_bytes_max). Then nothing was taken.
    pub fn submit(&self, entry: Entry) -> Result<Sequence, Error> {
        let shared = &*self.shared;
        let bytes_max = shared.files.settings.batch_bytes_max();
        if let Entry::Append { batch, .. } = &entry
            && bytes_max.as_usize() < batch.len()
        {
            let what = format!("a batch of {} bytes exceeds {bytes_max}", batch.len());
            let cause = io::Error::new(io::ErrorKind::InvalidInput, what);
            return Err(crate::disk::failed("append to", &shared.files.directory)(cause));
        }
        let sequence = shared.machine.lock().submit(entry)?;
        shared.work.notify_one();
        Ok(sequence)
    }

    /// The number of the file that is written.
    #[must_use]
    pub fn file(&self) -> u64 {
        self.shared.machine.lock().space.file()
    }

    /// Whether [`Journal::release`] up to there would give a file back. Once it was called, no more.
    #[must_use]
    pub fn frees(&self, below: Sequence) -> bool {
        self.shared.machine.lock().space.frees(below)
    }

    /// Everything below `below` is durable elsewhere: files that hold nothing else are used again.
    /// Only what is durable here may be released.
    pub fn release(&self, below: Sequence) {
        let mut machine = self.shared.machine.lock();
        machine.release(below);
        self.shared.wake_upkeep(&machine);
    }

    /// The sequence that the oldest file begins with: what a restart would replay from.
    #[must_use]
    pub fn oldest(&self) -> Sequence {
        self.shared.machine.lock().space.oldest()
    }

    /// Everything below this should be covered elsewhere and released now, because three quarters of
    /// the bound are taken. At the bound, writes wait.
    #[must_use]
    pub fn must_release(&self) -> Option<Sequence> {
        self.shared.machine.lock().space.must_release()
    }

    /// The disk space that the lane takes.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.shared.machine.lock().usage()
    }

    /// What was written since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.machine.lock().stats()
    }

    /// Writes out what is queued, seals it, and ends the threads. Blocks. Later calls do nothing.
    ///
    /// # Errors
    /// If the journal is dead, or the bound or a full disk kept records from being written. None of
    /// those was reported durable.
    pub fn stop(&self) -> Result<(), Error> {
        self.request(Stopping::Drain);
        if self.driver == Driver::Manual {
            self.settle();
        }
        let mut threads = self.threads.lock();
        join(threads.writers.drain(..));
        self.request(Stopping::Now);
        join(threads.upkeep.take());
        drop(threads);
        let machine = self.shared.machine.lock();
        machine.check_alive()?;
        let left = machine.usage().queued;
        if left.0 != 0 {
            let what = format!("no room for {left} that were queued");
            let cause = io::Error::new(io::ErrorKind::StorageFull, what);
            return Err(crate::disk::failed("write out", &self.shared.files.directory)(cause));
        }
        Ok(())
    }

    fn request(&self, stopping: Stopping) {
        let shared = &*self.shared;
        let mut machine = shared.machine.lock();
        machine.stopping = machine.stopping.max(stopping);
        shared.work.notify_all();
        shared.upkeep.notify_all();
    }

    /// The next group to be written, if there is one. For [`Driver::Manual`]. Several may be taken
    /// before the first is run: they are in flight then.
    #[must_use]
    pub fn take_write(&self) -> Option<WriteJob> {
        let now = self.shared.clock.now();
        match self.shared.machine.lock().next_write(now) {
            Next::Write(job) => Some(job),
            Next::Wait(_) | Next::Exit => None,
        }
    }

    /// Writes a group and reports what became durable by that. For [`Driver::Manual`].
    pub fn run_write(&self, job: WriteJob) {
        self.shared.run_write(job, &mut Scratch::new(0));
    }

    /// Does one thing to the files, if there is one to do. For [`Driver::Manual`].
    pub fn upkeep(&self) -> bool {
        let now = self.shared.clock.now();
        let task = self.shared.machine.lock().next_task(now);
        task.is_some_and(|task| {
            self.shared.run_task(task);
            true
        })
    }

    /// Does everything that can be done now. For [`Driver::Manual`].
    pub fn settle(&self) {
        loop {
            if let Some(job) = self.take_write() {
                self.run_write(job);
            } else if !self.upkeep() {
                return;
            }
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.request(Stopping::Now);
        let threads = self.threads.get_mut();
        join(threads.writers.drain(..).chain(threads.upkeep.take()));
    }
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for handle in threads {
        // The last owner of the journal may be a sink that a writer is just calling.
        if handle.thread().id() != thread::current().id() {
            // A panic was reported by the thread's watch.
            handle.join().ok();
        }
    }
}

impl Shared {
    fn write_loop(&self) {
        let group = self.files.settings.group_bytes_max.as_usize();
        let mut scratch = Scratch::new(group.next_multiple_of(crate::disk::BLOCK));
        loop {
            let now = self.clock.now();
            let mut machine = self.machine.lock();
            let next = machine.next_write(now);
            self.wake_upkeep_at(&machine, now);
            match next {
                Next::Write(job) => {
                    drop(machine);
                    self.run_write(job, &mut scratch);
                }
                Next::Wait(limit) => wait(&self.work, &mut machine, limit),
                Next::Exit => {
                    // What ends one ends all.
                    self.work.notify_all();
                    return;
                }
            }
        }
    }

    fn upkeep_loop(&self) {
        loop {
            let now = self.clock.now();
            let mut machine = self.machine.lock();
            if machine.is_dead() || machine.stopping == Stopping::Now {
                return;
            }
            match machine.next_task(now) {
                Some(task) => {
                    drop(machine);
                    self.run_task(task);
                }
                None => {
                    let limit = machine.retry_wait(now);
                    wait(&self.upkeep, &mut machine, limit);
                }
            }
        }
    }

    fn run_write(&self, job: WriteJob, scratch: &mut Scratch) {
        let began = self.clock.now();
        let result = job.write(scratch);
        let now = self.clock.now();
        let mut machine = self.machine.lock();
        match result {
            Ok(()) => machine.complete(&job, now - began, now),
            Err(cause) => {
                let path = self.files.wal(job.number);
                machine.fail(crate::disk::failed("write", &path)(cause));
                self.work.notify_all();
                self.upkeep.notify_all();
            }
        }
        self.wake_upkeep_at(&machine, now);
        drop(machine);
        drop(job); // Frees the batches, outside of the lock.
        self.report();
    }

    fn run_task(&self, task: super::space::Task) {
        let task_is_make = matches!(task, super::space::Task::Make(_));
        let result = upkeep::run(&self.files, task);
        let now = self.clock.now();
        let mut machine = self.machine.lock();
        match result {
            Ok(done) => machine.space.finish(done),
            Err(Failure::Full(error)) if task_is_make => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no space for a journal file"
                );
                machine.space.finish(super::space::Done::Gone);
                machine.wait_for_disk_space(now);
            }
            Err(Failure::Full(error) | Failure::Broken(error)) => machine.fail(error),
        }
        self.work.notify_all();
        self.upkeep.notify_all();
        drop(machine);
        self.report();
    }

    /// Tells the sink what is new. If another thread is telling, that one goes on.
    fn report(&self) {
        let lane: Durability = self.files.lane;
        let mut report = self.machine.lock().next_report(false);
        let telling = Telling { shared: self };
        while let Some(news) = report {
            match news {
                Report::Durable(below) => self.sink.durable(lane, below),
                Report::Failed(error) => self.sink.failed(lane, &error),
            }
            report = self.machine.lock().next_report(true);
        }
        drop(telling);
    }

    fn wake_upkeep(&self, machine: &Machine) {
        self.wake_upkeep_at(machine, self.clock.now());
    }

    fn wake_upkeep_at(&self, machine: &Machine, now: rafka_core::Time) {
        if machine.has_task(now) {
            self.upkeep.notify_one();
        }
    }
}

fn wait(condvar: &Condvar, machine: &mut MutexGuard<'_, Machine>, limit: Option<Duration>) {
    match limit {
        Some(limit) => {
            condvar.wait_for(machine, limit);
        }
        None => condvar.wait(machine),
    }
}

/// Gives up telling the sink if that panics, so that the thread's watch can tell it of the failure.
struct Telling<'a> {
    shared: &'a Shared,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.shared.machine.lock().give_up_reporting();
        }
    }
}

/// Kills the journal if the thread that it watches panics: nobody may wait for a dead writer.
struct DeathWatch<'a> {
    shared: &'a Shared,
}

impl Drop for DeathWatch<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let shared = self.shared;
            shared.machine.lock().fail(Error::Dead("a journal thread panicked".into()));
            shared.work.notify_all();
            shared.upkeep.notify_all();
            shared.report();
        }
    }
}
