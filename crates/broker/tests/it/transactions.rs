//! Transactions in partitions: who may write to one, what its readers see, and what of it survives.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rafka_broker::fetch::{Fetched, Isolation};
use rafka_broker::offsets::{self, Spec};
use rafka_broker::produce::{Acks, PartitionBatches, Request, Transaction, TransactionVersion};
use rafka_broker::{Error, Markers, Pending, Registrations, TopicRef};
use rafka_core::batch::{BatchBuilder, EndMarker, Outcome};
use rafka_core::compression::Compression;
use rafka_core::producer_state::PRODUCER_BYTES;
use rafka_core::rng::{self, RngExt as _};
use rafka_core::{
    Batch, ByteSize, Epoch, ErrorCode, Offset, PartitionIndex, ProducerEpoch, ProducerId,
    TopicName, TopicPartition,
};
use tokio::sync::Notify;

use crate::client::{
    P0, PRODUCER, WAIT, answer, code, delete_records, from, position, produce, produced, values,
};
use crate::node::{Ground, Node, small};

const ID: &str = "payments";
const OTHER: ProducerId = ProducerId(10);
const EPOCH: ProducerEpoch = ProducerEpoch(0);

/// A coordinator that knows what it is told.
#[derive(Default)]
struct Known {
    ongoing: Mutex<BTreeSet<ProducerId>>,
    questions: Mutex<Vec<usize>>,
    /// If there is one, answers wait for it.
    gate: Mutex<Option<Arc<Notify>>>,
}

impl Registrations for Known {
    fn register(
        &self,
        transaction: &Transaction,
        (producer, _epoch): (ProducerId, ProducerEpoch),
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<'static, Vec<Result<(), Error>>> {
        assert_eq!(transaction.id, ID);
        self.questions.lock().push(partitions.len());
        let is_known = self.ongoing.lock().contains(&producer);
        let refused = || Err(Error::from(ErrorCode::InvalidTxnState));
        let answer = if is_known { Ok(()) } else { refused() };
        let gate = self.gate.lock().clone();
        async move {
            if let Some(gate) = gate {
                gate.notified().await;
            }
            vec![answer; partitions.len()]
        }
        .boxed()
    }
}

/// A node on which these producers have a transaction.
async fn node_with(node: Node, producers: &[ProducerId]) -> (Node, Arc<Known>) {
    let known = Arc::new(Known::default());
    known.ongoing.lock().extend(producers);
    node.broker.set_registrations(Arc::clone(&known) as Arc<dyn Registrations>);
    (node, known)
}

fn transactional(node: &Node, producer: ProducerId, epoch: ProducerEpoch, sequence: i32) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.producer(producer, epoch, sequence);
    builder.transactional();
    let value = format!("{producer}/{sequence}");
    builder.push(node.place.clock.truth(), Some(b"key"), Some(value.as_bytes()), &[]);
    builder.build().expect("no codec")
}

async fn send(node: &Node, topic: &TopicName, partitions: &[(i32, Batch)]) -> Pending {
    let partitions = partitions.iter().map(|(partition, batch)| PartitionBatches {
        topic: topic.clone().into(),
        partition: PartitionIndex(*partition),
        batches: vec![batch.clone()],
    });
    let transaction = Some(Transaction { id: ID.to_owned(), version: TransactionVersion::V1 });
    let partitions = partitions.collect();
    node.broker.produce(Request { acks: Acks::All, timeout: WAIT, transaction, partitions }).await
}

async fn write(node: &Node, topic: &TopicName, batch: Batch) -> Result<i64, Error> {
    let pending = send(node, topic, &[(0, batch)]).await;
    node.engine.step();
    answer(pending).await
}

async fn written(node: &Node, topic: &TopicName, producer: ProducerId, sequence: i32) -> i64 {
    let batch = transactional(node, producer, EPOCH, sequence);
    write(node, topic, batch).await.expect("it is taken")
}

