//! The listener: accepts connections, and stops them without cutting off what is under way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rafka_broker::{Broker, Connections, LISTENER_KAFKA};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::Settings;
use crate::connection;
use crate::gateway::Gateway;
use crate::stats::Stats;

/// How long the listener rests when the system has no descriptor left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After the limit of a stop, connections are cut; their tasks need only be scheduled to end.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);

/// The listener did not start. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen} for Kafka")]
pub struct StartError {
    listen: SocketAddr,
    #[source]
    cause: io::Error,
}

/// An address that is taken, and not yet served: connections wait.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    local_addr: SocketAddr,
}

/// Takes an address.
///
/// # Errors
/// If it cannot be listened on.
///
/// # Cancel safety
/// Cancelled, it leaves nothing behind.
pub async fn bind(listen: SocketAddr) -> Result<Bound, StartError> {
    let fail = |cause| StartError { listen, cause };
    let listener = TcpListener::bind(listen).await.map_err(fail)?;
    let local_addr = listener.local_addr().map_err(fail)?;
    Ok(Bound { listener, local_addr })
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Begins to serve the broker.
    #[must_use]
    pub fn start(self, settings: Settings, broker: Broker) -> Handle {
        let gateway = Gateway::new(broker, settings);
        let Settings { connections_max, connections_per_address_max, .. } = *gateway.settings;
        let connections =
            Connections::new(LISTENER_KAFKA, connections_max, connections_per_address_max);
        let tasks = TaskTracker::new();
        let mut server = JoinSet::new();
        server.spawn(accept(
            self.listener,
            gateway.clone(),
            Arc::clone(&connections),
            tasks.clone(),
        ));
        Handle { local_addr: self.local_addr, gateway, connections, tasks, server }
    }
}

/// A running listener.
pub struct Handle {
    local_addr: SocketAddr,
    gateway: Gateway,
    connections: Arc<Connections>,
    tasks: TaskTracker,
    server: JoinSet<()>,
}

/// How a listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that were cut because they had not finished within the limit.
    pub connections_cut: usize,
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Its connections.
    #[must_use]
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// What it counts.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.gateway.stats
    }

    /// Returns when the listener has ended, which it does unasked only by a fault.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ended(&mut self) {
        self.server.join_next().await;
    }

    /// Takes no more connections, and closes each once what it has asked is answered. What is left
    /// after `limit` is cut.
    ///
    /// # Cancel safety
    /// Cancelled, the listener is closed; connections may linger.
    pub async fn stop(mut self, limit: Duration) -> Stopped {
        self.gateway.stop.cancel();
        self.server.join_next().await;
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_ok() {
            return Stopped { connections_cut: 0 };
        }
        let connections_cut = self.connections.open();
        self.gateway.cut.cancel();
        if tokio::time::timeout(CUT_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.connections.open(), "kafka connections did not end");
        }
        Stopped { connections_cut }
    }
}

/// Accepts connections until the listener stops.
async fn accept(
    listener: TcpListener,
    gateway: Gateway,
    connections: Arc<Connections>,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = gateway.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some(place) = connections.admit(peer) {
                    tasks.spawn(connection::serve(gateway.clone(), stream, peer, place));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "kafka connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
