//! Connections: their bounds, and what hostile ones can do to others.

use std::time::Duration;

use rafka_kafka::Settings;
use rafka_kafka_wire::{api_versions, metadata};
use tokio::io::AsyncWriteExt as _;

use crate::support::{Client, LIMIT, Node, batch, body, header, produce};

async fn is_served(client: &mut Client) -> bool {
    client.ask(0, &api_versions::Request::default()).await.is_some()
}

#[tokio::test]
async fn hostile_frames_close_their_connection_and_nothing_else() {
    let node = Node::start().await;
    let mut other = node.connect().await;
    let header = |key: u8, version: u8| vec![0, key, 0, version, 0, 0, 0, 1, 0xff, 0xff];
    let framed = |content: Vec<u8>| {
        let len = u32::try_from(content.len()).expect("short").to_be_bytes();
        [&len[..], &content].concat()
    };
    let huge = [0x7f, 0xff, 0xff, 0xff];
    let mut failed = 0;
    for (what, bytes) in [
        ("an endless length", huge.to_vec()),
        ("a negative length", vec![0xff; 4]),
        ("no length", vec![0; 4]),
        ("no header", framed(vec![0, 3])),
        ("an API that nobody knows", framed(header(200, 0))),
        ("an API that is not served", framed(header(17, 0))),
        ("a version that is not served", framed(header(1, 99))),
        ("a version that is only advertised", framed(header(0, 0))),
        ("2^31 topics", framed([header(3, 7), huge.to_vec()].concat())),
        ("2^28 tagged fields", framed([header(3, 9), vec![0xff, 0xff, 0xff, 0x7f]].concat())),
        ("text that is none", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ] {
        let mut client = node.connect().await;
        client.stream.write_all(&bytes).await.expect("it is taken");
        assert_eq!(client.frame().await, None, "{what}");
        assert!(is_served(&mut other).await, "after {what}");
        failed += 1;
        assert_eq!(node.listener.stats().connections_failed.count(), failed, "after {what}");
    }
    let requests = node.listener.stats().requests().find(|(api, _)| *api == "ApiVersions");
    assert_eq!(requests, Some(("ApiVersions", failed)));
}

#[tokio::test]
async fn bytes_behind_the_end_of_a_request_are_passed_over() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    // All topics by Metadata (3) in version 13, as librdkafka asks for them.
    let asked = b"\0\0\0\x12\0\x03\0\x0d\0\0\0\x07\xff\xff\0\0\0\0\0\0\0\0";
    client.stream.write_all(asked).await.expect("it is taken");
    let mut frame = client.frame().await.expect("answered");
    assert_eq!(header::<metadata::Request<'_>>(13, &mut frame), 7);
    let response: metadata::Response<'_> = body(13, &frame);
    assert_eq!(response.topics.len(), 1);
    assert!(is_served(&mut client).await);
}

#[tokio::test]
async fn connections_beyond_the_bounds_are_closed_and_the_others_serve() {
    let settings = Settings { connections_per_address_max: 2, ..Settings::default() };
    let node = Node::with(settings).await;
    let (mut first, mut second) = (node.connect().await, node.connect().await);
    assert!(is_served(&mut first).await && is_served(&mut second).await);
    let mut third = node.connect().await;
    assert_eq!(third.frame().await, None);
    assert_eq!(node.listener.connections().refused(), 1);
    drop(first);
    let returned = async {
        while node.listener.connections().open() == 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, returned).await.expect("its place is given back");
    assert!(is_served(&mut node.connect().await).await);
    assert!(is_served(&mut second).await);
}

#[tokio::test]
async fn who_asks_nothing_or_never_ends_asking_is_closed_in_time() {
    let short = Duration::from_millis(100);
    let settings =
        Settings { handshake_timeout: short, receive_timeout: short, ..Settings::default() };
    let node = Node::with(settings).await;
    let mut silent = node.connect().await;
    assert_eq!(silent.frame().await, None);
    let mut slow = node.connect().await;
    slow.stream.write_all(&[0, 0, 0, 50, 0, 18]).await.expect("it is taken");
    assert_eq!(slow.frame().await, None);
}

#[tokio::test]
async fn who_asks_nothing_any_more_is_closed_in_time() {
    let settings = Settings { idle_timeout: Duration::from_millis(100), ..Settings::default() };
    let node = Node::with(settings).await;
    let mut client = node.connect().await;
    assert!(is_served(&mut client).await);
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn a_stop_answers_what_was_appended() {
    let Node { broker, listener } = Node::start().await;
    let node = Node { broker, listener };
    let mut client = node.connect().await;
    assert!(is_served(&mut client).await);
    client.send(9, &produce(-1, 0, batch(&["last"]).to_bytes())).await;
    assert!(client.frame().await.is_some());
    let Node { broker, listener } = node;
    let stopped = listener.stop(LIMIT).await;
    assert_eq!(stopped.connections_cut, 0);
    assert_eq!(client.frame().await, None, "and then it is closed");
    drop(broker);
}
