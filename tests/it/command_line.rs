//! What each command does, prints and ends with.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use serde_json::Value;

use crate::node::{Node, numbered, rafka};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[test]
fn topics_are_created_listed_described_altered_grown_and_deleted() {
    let node = Node::start(&[]);
    node.ok(&["topic", "create", "orders", "-p", "3", "-c", "retention.ms=60000"]);
    node.run_command(&["topic", "create", "orders"]).failed(1, &["orders", "TOPIC_ALREADY_EXISTS"]);
    node.ok(&["topic", "create", "orders", "--if-not-exists"]);

    let list = json(&node.ok(&["topic", "list", "--output", "json"]));
    assert_eq!(list[0]["topic"], "orders");
    assert_eq!(list[0]["partitions"], 3);
    assert!(node.ok(&["topic", "list"]).starts_with("TOPIC"));
    assert!(node.ok(&["topic", "list", "--output", "yaml"]).contains("topic: orders"));

    let config = |key: &str| {
        let described = json(&node.ok(&["topic", "describe", "orders", "--output", "json"]));
        let configs = described["configs"].as_array().expect("a list").clone();
        let found = configs.into_iter().find(|config| config["key"] == key).expect(key);
        (found["value"].as_str().expect("text").to_owned(), found["default"] == true)
    };
    assert_eq!(config("retention.ms"), ("60000".to_owned(), false));
    node.ok(&[
        "topic",
        "alter",
        "orders",
        "-c",
        "cleanup.policy=compact",
        "--reset",
        "retention.ms",
    ]);
    assert_eq!(config("cleanup.policy"), ("compact".to_owned(), false));
    assert!(config("retention.ms").1, "it has its default again");

    node.ok(&["topic", "add-partitions", "orders", "-p", "5"]);
    let described = json(&node.ok(&["topic", "describe", "orders", "--output", "json"]));
    assert_eq!(described["partitions"].as_array().map(Vec::len), Some(5));
    node.run_command(&["topic", "add-partitions", "orders", "-p", "4"])
        .failed(1, &["INVALID_PARTITIONS"]);

    node.ok(&["topic", "delete", "orders"]);
    assert_eq!(json(&node.ok(&["topic", "list", "--output", "json"])), json("[]"));
    node.run_command(&["topic", "describe", "orders"]).failed(6, &["orders", "rafka topic list"]);
}

#[test]
fn records_come_back_as_they_were_in_every_format() {
    let node = Node::start(&[]);
    node.ok(&["topic", "create", "t", "-p", "2"]);
    node.ok_with(&["produce", "t", "-K", ":", "-H", "trace=7"], "a:1\nb:2\na:3\n");
    node.ok_with(&["produce", "t", "--partition", "0"], "plain\n");

    let mut lines: Vec<_> = node
        .ok(&["consume", "t", "-e", "-f", "%k=%s|%K|%S|%h\\n"])
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(lines, ["=plain|-1|5|", "a=1|1|1|trace=7", "a=3|1|1|trace=7", "b=2|1|1|trace=7"]);

    let of_a: String = node.ok(&["consume", "t", "-e", "-J"]);
    let of_a: Vec<Value> = of_a.lines().map(json).filter(|record| record["key"] == "a").collect();
    assert_eq!(of_a.len(), 2);
    assert_eq!((&of_a[0]["payload"], &of_a[1]["payload"]), (&json("\"1\""), &json("\"3\"")));
    assert_eq!(of_a[0]["partition"], of_a[1]["partition"], "equal keys share a partition");
    assert_eq!(of_a[0]["headers"], json("[\"trace\",\"7\"]"));

    node.run_command(&["consume", "t", "-e", "-f", "%q"]).failed(2, &["%q is no verb"]);
    node.run_command(&["consume", "none", "-e"]).failed(6, &["none"]);
}

#[test]
fn consuming_begins_and_ends_where_it_is_told_to() {
    let node = Node::start(&[]);
    node.ok(&["topic", "create", "t", "-p", "1"]);
    node.ok_with(&["produce", "t"], "0\n1\n2\n3\n4\n");
    let check = |args: &[&str], expected: &str| {
        let args = [&["consume", "t"], args].concat();
        assert_eq!(node.ok(&args).replace('\n', " ").trim_end(), expected, "{args:?}");
    };
    check(&["-e"], "0 1 2 3 4");
    check(&["-e", "-o", "beginning"], "0 1 2 3 4");
    check(&["-e", "-o", "end"], "");
    check(&["-e", "-o", "3"], "3 4");
    check(&["-e", "-o", "-2"], "3 4");
    check(&["-e", "-o", "-99"], "0 1 2 3 4");
    check(&["-c", "2"], "0 1");
    check(&["-e", "-p", "0", "-c", "1", "-o", "-1"], "4");
    check(&["-e", "-o", "5"], "");
    node.run_command(&["consume", "t", "-e", "-o", "6"]).failed(1, &["t/0 ends at offset 5"]);
    node.run_command(&["consume", "t", "-e", "-p", "1"]).failed(6, &["no partition 1"]);
    node.run_command(&["consume", "t", "-e", "-p", "-1"]).failed(2, &["-1 is not in 0.."]);
}

