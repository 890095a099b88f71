//! Pure: how a transaction ends: by its producer, by its successor, or because its time is up.

use std::collections::BTreeSet;

use rafka_core::batch::Outcome;
use rafka_core::producer_state::TransactionVersion;
use rafka_core::{ErrorCode, ProducerEpoch, ProducerId, Timestamp};

use super::machine::{Producer, Refusal, Transaction, Turn, Verdict, is_exhausted, next};
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
            TransactionVersion::V1 => check_producer(value, end.producer)?,
            TransactionVersion::V2 => check_bumping(value, end.producer)?,
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
                Ok(Verdict::Known((value.producer, value.epoch)))
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
        if self.next.is_some() {
            complete.previous = self.producer;
            (complete.producer, complete.epoch) = (self.next, ProducerEpoch(0));
            complete.next = ProducerId::NONE;
        }
        complete
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

fn check_producer(value: &Value, (id, epoch): Producer) -> Result<(), ErrorCode> {
    if value.producer != id {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if value.epoch != epoch {
        return Err(ErrorCode::ProducerFenced);
    }
    Ok(())
}

/// That the epoch is the current one, or where an end may be repeated, the one before it.
fn check_bumping(value: &Value, (id, epoch): Producer) -> Result<(), ErrorCode> {
    let is_current = epoch == value.epoch;
    let is_before = epoch < value.epoch && next(epoch) == value.epoch;
    let has_changed_ids =
        value.previous == id && is_exhausted(epoch) && value.epoch == ProducerEpoch(0);
    let is_valid = match value.state {
        State::Empty | State::Ongoing | State::Dead => is_current,
        State::PrepareCommit | State::PrepareAbort => is_before,
        State::CompleteCommit | State::CompleteAbort => is_current || is_before || has_changed_ids,
    };
    if value.producer != id && !has_changed_ids {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if is_valid { Ok(()) } else { Err(ErrorCode::ProducerFenced) }
}
