//! A disk that fails, fills up, or gives back something else than was written.

use std::path::PathBuf;
use std::time::Duration;

use rafka_broker::offsets::Spec;
use rafka_core::{ByteSize, ErrorCode, TopicName};
use rafka_storage::Engine as _;
use rafka_storage::disk::Disk as _;
use rafka_storage::disk::faulty::Verb;

use crate::client::{
    PRODUCER, WAIT, answer, batch, bound, code, delete_records, fetch, from, numbered, position,
    produce, produced, read_all, send, values,
};
use crate::node::{DIR, Node, TODAY, small};

#[tokio::test]
async fn after_a_failed_journal_write_nothing_is_acked_and_reads_go_on() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    produced(&node, &topic, b"acked").await;
    node.place.disk.fail(Verb::Write, "journal", 0);
    let in_flight = produce(&node, &topic, numbered(&node, PRODUCER, 0)).await;
    assert_eq!(code(&in_flight), Some(ErrorCode::KafkaStorageError));
    let failure = node.broker.failure().expect("the node knows");
    assert!(failure.message.contains("nothing more is written until the node is restarted"));
    // The disk works again, which nobody can trust any more.
    let later = produce(&node, &topic, numbered(&node, PRODUCER, 0)).await;
    assert_eq!(code(&later), Some(ErrorCode::KafkaStorageError));
    let found = fetch(&node, &topic, 0, 0).await.expect("reads go on");
    assert_eq!(values(&found.batches), [(0, "acked".to_owned())]);
    assert_eq!(found.high_watermark.0, 1);
    let node = node.power_cut().await;
    assert_eq!(node.broker.failure(), None);
    let offset = produce(&node, &topic, numbered(&node, PRODUCER, 0)).await;
    let all = values(&read_all(&node, &topic, 0).await);
    assert_eq!(all, [(0, "acked".to_owned()), (1, "9/0".to_owned())], "once: {offset:?}");
    assert_eq!(offset, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_ends_fetches_and_appends_that_wait() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    let begun = tokio::time::Instant::now();
    let parked = node.broker.fetch(from(position(&topic, 0, 0), WAIT));
    let failing = async {
        let pending = send(&node, &topic, 0, numbered(&node, PRODUCER, 0)).await;
        node.place.disk.fail(Verb::Write, "journal", 0);
        node.engine.step();
        answer(pending).await
    };
    let (data, result) = tokio::join!(parked, failing);
    assert_eq!(code(&result), Some(ErrorCode::KafkaStorageError));
    assert!(data[0].result.as_ref().expect("reads go on").batches.is_empty());
    assert!(WAIT <= begun.elapsed(), "the fetch had nothing to return before its time");
}

#[tokio::test]
async fn a_failed_sync_of_a_segment_costs_nothing_that_was_acked() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    for value in 0..20_u8 {
        produced(&node, &topic, &[value; 300]).await;
    }
    let acked = read_all(&node, &topic, 0).await;
    node.place.disk.fail(Verb::Sync, "logs", 0);
    assert!(node.engine.flush().is_err());
    // A second sync would say that all is well, and lie.
    assert!(node.engine.flush().is_err());
    node.engine.tick();
    let refused = produce(&node, &topic, numbered(&node, PRODUCER, 0)).await;
    assert_eq!(code(&refused), Some(ErrorCode::KafkaStorageError));
    assert_eq!(read_all(&node, &topic, 0).await, acked);
    let node = node.power_cut().await;
    assert_eq!(read_all(&node, &topic, 0).await, acked);
    assert_eq!(produced(&node, &topic, b"next").await, 20);
}

/// A topic whose twenty batches are in a segment, and in no memory.
async fn on_disk() -> (Node, TopicName) {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    for value in 0..20_u8 {
        produced(&node, &topic, &[b'a' + value; 1000]).await;
    }
    node.engine.flush().expect("the disk works");
    (node.kill().await, topic)
}

fn segment(node: &Node, topic: &TopicName, extension: &str) -> PathBuf {
    let id = node.broker.describe_topic(&topic.clone().into()).expect("it exists").id;
    let file = format!("{:020}.{extension}", 0);
    PathBuf::from(DIR).join("logs").join(id.to_string()).join("0").join(file)
}

