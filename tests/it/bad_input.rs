//! What strangers send.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::node::{LIMIT, Node, numbered, run};

/// Sends bytes and reads until the node closes the connection.
fn throw(node: &Node, bytes: &[u8]) {
    let mut stream = TcpStream::connect(node.grpc()).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("the limit is not zero");
    // The node may close while we still write: that is an answer too.
    let _closed = stream.write_all(bytes);
    let _closed = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
}

#[test]
fn bytes_that_are_no_grpc_close_their_connection_and_nothing_else() {
    let node = Node::start(&[]);
    node.ok(&["topic", "create", "t"]);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let huge_frame = [&preface[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat();
    let huge_kafka = [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 3];
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &huge_kafka, &huge_frame, &[0; 4096], b""] {
        throw(&node, bytes);
    }
    node.ok_with(&["produce", "t"], "fine\n");
    assert_eq!(node.ok(&["consume", "t", "-e"]), "fine\n");
    assert_eq!(node.get("/healthz").0, 200);
}

#[test]
fn names_that_cannot_be_are_refused_with_the_reason() {
    let node = Node::start(&[]);
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a/b", "a b", "ümlaut", &long] {
        let done = node.run_command(&["topic", "create", name]);
        done.failed(2, &["topic name"]);
    }
    node.ok(&["topic", "create", "known"]);
    for id in ["", "a\nb", &"x".repeat(1025)] {
        node.run_command(&["consume", "known", "-g", id, "-e"]).failed(2, &["group id"]);
    }
    for (config, said) in [
        ("retention.mss=1", "retention.ms"),
        ("retention.ms=soon", "retention.ms"),
        ("cleanup.policy=never", "cleanup.policy"),
    ] {
        let done = node.run_command(&["topic", "create", "t", "-c", config]);
        done.failed(1, &["INVALID_CONFIG", said]);
    }
    node.run_command(&["topic", "create", "t", "-p", "2000000000"])
        .failed(1, &["INVALID_PARTITIONS"]);
    node.run_command(&["topic", "create", "t", "-r", "3"])
        .failed(1, &["INVALID_REPLICATION_FACTOR"]);
}

#[test]
fn a_crowd_of_connections_leaves_the_files_to_storage() {
    let node = Node::start_with_files(300);
    node.ok(&["topic", "create", "t", "-p", "4"]);
    let crowd: Vec<TcpStream> = (0..400)
        .map(|_| TcpStream::connect(node.kafka()).expect("it listens, if only to refuse"))
        .collect();
    // More than what is written out at once.
    let lines = numbered(&"x".repeat(1000), 0..20_000);
    node.ok_with(&["produce", "t"], &lines);
    assert_eq!(node.ok(&["consume", "t", "-e"]).len(), lines.len());
    assert_eq!(node.get("/healthz").0, 200);
    let refused = node.get("/metrics").1;
    let refused = refused.lines().find(|line| {
        line.starts_with("rafka_listener_connections_refused") && line.contains("kafka")
    });
    assert!(refused.is_some_and(|line| !line.ends_with(" 0")), "{refused:?}");
    drop(crowd);
    assert!(node.log().contains("the process may open few files"));
}

#[test]
fn a_process_that_may_open_too_few_files_says_so_and_starts_nothing() {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let mut command = std::process::Command::new("sh");
    let start = "ulimit -n 100 && exec \"$0\" serve --data-dir \"$1\"";
    command.args(["-c", start, crate::node::RAFKA]).arg(dir.path().join("data"));
    run(command, "").failed(1, &["the process may open 100", "ulimit -n"]);
    assert!(!dir.path().join("data").exists());
}
