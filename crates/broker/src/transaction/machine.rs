//! Pure: one transactional id. How transactions end is in the file beside it.
//!
//! ```text
//!           partitions            end, time is up             all markers are durable
//!   Empty ─────────────▶ Ongoing ────────────────▶ Prepare ────────────────────────▶ Complete
//!                          ▲                   Commit, Abort                     Commit, Abort
//!                          └────────────────────────────────────────────────────────────┘
//!                                                  partitions
//! ```
//! Every arrow is a record, and nothing follows from it before that is durable: one record at a time
//! is on its way, and whoever wants something meanwhile is told to come again.

use std::collections::BTreeSet;
use std::time::Duration;

use rafka_core::batch::Outcome;
use rafka_core::producer_state::TransactionVersion;
use rafka_core::{ErrorCode, ProducerEpoch, ProducerId, Time, Timestamp};

use super::Settings;
use super::ops::{Description, Init, Listing, Partition, State};
use super::record::Value;

/// The last epoch that a client is given. The one behind it fences that client.
pub(super) const EPOCH_LAST: ProducerEpoch = ProducerEpoch(i16::MAX - 1);

/// What an id costs beside its texts: a generous guess, with the producer's record on its way.
const ID_BYTES: usize = 640;
const PARTITION_BYTES: usize = 96;

/// How long after a refused write something is tried again that nobody waits for.
const WRITE_PAUSE: Duration = Duration::from_secs(1);

/// How long after refused markers they are written again.
const MARKERS_PAUSE: Duration = Duration::from_millis(200);

/// Who writes: a producer id and its incarnation.
pub(super) type Producer = (ProducerId, ProducerEpoch);

/// Why a producer is not given what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Ask again, with a producer id that nobody had before.
    NeedsProducerId,
    Code(ErrorCode),
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

/// What a request comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The answer. Nothing has changed by it.
    Known(Producer),
    /// The answer comes from [`Transaction::written`].
    Writing,
}

/// The moment of one step, and what it wants done.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) now: Time,
    pub(super) timestamp: Timestamp,
    pub(super) settings: &'a Settings,
    /// A record for the log; none is a tombstone. The id must be told what became of it.
    pub(super) append: Option<Option<Value>>,
    /// Markers to be written. The id must be told what became of them.
    pub(super) markers: Option<Ending>,
}

/// How a transaction ends, and where that is not written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) producer: Producer,
    pub(super) outcome: Outcome,
    pub(super) version: TransactionVersion,
    pub(super) partitions: BTreeSet<Partition>,
}

/// One transactional id.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// What is durable. None: the id is not known.
    pub(super) value: Option<Value>,
    /// The epoch before the last bump, if the producer asked for that itself and may ask again.
    last_epoch: Option<ProducerEpoch>,
    pending: Option<Pending>,
    /// Where markers are still to be written.
    outstanding: BTreeSet<Partition>,
    are_markers_out: bool,
    /// When the open transaction is aborted.
    deadline: Time,
    wake_at: Option<Time>,
}

/// A record on its way.
#[derive(Debug)]
struct Pending {
    value: Option<Value>,
    last_epoch: Option<ProducerEpoch>,
    /// What to say then, to whoever asked for it.
    answer: Option<Producer>,
}

impl Transaction {
    /// An id as the log remembers it. Its times go on from where they were.
    pub(super) fn restore(value: Value, turn: &Turn<'_>) -> Self {
        let age = |since: Timestamp| {
            let age = u64::try_from(turn.timestamp.0.saturating_sub(since.0)).unwrap_or(0);
            Duration::from_millis(age)
        };
        let deadline = turn.now + value.timeout.saturating_sub(age(value.started_at));
        let expiration = turn.settings.transactional_id_expiration;
        let wake_at = match value.state {
            State::Ongoing => deadline,
            State::PrepareCommit | State::PrepareAbort => turn.now,
            State::Empty | State::CompleteCommit | State::CompleteAbort | State::Dead => {
                turn.now + expiration.saturating_sub(age(value.updated_at))
            }
        };
        let outstanding = match value.state.outcome() {
            Some(_) => value.partitions.clone(),
            None => BTreeSet::new(),
        };
        let wake_at = Some(wake_at);
        Self { value: Some(value), outstanding, deadline, wake_at, ..Self::default() }
    }

    /// Whether there is nothing left of it, here or in the log.
    pub(super) fn is_void(&self) -> bool {
        self.value.is_none() && self.pending.is_none()
    }

