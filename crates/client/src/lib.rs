//! The base of the Rafka SDK: connections, the view of the cluster, retries, and admin calls.
//!
//! Producers and consumers stand on a [`Client`]; one can carry many of them.
//!
//! ```
//! # async fn run(address: &str) -> Result<(), rafka_client::Error> {
//! use rafka_client::admin::NewTopic;
//! use rafka_client::{Client, Settings};
//!
//! let client = Client::new(Settings::new(address))?;
//! let topic = NewTopic::new("orders").partitions(6).config("retention.ms", "86400000");
//! let created = client.admin().create_topic(&topic).await?;
//! assert_eq!(created.partition_count, 6);
//! # Ok(())
//! # }
//! # let runtime = tokio::runtime::Runtime::new().expect("a runtime");
//! # runtime.block_on(async {
//! #     let broker = rafka_broker::testing::start(rafka_broker::Settings::default()).await;
//! #     let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
//! #     let settings = rafka_grpc::Settings { listen, ..rafka_grpc::Settings::default() };
//! #     let clock = std::sync::Arc::new(rafka_core::SystemClock::new());
//! #     let node = rafka_grpc::start(&settings, broker, clock).await.expect("port 0 is free");
//! #     run(&node.local_addr().to_string()).await.expect("it is created");
//! # });
//! ```
#![warn(missing_docs)]

mod address;
pub mod admin;
mod client;
pub mod convert;
mod error;
mod latency;
mod leaders;
mod metadata;
mod node;
pub mod retry;
pub mod settings;
mod transactions;
mod view;

pub use address::{Address, InvalidAddress};
pub use client::{Client, Missing};
pub use error::Error;
pub use latency::{Latencies, LatencySummary};
pub use node::Node;
/// The messages that travel, for the crates of the SDK.
pub use rafka_proto::v1;
pub use settings::{InvalidSettings, Settings};
pub use transactions::{GroupMetadata, Transactions};
pub use view::{Leadership, Topic, TopicPartition};
