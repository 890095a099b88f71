//! The broker: the one set of operations that all gateways call.

mod fetch;
mod group_configs;
mod internal_topic;
mod log_dir;
mod maintenance;
mod markers;
mod node_configs;
mod offsets;
mod offsets_log;
mod produce;
mod producer_ids;
mod register;
mod topics;
mod transactions;

use std::ops::Range;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rafka_core::{Clock, Rng};
use rafka_metadata::{Addresses, Metadata};
use rafka_storage::Engine;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::calendar::Calendar;
use crate::follower::Follower;
use crate::stats::Stats;
use crate::table::PartitionTable;
use crate::{Error, Registrations, Settings, group, transaction};
use offsets_log::OffsetsPartitions;
use transactions::TransactionPartitions;

/// What a broker is made of.
pub struct Parts {
    /// What ties the logs and the table that the engine reports to, to the metadata.
    pub follower: Follower,
    /// What the cluster has agreed on, and tells the follower.
    pub metadata: Metadata,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Draws the ids of group members.
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
    /// One permit for each call that may be at the disk.
    cold_reads: Arc<Semaphore>,
    /// One permit for each batch that may be inflating to much: half of the processors are left to
    /// everybody else.
    inflating: Semaphore,
    /// What is left of the block of producer ids that this node was granted.
    producer_ids: Mutex<Range<i64>>,
    /// By which retention judges ages.
    calendar: Mutex<Calendar>,
    groups: group::Coordinator,
    transactions: transaction::Coordinator,
    /// Who is asked in place of our own coordinator.
    registrations: OnceLock<Arc<dyn Registrations>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The session could not be made known.
    #[error("cannot begin the node's session")]
    Session(#[from] rafka_metadata::ProposeError),
    /// The logs could not be opened.
    #[error("cannot open the logs")]
    Logs(#[from] rafka_storage::Error),
}

impl Broker {
    /// Begins the node's session, opens the partitions it leads and starts to look after them.
    ///
    /// # Errors
    /// If the session cannot be agreed on, or a log not be opened. Nothing was appended then.
    ///
    /// # Cancel safety
    /// Dropped before it completes, a session was begun that nobody uses.
    pub async fn start(
        parts: Parts,
        settings: Settings,
        addresses: Addresses,
    ) -> Result<Self, StartError> {
        let Parts { follower, metadata, clock, rng } = parts;
        let (table, engine) = (Arc::clone(&follower.table), Arc::clone(&follower.engine));
        // What was durable is still there: an engine that lost something refuses to open.
        metadata.begin_session(addresses, true).await?;
        let (opener, view) = (follower.clone(), metadata.view());
        tokio::task::spawn_blocking(move || opener.open_all(&view))
            .await
            .unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))?;
        table.producers().set_max(settings.producers_budget());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let inner = Arc::new_cyclic(|broker| {
            let offsets_partitions = settings.groups.offsets_topic_partitions;
            let log = Arc::new(OffsetsPartitions::new(Weak::clone(broker), offsets_partitions));
            let clock_of_groups = Arc::clone(&clock);
            let groups = settings.groups.clone();
            let tied = (&tasks, stop.clone());
            let surroundings = Arc::new(TransactionPartitions::new(broker, &settings));
            let transactions = transaction::Coordinator::start(
                settings.transactions.clone(),
                surroundings,
                Arc::clone(&clock),
                (&tasks, stop.clone()),
            );
            Inner {
                groups: group::Coordinator::start(groups, log, clock_of_groups, rng, tied),
                transactions,
                table,
                engine,
                metadata,
                calendar: Mutex::new(Calendar::new(clock.now(), clock.timestamp())),
                clock,
                stats: Arc::default(),
                fetch_waits: Semaphore::new(settings.fetch_waits_max),
                cold_reads: Arc::new(Semaphore::new(settings.cold_reads_max)),
                inflating: Semaphore::new(processors.div_ceil(2)),
                settings,
                producer_ids: Mutex::new(0..0),
                registrations: OnceLock::new(),
                tasks: tasks.clone(),
                stop: stop.clone(),
            }
        });
        inner.lead_groups().await;
        inner.lead_transactions().await;
        let broker = Self { inner };
        broker.start_maintenance();
        broker.start_retries(follower);
        Ok(broker)
    }

    /// What the broker counts.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.inner.stats
    }

    /// How many idempotent producers are known, each counted once for each partition that it wrote
    /// to.
    #[must_use]
    pub fn producer_count(&self) -> usize {
        self.inner.table.producers().count()
    }

    /// Consumer groups.
    #[must_use]
    pub fn groups(&self) -> &group::Coordinator {
        &self.inner.groups
    }

    /// Why nothing can be written any more, if the storage failed.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        self.inner.table.failure()
    }

    /// Stops what runs in the background. Requests in flight are answered; call it when no gateway
    /// takes new ones. Whether all came to its end within `limit`.
    ///
    /// # Cancel safety
    /// Dropped before it completes, the rest goes on to its end unwatched.
    pub async fn stop(&self, limit: Duration) -> bool {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        tokio::time::timeout(limit, self.inner.tasks.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests;
