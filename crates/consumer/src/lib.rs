//! The Rafka consumer: reads partitions alone or within a group.
//!
//! A record is given at least once: again only if it was not committed when a consumer failed or
//! partitions changed hands. As long as a consumer keeps a partition it gets each record of it once
//! and in order, whatever connections and nodes break.
//!
//! ```
//! # async fn run(address: &str) -> Result<(), rafka_consumer::Error> {
//! use std::time::Duration;
//!
//! use rafka_consumer::{Consumer, OffsetReset};
//!
//! let consumer = Consumer::builder(address)
//!     .group("billing")
//!     .offset_reset(OffsetReset::Earliest)
//!     .build()?;
//! consumer.subscribe(&["orders"]).await?;
//! # let mut read = 0;
//! for record in consumer.poll(Duration::from_secs(10)).await? {
//!     println!("{} at {}: {:?}", record.partition, record.offset, record.value);
//! #   read += 1;
//! }
//! # assert_eq!(read, 1);
//! consumer.commit().await?;
//! consumer.close(Duration::from_secs(10)).await?;
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
//! #     let address = node.local_addr().to_string();
//! #     let producer = rafka_producer::Producer::builder(&address).build().expect("valid");
//! #     let record = rafka_producer::Record::new("orders").value("2 apples");
//! #     producer.send(record).await.expect("it is taken").await.expect("it is stored");
//! #     run(&address).await.expect("it is read");
//! # });
//! ```
#![warn(missing_docs)]

mod budget;
mod builder;
mod commit;
mod consumer;
mod driver;
mod error;
mod fetcher;
mod member;
mod metrics;
mod partitions;
mod rebalance;
mod record;
mod settings;
mod shared;

pub use builder::Builder;
pub use consumer::Consumer;
pub use error::Error;
pub use metrics::Metrics;
pub use rafka_client::admin::{Isolation, OffsetSpec};
pub use rafka_client::{GroupMetadata, TopicPartition};
pub use rafka_core::assignor::Assignor;
pub use rebalance::Rebalance;
pub use record::ConsumerRecord;
pub use settings::{OffsetReset, Settings};
