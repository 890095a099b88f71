//! Taking a partition over: logs that cannot be read, and topics that are gone.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_is_not_served_until_it_can() {
    let log = MemoryLog::new();
    let before = Node::leading(&log, 1).await;
    before.commit(5).await.expect("the log takes it");
    let whole = log.damage();
    let after = Node::leading(&log, 2).await;
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(code(after.commit(6).await), 14, "offsets must not go back unseen");
    log.partitions.lock().insert(partition_of(&group_id("g"), PARTITIONS), whole);
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(after.fetched().await, Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_is_tried_less_and_less_but_every_minute() {
    let log = MemoryLog::new();
    Node::leading(&log, 1).await.commit(5).await.expect("the log takes it");
    let whole = log.damage();
    let partition = partition_of(&group_id("g"), PARTITIONS);
    let node = Node::start(&log, Settings::default());
    log.reads.lock().clear();
    node.coordinator.lead(partition, Epoch(2)).await;
    tokio::time::sleep(600 * SECOND).await;
    let reads = log.reads.lock().clone();
    let pauses: Vec<Duration> = reads.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (number, pause) in (0..).zip(&pauses) {
        let longest = SECOND.saturating_mul(1 << number.min(6)).min(60 * SECOND);
        let shortest = longest.mul_f64(0.75);
        // The timer is exact to a millisecond.
        let is_right = shortest <= *pause && *pause <= longest + Duration::from_millis(1);
        assert!(is_right, "pause {number} of {pauses:?}");
    }
    assert!((14..=20).contains(&pauses.len()), "{pauses:?}");
    log.partitions.lock().insert(partition, whole);
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(node.fetched().await, Some(5));
}

/// The offset that group g has for topic t, and all that the groups have.
async fn kept(node: &Node) -> (Option<i64>, usize) {
    (node.fetched().await, node.coordinator.positions().await.expect("it runs").len())
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_gone_when_its_offsets_were_loaded_begins_anew() {
    let log = MemoryLog::new();
    let before = Node::leading(&log, 1).await;
    let both = commit("", -1, &[("t", 1), ("u", 2)]);
    before.coordinator.commit_offsets(both).await.expect("the log takes it");
    let only = CommitOffsets { group: group_id("h"), ..commit("", -1, &[("t", 1)]) };
    before.coordinator.commit_offsets(only).await.expect("the log takes it");
    assert_eq!(kept(&before).await, (Some(1), 3));

    // The node died between the end of the topic and that of its offsets.
    log.gone.lock().insert(topic("t"));
    log.is_reading_held.send_replace(true);
    let after = Node::leading(&log, 2).await;
    // Whoever misses the topic makes it again before the groups are there.
    settle().await;
    log.gone.lock().clear();
    log.is_reading_held.send_replace(false);
    settle().await;
    assert_eq!(kept(&after).await, (None, 1));
    assert_eq!(code(after.coordinator.describe(group_id("h")).await), 69, "it has nothing left");

    // The log says so as well, to whoever reads it next.
    let last = Node::leading(&log, 3).await;
    settle().await;
    assert_eq!(kept(&last).await, (None, 1));
    assert_eq!(code(last.commit(7).await), 0);
    assert_eq!(kept(&Node::leading(&log, 4).await).await, (Some(7), 2));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_deleted_while_its_offsets_are_loaded_begins_anew() {
    let log = MemoryLog::new();
    Node::leading(&log, 1).await.commit(5).await.expect("the log takes it");
    log.is_reading_held.send_replace(true);
    let node = Node::leading(&log, 2).await;
    node.coordinator.forget_topic(topic("t")).await;
    settle().await;
    log.is_reading_held.send_replace(false);
    settle().await;
    assert_eq!(kept(&node).await, (None, 0));
    assert_eq!(kept(&Node::leading(&log, 3).await).await, (None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_group_with_settings_of_its_own_goes_by_them_also_when_it_was_just_loaded() {
    use crate::group::{ConsumerHeartbeat, JOIN_EPOCH};

    let log = MemoryLog::new();
    log.own_session_timeout.lock().insert(group_id("g"), 100 * SECOND);
    let beat = |member_epoch: i32| {
        let is_joining = member_epoch == JOIN_EPOCH;
        ConsumerHeartbeat {
            group: group_id("g"),
            member: "m".to_owned(),
            member_epoch,
            instance: None,
            rack: None,
            rebalance_timeout: is_joining.then_some(10 * SECOND),
            topics: is_joining.then(|| vec!["t".to_owned()]),
            regex: None,
            assignor: None,
            owned: is_joining.then(Vec::new),
            client_id: "test".to_owned(),
            client_host: "here".to_owned(),
        }
    };
    let before = Node::leading(&log, 1).await;
    before.coordinator.consumer_heartbeat(beat(JOIN_EPOCH)).await.expect("it may join");
    // The node's settings give it 45 seconds.
    tokio::time::sleep(60 * SECOND).await;
    before.coordinator.consumer_heartbeat(beat(1)).await.expect("it is still a member");
    let after = Node::leading(&log, 2).await;
    settle().await;
    tokio::time::sleep(60 * SECOND).await;
    after.coordinator.consumer_heartbeat(beat(1)).await.expect("it is still a member");
    tokio::time::sleep(101 * SECOND).await;
    assert_eq!(code(after.coordinator.consumer_heartbeat(beat(1)).await), 25);
}
