//! What those who run a node see: health, metrics, signals, the banner.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use rafka_core::{Clock as _, SystemClock, Time};

use crate::node::{LIMIT, Node, RAFKA, numbered, signal};
use crate::terminal::{read_until, terminal};

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
        .filter(|line| line.starts_with("| `rafka_"))
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
fn dashboards_of_kafka_exporter_find_their_metrics() {
    let page = include_str!("../../docs/reference/metrics.md");
    let documented: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `kafka_"))
        .filter_map(|line| Some(line.split_once(['`', '{'])?.0))
        .collect();
    let node = Node::start(&[]);
    node.ok(&["topic", "create", "t", "-p", "2"]);
    node.ok_with(&["produce", "t", "-K", ":"], &numbered("k", 0..100));
    node.ok(&["consume", "t", "-g", "g", "-c", "40"]);
    let (status, text) = node.get("/metrics/kafka");
    assert_eq!(status, 200);
    let shown: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE kafka_"))
        .filter_map(|line| Some(line.split_once(' ')?.0))
        .collect();
    assert_eq!(documented, shown);
    let sum = |prefix: &str| -> f64 {
        let lines = text.lines().filter(|line| line.starts_with(prefix));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let of_topic = |name: &str| {
        (0..2)
            .map(|index| sum(&format!("kafka_{name}{{partition=\"{index}\",topic=\"t\"}}")))
            .sum::<f64>()
    };
    assert_eq!(of_topic("topic_partition_current_offset").to_bits(), 100.0_f64.to_bits());
    assert_eq!(sum("kafka_topic_partitions{topic=\"t\"}").to_bits(), 2.0_f64.to_bits());
    let committed = sum("kafka_consumergroup_current_offset_sum{consumergroup=\"g\",topic=\"t\"}");
    let lag = sum("kafka_consumergroup_lag_sum{consumergroup=\"g\",topic=\"t\"}");
    assert!(40.0 <= committed && 0.0 < lag, "{text}");
    assert_eq!(text.matches("\nkafka_consumergroup_members{consumergroup=\"g\"}").count(), 1);
}

#[test]
fn the_banner_says_where_what_and_how_safe() {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let mut child = Command::new(RAFKA)
        .args([
            "serve",
            "--kafka-listen",
            "127.0.0.1:0",
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
fn a_second_signal_ends_a_stop_that_takes_long_and_loses_nothing() {
    let mut node = Node::start(&[]);
    node.ok(&["topic", "create", "t"]);
    node.ok_with(&["produce", "t"], "kept\n");
    // A client that began to speak HTTP/2 and fell silent: the stop waits a while for it.
    let mut silent = TcpStream::connect(node.grpc()).expect("it listens");
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("it reads");
    let mut answer = [0; 9];
    silent.read_exact(&mut answer).expect("the node answers with its settings");
    signal("TERM", node.pid());
    let clock = SystemClock::new();
    while node.get("/readyz").1 != "stopping\n" {
        assert!(clock.now() - Time::default() < LIMIT, "it does not begin to stop");
    }
    // Two that come together are one wish.
    signal("TERM", node.pid());
    let asked = clock.now();
    while clock.now() - asked < Duration::from_millis(400) {
        assert_eq!(node.get("/readyz").1, "stopping\n");
    }
    assert_eq!(node.stop().code(), Some(130));
    node.restart();
    assert_eq!(node.ok(&["consume", "t", "-e"]), "kept\n");
}

#[test]
fn an_interrupted_benchmark_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let (mut shown, end) = terminal();
    let mut child = Command::new(RAFKA)
        .args(["bench", "produce", "--seconds", "600", "--scratch"])
        .arg(dir.path())
        .env_remove("RAFKA_BROKERS")
        .stdin(Stdio::null())
        .stderr(end)
        .spawn()
        .expect("the program can be started");
    // It says so when its node runs.
    read_until(&mut shown, "round 1 of");
    signal("INT", child.id());
    assert_eq!(child.wait().expect("it can be waited for").code(), Some(130));
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0);
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
        .args(["--kafka-listen", "127.0.0.1:0"])
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

#[test]
fn the_metadata_file_is_shown_and_checked_as_the_others_are() {
    let mut node = Node::start(&[]);
    node.ok(&["topic", "create", "shown", "-p", "3"]);
    assert!(node.stop().success());
    let dir = node.data_dir();
    let file = dir.join("metadata.redb");
    let (dir, path) = (dir.to_str().expect("text"), file.to_str().expect("text"));
    let shown = node.ok(&["log", "dump", path]);
    assert!(shown.contains("topic shown: ") && shown.contains(", 3 partitions"), "{shown}");
    assert!(shown.contains("root: "), "{shown}");
    assert!(node.ok(&["log", "verify", dir]).contains("metadata.redb"));
    let mut bytes = std::fs::read(&file).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[..middle].fill(7);
    std::fs::write(&file, bytes).expect("it can be written");
    let damaged = node.run_command(&["log", "verify", dir]);
    damaged.failed(1, &["1 with data in doubt"]);
    assert!(damaged.stdout.contains("DAMAGED"), "{}", damaged.stdout);
}
