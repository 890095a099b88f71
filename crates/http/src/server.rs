//! The listener's owner: starts it, tells when it ends, stops it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::connection::Bounded;
use crate::metrics::Gather;
use crate::routes;
use crate::settings::Settings;

/// What the node is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It recovers, and serves nothing yet.
    Starting,
    /// It serves.
    Ready,
    /// It finishes what it began, and takes nothing new.
    Stopping,
    /// Something broke that only a restart mends.
    Failed(String),
}

/// Where the node puts its source of metrics once it has one: health is told before that.
pub type Metrics = Arc<OnceLock<Gather>>;

/// The address cannot be listened on. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen} for HTTP")]
pub struct StartError {
    /// The address.
    pub listen: SocketAddr,
    #[source]
    cause: io::Error,
}

/// A running listener.
#[derive(Debug)]
pub struct Handle {
    local_addr: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<io::Result<()>>,
}

/// Begins to serve at `settings.listen`.
///
/// # Errors
/// If the address cannot be listened on.
///
/// # Cancel safety
/// Cancelled, it leaves nothing behind.
pub async fn start(
    settings: &Settings,
    state: watch::Receiver<State>,
    metrics: Metrics,
) -> Result<Handle, StartError> {
    let listen = settings.listen;
    let fail = |cause| StartError { listen, cause };
    let listener = TcpListener::bind(listen).await.map_err(fail)?;
    let local_addr = listener.local_addr().map_err(fail)?;
    let bounded = Bounded::new(listener, settings.connections_max, settings.request_timeout);
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        axum::serve(bounded, routes::router(state, metrics)).with_graceful_shutdown(stopped).await
    });
    Ok(Handle { local_addr, stop, tasks })
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns when the listener has ended, which it does unasked only by a fault.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ended(&mut self) {
        self.tasks.join_next().await;
    }

    /// Takes no more connections, lets those that are open finish, and returns whether all did
    /// within `limit`.
    ///
    /// # Cancel safety
    /// Cancelled, the listener is closed at once.
    pub async fn stop(mut self, limit: Duration) -> bool {
        self.stop.cancel();
        tokio::time::timeout(limit, self.tasks.join_next()).await.is_ok()
    }
}

#[cfg(test)]
mod tests;
