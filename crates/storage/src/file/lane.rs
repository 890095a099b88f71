//! The way into one journal: what was submitted, in order, until it is durable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rafka_core::Offset;

use super::log::Log;
use crate::journal::{Entry, Journal, Sequence};
use crate::{Error, LogId};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lane {
    submitted: Mutex<Row>,
    /// Everything below this is durable and was reported.
    reported: Mutex<Sequence>,
    progress: Condvar,
}

/// What was submitted and is not known to be durable, in order.
#[derive(Debug, Default)]
struct Row {
    entries: VecDeque<Submitted>,
    /// The last that was ever in it.
    last: Option<Sequence>,
}

#[derive(Debug)]
struct Submitted {
    sequence: Sequence,
    log: Arc<Log>,
    /// The log's end with this record. `None` for a truncation, which its own call waits for.
    end: Option<Offset>,
}

impl Lane {
    /// Submits an entry of a log whose lock the caller holds.
    ///
    /// One lock around both keeps the row in the order of the sequences.
    pub(super) fn submit(
        &self,
        journal: &Journal,
        log: &Arc<Log>,
        entry: Entry,
        end: Option<Offset>,
    ) -> Result<Sequence, Error> {
        let mut submitted = self.submitted.lock();
        let sequence = journal.submit(entry)?;
        submitted.entries.push_back(Submitted { sequence, log: Arc::clone(log), end });
        submitted.last = Some(sequence);
        Ok(sequence)
    }

    /// Everything below `below` became durable. Returns the ends that logs reached by that, each
    /// log once.
    pub(super) fn settle(&self, below: Sequence) -> BTreeMap<LogId, (Arc<Log>, Offset)> {
        let mut ends = BTreeMap::new();
        let mut submitted = self.submitted.lock();
        while let Some(first) = submitted.entries.pop_front_if(|first| first.sequence < below) {
            if let Some(end) = first.end {
                // Later ones replace earlier ones: ends ascend but for truncations, whose call
                // waits before anything is appended again.
                ends.insert(first.log.id, (first.log, end));
            }
        }
        ends
    }

    /// Says that everything below `below` is durable and was reported.
    pub(super) fn note_reported(&self, below: Sequence) {
        *self.reported.lock() = below;
        self.progress.notify_all();
    }

    /// Wakes who waits, so that it sees that the engine has failed.
    pub(super) fn wake(&self) {
        let _reported = self.reported.lock();
        self.progress.notify_all();
    }

    /// Up to where everything is durable and was reported.
    pub(super) fn reported(&self) -> Sequence {
        *self.reported.lock()
    }

    /// The last record that was submitted.
    pub(super) fn last_submitted(&self) -> Option<Sequence> {
        self.submitted.lock().last
    }

    /// Whether this record is durable and was reported.
    pub(super) fn is_reported(&self, sequence: Sequence) -> bool {
        sequence < *self.reported.lock()
    }

    /// Blocks until [`Lane::is_reported`], or until `given_up`, or for as long as `limit` after the
    /// last progress.
    pub(super) fn wait_reported(
        &self,
        sequence: Sequence,
        limit: Option<Duration>,
        given_up: impl Fn() -> bool,
    ) {
        let mut reported = self.reported.lock();
        while *reported <= sequence && !given_up() {
            match limit {
                None => self.progress.wait(&mut reported),
                Some(limit) if self.progress.wait_for(&mut reported, limit).timed_out() => return,
                Some(_) => {}
            }
        }
    }
}
