//! Fetch: read what there is; if that is too little, park until the high watermark moves.

use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_core::producer_state::Ended;
use rafka_core::{Batch, ByteSize, ErrorCode, Offset};
use rafka_storage::{LogId, ReadError};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Broker, Inner};
use crate::fetch::{
    Aborted, Fetched, Isolation, PartitionData, Position, Request, bytes_of, is_enough,
};
use crate::partition::{self, Partition};
use crate::{Error, TopicRef};

/// After so many positions others get their turn: a request may name a million.
const POSITIONS_AT_ONCE: usize = 256;

impl Broker {
    /// Reads whole batches from the given positions on, and waits for them if there are too few.
    ///
    /// Answers at once when some position is in error, or when as many fetches are parked as the
    /// settings allow.
    ///
    /// # Cancel safety
    /// Nothing changes by a fetch; dropping it is safe.
    pub async fn fetch(&self, request: Request) -> Vec<PartitionData> {
        let inner = &self.inner;
        inner.stats.fetch_requests.add(1);
        let data = inner.read_positions(&request).await;
        let data = if request.wait_max.is_zero() || is_enough(&data, request.bytes_min) {
            data
        } else {
            drop(data);
            inner.park(&request).await;
            inner.read_positions(&request).await
        };
        inner.stats.fetch_bytes.add(bytes_of(&data).0);
        let failures = data.iter().filter(|partition| partition.result.is_err()).count();
        inner.stats.fetch_failures.add(failures as u64);
        data
    }

    /// Waits until a fetch would find enough, or has nothing more to wait for. Whoever waits holds
    /// nothing of what it waits for.
    ///
    /// # Cancel safety
    /// Nothing changes by waiting; dropping it is safe.
    pub async fn wait_for(&self, request: &Request) {
        self.inner.park(request).await;
    }
}

impl Inner {
    /// See [`Broker::wait_for`].
    async fn park(&self, request: &Request) {
        let Ok(_permit) = self.fetch_waits.try_acquire() else { return };
        let deadline = Instant::now() + request.wait_max;
        // Once each, however often they are named.
        let partitions: BTreeMap<LogId, Arc<Partition>> = request
            .positions
            .iter()
            .filter_map(|position| self.table.partition(&position.topic, position.partition).ok())
            .map(|(_, partition)| (partition.log, partition))
            .collect();
        let partitions: Vec<Arc<Partition>> = partitions.into_values().collect();
        loop {
            let parked = Parked::new(&partitions);
            // What came between the last look and the registration wakes nobody: look again.
            if self.has_enough(request).await {
                return;
            }
            let woken = tokio::select! {
                biased;
                () = self.stop.cancelled() => false,
                () = parked.reader.notified() => true,
                () = tokio::time::sleep_until(deadline) => false,
            };
            if !woken {
                return;
            }
        }
    }

    /// Whether a fetch would find as much as it asks for, or an error.
    async fn has_enough(&self, request: &Request) -> bool {
        let mut missing = request.bytes_min.min(request.bytes_max);
        for (index, position) in request.positions.iter().enumerate() {
            give_turn(index).await;
            let limit = missing.min(position.bytes_max);
            match self.available(position, request.isolation, limit) {
                Some(found) if missing <= found => return true,
                Some(found) => missing = ByteSize(missing.0 - found.0),
                None => return true,
            }
        }
        missing == ByteSize(0)
    }

    /// How much there is to read at a position, counted up to `limit`. `None`: an error.
    fn available(
        &self,
        position: &Position,
        isolation: Isolation,
        limit: ByteSize,
    ) -> Option<ByteSize> {
        let (partition, at) = self.find(position).ok()?;
        let below = at.readable(isolation);
        if below <= position.offset {
            return Some(ByteSize(0));
        }
        // What is not in memory any more is old, and to be read at once.
        let hot = self.engine.read_hot(partition.log, position.offset, below, limit);
        let Some(found) = hot else { return Some(limit) };
        let batches = found.ok()?;
        // Batches are whole: one that does not fit makes up for what is missing.
        let is_all = batches.last().is_some_and(|last| below <= last.next_offset());
        let bytes: usize = batches.iter().map(Batch::len).sum();
        Some(if is_all { ByteSize::of_len(bytes).min(limit) } else { limit })
    }

    async fn read_positions(&self, request: &Request) -> Vec<PartitionData> {
        let mut left = request.bytes_max.min(self.settings.fetch_bytes_max);
        let mut answers = Vec::with_capacity(request.positions.len());
        let mut nothing_yet = true;
        for (index, position) in request.positions.iter().enumerate() {
            give_turn(index).await;
            // Once the bytes are used up, the rest only tells where it stands.
            let limit = (nothing_yet || left.0 != 0).then(|| left.min(position.bytes_max));
            let mut result = self.read_position(position, limit, request.isolation).await;
            if let Ok(Fetched { batches, aborted, .. }) = &mut result {
                // Only the first batch of an answer may be larger than the limit.
                if !nothing_yet
                    && batches.first().is_some_and(|batch| left.as_usize() < batch.len())
                {
                    batches.clear();
                    aborted.clear();
                }
                nothing_yet &= batches.is_empty();
                let bytes: usize = batches.iter().map(Batch::len).sum();
                left = ByteSize(left.0.saturating_sub(bytes as u64));
            }
            let (topic, partition) = (position.topic.clone(), position.partition);
            answers.push(PartitionData { topic, partition, result });
        }
        answers
    }

