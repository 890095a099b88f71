//! Calendars that are wrong: the node's, and those of its clients.

use rafka_broker::offsets::Spec;
use rafka_core::{ErrorCode, Timestamp};

use crate::client::{batch, bound, code, produce, produced, read_all};
use crate::node::{Node, TODAY, small};

const HOUR: i64 = 3_600_000;
/// Far less than the calendars are off.
const RETENTION: (&str, &str) = ("retention.ms", "600000");

/// What is left of a record after cleaning, when the node's calendar was off by `at_append` when
/// it came and is off by `at_cleaning` when the log is cleaned.
async fn is_kept(client_off: i64, at_append: i64, at_cleaning: i64) -> bool {
    let node = Node::new(small()).await;
    let configs = [RETENTION, ("segment.ms", "1000")];
    let topic = node.create_topic("orders", 1, &configs).await;
    node.place.clock.set_off(at_append);
    let stamp = Timestamp(node.place.clock.truth().0 + client_off);
    produce(&node, &topic, batch(stamp, b"v")).await.expect("it is taken");
    node.engine.flush().expect("the disk works");
    node.place.clock.set_off(at_cleaning);
    node.broker.clean().await;
    read_all(&node, &topic, 0).await.len() == 1
}

#[tokio::test(start_paused = true)]
async fn no_wrong_calendar_makes_retention_delete_early() {
    for (client_off, at_append, at_cleaning) in [
        (0, 0, 0),
        // The node's calendar goes back, and forth again.
        (0, 0, -HOUR),
        (0, -HOUR, 0),
        (0, -HOUR, -HOUR),
        // The client's is behind or ahead.
        (-HOUR, 0, 0),
        (HOUR, 0, 0),
        // The node's jumps ahead, before or after the record came.
        (0, HOUR, HOUR),
        (0, 0, HOUR),
        (-HOUR, 0, HOUR),
    ] {
        assert!(
            is_kept(client_off, at_append, at_cleaning).await,
            "client {client_off}, node {at_append} at the append, {at_cleaning} at the cleaning"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_old_goes_in_its_time() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[RETENTION, ("segment.ms", "1000")]).await;
    produced(&node, &topic, b"old").await;
    node.engine.flush().expect("the disk works");
    tokio::time::advance(std::time::Duration::from_secs(599)).await;
    node.broker.clean().await;
    assert_eq!(read_all(&node, &topic, 0).await.len(), 1);
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    node.broker.clean().await;
    assert_eq!(read_all(&node, &topic, 0).await.len(), 0);
    assert_eq!(bound(&node, &topic, 0, Spec::Earliest).await, 1);
}

#[tokio::test]
async fn timestamps_are_refused_or_found_again_whatever_they_are() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    for (timestamp, accepted) in [
        (TODAY, true),
        (Timestamp::NONE, true),
        (Timestamp(0), true),
        (Timestamp(TODAY.0 - 5 * HOUR), true),
        (Timestamp(TODAY.0 + HOUR / 2), true),
        (TODAY, true),
        (Timestamp(TODAY.0 + 2 * HOUR), false),
        (Timestamp(i64::MAX), false),
        (Timestamp(-2), false),
        (Timestamp(i64::MIN), false),
    ] {
        let result = produce(&node, &topic, batch(timestamp, b"v")).await;
        let expected = (!accepted).then_some(ErrorCode::InvalidTimestamp);
        assert_eq!(code(&result), expected, "{timestamp}");
    }
    let mut node = node;
    for is_on_disk in [false, true] {
        if is_on_disk {
            node.engine.flush().expect("the disk works");
            node = node.kill().await;
        }
        for (at, expected) in [
            (i64::MIN, 0),
            (-1, 0),
            (0, 0),
            (TODAY.0, 0),
            (TODAY.0 + 1, 4),
            (TODAY.0 + HOUR / 2, 4),
            (TODAY.0 + HOUR / 2 + 1, -1),
            (i64::MAX, -1),
        ] {
            let found = bound(&node, &topic, 0, Spec::At(Timestamp(at))).await;
            assert_eq!(found, expected, "at {at}, on disk: {is_on_disk}");
        }
    }
}
