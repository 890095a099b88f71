//! Idempotent producers: what a node remembers of them, and through what.

use rafka_broker::offsets::Spec;
use rafka_core::producer_state::PRODUCER_BYTES;
use rafka_core::{ByteSize, ErrorCode, ProducerEpoch, ProducerId};

use crate::client::{
    PRODUCER, answer, bound, code, delete_records, numbered, produce, read_all, send, until, values,
};
use crate::node::{Node, Settings, small};

/// What may happen between a batch and its repetition.
#[derive(Debug, Clone, Copy)]
enum Between {
    Nothing,
    Kill,
    PowerCut,
    FlushAndPowerCut,
    StopInOrder,
    /// Every record deleted by the user, and with that every segment.
    RecordsDeleted,
    /// The same by retention.
    RetentionOver,
}

const ALL: [Between; 7] = [
    Between::Nothing,
    Between::Kill,
    Between::PowerCut,
    Between::FlushAndPowerCut,
    Between::StopInOrder,
    Between::RecordsDeleted,
    Between::RetentionOver,
];

async fn pass(node: Node, topic: &rafka_core::TopicName, between: Between) -> Node {
    match between {
        Between::Nothing => node,
        Between::Kill => node.kill().await,
        Between::PowerCut => node.power_cut().await,
        Between::FlushAndPowerCut => {
            node.engine.flush().expect("the disk works");
            node.power_cut().await
        }
        Between::StopInOrder => {
            let node = node.stop().await.start().await.expect("it was left clean");
            assert!(node.started.was_clean);
            node
        }
        Between::RecordsDeleted => {
            node.engine.flush().expect("the disk works");
            delete_records(&node, topic, None).await.expect("they can be deleted");
            node.power_cut().await
        }
        Between::RetentionOver => {
            node.engine.flush().expect("the disk works");
            let configs = vec![("retention.bytes".to_owned(), Some("0".to_owned()))];
            let altered = node.broker.alter_configs(topic.clone().into(), configs, false).await;
            altered.expect("a known key");
            node.broker.clean().await;
            assert_eq!(bound(&node, topic, 0, Spec::Earliest).await, 7);
            node.kill().await
        }
    }
}

#[tokio::test]
async fn the_last_five_batches_are_known_again_whatever_happened_between() {
    for between in ALL {
        let node = Node::new(small()).await;
        let topic = node.create_topic("orders", 1, &[]).await;
        for sequence in 0..7 {
            let offset = produce(&node, &topic, numbered(&node, PRODUCER, sequence)).await;
            assert_eq!(offset, Ok(i64::from(sequence)));
        }
        let node = pass(node, &topic, between).await;
        let end = bound(&node, &topic, 0, Spec::Latest).await;
        for sequence in 2..7 {
            let offset = produce(&node, &topic, numbered(&node, PRODUCER, sequence)).await;
            assert_eq!(offset, Ok(i64::from(sequence)), "{between:?}");
        }
        assert_eq!(bound(&node, &topic, 0, Spec::Latest).await, end, "{between:?}: one copy");
        let too_old = produce(&node, &topic, numbered(&node, PRODUCER, 1)).await;
        assert_eq!(code(&too_old), Some(ErrorCode::OutOfOrderSequenceNumber), "{between:?}");
        let gap = produce(&node, &topic, numbered(&node, PRODUCER, 8)).await;
        assert_eq!(code(&gap), Some(ErrorCode::OutOfOrderSequenceNumber), "{between:?}");
        let next = produce(&node, &topic, numbered(&node, PRODUCER, 7)).await;
        assert_eq!(next, Ok(7), "{between:?}");
        node.bury().await;
    }
}

#[tokio::test]
async fn an_older_epoch_is_fenced_and_a_newer_one_begins_at_zero_also_after_a_restart() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    let of_epoch = |node: &Node, epoch, sequence| {
        let mut batch = numbered(node, PRODUCER, sequence);
        batch.set_producer(PRODUCER, ProducerEpoch(epoch), sequence);
        batch
    };
    assert_eq!(produce(&node, &topic, of_epoch(&node, 1, 0)).await, Ok(0));
    let node = node.power_cut().await;
    let fenced = produce(&node, &topic, of_epoch(&node, 0, 1)).await;
    assert_eq!(code(&fenced), Some(ErrorCode::InvalidProducerEpoch));
    let in_the_middle = produce(&node, &topic, of_epoch(&node, 2, 1)).await;
    assert_eq!(code(&in_the_middle), Some(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(produce(&node, &topic, of_epoch(&node, 2, 0)).await, Ok(1));
    assert_eq!(read_all(&node, &topic, 0).await.len(), 2);
}

#[tokio::test]
async fn producer_ids_are_not_given_again_after_a_power_cut() {
    let mut node = Node::new(Settings::default()).await;
    let mut given = std::collections::BTreeSet::new();
    for _ in 0..3 {
        for _ in 0..10 {
            let (id, _) = node.broker.init_producer_id().await.expect("the disk works");
            assert!(given.insert(id), "{id} was given twice");
        }
        node = node.power_cut().await;
    }
}

#[tokio::test]
async fn compaction_keeps_what_a_repetition_is_known_by() {
    let node = Node::new(small()).await;
    let configs = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")];
    let topic = node.create_topic("state", 1, &configs).await;
    for sequence in 0..5 {
        produce(&node, &topic, numbered(&node, PRODUCER, sequence)).await.expect("it is taken");
    }
    node.engine.flush().expect("the disk works");
    node.broker.clean().await;
    assert_eq!(values(&read_all(&node, &topic, 0).await), [(4, "9/4".to_owned())]);
    let node = node.power_cut().await;
    for sequence in 0..5 {
        let offset = produce(&node, &topic, numbered(&node, PRODUCER, sequence)).await;
        assert_eq!(offset, Ok(i64::from(sequence)));
    }
    assert_eq!(produce(&node, &topic, numbered(&node, PRODUCER, 5)).await, Ok(5));
}

#[tokio::test]
async fn producers_without_end_take_a_bounded_memory_and_the_newest_stay_known() {
    let mut settings = small();
    settings.broker.producers_bytes_max = Some(ByteSize::mib(1));
    let count_max = ByteSize::mib(1).as_usize() / PRODUCER_BYTES;
    let node = Node::new(settings).await;
    let topic = node.create_topic("orders", 2, &[]).await;
    let producers = i64::try_from(2 * count_max).expect("a small number");
    for id in 0..producers {
        let partition = i32::try_from(id % 2).expect("0 or 1");
        let pending = send(&node, &topic, partition, numbered(&node, ProducerId(id), 0)).await;
        node.engine.step();
        answer(pending).await.expect("it is taken");
        assert!(node.broker.producer_count() <= count_max, "after producer {id}");
    }
    // Those who wrote longest ago were forgotten, to be back neither after a restart.
    let node = node.power_cut().await;
    let condition = || node.broker.producer_count() <= count_max;
    until(condition).await;
    let newest = ProducerId(producers - 2);
    let end = bound(&node, &topic, 0, Spec::Latest).await;
    let repeated = produce(&node, &topic, numbered(&node, newest, 0)).await;
    assert_eq!(repeated, Ok(end - 1), "the newest is known again");
    assert_eq!(bound(&node, &topic, 0, Spec::Latest).await, end);
}