fn markers(node: &Node, topic: &TopicName, producer: ProducerId, outcome: Outcome) -> Markers {
    let topic = node.broker.describe_topic(&topic.clone().into()).expect("it exists").id;
    Markers {
        producer,
        epoch: EPOCH,
        coordinator_epoch: Epoch(0),
        outcome,
        version: TransactionVersion::V1,
        partitions: vec![TopicPartition { topic, partition: P0 }],
    }
}

async fn end(node: &Node, markers: &Markers) -> Result<(), Error> {
    node.drive(node.broker.write_markers(markers)).await.remove(0)
}

async fn ended(node: &Node, topic: &TopicName, producer: ProducerId, outcome: Outcome) {
    end(node, &markers(node, topic, producer, outcome)).await.expect("it is taken");
}

/// What a reader of what is committed is given.
async fn fetch(node: &Node, topic: &TopicName, partition: i32, offset: i64) -> Fetched {
    let mut request = from(position(topic, partition, offset), Duration::ZERO);
    request.isolation = Isolation::ReadCommitted;
    let mut answers = node.drive(node.broker.fetch(request)).await;
    answers.remove(0).result.expect("it can be read")
}

/// What such a reader makes of it, as Kafka's clients do.
fn committed(fetched: &Fetched) -> Vec<(i64, String)> {
    let mut ahead = fetched.aborted.iter().peekable();
    let mut dropped = BTreeSet::new();
    let mut kept = Vec::new();
    for batch in &fetched.batches {
        while let Some(begun) = ahead.next_if(|begun| begun.first_offset <= batch.last_offset()) {
            dropped.insert(begun.producer);
        }
        let (id, attributes) = (batch.header.producer_id, batch.header.attributes);
        if let Some(marker) = EndMarker::of(batch) {
            if marker.outcome == Outcome::Abort {
                dropped.remove(&id);
            }
        } else if !attributes.is_transactional() || !dropped.contains(&id) {
            kept.push(batch.clone());
        }
    }
    values(&kept)
}

async fn latest(node: &Node, topic: &TopicName, isolation: Isolation) -> i64 {
    let request = offsets::Request {
        topic: topic.clone().into(),
        partition: P0,
        spec: Spec::Latest,
        isolation,
        leader_epoch: None,
    };
    node.broker.list_offsets(vec![request]).await.remove(0).expect("it is led here").offset.0
}

fn offsets_of(values: &[(i64, String)]) -> Vec<i64> {
    values.iter().map(|(offset, _)| *offset).collect()
}

#[tokio::test]
async fn an_open_transaction_holds_back_committed_readers_and_its_end_wakes_them() {
    let (node, _) = node_with(Node::new(small()).await, &[PRODUCER]).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    produced(&node, &topic, b"before").await;
    written(&node, &topic, PRODUCER, 0).await;
    produced(&node, &topic, b"behind").await;
    let found = fetch(&node, &topic, 0, 0).await;
    assert_eq!(offsets_of(&committed(&found)), [0]);
    assert_eq!((found.last_stable_offset, found.high_watermark), (Offset(1), Offset(3)));
    assert_eq!(latest(&node, &topic, Isolation::ReadCommitted).await, 1);
    assert_eq!(latest(&node, &topic, Isolation::ReadUncommitted).await, 3);

    let mut request = from(position(&topic, 0, 1), WAIT);
    request.isolation = Isolation::ReadCommitted;
    let started = tokio::time::Instant::now();
    let reading = node.broker.fetch(request);
    let ending = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        ended(&node, &topic, PRODUCER, Outcome::Commit).await;
    };
    let (mut answers, ()) = tokio::join!(reading, ending);
    assert!(started.elapsed() < WAIT / 2, "the end of the transaction woke nobody");
    let found = answers.remove(0).result.expect("it can be read");
    assert_eq!(offsets_of(&committed(&found)), [1, 2]);
    assert_eq!(latest(&node, &topic, Isolation::ReadCommitted).await, 4);
}