#[tokio::test]
async fn a_failed_read_is_that_fetchs_alone() {
    let (node, topic) = on_disk().await;
    node.place.disk.fail(Verb::Read, ".log", 0);
    let failed = fetch(&node, &topic, 0, 0).await;
    assert_eq!(code(&failed), Some(ErrorCode::KafkaStorageError));
    assert_eq!(read_all(&node, &topic, 0).await.len(), 20, "no short log");
    assert_eq!(node.broker.failure(), None);
    assert_eq!(produced(&node, &topic, b"next").await, 20);
}

#[tokio::test]
async fn a_damaged_batch_is_told_as_such_and_all_others_are_served() {
    let (node, topic) = on_disk().await;
    let path = segment(&node, &topic, "log");
    let middle = node.place.disk.contents(&path).len() as u64 / 2;
    node.place.disk.flip(&path, middle, 0x10);
    let mut damaged = Vec::new();
    for offset in 0..20_u8 {
        let mut one = position(&topic, 0, i64::from(offset));
        one.bytes_max = ByteSize(1);
        match node.broker.fetch(from(one, Duration::ZERO)).await.remove(0).result {
            Ok(found) => {
                let expected = String::from_utf8(vec![b'a' + offset; 1000]).expect("letters");
                assert_eq!(values(&found.batches), [(i64::from(offset), expected)]);
            }
            Err(error) => {
                assert_eq!(error.code, ErrorCode::CorruptMessage);
                let next = format!("the next whole one is at {}", offset + 1);
                assert!(error.message.contains(&next), "{error}: it says how to go on");
                damaged.push(offset);
            }
        }
    }
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    assert_eq!(bound(&node, &topic, 0, Spec::Latest).await, 20, "no short log");
    assert_eq!(produced(&node, &topic, b"next").await, 20);
}

#[tokio::test]
async fn a_lost_or_damaged_index_changes_no_answer() {
    for remove in [true, false] {
        let (node, topic) = on_disk().await;
        let batches = read_all(&node, &topic, 0).await;
        let path = segment(&node, &topic, "index");
        let node = node.kill().await;
        if remove {
            node.place.disk.remove(&path).expect("there is an index");
        } else {
            let len = node.place.disk.contents(&path).len() as u64;
            (0..len).step_by(7).for_each(|at| node.place.disk.flip(&path, at, 0x55));
        }
        for batch in &batches {
            let offset = batch.base_offset().0;
            let found = fetch(&node, &topic, 0, offset).await.expect("it is whole");
            assert_eq!(found.batches[0], *batch);
            let at = Spec::At(batch.max_timestamp());
            assert!(bound(&node, &topic, 0, at).await <= offset);
        }
        assert_eq!(node.engine.stats().indexes_rebuilt, 1);
    }
}

/// Fills the disk down to the reserve; returns how many batches were taken.
async fn fill(node: &Node, topic: &TopicName) -> i64 {
    for count in 0..10_000 {
        let pending = send(node, topic, 0, numbered_large(node, count)).await;
        node.engine.step();
        // While the disk is short of space what was taken waits for it.
        node.engine.flush().ok();
        match answer(pending).await {
            Ok(offset) => assert_eq!(offset, i64::from(count)),
            Err(error) => {
                assert_eq!(error.code, ErrorCode::KafkaStorageError, "{error}");
                assert!(error.is_retriable());
                assert!(error.message.contains("the disk is full"), "{error}");
                assert!(error.message.contains("free space or shorten retention"), "{error}");
                return i64::from(count);
            }
        }
    }
    unreachable!("the disk is never full")
}

fn numbered_large(node: &Node, sequence: i32) -> rafka_core::Batch {
    let mut batch = batch(node.place.clock.truth(), &[7; 8000]);
    batch.set_producer(PRODUCER, rafka_core::ProducerEpoch(0), sequence);
    batch
}

