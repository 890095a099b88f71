//! The log engines of a node: journal, segments, sidecar, and the memory engine.
//!
//! An engine keeps logs: it appends batches, reads them back, and says when they are durable. It
//! knows nothing of topics' names, groups or who writes. No tokio here: calls either return at once
//! or block a thread, and each says which.

mod engine;

pub use engine::{
    AppendError, Appended, Bounds, CleanReport, Cleanup, Durability, Engine, Error, LogId,
    LogSettings, Observer, ReadError, Recovered, TimedOffset,
};
