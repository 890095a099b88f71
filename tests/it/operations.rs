//! What those who run a node see: health, metrics, signals, the banner.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::node::{Node, RAFKA, numbered, signal};

#[test]
fn health_and_readiness_are_told_over_http() {
    let node = Node::start(&[]);
    assert_eq!(node.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(node.get("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(node.get("/elsewhere").0, 404);
}

#[test]
fn metrics_count_what_the_node_does() {
    let node = Node::start(&[]);
    node.ok(&["topic", "create", "t", "-p", "2"]);
    node.ok_with(&["produce", "t", "-K", ":"], &numbered("k", 0..100));
    node.ok(&["consume", "t", "-g", "g", "-c", "40"]);
    let (status, text) = node.get("/metrics");
    assert_eq!(status, 200);
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
    };
    assert!(100.0 <= value("rafka_broker_produce_records_total "));
    assert!(0.0 < value("rafka_broker_produce_seconds_count "));
    assert!(0.0 < value("rafka_broker_fetch_bytes_total "));
    assert!(0.0 < value("rafka_journal_writes_total{lane=\"fsync\"} "));
    assert!(0.0 < value("rafka_sidecar_hits_total "));
    assert!(2.0 <= value("rafka_broker_partitions "));
    assert!(0.0 < value("rafka_group_lag_records{group=\"g\",topic=\"t\"} "));
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn the_page_of_metrics_lists_what_a_node_shows() {
    let page = include_str!("../../docs/reference/metrics.md");
    let documented: BTreeSet<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split_once("` | "))
        .filter_map(|(name, rest)| Some((name, rest.split(" |").next()?)))
        .collect();
    let node = Node::start(&[]);
    node.ok(&["topic", "create", "t"]);
    node.ok_with(&["produce", "t"], "1\n");
    node.ok(&["consume", "t", "-g", "g", "-e"]);
    let text = node.get("/metrics").1;
    let shown: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split_once(' '))
        .collect();
    assert_eq!(documented, shown);
}

#[test]
fn the_banner_says_where_what_and_how_safe() {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let mut child = Command::new(RAFKA)
        .args([
            "serve",
            "--grpc-listen",
            "127.0.0.1:0",
            "--http-listen",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(dir.path().join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program can be started");
    let mut banner = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("it was piped"));
    while !banner.contains("ready in") {
        assert_ne!(lines.read_line(&mut banner).expect("it prints text"), 0, "{banner}");
    }
    for part in ["grpc", "http", "data", "acked means on disk", "security  off", "founded just now"]
    {
        assert!(banner.contains(part), "{part:?} is not in {banner}");
    }
    signal("INT", child.id());
    assert_eq!(child.wait().expect("it can be waited for").code(), Some(0));
}

#[test]
fn the_log_is_one_json_object_a_line_where_no_person_watches() {
    let mut node = Node::start(&[]);
    assert!(node.stop().success());
    let log = node.log();
    assert!(log.contains("\"ready\"") && log.contains("\"stopped\""), "{log}");
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(event["level"].is_string(), "{line}");
    }
}

#[test]
fn a_node_stops_when_the_program_that_started_it_is_gone() {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let mut child = Command::new(RAFKA)
        .args(["serve", "--stop-with-stdin", "--output", "json", "--grpc-listen", "127.0.0.1:0"])
        .args(["--http-listen", "127.0.0.1:0", "--data-dir"])
        .arg(dir.path().join("data"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program can be started");
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("it was piped"));
    lines.read_line(&mut line).expect("it prints text");
    drop(child.stdin.take());
    assert_eq!(child.wait().expect("it can be waited for").code(), Some(0));
}
