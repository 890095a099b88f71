//! A node: engine, metadata, broker and gateways, put together and taken apart.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rafka_broker::{Broker, Follower, LISTENER_GRPC, LISTENER_KAFKA, PartitionTable, Parts};
use rafka_core::rng::RngExt as _;
use rafka_core::{ByteSize, Clock, NodeId, Offset, rng};
use rafka_http::State;
use rafka_metadata::{Address, Addresses, Committer, Metadata, Place};
use rafka_storage::disk::{Disk, OsDisk};
use rafka_storage::journal::Driver;
use rafka_storage::{self as storage, FileEngine, LogId, MemoryEngine, Started, Surroundings};
use tokio::sync::watch;
use uuid::Uuid;

use crate::metrics::Source;
use crate::settings::{Engine, Settings};

/// The file with what the cluster agreed on, within the data directory.
const METADATA_FILE: &str = "metadata.redb";
/// The memory engine holds half of the memory that the process may use, and at most this.
const MEMORY_ENGINE_MAX: ByteSize = ByteSize::gib(1);

/// The node did not start. What was acked before is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The gRPC address.
    #[error(transparent)]
    Grpc(rafka_grpc::StartError),
    /// The Kafka listener did not start.
    #[error(transparent)]
    Kafka(rafka_kafka::StartError),
    /// The HTTP address.
    #[error(transparent)]
    Http(#[from] rafka_http::StartError),
    /// The operating system gives no randomness.
    #[error("cannot get randomness")]
    Randomness(#[source] std::io::Error),
    /// The data directory.
    #[error(transparent)]
    Storage(storage::Error),
    /// The logs are there, but what the cluster agreed on is not.
    #[error("{path} is missing, although the directory holds {logs} logs")]
    MetadataMissing {
        /// The file.
        path: std::path::PathBuf,
        /// How many logs there are.
        logs: usize,
    },
    /// What the cluster agreed on.
    #[error("cannot open the metadata")]
    Metadata(#[from] rafka_metadata::OpenError),
    /// The partitions.
    #[error(transparent)]
    Broker(#[from] rafka_broker::StartError),
}

/// The node stopped, but not everything came to its end in time.
#[derive(Debug, thiserror::Error)]
#[error("the stop was cut short: {}", .0.join(", "))]
pub(crate) struct CutShort(Vec<String>);

/// A running node.
pub(crate) struct Node {
    grpc: rafka_grpc::Handle,
    kafka: rafka_kafka::Handle,
    http: rafka_http::Handle,
    broker: Broker,
    committer: Committer,
    engine: AnyEngine,
    metadata: Metadata,
    state: watch::Sender<State>,
    founded: bool,
    clock: Arc<dyn Clock>,
}

/// The engine in use. Both kinds serve; only one has files to tell of.
#[derive(Clone)]
pub(crate) enum AnyEngine {
    File(Arc<FileEngine>),
    Memory(Arc<MemoryEngine>),
}

impl AnyEngine {
    fn shared(&self) -> Arc<dyn storage::Engine> {
        match self {
            Self::File(engine) => Arc::clone(engine) as _,
            Self::Memory(engine) => Arc::clone(engine) as _,
        }
    }
}

/// Passes on what the engine reports, and lets the node know when it fails.
struct Reports {
    table: Arc<PartitionTable>,
    state: watch::Sender<State>,
}

impl storage::Observer for Reports {
    fn durable(&self, log: LogId, end: Offset) {
        self.table.durable(log, end);
    }

    fn failed(&self, error: &storage::Error) {
        // Reads go on, but only a restart brings writes back: health says so to whoever restarts.
        self.state.send_replace(State::Failed(error.to_string()));
        self.table.failed(error);
    }

    fn room(&self) {
        self.table.room();
    }
}

/// What opening the storage gives.
struct Opened {
    engine: AnyEngine,
    follower: Follower,
    metadata: Metadata,
    committer: Committer,
    founded: bool,
}

impl Node {
    /// Starts a node. Addresses are taken first, so that a node that cannot be reached touches no
    /// file, and health can be asked while a long journal is replayed.
    pub(crate) async fn start(
        settings: &Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let bound = rafka_grpc::bind(settings.shifted(settings.grpc.listen)).await;
        let bound = bound.map_err(StartError::Grpc)?;
        let kafka = rafka_kafka::bind(settings.shifted(settings.kafka.listen)).await;
        let kafka = kafka.map_err(StartError::Kafka)?;
        let state = watch::Sender::new(State::Starting);
        let metrics = rafka_http::Metrics::default();
        let http = rafka_http::Settings {
            listen: settings.shifted(settings.http.listen),
            ..settings.http.clone()
        };
        let http = rafka_http::start(&http, state.subscribe(), Arc::clone(&metrics)).await?;
        let table = PartitionTable::new();
        let opened = {
            let reports = Arc::new(Reports { table: Arc::clone(&table), state: state.clone() });
            let (settings, clock) = (settings.clone(), Arc::clone(&clock));
            let table = Arc::clone(&table);
            let open = move || open(&settings, clock, &table, reports);
            tokio::task::spawn_blocking(open)
                .await
                .unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))?
        };
        let Opened { engine, follower, metadata, committer, founded } = opened;
        let parts = Parts {
            follower,
            metadata: metadata.clone(),
            clock: Arc::clone(&clock),
            rng: rng::from_system().map_err(StartError::Randomness)?,
        };
        let addresses = advertised(settings, bound.local_addr(), kafka.local_addr());
        let broker = Broker::start(parts, settings.broker.clone(), addresses).await?;
        let grpc = bound.start(&settings.grpc, broker.clone(), Arc::clone(&clock)).await;
        let grpc = grpc.map_err(StartError::Grpc)?;
        let kafka = kafka.start(settings.kafka.clone(), broker.clone());
        let source = Source {
            grpc: Arc::clone(grpc.connections()),
            kafka: Arc::clone(kafka.connections()),
            kafka_stats: Arc::clone(kafka.stats()),
            broker: broker.clone(),
            engine: engine.clone(),
            metadata: metadata.clone(),
            started: clock.now(),
            clock: Arc::clone(&clock),
        };
        assert!(metrics.set(source.into_gather()).is_ok(), "metrics have one source");
        // The engine may have failed meanwhile: that is not overwritten.
        state.send_if_modified(|state| {
            let starting = *state == State::Starting;
            if starting {
                *state = State::Ready;
            }
            starting
        });
        Ok(Self { grpc, kafka, http, broker, committer, engine, metadata, state, founded, clock })
    }

    /// Where gRPC listens.
    pub(crate) fn grpc_addr(&self) -> SocketAddr {
        self.grpc.local_addr()
    }

    /// Where the Kafka protocol listens.
    pub(crate) fn kafka_addr(&self) -> SocketAddr {
        self.kafka.local_addr()
    }

    /// Where health and metrics listen.
    pub(crate) fn http_addr(&self) -> SocketAddr {
        self.http.local_addr()
    }

    /// The node's number in its cluster.
    pub(crate) fn id(&self) -> NodeId {
        self.metadata.view().node()
    }

    /// The cluster it belongs to.
    pub(crate) fn cluster_id(&self) -> Uuid {
        self.metadata.view().cluster_id()
    }

    /// Whether this start founded the cluster.
    pub(crate) fn is_founder(&self) -> bool {
        self.founded
    }

    /// Returns, with the reason, when the node can no longer do its work.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn failed(&mut self) -> String {
        tokio::select! {
            () = self.grpc.ended() => "the gRPC listener ended unasked".to_owned(),
            () = self.kafka.ended() => "the Kafka listener ended unasked".to_owned(),
            () = self.http.ended() => "the HTTP listener ended unasked".to_owned(),
            () = self.broker.groups().ended() => "the group coordinator ended unasked".to_owned(),
            () = self.broker.transactions().ended() => {
                "the transaction coordinator ended unasked".to_owned()
            }
            reason = self.metadata.ended() => format!("topics cannot be changed any more: {reason}"),
        }
    }

    /// Stops in the reverse order of starting: requests, background work, logs, files. All of it
    /// within `limit`.
    pub(crate) async fn stop(self, limit: Duration) -> Result<(), CutShort> {
        let deadline = self.clock.now() + limit;
        let left = |clock: &Arc<dyn Clock>| deadline - clock.now();
        let mut late = Vec::new();
        self.state.send_replace(State::Stopping);
        let limit = share(left(&self.clock));
        let (grpc, kafka) = tokio::join!(self.grpc.stop(limit), self.kafka.stop(limit));
        if 0 < kafka.connections_cut {
            tracing::warn!(connections = kafka.connections_cut, "kafka connections were cut");
        }
        if 0 < grpc.connections_cut {
            // Readers that do not read: their clients go on elsewhere, and nothing is lost.
            tracing::warn!(connections = grpc.connections_cut, "grpc connections were cut");
        }
        if !self.broker.stop(share(left(&self.clock))).await {
            late.push("background work of the broker did not end".to_owned());
        }
        drop(self.broker);
        if let Err(error) = self.committer.stop(share(left(&self.clock))).await {
            late.push(error.to_string());
        }
        let engine = self.engine.shared();
        let stopped = tokio::task::spawn_blocking(move || engine.stop());
        match tokio::time::timeout(left(&self.clock), stopped).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => late.push(error.to_string()),
            Ok(Err(_panicked)) => late.push("the storage engine panicked".to_owned()),
            Err(_elapsed) => {
                late.push("the storage engine did not write everything out".to_owned());
            }
        }
        if !self.http.stop(left(&self.clock)).await {
            tracing::warn!("http connections were cut");
        }
        if late.is_empty() { Ok(()) } else { Err(CutShort(late)) }
    }
}

