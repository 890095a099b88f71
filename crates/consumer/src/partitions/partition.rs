//! One partition that a consumer reads: its position, and what was fetched for it.

use std::collections::VecDeque;

use bytes::Bytes;
use rafka_client::TopicPartition;
use rafka_core::batch::{self, Record, Records};
use rafka_core::{Batch, ByteSize, Offset, Time};

use super::Need;
use crate::budget::Share;
use crate::error::Error;
use crate::record::ConsumerRecord;

/// A message's worth of batches of one partition.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) batches: Bytes,
    pub(super) share: Share,
}

/// A batch that is being given out.
#[derive(Debug)]
pub(super) struct Current {
    records: Option<Records>,
    next_offset: Offset,
    /// The memory of its message, if it is the last batch of it.
    _share: Option<Share>,
}

/// A batch that cannot be read stands at the position.
#[derive(Debug)]
pub(super) struct Broken {
    cause: batch::Error,
    reported: bool,
}

#[derive(Debug)]
pub(super) struct Partition {
    /// The next record to be given. None until it was found.
    pub(super) position: Option<Offset>,
    pub(super) need: Option<Need>,
    /// The next offset to be fetched, at or after the position.
    pub(super) fetched: Offset,
    pub(super) chunks: VecDeque<Chunk>,
    pub(super) current: Option<Current>,
    pub(super) broken: Option<Broken>,
    pub(super) paused: bool,
    /// Grows whenever what is on the way must no longer be taken.
    pub(super) version: u64,
    pub(super) high_watermark: Option<Offset>,
    pub(super) committed: Option<Offset>,
    /// Not to be fetched before, after a failure.
    pub(super) retry_at: Time,
    pub(super) failures: u32,
}

/// Whether a batch that cannot be read was spoken of before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    Once,
    Again,
}

impl Partition {
    pub(super) fn new(need: Need, version: u64) -> Self {
        Self {
            position: None,
            need: Some(need),
            fetched: Offset::ZERO,
            chunks: VecDeque::new(),
            current: None,
            broken: None,
            paused: false,
            version,
            high_watermark: None,
            committed: None,
            retry_at: Time::default(),
            failures: 0,
        }
    }

    pub(super) fn has_fetched(&self) -> bool {
        self.current.is_some() || !self.chunks.is_empty()
    }

    pub(super) fn is_within_batch(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|current| self.position < Some(current.next_offset))
    }

    pub(super) fn forget_fetched(&mut self) {
        self.chunks.clear();
        (self.current, self.broken) = (None, None);
    }

    pub(super) fn report(&mut self, name: &TopicPartition, report: Report) -> Option<Error> {
        let offset = self.position?;
        let broken = self.broken.as_mut()?;
        if broken.reported && report == Report::Once {
            return None;
        }
        broken.reported = true;
        Some(Error::Corrupt { partition: name.clone(), offset, cause: broken.cause.clone() })
    }

    /// Moves records to `taken` until that has `max`, or nothing is left that can be read.
    pub(super) fn take(
        &mut self,
        name: &TopicPartition,
        max: usize,
        inflated_max: ByteSize,
        taken: &mut Vec<ConsumerRecord>,
    ) {
        while self.broken.is_none() && taken.len() < max {
            match self.next_record(inflated_max) {
                Ok(Some(record)) => {
                    self.position = Some(record.offset.next());
                    taken.push(ConsumerRecord {
                        partition: name.clone(),
                        offset: record.offset,
                        timestamp: record.timestamp,
                        key: record.key,
                        value: record.value,
                        headers: record.headers,
                    });
                }
                Ok(None) => return,
                Err(cause) => {
                    // What comes after it would take memory and can not be given.
                    self.forget_fetched();
                    self.broken = Some(Broken { cause, reported: false });
                }
            }
        }
    }

    fn next_record(&mut self, inflated_max: ByteSize) -> Result<Option<Record>, batch::Error> {
        loop {
            if self.current.is_none() && !self.next_batch(inflated_max)? {
                return Ok(None);
            }
            let Some(current) = &mut self.current else { return Ok(None) };
            match current.records.as_mut().and_then(Iterator::next) {
                // A batch is fetched whole, also from a position in its middle.
                Some(Ok(record)) if Some(record.offset) < self.position => {}
                Some(record) => return record.map(Some),
                None => {
                    self.position = self.position.max(Some(current.next_offset));
                    self.current = None;
                }
            }
        }
    }

    /// Opens the next batch. False if there is none.
    fn next_batch(&mut self, inflated_max: ByteSize) -> Result<bool, batch::Error> {
        while let Some(chunk) = self.chunks.front_mut() {
            let Some(batch) = Batch::split_first(&mut chunk.batches)? else {
                self.chunks.pop_front();
                continue;
            };
            let next_offset = batch.next_offset();
            let skipped = Some(next_offset) <= self.position;
            let control = batch.header.attributes.is_control();
            let records =
                if skipped || control { None } else { Some(batch.records(inflated_max)?) };
            let is_last = chunk.batches.is_empty();
            let chunk = if is_last { self.chunks.pop_front() } else { None };
            let share = chunk.map(|chunk| chunk.share);
            self.current = Some(Current { records, next_offset, _share: share });
            return Ok(true);
        }
        Ok(false)
    }
}
