//! One transactional id with its log, whose records arrive when a test says so.

mod fuzz;

use std::time::Duration;

use rafka_core::batch::Outcome;
use rafka_core::producer_state::TransactionVersion;
use rafka_core::{
    ErrorCode, PartitionIndex, ProducerEpoch, ProducerId, Time, Timestamp, TopicName,
};

use super::Settings;
use super::machine::{Ending, Producer, Refusal, Transaction, Turn, Verdict};
use super::ops::{End, Init, Partition, State};
use super::record::Value;

const TIMEOUT: Duration = Duration::from_secs(60);
const V1: TransactionVersion = TransactionVersion::V1;
const V2: TransactionVersion = TransactionVersion::V2;
const LAST: i16 = i16::MAX - 1;

fn at(index: i32) -> Partition {
    (TopicName::new("orders").expect("a valid name"), PartitionIndex(index))
}

fn producer(id: i64, epoch: i16) -> Producer {
    (ProducerId(id), ProducerEpoch(epoch))
}

/// The id, the time, and what is on its way.
struct Bench {
    it: Transaction,
    now: Time,
    settings: Settings,
    next_id: i64,
    /// The newest record that is durable.
    log: Option<Value>,
    on_its_way: Option<Option<Value>>,
    markers: Option<Ending>,
}

type Answer = Result<Producer, ErrorCode>;

impl Bench {
    fn new() -> Self {
        Self {
            it: Transaction::default(),
            now: Time::default(),
            settings: Settings::default(),
            next_id: 7,
            log: None,
            on_its_way: None,
            markers: None,
        }
    }