/// What one step of a stop may take of the time that is left: later steps need some, too.
fn share(left: Duration) -> Duration {
    left / 2
}

/// Opens storage and metadata. Blocks.
fn open(
    settings: &Settings,
    clock: Arc<dyn Clock>,
    table: &Arc<PartitionTable>,
    reports: Arc<dyn storage::Observer>,
) -> Result<Opened, StartError> {
    let mut random = rng::from_system().map_err(StartError::Randomness)?;
    let begun = clock.now();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let data_dir = &settings.node.data_dir;
    let (engine, node, place, founded) = match settings.node.engine {
        Engine::File => {
            let surroundings = Surroundings {
                disk: Arc::clone(&disk),
                clock: Arc::clone(&clock),
                rng: rng::from_system().map_err(StartError::Randomness)?,
                observer: Arc::clone(&reports),
                driver: Driver::Threads,
            };
            let opened = FileEngine::open(data_dir, &settings.storage, surroundings);
            let (engine, started) = opened.map_err(StartError::Storage)?;
            log_start(data_dir, &started, clock.now() - begun);
            let path = data_dir.join(METADATA_FILE);
            let founds = !path.exists();
            // An empty cluster over a full directory would serve none of what it holds.
            if founds && 0 < started.logs {
                return Err(StartError::MetadataMissing { path, logs: started.logs });
            }
            (AnyEngine::File(Arc::new(engine)), started.node, Place::File { disk, path }, founds)
        }
        Engine::Memory => {
            let engine = MemoryEngine::new(memory_engine_bytes(), &mut random);
            let node = uuid::Builder::from_random_bytes(random.random()).into_uuid();
            (AnyEngine::Memory(Arc::new(engine)), node, Place::Memory, true)
        }
    };
    let follower = Follower::new(Arc::clone(table), engine.shared());
    let settings = settings.metadata.clone();
    let opened = Metadata::open(place, node, settings, random, follower.observer(reports));
    let (metadata, committer) = opened?;
    Ok(Opened { engine, follower, metadata, committer, founded })
}

