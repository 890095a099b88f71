//! The Rafka producer: give it records, it buffers, batches, compresses and sends them, and tells
//! where they were stored.
//!
//! With the defaults a record whose [`Delivery`] says `Ok` is on the disk of every in-sync replica,
//! is there once, and after all records that were sent before it to the same partition, whatever
//! connections and nodes broke in between.
//!
//! ```no_run
//! # async fn run() -> Result<(), rafka_producer::Error> {
//! use std::time::Duration;
//!
//! use rafka_producer::{Producer, Record};
//!
//! let producer = Producer::builder("127.0.0.1:9192").build()?;
//! let delivery = producer.send(Record::new("orders").key("customer-7").value("2 apples")).await?;
//! let stored = delivery.await?;
//! println!("partition {}, offset {:?}", stored.partition, stored.offset);
//! producer.close(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
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

pub use builder::Builder;
pub use delivery::Delivery;
pub use error::{Error, Fate, Rejected};
pub use metrics::Metrics;
pub use partitioner::{Choose, Partitioner};
pub use producer::Producer;
pub use rafka_core::compression::Compression;
pub use record::{Record, RecordMetadata};
pub use settings::{Acks, Settings};
