//! What a partition's batches can rely on, by hand and against a model of a node under faults.

use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::producer_state::{ProducerTable, Verdict as Known};
use rafka_core::rng::{self, Rng, RngExt as _};
use rafka_core::{ByteSize, Offset, PartitionIndex, Timestamp, TopicName};

use super::*;

const LINK: LinkId = LinkId(1);

fn partition() -> TopicPartition {
    TopicPartition::new(TopicName::new("t").expect("sound"), PartitionIndex(0))
}

fn flight() -> Flight {
    let mut flight = Flight::new(partition(), Naming::Awaited, 5);
    flight.identify(Identity { id: ProducerId(7), epoch: ProducerEpoch(0) });
    flight
}

/// Admits a batch of one record, whose value is `number`.
fn admit(flight: &mut Flight, number: u64, now: Time) {
    assert!(flight.can_admit(now), "batch {number}");
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp(1), None, Some(&number.to_be_bytes()), &[]);
    if let Some((identity, sequence)) = flight.next_numbers() {
        builder.producer(identity.id, identity.epoch, sequence);
    }
    let batch = builder.build().expect("no codec");
    let (receipt, _arrivals) = Receipt::new(number, partition(), now);
    flight.admit(batch.to_bytes(), 1, receipt);
}

fn send(flight: &mut Flight, request: u64) -> Option<(i16, i32)> {
    let bytes = flight.send(Time(0), LINK, request)?;
    let header = Batch::parse(bytes).expect("the checksum fits").header;
    Some((header.producer_epoch.0, header.base_sequence))
}

fn refuse(flight: &mut Flight, request: u64, code: ErrorCode) -> Consequences {
    let refusal = Refusal { code, message: "because".to_owned() };
    flight.refused(request, &refusal, Time(0), |_failures| Duration::ZERO)
}

fn lost(reason: &str) -> Loss<'_> {
    Loss { reason, permanent: None, in_doubt: true }
}

fn stored(offset: i64) -> Stored {
    Stored { base_offset: Some(Offset(offset)), append_time: None }
}

/// A flight whose first batch, sequence 0, was acked.
fn proven() -> Flight {
    let mut flight = flight();
    admit(&mut flight, 0, Time(0));
    assert_eq!(send(&mut flight, 0), Some((0, 0)));
    assert_eq!(flight.acked(0, stored(0)).settled.len(), 1);
    flight
}

#[test]
fn only_one_batch_is_under_way_until_the_node_knows_the_producer() {
    let mut flight = flight();
    admit(&mut flight, 0, Time(0));
    assert_eq!(send(&mut flight, 0), Some((0, 0)));
    assert!(!flight.can_admit(Time(0)));
    flight.acked(0, stored(0));
    for number in 1..=5 {
        admit(&mut flight, number, Time(0));
        assert_eq!(send(&mut flight, number), Some((0, i32::try_from(number).expect("small"))));
    }
    assert!(!flight.can_admit(Time(0)), "five are under way");
}

#[test]
fn a_lost_connection_sends_the_same_numbers_again_in_order() {
    let mut flight = proven();
    for number in 1..=3 {
        admit(&mut flight, number, Time(0));
        send(&mut flight, number);
    }
    assert_ne!(flight.link_lost(LINK, &lost("reset")).retries, 0);
    let again: Vec<_> = (11..=13).map(|request| send(&mut flight, request)).collect();
    assert_eq!(again, [Some((0, 1)), Some((0, 2)), Some((0, 3))]);
    assert_eq!(flight.acked(11, stored(5)).settled.len(), 1);
}

#[test]
fn after_a_failure_nothing_is_sent_until_all_under_way_is_answered() {
    let mut flight = proven();
    for number in 1..=3 {
        admit(&mut flight, number, Time(0));
        send(&mut flight, number);
    }
    assert_ne!(refuse(&mut flight, 1, ErrorCode::NotEnoughReplicas).retries, 0);
    assert_eq!(send(&mut flight, 9), None);
    assert_ne!(refuse(&mut flight, 2, ErrorCode::OutOfOrderSequenceNumber).retries, 0);
    assert_eq!(send(&mut flight, 9), None);
    assert_ne!(refuse(&mut flight, 3, ErrorCode::OutOfOrderSequenceNumber).retries, 0);
    let again: Vec<_> = (11..=13).map(|request| send(&mut flight, request)).collect();
    assert_eq!(again, [Some((0, 1)), Some((0, 2)), Some((0, 3))]);
}

