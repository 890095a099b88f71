//! Chores of the workspace: tidy checks and code generation.

fn main() {}
