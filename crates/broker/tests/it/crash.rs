//! Kills and power cuts at any moment, with producers in flight that send again.

use std::collections::VecDeque;
use std::path::Path;

use futures_util::FutureExt as _;
use rafka_broker::Pending;
use rafka_broker::offsets::Spec;
use rafka_core::rng::{self, Rng, RngExt as _};
use rafka_core::{Batch, ErrorCode, ProducerId, TopicName};
use rafka_storage::Engine as _;
use rafka_storage::disk::Disk as _;
use rafka_storage::disk::faulty::Verb;

use crate::client::{
    WAIT, answer, bound, code, fetch, from, numbered, position, produced, read_all, send, until,
    values,
};
use crate::node::{DIR, Ground, Node, small};

const ROUNDS: u64 = 40;
const PARTITIONS: i32 = 3;
/// What an idempotent producer may have in flight.
const WINDOW: usize = 5;

/// An idempotent producer with a partition of its own.
struct Producer {
    id: ProducerId,
    partition: i32,
    /// Sent, and not known to be appended, in order.
    in_flight: VecDeque<(Batch, Option<Pending>)>,
    /// The offset of each sequence number that was acknowledged.
    acked: Vec<i64>,
    sequence_next: i32,
}

impl Producer {
    async fn send_new(&mut self, node: &Node, topic: &TopicName) {
        if self.in_flight.len() < WINDOW {
            let batch = numbered(node, self.id, self.sequence_next);
            self.sequence_next += 1;
            let pending = send(node, topic, self.partition, batch.clone()).await;
            self.in_flight.push_back((batch, Some(pending)));
        }
    }

    async fn send_again(&mut self, node: &Node, topic: &TopicName) {
        for (batch, pending) in &mut self.in_flight {
            *pending = Some(send(node, topic, self.partition, batch.clone()).await);
        }
    }

    /// Takes the answers that are there. Of what failed, nothing is known: it stays in flight.
    fn hear(&mut self) {
        while let Some((_, pending)) = self.in_flight.front_mut() {
            let Some(result) = pending.take().map(|mut waits| {
                let answer = (&mut waits).now_or_never();
                if answer.is_none() {
                    *pending = Some(waits);
                }
                answer
            }) else {
                return;
            };
            match result.map(|mut acks| acks.remove(0).result) {
                Some(Ok(appended)) => {
                    self.acked.push(appended.base_offset.0);
                    self.in_flight.pop_front();
                }
                Some(Err(error)) => {
                    assert!(error.is_retriable(), "{error}");
                    return;
                }
                None => return,
            }
        }
    }
}

/// Lets producers and engine run until the disk dies or enough was done.
async fn live(node: &Node, topic: &TopicName, producers: &mut [Producer], rng: &mut Rng) {
    for _ in 0..rng.random_range(5..60) {
        match rng.random_range(0..10) {
            0..7 => {
                let producer = rng.random_range(0..producers.len());
                producers[producer].send_new(node, topic).await;
            }
            7 => node.write_journal(),
            8 => node.engine.step(),
            // Without a disk it fails, which is part of the game.
            _ => drop(node.engine.flush()),
        }
        producers.iter_mut().for_each(Producer::hear);
        if node.place.disk.is_dead() {
            return;
        }
    }
}

/// Starts a node, whose disk may die in the middle of that once or twice.
async fn start(ground: &Ground, rng: &mut Rng) -> Node {
    for _ in 0..2 {
        if rng.random_ratio(1, 3) {
            ground.disk.die_after(rng.random_range(0..30));
        }
        match ground.start().await {
            Ok(node) => return node,
            Err(_died) => ground.disk.crash(),
        }
    }
    ground.start().await.expect("what was left can be started on")
}