#[test]
fn every_codec_is_written_and_read() {
    let node = Node::start(&[]);
    let input = numbered("key", 0..2000);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        node.ok(&["topic", "create", codec, "-p", "1"]);
        node.ok_with(&["produce", codec, "--compression", codec], &input);
        assert_eq!(node.ok(&["consume", codec, "-e"]), input, "{codec}");
    }
}

#[test]
fn groups_remember_can_be_moved_and_deleted() {
    let node = Node::start(&[]);
    node.ok(&["topic", "create", "t", "-p", "2"]);
    node.ok_with(&["produce", "t", "-K", ":"], &numbered("k", 0..10));
    let consume = || node.ok(&["consume", "t", "-g", "g", "-e"]).lines().count();
    assert_eq!(consume(), 10);
    assert_eq!(consume(), 0, "everything was committed");

    let lag = |group: &str| -> u64 {
        let lag = json(&node.ok(&["group", "lag", group, "--output", "json"]));
        lag.as_array().expect("a list").iter().filter_map(|row| row["lag"].as_u64()).sum()
    };
    assert_eq!(lag("g"), 0);
    let groups = json(&node.ok(&["group", "list", "--output", "json"]));
    assert_eq!(groups[0]["group"], "g");
    node.ok(&["group", "seek", "g", "--topic", "t", "--to", "beginning"]);
    assert_eq!(lag("g"), 10);
    assert_eq!(consume(), 10);
    assert!(node.ok(&["group", "describe", "g"]).contains("Empty"));
    let behind = node.run_command(&["group", "seek", "g", "-t", "t", "--to", "99"]);
    behind.failed(1, &["99 is outside", "nothing was moved"]);
    assert_eq!(lag("g"), 0);

    node.ok(&["group", "delete", "g"]);
    node.run_command(&["group", "describe", "g"])
        .failed(6, &["group g", "GROUP_ID_NOT_FOUND", "rafka group list"]);
    assert_eq!(consume(), 10, "a deleted group begins anew");
}

#[test]
fn a_member_commits_what_it_printed_and_nothing_beyond_its_count() {
    let node = Node::start(&[]);
    node.ok(&["topic", "create", "t", "-p", "2"]);
    node.ok_with(&["produce", "t"], &numbered("k", 0..1000));
    // More than one look for records gives: the last one gives more than is wanted.
    let first = node.ok(&["consume", "t", "-g", "g", "-c", "700"]);
    assert_eq!(first.lines().count(), 700);
    let rest = node.ok(&["consume", "t", "-g", "g", "-e"]);
    assert_eq!(rest.lines().count(), 300, "what was not printed is still to be consumed");
}

#[test]
fn a_group_with_members_is_not_moved() {
    let node = Node::start(&[]);
    node.ok(&["topic", "create", "t", "-p", "1"]);
    node.ok_with(&["produce", "t"], "one\n");
    let mut member = node.command(&["consume", "t", "-g", "g"]);
    let mut member = member.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    let printed = member.stdout.as_mut().expect("it was piped");
    BufReader::new(printed).read_line(&mut line).expect("it prints text");
    assert_eq!(line, "one\n");
    node.run_command(&["group", "seek", "g", "-t", "t", "--to", "end"])
        .failed(1, &["group g has 1 member", "stop the group's consumers first"]);
    member.kill().expect("it can be killed");
    member.wait().expect("it can be waited for");
}

#[test]
fn what_nobody_acknowledges_is_not_called_acknowledged() {
    let node = Node::start(&[]);
    node.ok(&["topic", "create", "t", "-p", "1"]);
    let done = crate::node::run(node.command(&["produce", "t", "--acks", "none"]), "a\nb\n");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("2 records sent"), "{done:?}");
    assert!(!done.stderr.contains("acknowledged"), "{done:?}");
}

#[test]
fn produce_ends_badly_unless_every_record_was_acknowledged() {
    let node = Node::start(&[]);
    node.ok(&["topic", "create", "small", "-p", "1", "-c", "max.message.bytes=1000"]);
    let done = crate::node::run(node.command(&["produce", "small"]), &"x".repeat(5000));
    done.failed(1, &["line 1: ", "MESSAGE_TOO_LARGE", "0 records acknowledged, 1 not"]);
    node.ok_with(&["produce", "small"], "fine\n");
    assert_eq!(node.ok(&["consume", "small", "-e"]), "fine\n");
}

