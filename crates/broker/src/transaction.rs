//! Transactions: who may write in one, which partitions belong to it, and how it ends (KIP-98).
//!
//! A transactional id lives on the leader of one partition of `__transaction_state`, which holds all
//! that must be remembered of it. The logic is one pure machine per id (`machine`, with its ends in
//! `end`); the task behind the [`Coordinator`] owns the machines, their timers, log and markers.

mod coordinator;
mod end;
mod loader;
mod machine;
mod ops;
mod record;
mod settings;
mod surroundings;

pub use coordinator::Coordinator;
pub use ops::{
    AddOffsets, AddPartitions, Description, End, Filter, Init, Listing, Partition, State,
};
pub use record::TRANSACTIONS_TOPIC;
pub use settings::Settings;
pub(crate) use surroundings::{Order, Surroundings};

#[cfg(test)]
mod tests;
