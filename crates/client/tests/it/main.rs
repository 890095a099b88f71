//! The client against a node that fails as told, and against a real one.

mod admin;
mod flaky;
mod retries;
