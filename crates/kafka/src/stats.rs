//! What a listener counts. Read by whoever shows metrics.

use rafka_broker::stats::Counter;

use crate::api;

/// What a listener counts.
#[derive(Debug)]
pub struct Stats {
    /// One for each API, in the order that they are listed in.
    pub(crate) requests: [Counter; api::COUNT],
    /// Connections that the node closed for what came on them; the log says what it was.
    pub connections_failed: Counter,
}

impl Default for Stats {
    fn default() -> Self {
        let requests = std::array::from_fn(|_| Counter::default());
        Self { requests, connections_failed: Counter::default() }
    }
}

impl Stats {
    /// How many requests of each API began so far.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        api::names().zip(self.requests.iter().map(Counter::count))
    }
}
