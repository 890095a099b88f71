//! A partition that this node leads: the machine behind a short lock, and who waits for it.

pub(crate) mod machine;
mod transactions;
pub(crate) mod validate;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use rafka_core::batch::{EndMarker, Header};
use rafka_core::producer_state::{Described, Ended, MarkerVerdict};
use rafka_core::{
    Batch, Epoch, ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition,
};
use rafka_storage::{self as storage, Engine, LogId, Recovered};
use tokio::sync::{Notify, oneshot};

use crate::Error;
use crate::fetch::Isolation;
use crate::produce::{Appended, TransactionVersion};
use crate::producer_budget::ProducerBudget;
use machine::{Machine, Plan, Registration};

/// A partition that this node leads. Idle, it is this struct and nothing else: no task, no file.
pub(crate) struct Partition {
    pub(crate) id: TopicPartition,
    pub(crate) log: LogId,
    /// The log's end when this leadership began.
    pub(crate) led_from: Offset,
    producers: Arc<ProducerBudget>,
    state: Mutex<State>,
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.producers.changed(self.state.get_mut().machine.producers().len(), 0);
    }
}

struct State {
    machine: Machine,
    /// Who waits for the high watermark to pass an offset; lowest first.
    acks: VecDeque<PendingAck>,
    /// Fetches to wake when the high watermark moves, by where they are in memory.
    readers: BTreeMap<usize, Arc<Notify>>,
    /// Set when the topic was deleted or the storage failed: nothing is appended any more.
    closed: Option<Error>,
}

struct PendingAck {
    end: Offset,
    appended: Appended,
    reply: oneshot::Sender<Result<Appended, Error>>,
}

/// Where the acknowledgement of an append stands.
pub(crate) enum AckState {
    /// It is known.
    Known(Result<Appended, Error>),
    /// It comes when the high watermark passes the append.
    Waits(oneshot::Receiver<Result<Appended, Error>>),
}

impl AckState {
    /// The acknowledgement, however long it takes.
    pub(crate) async fn known(self) -> Result<Appended, Error> {
        match self {
            Self::Known(result) => result,
            Self::Waits(receiver) => receiver.await.unwrap_or_else(|_closed| {
                Err(Error::new(ErrorCode::NotLeaderOrFollower, "the node is stopping"))
            }),
        }
    }
}

/// Where a partition stands at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) last_stable_offset: Offset,
    pub(crate) leader_epoch: Epoch,
}

impl Position {
    /// Below which offset records are visible.
    pub(crate) fn readable(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable_offset,
        }
    }
}

impl Partition {
    pub(crate) fn new(
        id: TopicPartition,
        log: LogId,
        recovered: Recovered,
        leader_epoch: Epoch,
        producers: Arc<ProducerBudget>,
    ) -> Self {
        let led_from = recovered.bounds.end;
        let machine = Machine::new(recovered, leader_epoch);
        producers.changed(0, machine.producers().len());
        let state =
            State { machine, acks: VecDeque::new(), readers: BTreeMap::new(), closed: None };
        Self { id, log, led_from, producers, state: Mutex::new(state) }
    }

    /// Appends validated batches and registers for their acknowledgement.
    pub(crate) fn append(
        &self,
        engine: &dyn Engine,
        batches: &mut [Batch],
        append_time: Option<Timestamp>,
        now: Timestamp,
        registration: Registration,
    ) -> AckState {
        let mut state = self.state.lock();
        if let Some(batch) = batches.first()
            && self.producers.is_full()
            && state.machine.is_new_transaction(&batch.header)
            && state.machine.producers().seen_at().next().is_none()
        {
            return AckState::Known(Err(crowded()));
        }
        self.write(&mut state, |state| {
            state.append(engine, self.log, batches, (append_time, now), registration)
        })
    }

    /// Ends a producer's transaction, and registers for the acknowledgement. The batch is `marker`.
    pub(crate) fn append_marker(
        &self,
        engine: &dyn Engine,
        batch: Batch,
        marker: EndMarker,
        version: TransactionVersion,
        now: Timestamp,
    ) -> AckState {
        let mut state = self.state.lock();
        self.write(&mut state, |state| {
            state.append_marker(engine, self.log, batch, (marker, version), now)
        })
    }