#[tokio::test]
async fn what_was_aborted_is_listed_wherever_reading_begins_and_whatever_happened_since() {
    let (node, _) = node_with(Node::new(small()).await, &[PRODUCER, OTHER]).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    written(&node, &topic, PRODUCER, 0).await;
    written(&node, &topic, OTHER, 0).await;
    written(&node, &topic, PRODUCER, 1).await;
    ended(&node, &topic, PRODUCER, Outcome::Abort).await;
    ended(&node, &topic, OTHER, Outcome::Commit).await;
    written(&node, &topic, PRODUCER, 2).await;
    ended(&node, &topic, PRODUCER, Outcome::Commit).await;
    let check = async |node: &Node| {
        for (offset, expected) in [(0, vec![1, 5]), (1, vec![1, 5]), (2, vec![5]), (5, vec![5])] {
            let found = fetch(node, &topic, 0, offset).await;
            assert_eq!(offsets_of(&committed(&found)), expected, "from {offset}");
            let aborted: Vec<_> =
                found.aborted.iter().map(|a| (a.producer, a.first_offset.0)).collect();
            let listed = if offset <= 3 { vec![(PRODUCER, 0)] } else { Vec::new() };
            assert_eq!(aborted, listed, "from {offset}");
        }
        let everything = crate::client::fetch(node, &topic, 0, 0).await.expect("it can be read");
        assert!(everything.aborted.is_empty(), "nobody asked");
    };
    check(&node).await;
    let node = node.power_cut().await;
    check(&node).await;
    node.engine.flush().expect("the disk works");
    check(&node).await;
    let node = node.kill().await;
    check(&node).await;
}

#[tokio::test]
async fn a_transaction_enters_a_partition_only_if_its_coordinator_knows() {
    let node = Node::new(small()).await;
    let topic = node.create_topic("orders", 2, &[]).await;
    let first = |node: &Node| transactional(node, PRODUCER, EPOCH, 0);
    let refused = Some(ErrorCode::InvalidTxnState);
    let unknown = Some(ErrorCode::InvalidProducerIdMapping);
    assert_eq!(code(&write(&node, &topic, first(&node)).await), unknown, "nobody began it");
    let (node, known) = node_with(node, &[]).await;
    assert_eq!(code(&write(&node, &topic, first(&node)).await), refused);
    known.ongoing.lock().insert(PRODUCER);
    assert_eq!(code(&produce(&node, &topic, first(&node)).await), refused, "it names none");
    known.questions.lock().clear();
    // One question for all partitions of a request, none for what has begun.
    let pending = send(&node, &topic, &[(0, first(&node)), (1, first(&node))]).await;
    node.engine.step();
    assert!(pending.await.iter().all(|ack| ack.result.is_ok()));
    assert_eq!(written(&node, &topic, PRODUCER, 1).await, 1);
    assert_eq!(*known.questions.lock(), [2]);
    ended(&node, &topic, PRODUCER, Outcome::Commit).await;
    known.ongoing.lock().clear();
    // A repetition has been appended already; what is new needs a transaction.
    assert_eq!(write(&node, &topic, transactional(&node, PRODUCER, EPOCH, 1)).await, Ok(1));
    let late = transactional(&node, PRODUCER, EPOCH, 2);
    assert_eq!(code(&write(&node, &topic, late).await), refused);
    let plain = crate::client::numbered(&node, PRODUCER, 2);
    assert_eq!(produce(&node, &topic, plain).await, Ok(3), "it is outside of any transaction");
}

#[tokio::test]
async fn what_was_confirmed_before_the_end_and_comes_after_it_is_refused() {
    let (node, known) = node_with(Node::new(small()).await, &[PRODUCER]).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    let gate = Arc::new(Notify::new());
    *known.gate.lock() = Some(Arc::clone(&gate));
    let late = write(&node, &topic, transactional(&node, PRODUCER, EPOCH, 0));
    let ending = async {
        while known.questions.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        ended(&node, &topic, PRODUCER, Outcome::Abort).await;
        gate.notify_one();
    };
    let (late, ()) = tokio::join!(late, ending);
    assert_eq!(code(&late), Some(ErrorCode::InvalidTxnState));
    assert_eq!(latest(&node, &topic, Isolation::ReadCommitted).await, 1, "a marker, nothing open");
}