    fn act<R>(&mut self, act: impl FnOnce(&mut Transaction, &mut Turn<'_>) -> R) -> R {
        let mut turn = Turn {
            now: self.now,
            timestamp: Timestamp(1_000_000 + (self.now.0 / 1_000_000).cast_signed()),
            settings: &self.settings,
            append: None,
            markers: None,
        };
        let result = act(&mut self.it, &mut turn);
        if let Some(record) = turn.append {
            assert!(self.on_its_way.replace(record).is_none(), "one record at a time");
        }
        if let Some(ending) = turn.markers {
            assert!(self.markers.replace(ending).is_none(), "one order at a time");
        }
        result
    }

    /// Does something that may take a producer id, as the handle does.
    fn change(
        &mut self,
        act: impl Fn(&mut Transaction, Option<ProducerId>, &mut Turn<'_>) -> Result<Verdict, Refusal>,
    ) -> Result<Verdict, ErrorCode> {
        let verdict = self.act(|it, turn| act(it, None, turn));
        let verdict = if verdict == Err(Refusal::NeedsProducerId) {
            let fresh = ProducerId(self.next_id);
            self.next_id += 1;
            self.act(|it, turn| act(it, Some(fresh), turn))
        } else {
            verdict
        };
        verdict.map_err(|refusal| match refusal {
            Refusal::Code(code) => code,
            Refusal::NeedsProducerId => panic!("it was given one"),
        })
    }

    /// The record on its way is durable. What whoever asked for it is told.
    fn durable(&mut self) -> Option<Answer> {
        self.log = self.on_its_way.take().expect("a record is on its way");
        self.act(|it, turn| it.written(Ok(()), turn))
    }

    fn settled(&mut self, verdict: Result<Verdict, ErrorCode>) -> Answer {
        match verdict? {
            Verdict::Known(producer) => Ok(producer),
            Verdict::Writing => self.durable().expect("somebody waits"),
        }
    }

    fn begin_init(&mut self, expected: Option<Producer>) -> Result<Verdict, ErrorCode> {
        let init = Init { id: "payments".to_owned(), timeout: TIMEOUT, expected };
        self.change(|it, fresh, turn| it.init(&init, fresh, turn))
    }

    fn begin_end(
        &mut self,
        producer: Producer,
        outcome: Outcome,
        version: TransactionVersion,
    ) -> Result<Verdict, ErrorCode> {
        let end = End { id: "payments".to_owned(), producer, outcome, version };
        self.change(|it, fresh, turn| it.end(&end, fresh, turn))
    }

    fn init(&mut self, expected: Option<Producer>) -> Answer {
        let verdict = self.begin_init(expected);
        self.settled(verdict)
    }

    fn add(&mut self, producer: Producer, index: i32) -> Answer {
        let verdict = self.change(|it, _, turn| it.add(producer, [at(index)], turn));
        self.settled(verdict)
    }

    fn end(&mut self, producer: Producer, outcome: Outcome, version: TransactionVersion) -> Answer {
        let verdict = self.begin_end(producer, outcome, version);
        self.settled(verdict)
    }

    fn commit(&mut self, producer: Producer) -> Answer {
        self.end(producer, Outcome::Commit, V1)
    }

    /// The markers are durable everywhere, and so is that they are.
    fn complete(&mut self) -> Ending {
        let ending = self.markers.take().expect("markers are to be written");
        let done: Vec<Partition> = ending.partitions.iter().cloned().collect();
        self.act(|it, turn| it.marked(&done, turn));
        assert_eq!(self.durable(), None, "nobody waits for it");
        ending
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.act(Transaction::tick);
    }

    fn state(&self) -> Option<State> {
        self.it.describe("payments").map(|described| described.state)
    }

    /// The process dies: what is on its way is lost, and what is durable is loaded.
    fn crash(&mut self) {
        (self.on_its_way, self.markers) = (None, None);
        let log = self.log.clone();
        self.it = match log {
            Some(value) => self.act(|_, turn| Transaction::restore(value, turn)),
            None => Transaction::default(),
        };
        self.act(Transaction::tick);
    }
}

/// A bench whose id has an open transaction.
fn ongoing() -> (Bench, Producer) {
    let mut bench = Bench::new();
    let first = bench.init(None).expect("it is free");
    bench.add(first, 0).expect("it is the producer");
    (bench, first)
}

#[test]
fn a_transaction_goes_through_its_states() {
    let mut bench = Bench::new();
    let first = bench.init(None).expect("it is free");
    assert_eq!((first, bench.state()), (producer(7, 0), Some(State::Empty)));
    assert_eq!(bench.commit(first), Err(ErrorCode::InvalidTxnState), "there is nothing to end");
    bench.add(first, 0).expect("it is the producer");
    bench.add(first, 1).expect("it is the producer");
    assert_eq!(bench.add(first, 1), Ok(first), "it is in already");
    assert_eq!(bench.it.verify(first, &[at(1), at(2)]), Ok(vec![true, false]));
    assert_eq!(bench.commit(first), Ok(first));
    assert_eq!(bench.state(), Some(State::PrepareCommit));
    assert_eq!(bench.commit(first), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(bench.add(first, 0), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(bench.init(None), Err(ErrorCode::ConcurrentTransactions));
    let abort = bench.end(first, Outcome::Abort, V1);
    assert_eq!(abort, Err(ErrorCode::InvalidTxnState), "it was decided otherwise");
    let ending = bench.complete();
    assert_eq!(ending.partitions, [at(0), at(1)].into());
    assert_eq!((ending.outcome, ending.producer), (Outcome::Commit, first));
    assert_eq!(bench.state(), Some(State::CompleteCommit));
    assert_eq!(bench.it.verify(first, &[at(0)]), Ok(vec![false]), "it is over");
    assert_eq!(bench.commit(first), Ok(first), "the answer was lost");
    let abort = bench.end(first, Outcome::Abort, V1);
    assert_eq!(abort, Err(ErrorCode::InvalidTxnState), "it was committed");
}

#[test]
fn who_is_not_the_producer_is_told_so_on_every_path() {
    let (mut bench, first) = ongoing();
    for (stranger, expected) in [
        (producer(8, 0), ErrorCode::InvalidProducerIdMapping),
        (producer(7, 1), ErrorCode::ProducerFenced),
    ] {
        assert_eq!(bench.add(stranger, 1), Err(expected));
        assert_eq!(bench.commit(stranger), Err(expected));
        assert_eq!(bench.end(stranger, Outcome::Commit, V2), Err(expected));
        assert_eq!(bench.it.verify(stranger, &[at(0)]), Err(expected));
        assert_eq!(bench.init(Some(stranger)), Err(ErrorCode::ProducerFenced));
    }
    assert_eq!(bench.state(), Some(State::Ongoing), "strangers change nothing");
    assert_eq!(bench.commit(first), Ok(first));
}

#[test]
fn a_successor_aborts_what_is_open_and_fences_its_producer() {
    let (mut bench, first) = ongoing();
    assert_eq!(bench.begin_init(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(bench.commit(first), Err(ErrorCode::ConcurrentTransactions), "it is being fenced");
    bench.durable();
    assert_eq!(bench.commit(first), Err(ErrorCode::ProducerFenced));
    assert_eq!(bench.init(None), Err(ErrorCode::ConcurrentTransactions));
    let ending = bench.complete();
    assert_eq!((ending.outcome, ending.producer), (Outcome::Abort, producer(7, 1)));
    assert_eq!(bench.init(None), Ok(producer(7, 2)));
    assert_eq!(bench.add(first, 0), Err(ErrorCode::ProducerFenced));
}

#[test]
fn a_transaction_whose_time_is_up_is_aborted_and_its_late_end_refused() {
    for is_killed in [false, true] {
        let (mut bench, first) = ongoing();
        bench.pass(TIMEOUT / 2);
        if is_killed {
            bench.crash();
        }
        bench.pass(TIMEOUT / 2 - Duration::from_secs(1));
        assert_eq!(bench.state(), Some(State::Ongoing));
        assert!(bench.on_its_way.is_none(), "it has a second left");
        bench.pass(Duration::from_secs(1));
        bench.durable();
        let ending = bench.complete();
        assert_eq!((ending.outcome, ending.producer), (Outcome::Abort, producer(7, 1)));
        assert_eq!(bench.commit(first), Err(ErrorCode::ProducerFenced));
        assert_eq!(bench.state(), Some(State::CompleteAbort));
    }
}

#[test]
fn a_producer_that_goes_on_after_an_error_keeps_its_id() {
    let mut bench = Bench::new();
    let first = bench.init(None).expect("it is free");
    let second = bench.init(Some(first)).expect("it is the producer");
    assert_eq!(second, producer(7, 1));
    assert_eq!(bench.init(Some(first)), Ok(second), "the answer was lost");
    let third = bench.init(None).expect("it is taken over");
    assert_eq!(bench.init(Some(second)), Err(ErrorCode::ProducerFenced));
    assert_eq!(bench.init(Some(third)), Ok(producer(7, 3)));
}

#[test]
fn by_the_newer_rules_every_end_raises_the_epoch() {
    let (mut bench, first) = ongoing();
    assert_eq!(bench.end(first, Outcome::Commit, V2), Ok(producer(7, 1)));
    let again = bench.end(first, Outcome::Commit, V2);
    assert_eq!(again, Err(ErrorCode::ConcurrentTransactions), "markers are being written");
    assert_eq!(bench.complete().producer, producer(7, 1));
    let second = bench.end(first, Outcome::Commit, V2).expect("the answer was lost");
    assert_eq!(second, producer(7, 1));
    let otherwise = bench.end(first, Outcome::Abort, V2);
    assert_eq!(otherwise, Err(ErrorCode::InvalidTxnState));
    bench.add(second, 0).expect("it is the producer");
    // The end of the first transaction was on its way all the time.
    assert_eq!(bench.end(first, Outcome::Commit, V2), Err(ErrorCode::ProducerFenced));
    assert_eq!(bench.state(), Some(State::Ongoing));
    assert_eq!(bench.end(second, Outcome::Abort, V2), Ok(producer(7, 2)));
    bench.complete();
    // Nothing is known of a transaction; the producer wants to be sure.
    let third = producer(7, 2);
    assert_eq!(bench.end(third, Outcome::Commit, V2), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.end(third, Outcome::Abort, V2), Ok(producer(7, 3)));
    assert!(bench.markers.is_none(), "there is no partition to end it in");
    bench.durable();
    assert_eq!(bench.state(), Some(State::CompleteAbort));
}

#[test]
fn when_the_epochs_are_used_up_the_producer_gets_another_id() {
    let check = |expected: Option<i16>| {
        let (mut bench, _) = ongoing();
        bench.log.as_mut().expect("it is durable").epoch = ProducerEpoch(LAST);
        bench.crash();
        let last = producer(7, LAST);
        assert_eq!(bench.commit(last), Ok(last), "by the older rules it does not change");
        bench.complete();
        assert_eq!(bench.init(expected.map(|epoch| producer(7, epoch))), Ok(producer(8, 0)));
        bench
    };
    check(None);
    let mut bench = check(Some(LAST));
    assert_eq!(bench.init(Some(producer(7, LAST))), Ok(producer(8, 0)), "the answer was lost");
    let (mut bench, _) = ongoing();
    bench.log.as_mut().expect("it is durable").epoch = ProducerEpoch(LAST);
    bench.crash();
    let last = producer(7, LAST);
    assert_eq!(bench.end(last, Outcome::Commit, V2), Ok(producer(8, 0)));
    let early = Err(ErrorCode::ConcurrentTransactions);
    assert_eq!(bench.add(producer(8, 0), 0), early, "its markers are not written yet");
    assert_eq!(bench.end(producer(8, 0), Outcome::Abort, V2), early);
    bench.crash();
    assert_eq!(bench.complete().producer, producer(7, i16::MAX));
    assert_eq!(bench.end(last, Outcome::Commit, V2), Ok(producer(8, 0)), "the answer was lost");
    assert_eq!(bench.add(producer(8, 0), 0), Ok(producer(8, 0)));
    // Fenced at the last epoch, the next one gets another id too.
    let (mut bench, _) = ongoing();
    bench.log.as_mut().expect("it is durable").epoch = ProducerEpoch(LAST);
    bench.crash();
    assert_eq!(bench.begin_init(None), Err(ErrorCode::ConcurrentTransactions));
    bench.durable();
    assert_eq!(bench.complete().producer, producer(7, i16::MAX));
    assert_eq!(bench.init(None), Ok(producer(8, 0)));
    // So does a producer whose time was up: nobody can end what is written under the epoch above.
    let (mut bench, _) = ongoing();
    bench.log.as_mut().expect("it is durable").epoch = ProducerEpoch(LAST);
    bench.crash();
    bench.pass(TIMEOUT);
    bench.durable();
    assert_eq!(bench.complete().producer, producer(7, i16::MAX));
    for _ in 0..2 {
        assert_eq!(bench.end(last, Outcome::Abort, V2), Ok(producer(8, 0)));
    }
    assert_eq!(bench.add(producer(8, 0), 0), Ok(producer(8, 0)));
    assert_eq!(bench.end(producer(8, 0), Outcome::Commit, V2), Ok(producer(8, 1)));
}

#[test]
fn nothing_is_answered_or_marked_before_it_is_durable() {
    let (mut bench, first) = ongoing();
    let verdict = bench.begin_end(first, Outcome::Commit, V1);
    assert_eq!(verdict, Ok(Verdict::Writing));
    assert!(bench.markers.is_none());
    let refused = Err(ErrorCode::CoordinatorNotAvailable);
    bench.on_its_way = None;
    let told = bench.act(|it, turn| it.written(Err(ErrorCode::CoordinatorNotAvailable), turn));
    assert_eq!((told, bench.state()), (Some(refused), Some(State::Ongoing)));
    assert!(bench.markers.is_none());
    assert_eq!(bench.commit(first), Ok(first), "it can be tried again");
    bench.complete();
}

#[test]
fn markers_are_written_until_they_are_everywhere() {
    let (mut bench, first) = ongoing();
    bench.add(first, 1).expect("it is the producer");
    bench.commit(first).expect("it is the producer");
    bench.markers = None;
    bench.act(|it, turn| it.marked(&[at(1)], turn));
    assert!(bench.markers.is_none(), "not at once");
    bench.pass(Duration::from_secs(1));
    let again = bench.markers.take().expect("one is missing");
    assert_eq!(again.partitions, [at(0)].into());
    bench.crash();
    let again = bench.complete();
    assert_eq!(again.partitions, [at(0), at(1)].into(), "what was written is not in the log");
}

#[test]
fn an_id_that_does_nothing_is_forgotten() {
    let mut bench = Bench::new();
    let first = bench.init(None).expect("it is free");
    bench.pass(bench.settings.transactional_id_expiration - Duration::from_secs(1));
    assert!(bench.on_its_way.is_none());
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.on_its_way, Some(None), "a tombstone");
    assert_eq!(bench.state(), Some(State::Dead));
    bench.durable();
    assert!(bench.it.is_void());
    assert_eq!(bench.add(first, 0), Err(ErrorCode::InvalidProducerIdMapping));
    // What is open stays, however long that may be.
    let (mut bench, first) = ongoing();
    bench.settings.transactional_id_expiration = Duration::from_secs(1);
    bench.pass(Duration::from_secs(30));
    assert_eq!(bench.commit(first), Ok(first));
}