#[tokio::test]
async fn a_full_disk_refuses_appends_serves_all_else_and_recovers_without_a_restart() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[("segment.bytes", "65536")]).await;
    let other = node.create_topic("other", 1, &[]).await;
    for _ in 0..20 {
        produced(&node, &other, &[1; 8000]).await;
    }
    node.engine.flush().expect("there is space");
    let disk = node.place.disk.clone();
    disk.set_capacity(Some(ByteSize::gib(1)));
    let free = disk.free_space(DIR.as_ref()).expect("it says");
    let used = ByteSize::gib(1).0 - free.0;
    disk.set_capacity(Some(ByteSize(used + ByteSize::mib(3).0)));
    let taken = fill(&node, &topic).await;
    assert!(0 < taken);
    assert_eq!(bound(&node, &topic, 0, Spec::Latest).await, taken, "what was acked is there");
    assert_eq!(read_all(&node, &topic, 0).await.len(), usize::try_from(taken).expect("small"));
    assert_eq!(node.broker.failure(), None, "a full disk is no failure");
    // What frees space works, and so does what is small: topics and ids come out of the reserve.
    let small = node.create_topic("small", 1, &[]).await;
    node.broker.init_producer_id().await.expect("it comes out of the reserve");
    node.broker.delete_topic(small.into()).await.expect("it exists");
    node.broker.delete_topic(other.into()).await.expect("it exists");
    delete_records(&node, &topic, Some(taken / 2)).await.expect("they can be deleted");
    let configs = vec![("retention.bytes".to_owned(), Some("100000".to_owned()))];
    node.broker.alter_configs(topic.clone().into(), configs, false).await.expect("a known key");
    node.broker.clean().await;
    node.engine.step();
    let next = i32::try_from(taken).expect("small");
    assert_eq!(produce(&node, &topic, numbered_large(&node, next)).await, Ok(taken));
    let left = read_all(&node, &topic, 0).await;
    assert!(taken / 2 < left[0].base_offset().0, "retention went on");
    // Nor does a restart on the full disk lose anything.
    let node = node.power_cut().await;
    assert_eq!(read_all(&node, &topic, 0).await, left);
}

#[tokio::test]
async fn a_topic_change_that_finds_the_disk_full_is_carried_out_before_the_next() {
    let node = Node::new(small()).await;
    let kept = node.create_topic("kept", 1, &[]).await;
    let logs = |node: &Node| node.engine.existing().expect("the manifest can be read").len();
    node.place.disk.refuse_space("manifest", 0);
    let topic = node.create_topic("orders", 2, &[]).await;
    assert_eq!(logs(&node), 1, "it is agreed on, and there was no room for its logs");
    let refused = produce(&node, &topic, batch(TODAY, b"early")).await;
    assert_eq!(code(&refused), Some(ErrorCode::UnknownTopicOrPartition));
    assert!(node.broker.failure().is_none(), "a full disk is no failure");
    assert_eq!(produced(&node, &kept, b"goes on").await, 0);
    let other = node.create_topic("more", 1, &[]).await;
    assert_eq!(logs(&node), 4);
    for topic in [&topic, &other] {
        assert_eq!(produced(&node, topic, b"served").await, 0);
    }
    node.place.disk.refuse_space("manifest", 0);
    node.broker.delete_topic(other.into()).await.expect("it is agreed on");
    assert_eq!(logs(&node), 4, "there was no room to note it");
    node.create_topic("most", 1, &[]).await;
    assert_eq!(logs(&node), 4, "one was deleted, one created");
}

#[tokio::test]
async fn a_node_starts_on_a_disk_that_is_full() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    let disk = node.place.disk.clone();
    disk.set_capacity(Some(ByteSize::mib(6)));
    let taken = fill(&node, &topic).await;
    let node = node.kill().await;
    assert_eq!(bound(&node, &topic, 0, Spec::Latest).await, taken);
    let next = i32::try_from(taken).expect("small");
    let refused = produce(&node, &topic, numbered_large(&node, next)).await;
    assert_eq!(code(&refused), Some(ErrorCode::KafkaStorageError));
    disk.set_capacity(None);
    node.engine.step();
    assert_eq!(produce(&node, &topic, numbered_large(&node, next)).await, Ok(taken));
}