    /// Where the partition of a position stands, if it can be read from there.
    fn find(&self, position: &Position) -> Result<(Arc<Partition>, partition::Position), Error> {
        let (_, partition) = self.table.partition(&position.topic, position.partition)?;
        partition.check_epoch(position.leader_epoch)?;
        let at = partition.position();
        if position.offset < at.log_start || at.log_end < position.offset {
            return Err(out_of_range(&position.topic, position.offset, at.log_start, at.log_end));
        }
        Ok((partition, at))
    }

    async fn read_position(
        &self,
        position: &Position,
        limit: Option<ByteSize>,
        isolation: Isolation,
    ) -> Result<Fetched, Error> {
        let (partition, at) = self.find(position)?;
        let below = at.readable(isolation);
        let batches = match limit {
            Some(limit) if position.offset < below => {
                self.read(&position.topic, &partition, position.offset, below, limit).await?
            }
            _ => Vec::new(),
        };
        let aborted = match isolation {
            Isolation::ReadUncommitted => Vec::new(),
            Isolation::ReadCommitted => {
                self.aborted(&position.topic, &partition, position.offset, &batches).await?
            }
        };
        Ok(Fetched {
            batches,
            aborted,
            high_watermark: at.high_watermark,
            last_stable_offset: at.last_stable_offset,
            log_start: at.log_start,
        })
    }

    /// The aborted transactions that reach into what was read.
    ///
    /// Asked for after the batches: compaction takes a marker away together with its transaction, so
    /// that whoever has the marker may be told of the transaction or not.
    async fn aborted(
        &self,
        topic: &TopicRef,
        partition: &Partition,
        from: Offset,
        batches: &[Batch],
    ) -> Result<Vec<Aborted>, Error> {
        let mut transactional =
            batches.iter().filter(|batch| batch.header.attributes.is_transactional());
        let (Some(last), Some(_)) = (batches.last(), transactional.next()) else {
            return Ok(Vec::new());
        };
        let below = last.next_offset();
        let mut ended = match partition.aborted(from, below) {
            Some(known) => known,
            None => {
                let (engine, log) = (Arc::clone(&self.engine), partition.log);
                let aborted = self.blocking(move || engine.aborted(log, from, below)).await?;
                aborted.map_err(|error| read_failed(topic, ReadError::Failed(error)))?
            }
        };
        ended.sort_unstable_by_key(|ended| ended.first_offset);
        let aborted =
            |ended: &Ended| Aborted { producer: ended.producer, first_offset: ended.first_offset };
        Ok(ended.iter().map(aborted).collect())
    }

    /// Reads from memory, or else on a thread that may block.
    pub(super) async fn read(
        &self,
        topic: &TopicRef,
        partition: &Partition,
        from: Offset,
        below: Offset,
        limit: ByteSize,
    ) -> Result<Vec<Batch>, Error> {
        let log = partition.log;
        let read = match self.engine.read_hot(log, from, below, limit) {
            Some(read) => read,
            None => {
                self.stats.fetch_reads_cold.add(1);
                let engine = Arc::clone(&self.engine);
                self.blocking(move || engine.read(log, from, below, limit)).await?
            }
        };
        read.map_err(|error| read_failed(topic, error))
    }

    /// Runs something that may touch the disk on a thread that may block. Bounded.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let stopping = || Error::new(ErrorCode::NotLeaderOrFollower, "the node is stopping");
        let permit = Arc::clone(&self.cold_reads).acquire_owned().await;
        let permit = permit.map_err(|_closed| stopping())?;
        let work = move || {
            // The work keeps its place for as long as it takes, also when nobody waits for it.
            let _permit = permit;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_cancelled| stopping())
    }
}

/// Lets others have their turn before every so many positions.
async fn give_turn(index: usize) {
    if index % POSITIONS_AT_ONCE == POSITIONS_AT_ONCE - 1 {
        tokio::task::yield_now().await;
    }
}

/// A fetch that is registered with its partitions, until it is dropped.
struct Parked<'a> {
    partitions: &'a [Arc<Partition>],
    reader: Arc<Notify>,
}

impl<'a> Parked<'a> {
    fn new(partitions: &'a [Arc<Partition>]) -> Self {
        let reader = Arc::new(Notify::new());
        for partition in partitions {
            partition.register(&reader);
        }
        Self { partitions, reader }
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        for partition in self.partitions {
            partition.unregister(&self.reader);
        }
    }
}

fn out_of_range(topic: &TopicRef, offset: Offset, start: Offset, end: Offset) -> Error {
    let message = format!("topic {topic}: offset {offset} is outside of {start} to {end}");
    Error::new(ErrorCode::OffsetOutOfRange, message)
}

pub(super) fn read_failed(topic: &TopicRef, error: ReadError) -> Error {
    let code = match &error {
        ReadError::OutOfRange { from, start, end } => {
            return out_of_range(topic, *from, *start, *end);
        }
        ReadError::Damaged { .. } => ErrorCode::CorruptMessage,
        ReadError::Failed(_) => ErrorCode::KafkaStorageError,
    };
    tracing::error!(%topic, %error, "a read failed");
    Error::new(code, format!("topic {topic}: {error}"))
}
