//! Logs as clients see them: offsets, times and epochs, repetitions and gaps, and what no log takes.

use std::time::Duration;

use bytes::Bytes;
use rafka_core::batch::{BatchBuilder, TimestampType};
use rafka_core::compression::Compression;
use rafka_core::{Batch, ByteSize, Clock as _, Epoch, ProducerEpoch, ProducerId, Timestamp};
use rafka_kafka_wire::{fetch, init_producer_id, list_offsets, offset_for_leader_epoch, produce};

use crate::support::{Client, LIMIT, Node, ask, batch, body, produce as producing};

const VERSION: i16 = 9;

/// Sends a batch to the first partition of `topic`; its answer as code, base offset and append time.
async fn append(client: &mut Client, topic: &'static str, batch: &Batch) -> (i16, i64, i64) {
    let mut request = producing(-1, 0, batch.to_bytes());
    request.topic_data[0].name = topic.into();
    let frame = client.ask(VERSION, &request).await.expect("the connection stays");
    let response: produce::Response<'_> = body(VERSION, &frame);
    let answer = &response.responses[0].partition_responses[0];
    (answer.error_code, answer.base_offset, answer.log_append_time_ms)
}

fn position(offset: i64) -> fetch::Partition {
    fetch::Partition {
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        ..fetch::Partition::default()
    }
}

/// The code, the high watermark and the batches of the first partition of `topic`.
async fn read(
    client: &mut Client,
    topic: &'static str,
    (partition, min_bytes, wait_ms): (fetch::Partition, i32, i32),
) -> (i16, i64, Vec<Batch>) {
    let request = fetch::Request {
        max_wait_ms: wait_ms,
        min_bytes,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![fetch::Topic {
            topic: topic.into(),
            partitions: vec![partition],
            ..fetch::Topic::default()
        }],
        ..fetch::Request::default()
    };
    let frame = client.ask(12, &request).await.expect("answered");
    let response: fetch::Response<'_> = body(12, &frame);
    let data = &response.responses[0].partitions[0];
    let mut bytes = data.records.clone().unwrap_or_default().into_bytes();
    let batches = std::iter::from_fn(|| Batch::split_first(&mut bytes).expect("whole and sound"));
    (data.error_code, data.high_watermark, batches.collect())
}

/// The code, offset and timestamp that are found in the first partition of `topic`.
async fn look_up(
    client: &mut Client,
    topic: &'static str,
    (timestamp, current_leader_epoch): (i64, i32),
) -> (i16, i64, i64) {
    let partition =
        list_offsets::Partition { timestamp, current_leader_epoch, ..Default::default() };
    let topic = list_offsets::Topic { name: topic.into(), partitions: vec![partition] };
    let request =
        list_offsets::Request { replica_id: -1, topics: vec![topic], ..Default::default() };
    ask!(client, 5, request => list_offsets::Response<'_>, |r| {
        let found = &r.topics[0].partitions[0];
        (found.error_code, found.offset, found.timestamp)
    })
}

async fn producer(client: &mut Client) -> ProducerId {
    let request = init_producer_id::Request::default();
    let id = ask!(client, 3, request => init_producer_id::Response, |r| {
        assert_eq!((r.error_code, r.producer_epoch), (0, 0));
        r.producer_id
    });
    ProducerId(id)
}

fn numbered(id: ProducerId, epoch: i16, sequence: i32, value: &str) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.producer(id, ProducerEpoch(epoch), sequence);
    builder.push(Timestamp(1_700_000_000_000), None, Some(value.as_bytes()), &[]);
    builder.build().expect("no codec")
}

#[tokio::test]
async fn the_last_five_batches_are_known_again_and_gaps_and_old_epochs_are_refused() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let id = producer(&mut client).await;
    for sequence in 0..7 {
        let found = append(&mut client, "orders", &numbered(id, 0, sequence, "a")).await;
        assert_eq!(found, (0, i64::from(sequence), -1));
    }
    // The answers were lost, and the producer sends all of them again, by another connection.
    let mut again = node.connect().await;
    for sequence in 2..7 {
        let found = append(&mut again, "orders", &numbered(id, 0, sequence, "a")).await;
        assert_eq!(found, (0, i64::from(sequence), -1), "its first offset");
    }
    for (epoch, sequence, expected) in [
        (0, 1, 45), // older than the last five
        (0, 9, 45), // a gap
        (1, 5, 45), // a new epoch begins at 0
        (1, 0, 0),
        (0, 7, 47), // the old one is over
        (1, 1, 0),
    ] {
        let (code, _, _) = append(&mut client, "orders", &numbered(id, epoch, sequence, "b")).await;
        assert_eq!(code, expected, "epoch {epoch}, sequence {sequence}");
    }
    let (_, high_watermark, _) = read(&mut client, "orders", (position(0), 1, 0)).await;
    assert_eq!(high_watermark, 9, "each was appended once");
}

