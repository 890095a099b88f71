//! The Kafka gateway: translates Kafka's requests into the broker's operations and back.
//!
//! A file of `api` holds what one API needs and declares the versions that are served; what a client
//! is told of them is made from these declarations and from nothing else.

mod api;
mod connection;
mod gateway;
mod intake;
mod server;
mod session;
mod settings;
mod stats;

pub use server::{Bound, Handle, StartError, Stopped, bind};
pub use settings::Settings;
pub use stats::Stats;
