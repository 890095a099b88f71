//! What all connections of a listener share.

use std::sync::Arc;

use rafka_broker::{Broker, Error, LISTENER_KAFKA, topics};
use rafka_core::ErrorCode;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Settings;

/// Shared by all connections of a listener.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) broker: Broker,
    pub(crate) settings: Arc<Settings>,
    /// One permit for each byte of requests that are being received or unanswered.
    pub(crate) budget: Arc<Semaphore>,
    /// Cancelled when the listener stops: connections then end after the request at hand.
    pub(crate) stop: CancellationToken,
    /// Cancelled to end them at once.
    pub(crate) cut: CancellationToken,
}

impl Gateway {
    pub(crate) fn new(broker: Broker, settings: Settings) -> Self {
        let budget = Semaphore::new(settings.receive_budget().as_usize());
        Self {
            broker,
            settings: Arc::new(settings),
            budget: Arc::new(budget),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
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
