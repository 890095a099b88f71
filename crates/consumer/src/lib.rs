//! The Rafka consumer: reads partitions alone or within a group.
//!
//! A record is given at least once: again only if it was not committed when a consumer failed or
//! partitions changed hands. As long as a consumer keeps a partition it gets each record of it once
//! and in order, whatever connections and nodes break.
//!
//! ```no_run
//! # async fn run() -> Result<(), rafka_consumer::Error> {
//! use std::time::Duration;
//!
//! use rafka_consumer::{Consumer, OffsetReset};
//!
//! let consumer = Consumer::builder("127.0.0.1:9192")
//!     .group("billing")
//!     .offset_reset(OffsetReset::Earliest)
//!     .build()?;
//! consumer.subscribe(&["orders"]).await?;
//! for record in consumer.poll(Duration::from_secs(1)).await? {
//!     println!("{} at {}: {:?}", record.partition, record.offset, record.value);
//! }
//! consumer.commit().await?;
//! consumer.close(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
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
