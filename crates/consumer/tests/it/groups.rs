//! What a consumer promises as a member of a group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rafka_consumer::{Assignor, Consumer, ConsumerRecord, Error, Rebalance};
use rafka_core::Offset;

use crate::node::{LIMIT, Node, all, assert_complete, number, poll_until, read, tp};

async fn join(consumer: &Consumer) {
    consumer.subscribe(&["t"]).await.expect("it has a group");
}

/// Polls both until each has so many partitions. Returns what they were given meanwhile.
async fn settle(consumers: [&Consumer; 2], counts: [usize; 2]) -> [Vec<ConsumerRecord>; 2] {
    let mut given = [Vec::new(), Vec::new()];
    let settling = async {
        while consumers.map(|consumer| consumer.assignment().len()) != counts {
            let step = Duration::from_millis(5);
            let [left, right] = consumers;
            let (left, right) = tokio::join!(left.poll(step), right.poll(step));
            given[0].extend(left.expect("no failure"));
            given[1].extend(right.expect("no failure"));
        }
    };
    tokio::time::timeout(LIMIT, settling).await.expect("the group comes to rest");
    given
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_the_partitions_and_hand_them_over_without_a_gap() {
    let node = Node::start(4).await;
    node.append(4, 0..200).await;
    let first = node.member("g").build().expect("sound settings");
    join(&first).await;
    let mut records = read(&first, 200).await;
    assert_eq!(first.assignment(), all(4));

    let second = node.member("g").build().expect("sound settings");
    join(&second).await;
    let repeated = settle([&first, &second], [2, 2]).await;
    assert_eq!(repeated, [[], []], "what was given was committed before the partitions moved");
    node.append(4, 200..400).await;
    let (left, right) = tokio::join!(read(&first, 100), read(&second, 100));
    let owned: BTreeSet<_> = right.iter().map(|record| record.partition.clone()).collect();
    assert_eq!(owned.into_iter().collect::<Vec<_>>(), second.assignment());
    records.extend(left.into_iter().chain(right));

    second.close(LIMIT).await.expect("it commits and leaves");
    node.append(4, 400..500).await;
    records.extend(read(&first, 100).await);
    assert_complete(&records, 4, 0..500);
    assert_eq!(first.assignment(), all(4));
    first.close(LIMIT).await.expect("it commits and leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_not_read_again_and_what_is_not_is() {
    let node = Node::start(1).await;
    node.append(1, 0..100).await;
    let build = || node.member("g").auto_commit(None).poll_records_max(30).build();
    let first = build().expect("sound settings");
    join(&first).await;
    read(&first, 30).await;
    first.commit().await.expect("it is committed");
    read(&first, 30).await;
    assert_eq!(first.committed(&all(1)).await.expect("known"), [Some(Offset(30))]);
    first.close(LIMIT).await.expect("it leaves");

    let second = build().expect("sound settings");
    join(&second).await;
    assert_eq!(number(&read(&second, 30).await[0]), 30);
    second.commit_offsets(&[(tp(0), Offset(77))]).await.expect("it is committed");
    second.close(LIMIT).await.expect("it leaves");

    let third = build().expect("sound settings");
    join(&third).await;
    assert_eq!(number(&read(&third, 1).await[0]), 77);
    assert!(0 < third.metrics().polls && third.metrics().commits.count == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_poll_gave_last_is_not_committed_before_the_next_poll() {
    let node = Node::start(1).await;
    node.append(1, 0..1000).await;
    let often = Some(Duration::from_millis(1));
    let member = node.member("g").auto_commit(often).poll_records_max(10).build();
    let member = member.expect("sound settings");
    join(&member).await;
    let mut committed = Offset(0);
    for round in 0..100 {
        // These are being worked on until the next poll.
        let records = read(&member, 10).await;
        assert_eq!(records[0].offset, Offset(round * 10));
        let found = member.committed(&all(1)).await.expect("known")[0];
        committed = found.unwrap_or_default();
        assert!(committed <= records[0].offset, "{committed} in round {round}");
    }
    assert!(Offset(0) < committed, "it commits by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_hears_of_every_change_of_partitions() {
    let node = Node::start(2).await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let first = node
        .member("g")
        .assignors([Assignor::RoundRobin])
        .on_rebalance(move |rebalance| ear.lock().push(rebalance.clone()))
        .build()
        .expect("sound settings");
    join(&first).await;
    poll_until(&first, |first| first.assignment().len() == 2).await;
    let second = node.member("g").assignors([Assignor::RoundRobin]).build().expect("sound");
    join(&second).await;
    settle([&first, &second], [1, 1]).await;
    let own = first.assignment();
    first.unsubscribe().await.expect("it leaves");
    let expected = [
        Rebalance::Assigned(all(2)),
        Rebalance::Revoked(all(2)),
        Rebalance::Assigned(own.clone()),
        Rebalance::Revoked(own),
    ];
    assert_eq!(*heard.lock(), expected);
    assert_eq!(first.assignment(), []);
    first.assign(&[tp(1)]).expect("no longer subscribed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cooperative_member_keeps_what_does_not_move_and_reads_on() {
    let node = Node::start(4).await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let build = || node.member("g").assignors([Assignor::CooperativeSticky]);
    let first = build()
        .auto_commit(None)
        .on_rebalance(move |rebalance| ear.lock().push(rebalance.clone()))
        .build()
        .expect("sound settings");
    join(&first).await;
    node.append(4, 0..200).await;
    let mut records = read(&first, 200).await;
    let second = build().build().expect("sound settings");
    join(&second).await;
    let repeated = settle([&first, &second], [2, 2]).await;
    // Nothing was committed: what moved is read again, what stayed is not.
    let moved = second.assignment();
    let again = |record: &ConsumerRecord| moved.contains(&record.partition);
    assert!(repeated[0].is_empty(), "{repeated:?}");
    assert!(repeated[1].iter().all(again), "{repeated:?}");

    node.append(4, 200..400).await;
    records.extend(read(&first, 100).await);
    let kept = first.assignment();
    assert!(records[200..].iter().all(|record| kept.contains(&record.partition)));
    second.close(LIMIT).await.expect("it commits and leaves");
    let taking_over = async {
        // What the other one had not committed comes again.
        while first.assignment().len() != 4 {
            first.poll(Duration::from_millis(5)).await.expect("no failure");
        }
    };
    tokio::time::timeout(LIMIT, taking_over).await.expect("it takes over");
    let given =
        |rebalance: &Rebalance| !matches!(rebalance, Rebalance::Assigned(a) if a.is_empty());
    let heard: Vec<_> = heard.lock().iter().filter(|rebalance| given(rebalance)).cloned().collect();
    let expected = [
        Rebalance::Assigned(all(4)),
        Rebalance::Revoked(moved.clone()),
        Rebalance::Assigned(moved),
    ];
    assert_eq!(heard, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_stops_polling_gives_way_and_may_come_back() {
    let node = Node::start(2).await;
    let mut settings = rafka_consumer::Settings::default();
    settings.group = Some("g".to_owned());
    settings.offset_reset = rafka_consumer::OffsetReset::Earliest;
    settings.heartbeat_interval = Duration::from_millis(20);
    settings.poll_interval_max = Duration::from_millis(200);
    let busy = node.consumer().settings(settings).build().expect("sound settings");
    join(&busy).await;
    poll_until(&busy, |busy| busy.assignment().len() == 2).await;
    let other = node.member("g").build().expect("sound settings");
    join(&other).await;
    // The busy one does not poll: the other one gets everything.
    poll_until(&other, |other| other.assignment().len() == 2).await;
    let late = busy.commit_offsets(&[(tp(0), Offset(0))]).await;
    assert!(matches!(late, Err(Error::NotMember { .. })), "{late:?}");
    settle([&busy, &other], [1, 1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_come_later_are_read_without_a_new_subscription() {
    let node = Node::empty().await;
    let consumer = node.member("g").build().expect("sound settings");
    join(&consumer).await;
    poll_until(&consumer, |consumer| 0 < consumer.metrics().rebalances).await;
    assert_eq!(consumer.assignment(), []);
    node.create("t", 2).await;
    node.append(2, 0..10).await;
    assert_complete(&read(&consumer, 10).await, 2, 0..10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_group_says_so() {
    let node = Node::start(1).await;
    let alone = node.consumer().build().expect("sound settings");
    let no_group = |outcome: Result<(), Error>| {
        assert!(matches!(outcome, Err(Error::NoGroup { .. })), "{outcome:?}");
    };
    no_group(alone.subscribe(&["t"]).await);
    no_group(alone.commit().await);
    no_group(alone.committed(&all(1)).await.map(drop));
    let member = node.member("g").build().expect("sound settings");
    let invalid = member.subscribe(&["no/name"]).await;
    assert!(matches!(invalid, Err(Error::Topic(_))), "{invalid:?}");
    join(&member).await;
    assert!(matches!(member.assign(&all(1)), Err(Error::Subscribed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_does_not_take_the_member_is_a_failure_of_poll() {
    let node = Node::start(1).await;
    let first = node.member("g").assignors([Assignor::Range]).build().expect("sound settings");
    join(&first).await;
    poll_until(&first, |first| first.assignment().len() == 1).await;
    let second = node.member("g").assignors([Assignor::RoundRobin]).build().expect("sound");
    join(&second).await;
    let error = crate::node::failure(&second).await;
    assert!(matches!(error, Error::Group { .. }), "{error}");
}
