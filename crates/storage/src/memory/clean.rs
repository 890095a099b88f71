//! Pure: retention and compaction of a log in memory, by the rules of the segments on disk.

use std::collections::BTreeSet;

use rafka_core::{ByteSize, Offset, Timestamp};

use super::Log;
use crate::CleanReport;
use crate::compaction::{self, Pass, Survey};
use crate::retention::{self, Extent};
use crate::segment::Segment;
use crate::tail::{Entry, Tail};

/// The memory for the keys of one pass, as in the file engine.
const KEY_BYTES_MAX: ByteSize = ByteSize::mib(16);

impl Log {
    pub(super) fn clean(&mut self, below: Offset, now: Timestamp, seed: u128) -> CleanReport {
        let bytes_before = self.tail.bytes();
        let segments_deleted = self.expire(below, now);
        let records_compacted = self.compact(below, now, seed);
        CleanReport {
            start: self.start,
            segments_deleted,
            bytes_freed: bytes_before.0 - self.tail.bytes().0,
            records_compacted,
        }
    }

    fn expire(&mut self, below: Offset, now: Timestamp) -> u64 {
        let segments = self.segments();
        let extents = segments.iter().map(Extent::from);
        let bytes = self.tail.bytes().0;
        let count = retention::expired(extents, bytes, &self.settings, below, now);
        if let Some(last) = count.checked_sub(1).and_then(|last| segments.get(last)) {
            self.trim(last.end);
        }
        ByteSize::of_len(count).0
    }

    fn compact(&mut self, below: Offset, now: Timestamp, seed: u128) -> u64 {
        let due = compaction::due(&self.segments(), self.compacted, &self.settings, below, now);
        let Some(mut until) = due else { return 0 };
        let mut survey = Survey::new(seed, KEY_BYTES_MAX);
        self.aborted().iter().for_each(|ended| survey.note_aborted(ended));
        for batch in self.tail.iter().map(|entry| &entry.batch) {
            if !batch.header.attributes.is_control() {
                survey.note_producer(batch.header.producer_id, batch.base_offset());
            }
            if batch.base_offset() < self.compacted || until <= batch.base_offset() {
                continue;
            }
            if survey.is_full() {
                until = batch.base_offset();
            } else {
                survey.note_keys(batch);
            }
        }
        let delete_retention = self.settings.delete_retention;
        let undecided = BTreeSet::new();
        let mut pass = Pass { survey: &survey, until, now, delete_retention, undecided };
        let mut left = Tail::default();
        let mut records_removed = 0;
        for entry in self.tail.iter() {
            let Ok(filtered) = pass.filter(entry.batch.clone(), entry.note) else {
                left.push(entry.clone());
                continue;
            };
            records_removed += filtered.records_removed;
            if let Some(batch) = filtered.batch {
                let appended_at = entry.appended_at;
                left.push(Entry { batch, appended_at, note: filtered.compacted_at });
            }
        }
        self.tail = left;
        self.compacted = until;
        records_removed
    }

    /// The segments that this log would have on a disk.
    fn segments(&self) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        for Entry { batch, appended_at, .. } in self.tail.iter() {
            let len = ByteSize::of_len(batch.len()).0;
            let age = self.settings.segment_age;
            let is_open = |last: &&mut Segment| {
                last.batch_bytes + len <= self.settings.segment_bytes.0
                    && *appended_at < last.first_append.plus(age)
            };
            match segments.last_mut().filter(is_open) {
                Some(last) => {
                    last.end = batch.next_offset();
                    last.batch_bytes += len;
                    last.max_timestamp = last.max_timestamp.max(batch.max_timestamp());
                    last.last_append = last.last_append.max(*appended_at);
                }
                None => segments.push(Segment {
                    base: batch.base_offset(),
                    generation: 0,
                    end: batch.next_offset(),
                    file_len: 0,
                    batch_bytes: len,
                    index_entries: 0,
                    max_timestamp: batch.max_timestamp(),
                    first_append: *appended_at,
                    last_append: *appended_at,
                }),
            }
        }
        segments
    }
}