    /// Appends, and counts the producers that are known by that.
    fn write(
        &self,
        state: &mut State,
        append: impl FnOnce(&mut State) -> Result<(Offset, Appended), Error>,
    ) -> AckState {
        let known = state.machine.producers().len();
        let appended = append(state);
        let machine = &mut state.machine;
        if known < machine.producers().len() && 0 < known && self.producers.is_full() {
            machine.forget_oldest_producer();
        }
        self.producers.changed(known, machine.producers().len());
        match appended {
            Ok((end, appended)) => state.ack_at(end, appended),
            Err(error) => AckState::Known(Err(error)),
        }
    }

    /// As [`Machine::needs_registration`].
    pub(crate) fn needs_registration(&self, header: &Header) -> Option<Registration> {
        self.state.lock().machine.needs_registration(header)
    }

    /// As [`Machine::on_behalf`].
    pub(crate) fn on_behalf(&self, id: ProducerId, epoch: ProducerEpoch) -> (Option<Offset>, bool) {
        self.state.lock().machine.on_behalf(id, epoch)
    }

    /// As [`Machine::aborted`].
    pub(crate) fn aborted(&self, from: Offset, below: Offset) -> Option<Vec<Ended>> {
        self.state.lock().machine.aborted(from, below)
    }

    /// As [`Machine::forget_aborted`].
    pub(crate) fn forget_aborted(&self) {
        self.state.lock().machine.forget_aborted();
    }

    /// What is known of each producer.
    pub(crate) fn describe_producers(&self) -> Vec<Described> {
        self.state.lock().machine.producers().describe().collect()
    }

    /// The log is durable below `end`: moves the high watermark, answers and wakes.
    pub(crate) fn durable(&self, end: Offset) {
        let (acks, readers) = {
            let mut state = self.state.lock();
            if !state.machine.durable(end) {
                return;
            }
            (state.take_acks(), std::mem::take(&mut state.readers))
        };
        for ack in acks {
            // A client that went away does not wait for its answer.
            drop(ack.reply.send(Ok(ack.appended)));
        }
        wake(&readers);
    }

    /// Refuses appends from now on, with `error`, and answers everyone who waits.
    pub(crate) fn close(&self, error: &Error) {
        let (acks, readers) = {
            let mut state = self.state.lock();
            state.closed.get_or_insert_with(|| error.clone());
            (std::mem::take(&mut state.acks), std::mem::take(&mut state.readers))
        };
        for ack in acks {
            drop(ack.reply.send(Err(error.clone())));
        }
        wake(&readers);
    }

    pub(crate) fn position(&self) -> Position {
        let state = self.state.lock();
        let machine = &state.machine;
        Position {
            log_start: machine.log_start(),
            log_end: machine.log_end(),
            high_watermark: machine.high_watermark(),
            last_stable_offset: machine.last_stable_offset(),
            leader_epoch: machine.leader_epoch(),
        }
    }

    /// Judges the leader epoch that a client believes in.
    pub(crate) fn check_epoch(&self, claimed: Option<Epoch>) -> Result<(), Error> {
        self.state.lock().machine.check_epoch(claimed)
    }

    /// The leader epoch under which the record at `offset` was written.
    pub(crate) fn epoch_at(&self, offset: Offset) -> Epoch {
        self.state.lock().machine.epoch_at(offset)
    }

    /// The largest epoch not above `epoch` that wrote records, and where it ended.
    pub(crate) fn epoch_end(&self, epoch: Epoch) -> Option<(Epoch, Offset)> {
        self.state.lock().machine.epoch_end(epoch)
    }

    /// Wakes `reader` once, when the high watermark moves or the partition closes.
    pub(crate) fn register(&self, reader: &Arc<Notify>) {
        let at = Arc::as_ptr(reader).addr();
        self.state.lock().readers.insert(at, Arc::clone(reader));
    }

    /// Takes `reader` off the list if it was not woken.
    pub(crate) fn unregister(&self, reader: &Arc<Notify>) {
        self.state.lock().readers.remove(&Arc::as_ptr(reader).addr());
    }