#[tokio::test]
async fn batches_that_contradict_themselves_or_are_control_batches_are_refused() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let changed = |change: fn(&mut Batch)| {
        let mut changed = batch(&["a", "b"]);
        change(&mut changed);
        Batch::seal(changed.header, changed.records).expect("it is not too long")
    };
    for (what, changed) in [
        ("a count too small", changed(|b| b.header.record_count = 1)),
        ("a count too large", changed(|b| b.header.record_count = 3)),
        ("a last offset too small", changed(|b| b.header.last_offset_delta = 0)),
        (
            "more records than there are",
            changed(|b| (b.header.record_count, b.header.last_offset_delta) = (3, 2)),
        ),
        ("a control batch", changed(|b| b.header.attributes.set_control())),
        ("records cut off", changed(|b| b.records = b.records.slice(..b.records.len() - 3))),
    ] {
        let (code, _, _) = append(&mut client, "orders", &changed).await;
        assert!([2, 87].contains(&code), "{what}: {code}");
    }
    let given = changed(|b| b.header.attributes.set_log_append_time());
    assert_eq!(append(&mut client, "orders", &given).await.0, 32, "whose time it is, brokers say");
    assert_eq!(read(&mut client, "orders", (position(0), 1, 0)).await, (0, 0, vec![]));
    assert_eq!(append(&mut client, "orders", &batch(&["a"])).await, (0, 0, -1));
}

#[tokio::test]
async fn reading_begins_anywhere_in_the_log_and_nowhere_else() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    append(&mut client, "orders", &batch(&["a", "b", "c"])).await;
    append(&mut client, "orders", &batch(&["d"])).await;
    let (code, _, batches) = read(&mut client, "orders", (position(1), 1, 0)).await;
    let offsets: Vec<i64> = batches.iter().map(|batch| batch.base_offset().0).collect();
    assert_eq!((code, offsets), (0, vec![0, 3]), "the batch around it is there as a whole");
    assert!(batches.iter().all(|batch| Epoch(0) <= batch.header.leader_epoch));
    assert_eq!(read(&mut client, "orders", (position(4), 1, 0)).await, (0, 4, vec![]));
    for beyond in [5, -1, i64::MAX] {
        let (code, _, batches) = read(&mut client, "orders", (position(beyond), 1, 50)).await;
        assert_eq!((code, batches), (1, vec![]), "offset {beyond}");
    }
    // More is asked for than there is: it is waited for, and then what there is comes.
    let (code, _, batches) = read(&mut client, "orders", (position(0), 1 << 20, 50)).await;
    assert_eq!((code, batches.len()), (0, 2));
    // However little is asked for, the first batch comes.
    let little = fetch::Partition { partition_max_bytes: 1, ..position(0) };
    let (_, _, batches) = read(&mut client, "orders", (little, 1, 0)).await;
    assert_eq!(batches.len(), 1);
    let topic = "orders".into();
    let partition = rafka_kafka_wire::delete_records::Partition { partition_index: 0, offset: 3 };
    let topic =
        rafka_kafka_wire::delete_records::Topic { name: topic, partitions: vec![partition] };
    let request =
        rafka_kafka_wire::delete_records::Request { topics: vec![topic], timeout_ms: 1000 };
    client.ask(2, &request).await.expect("answered");
    assert_eq!(read(&mut client, "orders", (position(2), 1, 50)).await.0, 1, "it was deleted");
    assert_eq!(read(&mut client, "orders", (position(3), 1, 50)).await.0, 0);
}