    /// An estimate of the memory it takes, on the large side.
    pub(super) fn bytes(&self) -> usize {
        let cost = |partitions: &BTreeSet<Partition>| -> usize {
            partitions.iter().map(|(topic, _)| PARTITION_BYTES + topic.as_str().len()).sum()
        };
        let pending = self.pending.as_ref().and_then(|pending| pending.value.as_ref());
        let values = self.value.iter().chain(pending);
        ID_BYTES
            + values.map(|value| cost(&value.partitions)).sum::<usize>()
            + cost(&self.outstanding)
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let is_busy = self.pending.is_some() || self.are_markers_out;
        self.wake_at.filter(|_| !is_busy)
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        if self.next_deadline().is_none_or(|time| turn.now < time) {
            return;
        }
        match self.value.as_ref().map(|value| value.state) {
            Some(State::Ongoing) => self.fence(turn),
            Some(State::PrepareCommit | State::PrepareAbort) => self.send_markers(turn),
            Some(State::Empty | State::CompleteCommit | State::CompleteAbort | State::Dead) => {
                self.write(None, None, None, turn);
            }
            None => self.wake_at = None,
        }
    }

    /// Gives the id to a producer: whoever had it before is fenced.
    pub(super) fn init(
        &mut self,
        init: &Init,
        fresh: Option<ProducerId>,
        turn: &mut Turn<'_>,
    ) -> Result<Verdict, Refusal> {
        self.check_idle()?;
        let Some(value) = &self.value else {
            let producer = fresh.ok_or(Refusal::NeedsProducerId)?;
            return Ok(self.begin(empty(producer, init.timeout), None, turn));
        };
        let (id, epoch) = (value.producer, value.epoch);
        let is_known = init.expected.is_none_or(|(expected, its_epoch)| {
            expected == id || (expected == value.previous && EPOCH_LAST <= its_epoch)
        });
        if !is_known {
            return Err(ErrorCode::ProducerFenced.into());
        }
        let expected = init.expected.map(|(_, epoch)| epoch);
        if value.state == State::Ongoing {
            if expected.is_some_and(|expected| expected != epoch) {
                return Err(ErrorCode::ProducerFenced.into());
            }
            self.fence(turn);
            return Err(ErrorCode::ConcurrentTransactions.into());
        }
        if EPOCH_LAST <= epoch && expected.is_none_or(|expected| expected == epoch) {
            let producer = fresh.ok_or(Refusal::NeedsProducerId)?;
            let value = Value { previous: id, ..empty(producer, init.timeout) };
            return Ok(self.begin(value, expected, turn));
        }
        let (epoch, last) = match expected {
            None => (next(epoch), None),
            Some(expected) if expected == epoch => (next(epoch), Some(epoch)),
            // The answer to the same request was lost.
            Some(expected) if Some(expected) == self.last_epoch => (epoch, self.last_epoch),
            Some(_) => return Err(ErrorCode::ProducerFenced.into()),
        };
        let value = Value { previous: value.previous, epoch, ..empty(id, init.timeout) };
        Ok(self.begin(value, last, turn))
    }

    pub(super) fn begin(
        &mut self,
        value: Value,
        last_epoch: Option<ProducerEpoch>,
        turn: &mut Turn<'_>,
    ) -> Verdict {
        let producer = (value.producer, value.epoch);
        self.write(Some(value), last_epoch, Some(producer), turn);
        Verdict::Writing
    }

    /// Makes partitions part of the open transaction, which may begin by that.
    pub(super) fn add(
        &mut self,
        producer: Producer,
        partitions: impl IntoIterator<Item = Partition>,
        turn: &mut Turn<'_>,
    ) -> Result<Verdict, Refusal> {
        let value = self.check_producer(producer)?;
        let mut changed = value.clone();
        self.check_idle()?;
        changed.partitions.extend(partitions);
        if changed.state == State::Ongoing {
            if self.value.as_ref() == Some(&changed) {
                return Ok(Verdict::Known(producer));
            }
        } else {
            changed.state = State::Ongoing;
            changed.started_at = turn.timestamp;
            self.deadline = turn.now + changed.timeout;
        }
        Ok(self.begin(changed, self.last_epoch, turn))
    }

