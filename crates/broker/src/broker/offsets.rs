//! Offsets: look-ups and deletion of records.

use std::sync::Arc;

use rafka_core::{Epoch, ErrorCode, Offset, Timestamp};
use rafka_storage as storage;

use super::{Broker, Inner, fetch};
use crate::Error;
use crate::fetch::Isolation;
use crate::offsets::{DeleteRecords, EpochRequest, Found, Request, Spec};

impl Broker {
    /// Answers each question, in order.
    ///
    /// # Cancel safety
    /// Nothing changes; dropping it is safe.
    pub async fn list_offsets(&self, requests: Vec<Request>) -> Vec<Result<Found, Error>> {
        let mut answers = Vec::with_capacity(requests.len());
        for request in &requests {
            answers.push(self.inner.find_offset(request).await);
        }
        answers
    }

    /// The largest epoch not above the one in question that wrote records, and the offset at which
    /// it ended; `None` if no record is that old.
    ///
    /// # Errors
    /// If the partition is not led here, or the client's epoch is not the current one.
    pub fn epoch_end(&self, request: &EpochRequest) -> Result<Option<(Epoch, Offset)>, Error> {
        let (_, partition) = self.inner.table.partition(&request.topic, request.partition)?;
        partition.check_epoch(request.current)?;
        Ok(partition.epoch_end(request.epoch))
    }

    /// Deletes the records before the given offsets, durably, and returns where each partition
    /// begins now.
    ///
    /// # Cancel safety
    /// Dropped before it completes, some of the orders were carried out.
    pub async fn delete_records(&self, orders: Vec<DeleteRecords>) -> Vec<Result<Offset, Error>> {
        let mut answers = Vec::with_capacity(orders.len());
        for order in &orders {
            answers.push(self.inner.delete_records(order).await);
        }
        answers
    }
}

impl Inner {
    async fn find_offset(&self, request: &Request) -> Result<Found, Error> {
        let (_, partition) = self.table.partition(&request.topic, request.partition)?;
        partition.check_epoch(request.leader_epoch)?;
        let at = partition.position();
        let end = match request.isolation {
            Isolation::ReadUncommitted => at.high_watermark,
            Isolation::ReadCommitted => at.last_stable_offset,
        };
        let found = |offset, timestamp| Found {
            offset,
            timestamp,
            leader_epoch: partition.epoch_at(offset),
        };
        let time = match request.spec {
            Spec::Earliest => return Ok(found(at.log_start, Timestamp::NONE)),
            Spec::Latest => return Ok(found(end, Timestamp::NONE)),
            Spec::At(time) => time,
        };
        let (engine, log) = (Arc::clone(&self.engine), partition.log);
        let timed = self
            .blocking(move || engine.find_by_time(log, time, end))
            .await?
            .map_err(|error| fetch::read_failed(&request.topic, error))?;
        Ok(timed.map_or(
            Found { offset: Offset(-1), timestamp: Timestamp::NONE, leader_epoch: at.leader_epoch },
            |timed| found(timed.offset, timed.timestamp),
        ))
    }

    async fn delete_records(&self, order: &DeleteRecords) -> Result<Offset, Error> {
        let (topic, partition) = self.table.partition(&order.topic, order.partition)?;
        if topic.name.is_internal() {
            let message = format!("topic {} is cleaned by the broker alone", topic.name);
            return Err(Error::new(ErrorCode::PolicyViolation, message));
        }
        let at = partition.position();
        let before = order.before.unwrap_or(at.high_watermark);
        if before < at.log_start || at.high_watermark < before {
            let message = format!(
                "topic {}: offset {before} is outside of {} to {}, where records can be deleted",
                topic.name, at.log_start, at.high_watermark
            );
            return Err(Error::new(ErrorCode::OffsetOutOfRange, message));
        }
        let (engine, log) = (Arc::clone(&self.engine), partition.log);
        let bounds = self
            .blocking(move || {
                let bounds = engine.trim(log, before)?;
                // Here, and not after the wait: who asked may have gone away by then.
                partition.trimmed(bounds.start);
                Ok::<_, storage::Error>(bounds)
            })
            .await?
            .map_err(|error| Error::new(ErrorCode::KafkaStorageError, error.to_string()))?;
        Ok(bounds.start)
    }
}