#[tokio::test]
async fn a_reader_gets_as_much_as_it_asked_for_as_soon_as_it_is_there() {
    // Far longer than a test may take.
    let never = 290_000;
    for (size, count, wanted) in
        [(1000, 150, 100_000), (40_000, 2, 50_000), (40_000, 4, 150_000), (10, 1, 1)]
    {
        let node = Node::start().await;
        let (mut reader, mut writer) = (node.connect().await, node.connect().await);
        let waits = read(&mut reader, "orders", (position(0), wanted, never));
        let value = "x".repeat(size);
        let writes = async {
            for _ in 0..count {
                append(&mut writer, "orders", &batch(&[&value])).await;
            }
        };
        let both = async { tokio::join!(waits, writes).0 };
        let (code, _, batches) =
            tokio::time::timeout(LIMIT, both).await.expect("it is answered when there is enough");
        let bytes: usize = batches.iter().map(Batch::len).sum();
        assert_eq!(code, 0);
        assert!(usize::try_from(wanted).expect("small") <= bytes, "{bytes} of {wanted}");
    }
}

#[tokio::test]
async fn a_reader_for_whom_there_is_no_room_gets_what_fits_as_soon_as_it_is_there() {
    let small = ByteSize::kib(64);
    let settings = rafka_kafka::Settings {
        fetch_bytes_max: small,
        read_bytes_max: Some(small),
        ..rafka_kafka::Settings::default()
    };
    let node = Node::with(settings).await;
    let (mut reader, mut writer) = (node.connect().await, node.connect().await);
    let waits = read(&mut reader, "orders", (position(0), 50_000, 290_000));
    let value = "x".repeat(40_000);
    let writes = async {
        for _ in 0..2 {
            append(&mut writer, "orders", &batch(&[&value])).await;
        }
    };
    let both = async { tokio::join!(waits, writes).0 };
    let (code, _, batches) = tokio::time::timeout(LIMIT, both).await.expect("it is answered");
    assert_eq!((code, batches.len()), (0, 1), "two do not fit");
}

#[tokio::test]
async fn topics_and_partitions_that_are_not_there_are_told_and_never_made() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    assert_eq!(read(&mut client, "nowhere", (position(0), 1, 50)).await.0, 3);
    let ninth = fetch::Partition { partition: 9, ..position(0) };
    assert_eq!(read(&mut client, "orders", (ninth, 1, 50)).await.0, 3);
    assert_eq!(look_up(&mut client, "nowhere", (-1, -1)).await, (3, -1, -1));
    let request = fetch::Request {
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![fetch::Topic {
            topic_id: uuid::Uuid::from_u128(7),
            partitions: vec![position(0)],
            ..fetch::Topic::default()
        }],
        ..fetch::Request::default()
    };
    let code = ask!(client, 13, request => fetch::Response<'_>, |r| {
        r.responses[0].partitions[0].error_code
    });
    assert_eq!(code, 100, "nobody has this id");
    assert_eq!(node.broker.list_topics().len(), 1);
}

#[tokio::test]
async fn clients_that_believe_in_another_leader_epoch_are_told() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    append(&mut client, "orders", &batch(&["a", "b"])).await;
    let (_, _, batches) = read(&mut client, "orders", (position(0), 1, 0)).await;
    let now = batches[0].header.leader_epoch.0;
    for (claimed, expected) in [(now, 0), (now + 1, 75), (now - 1, 74)] {
        let expected = if claimed < 0 { 0 } else { expected };
        let at = fetch::Partition { current_leader_epoch: claimed, ..position(0) };
        assert_eq!(read(&mut client, "orders", (at, 1, 50)).await.0, expected, "{claimed}");
        assert_eq!(look_up(&mut client, "orders", (-1, claimed)).await.0, expected, "{claimed}");
        let partition = offset_for_leader_epoch::OffsetForLeaderPartition {
            current_leader_epoch: claimed,
            leader_epoch: now,
            ..Default::default()
        };
        let topic = offset_for_leader_epoch::OffsetForLeaderTopic {
            topic: "orders".into(),
            partitions: vec![partition],
        };
        let request = offset_for_leader_epoch::Request { replica_id: -1, topics: vec![topic] };
        let (code, epoch, end) = ask!(client, 4, request => offset_for_leader_epoch::Response<'_>, |r| {
            let found = &r.topics[0].partitions[0];
            (found.error_code, found.leader_epoch, found.end_offset)
        });
        assert_eq!(code, expected, "{claimed}");
        if code == 0 {
            assert_eq!((epoch, end), (now, 2));
        }
    }
}