#[test]
fn produce_stops_reading_when_the_node_takes_nothing_any_more() {
    let mut node = Node::start(&[]);
    node.ok(&["topic", "create", "t", "-p", "1"]);
    let mut command = node.command(&["produce", "t", "--timeout", "1 s"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut input = child.stdin.take().expect("it was piped");
    input.write_all(b"before\n").expect("it reads");
    while node.ok(&["consume", "t", "-e"]).is_empty() {}
    node.kill();
    // It reads on until the first record has run out of time.
    while input.write_all(b"after\n").is_ok() {}
    let output = child.wait_with_output().expect("it can be waited for");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("and those behind it were not sent"), "{said}");
}

#[test]
fn a_node_that_is_not_there_is_named_with_what_to_do() {
    // Port 1 is reserved and closed on every machine.
    rafka(&["topic", "list", "-b", "127.0.0.1:1", "--timeout", "2 s"])
        .failed(4, &["127.0.0.1:1", "hint: does a node speak gRPC", "rafka dev"]);
    rafka(&["topic", "list", "-b", "nonsense"]).failed(2, &["nonsense", "the port is missing"]);
    rafka(&["topic", "frobnicate"]).failed(2, &["frobnicate"]);
    rafka(&["topic", "alter", "t"]).failed(2, &["--config", "--reset"]);
}

#[test]
fn what_needs_no_node_works_without_one() {
    assert!(rafka(&["version"]).ok("version").contains(env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish"] {
        assert!(rafka(&["completions", shell]).ok(shell).contains("add-partitions"), "{shell}");
    }
    assert!(rafka(&["--help"]).ok("help").contains("produce"));
}

#[test]
fn a_benchmark_that_cannot_be_run_leaves_nothing_behind() {
    let node = Node::start(&[]);
    for protocol in ["kafka", "both"] {
        node.run_command(&["bench", "produce", "--protocol", protocol]).failed(2, &["--brokers"]);
    }
    assert_eq!(json(&node.ok(&["topic", "list", "--output", "json"])), json("[]"));
}

#[test]
fn benchmarks_run_and_print_ratios_to_the_machines_limits() {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let scratch = dir.path().to_str().expect("temporary names are text");
    let common = [
        "--seconds",
        "1",
        "--rounds",
        "1",
        "--scratch",
        scratch,
        "--output",
        "json",
        "-q",
        "--protocol",
        "both",
    ];
    for (workload, flags) in [
        ("produce", &["--durability", "both", "--connections", "2", "--partitions", "4"][..]),
        ("consume", &["--rate", "2000"]),
        ("e2e", &["--rate", "500", "--size", "100"]),
    ] {
        let args = [&["bench", workload][..], flags, &common].concat();
        let report = json(&rafka(&args).ok(&args));
        let summary = report["summary"].as_array().expect("a list");
        let of_kafka = summary
            .iter()
            .filter(|row| row["what"].as_str().is_some_and(|what| what.starts_with("kafka ")));
        assert_eq!(2 * of_kafka.count(), summary.len(), "{report}");
        assert!(!summary.is_empty(), "{report}");
        for row in summary {
            assert!(0.0 < row["ratio_to_limit"].as_f64().expect("a number"), "{row}");
            assert!(row["server_cpu_us_per_record"].is_number(), "{row}");
        }
    }
    let few = ["bench", "idle", "--partitions", "10", "--hot", "2", "--seconds", "1"];
    let args = [&few[..], &["--scratch", scratch, "--output", "json", "-q"]].concat();
    let report = json(&rafka(&args).ok(&args));
    for ratio in [
        "ready_to_empty_process",
        "ready_to_empty_process_with_partitions",
        "hot_ratio_with_partitions",
        "hot_ratio_to_limit",
        "hot_ratio_to_limit_with_partitions",
        "hot_p99_ratio_with_partitions",
    ] {
        assert!(0.0 < report[ratio].as_f64().expect("a number"), "{ratio} in {report}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0, "all is cleaned up");
}

#[test]
fn the_demo_fits_a_screen_and_every_check_holds() {
    let shown = rafka(&["demo", "--seconds", "1"]).ok("demo");
    assert!(shown.lines().count() <= 25, "{shown}");
    let checks = shown.lines().filter(|line| line.starts_with("ok  ")).count();
    assert_eq!(checks, 5, "{shown}");
}
