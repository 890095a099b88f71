//! The producer against a node whose faults are scripted, and against a real one.

mod faults;
mod node;
mod scripted;
mod transactions;