    /// Notes what trimming or cleaning did to the log.
    pub(crate) fn trimmed(&self, start: Offset) {
        self.state.lock().machine.trimmed(start);
    }

    /// Notes when each known producer wrote last.
    pub(crate) fn producers_seen_at(&self, seen_at: &mut Vec<Timestamp>) {
        seen_at.extend(self.state.lock().machine.producers().seen_at());
    }

    /// Forgets the producers that wrote before `limit` and not since. Returns how many.
    pub(crate) fn forget_producers(&self, limit: Timestamp) -> usize {
        let forgotten = self.state.lock().machine.forget_producers(limit);
        self.producers.changed(forgotten, 0);
        forgotten
    }
}

impl State {
    fn append(
        &mut self,
        engine: &dyn Engine,
        log: LogId,
        batches: &mut [Batch],
        (append_time, now): (Option<Timestamp>, Timestamp),
        registration: Registration,
    ) -> Result<(Offset, Appended), Error> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        let log_start = self.machine.log_start();
        match self.machine.plan(batches, registration)? {
            Plan::Duplicate { entry, end } => {
                let append_time = append_time.map(|_| entry.timestamp);
                Ok((end, Appended { base_offset: entry.base_offset, append_time, log_start }))
            }
            Plan::Append { base_offset, end } => {
                for batch in &*batches {
                    self.machine.check_registration(batch, registration)?;
                }
                let durable = engine.append(log, batches, now).map_err(refused)?;
                self.machine.appended(batches, now);
                if durable == storage::Appended::Durable {
                    self.machine.durable(end);
                }
                Ok((end, Appended { base_offset, append_time, log_start }))
            }
        }
    }

    fn append_marker(
        &mut self,
        engine: &dyn Engine,
        log: LogId,
        mut batch: Batch,
        (marker, version): (EndMarker, TransactionVersion),
        now: Timestamp,
    ) -> Result<(Offset, Appended), Error> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        let log_start = self.machine.log_start();
        let appended = |base_offset| Appended { base_offset, append_time: None, log_start };
        if self.machine.plan_marker(&mut batch, marker, version)? == MarkerVerdict::Duplicate {
            // It is somewhere below.
            let end = self.machine.log_end();
            return Ok((end, appended(end)));
        }
        let (base_offset, end) = (batch.base_offset(), batch.next_offset());
        let batches = [batch];
        let durable = engine.append(log, &batches, now).map_err(refused)?;
        self.machine.appended(&batches, now);
        if durable == storage::Appended::Durable {
            self.machine.durable(end);
        }
        Ok((end, appended(base_offset)))
    }

    fn ack_at(&mut self, end: Offset, appended: Appended) -> AckState {
        if end <= self.machine.high_watermark() {
            wake(&std::mem::take(&mut self.readers));
            return AckState::Known(Ok(appended));
        }
        let (reply, receiver) = oneshot::channel();
        // Nearly always the back: only a repeated batch waits for less than the newest.
        let place = self.acks.partition_point(|ack| ack.end <= end);
        self.acks.insert(place, PendingAck { end, appended, reply });
        AckState::Waits(receiver)
    }

    fn take_acks(&mut self) -> VecDeque<PendingAck> {
        let high_watermark = self.machine.high_watermark();
        let reached = self.acks.partition_point(|ack| ack.end <= high_watermark);
        let rest = self.acks.split_off(reached);
        std::mem::replace(&mut self.acks, rest)
    }
}

/// What a client is told whose transaction would take memory that cannot be given back before it
/// ends.
fn crowded() -> Error {
    let message = "the node's memory for producers is full of open transactions: nothing was \
                   appended, send again";
    Error::new(ErrorCode::RequestTimedOut, message)
}

fn wake(readers: &BTreeMap<usize, Arc<Notify>>) {
    for reader in readers.values() {
        reader.notify_one();
    }
}

/// What a client is told when the engine refuses an append.
fn refused(error: storage::AppendError) -> Error {
    let message = match &error {
        storage::AppendError::DiskFull { .. } => {
            format!("{error}: free space or shorten retention, then send again")
        }
        storage::AppendError::Failed(cause) => cause.to_string(),
    };
    Error::new(ErrorCode::KafkaStorageError, message)
}
