//! Writing one log's batches to its segments, rolling them by size and age.

use std::io;
use std::mem;
use std::sync::Arc;

use rafka_core::{Batch, ByteSize, Timestamp, TopicPartition};

use crate::disk::Disk;
use crate::segment::{Segment, Store, Writer};
use crate::{Error, LogSettings};

/// How what is written becomes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// Each file by itself.
    Each,
    /// All together, afterwards, by the caller.
    Together,
}

/// Where and how to write.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) store: &'a Store,
    pub(super) disk: &'a dyn Disk,
    pub(super) name: TopicPartition,
    pub(super) settings: Arc<LogSettings>,
    /// Given to new segments.
    pub(super) generation: u32,
    pub(super) sync: Sync,
}

/// The appender of a log's segments.
#[derive(Debug)]
pub(super) struct SegmentRow<'a> {
    target: Target<'a>,
    /// Those that are finished.
    segments: Vec<Segment>,
    writer: Option<Writer>,
    has_created: bool,
}

impl<'a> SegmentRow<'a> {
    pub(super) fn new(target: Target<'a>, segments: Vec<Segment>) -> Self {
        Self { target, segments, writer: None, has_created: false }
    }

    pub(super) fn append(&mut self, batch: &Batch, appended_at: Timestamp) -> Result<(), Error> {
        let is_full = |writer: &Writer| {
            !writer.fits(batch) || self.target.is_full(writer.segment(), batch, appended_at)
        };
        if self.writer.as_ref().is_some_and(is_full) {
            self.close()?;
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.begin(batch, appended_at)?,
        };
        writer.append(self.target.disk, batch, appended_at)?;
        self.writer = Some(writer);
        Ok(())
    }

    fn begin(&mut self, batch: &Batch, appended_at: Timestamp) -> Result<Writer, Error> {
        let Target { store, name, generation, .. } = &self.target;
        if let Some(last) = self.segments.last()
            && !self.target.is_full(last, batch, appended_at)
        {
            match store.resume(name, last) {
                Ok(writer) if writer.fits(batch) => {
                    self.segments.pop();
                    return Ok(writer);
                }
                Ok(_) => {}
                // The damage stays where it is and is told to who reads it; new records are kept
                // away from it.
                Err(error) if is_damage(&error) => {
                    tracing::error!(%name, base = %last.base, %error, "segment is damaged");
                }
                Err(error) => return Err(error),
            }
        }
        store.create(name, batch.base_offset(), *generation)
    }

    fn close(&mut self) -> Result<(), Error> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        match self.target.sync {
            Sync::Each => writer.sync(self.target.disk)?,
            Sync::Together => writer.flush(self.target.disk)?,
        }
        self.has_created |= writer.created();
        self.segments.push(writer.segment().clone());
        Ok(())
    }

    /// Gives back the space of what was written, since the disk is full. `before` are the segments
    /// that there were. What cannot be given back now is cut off before the next append.
    pub(super) fn abandon(mut self, before: &[Segment]) {
        let Target { store, name, .. } = &self.target;
        let unfinished = self.writer.take().map(|writer| writer.segment().clone());
        for segment in self.segments.iter().chain(&unfinished) {
            let same =
                |old: &&Segment| (old.base, old.generation) == (segment.base, segment.generation);
            let undone = match before.iter().find(same) {
                Some(old) if old == segment => Ok(()),
                Some(old) => store.resume(name, old).map(drop),
                None => store.remove(name, segment),
            };
            if let Err(error) = undone {
                tracing::warn!(%name, %error, "unfinished segment left behind");
            }
        }
    }

    /// The segments of the log from now on, once everything is durable.
    pub(super) fn finish(&mut self) -> Result<Vec<Segment>, Error> {
        self.close()?;
        if self.has_created && self.target.sync == Sync::Each {
            self.target.store.sync_names(&self.target.name)?;
        }
        Ok(mem::take(&mut self.segments))
    }
}

impl Target<'_> {
    fn is_full(&self, segment: &Segment, batch: &Batch, appended_at: Timestamp) -> bool {
        let bytes = segment.batch_bytes + ByteSize::of_len(batch.len()).0;
        let too_large = segment.batch_bytes != 0 && self.settings.segment_bytes.0 < bytes;
        too_large || segment.first_append.plus(self.settings.segment_age) <= appended_at
    }
}

/// Whether a file is not what it was when the manifest named it.
pub(super) fn is_damage(error: &Error) -> bool {
    match error {
        Error::Corrupt { .. } | Error::UnknownVersion { .. } => true,
        Error::Io { cause, .. } => {
            matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
        }
        Error::UnknownLog(_)
        | Error::Truncating(_)
        | Error::Missing { .. }
        | Error::Foreign { .. }
        | Error::Locked(_)
        | Error::Mismatched { .. }
        | Error::Dead(_) => false,
    }
}
