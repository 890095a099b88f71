//! The one task that owns the transactional ids of this node: machines, timers, writes and markers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Batch, Clock, Epoch, ErrorCode, PartitionIndex, Time, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::command::{Command, Op, ToProducer, answer};
use crate::Error;
use crate::group::whole_regex;
use crate::transaction::loader::Loader;
use crate::transaction::machine::{Refusal, Transaction, Turn, Verdict};
use crate::transaction::ops::{Filter, Listing, Partition};
use crate::transaction::record::{self, Value};
use crate::transaction::{Order, Settings, Surroundings};

/// How much may be on its way into the log. Beyond it nothing more is begun until some arrives.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// What a write on its way costs beside its record: a generous guess.
const WRITE_OVERHEAD_BYTES: usize = 1024;

/// How long writes may take to arrive once the coordinator stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) struct Owner {
    settings: Settings,
    pub(super) surroundings: Arc<dyn Surroundings>,
    clock: Arc<dyn Clock>,
    pub(super) shards: BTreeMap<PartitionIndex, Shard>,
    /// Whether the log refused the last change. That is told once: whoever asked tries again.
    pub(super) is_refused: bool,
    /// One entry for each id that has something to do in time.
    pub(super) deadlines: BTreeSet<(Time, PartitionIndex, String)>,
    pub(super) flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    write_count: usize,
    bytes_in_flight: usize,
    pub(super) id_count: usize,
    /// Memory of all ids.
    pub(super) bytes: usize,
    /// Whether the last look at the bounds found no room, which is logged once.
    is_full: bool,
}

/// A partition of `__transaction_state` that this node leads.
pub(super) struct Shard {
    pub(super) epoch: Epoch,
    pub(super) phase: Phase,
}

pub(super) enum Phase {
    /// The log is being read. Its ids cannot be asked anything yet.
    Loading(Loader),
    Ready(BTreeMap<String, Slot>),
}

/// An id, when the timer will look at it, and who waits for the record that is on its way.
pub(super) struct Slot {
    pub(super) transaction: Transaction,
    pub(super) planned: Option<Time>,
    pub(super) waiting: Option<ToProducer>,
}

/// Something that was asked of the surroundings has ended.
pub(super) struct Landed {
    pub(super) partition: PartitionIndex,
    pub(super) epoch: Epoch,
    pub(super) what: What,
}

pub(super) enum What {
    Write { id: String, bytes: usize, result: Result<(), Error> },
    Markers { id: String, done: Vec<Partition> },
    Read(Result<Vec<Batch>, Error>),
}

