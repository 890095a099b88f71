//! The consumer against a real node that lives in this process.

mod alone;
mod exactly_once;
mod faults;
mod groups;
mod node;
