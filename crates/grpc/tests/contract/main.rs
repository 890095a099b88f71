//! What the API promises, asked over a socket of a node that keeps its logs in memory.

mod admin;
mod fetch;
mod groups;
mod produce;
mod server;
mod subscribe;
mod support;
