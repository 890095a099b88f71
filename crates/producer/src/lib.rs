//! The Rafka producer: give it records, it buffers, batches, compresses and sends them, and tells
//! where they were stored.
//!
//! With the defaults a record whose [`Delivery`] says `Ok` is on the disk of every in-sync replica,
//! is there once, and after all records that were sent before it to the same partition, whatever
//! connections and nodes broke in between.
//!
//! ```
//! # async fn run(address: &str) -> Result<(), rafka_producer::Error> {
//! use std::time::Duration;
//!
//! use rafka_producer::{Producer, Record};
//!
//! let producer = Producer::builder(address).build()?;
//! let delivery = producer.send(Record::new("orders").key("customer-7").value("2 apples")).await?;
//! let stored = delivery.await?;
//! println!("partition {}, offset {:?}", stored.partition, stored.offset);
//! producer.close(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! # let runtime = tokio::runtime::Runtime::new().expect("a runtime");
//! # runtime.block_on(async {
//! #     let broker = rafka_broker::testing::start(rafka_broker::Settings::default()).await;
//! #     rafka_broker::testing::create_topic(&broker, "orders", 3, &[]).await;
//! #     let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
//! #     let settings = rafka_grpc::Settings { listen, ..rafka_grpc::Settings::default() };
//! #     let clock = std::sync::Arc::new(rafka_core::SystemClock::new());
//! #     let node = rafka_grpc::start(&settings, broker, clock).await.expect("port 0 is free");
//! #     run(&node.local_addr().to_string()).await.expect("it is delivered");
//! # });
//! ```
#![warn(missing_docs)]

mod accumulator;
mod builder;
mod delivery;
mod error;
mod flight;
mod link;
mod metrics;
mod partitioner;
mod producer;
mod record;
mod sender;
mod settings;
mod shared;
mod transaction;

pub use builder::Builder;
pub use delivery::Delivery;
pub use error::{Error, Fate, Rejected};
pub use metrics::Metrics;
pub use partitioner::{Choose, Partitioner};
pub use producer::Producer;
pub use rafka_client::{GroupMetadata, TopicPartition};
pub use rafka_core::compression::Compression;
pub use record::{Record, RecordMetadata};
pub use settings::{Acks, Settings};
pub use transaction::{Transaction, TransactionalProducer};