/// One node's lives.
async fn check(seed: u64) {
    let mut rng = rng::from_seed(seed);
    let node = Ground::new(seed, small()).start().await.expect("an empty disk can be used");
    let topic = node.create_topic("ledger", PARTITIONS.unsigned_abs(), &[]).await;
    let mut producers: Vec<Producer> = (0..PARTITIONS)
        .map(|partition| Producer {
            id: ProducerId(100 + i64::from(partition)),
            partition,
            in_flight: VecDeque::new(),
            acked: Vec::new(),
            sequence_next: 0,
        })
        .collect();
    let mut node = node;
    for _ in 0..rng.random_range(1..4) {
        if rng.random_ratio(2, 3) {
            node.place.disk.die_after(rng.random_range(0..60));
        }
        live(&node, &topic, &mut producers, &mut rng).await;
        if rng.random_ratio(1, 2) {
            node.place.disk.crash();
        } else {
            node.place.disk.kill();
        }
        // What was acknowledged before the end counts, what comes after it does not.
        for producer in &mut producers {
            producer.hear();
            producer.in_flight.iter_mut().for_each(|(_, pending)| *pending = None);
        }
        let ground = node.bury().await;
        node = start(&ground, &mut rng).await;
        for producer in &mut producers {
            producer.send_again(&node, &topic).await;
        }
    }
    if node.place.disk.is_dead() || node.broker.failure().is_some() {
        node = node.power_cut().await;
    }
    for producer in &mut producers {
        producer.send_again(&node, &topic).await;
        node.engine.step();
        producer.hear();
        assert!(producer.in_flight.is_empty(), "seed {seed}: something is never acknowledged");
        let found = values(&read_all(&node, &topic, producer.partition).await);
        let expected: Vec<(i64, String)> = (0..)
            .zip(&producer.acked)
            .map(|(sequence, offset)| (*offset, format!("{}/{sequence}", producer.id)))
            .collect();
        assert_eq!(found, expected, "seed {seed}: lost, doubled, moved or out of order");
    }
    node.bury().await;
}

#[tokio::test]
async fn wherever_a_node_dies_each_record_is_there_once_at_the_offset_it_was_acked_with() {
    for seed in 0..ROUNDS {
        check(seed).await;
    }
}

#[tokio::test]
async fn nothing_is_acked_or_shown_before_it_is_durable() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    let mut first = send(&node, &topic, 0, numbered(&node, ProducerId(1), 0)).await;
    // A repetition is no more durable than the first.
    let mut again = send(&node, &topic, 0, numbered(&node, ProducerId(1), 0)).await;
    assert!((&mut first).now_or_never().is_none());
    assert!((&mut again).now_or_never().is_none());
    let found = fetch(&node, &topic, 0, 0).await.expect("it exists");
    assert!(found.batches.is_empty());
    assert_eq!(found.high_watermark.0, 0);
    assert_eq!(bound(&node, &topic, 0, Spec::Latest).await, 0);
    node.write_journal();
    assert_eq!((answer(first).await, answer(again).await), (Ok(0), Ok(0)));
    assert_eq!(values(&read_all(&node, &topic, 0).await), [(0, "1/0".to_owned())]);
}

#[tokio::test]
async fn what_was_not_acked_before_a_power_cut_was_never_shown_either() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    produced(&node, &topic, b"kept").await;
    let unacked = send(&node, &topic, 0, numbered(&node, ProducerId(1), 0)).await;
    let node = node.power_cut().await;
    let lost = answer(unacked).await;
    assert_eq!(code(&lost), Some(ErrorCode::RequestTimedOut), "whoever waits is told the truth");
    assert_eq!(values(&read_all(&node, &topic, 0).await), [(0, "kept".to_owned())]);
    assert_eq!(produced(&node, &topic, b"next").await, 1);
}

#[tokio::test]
async fn a_restart_leads_under_a_new_epoch_and_fences_those_who_know_the_old_one() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    produced(&node, &topic, b"old").await;
    let node = node.kill().await;
    produced(&node, &topic, b"new").await;
    let epochs: Vec<_> =
        read_all(&node, &topic, 0).await.iter().map(|batch| batch.header.leader_epoch).collect();
    assert!(epochs[0] < epochs[1], "{epochs:?}");
    for (epoch, expected) in [
        (epochs[0], Some(ErrorCode::FencedLeaderEpoch)),
        (epochs[1], None),
        (epochs[1].next(), Some(ErrorCode::UnknownLeaderEpoch)),
    ] {
        let mut known = position(&topic, 0, 0);
        known.leader_epoch = Some(epoch);
        let data = node.broker.fetch(from(known, WAIT)).await.remove(0);
        assert_eq!(code(&data.result), expected, "epoch {epoch}");
    }
}

