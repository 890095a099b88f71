//! Pure: how a transaction ends: by its producer, by its successor, or because its time is up.

use std::collections::BTreeSet;

use rafka_core::batch::Outcome;
use rafka_core::producer_state::TransactionVersion;
use rafka_core::{ErrorCode, ProducerEpoch, ProducerId, Timestamp};

use super::machine::{
    EPOCH_LAST, Producer, Refusal, Transaction, Turn, Verdict, is_exhausted, next,
};
use super::ops::{End, State};
use super::record::Value;

impl Transaction {
    /// The producer ends its transaction. The same end again is fine.
    pub(super) fn end(
        &mut self,
        end: &End,
        fresh: Option<ProducerId>,
        turn: &mut Turn<'_>,
    ) -> Result<Verdict, Refusal> {
        let value = self.value.as_ref().ok_or(ErrorCode::InvalidProducerIdMapping)?;
        match end.version {
            TransactionVersion::V1 => value.check_producer(end.producer)?,
            TransactionVersion::V2 => value.check_bumping(end.producer)?,
        }
        if self.is_writing() {
            return Err(ErrorCode::ConcurrentTransactions.into());
        }
        let is_bumping = end.version == TransactionVersion::V2;
        // By the rules of version 2, the epoch tells whether this end has been decided before.
        let is_repeated = !is_bumping || (value.producer, value.epoch) != end.producer;
        match value.state {
            State::Ongoing => self.decide(end, fresh, turn),
            State::PrepareCommit | State::PrepareAbort
                if value.state.outcome() == Some(end.outcome) =>
            {
                Err(ErrorCode::ConcurrentTransactions.into())
            }
            State::CompleteCommit | State::CompleteAbort
                if is_repeated && completed_by(end.outcome) == value.state =>
            {
                if value.epoch <= EPOCH_LAST {
                    return Ok(Verdict::Known((value.producer, value.epoch)));
                }
                // Its time was up. Nobody can write under the epoch that fenced it.
                let fresh = fresh.ok_or(Refusal::NeedsProducerId)?;
                let changed = value.clone().with_id(fresh);
                Ok(self.begin(changed, Some(end.producer.1), turn))
            }
            // Who has written nothing that it knows of may want to be sure of it.
            State::Empty | State::CompleteCommit | State::CompleteAbort
                if is_bumping && !is_repeated && end.outcome == Outcome::Abort =>
            {
                self.decide(end, fresh, turn)
            }
            _ => Err(ErrorCode::InvalidTxnState.into()),
        }
    }

    fn decide(
        &mut self,
        end: &End,
        fresh: Option<ProducerId>,
        turn: &mut Turn<'_>,
    ) -> Result<Verdict, Refusal> {
        let mut value = self.value.clone().ok_or(ErrorCode::InvalidProducerIdMapping)?;
        let mut last_epoch = self.last_epoch();
        (value.version, value.next) = (end.version, ProducerId::NONE);
        let mut answer = (value.producer, value.epoch);
        if end.version == TransactionVersion::V2 {
            last_epoch = Some(value.epoch);
            answer = if is_exhausted(value.epoch) {
                value.next = fresh.ok_or(Refusal::NeedsProducerId)?;
                (value.next, ProducerEpoch(0))
            } else {
                (value.producer, next(value.epoch))
            };
            value.epoch = next(value.epoch);
        }
        if value.state != State::Ongoing {
            value.started_at = turn.timestamp;
        }
        value.state = prepared_by(end.outcome);
        self.write(Some(value), last_epoch, Some(answer), turn);
        Ok(Verdict::Writing)
    }

    /// Aborts the open transaction under a higher epoch, so that its producer can end it no more.
    pub(super) fn fence(&mut self, turn: &mut Turn<'_>) {
        let Some(value) = self.value.clone() else { return };
        let epoch = next(value.epoch);
        let fenced = Value { epoch, next: ProducerId::NONE, state: State::PrepareAbort, ..value };
        self.write(Some(fenced), None, None, turn);
    }
}

impl Value {
    /// As it is when the markers of its transaction have been written.
    pub(super) fn completed(&self) -> Self {
        let mut complete = self.clone();
        if let Some(outcome) = self.state.outcome() {
            complete.state = completed_by(outcome);
        }
        complete.partitions = BTreeSet::new();
        complete.started_at = Timestamp::NONE;
        if self.next.is_some() { complete.with_id(self.next) } else { complete }
    }

    /// The same under another producer id.
    fn with_id(self, id: ProducerId) -> Self {
        let (epoch, next) = (ProducerEpoch(0), ProducerId::NONE);
        Self { previous: self.producer, producer: id, epoch, next, ..self }
    }

    /// That it is this producer's.
    pub(super) fn check_producer(&self, (id, epoch): Producer) -> Result<(), ErrorCode> {
        self.check_id(id)?;
        if self.epoch == epoch { Ok(()) } else { Err(ErrorCode::ProducerFenced) }
    }

    /// That the epoch is the current one, or where an end may be repeated, the one before it.
    fn check_bumping(&self, (id, epoch): Producer) -> Result<(), ErrorCode> {
        let is_current = epoch == self.epoch;
        let is_before = epoch < self.epoch && next(epoch) == self.epoch;
        let has_changed_ids =
            self.previous == id && is_exhausted(epoch) && self.epoch == ProducerEpoch(0);
        let is_valid = match self.state {
            State::Empty | State::Ongoing | State::Dead => is_current,
            State::PrepareCommit | State::PrepareAbort => is_before,
            State::CompleteCommit | State::CompleteAbort => {
                is_current || is_before || has_changed_ids
            }
        };
        if !has_changed_ids {
            self.check_id(id)?;
        }
        if is_valid { Ok(()) } else { Err(ErrorCode::ProducerFenced) }
    }

    /// That the producer has this id. It has been told of its next one before that is in force.
    fn check_id(&self, id: ProducerId) -> Result<(), ErrorCode> {
        if self.producer == id {
            Ok(())
        } else if self.next.is_some() && self.next == id {
            Err(ErrorCode::ConcurrentTransactions)
        } else {
            Err(ErrorCode::InvalidProducerIdMapping)
        }
    }
}

fn prepared_by(outcome: Outcome) -> State {
    match outcome {
        Outcome::Commit => State::PrepareCommit,
        Outcome::Abort => State::PrepareAbort,
    }
}

fn completed_by(outcome: Outcome) -> State {
    match outcome {
        Outcome::Commit => State::CompleteCommit,
        Outcome::Abort => State::CompleteAbort,
    }
}