impl Owner {
    pub(super) fn new(
        settings: Settings,
        surroundings: Arc<dyn Surroundings>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            settings,
            surroundings,
            clock,
            shards: BTreeMap::new(),
            is_refused: false,
            deadlines: BTreeSet::new(),
            flights: FuturesUnordered::new(),
            write_count: 0,
            bytes_in_flight: 0,
            id_count: 0,
            bytes: 0,
            is_full: false,
        }
    }

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>, stop: CancellationToken) {
        loop {
            let has_room = self.bytes_in_flight < IN_FLIGHT_BYTES_MAX;
            let deadline = self.deadlines.first().map(|(time, ..)| *time).filter(|_| has_room);
            let wait = deadline.unwrap_or_default().since(self.clock.now());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(landed) = self.flights.next(), if !self.flights.is_empty() => {
                    self.land(landed);
                }
                () = tokio::time::sleep(wait), if deadline.is_some() => self.tick(),
                command = queue.recv(), if has_room => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
            }
        }
        self.drain(queue).await;
    }

    /// Sends everyone away, and gives the writes that are on their way time to arrive.
    async fn drain(mut self, mut queue: mpsc::Receiver<Command>) {
        queue.close();
        while let Ok(command) = queue.try_recv() {
            command.refuse(ErrorCode::NotCoordinator);
        }
        let arrive = async {
            while 0 < self.write_count
                && let Some(landed) = self.flights.next().await
            {
                if let What::Write { .. } = landed.what {
                    self.land(landed);
                }
            }
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, arrive).await.is_err() {
            let writes = self.write_count;
            tracing::warn!(writes, "stopped while transactions were on their way into the log");
        }
        let partitions: Vec<PartitionIndex> = self.shards.keys().copied().collect();
        for partition in partitions {
            self.resign(partition);
        }
    }

    /// Does what is due, as long as there is room for what follows from it.
    fn tick(&mut self) {
        let now = self.clock.now();
        while self.bytes_in_flight < IN_FLIGHT_BYTES_MAX
            && let Some((time, at, id)) = self.deadlines.pop_first()
        {
            if now < time {
                self.deadlines.insert((time, at, id));
                return;
            }
            if let Some(slot) = self.slot(at, &id) {
                slot.planned = None;
                self.step(at, &id, Transaction::tick);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Lead { partition, epoch } => self.lead(partition, epoch),
            Command::Ask { partition, id, op } => {
                match self.shards.get(&partition).map(|shard| &shard.phase) {
                    None => op.refuse(ErrorCode::NotCoordinator),
                    Some(Phase::Loading(_)) => op.refuse(ErrorCode::CoordinatorLoadInProgress),
                    Some(Phase::Ready(_)) => self.serve(partition, &id, op),
                }
            }
            Command::List { filter, reply } => answer(reply, self.list(&filter)),
        }
    }

    fn serve(&mut self, at: PartitionIndex, id: &str, op: Op) {
        let is_known = self.slot(at, id).is_some();
        if self.is_refused(is_known, &op) {
            op.refuse(ErrorCode::CoordinatorNotAvailable);
            return;
        }
        match op {
            Op::Init { init, fresh, reply } => {
                let verdict = self.step(at, id, |it, turn| it.init(&init, fresh, turn));
                self.settle(at, id, verdict, reply);
            }
            op if !is_known => op.refuse_unknown(),
            Op::Add { producer, partitions, reply } => {
                let verdict = self.step(at, id, |it, turn| it.add(producer, partitions, turn));
                self.settle(at, id, verdict, reply);
            }
            Op::End { end, fresh, reply } => {
                let verdict = self.step(at, id, |it, turn| it.end(&end, fresh, turn));
                self.settle(at, id, verdict, reply);
            }
            Op::Verify { producer, partitions, reply } => {
                let verified = self.step(at, id, |it, _| it.verify(producer, &partitions));
                answer(reply, verified);
            }
            Op::Describe { reply } => {
                let described = self.step(at, id, |it, _| it.describe(id));
                answer(reply, described.ok_or(ErrorCode::TransactionalIdNotFound));
            }
        }
    }

    /// Answers, or keeps who asked until the record is durable.
    fn settle(
        &mut self,
        at: PartitionIndex,
        id: &str,
        verdict: Result<Verdict, Refusal>,
        reply: ToProducer,
    ) {
        match verdict {
            Ok(Verdict::Known(producer)) => answer(reply, Ok(producer)),
            Err(refusal) => answer(reply, Err(refusal)),
            Ok(Verdict::Writing) => {
                let slot = self.slot(at, id).expect("an id with a record on its way is kept");
                assert!(slot.waiting.is_none(), "one record at a time is on its way");
                slot.waiting = Some(reply);
            }
        }
    }

    /// Whether there is no room for what the request brings. What is there already may end.
    fn is_refused(&mut self, is_known: bool, op: &Op) -> bool {
        let brings_more = match op {
            Op::Init { .. } => !is_known,
            Op::Add { .. } => true,
            Op::Verify { .. } | Op::End { .. } | Op::Describe { .. } => false,
        };
        let ids_max = usize::try_from(self.settings.transactional_ids_max).unwrap_or(usize::MAX);
        let is_full = self.settings.transactions_budget().as_usize() <= self.bytes
            || (!is_known && ids_max <= self.id_count);
        if is_full && !self.is_full {
            let (ids, bytes) = (self.id_count, self.bytes);
            tracing::warn!(ids, bytes, "no room for more transactional ids or partitions");
        }
        self.is_full = is_full;
        is_full && brings_more
    }

    fn list(&self, filter: &Filter) -> Result<Vec<Listing>, ErrorCode> {
        let now = self.clock.timestamp();
        let pattern = filter.pattern.as_deref().map(whole_regex).transpose()?;
        let is_match = |id: &str| pattern.as_ref().is_none_or(|pattern| pattern.is_match(id));
        let mut listed = Vec::new();
        for Shard { phase, .. } in self.shards.values() {
            let Phase::Ready(ids) = phase else {
                return Err(ErrorCode::CoordinatorLoadInProgress);
            };
            for (id, slot) in ids {
                if let Some((listing, started_at)) = slot.transaction.listing(id)
                    && is_wanted(filter, &listing, started_at, now)
                    && is_match(&listing.id)
                {
                    listed.push(listing);
                }
            }
        }
        listed.sort_by(|left, right| left.id.cmp(&right.id));
        Ok(listed)
    }

    fn slot(&mut self, at: PartitionIndex, id: &str) -> Option<&mut Slot> {
        match &mut self.shards.get_mut(&at)?.phase {
            Phase::Ready(ids) => ids.get_mut(id),
            Phase::Loading(_) => None,
        }
    }

    /// Gives a partition up: who waits is told to look for its next coordinator.
    pub(super) fn resign(&mut self, partition: PartitionIndex) {
        let Some(Shard { phase: Phase::Ready(ids), .. }) = self.shards.remove(&partition) else {
            return;
        };
        for (id, slot) in ids {
            self.bytes -= slot.transaction.bytes() + id.len();
            self.id_count -= 1;
            if let Some(reply) = slot.waiting {
                answer(reply, Err(ErrorCode::NotCoordinator.into()));
            }
            if let Some(time) = slot.planned {
                self.deadlines.remove(&(time, partition, id));
            }
        }
    }

    fn land(&mut self, landed: Landed) {
        let Landed { partition: at, epoch, what } = landed;
        let is_current = self.shards.get(&at).is_some_and(|shard| shard.epoch == epoch);
        match what {
            What::Write { id, bytes, result } => {
                self.write_count -= 1;
                self.bytes_in_flight -= bytes;
                if is_current {
                    self.written(at, &id, result);
                }
            }
            What::Markers { id, done } if is_current => {
                self.step(at, &id, |it, turn| it.marked(&done, turn));
            }
            What::Read(read) if is_current => self.load(at, read),
            What::Markers { .. } | What::Read(_) => {}
        }
    }

    fn written(&mut self, at: PartitionIndex, id: &str, result: Result<(), Error>) {
        let was_refused = std::mem::replace(&mut self.is_refused, result.is_err());
        if let Err(error) = &result
            && !was_refused
        {
            tracing::warn!(partition = %at, %error, "the log refused a change to a transaction");
        }
        let result = result.map_err(|error| refusal(&error));
        let waiting = self.slot(at, id).and_then(|slot| slot.waiting.take());
        let told = self.step(at, id, |it, turn| it.written(result, turn));
        if let (Some(reply), Some(told)) = (waiting, told) {
            answer(reply, told.map_err(Refusal::Code));
        }
    }

    pub(super) fn turn(&self) -> Turn<'_> {
        Turn {
            now: self.clock.now(),
            timestamp: self.clock.timestamp(),
            settings: &self.settings,
            append: None,
            markers: None,
        }
    }

    /// One step of one id, which begins to exist by it and ceases to when it leaves nothing.
    ///
    /// # Panics
    /// If the partition is not ready.
    fn step<R>(
        &mut self,
        at: PartitionIndex,
        id: &str,
        act: impl FnOnce(&mut Transaction, &mut Turn<'_>) -> R,
    ) -> R {
        let mut turn = Turn {
            now: self.clock.now(),
            timestamp: self.clock.timestamp(),
            settings: &self.settings,
            append: None,
            markers: None,
        };
        let Some(Shard { epoch, phase: Phase::Ready(ids) }) = self.shards.get_mut(&at) else {
            unreachable!("ids act on partitions that are ready, not on {at}");
        };
        let epoch = *epoch;
        if !ids.contains_key(id) {
            let transaction = Transaction::default();
            self.id_count += 1;
            self.bytes += transaction.bytes() + id.len();
            ids.insert(id.to_owned(), Slot { transaction, planned: None, waiting: None });
        }
        let slot = ids.get_mut(id).expect("it was there or has just been added");
        self.bytes -= slot.transaction.bytes() + id.len();
        let result = act(&mut slot.transaction, &mut turn);
        let (append, markers, timestamp) = (turn.append, turn.markers, turn.timestamp);
        let is_void = slot.transaction.is_void();
        let next = slot.transaction.next_deadline().filter(|_| !is_void);
        if next != slot.planned {
            if let Some(time) = slot.planned {
                self.deadlines.remove(&(time, at, id.to_owned()));
            }
            if let Some(time) = next {
                self.deadlines.insert((time, at, id.to_owned()));
            }
            slot.planned = next;
        }
        if is_void {
            ids.remove(id);
            self.id_count -= 1;
        } else {
            self.bytes += slot.transaction.bytes() + id.len();
        }
        if let Some(value) = append {
            self.append(at, epoch, id, value.as_ref(), timestamp);
        }
        if let Some(ending) = markers {
            let order = Order { ending, coordinator_epoch: epoch };
            let (write, id) = (self.surroundings.write_markers(order), id.to_owned());
            self.flights.push(Box::pin(async move {
                let done = write.await;
                Landed { partition: at, epoch, what: What::Markers { id, done } }
            }));
        }
        result
    }

    fn append(
        &mut self,
        partition: PartitionIndex,
        epoch: Epoch,
        id: &str,
        value: Option<&Value>,
        timestamp: Timestamp,
    ) {
        let (key, value) = (record::key(id), value.map(record::encode));
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(timestamp, Some(&key), value.as_deref(), &[]);
        let batch = builder.build().expect("no codec is there to fail");
        let bytes = WRITE_OVERHEAD_BYTES + batch.len();
        self.write_count += 1;
        self.bytes_in_flight += bytes;
        let (write, id) = (self.surroundings.append(partition, epoch, batch), id.to_owned());
        self.flights.push(Box::pin(async move {
            let result = write.await;
            Landed { partition, epoch, what: What::Write { id, bytes, result } }
        }));
    }
}

fn is_wanted(
    filter: &Filter,
    listing: &Listing,
    started_at: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let is_long = filter.longer_than.is_none_or(|duration| {
        started_at.is_some_and(|started_at| started_at < now.minus(duration))
    });
    is_long
        && (filter.states.is_empty() || filter.states.contains(&listing.state))
        && (filter.producers.is_empty() || filter.producers.contains(&listing.producer))
}

/// What a client is told when the partition of its id refuses a write.
fn refusal(error: &Error) -> ErrorCode {
    match error.code {
        ErrorCode::NotLeaderOrFollower
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownLeaderEpoch
        | ErrorCode::LeaderNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotCoordinator,
        // A full disk, too few replicas, a timeout: the same coordinator may do it later.
        _ => ErrorCode::CoordinatorNotAvailable,
    }
}
