//! The Rafka consumer: reads the partitions that its group gives it, or those that it is told to.
//!
//! Records of a partition come in order and, within one assignment, once. What was processed is
//! committed to the group; after a crash or a rebalance reading goes on from the last commit, so
//! that every record is processed at least once.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use rafka_consumer::{Consumer, OffsetReset};
//!
//! let mut consumer = Consumer::builder("127.0.0.1:9192")
//!     .group("billing")
//!     .offset_reset(OffsetReset::Earliest)
//!     .build()?;
//! consumer.subscribe(&["orders"]).await?;
//! for record in consumer.poll(Duration::from_secs(1)).await? {
//!     println!("{} {}: {:?}", record.partition, record.offset, record.value);
//! }
//! consumer.close(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]

mod budget;
mod builder;
mod consumer;
mod error;
mod fetcher;
mod member;
mod metrics;
mod partitions;
mod rebalance;
mod record;
mod settings;

pub use builder::Builder;
pub use consumer::{CloseTimedOut, Consumer};
pub use error::Error;
pub use metrics::Metrics;
pub use rafka_client::TopicPartition;
pub use rafka_client::admin::{Isolation, OffsetSpec};
pub use rafka_core::assignor::Assignor;
pub use rebalance::Rebalance;
pub use record::ConsumerRecord;
pub use settings::{OffsetReset, Settings};
