//! The broker: the one set of operations that all gateways call.

mod fetch;
mod maintenance;
mod offsets;
mod produce;
mod topics;

use std::sync::Arc;

use rafka_core::{Clock, Rng};
use rafka_metadata::Metadata;
use rafka_storage::Engine;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::stats::Stats;
use crate::table::PartitionTable;
use crate::{Settings, group};

/// What a broker is made of.
pub struct Parts {
    /// The table that the engine reports to.
    pub table: Arc<PartitionTable>,
    /// Where logs live.
    pub engine: Arc<dyn Engine>,
    /// What the cluster has agreed on.
    pub metadata: Metadata,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Seeds whatever the broker draws.
    pub rng: Rng,
}

/// A handle to the engine of a node. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    table: Arc<PartitionTable>,
    engine: Arc<dyn Engine>,
    metadata: Metadata,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
    settings: Settings,
    /// One permit for each parked fetch.
    fetch_waits: Semaphore,
    /// One permit for each read that may touch the disk.
    cold_reads: Semaphore,
    groups: group::Coordinator,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Broker {
    /// What the broker counts.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.inner.stats
    }

    /// Consumer groups.
    #[must_use]
    pub fn groups(&self) -> &group::Coordinator {
        &self.inner.groups
    }

    /// Why nothing can be written any more, if the storage failed.
    #[must_use]
    pub fn failure(&self) -> Option<crate::Error> {
        self.inner.table.failure()
    }
}