#[tokio::test]
async fn zombies_are_fenced_producers_and_coordinators_alike() {
    let (node, known) = node_with(Node::new(small()).await, &[PRODUCER]).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    written(&node, &topic, PRODUCER, 0).await;
    let abort = markers(&node, &topic, PRODUCER, Outcome::Abort);
    let bumped = Markers { epoch: ProducerEpoch(1), coordinator_epoch: Epoch(3), ..abort.clone() };
    end(&node, &bumped).await.expect("it is the newest");
    assert_eq!(code(&end(&node, &abort).await), Some(ErrorCode::InvalidProducerEpoch));
    let old = Markers { coordinator_epoch: Epoch(2), ..bumped.clone() };
    assert_eq!(code(&end(&node, &old).await), Some(ErrorCode::TransactionCoordinatorFenced));
    let check = async |epoch, sequence, expected| {
        let batch = transactional(&node, PRODUCER, ProducerEpoch(epoch), sequence);
        assert_eq!(code(&write(&node, &topic, batch).await), expected, "{epoch}/{sequence}");
    };
    check(0, 1, Some(ErrorCode::InvalidProducerEpoch)).await;
    check(1, 1, Some(ErrorCode::OutOfOrderSequenceNumber)).await;
    check(1, 0, None).await;
    // By the rules of version 2 the same end again is no other transaction's.
    let same = Markers { version: TransactionVersion::V2, ..bumped };
    assert_eq!(code(&end(&node, &same).await), Some(ErrorCode::InvalidProducerEpoch));
    let next = Markers { epoch: ProducerEpoch(2), ..same };
    end(&node, &next).await.expect("it is the newest");
    let log_end = latest(&node, &topic, Isolation::ReadCommitted).await;
    end(&node, &next).await.expect("it was done");
    assert_eq!(latest(&node, &topic, Isolation::ReadCommitted).await, log_end);
    drop(known);
}

#[tokio::test]
async fn an_end_counts_when_it_is_durable_and_not_before() {
    let (node, _) = node_with(Node::new(small()).await, &[PRODUCER]).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    written(&node, &topic, PRODUCER, 0).await;
    let order = markers(&node, &topic, PRODUCER, Outcome::Commit);
    let mut ending = Box::pin(node.broker.write_markers(&order));
    assert!((&mut ending).now_or_never().is_none(), "it is in memory only");
    assert_eq!(latest(&node, &topic, Isolation::ReadCommitted).await, 0);
    drop(ending);
    let node = node.power_cut().await;
    assert_eq!(latest(&node, &topic, Isolation::ReadUncommitted).await, 1);
    assert_eq!(latest(&node, &topic, Isolation::ReadCommitted).await, 0, "it is open again");
    ended(&node, &topic, PRODUCER, Outcome::Commit).await;
    assert_eq!(latest(&node, &topic, Isolation::ReadCommitted).await, 2);
}

#[tokio::test]
async fn records_can_be_deleted_under_an_open_transaction_which_stays_open() {
    let (node, _) = node_with(Node::new(small()).await, &[PRODUCER]).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    written(&node, &topic, PRODUCER, 0).await;
    produced(&node, &topic, b"behind").await;
    node.engine.flush().expect("the disk works");
    node.drive(delete_records(&node, &topic, Some(1))).await.expect("they are deleted");
    assert_eq!(latest(&node, &topic, Isolation::ReadCommitted).await, 1);
    let node = node.power_cut().await;
    assert_eq!(latest(&node, &topic, Isolation::ReadCommitted).await, 1, "still open");
    ended(&node, &topic, PRODUCER, Outcome::Abort).await;
    let found = fetch(&node, &topic, 0, 1).await;
    assert_eq!(offsets_of(&committed(&found)), [1]);
}

