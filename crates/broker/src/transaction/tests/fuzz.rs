//! Producers come, write, end, die and are replaced, while the log fails and the coordinator with it.

use std::collections::BTreeMap;

use rafka_core::Rng;
use rafka_core::rng::{self, RngExt as _};

use super::*;

/// Says how to see a failure again.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("again: RAFKA_SEED={} cargo test -p rafka-broker {PROMISE}", self.0);
        }
    }
}

const PROMISE: &str = "transactions_end_whole_or_not_at_all_whatever_happens";

/// What a partition knows of one producer id.
#[derive(Debug, Default, Clone)]
struct Known {
    epoch: Option<ProducerEpoch>,
    /// The transaction that is open there.
    open: Option<u64>,
}

struct Fuzz {
    rng: Rng,
    bench: Bench,
    version: TransactionVersion,
    /// Every incarnation that a client was given, the newest last.
    given: Vec<Producer>,
    partitions: BTreeMap<(i32, ProducerId), Known>,
    /// The number of the open transaction of the newest incarnation.
    transaction: u64,
    /// How each transaction ended where it was open.
    outcomes: BTreeMap<u64, Outcome>,
    /// What clients were told.
    promised: BTreeMap<u64, Outcome>,
    /// The transaction that the change on its way ends so, if that is acknowledged.
    asked: Option<(u64, Outcome)>,
}

impl Fuzz {
    fn new(seed: u64) -> Self {
        let mut rng = rng::from_seed(seed);
        let version = if rng.random_bool(0.5) { V1 } else { V2 };
        let mut bench = Bench::new();
        bench.init(None).expect("it is free");
        if rng.random_bool(0.3) {
            let epoch = ProducerEpoch(LAST - rng.random_range(0..3));
            bench.log.as_mut().expect("it is durable").epoch = epoch;
            bench.crash();
        }
        let log = bench.log.as_ref().expect("it is durable");
        let given = vec![(log.producer, log.epoch)];
        Self {
            rng,
            bench,
            version,
            given,
            partitions: BTreeMap::new(),
            transaction: 0,
            outcomes: BTreeMap::new(),
            promised: BTreeMap::new(),
            asked: None,
        }
    }

    fn run(mut self, steps: usize) {
        for _ in 0..steps {
            match self.rng.random_range(0..100) {
                0..10 => self.init(),
                10..40 => self.write(),
                40..55 => self.end(),
                55..75 => self.land(),
                75..90 => self.mark(),
                90..95 => {
                    let span = Duration::from_secs(self.rng.random_range(0..40));
                    self.bench.pass(span);
                }
                _ => self.crash(),
            }
        }
        self.quiet();
    }

    /// Somebody who has been given the id, seldom not the last one.
    fn somebody(&mut self) -> Producer {
        let back = if self.rng.random_bool(0.8) { 1 } else { self.rng.random_range(1..4) };
        self.given[self.given.len().saturating_sub(back)]
    }

    fn init(&mut self) {
        let expected = self.rng.random_bool(0.3).then(|| self.somebody());
        let verdict = self.bench.begin_init(expected);
        assert!(!matches!(verdict, Ok(Verdict::Known(_))), "it takes a record");
        if verdict.is_ok() {
            self.asked = None;
        }
    }

    fn write(&mut self) {
        let (producer, index) = (self.somebody(), self.rng.random_range(0..3));
        let next = self.bench.it.value.as_ref().map(|value| value.next);
        if self.version == V2 {
            let verdict = self.bench.change(|it, _, turn| it.add(producer, [at(index)], turn));
            if next == Some(producer.0) {
                let early = Err(ErrorCode::ConcurrentTransactions);
                assert_eq!(verdict, early, "it has been told of its next id");
            }
            if verdict == Ok(Verdict::Writing) {
                self.asked = None;
            }
            if !matches!(verdict, Ok(Verdict::Known(_))) {
                return;
            }
        } else if self.bench.it.verify(producer, &[at(index)]) != Ok(vec![true]) {
            let verdict = self.bench.change(|it, _, turn| it.add(producer, [at(index)], turn));
            if verdict == Ok(Verdict::Writing) {
                self.asked = None;
            }
            return;
        }
        let known = self.partitions.entry((index, producer.0)).or_default();
        if known.epoch.is_some_and(|epoch| producer.1 < epoch) {
            return;
        }
        assert!(known.open.is_none_or(|open| open == self.transaction), "two in one");
        (known.epoch, known.open) = (Some(producer.1), Some(self.transaction));
    }

