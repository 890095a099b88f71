//! Pure: the journal as a state machine: what is queued, in flight, durable, sealed, dead.
//!
//! The threads, or a test, ask it for the next write, do it, and say how it went.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rafka_core::{ByteSize, Time};

use super::format::{self, BLOCK};
use super::space::Space;
use super::{Entry, Sequence, Settings, Stats, Usage, WriteJob};
use crate::{Durability, Error, engine};

/// How long after the last write the journal counts as idle. Long enough that a steady trickle is
/// not doubled by seals, short enough that little is unsealed when the power goes.
const IDLE: Duration = Duration::from_millis(50);
/// How long to wait before space is asked for again on a full disk.
const FULL_DISK_RETRY: Duration = Duration::from_secs(1);

/// What a writer does next.
#[derive(Debug)]
pub(super) enum Next {
    Write(WriteJob),
    /// Until something changes, or this time has passed.
    Wait(Option<Duration>),
    Exit,
}

/// What the sink is told next.
#[derive(Debug)]
pub(super) enum Report {
    Durable(Sequence),
    Failed(Error),
}

/// How far stopping has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stopping {
    No,
    /// Write what is queued, accept nothing more.
    Drain,
    Now,
}

/// The state of a lane.
#[derive(Debug)]
pub(super) struct Machine {
    lane: Durability,
    group_bytes_max: usize,
    pub(super) space: Space,
    /// What the next entry gets.
    next: Sequence,
    /// Everything below is durable.
    durable: Sequence,
    queue: VecDeque<Queued>,
    queued_bytes: u64,
    /// The groups that were given out and are not below `durable` yet, in sequence.
    flights: VecDeque<Flight>,
    /// Everything below is sealed, or was before this process.
    sealed: Sequence,
    idle_since: Time,
    retry_at: Option<Time>,
    pub(super) stopping: Stopping,
    dead: Option<Arc<str>>,
    failure: Option<Error>,
    reported: Sequence,
    /// Somebody is telling the sink, and will look again.
    reporting: bool,
    stats: Stats,
}

#[derive(Debug)]
struct Queued {
    /// `None` is a seal.
    entry: Option<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Flight {
    first: Sequence,
    end: Sequence,
    done: bool,
}

fn whole_blocks(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(BLOCK)
}

impl Machine {
    pub(super) fn new(lane: Durability, settings: &Settings, space: Space, next: Sequence) -> Self {
        Self {
            lane,
            group_bytes_max: settings.group_bytes_max.as_usize(),
            space,
            next,
            durable: next,
            queue: VecDeque::new(),
            queued_bytes: 0,
            flights: VecDeque::new(),
            sealed: next,
            idle_since: Time::default(),
            retry_at: None,
            stopping: Stopping::No,
            dead: None,
            failure: None,
            reported: next,
            reporting: false,
            stats: Stats::default(),
        }
    }

    /// Queues an entry.
    ///
    /// # Errors
    /// If the journal is dead or stopping. Then nothing was queued.
    pub(super) fn submit(&mut self, entry: Entry) -> Result<Sequence, Error> {
        if let Some(reason) = &self.dead {
            return Err(Error::Dead(Arc::clone(reason)));
        }
        if self.stopping != Stopping::No {
            return Err(Error::Dead("it was stopped".into()));
        }
        Ok(self.queue(Some(entry)))
    }

    fn queue(&mut self, entry: Option<Entry>) -> Sequence {
        let sequence = self.next;
        self.next = sequence.next();
        let bytes = format::record_bytes(entry.as_ref());
        self.queued_bytes += bytes as u64;
        self.queue.push_back(Queued { entry, bytes });
        sequence
    }

    /// The next group to be written.
    pub(super) fn next_write(&mut self, now: Time) -> Next {
        if self.dead.is_some() || self.stopping == Stopping::Now {
            return Next::Exit;
        }
        if self.queue.is_empty()
            && let Some(next) = self.seal_or_wait(now)
        {
            return next;
        }
        let head_bytes = self.queue.front().map_or(0, |head| head.bytes);
        let first = Sequence(self.next.0 - self.queue.len() as u64);
        if !self.space.make_room(whole_blocks(head_bytes), first) {
            let hopeless = self.stopping == Stopping::Drain && !self.upkeep_goes_on(now);
            return if hopeless { Next::Exit } else { Next::Wait(None) };
        }
        Next::Write(self.take_group(first))
    }

