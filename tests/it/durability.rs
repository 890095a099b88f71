//! Acked means kept: through kills, stops and starts.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::node::{Node, numbered};

/// The numbers of each key, in the order of reading.
fn by_key(lines: &str) -> BTreeMap<String, Vec<u32>> {
    let mut read: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for line in lines.lines() {
        let (key, number) = line.split_once(':').expect("we wrote key:number");
        read.entry(key.to_owned()).or_default().push(number.parse().expect("we wrote a number"));
    }
    read
}

#[test]
fn what_was_acked_survives_sigkill_once_and_in_order() {
    const ROUND: u32 = 4000;
    let mut node = Node::start(&[]);
    node.ok(&["topic", "create", "ledger", "-p", "3"]);
    for round in 0..3 {
        // The consumer's output is the signal that records arrive while the producers write.
        let mut watcher = node
            .command(&["consume", "ledger", "-o", "end", "-c", "1"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let producers: Vec<_> = ["x", "y"]
            .map(|key| {
                let args = ["produce", "ledger", "-K", ":", "--timeout", "60 s"];
                let command = node.command(&args);
                let input = numbered(key, round * ROUND..(round + 1) * ROUND);
                std::thread::Builder::new().spawn(move || crate::node::run(command, &input))
            })
            .into_iter()
            .collect::<Result<_, _>>()
            .expect("threads are there");
        let mut first = String::new();
        let output = watcher.stdout.take().expect("it was piped");
        BufReader::new(output).read_line(&mut first).expect("it prints text");
        assert!(!first.is_empty(), "no record arrived in round {round}");
        watcher.wait().expect("it can be waited for");
        node.kill();
        node.restart();
        for producer in producers {
            producer.join().expect("it does not panic").ok("produce");
        }
    }
    let all: Vec<u32> = (0..3 * ROUND).collect();
    let read = by_key(&node.ok(&["consume", "ledger", "-e", "-f", "%k:%s\n"]));
    assert_eq!(read.keys().collect::<Vec<_>>(), ["x", "y"]);
    for (key, numbers) in read {
        assert!(numbers == all, "{key}: something is lost, doubled or out of order");
    }
}

#[test]
fn a_stop_in_order_ends_well_and_keeps_everything() {
    let mut node = Node::start(&[]);
    node.ok(&["topic", "create", "t", "-p", "2"]);
    node.ok_with(&["produce", "t", "-K", ":"], &numbered("k", 0..500));
    assert_eq!(node.ok(&["consume", "t", "-g", "g", "-e"]).lines().count(), 500);
    assert_eq!(node.stop().code(), Some(0));
    let dir = node.data_dir();
    let verified = node.ok(&["log", "verify", dir.to_str().expect("temporary names are text")]);
    assert!(!verified.is_empty());
    node.restart();
    assert_eq!(node.ok(&["consume", "t", "-e"]).lines().count(), 500);
    assert_eq!(node.ok(&["consume", "t", "-g", "g", "-e"]), "", "the group's offsets are kept");
}

#[test]
fn a_node_stops_while_producers_write_and_they_lose_nothing() {
    let mut node = Node::start(&[]);
    node.ok(&["topic", "create", "t", "-p", "1"]);
    let command = node.command(&["produce", "t", "-K", ":", "--timeout", "60 s"]);
    let input = numbered("k", 0..20_000);
    let producer = std::thread::Builder::new().spawn(move || crate::node::run(command, &input));
    node.ok(&["consume", "t", "-c", "1"]);
    assert_eq!(node.stop().code(), Some(0));
    node.restart();
    producer.expect("threads are there").join().expect("it does not panic").ok("produce");
    let read = by_key(&node.ok(&["consume", "t", "-e", "-f", "%k:%s\n"]));
    assert!(read["k"] == (0..20_000).collect::<Vec<_>>(), "something is lost or doubled");
}

#[test]
fn the_memory_engine_says_that_it_keeps_nothing() {
    let mut node = Node::start(&["--engine", "memory"]);
    node.ok(&["topic", "create", "t"]);
    node.ok_with(&["produce", "t"], "gone soon\n");
    assert_eq!(node.ok(&["consume", "t", "-e"]), "gone soon\n");
    assert_eq!(node.stop().code(), Some(0));
    node.restart();
    assert_eq!(node.ok(&["topic", "list", "--output", "json"]).trim(), "[]");
}

#[test]
fn a_deleted_and_recreated_topic_is_empty() {
    let mut node = Node::start(&[]);
    for _ in 0..2 {
        node.ok(&["topic", "create", "t", "-p", "1"]);
        node.ok_with(&["produce", "t"], "old\n");
        node.ok(&["topic", "delete", "t"]);
    }
    node.ok(&["topic", "create", "t", "-p", "1"]);
    assert_eq!(node.ok(&["consume", "t", "-e"]), "");
    node.kill();
    node.restart();
    assert_eq!(node.ok(&["consume", "t", "-e"]), "", "nor does a restart bring old records back");
}

#[test]
fn a_directory_that_lost_its_metadata_is_refused_by_name_and_serves_again_with_it() {
    let mut node = Node::start(&[]);
    node.ok(&["topic", "create", "t"]);
    node.ok_with(&["produce", "t"], "kept\n");
    assert_eq!(node.stop().code(), Some(0));
    let metadata = node.data_dir().join("metadata.redb");
    let content = std::fs::read(&metadata).expect("it is there");
    std::fs::remove_file(&metadata).expect("it is there");
    let dir = node.data_dir();
    let dir = dir.to_str().expect("temporary names are text");
    let free = "127.0.0.1:0";
    let listeners = ["--grpc-listen", free, "--kafka-listen", free, "--http-listen", free];
    node.run_command(&[&["serve", "--data-dir", dir], &listeners[..]].concat())
        .failed(1, &["metadata.redb is missing, although the directory holds 1 log"]);
    std::fs::write(&metadata, content).expect("the disk works");
    node.restart();
    assert_eq!(node.ok(&["consume", "t", "-e"]), "kept\n");
}
