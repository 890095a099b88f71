//! The listener: starts the services, and stops them without cutting off what is under way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rafka_broker::{Broker, Connections, LISTENER_GRPC};
use rafka_core::Clock;
use rafka_proto::v1::admin_server::AdminServer;
use rafka_proto::v1::groups_server::GroupsServer;
use rafka_proto::v1::log_server::LogServer;
use rafka_proto::v1::transactions_server::TransactionsServer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::Settings;
use crate::admin::Admin;
use crate::connection::{self, Bounds};
use crate::gateway::Gateway;
use crate::groups::Groups;
use crate::intake::Door;
use crate::log::Log;
use crate::transactions::Transactions;

/// What a connection and each of its calls may have under way unread: 1 MiB keeps 100 ms of a
/// 10 MB/s link busy, and bounds what an unread connection costs.
const WINDOW_BYTES: u32 = 1 << 20;

/// Larger frames than HTTP/2's 16 KiB mean fewer of them for a batch.
const FRAME_BYTES_MAX: u32 = 64 << 10;

/// All header fields of a call together. gRPC needs a few hundred bytes.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Calls that a client began and reset before they were looked at, and calls reset for its
/// protocol errors: beyond this many the connection is closed (HTTP/2 rapid reset).
const RESETS_MAX: usize = 32;

/// After the limit of a stop, connections are cut; their tasks need only be scheduled to end.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);

/// The names that health is reported under; the empty one is the whole listener.
const HEALTH_NAMES: [&str; 5] = [
    "",
    LogServer::<Log>::NAME,
    GroupsServer::<Groups>::NAME,
    TransactionsServer::<Transactions>::NAME,
    AdminServer::<Admin>::NAME,
];

/// The listener did not start. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {listen} for gRPC")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The compiled-in description of the API cannot be served.
    #[error("cannot describe the API for reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A running listener.
#[derive(Debug)]
pub struct Handle {
    local_addr: SocketAddr,
    stop: CancellationToken,
    cut: CancellationToken,
    connections: Arc<Connections>,
    health: HealthReporter,
    server: JoinSet<Result<(), tonic::transport::Error>>,
    streams: TaskTracker,
}

/// How a listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that were cut because they had not finished within the limit.
    pub connections_cut: usize,
}

/// Begins to serve the broker at `settings.listen`.
///
/// # Errors
/// If the address cannot be listened on.
///
/// # Cancel safety
/// Cancelled, it leaves nothing behind.
pub async fn start(
    settings: &Settings,
    broker: Broker,
    clock: Arc<dyn Clock>,
) -> Result<Handle, StartError> {
    bind(settings.listen).await?.start(settings, broker, clock).await
}

/// An address that is taken, and not yet served: connections wait.
///
/// A node advertises its address when its session begins, which is before there is a broker to
/// serve, and the system may be the one who chooses the port.
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
    let fail = |cause| StartError::Listen { listen, cause };
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
    ///
    /// # Errors
    /// If the API cannot be described for reflection.
    ///
    /// # Cancel safety
    /// Cancelled, it leaves nothing behind.
    pub async fn start(
        self,
        settings: &Settings,
        broker: Broker,
        clock: Arc<dyn Clock>,
    ) -> Result<Handle, StartError> {
        serve(self, settings, broker, clock).await
    }
}

async fn serve(
    bound: Bound,
    settings: &Settings,
    broker: Broker,
    clock: Arc<dyn Clock>,
) -> Result<Handle, StartError> {
    let Bound { listener, local_addr } = bound;
    let (stop, cut, streams) =
        (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
    let gateway = Gateway::new(broker, clock, settings.clone(), stop.clone(), streams.clone());
    let health = HealthReporter::new();
    for name in HEALTH_NAMES {
        health.set_service_status(name, ServingStatus::Serving).await;
    }
    let routes = routes(Arc::new(gateway), &health)?;
    let door = Door::new(routes, settings);
    let Settings { connections_max, connections_per_address_max, .. } = *settings;
    let connections = Connections::new(LISTENER_GRPC, connections_max, connections_per_address_max);
    let bounds = Bounds {
        handshake_timeout: settings.handshake_timeout,
        idle_timeout: settings.idle_timeout,
        cut: cut.clone(),
    };
    let incoming = connection::incoming(listener, Arc::clone(&connections), bounds);
    let serving = builder(settings).serve_with_incoming_shutdown(
        door,
        incoming,
        stop.clone().cancelled_owned(),
    );
    let mut server = JoinSet::new();
    server.spawn(serving);
    Ok(Handle { local_addr, stop, cut, connections, health, server, streams })
}

fn builder(settings: &Settings) -> Server {
    Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(RESETS_MAX))
        .http2_keepalive_interval(Some(settings.keepalive_interval))
        .http2_keepalive_timeout(Some(settings.keepalive_timeout))
        .max_concurrent_streams(settings.streams_per_connection_max)
}

fn routes(
    gateway: Arc<Gateway>,
    health: &HealthReporter,
) -> Result<Routes, tonic_reflection::server::Error> {
    let settings = &gateway.settings;
    let (produce_max, request_max) =
        (settings.produce_message_bytes_max.as_usize(), settings.request_bytes_max.as_usize());
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(rafka_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let log = LogServer::new(Log::new(Arc::clone(&gateway))).max_decoding_message_size(produce_max);
    let groups =
        GroupsServer::new(Groups::new(Arc::clone(&gateway))).max_decoding_message_size(request_max);
    let transactions = TransactionsServer::new(Transactions::new(Arc::clone(&gateway)))
        .max_decoding_message_size(request_max);
    let admin = AdminServer::new(Admin::new(gateway)).max_decoding_message_size(request_max);
    Ok(Routes::new(log)
        .add_service(groups)
        .add_service(transactions)
        .add_service(admin)
        .add_service(HealthServer::new(HealthService::from_health_reporter(health.clone())))
        .add_service(reflection)
        .prepare())
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

    /// Returns when the listener has ended, which it does unasked only by a fault.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ended(&mut self) {
        self.server.join_next().await;
    }

    /// Takes no more connections, tells clients to go away, and lets calls finish: produce streams
    /// answer what they have read, readers end. What is left after `limit` is cut.
    ///
    /// # Cancel safety
    /// Cancelled, the listener is closed and clients have been told; connections may linger.
    pub async fn stop(mut self, limit: Duration) -> Stopped {
        for name in HEALTH_NAMES {
            self.health.set_service_status(name, ServingStatus::NotServing).await;
            // Those who watch learn it and are then let go: a watch has no other end.
            self.health.clear_service_status(name).await;
        }
        self.stop.cancel();
        self.streams.close();
        let connections = Arc::clone(&self.connections);
        let drained = async {
            self.server.join_next().await;
            self.streams.wait().await;
        };
        if tokio::time::timeout(limit, drained).await.is_ok() {
            return Stopped { connections_cut: 0 };
        }
        let connections_cut = connections.open();
        self.cut.cancel();
        let ended = async {
            self.server.join_next().await;
            self.streams.wait().await;
        };
        if tokio::time::timeout(CUT_TIMEOUT, ended).await.is_err() {
            tracing::warn!(connections = connections.open(), "grpc connections did not end");
        }
        Stopped { connections_cut }
    }
}
