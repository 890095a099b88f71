//! Produce: validate outside the lock, append under it, wait for durability outside again.

use std::sync::Arc;

use rafka_core::batch::TimestampType;
use rafka_core::compression::Compression;
use rafka_core::{Batch, ErrorCode, Timestamp};
use rafka_metadata::topic_config::TopicConfig;
use tokio::time::Instant;

use super::register::Registered;
use super::{Broker, Inner};
use crate::partition::AckState;
use crate::partition::machine::Registration;
use crate::partition::validate::{INFLATED_BYTES_FREE, INFLATED_BYTES_MAX, validate};
use crate::pending::{Pending, PendingPartition};
use crate::produce::{Acks, PartitionBatches, Request};
use crate::{Error, RECORDS_TOLD_MAX, TopicRef};

impl Broker {
    /// Appends the batches of `request` and returns their acknowledgements to wait for.
    ///
    /// Calls that are awaited one after the other append in that order, so that a gateway may send
    /// the next request before the last one is acknowledged. Waits while too much is pinned in
    /// memory, and for the transaction coordinator where a transaction comes to a partition, at most
    /// for the request's timeout.
    ///
    /// # Cancel safety
    /// Dropped before it completes, nothing or all of the request was appended for each partition.
    pub async fn produce(&self, request: Request) -> Pending {
        let inner = &self.inner;
        let started = inner.clock.now();
        let deadline = Instant::now() + request.timeout;
        inner.stats.produce_requests.add(1);
        let room = inner.wait_for_room(deadline).await;
        let registered = match &room {
            Ok(()) => inner.register(&request, deadline).await,
            Err(_) => Registered::default(),
        };
        let now = inner.clock.timestamp();
        let acked = request.acks != Acks::None;
        // However many batches are refused for how many records, the request is told of so many.
        let mut untold = RECORDS_TOLD_MAX;
        let mut partitions = Vec::with_capacity(if acked { request.partitions.len() } else { 0 });
        for (index, entry) in request.partitions.into_iter().enumerate() {
            let PartitionBatches { topic, partition, mut batches } = entry;
            let appended = match room.clone().and_then(|()| registered.of(index)) {
                Ok(sound) => inner.append(&topic, partition, &mut batches, (now, sound)).await,
                Err(error) => Err(error),
            };
            let mut ack = appended.unwrap_or_else(|error| AckState::Known(Err(error)));
            if let AckState::Known(Err(error)) = &mut ack {
                error.records.truncate(untold);
                error.records.shrink_to_fit();
                untold -= error.records.len();
            }
            // Who wants no acknowledgement may still want to know what was refused.
            if acked || matches!(ack, AckState::Known(Err(_))) {
                partitions.push(PendingPartition { topic, partition, ack });
            }
        }
        Pending::new(partitions, deadline, &inner.clock, started, &inner.stats)
    }
}

impl Inner {
    async fn wait_for_room(&self, deadline: Instant) -> Result<(), Error> {
        while !self.engine.has_room() {
            let room = self.table.room();
            if self.engine.has_room() || self.table.failure().is_some() {
                break;
            }
            if tokio::time::timeout_at(deadline, room).await.is_err() {
                let message = "the node's memory for unwritten batches is full and the disk does \
                               not keep up: nothing was appended, send again";
                return Err(Error::new(ErrorCode::RequestTimedOut, message));
            }
        }
        Ok(())
    }

    async fn append(
        &self,
        topic: &TopicRef,
        partition: rafka_core::PartitionIndex,
        batches: &mut [Batch],
        (now, registration): (Timestamp, Registration),
    ) -> Result<AckState, Error> {
        let (topic, partition) = self.table.partition(topic, partition)?;
        if topic.name.is_internal() {
            let message = format!("topic {} is written by the broker alone", topic.name);
            return Err(Error::new(ErrorCode::InvalidTopic, message));
        }
        let config = topic.config();
        for (index, batch) in batches.iter_mut().enumerate() {
            self.validate(batch, &config, now).await.map_err(|error| Error {
                message: format!("batch {index}: {}", error.message).into(),
                ..error
            })?;
        }
        let append_time = (config.timestamp_type == TimestampType::LogAppendTime).then_some(now);
        let engine = Arc::as_ref(&self.engine);
        let ack = partition.append(engine, batches, append_time, now, registration);
        if !matches!(ack, AckState::Known(Err(_))) {
            self.count_appended(batches);
        }
        Ok(ack)
    }

    /// Checks a batch. One that inflates to much waits for its turn and gives others theirs, so that a
    /// request full of them costs neither all processors nor much memory.
    async fn validate(
        &self,
        batch: &mut Batch,
        config: &TopicConfig,
        now: Timestamp,
    ) -> Result<(), Error> {
        let is_plain = |codec| codec == Compression::None;
        let is_kept = batch.header.attributes.compression().is_ok_and(is_plain)
            && config.compression.is_none_or(is_plain);
        let free = if is_kept { INFLATED_BYTES_MAX } else { INFLATED_BYTES_FREE };
        let mut result = validate(batch, config, now, free);
        if result.as_ref().is_err_and(|refused| refused.is_beyond_limit) && !is_kept {
            let turn = self.inflating.acquire().await;
            result = validate(batch, config, now, INFLATED_BYTES_MAX);
            drop(turn);
            tokio::task::yield_now().await;
        }
        tokio::task::coop::consume_budget().await;
        result.map_err(|refused| refused.error)
    }

    fn count_appended(&self, batches: &[Batch]) {
        let bytes: usize = batches.iter().map(Batch::len).sum();
        let records: i64 = batches.iter().map(|batch| i64::from(batch.header.record_count)).sum();
        self.stats.produce_bytes.add(bytes as u64);
        self.stats.produce_records.add(records.unsigned_abs());
    }
}
