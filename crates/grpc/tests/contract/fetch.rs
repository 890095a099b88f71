//! Fetch and ListOffsets: pushing, ending, refusals, back-pressure.

use rafka_core::ByteSize;
use rafka_grpc::Settings;
use rafka_proto::v1::list_offsets_partition::At;
use rafka_proto::v1::{
    FetchPartition, FetchRequest, ListOffsetsPartition, ListOffsetsRequest, OffsetPosition,
};
use tonic::Code;

use crate::support::{
    Node, Producing, batch, code, fetch, fetch_all, now, plain, raw, record, settings, soon, values,
};

#[tokio::test]
async fn records_are_pushed_as_they_arrive() {
    let node = Node::with_topic("orders", 1).await;
    node.append("orders", 0, &["a"]).await;
    let mut stream =
        node.log().await.fetch(fetch("orders", &[0])).await.expect("it begins").into_inner();
    let mut seen = Vec::new();
    for (total, next) in [(1, "b"), (2, "c"), (3, "d")] {
        while seen.len() < total {
            let message = soon(stream.message()).await.expect("no status").expect("goes on");
            seen.extend(values(&[message]));
        }
        node.append("orders", 0, &[next]).await;
    }
    assert_eq!(seen, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_fetch_until_the_end_ends_where_the_log_ended_at_its_start() {
    let node = Node::with_topic("orders", 3).await;
    node.append("orders", 0, &["a", "b"]).await;
    node.append("orders", 1, &["c"]).await;
    for decode in [true, false] {
        let request = FetchRequest { until_end: true, decode, ..fetch("orders", &[0, 1, 2]) };
        let read = fetch_all(&node, request).await;
        let mut ends: Vec<(i32, i64)> = Vec::new();
        for partition in read.iter().flat_map(|message| &message.partitions) {
            assert_eq!(partition.error, None);
            ends.retain(|(index, _)| *index != partition.partition);
            ends.push((partition.partition, partition.next_offset));
        }
        ends.sort_unstable();
        assert_eq!(ends, [(0, 2), (1, 1)], "decoded: {decode}; partition 2 is empty");
    }
    assert!(
        fetch_all(&node, FetchRequest { until_end: true, ..fetch("orders", &[2]) })
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn decoded_records_begin_at_the_position_even_within_a_batch() {
    let node = Node::with_topic("orders", 1).await;
    let mut stream = Producing::start(&node).await;
    stream.send(raw("orders", 0, &batch(&["a", "b", "c"]))).await;
    stream.answer().await;
    let mut request = FetchRequest { until_end: true, ..fetch("orders", &[0]) };
    request.partitions[0].offset = 1;
    let read = fetch_all(&node, request).await;
    assert_eq!(values(&read), ["b", "c"]);
}

#[tokio::test]
async fn a_quiet_stream_says_where_the_logs_stand() {
    let node = Node::with_topic("orders", 2).await;
    node.append("orders", 0, &["a"]).await;
    let mut request = FetchRequest { max_wait_ms: 50, ..fetch("orders", &[0, 1]) };
    request.partitions[0].offset = 1;
    let mut stream = node.log().await.fetch(request).await.expect("it begins").into_inner();
    for _ in 0..2 {
        let message = soon(stream.message()).await.expect("no status").expect("goes on");
        let mut stands: Vec<(i32, i64, i64)> = message
            .partitions
            .iter()
            .map(|p| (p.partition, p.next_offset, p.high_watermark))
            .collect();
        stands.sort_unstable();
        assert_eq!(stands, [(0, 1, 1), (1, 0, 0)]);
    }
}

#[tokio::test]
async fn a_partition_that_fails_is_reported_once_and_the_others_go_on() {
    let node = Node::with_topic("orders", 2).await;
    let position = |topic: &str, partition, offset, epoch| FetchPartition {
        topic: topic.to_owned(),
        partition,
        offset,
        current_leader_epoch: epoch,
        ..FetchPartition::default()
    };
    let partitions = vec![
        position("orders", 0, 0, None),
        position("orders", 1, 9, None),
        position("orders", 9, 0, None),
        position("missing", 0, 0, None),
        position("a/b", 0, 0, None),
    ];
    let request = FetchRequest { partitions, decode: true, ..FetchRequest::default() };
    let mut stream = node.log().await.fetch(request).await.expect("it begins").into_inner();
    let mut codes = Vec::new();
    while codes.len() < 4 {
        let message = soon(stream.message()).await.expect("no status").expect("goes on");
        let failed = message.partitions.iter().filter(|p| p.error.is_some());
        codes.extend(failed.map(|p| (p.topic.clone(), p.partition, code(p.error.as_ref()))));
    }
    codes.sort();
    let expected = [("a/b", 0, 17), ("missing", 0, 3), ("orders", 1, 1), ("orders", 9, 3)];
    assert_eq!(codes, expected.map(|(topic, index, code)| (topic.to_owned(), index, code)));
    node.append("orders", 0, &["still"]).await;
    loop {
        let message = soon(stream.message()).await.expect("no status").expect("goes on");
        assert!(message.partitions.iter().all(|p| p.error.is_none()), "reported once");
        if values(&[message]) == ["still"] {
            break;
        }
    }
    // When none is left, the stream ends.
    let partitions = vec![position("orders", 0, 0, Some(99))];
    let read = fetch_all(&node, FetchRequest { partitions, ..FetchRequest::default() }).await;
    assert_eq!(code(read[0].partitions[0].error.as_ref()), 75, "the epoch is unknown yet");
}

#[tokio::test]
async fn malformed_requests_are_refused_with_the_field() {
    let node = Node::with_topic("orders", 1).await;
    let check = async |request: FetchRequest, expected: &str| {
        let status = node.log().await.fetch(request).await.expect_err(expected);
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, expected));
    };
    let good = fetch("orders", &[0]);
    check(FetchRequest::default(), "partitions is empty: name at least one").await;
    check(
        FetchRequest { isolation: 5, ..good.clone() },
        "isolation 5 is unknown: it may be 0 or 1",
    )
    .await;
    check(
        FetchRequest { max_wait_ms: 300_001, ..good.clone() },
        "max_wait_ms is 300001: at most 300000 is allowed",
    )
    .await;
    check(fetch("orders", &[0, 0]), "partitions names topic orders, partition 0 twice").await;
}

#[tokio::test]
async fn messages_stay_within_the_size_asked_for() {
    let node = Node::with_topic("orders", 1).await;
    let mut stream = Producing::start(&node).await;
    let value = "x".repeat(1000);
    stream.send(plain("orders", 0, (0..100).map(|_| record(None, &value)).collect())).await;
    stream.answer().await;
    let request = FetchRequest { until_end: true, max_bytes: 10_000, ..fetch("orders", &[0]) };
    let read = fetch_all(&node, request).await;
    assert_eq!(values(&read).len(), 100);
    let largest = read.iter().map(|m| values(std::slice::from_ref(m)).len()).max();
    assert!(largest <= Some(10), "{largest:?} records of 1000 bytes in one message");
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_not_read_ahead_for() {
    let node = Node::with_topic("orders", 1).await;
    let mut producing = Producing::start(&node).await;
    let value = "x".repeat(100_000);
    for _ in 0..200 {
        producing.send(plain("orders", 0, vec![record(None, &value)])).await;
        producing.answer().await;
    }
    let request = FetchRequest { decode: false, ..fetch("orders", &[0]) };
    let _unread = node.log().await.fetch(request).await.expect("it begins").into_inner();
    let fetched = || node.broker.stats().fetch_bytes.count();
    let mut before = fetched();
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let after = fetched();
        if 0 < after && after == before {
            break;
        }
        before = after;
    }
    // The windows of the client, one message in the transport, one ready.
    assert!(before < 8 << 20, "{before} of 20000000 bytes were read for nobody");
    let others = FetchRequest { until_end: true, ..fetch("orders", &[0]) };
    assert_eq!(values(&fetch_all(&node, others).await).len(), 200);
}

#[tokio::test]
async fn readers_beyond_the_bound_are_refused_until_one_leaves() {
    let node =
        Node::with(Settings { readers_max: 1, ..settings() }, rafka_broker::Settings::default())
            .await;
    rafka_broker::testing::create_topic(&node.broker, "orders", 1, &[]).await;
    let mut log = node.log().await;
    let first = log.fetch(fetch("orders", &[0])).await.expect("the first").into_inner();
    let status = log.fetch(fetch("orders", &[0])).await.expect_err("the second");
    assert_eq!(status.code(), Code::ResourceExhausted);
    drop(first);
    soon(async {
        while log.fetch(fetch("orders", &[0])).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn many_readers_catch_up_though_there_is_room_for_one_large_message() {
    let settings = Settings {
        fetch_bytes_max: ByteSize::kib(256),
        read_bytes_max: Some(ByteSize::kib(256)),
        ..settings()
    };
    let node = Node::with(settings, rafka_broker::Settings::default()).await;
    rafka_broker::testing::create_topic(&node.broker, "orders", 1, &[]).await;
    let mut producing = Producing::start(&node).await;
    let value = "x".repeat(10_000);
    for _ in 0..100 {
        producing.send(plain("orders", 0, vec![record(None, &value)])).await;
        producing.answer().await;
    }
    let request = FetchRequest { until_end: true, ..fetch("orders", &[0]) };
    let reads = (0..8).map(|_| fetch_all(&node, request.clone()));
    for read in futures_util::future::join_all(reads).await {
        assert_eq!(values(&read).len(), 100);
    }
}

#[tokio::test]
async fn offsets_are_found_by_landmark_and_by_time() {
    let node = Node::with_topic("orders", 1).await;
    let start = now().0 - 10_000;
    let mut stream = Producing::start(&node).await;
    for offset in 0..3 {
        let mut wanted = record(None, "x");
        wanted.timestamp_ms = Some(start + 1000 * offset);
        stream.send(plain("orders", 0, vec![wanted])).await;
        stream.answer().await;
    }
    let ask = async |at: Option<At>, partition| {
        let partitions = vec![ListOffsetsPartition {
            topic: "orders".to_owned(),
            partition,
            at,
            ..ListOffsetsPartition::default()
        }];
        let request = ListOffsetsRequest { partitions, isolation: 0 };
        let answer = node.log().await.list_offsets(request).await.expect("answered");
        let found = answer.into_inner().partitions.remove(0);
        (code(found.error.as_ref()), found.offset, found.timestamp_ms)
    };
    let landmark = |position: OffsetPosition| Some(At::Position(position.into()));
    assert_eq!(ask(landmark(OffsetPosition::Earliest), 0).await, (0, 0, -1));
    assert_eq!(ask(landmark(OffsetPosition::Latest), 0).await, (0, 3, -1));
    assert_eq!(ask(Some(At::TimestampMs(start + 1)), 0).await, (0, 1, start + 1000));
    assert_eq!(ask(Some(At::TimestampMs(start + 9999)), 0).await, (0, -1, -1));
    assert_eq!(ask(Some(At::TimestampMs(-5)), 0).await, (42, -1, -1));
    assert_eq!(ask(landmark(OffsetPosition::Unspecified), 0).await, (42, -1, -1));
    assert_eq!(ask(None, 0).await, (42, -1, -1));
    assert_eq!(ask(landmark(OffsetPosition::Latest), 4).await, (3, -1, -1));
}
