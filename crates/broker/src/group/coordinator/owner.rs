//! The one task that owns the groups of this node: their machines, timers, waiters and writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Batch, Clock, Epoch, ErrorCode, GroupId, PartitionIndex, Rng, Time, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::command::{Command, Desk};
use super::shard::{Phase, Shard, Slot};
use crate::Error;
use crate::group::effects::{Append, Effects, Turn};
use crate::group::machine::Group;
use crate::group::ops::Within;
use crate::group::record::Record;
use crate::group::{OffsetsLog, Settings, log};

/// How much may be on its way into the log. Beyond it nothing more is begun until some arrives.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// What a write on its way costs beside its records: a generous guess.
const WRITE_OVERHEAD_BYTES: usize = 1024;

/// Records beyond this go into another batch of the same write.
const BATCH_BYTES: usize = 256 << 10;

/// What coordinators write on behalf of producers has no sequence number of theirs. Kafka writes 0 and
/// looks at none.
const NO_SEQUENCE: i32 = 0;

/// How long writes may take to arrive once the coordinator stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Owner {
    pub(super) settings: Settings,
    pub(super) log: Arc<dyn OffsetsLog>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Rng,
    pub(super) shards: BTreeMap<PartitionIndex, Shard>,
    /// Whether the log refused the last change. That is told once: whoever asked tries again.
    pub(super) is_refused: bool,
    pub(super) desk: Desk,
    /// One entry for each group that has something to do in time.
    pub(super) deadlines: BTreeSet<(Time, PartitionIndex, GroupId)>,
    pub(super) flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    write_count: usize,
    bytes_in_flight: usize,
    pub(super) group_count: usize,
    /// Memory of all groups.
    pub(super) bytes: usize,
    /// Whether the last look at the bounds found no room, which is logged once.
    pub(super) is_full: bool,
}

/// Something that was asked of the log has ended.
pub(super) struct Landed {
    pub(super) partition: PartitionIndex,
    pub(super) epoch: Epoch,
    pub(super) what: What,
}

pub(super) enum What {
    Write { number: u64, bytes: usize, result: Result<(), Error> },
    Read(Result<Vec<Batch>, Error>),
}