    /// Queues a seal if one is due; otherwise says what to do with nothing to write.
    fn seal_or_wait(&mut self, now: Time) -> Option<Next> {
        let stops = self.stopping != Stopping::No;
        // A seal would name nothing in the os lane, since nothing there is on disk for sure.
        if self.lane == Durability::Os || self.sealed == self.next {
            return Some(if stops { Next::Exit } else { Next::Wait(None) });
        }
        if !self.flights.is_empty() {
            return Some(Next::Wait(None));
        }
        let due = self.idle_since + IDLE;
        if now < due && !stops {
            return Some(Next::Wait(Some(due - now)));
        }
        self.queue(None);
        self.sealed = self.next;
        None
    }

    fn take_group(&mut self, first: Sequence) -> WriteJob {
        let room = usize::try_from(self.space.room()).unwrap_or(usize::MAX);
        let limit = self.group_bytes_max.min(room);
        let mut records = Vec::new();
        let mut bytes = 0;
        while let Some(head) = self.queue.front() {
            if !records.is_empty() && limit < bytes + head.bytes {
                break;
            }
            bytes += head.bytes;
            records.extend(self.queue.pop_front().map(|queued| queued.entry));
        }
        self.queued_bytes -= bytes as u64;
        let end = Sequence(first.0 + records.len() as u64);
        let len = whole_blocks(bytes);
        let place = self.space.take(len, end);
        self.flights.push_back(Flight { first, end, done: false });
        // What the os lane calls durable may be lost with the power, and must not be missed then.
        let durable = match self.lane {
            Durability::Fsync => self.durable,
            Durability::Os => Sequence::default(),
        };
        WriteJob {
            file: place.file,
            number: place.number,
            seed: place.seed,
            position: place.position,
            len: usize::try_from(len).expect("a group fits memory"),
            durable,
            first,
            records,
        }
    }

    /// Notes that a group is durable, and with it perhaps those after it.
    pub(super) fn complete(&mut self, job: &WriteJob, elapsed: Duration, now: Time) {
        self.stats.note(job.records.len(), job.len, elapsed);
        let Ok(index) = self.flights.binary_search_by_key(&job.first, |flight| flight.first) else {
            return; // The journal died meanwhile.
        };
        self.flights[index].done = true;
        while let Some(flight) = self.flights.pop_front_if(|flight| flight.done) {
            self.durable = flight.end;
        }
        self.idle_since = now;
        self.space.retire_covered(self.durable);
    }

    /// Ends the journal: nothing more is written, accepted or reported durable.
    pub(super) fn fail(&mut self, error: Error) {
        if self.dead.is_some() {
            return;
        }
        self.dead = Some(engine::full_message(&error).into());
        self.failure = Some(error);
        self.queue.clear();
        self.queued_bytes = 0;
        self.flights.clear();
    }

    /// What to tell the sink. One at a time: the caller comes back with `mine` when it has told.
    pub(super) fn next_report(&mut self, mine: bool) -> Option<Report> {
        if self.reporting && !mine {
            return None;
        }
        let report = if self.dead.is_some() {
            self.failure.take().map(Report::Failed)
        } else if self.reported < self.durable {
            self.reported = self.durable;
            Some(Report::Durable(self.durable))
        } else {
            None
        };
        self.reporting = report.is_some();
        report
    }

    /// Whoever was telling the sink does not come back.
    pub(super) fn give_up_reporting(&mut self) {
        self.reporting = false;
    }

    pub(super) fn release(&mut self, below: Sequence) {
        self.space.release(below, self.durable);
    }

    /// The next task of the upkeep. After the disk was full, not before it is time again.
    pub(super) fn next_task(&mut self, now: Time) -> Option<super::space::Task> {
        if self.has_task(now) { self.space.next_task() } else { None }
    }

    pub(super) fn has_task(&self, now: Time) -> bool {
        let runs = self.dead.is_none() && self.stopping != Stopping::Now;
        runs && self.retry_wait(now).is_none() && self.space.has_task()
    }

    fn upkeep_goes_on(&self, now: Time) -> bool {
        self.space.is_busy() || self.has_task(now)
    }

    pub(super) fn wait_for_disk_space(&mut self, now: Time) {
        self.retry_at = Some(now + FULL_DISK_RETRY);
    }

    /// How long until the disk is asked for space again.
    pub(super) fn retry_wait(&self, now: Time) -> Option<Duration> {
        self.retry_at.filter(|at| now < *at).map(|at| at - now)
    }

    pub(super) fn usage(&self) -> Usage {
        let (total, max) = self.space.usage();
        Usage { total, max, queued: ByteSize(self.queued_bytes) }
    }

    pub(super) fn stats(&self) -> Stats {
        self.stats
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.is_some()
    }

    /// Why it is dead, if it is.
    pub(super) fn check_alive(&self) -> Result<(), Error> {
        match &self.dead {
            Some(reason) => Err(Error::Dead(Arc::clone(reason))),
            None => Ok(()),
        }
    }
}