    fn end(&mut self) {
        let producer = self.somebody();
        let outcome = if self.rng.random_bool(0.6) { Outcome::Commit } else { Outcome::Abort };
        let before = self.bench.state();
        match self.bench.begin_end(producer, outcome, self.version) {
            Ok(Verdict::Writing) => self.asked = Some((self.transaction, outcome)),
            Ok(Verdict::Known(producer)) => {
                self.give(producer);
                let is_so = match outcome {
                    Outcome::Commit => State::CompleteCommit,
                    Outcome::Abort => State::CompleteAbort,
                };
                assert_eq!(before, Some(is_so), "it was told that it ended so");
            }
            Err(_) => {}
        }
    }

    /// The record on its way arrives, or is refused.
    fn land(&mut self) {
        if self.bench.on_its_way.is_none() {
            return;
        }
        if self.rng.random_bool(0.1) {
            self.bench.on_its_way = None;
            let refused = Err(ErrorCode::CoordinatorNotAvailable);
            self.bench.act(|it, turn| it.written(refused, turn));
            self.asked = None;
            return;
        }
        let told = self.bench.durable();
        let asked = self.asked.take();
        self.note_end();
        let Some(Ok(producer)) = told else { return };
        if let Some((transaction, outcome)) = asked {
            let before = self.promised.insert(transaction, outcome);
            assert!(before.is_none_or(|before| before == outcome), "promised both");
        }
        self.give(producer);
    }

    /// A client goes on as this producer.
    fn give(&mut self, producer: Producer) {
        let newest = *self.given.last().expect("there is one");
        if producer == newest {
            return;
        }
        let is_later =
            if producer.0 == newest.0 { newest.1 < producer.1 } else { newest.0 < producer.0 };
        assert!(is_later, "{newest:?} was given, and then {producer:?}");
        self.given.push(producer);
    }

    /// Markers are written in some partitions.
    fn mark(&mut self) {
        let Some(ending) = self.bench.markers.take() else { return };
        let mut done = Vec::new();
        for partition in &ending.partitions {
            if self.rng.random_bool(0.3) {
                continue;
            }
            let (id, epoch) = ending.producer;
            let known = self.partitions.entry((partition.1.0, id)).or_default();
            assert!(known.epoch.is_none_or(|known| known <= epoch), "an epoch went back");
            let is_below = known.epoch.is_none_or(|known| known < epoch);
            let is_refused = ending.version == V2 && known.open.is_some() && !is_below;
            assert!(!is_refused, "the partition refuses the end of what is open");
            if let Some(open) = known.open.take() {
                let before = self.outcomes.insert(open, ending.outcome);
                assert!(before.is_none_or(|it| it == ending.outcome), "half and half: {open}");
            }
            known.epoch = Some(epoch);
            done.push(partition.clone());
        }
        if self.rng.random_bool(0.1) {
            self.crash();
            return;
        }
        self.bench.act(|it, turn| it.marked(&done, turn));
    }

    /// What is written from now on belongs to another transaction, if the log says that one is over.
    fn note_end(&mut self) {
        let state = self.bench.log.as_ref().map(|value| value.state);
        if matches!(state, Some(State::CompleteCommit | State::CompleteAbort)) {
            self.transaction += 1;
        }
    }

    fn crash(&mut self) {
        // What is on its way may have reached the disk without anybody knowing.
        if let Some(record) = self.bench.on_its_way.take()
            && self.rng.random_bool(0.5)
        {
            self.bench.log = record;
            self.note_end();
        }
        self.asked = None;
        self.bench.crash();
    }

    /// Everything comes to its end when nothing fails any more.
    fn quiet(mut self) {
        for _ in 0..20 {
            if self.bench.on_its_way.is_some() {
                self.land_for_good();
            }
            if self.bench.markers.is_some() {
                self.mark();
            }
            self.bench.pass(TIMEOUT);
        }
        let open = self.partitions.values().filter(|known| known.open.is_some()).count();
        assert_eq!(open, 0, "a transaction was left open in {:?}", self.partitions);
        for (transaction, outcome) in &self.promised {
            let found = self.outcomes.get(transaction);
            assert!(found.is_none_or(|it| it == outcome), "{transaction} was promised {outcome:?}");
        }
    }

    fn land_for_good(&mut self) {
        let told = self.bench.durable();
        if let (Some(Ok(_)), Some((transaction, outcome))) = (told, self.asked.take()) {
            self.promised.insert(transaction, outcome);
        }
        self.note_end();
    }
}

#[test]
fn transactions_end_whole_or_not_at_all_whatever_happens() {
    let chosen = option_env!("RAFKA_SEED").map(|seed| seed.parse().expect("a seed is a number"));
    let seeds = chosen.map_or(0..2000, |seed| seed..seed + 1);
    for seed in seeds {
        let _replay = Replay(seed);
        Fuzz::new(seed).run(300);
    }
}
