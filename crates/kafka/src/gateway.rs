//! What all connections of a listener share.

use std::sync::Arc;
use std::sync::atomic::AtomicI32;

use rafka_broker::{Broker, Budget, Error, LISTENER_KAFKA, topics};
use rafka_core::{ByteSize, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::Settings;
use crate::stats::Stats;

/// Shared by all connections of a listener.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) broker: Broker,
    pub(crate) settings: Arc<Settings>,
    /// Of requests that are being received or unanswered.
    pub(crate) budget: Arc<Budget>,
    /// One permit for each byte that readers who catch up may hold.
    reads: Arc<Semaphore>,
    /// One permit for each partition in a fetch session.
    pub(crate) sessions: Arc<Semaphore>,
    /// The next fetch session's.
    pub(crate) session_id: Arc<AtomicI32>,
    pub(crate) stats: Arc<Stats>,
    /// Cancelled when the listener stops: connections then end after the request at hand.
    pub(crate) stop: CancellationToken,
    /// Cancelled to end them at once.
    pub(crate) cut: CancellationToken,
}

impl Gateway {
    pub(crate) fn new(broker: Broker, settings: Settings) -> Self {
        let budget = Budget::new(settings.receive_budget(), settings.frame_bytes_max());
        let reads = Semaphore::new(settings.read_budget().as_usize());
        let sessions = Semaphore::new(settings.fetch_session_partitions_max as usize);
        Self {
            broker,
            settings: Arc::new(settings),
            budget,
            reads: Arc::new(reads),
            sessions: Arc::new(sessions),
            session_id: Arc::new(AtomicI32::new(1)),
            stats: Arc::default(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Room for a large answer to a reader that catches up, if there is some.
    pub(crate) fn room(&self, size: ByteSize) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(size.0).ok()?;
        Arc::clone(&self.reads).try_acquire_many_owned(permits).ok()
    }

    /// The cluster as Kafka clients reach it.
    pub(crate) fn cluster(&self) -> topics::Cluster {
        self.broker.describe_cluster(LISTENER_KAFKA)
    }

    /// This node, as Kafka clients reach it.
    ///
    /// # Errors
    /// If it advertises no Kafka listener.
    pub(crate) fn node(&self) -> Result<topics::Node, Error> {
        let cluster = self.cluster();
        let own = cluster.nodes.into_iter().find(|node| node.id == cluster.controller);
        own.ok_or_else(|| ErrorCode::CoordinatorNotAvailable.into())
    }
}