#[tokio::test]
async fn producers_are_described_and_an_open_transaction_outlives_their_expiry() {
    let (node, _) = node_with(Node::new(small()).await, &[PRODUCER, OTHER]).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    written(&node, &topic, OTHER, 0).await;
    ended(&node, &topic, OTHER, Outcome::Commit).await;
    written(&node, &topic, PRODUCER, 0).await;
    let describe = |node: &Node| {
        let found = node.broker.describe_producers(&TopicRef::Name(topic.clone()), P0);
        let found = found.expect("it is led here");
        found
            .iter()
            .map(|d| (d.id, d.sequence_last, d.transaction.map(|at| at.0)))
            .collect::<Vec<_>>()
    };
    assert_eq!(describe(&node), [(PRODUCER, Some(0), Some(2)), (OTHER, Some(0), None)]);
    node.engine.flush().expect("the disk works");
    tokio::time::pause();
    tokio::time::advance(Duration::from_hours(48)).await;
    tokio::time::resume();
    node.broker.clean().await;
    assert_eq!(describe(&node), [(PRODUCER, Some(0), Some(2))]);
    let node = node.kill().await;
    assert_eq!(describe(&node), [(PRODUCER, Some(0), Some(2))]);
}

#[tokio::test]
async fn open_transactions_take_a_bounded_memory_and_more_wait_for_their_ends() {
    let mut settings = small();
    settings.broker.producers_bytes_max = Some(ByteSize::mib(1));
    let count = ByteSize::mib(1).as_usize() / PRODUCER_BYTES;
    let all: Vec<ProducerId> = (0..).take(count + 1).map(ProducerId).collect();
    let (newest, others) = all.split_last().expect("there are many");
    let (node, _) = node_with(Node::new(settings).await, &all).await;
    let topic = node.create_topic("orders", 1, &[]).await;
    for id in others {
        written(&node, &topic, *id, 0).await;
    }
    let refused = write(&node, &topic, transactional(&node, *newest, EPOCH, 0)).await;
    assert_eq!(code(&refused), Some(ErrorCode::RequestTimedOut));
    assert_eq!(node.broker.producer_count(), count);
    written(&node, &topic, others[0], 1).await;
    ended(&node, &topic, others[1], Outcome::Commit).await;
    written(&node, &topic, *newest, 0).await;
    assert_eq!(node.broker.producer_count(), count, "whose transaction has ended may be forgotten");
}

/// One producer, and what its coordinator has durably decided.
struct Payer {
    id: ProducerId,
    sequences: [i32; 2],
    /// The values of the transaction under way that were acknowledged, by partition.
    open: Vec<(i32, String)>,
    /// Decided, and not known to be written everywhere.
    decided: Option<Outcome>,
}

impl Payer {
    async fn pay(&mut self, node: &Node, topic: &TopicName, partition: i32) {
        let sequence = &mut self.sequences[usize::try_from(partition).expect("0 or 1")];
        let batch = transactional(node, self.id, EPOCH, *sequence);
        let pending = send(node, topic, &[(partition, batch)]).await;
        node.engine.step();
        if answer(pending).await.is_ok() {
            self.open.push((partition, format!("{}/{sequence}", self.id)));
            *sequence += 1;
        }
    }

    /// Writes what was decided to both partitions. Whether that is done.
    async fn carry_out(
        &mut self,
        node: &Node,
        topic: &TopicName,
        paid: &mut [Vec<String>],
    ) -> bool {
        let Some(outcome) = self.decided else { return true };
        let mut order = markers(node, topic, self.id, outcome);
        let at = order.partitions[0];
        order.partitions.push(TopicPartition { partition: PartitionIndex(1), ..at });
        let results = node.drive(node.broker.write_markers(&order)).await;
        if results.iter().any(Result::is_err) {
            return false;
        }
        for (partition, value) in self.open.drain(..) {
            if outcome == Outcome::Commit {
                paid[usize::try_from(partition).expect("0 or 1")].push(value);
            }
        }
        self.decided = None;
        true
    }
}

