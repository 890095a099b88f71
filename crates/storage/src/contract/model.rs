//! Pure: a log as a vector, to hold an engine against.

use std::collections::BTreeMap;

use rafka_core::batch::Record;
use rafka_core::producer_state::ProducerTable;
use rafka_core::{Batch, ByteSize, EpochHistory, Offset, ProducerId, Timestamp, TopicPartition};

use super::sample::records_of;
use crate::{LogId, LogSettings, TimedOffset};

/// The simplest thing that keeps the promises of a log.
#[derive(Debug, Clone)]
pub(super) struct ModelLog {
    pub(super) name: TopicPartition,
    pub(super) id: LogId,
    pub(super) settings: LogSettings,
    pub(super) start: Offset,
    pub(super) end: Offset,
    /// Each batch with the time of its append.
    pub(super) batches: Vec<(Batch, Timestamp)>,
    pub(super) epochs: EpochHistory,
    /// The next sequence number of each producer.
    pub(super) sequences: BTreeMap<ProducerId, i32>,
}

impl ModelLog {
    pub(super) fn new(name: TopicPartition, id: LogId, settings: LogSettings) -> Self {
        Self {
            name,
            id,
            settings,
            start: Offset::ZERO,
            end: Offset::ZERO,
            batches: Vec::new(),
            epochs: EpochHistory::default(),
            sequences: BTreeMap::new(),
        }
    }

    pub(super) fn append(&mut self, batch: Batch, now: Timestamp) {
        self.epochs.note(batch.header.leader_epoch, batch.base_offset());
        self.end = batch.next_offset();
        self.batches.push((batch, now));
    }

    /// What a read may answer: this, or a row of whole batches that it begins with.
    pub(super) fn read(&self, from: Offset, below: Offset, limit: ByteSize) -> Vec<Batch> {
        let mut room = limit.0;
        let mut answer = Vec::new();
        for (batch, _) in self.batches.iter().filter(|(batch, _)| from <= batch.last_offset()) {
            let len = ByteSize::of_len(batch.len()).0;
            let fits = answer.is_empty() || len <= room;
            if below < batch.next_offset() || !fits {
                break;
            }
            room = room.saturating_sub(len);
            answer.push(batch.clone());
        }
        answer
    }

    pub(super) fn find_by_time(&self, at: Timestamp, below: Offset) -> Option<TimedOffset> {
        self.records()
            .find(|record| self.start <= record.offset && at <= record.timestamp)
            .filter(|record| record.offset < below)
            .map(|record| TimedOffset { offset: record.offset, timestamp: record.timestamp })
    }

    pub(super) fn truncate(&mut self, end: Offset) {
        self.batches.retain(|(batch, _)| batch.next_offset() <= end);
        self.end = self.batches.last().map_or(self.start, |(last, _)| last.next_offset());
        self.end = self.end.max(self.start);
        self.epochs.truncate(self.end);
        // As after a real truncation, producers go on from what the log still holds of them.
        let table = self.producers();
        self.sequences.retain(|id, _| table.last_batches().any(|(known, _)| known == *id));
        for (batch, _) in &self.batches {
            let header = &batch.header;
            if header.producer_id.is_some() {
                let next = header.base_sequence + header.last_offset_delta + 1;
                self.sequences.insert(header.producer_id, next);
            }
        }
    }

    pub(super) fn trim(&mut self, start: Offset) {
        self.start = self.start.max(start);
        self.batches.retain(|(batch, _)| self.start < batch.next_offset());
    }

    pub(super) fn producers(&self) -> ProducerTable {
        let mut table = ProducerTable::default();
        for (batch, now) in &self.batches {
            table.note(batch, *now);
        }
        table
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.batches.iter().flat_map(|(batch, _)| records_of(batch))
    }

    /// The bytes of the batches.
    pub(super) fn bytes(&self) -> u64 {
        self.batches.iter().map(|(batch, _)| ByteSize::of_len(batch.len()).0).sum()
    }
}
