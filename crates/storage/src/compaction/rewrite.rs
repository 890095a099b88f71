//! Compaction of segment files: new files beside the old ones, until the manifest names them.

use std::collections::BTreeSet;
use std::mem;

use rafka_core::producer_state::Ended;
use rafka_core::{Batch, ByteSize, Offset, ProducerId, Timestamp, TopicPartition};

use super::{Pass, Survey};
use crate::disk::Disk;
use crate::segment::{Segment, Store, Writer};
use crate::{Error, LogSettings};

/// One compaction pass over a log.
pub(crate) struct Job<'a> {
    /// Where the segments lie.
    pub(crate) store: &'a Store,
    /// The disk they lie on.
    pub(crate) disk: &'a dyn Disk,
    /// The log.
    pub(crate) name: TopicPartition,
    /// All of its segments.
    pub(crate) segments: &'a [Segment],
    /// Below this, earlier passes have left one record per key.
    pub(crate) compacted: Offset,
    /// Nothing at or above this is touched; what [`super::due`] said.
    pub(crate) until: Offset,
    /// Higher than that of any segment the log ever had.
    pub(crate) generation: u32,
    /// How the log is kept.
    pub(crate) settings: &'a LogSettings,
    /// The time.
    pub(crate) now: Timestamp,
    /// The memory for keys. If it does not suffice, the pass ends earlier.
    pub(crate) key_bytes_max: ByteSize,
    /// Seeds the hashes of keys.
    pub(crate) seed: u128,
    /// The aborted transactions of what is compacted, in the order of their markers.
    pub(crate) aborted: &'a [Ended],
}

/// What a pass made. Nothing of it counts until the manifest names it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// All of the log's segments from now on. Durable.
    pub(crate) segments: Vec<Segment>,
    /// To be removed after the manifest names the new ones.
    pub(crate) replaced: Vec<Segment>,
    /// How far the log is compacted now. Below `until` if the memory for keys did not suffice.
    pub(crate) compacted: Offset,
    /// How many records went.
    pub(crate) records_removed: u64,
    /// How many bytes of batches went.
    pub(crate) bytes_freed: u64,
    /// The offsets of the markers that went.
    pub(crate) unmarked: Vec<Offset>,
}

/// Compacts a log once. The segments stay as they are and new ones are written, which the
/// caller commits to the manifest before it removes those they replace.
///
/// `is_active` says which producers may still repeat a send: those whose last batch must stay.
///
/// # Errors
/// If a batch is damaged, or a file cannot be read or written. What was written is removed.
pub(crate) fn compact(
    job: &Job<'_>,
    is_active: &dyn Fn(ProducerId) -> bool,
) -> Result<Outcome, Error> {
    let mut survey = Survey::new(job.seed, job.key_bytes_max);
    job.aborted.iter().for_each(|ended| survey.note_aborted(ended));
    let until = take_survey(job, &mut survey, is_active)?;
    let mut pass = Pass {
        survey: &survey,
        until,
        now: job.now,
        delete_retention: job.settings.delete_retention,
        undecided: BTreeSet::new(),
    };
    let mut rewrite =
        Rewrite { job, writer: None, done: Vec::new(), records_removed: 0, unmarked: Vec::new() };
    let count = job.segments.partition_point(|segment| segment.base < until);
    let (replaced, rest) = job.segments.split_at(count);
    if let Err(error) = rewrite.run(&mut pass, replaced) {
        rewrite.abandon();
        return Err(error);
    }
    let bytes = |segments: &[Segment]| segments.iter().map(|s| s.batch_bytes).sum::<u64>();
    let bytes_freed = bytes(replaced).saturating_sub(bytes(&rewrite.done));
    let mut segments = mem::take(&mut rewrite.done);
    segments.extend_from_slice(rest);
    Ok(Outcome {
        segments,
        replaced: replaced.to_vec(),
        compacted: until,
        records_removed: rewrite.records_removed,
        bytes_freed,
        unmarked: rewrite.unmarked,
    })
}

/// Notes the keys that were not compacted yet, and returns how far that came.
fn take_survey(
    job: &Job<'_>,
    survey: &mut Survey,
    is_active: &dyn Fn(ProducerId) -> bool,
) -> Result<Offset, Error> {
    let mut until = job.until;
    for segment in job.segments.iter().filter(|segment| segment.base < job.until) {
        let opened = job.store.opened(&job.name, segment)?;
        let mut frames = opened.frames();
        while let Some(frame) = frames.next()? {
            let producer = frame.unverified.producer_id;
            // A marker says nothing of sequence numbers.
            if is_active(producer) && !frame.unverified.attributes.is_control() {
                survey.note_producer(producer, frame.base_offset);
            }
            if frame.base_offset < job.compacted || until < job.until {
                continue;
            }
            if survey.is_full() {
                // Producers are noted further on: their last batch may be there.
                until = frame.base_offset;
                continue;
            }
            survey.note_keys(&frames.batch(&frame)?);
        }
    }
    Ok(until)
}

/// The new segments, as far as they are written.
struct Rewrite<'a> {
    job: &'a Job<'a>,
    writer: Option<Writer>,
    done: Vec<Segment>,
    records_removed: u64,
    unmarked: Vec<Offset>,
}

impl Rewrite<'_> {
    fn run(&mut self, pass: &mut Pass<'_>, segments: &[Segment]) -> Result<(), Error> {
        for segment in segments {
            let opened = self.job.store.opened(&self.job.name, segment)?;
            let mut frames = opened.frames();
            while let Some(frame) = frames.next()? {
                let filtered = pass
                    .filter(frames.batch(&frame)?, frame.compacted_at)
                    .map_err(|error| opened.corrupt(frame.position, error.to_string()))?;
                self.records_removed += filtered.records_removed;
                match filtered.batch {
                    Some(batch) => self.put(segment, &batch, filtered.compacted_at)?,
                    None if frame.unverified.attributes.is_control() => {
                        self.unmarked.push(frame.base_offset);
                    }
                    None => {}
                }
            }
        }
        self.finish()?;
        self.job.store.sync_names(&self.job.name)
    }

    fn put(
        &mut self,
        from: &Segment,
        batch: &Batch,
        compacted_at: Option<Timestamp>,
    ) -> Result<(), Error> {
        let segment_bytes = self.job.settings.segment_bytes.0;
        let is_full = |writer: &Writer| {
            let bytes = writer.segment().batch_bytes + batch.len() as u64;
            !writer.fits(batch) || segment_bytes < bytes
        };
        if self.writer.as_ref().is_some_and(is_full) {
            self.finish()?;
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            empty => {
                let (name, generation) = (&self.job.name, self.job.generation);
                empty.insert(self.job.store.create(name, batch.base_offset(), generation)?)
            }
        };
        writer.put(self.job.disk, batch, compacted_at)?;
        writer.appended_between(from.first_append, from.last_append);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        if let Some(writer) = &mut self.writer {
            writer.sync_all(self.job.disk)?;
            self.done.push(writer.segment().clone());
            self.writer = None;
        }
        Ok(())
    }

    /// Gives back what an unfinished rewriting took. What cannot be removed is in nobody's way.
    fn abandon(&mut self) {
        let unfinished = self.writer.take().map(|writer| writer.segment().clone());
        for segment in self.done.drain(..).chain(unfinished) {
            if let Err(error) = self.job.store.remove(&self.job.name, &segment) {
                tracing::warn!(%error, "unfinished segment not removed");
            }
        }
    }
}
