//! What a consumer promises when connections and nodes break.

use std::time::Duration;

use rafka_core::Offset;

use crate::node::{LIMIT, Node, all, append, assert_complete, poll_until, read, tp};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_and_comes_back_costs_no_record_and_doubles_none() {
    let mut node = Node::start(3).await;
    let consumer = node.consumer().poll_records_max(11).build().expect("sound settings");
    consumer.assign(&all(3)).expect("not subscribed");
    let producer = node.producer();
    let mut records = Vec::new();
    for round in 0..5 {
        append(&producer, 3, round * 300..(round + 1) * 300).await;
        // Dies with records given, records fetched and records on the way.
        records.extend(read(&consumer, 50).await);
        node.kill();
        if round % 2 == 0 {
            // A poll meets a node that is away.
            records.extend(consumer.poll(Duration::from_millis(30)).await.expect("no failure"));
        }
        node.restart();
    }
    records.extend(read(&consumer, 1500 - records.len()).await);
    assert_complete(&records, 3, 0..1500);
    assert!(0 < consumer.metrics().streams_lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_stays_a_member_while_its_node_is_restarted() {
    let mut node = Node::start(2).await;
    let consumer = node.member("g").poll_records_max(11).build().expect("sound settings");
    consumer.subscribe(&["t"]).await.expect("it has a group");
    let producer = node.producer();
    let mut records = Vec::new();
    for round in 0..3 {
        append(&producer, 2, round * 100..(round + 1) * 100).await;
        records.extend(read(&consumer, 20).await);
        node.kill();
        tokio::time::sleep(Duration::from_millis(50)).await;
        node.restart();
    }
    records.extend(read(&consumer, 300 - records.len()).await);
    assert_complete(&records, 2, 0..300);
    assert_eq!(consumer.metrics().rebalances, 1, "it kept its partitions");
    poll_until(&consumer, |consumer| consumer.is_at_end()).await;
    consumer.close(LIMIT).await.expect("committed and left");
    let successor = node.member("g").build().expect("sound settings");
    let committed = successor.committed(&[tp(0), tp(1)]).await.expect("known");
    assert_eq!(committed, [Some(Offset(150)), Some(Offset(150))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_without_a_node_ends_in_time_and_says_so() {
    let mut node = Node::start(1).await;
    node.append(1, 0..3).await;
    let patient = node.member("g").client(|client| client.retry.attempts_max = 1_000_000);
    let consumer = patient.build().expect("sound settings");
    consumer.subscribe(&["t"]).await.expect("it has a group");
    read(&consumer, 3).await;
    node.kill();
    let closed = consumer.close(Duration::from_millis(200)).await;
    assert!(matches!(closed, Err(rafka_consumer::Error::CloseTimedOut { .. })), "{closed:?}");
    let after = consumer.poll(LIMIT).await;
    assert!(matches!(after, Err(rafka_consumer::Error::Closed)), "{after:?}");
}
