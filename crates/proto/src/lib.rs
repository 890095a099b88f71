//! Generated gRPC messages and services of Rafka.
