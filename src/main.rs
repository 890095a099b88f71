//! The one binary of Rafka.

fn main() {}
