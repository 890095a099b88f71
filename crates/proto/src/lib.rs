//! The messages and services of Rafka's gRPC API, generated from `proto/`.
//!
//! `cargo xtask codegen` writes what is in `src/gen`; the API reference are the `.proto` files themselves.

pub mod codec;

#[rustfmt::skip]
#[path = "gen/rafka.v1.rs"]
pub mod v1;

/// The compiled `.proto` files (a `google.protobuf.FileDescriptorSet`), for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/rafka.v1.bin");