#[test]
fn a_batch_in_doubt_never_leaves_the_nodes_memory_of_five() {
    let mut flight = proven();
    for number in 1..=5 {
        admit(&mut flight, number, Time(0));
        send(&mut flight, number);
    }
    refuse(&mut flight, 1, ErrorCode::RequestTimedOut);
    for number in 2..=5 {
        flight.acked(number, stored(1));
    }
    assert_eq!(send(&mut flight, 11), Some((0, 1)));
    assert!(!flight.can_admit(Time(0)), "a sixth batch would push the first one out");
    flight.acked(11, stored(0));
    assert!(flight.can_admit(Time(0)));
}

#[test]
fn a_refused_batch_at_the_end_gives_its_number_to_the_next() {
    let mut flight = proven();
    admit(&mut flight, 1, Time(0));
    send(&mut flight, 1);
    let settled = refuse(&mut flight, 1, ErrorCode::MessageTooLarge).settled;
    let error = settled.into_iter().next().expect("settled").outcome.expect_err("refused");
    assert_eq!(error.fate(), Fate::NotWritten);
    admit(&mut flight, 2, Time(0));
    assert_eq!(send(&mut flight, 2), Some((0, 1)));
}

#[test]
fn a_refused_batch_in_the_middle_begins_a_new_epoch_for_those_after_it() {
    let mut flight = proven();
    for number in 1..=3 {
        admit(&mut flight, number, Time(0));
        send(&mut flight, number);
    }
    refuse(&mut flight, 1, ErrorCode::MessageTooLarge);
    refuse(&mut flight, 2, ErrorCode::OutOfOrderSequenceNumber);
    refuse(&mut flight, 3, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(send(&mut flight, 12), Some((1, 0)));
    assert_eq!(send(&mut flight, 13), None, "one at a time until the new epoch is known");
    flight.acked(12, stored(9));
    assert_eq!(send(&mut flight, 13), Some((1, 1)));
}

#[test]
fn a_batch_in_doubt_whose_producer_the_node_forgot_fails_instead_of_doubling() {
    let mut flight = proven();
    for number in 1..=2 {
        admit(&mut flight, number, Time(0));
        send(&mut flight, number);
    }
    flight.link_lost(LINK, &lost("reset"));
    send(&mut flight, 11);
    let settled = refuse(&mut flight, 11, ErrorCode::OutOfOrderSequenceNumber).settled;
    assert_eq!(settled.len(), 2, "both may be stored");
    for finished in settled {
        let error = finished.outcome.expect_err("lost");
        assert!(matches!(error, Error::SequenceLost { .. }), "{error}");
        assert_eq!(error.fate(), Fate::Unknown);
    }
    admit(&mut flight, 3, Time(0));
    assert_eq!(send(&mut flight, 3), Some((1, 0)));
}

#[test]
fn a_batch_never_in_doubt_survives_that_the_node_forgot_the_producer() {
    let mut flight = proven();
    admit(&mut flight, 1, Time(0));
    send(&mut flight, 1);
    assert!(refuse(&mut flight, 1, ErrorCode::UnknownProducerId).settled.is_empty());
    assert_eq!(send(&mut flight, 2), Some((1, 0)));
}

#[test]
fn a_newer_producer_ends_this_one() {
    for code in [ErrorCode::InvalidProducerEpoch, ErrorCode::ProducerFenced] {
        let mut flight = proven();
        admit(&mut flight, 1, Time(0));
        send(&mut flight, 1);
        assert!(matches!(refuse(&mut flight, 1, code).finished, Some(Error::Fenced { .. })));
    }
}

#[test]
fn a_repeat_that_is_too_old_to_be_remembered_counts_as_stored() {
    let mut flight = proven();
    admit(&mut flight, 1, Time(0));
    send(&mut flight, 1);
    let settled = refuse(&mut flight, 1, ErrorCode::DuplicateSequenceNumber).settled;
    assert!(matches!(settled[0].outcome, Ok(Stored { base_offset: None, .. })));
}

#[test]
fn time_runs_out_with_the_truth_about_the_batch() {
    let expire = |flight: &mut Flight| {
        let settled = flight.expire(Time(5), Duration::from_nanos(5)).settled;
        let error = settled.into_iter().next().expect("its time ran out").outcome;
        error.expect_err("late")
    };
    let mut waiting = proven();
    admit(&mut waiting, 1, Time(5));
    assert_eq!(expire(&mut waiting).fate(), Fate::NotWritten);

    let mut sent = proven();
    admit(&mut sent, 1, Time(5));
    send(&mut sent, 1);
    assert_eq!(expire(&mut sent).fate(), Fate::Unknown);
    assert!(sent.acked(1, stored(3)).settled.is_empty(), "nobody waits any more");
    assert!(sent.is_empty());

    let mut broken = proven();
    admit(&mut broken, 1, Time(5));
    send(&mut broken, 1);
    broken.link_lost(LINK, &lost("reset by peer"));
    let error = expire(&mut broken);
    assert_eq!(error.fate(), Fate::Unknown);
    assert!(error.to_string().contains("reset by peer"), "{error}");
}

#[test]
fn the_wait_after_a_failure_holds_sending_back() {
    let mut flight = proven();
    admit(&mut flight, 1, Time(0));
    send(&mut flight, 1);
    let refusal = Refusal { code: ErrorCode::NotEnoughReplicas, message: String::new() };
    flight.refused(1, &refusal, Time(10), |failures| {
        assert_eq!(failures, 1);
        Duration::from_nanos(20)
    });
    assert_eq!(flight.retry_at(), Some(Time(30)));
    assert!(flight.send(Time(29), LINK, 2).is_none());
    assert!(flight.send(Time(30), LINK, 2).is_some());
}

#[test]
fn sequences_wrap_at_the_largest_number() {
    assert_eq!(advance(i32::MAX, 1), 0);
    assert_eq!(advance(i32::MAX - 1, 3), 1);
}

/// A node with one log, and a connection that loses things.
struct Model {
    rng: Rng,
    flight: Flight,
    table: ProducerTable,
    /// The numbers of the records in the log.
    log: Vec<u64>,
    link: u64,
    /// Sent, not yet seen by the node.
    on_the_way: VecDeque<(u64, Bytes)>,
    /// The node's answers, not yet seen by the producer.
    answers: VecDeque<(u64, Result<Stored, ErrorCode>)>,
    acked: Vec<u64>,
    not_written: Vec<u64>,
    now: Time,
    next_number: u64,
    next_request: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            rng: rng::from_seed(seed),
            flight: flight(),
            table: ProducerTable::default(),
            log: Vec::new(),
            link: 1,
            on_the_way: VecDeque::new(),
            answers: VecDeque::new(),
            acked: Vec::new(),
            not_written: Vec::new(),
            now: Time(1),
            next_number: 0,
            next_request: 0,
        }
    }

    fn node_takes_one(&mut self) {
        let Some((request, bytes)) = self.on_the_way.pop_front() else { return };
        let batch = Batch::parse(bytes).expect("the checksum fits");
        let faulty = self.rng.random_ratio(1, 6);
        let answer = match self.rng.random_range(0..4) {
            0 if faulty => Err(ErrorCode::NotEnoughReplicas),
            1 if faulty => Err(ErrorCode::MessageTooLarge),
            fault => self.append(batch).and_then(|offset| {
                let late = faulty && fault == 2;
                if late { Err(ErrorCode::RequestTimedOut) } else { Ok(stored(offset)) }
            }),
        };
        self.answers.push_back((request, answer));
    }

    fn append(&mut self, mut batch: Batch) -> Result<i64, ErrorCode> {
        match self.table.check(&batch.header)? {
            Known::Duplicate(entry) => Ok(entry.base_offset.0),
            Known::Append => {
                batch.header.base_offset = Offset(i64::try_from(self.log.len()).expect("small"));
                self.table.note(&batch, Timestamp(1));
                for record in batch.records(ByteSize::kib(1)).expect("not compressed") {
                    let value = record.expect("sound").value.expect("it has one");
                    let number = value.as_ref().try_into().expect("eight bytes");
                    self.log.push(u64::from_be_bytes(number));
                }
                Ok(batch.header.base_offset.0)
            }
        }
    }

    fn note(&mut self, consequences: Consequences) {
        assert!(consequences.finished.is_none(), "nobody else has this id");
        for settled in consequences.settled {
            match settled.outcome {
                Ok(_) => self.acked.push(settled.receipt.number),
                Err(error) if error.fate() == Fate::NotWritten => {
                    self.not_written.push(settled.receipt.number);
                }
                Err(_) => {}
            }
        }
    }

    fn producer_takes_one(&mut self) {
        let Some((request, answer)) = self.answers.pop_front() else { return };
        let consequences = match answer {
            Ok(stored) => self.flight.acked(request, stored),
            Err(code) => {
                let refusal = Refusal { code, message: String::new() };
                self.flight.refused(request, &refusal, self.now, |_| Duration::from_nanos(3))
            }
        };
        self.note(consequences);
    }

    /// The node still sees some of what was on the way; no answer arrives any more.
    fn lose_link(&mut self) {
        for _ in 0..self.rng.random_range(0..=self.on_the_way.len()) {
            self.node_takes_one();
        }
        self.on_the_way.clear();
        self.answers.clear();
        let consequences = self.flight.link_lost(LinkId(self.link), &lost("reset"));
        self.link += 1;
        self.note(consequences);
    }

    fn step(&mut self) {
        self.now = Time(self.now.0 + 1);
        match self.rng.random_range(0..100) {
            0..30 if self.flight.can_admit(self.now) => {
                admit(&mut self.flight, self.next_number, self.now);
                self.next_number += 1;
            }
            0..50 => {
                let request = self.next_request;
                self.next_request += 1;
                if let Some(bytes) = self.flight.send(self.now, LinkId(self.link), request) {
                    self.on_the_way.push_back((request, bytes));
                }
            }
            50..73 => self.node_takes_one(),
            73..96 => self.producer_takes_one(),
            96..98 => self.lose_link(),
            _ => {
                let limit = Time(self.now.0.saturating_sub(60));
                let expired = self.flight.expire(limit, Duration::from_nanos(60));
                self.note(expired);
            }
        }
    }

    fn settle_all(&mut self) {
        for _ in 0..10_000 {
            if self.flight.is_empty() {
                return;
            }
            self.now = Time(self.now.0 + 1);
            let request = self.next_request;
            self.next_request += 1;
            if let Some(bytes) = self.flight.send(self.now, LinkId(self.link), request) {
                self.on_the_way.push_back((request, bytes));
            }
            self.node_takes_one();
            self.producer_takes_one();
        }
        panic!("batches are stuck: {:?}", self.flight);
    }
}

