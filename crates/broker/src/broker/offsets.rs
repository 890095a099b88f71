//! Offsets: look-ups and deletion of records.

use std::sync::Arc;

use rafka_core::{Epoch, ErrorCode, Offset, Timestamp};
use rafka_storage::{self as storage, TimedOffset};

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
        let (engine, log) = (Arc::clone(&self.engine), partition.log);
        let find = move |time| engine.find_by_time(log, time, end);
        let timed = match request.spec {
            Spec::Earliest => return Ok(found(at.log_start, Timestamp::NONE)),
            Spec::Latest => return Ok(found(end, Timestamp::NONE)),
            Spec::At(time) => self.blocking(move || find(time)).await?,
            Spec::Youngest => self.blocking(move || youngest(find)).await?,
        };
        let timed = timed.map_err(|error| fetch::read_failed(&request.topic, error))?;
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
        if !topic.config().log.cleanup.delete {
            let message = format!(
                "topic {}: its cleanup.policy is compact, under which a key's last record stays: \
                 set compact,delete to delete records",
                topic.name
            );
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

/// The first record that bears the largest timestamp. `find` tells the first one that bears at least
/// a given timestamp; halving what is left takes at most 63 of its answers.
fn youngest<E>(
    mut find: impl FnMut(Timestamp) -> Result<Option<TimedOffset>, E>,
) -> Result<Option<TimedOffset>, E> {
    let Some(mut best) = find(Timestamp(0))? else { return Ok(None) };
    // No record is younger than `above`.
    let mut above = i64::MAX;
    while best.timestamp.0 < above {
        let least = best.timestamp.0;
        let middle = least + (above - least) / 2 + 1;
        match find(Timestamp(middle))? {
            Some(younger) => best = younger,
            None => above = middle - 1,
        }
    }
    Ok(Some(best))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_record_is_found_wherever_it_is() {
        let check = |timestamps: &[i64], expected: Option<usize>| {
            let mut asked = 0;
            let find = |time: Timestamp| {
                asked += 1;
                let mut records = timestamps.iter().enumerate();
                let found = records.find(|(_, timestamp)| time.0 <= **timestamp);
                Ok::<_, ()>(found.map(|(index, timestamp)| timed(index, *timestamp)))
            };
            let found = youngest(find).expect("it does not fail");
            assert_eq!(found.map(|found| found.offset), expected.map(offset));
            assert!(asked <= 66, "{asked} answers");
        };
        check(&[], None);
        check(&[-1], None);
        check(&[0], Some(0));
        check(&[5, 9, 9, 7], Some(1));
        check(&[1, i64::MAX, 3], Some(1));
        check(&[1_790_000_000_000, 1_790_000_000_001], Some(1));
    }

    fn offset(index: usize) -> Offset {
        Offset(i64::try_from(index).expect("few records"))
    }

    fn timed(index: usize, timestamp: i64) -> TimedOffset {
        TimedOffset { offset: offset(index), timestamp: Timestamp(timestamp) }
    }
}