impl Owner {
    pub(super) fn new(
        settings: Settings,
        log: Arc<dyn OffsetsLog>,
        clock: Arc<dyn Clock>,
        rng: Rng,
    ) -> Self {
        Self {
            settings,
            log,
            clock,
            rng,
            shards: BTreeMap::new(),
            is_refused: false,
            desk: Desk::default(),
            deadlines: BTreeSet::new(),
            flights: FuturesUnordered::new(),
            write_count: 0,
            bytes_in_flight: 0,
            group_count: 0,
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
        self.for_every_group(|group, turn| {
            group.refuse_members(ErrorCode::NotCoordinator, turn);
        });
        while let Ok(command) = queue.try_recv() {
            command.refuse(ErrorCode::NotCoordinator);
        }
        let arrive = async {
            while 0 < self.write_count
                && let Some(landed) = self.flights.next().await
            {
                self.land(landed);
            }
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, arrive).await.is_err() {
            let writes = self.write_count;
            tracing::warn!(writes, "stopped while group state was on its way into the log");
        }
        self.for_every_group(|group, turn| group.abandon(ErrorCode::NotCoordinator, turn));
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
            }
            self.step(at, &id, Group::tick);
        }
    }

    fn slot(&mut self, at: PartitionIndex, id: &GroupId) -> Option<&mut Slot> {
        match &mut self.shards.get_mut(&at)?.phase {
            Phase::Ready(groups) => groups.by_id.get_mut(id),
            Phase::Loading(_) => None,
        }
    }

    pub(super) fn resign(&mut self, partition: PartitionIndex) {
        for id in self.ids(partition) {
            self.step(partition, &id, |group, turn| {
                group.abandon(ErrorCode::NotCoordinator, turn);
            });
        }
        if let Some(Shard { phase: Phase::Ready(groups), .. }) = self.shards.remove(&partition) {
            for (id, slot) in groups.by_id {
                self.bytes -= slot.group.bytes();
                self.group_count -= 1;
                if let Some(time) = slot.planned {
                    self.deadlines.remove(&(time, partition, id));
                }
            }
        }
    }

    fn ids(&self, partition: PartitionIndex) -> Vec<GroupId> {
        match self.shards.get(&partition).map(|shard| &shard.phase) {
            Some(Phase::Ready(groups)) => groups.by_id.keys().cloned().collect(),
            Some(Phase::Loading(_)) | None => Vec::new(),
        }
    }

    pub(super) fn for_every_group(&mut self, act: impl Fn(&mut Group, &mut Turn<'_>)) {
        let partitions: Vec<PartitionIndex> = self.shards.keys().copied().collect();
        for partition in partitions {
            for id in self.ids(partition) {
                self.step(partition, &id, &act);
            }
        }
    }

    fn land(&mut self, landed: Landed) {
        let Landed { partition, epoch, what } = landed;
        let is_current = self.shards.get(&partition).is_some_and(|shard| shard.epoch == epoch);
        match what {
            What::Write { number, bytes, result } => {
                self.write_count -= 1;
                self.bytes_in_flight -= bytes;
                if is_current {
                    self.written(partition, number, result);
                }
            }
            What::Read(read) if is_current => self.load(partition, read),
            What::Read(_) => {}
        }
    }

    /// Tells groups of their writes that have ended, in the log's order.
    fn written(&mut self, at: PartitionIndex, number: u64, result: Result<(), Error>) {
        let was_refused = std::mem::replace(&mut self.is_refused, result.is_err());
        if let Err(error) = &result
            && !was_refused
        {
            tracing::warn!(partition = %at, %error, "the log refused a change to a group");
        }
        if let Some(Shard { phase: Phase::Ready(groups), .. }) = self.shards.get_mut(&at) {
            groups.land(number, result.map_err(|error| log::refusal(&error)));
        }
        while let Some(Shard { phase: Phase::Ready(groups), .. }) = self.shards.get_mut(&at)
            && let Some((id, ticket, result)) = groups.next_landed()
        {
            self.step(at, &id, |group, turn| group.written(ticket, result, turn));
        }
    }

    /// One step of one group, which begins to exist by it and ceases to when it leaves nothing.
    ///
    /// # Panics
    /// If the partition is not ready.
    pub(super) fn step<R>(
        &mut self,
        at: PartitionIndex,
        id: &GroupId,
        act: impl FnOnce(&mut Group, &mut Turn<'_>) -> R,
    ) -> R {
        let Some(Shard { epoch, phase: Phase::Ready(groups) }) = self.shards.get_mut(&at) else {
            unreachable!("groups act on partitions that are ready, not on {at}");
        };
        if !groups.by_id.contains_key(id) {
            let group = Group::new(id.clone());
            self.group_count += 1;
            self.bytes += group.bytes();
            groups.by_id.insert(id.clone(), Slot { group, planned: None });
        }
        let slot = groups.by_id.get_mut(id).expect("it was there or has just been added");
        let own_settings = self.log.own_settings(id, &self.settings);
        self.bytes -= slot.group.bytes();
        let mut turn = Turn {
            now: self.clock.now(),
            timestamp: self.clock.timestamp(),
            settings: own_settings.as_ref().unwrap_or(&self.settings),
            rng: &mut self.rng,
            effects: Effects::default(),
        };
        let result = act(&mut slot.group, &mut turn);
        let (timestamp, Effects { replies, appends }) = (turn.timestamp, turn.effects);
        let is_void = slot.group.is_void();
        let next = slot.group.next_deadline().filter(|_| !is_void);
        let is_sooner = next.is_some_and(|next| slot.planned.is_none_or(|time| next < time));
        if (is_void || is_sooner)
            && let Some(time) = slot.planned.take()
        {
            self.deadlines.remove(&(time, at, id.clone()));
        }
        if let Some(next) = next.filter(|_| is_sooner) {
            slot.planned = Some(next);
            self.deadlines.insert((next, at, id.clone()));
        }
        if is_void {
            groups.by_id.remove(id);
            self.group_count -= 1;
        } else {
            self.bytes += slot.group.bytes();
        }
        for Append { ticket, records, within } in appends {
            let number = groups.launch(id.clone(), ticket);
            let bytes = WRITE_OVERHEAD_BYTES + records.iter().map(record_bytes).sum::<usize>();
            self.write_count += 1;
            self.bytes_in_flight += bytes;
            let write = self.log.append(at, *epoch, batches(&records, timestamp, within), within);
            let (partition, epoch) = (at, *epoch);
            self.flights.push(Box::pin(async move {
                let result = write.await;
                Landed { partition, epoch, what: What::Write { number, bytes, result } }
            }));
        }
        for reply in replies {
            self.desk.deliver(reply);
        }
        result
    }
}

fn record_bytes(record: &Record) -> usize {
    record.key.len() + record.value.as_ref().map_or(0, bytes::Bytes::len)
}

fn batches(records: &[Record], timestamp: Timestamp, within: Option<Within>) -> Vec<Batch> {
    let fresh = || {
        let mut builder = BatchBuilder::new(Compression::None);
        if let Some(Within { producer, epoch, .. }) = within {
            builder.producer(producer, epoch, NO_SEQUENCE);
            builder.transactional();
        }
        builder
    };
    let mut batches = Vec::new();
    let mut builder = fresh();
    let build = |builder: BatchBuilder| builder.build().expect("no codec is there to fail");
    for record in records {
        builder.push(timestamp, Some(&record.key), record.value.as_deref(), &[]);
        if BATCH_BYTES <= builder.len_estimate() {
            batches.push(build(std::mem::replace(&mut builder, fresh())));
        }
    }
    if 0 < builder.record_count() {
        batches.push(build(builder));
    }
    batches
}
