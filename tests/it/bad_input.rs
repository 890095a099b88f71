//! What strangers send.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::node::{LIMIT, Node};

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