fn log_start(data_dir: &Path, started: &Started, took: Duration) {
    tracing::info!(
        path = %data_dir.display(),
        logs = started.logs,
        clean = started.was_clean,
        batches = started.replayed_batches,
        bytes = started.replayed_bytes.0,
        elapsed_ms = (took.as_secs_f64() * 1000.0).round(),
        "storage opened"
    );
}

fn memory_engine_bytes() -> ByteSize {
    let half = storage::memory_limit().map(|limit| ByteSize(limit.0 / 2));
    half.map_or(MEMORY_ENGINE_MAX, |half| half.min(MEMORY_ENGINE_MAX))
}

/// Where clients are told to find this node.
fn advertised(settings: &Settings, grpc: SocketAddr, kafka: SocketAddr) -> Addresses {
    let address = |bound: SocketAddr| {
        let told = settings.node.advertise.clone();
        let host = told.unwrap_or_else(|| reachable(bound.ip()));
        Address { host, port: bound.port() }
    };
    Addresses::from([
        (LISTENER_GRPC.to_owned(), address(grpc)),
        (LISTENER_KAFKA.to_owned(), address(kafka)),
    ])
}

/// A name for a bound address: "every interface" is no address to call, the host's name may be.
fn reachable(bound: IpAddr) -> String {
    if !bound.is_unspecified() {
        return bound.to_string();
    }
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_an_address_that_can_be_called() {
        let mut settings = Settings::default();
        let host = |settings: &Settings, bound: [u8; 4]| {
            let bound = SocketAddr::from((bound, 7));
            advertised(settings, bound, bound)[LISTENER_GRPC].to_string()
        };
        assert_eq!(host(&settings, [127, 0, 0, 1]), "127.0.0.1:7");
        assert_ne!(host(&settings, [0, 0, 0, 0]), "0.0.0.0:7");
        settings.node.advertise = Some("node-1.example".to_owned());
        assert_eq!(host(&settings, [0, 0, 0, 0]), "node-1.example:7");
    }
}