#[test]
fn no_record_is_doubled_reordered_or_acked_in_vain_under_faults() {
    let mut acked = 0;
    for seed in 0..400 {
        let mut model = Model::new(seed);
        for _ in 0..1000 {
            model.step();
        }
        model.settle_all();
        let ascending = model.log.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(ascending, "seed {seed}: doubled or out of order: {:?}", model.log);
        for number in &model.acked {
            let found = model.log.binary_search(number).is_ok();
            assert!(found, "seed {seed}: record {number} was acked and is not in the log");
        }
        for number in &model.not_written {
            let found = model.log.binary_search(number).is_ok();
            assert!(!found, "seed {seed}: record {number} was said not to be written");
        }
        acked += model.acked.len();
    }
    assert!(20_000 < acked, "the model hardly sends anything: {acked}");
}

#[test]
fn within_a_transaction_the_numbers_never_begin_again() {
    let identity = Identity { id: ProducerId(7), epoch: ProducerEpoch(3) };
    let mut flight = Flight::new(partition(), Naming::Within(identity), 5);
    for number in 0..2 {
        admit(&mut flight, number, Time(0));
        assert_eq!(send(&mut flight, number), Some((3, i32::try_from(number).expect("small"))));
        if number == 0 {
            assert_eq!(flight.acked(0, stored(0)).settled.len(), 1);
        }
    }
    let consequences = refuse(&mut flight, 1, ErrorCode::OutOfOrderSequenceNumber);
    let finished = consequences.finished.expect("only the end of the transaction helps");
    assert!(matches!(finished, Error::SequenceLost { .. }), "{finished}");
}
