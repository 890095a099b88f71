//! What partitions cost that nobody uses.

use std::fs;

use crate::node::Node;

/// Resident memory in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("there is a /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is told");
    line.trim_end_matches("kB").trim().parse().expect("it is a number")
}

#[test]
fn ten_thousand_idle_partitions_are_cheap_and_restart_fast() {
    let mut node = Node::start(&[]);
    let before = resident(node.pid());
    for number in 0..10 {
        node.ok(&["topic", "create", &format!("idle-{number}"), "-p", "1000"]);
    }
    let grown = resident(node.pid()).saturating_sub(before);
    assert!(grown <= 20 << 10, "10 000 partitions took {grown} KiB");
    node.kill();
    node.restart();
    let log = node.log();
    let ready = log.lines().rev().find(|line| line.contains("\"ready\"")).expect("it is logged");
    let ready: serde_json::Value = serde_json::from_str(ready).expect("the log is JSON");
    let elapsed_ms = ready["elapsed_ms"].as_f64().expect("it is a number");
    // A release build promises one second; this is not one.
    assert!(elapsed_ms < 10_000.0, "the restart took {elapsed_ms} ms");
    node.ok_with(&["produce", "idle-7"], "still there\n");
    assert_eq!(node.ok(&["consume", "idle-7", "-e"]), "still there\n");
}
