//! Health, readiness and metrics of a node over HTTP.
//!
//! Exact routes, no bodies in, one request a connection: nothing here can be made to wait or grow.

#![warn(missing_docs)]

mod connection;
mod metrics;
mod routes;
mod server;
mod settings;

pub use metrics::{Family, Gather, Page, Point, Value};
pub use server::{Handle, Metrics, StartError, State, start};
pub use settings::Settings;
