//! An observer that remembers what it was told, and checks that it was told in order.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use rafka_core::Offset;

use crate::{Error, LogId, Observer};

/// See the module.
#[derive(Debug, Default)]
pub struct Reports {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    durable: BTreeMap<LogId, Offset>,
    failures: Vec<Error>,
    rooms: u64,
}

impl Reports {
    /// Where the log was last said to be durable to.
    #[must_use]
    pub fn durable(&self, log: LogId) -> Option<Offset> {
        self.told.lock().durable.get(&log).copied()
    }

    /// The failures, as they came.
    #[must_use]
    pub fn failures(&self) -> Vec<Error> {
        self.told.lock().failures.clone()
    }

    /// How often there was room again.
    #[must_use]
    pub fn rooms(&self) -> u64 {
        self.told.lock().rooms
    }

    /// Forgets how far a log was durable: it was truncated, and its reports begin anew.
    pub fn forget(&self, log: LogId) {
        self.told.lock().durable.remove(&log);
    }
}

impl Observer for Reports {
    fn durable(&self, log: LogId, end: Offset) {
        let before = self.told.lock().durable.insert(log, end);
        assert!(
            before.is_none_or(|before| before < end),
            "{log}: {end} was reported after {before:?}"
        );
    }

    fn failed(&self, error: &Error) {
        self.told.lock().failures.push(error.clone());
    }

    fn room(&self) {
        self.told.lock().rooms += 1;
    }
}

impl Observer for std::sync::Arc<Reports> {
    fn durable(&self, log: LogId, end: Offset) {
        Observer::durable(self.as_ref(), log, end);
    }

    fn failed(&self, error: &Error) {
        Observer::failed(self.as_ref(), error);
    }

    fn room(&self) {
        Observer::room(self.as_ref());
    }
}