    /// Whether each partition is part of the producer's open transaction.
    pub(super) fn verify(
        &self,
        producer: Producer,
        partitions: &[Partition],
    ) -> Result<Vec<bool>, ErrorCode> {
        let value = self.check_producer(producer)?;
        let pending = self.pending.as_ref().map(|pending| pending.value.as_ref());
        let is_ending = pending.is_some_and(|value| value.is_none_or(is_decided));
        if is_decided(value) || is_ending {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let is_open = value.state == State::Ongoing;
        Ok(partitions.iter().map(|it| is_open && value.partitions.contains(it)).collect())
    }

    /// That it is this producer's id.
    fn check_producer(&self, producer: Producer) -> Result<&Value, ErrorCode> {
        let value = self.value.as_ref().ok_or(ErrorCode::InvalidProducerIdMapping)?;
        value.check_producer(producer)?;
        Ok(value)
    }

    /// That nothing is under way.
    pub(super) fn check_idle(&self) -> Result<(), ErrorCode> {
        let is_busy = self.pending.is_some() || self.value.as_ref().is_some_and(is_decided);
        if is_busy { Err(ErrorCode::ConcurrentTransactions) } else { Ok(()) }
    }

    pub(super) fn last_epoch(&self) -> Option<ProducerEpoch> {
        self.last_epoch
    }

    /// Whether a record is on its way.
    pub(super) fn is_writing(&self) -> bool {
        self.pending.is_some()
    }

    /// Asks for a record to be written; the result comes back to [`Self::written`].
    pub(super) fn write(
        &mut self,
        value: Option<Value>,
        last_epoch: Option<ProducerEpoch>,
        answer: Option<Producer>,
        turn: &mut Turn<'_>,
    ) {
        assert!(self.pending.is_none(), "one record at a time is on its way");
        let value = value.map(|value| Value { updated_at: turn.timestamp, ..value });
        turn.append = Some(value.clone());
        self.pending = Some(Pending { value, last_epoch, answer });
    }

    /// Learns that the record is durable, or refused with this error. What to answer to whoever asked
    /// for it, if somebody did.
    pub(super) fn written(
        &mut self,
        result: Result<(), ErrorCode>,
        turn: &mut Turn<'_>,
    ) -> Option<Result<Producer, ErrorCode>> {
        let pending = self.pending.take().expect("a record is on its way");
        let Pending { value, last_epoch, answer } = pending;
        if let Err(code) = result {
            self.wake_at = self.wake_at.map(|time| time.max(turn.now + WRITE_PAUSE));
            return answer.map(|_| Err(code));
        }
        (self.value, self.last_epoch) = (value, last_epoch);
        match self.value.as_ref().map(|value| value.state) {
            Some(State::Ongoing) => self.wake_at = Some(self.deadline),
            Some(State::PrepareCommit | State::PrepareAbort) => {
                self.outstanding =
                    self.value.as_ref().map(|value| value.partitions.clone()).unwrap_or_default();
                self.send_markers(turn);
            }
            Some(State::Empty | State::CompleteCommit | State::CompleteAbort | State::Dead) => {
                self.wake_at = Some(turn.now + turn.settings.transactional_id_expiration);
            }
            None => self.wake_at = None,
        }
        answer.map(Ok)
    }

    /// Has the markers written that are missing, or notes that none is.
    fn send_markers(&mut self, turn: &mut Turn<'_>) {
        self.wake_at = Some(turn.now);
        let value = self.value.as_ref().expect("a transaction that ends is known");
        if self.outstanding.is_empty() {
            let complete = value.completed();
            self.write(Some(complete), self.last_epoch, None, turn);
            return;
        }
        let outcome = value.state.outcome().expect("a transaction that ends has an outcome");
        self.are_markers_out = true;
        turn.markers = Some(Ending {
            producer: (value.producer, value.epoch),
            outcome,
            version: value.version,
            partitions: self.outstanding.clone(),
        });
    }

    /// Learns where the markers are durable, or needless.
    pub(super) fn marked(&mut self, done: &[Partition], turn: &mut Turn<'_>) {
        self.are_markers_out = false;
        for partition in done {
            self.outstanding.remove(partition);
        }
        if self.outstanding.is_empty() {
            self.send_markers(turn);
        } else {
            self.wake_at = Some(turn.now + MARKERS_PAUSE);
        }
    }

    /// The id at a glance.
    pub(super) fn describe(&self, id: &str) -> Option<Description> {
        let value = self.value.as_ref()?;
        let is_going = self.pending.as_ref().is_some_and(|pending| pending.value.is_none());
        let is_open = value.state == State::Ongoing || is_decided(value);
        Some(Description {
            id: id.to_owned(),
            state: if is_going { State::Dead } else { value.state },
            producer: (value.producer, value.epoch),
            timeout: value.timeout,
            started_at: is_open.then_some(value.started_at),
            partitions: value.partitions.clone(),
        })
    }

    /// The id in a list, with when its open transaction began.
    pub(super) fn listing(&self, id: &str) -> Option<(Listing, Option<Timestamp>)> {
        let Description { id, state, producer, started_at, .. } = self.describe(id)?;
        Some((Listing { id, producer: producer.0, state }, started_at))
    }
}

/// Whether the end has been decided and not been written everywhere.
fn is_decided(value: &Value) -> bool {
    value.state.outcome().is_some()
}

fn empty(producer: ProducerId, timeout: Duration) -> Value {
    Value {
        producer,
        previous: ProducerId::NONE,
        next: ProducerId::NONE,
        epoch: ProducerEpoch(0),
        timeout,
        state: State::Empty,
        partitions: BTreeSet::new(),
        updated_at: Timestamp::NONE,
        started_at: Timestamp::NONE,
        version: TransactionVersion::V1,
    }
}

/// The epoch that fences this one.
pub(super) fn next(epoch: ProducerEpoch) -> ProducerEpoch {
    ProducerEpoch(epoch.0.saturating_add(1))
}

/// Whether no client may be given a higher epoch.
pub(super) fn is_exhausted(epoch: ProducerEpoch) -> bool {
    EPOCH_LAST <= epoch
}
