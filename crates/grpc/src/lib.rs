//! The native gRPC gateway: `rafka.v1` over HTTP/2, each call translated into the broker's operations.
//!
//! The API is described in `proto/rafka/v1`. This crate keeps what comes in within bounds (see
//! [`Settings`]), translates, and knows nothing of logs or groups itself.

mod admin;
mod connection;
mod convert;
mod gateway;
mod groups;
mod intake;
mod log;
mod server;
mod settings;
mod transactions;

pub use server::{Bound, Handle, StartError, Stopped, bind, start};
pub use settings::Settings;
