//! What the handles of a consumer and its driver share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rafka_client::Client;
use tokio::sync::Notify;

use crate::budget::Budget;
use crate::commit::Committer;
use crate::error::Error;
use crate::member::{Common, Membership};
use crate::metrics::{Counters, Metrics};
use crate::partitions::Partitions;
use crate::rebalance::Listener;
use crate::settings::Settings;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) client: Client,
    pub(crate) listener: Listener,
    /// Held while records are taken or something is asked; never while something is awaited.
    pub(crate) partitions: Mutex<Partitions>,
    pub(crate) common: Arc<Common>,
    /// As whom the consumer was given the partitions that it reads. The member itself may be somebody
    /// else by now, of which the consumer learns in a `poll`.
    pub(crate) owner: Mutex<Option<Membership>>,
    pub(crate) committer: Committer,
    pub(crate) budget: Arc<Budget>,
    pub(crate) counters: Arc<Counters>,
    /// Whether the streams may no longer fit what is to be read.
    dirty: AtomicBool,
    /// Wakes a `poll`.
    pub(crate) wake: Notify,
    pub(crate) subscribed: AtomicBool,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(client: Client, settings: Settings, listener: Listener) -> Self {
        let common = Common::new(client.clock().now());
        let counters = Arc::<Counters>::default();
        Self {
            partitions: Mutex::new(Partitions::new(settings.batch_inflated_bytes_max)),
            committer: Committer::new(
                client.clone(),
                &settings,
                Arc::clone(&common),
                Arc::clone(&counters),
            ),
            owner: Mutex::new(None),
            budget: Budget::new(settings.prefetch_bytes),
            common,
            counters,
            settings,
            client,
            listener,
            dirty: AtomicBool::new(false),
            wake: Notify::new(),
            subscribed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// Commits what was given and is not committed yet.
    pub(crate) async fn commit_given(&self) -> Result<(), Error> {
        let turn = self.committer.turn().await;
        let offsets = self.partitions.lock().uncommitted();
        self.committer.commit(turn, &offsets).await?;
        self.partitions.lock().note_committed(&offsets);
        Ok(())
    }

    /// As [`Shared::commit_given`], if the consumer commits by itself.
    pub(crate) async fn commit_by_itself(&self) -> Result<(), Error> {
        if self.settings.auto_commit_interval.is_none() || self.settings.group.is_none() {
            return Ok(());
        }
        self.commit_given().await
    }

    /// Notes that what is to be read has changed.
    pub(crate) fn changed(&self) {
        self.dirty.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether it has changed since this was last asked.
    pub(crate) fn take_changed(&self) -> bool {
        self.dirty.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let lag = self.partitions.lock().total_lag();
        self.counters.snapshot(self.budget.taken(), lag)
    }
}
