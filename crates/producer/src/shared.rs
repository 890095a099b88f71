//! What the handles of a producer and its sending side share: the buffer and its budget.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rafka_client::Client;
use rafka_core::ByteSize;
use tokio::sync::{Notify, Semaphore};

use crate::accumulator::Accumulator;
use crate::delivery::{Outcome, Receipt};
use crate::error::{Error, Fate};
use crate::flight::Identity;
use crate::metrics::{Counters, Metrics};
use crate::settings::Settings;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) client: Client,
    /// Held for a few lines; never while another lock is held or something is awaited.
    pub(crate) accumulator: Mutex<Accumulator>,
    /// One permit per byte of `buffer_bytes`. Closed when the producer is.
    pub(crate) memory: Semaphore,
    /// How many `send`s wait for memory: while there are any, no batch lingers.
    pub(crate) starved: AtomicUsize,
    /// Wakes the sending side.
    pub(crate) wake: Notify,
    pub(crate) closed: AtomicBool,
    /// Why the producer ended by itself, if it did.
    pub(crate) ended_by: OnceLock<Error>,
    /// What all its records are part of, if it is the producer of a transaction.
    pub(crate) transaction: Option<Membership>,
    /// Why the first batch failed that did.
    pub(crate) first_failure: OnceLock<Error>,
    pub(crate) counters: Counters,
}

/// Who sends within a transaction.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    /// The transactional id.
    pub(crate) id: String,
    pub(crate) identity: Identity,
}

impl Shared {
    /// Ends a batch: tells its records and gives its memory back.
    pub(crate) fn settle(&self, receipt: Receipt, outcome: Outcome) {
        let records = u64::from(receipt.records);
        match &outcome {
            Ok(_) => {
                Counters::add(&self.counters.records_acked, records);
                let waited = self.client.clock().now() - receipt.created_at;
                self.counters.latencies.note(waited, records);
            }
            Err(error) => {
                Counters::add(&self.counters.records_failed, records);
                let _first_cause_counts = self.first_failure.set(error.clone());
            }
        }
        self.accumulator.lock().settled(receipt.number);
        self.memory.add_permits(usize::try_from(receipt.cost).unwrap_or(0));
        receipt.settle(outcome);
    }

    /// Takes no more records, and fails those that were not sent.
    pub(crate) fn end(&self) {
        self.closed.store(true, Ordering::Release);
        self.memory.close();
        let unsent = self.accumulator.lock().drain();
        for receipt in unsent {
            self.settle(receipt, Err(Error::Closed { fate: Fate::NotWritten }));
        }
    }

    /// The error of who comes too late.
    pub(crate) fn closed_error(&self) -> Error {
        let closed = Error::Closed { fate: Fate::NotWritten };
        self.ended_by.get().cloned().unwrap_or(closed)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let free = ByteSize::of_len(self.memory.available_permits());
        let taken = self.settings.buffer_bytes.0.saturating_sub(free.0);
        self.counters.snapshot(ByteSize(taken))
    }
}
