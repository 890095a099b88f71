//! A broker in memory, for the tests of this crate and of the gateways.

use std::net::SocketAddr;
use std::sync::Arc;

use rafka_core::{ByteSize, SystemClock, TopicName, rng};
use rafka_metadata::{Address, Addresses, Metadata, Place};
use rafka_storage::{Engine, MemoryEngine};
use uuid::Uuid;

use crate::{
    Broker, Follower, LISTENER_GRPC, LISTENER_KAFKA, PartitionTable, Parts, Settings, topics,
};

/// What the logs of a test may hold.
const MEMORY: ByteSize = ByteSize::mib(256);

/// Starts a broker on the memory engine. It is gone with its last handle.
///
/// # Panics
/// If it does not start, which fails the test.
pub async fn start(settings: Settings) -> Broker {
    start_with(settings, Addresses::default()).await
}

/// As [`start`], and tells clients that the gRPC gateway is reached at `grpc`.
///
/// # Panics
/// If it does not start, which fails the test.
pub async fn start_at(settings: Settings, grpc: SocketAddr) -> Broker {
    let address = Address { host: grpc.ip().to_string(), port: grpc.port() };
    start_with(settings, Addresses::from([(LISTENER_GRPC.to_owned(), address)])).await
}

/// As [`start`], and tells clients that the Kafka gateway is reached at `kafka`.
///
/// # Panics
/// If it does not start, which fails the test.
pub async fn start_with_kafka(settings: Settings, kafka: SocketAddr) -> Broker {
    let address = Address { host: kafka.ip().to_string(), port: kafka.port() };
    start_with(settings, Addresses::from([(LISTENER_KAFKA.to_owned(), address)])).await
}

async fn start_with(settings: Settings, addresses: Addresses) -> Broker {
    let table = PartitionTable::new();
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new(MEMORY, &mut rng::from_seed(1)));
    let follower = Follower::new(Arc::clone(&table), engine);
    let (metadata, _committer) = Metadata::open(
        Place::Memory,
        Uuid::from_u128(1),
        rafka_metadata::Settings::default(),
        rng::from_seed(2),
        follower.observer(Arc::clone(&table) as _),
    )
    .expect("memory opens");
    let clock = Arc::new(SystemClock::new());
    let parts = Parts { follower, metadata, clock, rng: rng::from_seed(3) };
    Broker::start(parts, settings, addresses).await.expect("memory does not fail")
}

/// Creates a topic.
///
/// # Panics
/// If it is not created, which fails the test.
pub async fn create_topic(
    broker: &Broker,
    name: &str,
    partitions: u32,
    configs: &[(&str, &str)],
) -> TopicName {
    let name = TopicName::new(name).expect("a valid name");
    let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let order = topics::Create {
        name: name.clone(),
        partitions: Some(partitions),
        replication_factor: None,
        configs: configs.collect(),
        validate_only: false,
    };
    broker.create_topic(order).await.expect("the topic is new and valid");
    name
}
