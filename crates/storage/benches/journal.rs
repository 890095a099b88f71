//! What the journal gains over append and fdatasync.

fn main() {}