#[tokio::test]
async fn durability_os_survives_a_kill_and_leaves_a_whole_log_after_a_power_cut() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("metrics", 1, &[("durability", "os")]).await;
    for value in ["a", "b", "c"] {
        produced(&node, &topic, value.as_bytes()).await;
    }
    let node = node.kill().await;
    let all = values(&read_all(&node, &topic, 0).await);
    assert_eq!(all.len(), 3, "a kill takes nothing that was acked");
    let node = node.power_cut().await;
    let left = values(&read_all(&node, &topic, 0).await);
    assert_eq!(left[..], all[..left.len()], "what is left is a prefix");
    let next = i64::try_from(left.len()).expect("small");
    assert_eq!(produced(&node, &topic, b"d").await, next);
}

#[tokio::test]
async fn a_deleted_topic_stays_deleted_and_its_successor_is_empty() {
    let mut node = Node::new(small()).await;
    for cut in [true, false] {
        let topic = node.create_topic("orders", 2, &[]).await;
        for value in 0..20_u8 {
            produced(&node, &topic, &[value; 500]).await;
        }
        node.engine.flush().expect("the disk works");
        produced(&node, &topic, b"not in a segment yet").await;
        node.broker.delete_topic(topic.clone().into()).await.expect("it exists");
        node = if cut { node.power_cut().await } else { node.kill().await };
        assert!(node.broker.list_topics().is_empty());
        let topic = node.create_topic("orders", 1, &[]).await;
        assert_eq!(read_all(&node, &topic, 0).await, []);
        assert_eq!(produced(&node, &topic, b"new").await, 0);
        node = if cut { node.kill().await } else { node.power_cut().await };
        assert_eq!(values(&read_all(&node, &topic, 0).await), [(0, "new".to_owned())]);
        node.broker.delete_topic(topic.into()).await.expect("it exists");
    }
}

#[tokio::test]
async fn a_deletion_that_a_crash_cut_short_is_finished_by_the_next_start() {
    let node = Node::new(small()).await;
    let kept = node.create_topic("kept", 1, &[]).await;
    let topic = node.create_topic("orders", 2, &[]).await;
    produced(&node, &topic, b"deleted").await;
    node.engine.flush().expect("the disk works");
    let logs = |node: &Node| node.engine.existing().expect("the manifest can be read").len();
    // It is agreed on, and then the engine cannot carry it out.
    node.place.disk.fail(Verb::Write, "manifest", 0);
    node.broker.delete_topic(topic.clone().into()).await.expect("it is agreed on");
    assert!(node.broker.failure().is_some());
    let node = node.power_cut().await;
    until(|| logs(&node) == 1).await;
    let node = node.kill().await;
    assert_eq!(logs(&node), 1);
    assert_eq!(node.broker.list_topics().len(), 1);
    assert_eq!(produced(&node, &kept, b"kept").await, 0);
}

#[tokio::test]
async fn logs_that_belong_to_no_topic_are_kept_and_not_served() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    produced(&node, &topic, b"perhaps the only copy").await;
    node.engine.flush().expect("the disk works");
    node.place.disk.kill();
    let ground = node.bury().await;
    let metadata = Path::new(DIR).join("metadata.redb");
    ground.disk.remove(&metadata).expect("it was there");
    let node = ground.start().await.expect("what is left can be started on");
    assert!(node.broker.list_topics().is_empty());
    let before = node.engine.existing().expect("the manifest can be read");
    assert_eq!(before.len(), 1);
    // A topic of the same name is another one.
    let topic = node.create_topic("orders", 1, &[]).await;
    assert_eq!(read_all(&node, &topic, 0).await, []);
    node.engine.step();
    node.broker.clean().await;
    let node = node.power_cut().await;
    assert!(node.engine.existing().expect("the manifest can be read").is_superset(&before));
}