async fn start(ground: &Ground) -> Node {
    let node = ground.start().await.expect("what was left can be started on");
    node_with(node, &[PRODUCER, OTHER]).await.0
}

#[tokio::test]
async fn wherever_a_node_dies_a_transaction_counts_whole_or_not_at_all() {
    for seed in 0..25 {
        let rng = &mut rng::from_seed(seed);
        let mut node = start(&Ground::new(seed, small())).await;
        let topic = node.create_topic("orders", 2, &[]).await;
        let payer = |id| Payer { id, sequences: [0; 2], open: Vec::new(), decided: None };
        let mut payers = [payer(PRODUCER), payer(OTHER)];
        let mut paid = [Vec::new(), Vec::new()];
        for _life in 0..4 {
            node.place.disk.die_after(rng.random_range(1..60));
            for _ in 0..30 {
                let payer = &mut payers[rng.random_range(0..2)];
                match rng.random_range(0..8) {
                    0..5 if payer.decided.is_none() => {
                        payer.pay(&node, &topic, rng.random_range(0..2)).await;
                    }
                    5 => drop(node.engine.flush()),
                    _ if payer.open.is_empty() => {}
                    _ => {
                        let abort = rng.random_bool(0.4);
                        let outcome = if abort { Outcome::Abort } else { Outcome::Commit };
                        payer.decided.get_or_insert(outcome);
                        payer.carry_out(&node, &topic, &mut paid).await;
                    }
                }
                if node.place.disk.is_dead() {
                    break;
                }
            }
            if rng.random_bool(0.5) {
                node.place.disk.crash();
            } else {
                node.place.disk.kill();
            }
            node = start(&node.bury().await).await;
            // What an append left that was not acknowledged is of the transaction or of nothing: a
            // producer that does not know gives its transaction up.
            for payer in &mut payers {
                payer.decided.get_or_insert(Outcome::Abort);
                assert!(payer.carry_out(&node, &topic, &mut paid).await, "seed {seed}");
                let known = node.broker.describe_producers(&TopicRef::Name(topic.clone()), P0);
                assert!(
                    known.expect("led").iter().all(|d| d.id != payer.id || d.transaction.is_none())
                );
                payer.sequences = next_sequences(&node, &topic, payer.id);
            }
        }
        for (partition, expected) in (0..).zip(&paid) {
            let found = read_committed(&node, &topic, partition).await;
            assert_eq!(found.len(), expected.len(), "seed {seed} partition {partition}");
            for payer in &payers {
                let name = format!("{}/", payer.id);
                let of_payer = |values: &[String]| -> Vec<String> {
                    values.iter().filter(|value| value.starts_with(&name)).cloned().collect()
                };
                let (left, right) = (of_payer(&found), of_payer(expected));
                assert_eq!(left, right, "seed {seed} partition {partition}");
            }
        }
        node.stop().await;
    }
}

/// Every committed value of a partition, read piece by piece up to its end.
async fn read_committed(node: &Node, topic: &TopicName, partition: i32) -> Vec<String> {
    let (mut from, mut all) = (0, Vec::new());
    loop {
        let found = fetch(node, topic, partition, from).await;
        all.extend(committed(&found).into_iter().map(|(_, value)| value));
        let Some(last) = found.batches.last() else {
            assert_eq!(found.high_watermark, Offset(from), "something is still open");
            return all;
        };
        from = last.next_offset().0;
    }
}

/// Where a producer goes on in each partition.
fn next_sequences(node: &Node, topic: &TopicName, id: ProducerId) -> [i32; 2] {
    [0, 1].map(|partition| {
        let topic = TopicRef::Name(topic.clone());
        let known = node.broker.describe_producers(&topic, PartitionIndex(partition));
        let known = known.expect("it is led here");
        let of_id = known.iter().find(|described| described.id == id);
        of_id.and_then(|described| described.sequence_last).map_or(0, |last| last + 1)
    })
}
