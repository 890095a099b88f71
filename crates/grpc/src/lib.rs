//! The native gRPC gateway.
