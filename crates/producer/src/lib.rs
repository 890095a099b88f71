//! The Rafka producer.
#![warn(missing_docs)]

mod accumulator;
mod delivery;
mod error;
mod flight;
mod partitioner;
mod record;
mod settings;

pub use delivery::Delivery;
pub use error::{Error, Fate, Rejected};
pub use partitioner::{Choose, Partitioner};
pub use record::{Record, RecordMetadata};
pub use settings::{Acks, Settings};
