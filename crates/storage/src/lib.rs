//! The log engines of a node: journal, segments, sidecar, and the memory engine.
//!
//! An engine keeps logs: it appends batches, reads them back, and says when they are durable. It
//! knows nothing of topics' names, groups or who writes. No tokio here: calls either return at once
//! or block a thread, and each says which.

mod compaction;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
pub mod disk;
mod engine;
mod file;
mod handle_cache;
pub mod inspect;
pub mod journal;
mod manifest;
mod memory;
mod memory_limit;
mod per_lane;
pub mod redb_backend;
mod retention;
mod segment;
mod settings;
mod sidecar;
mod tail;

pub use engine::{
    AppendError, Appended, Bounds, CleanReport, Cleanup, Directory, Durability, Engine, Error,
    LogId, LogSettings, Observer, ReadError, Recovered, TimedOffset,
};
pub use file::{FileEngine, Started, Stats, Surroundings, abandon_journal};
pub use memory::MemoryEngine;
pub use memory_limit::memory_limit;
pub use settings::Settings;
pub use sidecar::SidecarStats;