#[tokio::test]
async fn times_are_looked_up_record_by_record_and_wild_ones_are_refused() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let now = rafka_core::SystemClock::new().timestamp();
    let times = |times: &[Timestamp]| {
        let mut builder = BatchBuilder::new(Compression::Zstd);
        for time in times {
            builder.push(*time, None, Some(b"v"), &[]);
        }
        builder.build().expect("memory does not fail")
    };
    let second = |seconds| now.minus(Duration::from_secs(100)).plus(Duration::from_secs(seconds));
    let (first, last) = (times(&[second(10), second(30), second(20)]), times(&[second(40)]));
    assert_eq!(append(&mut client, "orders", &first).await.0, 0);
    assert_eq!(append(&mut client, "orders", &last).await.0, 0);
    for (asked, found) in [
        (Timestamp(0), (0, second(10).0)),
        (second(10), (0, second(10).0)),
        (second(11), (1, second(30).0)),
        (second(30), (1, second(30).0)),
        (second(31), (3, second(40).0)),
        (second(41), (-1, -1)),
        (Timestamp(i64::MAX), (-1, -1)),
    ] {
        let (code, offset, timestamp) = look_up(&mut client, "orders", (asked.0, -1)).await;
        assert_eq!((code, (offset, timestamp)), (0, found), "{asked}");
    }
    assert_eq!(look_up(&mut client, "orders", (-1, -1)).await, (0, 4, -1), "records, not batches");
    assert_eq!(look_up(&mut client, "orders", (-2, -1)).await, (0, 0, -1));
    let hours = |hours| now.plus(Duration::from_hours(hours));
    for wild in [Timestamp(-2), Timestamp(i64::MIN), Timestamp(i64::MAX), hours(48)] {
        assert_eq!(append(&mut client, "orders", &times(&[wild])).await.0, 32, "{wild}");
    }
    assert_eq!(append(&mut client, "orders", &times(&[Timestamp::NONE, now])).await.0, 0);
    let (_, offset, _) = look_up(&mut client, "orders", (now.0, -1)).await;
    assert_eq!(offset, 5, "the one without a time is not found by time");
}

#[tokio::test]
async fn the_brokers_time_is_in_the_answer_and_in_the_batch() {
    let node = Node::start().await;
    let configs = [("message.timestamp.type", "LogAppendTime")];
    rafka_broker::testing::create_topic(&node.broker, "stamped", 1, &configs).await;
    let mut client = node.connect().await;
    let before = rafka_core::SystemClock::new().timestamp();
    let (code, _, stamped_at) = append(&mut client, "stamped", &batch(&["a", "b"])).await;
    assert_eq!(code, 0);
    assert!(before.0 <= stamped_at);
    let (_, _, batches) = read(&mut client, "stamped", (position(0), 1, 0)).await;
    let kept = &batches[0];
    assert_eq!(kept.header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(kept.max_timestamp(), Timestamp(stamped_at));
    assert_eq!(look_up(&mut client, "stamped", (stamped_at, -1)).await, (0, 0, stamped_at));
}

/// Zstandard frames of nothing but runs of zeros: four bytes stand for 128 KiB, in all for 10 GiB.
fn bomb() -> Bytes {
    const RUN_BYTES: u32 = 128 << 10;
    const FRAME_RUNS: u32 = 1024;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    for run in 1..=FRAME_RUNS {
        // Three bytes: whether it is the last one, that it is a run, and its length.
        let head = u32::from(run == FRAME_RUNS) | 1 << 1 | RUN_BYTES << 3;
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.push(0);
    }
    Bytes::from(frame.repeat(80))
}

#[tokio::test]
async fn bombs_are_refused_whatever_they_are_packed_with_and_the_node_serves_on() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let mut packed = batch(&["a"]);
    packed.header.attributes.set_compression(Compression::Zstd);
    let nested = Batch::seal(packed.header.clone(), bomb()).expect("memory does not fail");
    packed.records = bomb();
    // Which renews the checksum.
    packed.set_max_timestamp(packed.max_timestamp());
    assert!(packed.len() < 512 << 10);
    assert_eq!(append(&mut client, "orders", &packed).await.0, 2);
    assert_eq!(append(&mut client, "orders", &nested).await.0, 87, "what is inside is no record");
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new(codec);
        builder.push(Timestamp(1_700_000_000_000), None, Some(&vec![0; 40 << 20]), &[]);
        let packed = builder.build().expect("memory does not fail");
        let expected = if ByteSize(1_048_588) < ByteSize::of_len(packed.len()) { 10 } else { 2 };
        assert_eq!(append(&mut client, "orders", &packed).await.0, expected, "{codec:?}");
    }
    assert_eq!(append(&mut client, "orders", &batch(&["a"])).await, (0, 0, -1));
}
