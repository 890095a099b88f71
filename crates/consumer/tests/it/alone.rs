//! What a consumer promises that is assigned its partitions by hand.

use std::time::Duration;

use futures_util::StreamExt as _;
use rafka_consumer::{Error, OffsetReset, OffsetSpec, Settings};
use rafka_core::{ByteSize, Offset};
use rafka_producer::Record;

use crate::node::{LIMIT, Node, all, assert_complete, failure, number, poll_until, read, tp};

#[tokio::test(flavor = "multi_thread")]
async fn every_record_comes_once_and_in_order_and_the_end_is_known() {
    let node = Node::start(3).await;
    node.append(3, 0..1000).await;
    let consumer = node.consumer().poll_records_max(70).build().expect("sound settings");
    consumer.assign(&all(3)).expect("not subscribed");
    assert!(!consumer.is_at_end(), "nothing is known yet");
    let mut records = read(&consumer, 1000).await;
    poll_until(&consumer, |consumer| consumer.is_at_end()).await;
    node.append(3, 1000..1003).await;
    records.extend(read(&consumer, 3).await);
    assert_complete(&records, 3, 0..1003);
    assert_eq!(consumer.position(&tp(0)), Some(Offset(335)));
    assert_eq!((consumer.end(&tp(0)), consumer.lag(&tp(0))), (Some(Offset(335)), Some(0)));
    let metrics = consumer.metrics();
    assert_eq!((metrics.records, metrics.lag, metrics.streams_lost), (1003, 0, 0));
    assert_eq!(metrics.prefetched_bytes, ByteSize(0));
    assert_eq!(metrics.streams_opened, 1, "one stream brings all partitions of a node");
    consumer.close(LIMIT).await.expect("nothing to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_value_headers_and_time_arrive_as_they_were_sent() {
    let node = Node::start(1).await;
    let producer = node.producer();
    let sent = Record::new("t")
        .key("k")
        .header("trace", "ab12")
        .timestamp(rafka_core::Timestamp(1_234_567));
    producer.send(sent).await.expect("taken").await.expect("delivered");
    let consumer = node.consumer().build().expect("sound settings");
    consumer.assign(&all(1)).expect("not subscribed");
    let record = read(&consumer, 1).await.remove(0);
    assert_eq!((record.topic(), record.partition.clone(), record.offset), ("t", tp(0), Offset(0)));
    assert_eq!((record.key.as_deref(), record.value), (Some(&b"k"[..]), None));
    assert_eq!(record.headers, [("trace".into(), Some("ab12".into()))]);
    assert_eq!(record.timestamp.0, 1_234_567);
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_begins_where_it_is_told_to() {
    let node = Node::start(1).await;
    let producer = node.producer();
    for number in 0..10 {
        let timestamp = rafka_core::Timestamp(1000 + number);
        let record = Record::new("t").value(number.to_string()).timestamp(timestamp);
        producer.send(record).await.expect("taken").await.expect("delivered");
    }
    let consumer = node.consumer().build().expect("sound settings");
    consumer.assign(&all(1)).expect("not subscribed");
    let first = async || number(&read(&consumer, 1).await[0]);
    assert_eq!(first().await, 0);
    consumer.seek(&tp(0), Offset(7)).expect("assigned");
    assert_eq!(first().await, 7);
    consumer.seek_to(&tp(0), OffsetSpec::Timestamp(rafka_core::Timestamp(1004))).expect("assigned");
    assert_eq!(consumer.position(&tp(0)), None);
    assert_eq!(first().await, 4);
    consumer.seek_to(&tp(0), OffsetSpec::Earliest).expect("assigned");
    assert_eq!(first().await, 0);
    for place in [OffsetSpec::Latest, OffsetSpec::Timestamp(rafka_core::Timestamp(5000))] {
        consumer.seek_to(&tp(0), place).expect("assigned");
        poll_until(&consumer, |consumer| consumer.position(&tp(0)) == Some(Offset(10))).await;
    }
    let stranger = consumer.seek(&tp(1), Offset(0));
    assert!(matches!(stranger, Err(Error::NotAssigned { .. })), "{stranger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_begins_at_the_end_and_none_waits_for_a_seek() {
    let node = Node::start(1).await;
    node.append(1, 0..5).await;
    let latest = node.consumer().offset_reset(OffsetReset::Latest).build().expect("sound");
    latest.assign(&all(1)).expect("not subscribed");
    poll_until(&latest, |consumer| consumer.position(&tp(0)) == Some(Offset(5))).await;
    node.append(1, 5..6).await;
    assert_eq!(number(&read(&latest, 1).await[0]), 5);

    let none = node.consumer().offset_reset(OffsetReset::None).build().expect("sound");
    none.assign(&all(1)).expect("not subscribed");
    for _ in 0..2 {
        let error = failure(&none).await;
        assert!(matches!(error, Error::NoOffset { .. }), "{error}");
    }
    none.seek(&tp(0), Offset(3)).expect("assigned");
    assert_eq!(number(&read(&none, 1).await[0]), 3);
    // An offset that the log does not hold is no place to begin at either.
    none.seek(&tp(0), Offset(99)).expect("assigned");
    let error = failure(&none).await;
    assert!(error.to_string().contains("offset 99"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_whose_records_were_deleted_is_reset() {
    let node = Node::start(1).await;
    node.append(1, 0..10).await;
    let consumer = node.consumer().build().expect("sound settings");
    let admin = consumer.client().admin();
    let cut = admin.delete_records(&[(tp(0), Some(Offset(6)))]).await;
    assert_eq!(cut.into_iter().next().expect("one answer").expect("deleted"), Offset(6));
    consumer.assign(&all(1)).expect("not subscribed");
    consumer.seek(&tp(0), Offset(2)).expect("assigned");
    assert_complete(&read(&consumer, 4).await, 1, 6..10);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_partitions_rest_and_go_on_without_a_gap() {
    let node = Node::start(2).await;
    node.append(2, 0..400).await;
    let consumer = node.consumer().poll_records_max(10).build().expect("sound settings");
    consumer.assign(&all(2)).expect("not subscribed");
    let mut records = read(&consumer, 40).await;
    consumer.pause(&[tp(0)]).expect("assigned");
    // There and back before a poll could notice.
    consumer.resume(&[tp(0)]).expect("assigned");
    consumer.pause(&[tp(0)]).expect("assigned");
    assert_eq!(consumer.paused(), [tp(0)]);
    let of_first = |records: &[rafka_consumer::ConsumerRecord]| {
        records.iter().filter(|record| record.partition == tp(0)).count()
    };
    let before = of_first(&records);
    records.extend(read(&consumer, 200 - (records.len() - before)).await);
    assert_eq!(of_first(&records), before, "it is paused");
    poll_until(&consumer, |consumer| consumer.is_at_end()).await;
    consumer.resume(&[tp(0)]).expect("assigned");
    records.extend(read(&consumer, 400 - records.len()).await);
    assert_complete(&records, 2, 0..400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_is_dropped_loses_nothing() {
    let node = Node::start(2).await;
    let consumer = node.consumer().poll_records_max(7).build().expect("sound settings");
    consumer.assign(&all(2)).expect("not subscribed");
    let mut records = Vec::new();
    for round in 0..20 {
        node.append(2, round * 10..(round + 1) * 10).await;
        let expected = usize::try_from(round + 1).expect("small") * 10;
        let reading = async {
            while records.len() < expected {
                let poll = consumer.poll(LIMIT);
                if let Ok(given) = tokio::time::timeout(Duration::from_micros(300), poll).await {
                    records.extend(given.expect("no failure"));
                }
            }
        };
        tokio::time::timeout(LIMIT, reading).await.expect("all come in the end");
    }
    assert_complete(&records, 2, 0..200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_does_not_poll_holds_no_more_than_its_memory() {
    let node = Node::start(2).await;
    let producer = node.producer();
    // Noise, so that it does not shrink.
    let mut state = 1_u64;
    for number in 0..24 {
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(500_000)
        .collect();
        let partition = rafka_core::PartitionIndex(number % 2);
        let record = Record::new("t").partition(partition).value(noise);
        producer.send(record).await.expect("taken");
    }
    producer.flush(LIMIT).await.expect("delivered");
    let mut settings = Settings::default();
    settings.offset_reset = OffsetReset::Earliest;
    settings.prefetch_bytes = ByteSize::mib(2);
    settings.poll_records_max = 1;
    let consumer = node.consumer().settings(settings).build().expect("sound settings");
    consumer.assign(&all(2)).expect("not subscribed");
    let (mut count, mut most) = (0, ByteSize(0));
    while count < 24 {
        count += read(&consumer, 1).await.len();
        // As much as will come has come when a moment passes without more.
        let mut before = ByteSize(u64::MAX);
        while before != consumer.metrics().prefetched_bytes {
            before = consumer.metrics().prefetched_bytes;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        most = most.max(before);
    }
    assert!(ByteSize::mib(1) < most, "it reads ahead: {most}");
    // The node's message may end with a batch that goes beyond the limit of 1 MiB.
    let message = 1024 + 512;
    assert!(most <= ByteSize::kib(2 * 1024 + message), "its memory and one message: {most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gives_one_by_one_and_a_commit_is_exact() {
    let node = Node::start(1).await;
    node.append(1, 0..100).await;
    let consumer = node.consumer().group("g").auto_commit(None).build().expect("sound settings");
    consumer.assign(&all(1)).expect("not subscribed");
    let mut stream = std::pin::pin!(consumer.stream());
    for expected in 0..42 {
        let record = stream.next().await.expect("it goes on").expect("no failure");
        assert_eq!(number(&record), expected);
    }
    consumer.commit().await.expect("it is committed");
    assert_eq!(consumer.committed(&all(1)).await.expect("known"), [Some(Offset(42))]);
    let closing = async { consumer.close(LIMIT).await.expect("closed") };
    let reading = async {
        let mut rest = 0;
        while let Some(record) = stream.next().await {
            record.expect("no failure");
            rest += 1;
        }
        rest
    };
    let (_, rest) = tokio::join!(closing, reading);
    assert!(rest <= 58);
    let next = node.consumer().group("g").build().expect("sound settings");
    next.assign(&all(1)).expect("not subscribed");
    assert_eq!(number(&read(&next, 1).await[0]), 42);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_a_poll_that_waits_and_all_that_come_after() {
    let node = Node::start(1).await;
    let consumer = node.consumer().build().expect("sound settings");
    consumer.assign(&all(1)).expect("not subscribed");
    let waiting = consumer.poll(LIMIT);
    let closing = async {
        tokio::task::yield_now().await;
        consumer.close(LIMIT).await
    };
    let (waited, closed) = tokio::join!(waiting, closing);
    closed.expect("closed in good order");
    assert!(matches!(waited, Err(Error::Closed)), "{waited:?}");
    assert!(matches!(consumer.assign(&all(1)), Err(Error::Closed)));
    consumer.close(LIMIT).await.expect("it is closed already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_of_a_topic_to_come_is_read_once_it_exists() {
    let node = Node::empty().await;
    let consumer = node.consumer().build().expect("sound settings");
    consumer.assign(&all(1)).expect("not subscribed");
    assert_eq!(consumer.poll(Duration::from_millis(50)).await.expect("no failure"), []);
    node.create("t", 1).await;
    node.append(1, 0..3).await;
    assert_complete(&read(&consumer, 3).await, 1, 0..3);
}
